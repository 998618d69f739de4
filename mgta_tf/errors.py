"""`UserError`, the exception for problems that the user can fix, and functions to print text."""

from __future__ import annotations

import re
from collections.abc import Sequence

LISTED = 5  # names in a message
# Beginnings of lines in which TensorFlow says where in a graph an error was.
PLACE = ("Graph execution error", "Detected at node", "Node: ", "<stack", " ", "\t")


class UserError(Exception):
    """Bad input. The message is one line that names the file, flag or value and what to do.

    `mgta_tf.cli.run` prints it without a traceback and exits with status 1.
    """


def listing(names: Sequence[str]) -> str:
    """'a, b, c, d, e, …'"""
    return ", ".join([*names[:LISTED], "…"] if len(names) > LISTED else names)


def quantity(number: int, noun: str, plural: str = "") -> str:
    """'1 image', '2,000 images'. plural: of an irregular noun."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def cause_of(error: Exception) -> str:
    """The line of a message that names the cause, without the name of a graph's node.

    TensorFlow's message of an error in a graph begins with where in the graph it was.
    """
    lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    causes = [line for line in lines if not line.startswith(PLACE)]
    return re.sub(r"^\{\{.*?\}\} | \[Op:\w+\]$", "", [*causes, lines[0]][0])[:160]


def one_line(text: str) -> str:
    """The text as one printable line of at most 2000 characters."""
    shown = printable(" ".join(text.split()))
    return shown if len(shown) <= 2000 else f"{shown[:2000]} …"


def encodable(text: str) -> str:
    """The text with surrogates, as in file names that are not UTF-8, escaped for UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode()


def printable(text: str) -> str:
    """The text with all non-printable characters escaped.

    File names are untrusted: they may hold line breaks, terminal escape codes, or invalid UTF-8.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
