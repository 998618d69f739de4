"""The one exception that means: the user can put this right; and how a message is shown."""

from __future__ import annotations


class UserError(Exception):
    """Bad input. The message is one line that names the file, flag or value and what to do.

    `mgta_tf.cli.run` prints it without a traceback and exits with status 1.
    """


def one_line(text: str) -> str:
    """The text as one line of a bounded length, as `printable` shows it."""
    shown = printable(" ".join(text.split()))
    return shown if len(shown) <= 2000 else f"{shown[:2000]} …"


def encodable(text: str) -> str:
    """The text as UTF-8 can hold it: bytes of other encodings, as file names have, are escaped."""
    return text.encode("utf-8", "backslashreplace").decode()


def printable(text: str) -> str:
    """The text with everything escaped that a terminal or UTF-8 cannot show.

    File names are untrusted: they may hold line breaks, escape codes, or bytes of no script.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
