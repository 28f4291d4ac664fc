"""Rising stamps in little memory: a run of a million answers of 200 tokens must be readable on a small machine."""

from array import array
from collections.abc import Iterator, Sequence
from itertools import accumulate, chain, islice
from operator import sub
from typing import overload

_FIRST = array("q").itemsize


class Stamps(Sequence[int]):
    """Stamps in ns as one string of bytes, 4 for every gap; equal to any sequence of the same numbers."""

    __slots__ = ("_bytes",)

    def __init__(self, stamps: Sequence[int]) -> None:
        """OverflowError for a gap that is below 0 or above 4.29 s, TypeError for one that is no whole number."""
        gaps = [*map(sub, islice(stamps, 1, None), stamps)]
        self._bytes = array("q", stamps[:1]).tobytes() + array("I", gaps).tobytes()

    @property
    def gaps(self) -> "array[int]":
        """Between each two stamps, in ns."""
        return array("I", self._bytes[_FIRST:])

    def __len__(self) -> int:
        return len(self.gaps) + 1

    def __iter__(self) -> Iterator[int]:
        return accumulate(chain((self[0],), self.gaps))

    @overload
    def __getitem__(self, index: int) -> int: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[int, ...]: ...
    def __getitem__(self, index: int | slice) -> int | tuple[int, ...]:
        if index == 0:
            return array("q", self._bytes[:_FIRST])[0]
        return self[0] + sum(self.gaps) if index == -1 else tuple(self)[index]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and tuple(self) == tuple(other)

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return f"Stamps({tuple(self)})"


def compact(stamps: Sequence[int]) -> Sequence[int]:
    """The same numbers in the least memory; raises TypeError for what are no whole numbers."""
    if len(stamps) < 2:
        return tuple(stamps)
    try:
        return Stamps(stamps)
    except OverflowError:
        return tuple(stamps)
