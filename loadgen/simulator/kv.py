"""The paged KV cache: how many blocks are taken, which of them other prompts can share, and what eviction costs."""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(slots=True)
class Lease:
    """The blocks of one request: `shared` are known by the hash of the prefix they hold, `private` are its own."""

    shared: list[int] = field(default_factory=list)
    private: int = 0

    @property
    def blocks(self) -> int:
        """Blocks held."""
        return len(self.shared) + self.private


class BlockPool:
    """A fixed number of blocks with a prefix cache.

    A block whose last holder left stays cached, counts as free, and is evicted, oldest first, for want of a blank one.
    `withheld` blocks can be had by nobody and count as used.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self.used = 0
        self.withheld = 0
        self._holders: dict[int, int] = {}
        self._cached: OrderedDict[int, None] = OrderedDict()

    @property
    def free(self) -> int:
        """Blocks that can be taken now, cached ones included; below 0 when more were withheld than were free."""
        return self.total - self.withheld - self.used

    @property
    def usage(self) -> float:
        """Share of blocks in use, 0..1."""
        return min(1.0, (self.used + self.withheld) / self.total)

    def lookup(self, hashes: Sequence[int]) -> int:
        """How many of these leading blocks are in the cache."""
        for index, block in enumerate(hashes):
            if block not in self._holders and block not in self._cached:
                return index
        return len(hashes)

    def grow(self, lease: Lease, blocks: int, hits: Sequence[int] = ()) -> bool:
        """Make `lease` hold `blocks` blocks, the cached `hits` first; False when too few are free."""
        blank = max(0, blocks - lease.blocks - len(hits))
        if blank + sum(block in self._cached for block in hits) > self.free:
            return False
        for block in hits:
            self._share(lease, block)
        lease.private += blank
        self.used += blank
        while len(self._cached) > self.free:
            self._cached.popitem(last=False)
        return True

    def publish(self, lease: Lease, block: int) -> None:
        """Let others share a private block that is now computed; a second copy of a known block stays private."""
        if block not in self._holders and block not in self._cached:
            lease.private -= 1
            lease.shared.append(block)
            self._holders[block] = 1

    def release(self, lease: Lease) -> None:
        """Give every block back. The end of a prefix is evicted before its beginning, which more prompts share."""
        for block in reversed(lease.shared):
            self._drop(block)
        self.used -= lease.private
        lease.shared.clear()
        lease.private = 0

    def _share(self, lease: Lease, block: int) -> None:
        if block in self._cached:
            del self._cached[block]
            self.used += 1
        self._holders[block] = self._holders.get(block, 0) + 1
        lease.shared.append(block)

    def _drop(self, block: int) -> None:
        self._holders[block] -= 1
        if not self._holders[block]:
            del self._holders[block]
            self._cached[block] = None
            self.used -= 1
