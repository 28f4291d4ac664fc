"""Figures of many requests: gaps counted by microsecond, tokens by interval."""

from itertools import pairwise
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st
from load_records import recording, request

from loadgen.results.record import RequestRecord
from loadgen.results.summary import Tally, quantile, summarize, tokens_between
from loadgen.traffic.arrivals import NS

gaps = st.lists(st.lists(st.integers(-(10**9), 10**11), max_size=20), max_size=20)


@given(gaps)
def test_a_tally_is_the_sorted_sequence_to_half_a_microsecond(answers: list[list[int]]) -> None:
    """Every rank, from either end, and every slice; a quantile of it is a quantile of the gaps themselves.

    Gaps below 0 are of no clock of ours, and counted like all others.
    """
    tally, exact = Tally(answers), sorted(gap / NS for answer in answers for gap in answer)
    assert len(tally) == len(exact)
    assert list(tally) == pytest.approx(exact, abs=0.6e-6)
    assert [tally[-1 - rank] for rank in range(len(exact))] == tally[::-1]
    if exact:
        assert quantile(tally, 0.9) == pytest.approx(quantile(exact, 0.9), abs=0.6e-6)


def test_gaps_of_a_run_take_no_memory_each() -> None:
    """Half a million gaps of some 40 lengths are 40 counts; their quantiles are exact."""
    run = recording([request(i, tpot=0.02 + i % 40 / 1000, tokens=501) for i in range(1000)])
    tally = Tally(record.gaps_ns for record in run.records)
    assert len(tally) == 500_000
    assert len(set(tally[::1000])) <= 40
    found = summarize(run).itl
    assert found is not None
    assert (found.count, found.p50) == (500_000, pytest.approx(median(0.02 + i % 40 / 1000 for i in range(1000))))


@given(
    st.lists(st.lists(st.tuples(st.integers(-50, 150), st.integers(1, 5)), max_size=9).map(sorted), max_size=9),
    st.lists(st.integers(0, 100), min_size=2, max_size=9, unique=True).map(sorted),
    st.booleans(),
)
def test_tokens_are_counted_where_they_came(
    answers: list[list[tuple[int, int]]], edges: list[int], counted: bool
) -> None:
    """As looking at each chunk says: from an edge on, before the next; what lies outside counts nowhere."""
    records = [
        RequestRecord(
            seq=0, trace_id="", scheduled_ns=0, sent_ns=0, done_ns=0, token_ns=tuple(stamp for stamp, _ in answer),
            token_counts=tuple(count for _, count in answer) if counted else (),
        )
        for answer in answers
    ]  # fmt: skip
    chunks = [(stamp, count if counted else 1) for answer in answers for stamp, count in answer]
    wanted = [sum(count for stamp, count in chunks if low <= stamp < high) for low, high in pairwise(edges)]
    assert tokens_between(records, edges) == wanted
