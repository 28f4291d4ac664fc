"""Synthetic prompts: words (or token ids) of which no two prompts share their beginning unless they are asked to."""

import random
from collections.abc import Iterator, Sequence
from enum import IntEnum

# Common English words: one token each, with their leading space, in the tokenizers of today's open models.
WORDS = """
the of and to in is that for it as was with be by on not he his but at are this have from or had an they which one you
were all her she there would their we him been has when who will no more if out so up said what its about than into them
can only other time new some could these two may first then do any like my now over such our man even most made after
also did many off before must well back through years where much your way down should because long each just state
people those too mr how little good world make very year still see own work men day get here old between both life
being under three never know same last another while us might great go come since against right came take used himself
few house use during without again place around home small however found part school once general high upon every war
""".split()  # noqa: SIM905 (a table of words reads better as text)

_POOL = 65_536
# Symbols that make a text unique: five count in base 180, three tell one run from another.
_COUNT, _SALT = 5, 3
HEAD = _COUNT + _SALT

Symbols = Sequence[str | int]


class Kind(IntEnum):
    """What a text is part of; equal keys of different kinds give different texts."""

    PROMPT = 0
    PREFIX = 1
    BLOCK = 2


class Texts:
    """An endless book of distinct texts over an alphabet of words or token ids; equal arguments give equal texts.

    A text begins with its key and `salt`, spelled in symbols, so that no two share a first KV block, neither within a
    run nor between runs of one seed with other salts: a prefix cache cannot flatter the server.
    """

    def __init__(self, seed: int, salt: str, symbols: Symbols = WORDS) -> None:
        self._symbols = symbols
        self._pool = random.Random(f"texts {seed}").choices(symbols, k=_POOL)
        self._salt = list(self._spell(random.Random(f"salt {salt}").getrandbits(32), _SALT))

    def text(self, kind: Kind, key: int, length: int, start: int = 0) -> list[str | int]:
        """`length` symbols, at least one: the head first, cut when the text is shorter, then what follows `start`."""
        head = [*self._spell(key * len(Kind) + kind, _COUNT), *self._salt]
        return [*head, *self.filler(length - HEAD, start + key)][: max(1, length)]

    def filler(self, length: int, start: int) -> list[str | int]:
        """`length` symbols that may occur elsewhere, too."""
        found: list[str | int] = []
        while len(found) < length:
            begin = (start + len(found)) * 7919 % _POOL
            found += self._pool[begin : begin + length - len(found)]
        return found

    def _spell(self, number: int, digits: int) -> Iterator[str | int]:
        """The number in as many symbols, the lowest digit first."""
        for _ in range(digits):
            number, digit = divmod(number, len(self._symbols))
            yield self._symbols[digit]
