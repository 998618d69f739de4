"""Names of many images in little memory."""

from __future__ import annotations

import array
import codecs
from collections.abc import Iterable, Sequence
from typing import overload

import numpy as np

DECODED_AT_ONCE = 2**20  # bytes
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

    @classmethod
    def from_arrays(cls, text: np.ndarray, ends: np.ndarray) -> Names:
        """The names of `arrays`, from a file that may be damaged.

        Raises:
          ValueError: they are no names.
        """
        if text.dtype != np.uint8 or ends.dtype not in (np.uint32, np.uint64):
            raise ValueError("its names are of another type")
        if text.ndim != 1 or ends.ndim != 1 or len(text) != (ends[-1] if len(ends) else 0):
            raise ValueError("its names do not fit together")
        begins = ends[:-1][ends[:-1] < len(text)]
        if (ends[1:] < ends[:-1]).any() or (text[begins] & 0xC0 == 0x80).any():
            raise ValueError("its names are not in order")
        decoder = codecs.getincrementaldecoder(ENCODING[0])(ENCODING[1])
        for first in range(0, len(text), DECODED_AT_ONCE):  # raises UnicodeDecodeError
            decoder.decode(text[first : first + DECODED_AT_ONCE].tobytes())
        decoder.decode(b"", final=True)
        names = cls()
        names._text = bytearray(text.data)
        names._ends = array.array("I" if ends.dtype == np.uint32 else "Q", ends.tobytes())
        return names

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """Views of all text, uint8 [T], and of its ends, uint32 or uint64 [N], for a file.

        While they are in use, no name can be added.
        """
        kind = np.uint32 if self._ends.itemsize == 4 else np.uint64
        return np.frombuffer(self._text, np.uint8), np.frombuffer(self._ends, kind)

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
