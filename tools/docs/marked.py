"""Pages with a generated part between two marks."""

from __future__ import annotations

from mgta_tf.errors import UserError
from mgta_tf.runtime.files import write_text

END = "<!-- end -->"


def replace(path: str, tool: str, text: str) -> None:
    """Replaces the text between `<!-- TOOL writes what follows -->` and `<!-- end -->` in a page.

    Raises:
      UserError: the page cannot be read, or has no such marks.
    """
    begin = f"<!-- {tool} writes what follows -->"
    try:
        with open(path, encoding="utf-8") as file:
            page = file.read()
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error})") from None
    before, found, rest = page.partition(begin)
    _, closed, after = rest.partition(END)
    if not found or not closed:
        raise UserError(f"{path}: has no {begin} with {END} after it")
    write_text(path, f"{before}{begin}\n\n{text}\n{END}{after}")
