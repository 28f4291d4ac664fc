"""The block pool: never over-allocated, shared prefixes counted once, everything free at the end."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadgen.simulator.kv import BlockPool, Lease


def held(pool: BlockPool, leases: list[Lease]) -> int:
    """Distinct blocks that the leases hold."""
    return len({block for lease in leases for block in lease.shared}) + sum(lease.private for lease in leases)


@given(st.integers(1, 12), st.lists(st.tuples(st.sampled_from(["grow", "publish", "release"]), st.integers(0, 3),
                                              st.integers(1, 8)), max_size=60))  # fmt: skip
def test_the_books_balance_after_any_history(total: int, history: list[tuple[str, int, int]]) -> None:
    """Used blocks are exactly the distinct blocks held, within the total; releasing all leaves all free."""
    pool, leases = BlockPool(total), [Lease() for _ in range(4)]
    for action, who, number in history:
        lease = leases[who]
        if action == "grow":
            wanted = tuple(range(number)) if not lease.blocks else ()
            before = lease.blocks
            grown = pool.grow(lease, max(number, before), wanted[: pool.lookup(wanted)])
            assert lease.blocks == (max(number, before) if grown else before)
        elif action == "publish" and lease.private:
            pool.publish(lease, number)
        elif action == "release":
            pool.release(lease)
        assert pool.used == held(pool, leases)
        assert 0 <= pool.used <= total
    for lease in leases:
        pool.release(lease)
    assert pool.free == total


def test_a_prefix_is_held_once_and_outlives_its_first_holder() -> None:
    """A second request with the same prefix takes only what differs, even after the first has gone."""
    pool, first, second = BlockPool(10), Lease(), Lease()
    pool.grow(first, 3)
    for block in (1, 2):
        pool.publish(first, block)
    pool.grow(second, 3, (1, 2))
    assert pool.used == 4
    pool.release(first)
    pool.release(second)
    assert pool.lookup((1, 2, 3)) == 2
    assert pool.free == 10


def test_eviction_takes_the_end_of_the_oldest_prefix_first() -> None:
    """Blank blocks are made out of cached ones: the older prefix loses its last block, then its first."""
    pool = BlockPool(4)
    for prefix in ((1, 2), (3, 4)):
        lease = Lease()
        pool.grow(lease, 2)
        for block in prefix:
            pool.publish(lease, block)
        pool.release(lease)
    pool.grow(Lease(), 1)
    assert (pool.lookup((1, 2)), pool.lookup((3, 4))) == (1, 2)
    pool.grow(Lease(), 1)
    assert (pool.lookup((1, 2)), pool.lookup((3, 4))) == (0, 2)


def test_too_large_a_wish_takes_nothing() -> None:
    """A refused request leaves the pool as it was, cached hits included."""
    pool, lease, greedy = BlockPool(4), Lease(), Lease()
    pool.grow(lease, 2)
    pool.publish(lease, 1)
    pool.release(lease)
    assert not pool.grow(greedy, 5, (1,))
    assert (greedy.blocks, pool.used, pool.lookup((1,))) == (0, 0, 1)


@pytest.mark.parametrize("used", [0, 1, 3])
def test_usage_is_a_ratio(used: int) -> None:
    """Usage is blocks in use over all blocks."""
    pool = BlockPool(4)
    pool.grow(Lease(), used)
    assert pool.usage == used / 4
