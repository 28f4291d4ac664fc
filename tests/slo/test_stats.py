"""Exact binomial bounds against published values and against their definition."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slo.stats import beta_cdf, binomial_bounds, requests_needed


def binomial_tail(p: float, at_least: int, n: int) -> float:
    """P(X >= at_least) for X ~ Binomial(n, p), summed term by term."""
    return math.fsum(math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(at_least, n + 1))


@pytest.mark.parametrize(
    ("good", "total", "low", "high"),
    # scipy.stats.beta.ppf(0.05, good, total - good + 1) and beta.ppf(0.95, good + 1, total - good), scipy 1.17
    [
        (59, 59, 0.9504924, 1.0),
        (0, 10, 0.0, 0.2588656),
        (970, 1000, 0.9595277, 0.9783252),
        (8, 10, 0.4930987, 0.9632287),
    ],
)
def test_bounds_equal_published_values(good: int, total: int, low: float, high: float) -> None:
    """The bounds are those that scipy's beta quantiles give."""
    assert binomial_bounds(good, total) == pytest.approx((low, high), abs=1e-6)


@given(st.integers(1, 60).flatmap(lambda n: st.tuples(st.integers(1, n), st.just(n))))
def test_the_low_bound_is_where_the_tail_is_five_percent(case: tuple[int, int]) -> None:
    """At the low bound, seeing that many successes or more has probability 5 %."""
    good, total = case
    low, _ = binomial_bounds(good, total)
    assert binomial_tail(low, good, total) == pytest.approx(0.05, rel=1e-6)


@given(st.floats(0.5, 0.9999))
def test_requests_needed_is_the_first_number_that_suffices(objective: float) -> None:
    """So many good requests of as many reach the objective, one fewer does not."""
    n = requests_needed(objective)
    assert binomial_bounds(n, n)[0] >= objective - 1e-9
    assert n == 1 or binomial_bounds(n - 1, n - 1)[0] < objective


@given(st.floats(0.001, 0.999), st.floats(0.5, 500), st.floats(0.5, 500))
def test_beta_cdf_obeys_its_symmetry(x: float, a: float, b: float) -> None:
    """I_x(a, b) = 1 - I_(1-x)(b, a), whichever branch computes it."""
    assert beta_cdf(x, a, b) == pytest.approx(1 - beta_cdf(1 - x, b, a), abs=1e-9)


def test_impossible_counts_are_refused() -> None:
    """No bound is invented for no data or more good than all."""
    for good, total in ((0, 0), (3, 2), (-1, 5)):
        with pytest.raises(ValueError, match="good"):
            binomial_bounds(good, total)
