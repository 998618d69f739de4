"""Names of many images in little memory."""

from __future__ import annotations

import array
from collections.abc import Iterable, Sequence
from typing import overload

ENCODING = ("utf-8", "surrogatepass")  # keeps the surrogates of names that are not UTF-8


class Names(Sequence[str]):
    """A list of strings as one block of bytes: 4 bytes per name and its text, where a str has 57.

    It equals every sequence of the same strings.
    """

    def __init__(self, names: Iterable[str] = ()):
        self._text = bytearray()
        self._ends = array.array("I")
        for name in names:
            self.append(name)

    @classmethod
    def of(cls, names: Sequence[str]) -> Names:
        """The names, without a copy if they are Names already."""
        return names if isinstance(names, cls) else cls(names)

    def append(self, name: str) -> None:
        """Adds a name at the end."""
        self._text += name.encode(*ENCODING)
        try:
            self._ends.append(len(self._text))
        except OverflowError:  # over 4 GiB of text
            self._ends = array.array("Q", [*self._ends, len(self._text)])

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"name {index} of {len(self)}")
        index %= len(self)
        begin = self._ends[index - 1] if index else 0
        return self._text[begin : self._ends[index]].decode(*ENCODING)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Names):
            return self._text == other._text and self._ends == other._ends
        return isinstance(other, Sequence) and [*self] == [*other]

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Names({[*self]!r})"
