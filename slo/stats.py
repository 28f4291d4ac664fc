"""Exact binomial confidence bounds, in plain Python: a gate must not need scipy."""

import math
from collections.abc import Callable


def binomial_bounds(good: float, total: float, confidence: float = 0.95) -> tuple[float, float]:
    """One-sided Clopper-Pearson bounds (low, high) of a success probability, each at `confidence`.

    `low` is the p at which `good` or more successes would still be seen with probability 1 - confidence,
    `high` the p at which `good` or fewer would; numbers between whole ones stand for events that are not independent.
    Raises ValueError unless 0 <= good <= total and total > 0.
    """
    if not 0 <= good <= total or total == 0:
        raise ValueError(f"need 0 <= good <= total and total > 0, got {good} of {total}")
    alpha = 1 - confidence
    low = 0.0 if good == 0 else _solve(lambda p: beta_cdf(p, good, total - good + 1) - alpha)
    high = 1.0 if good == total else _solve(lambda p: beta_cdf(p, good + 1, total - good) - confidence)
    return low, high


def requests_needed(objective: float, confidence: float = 0.95) -> int:
    """The fewest requests that, all good, put the lower bound at `objective`: ln(1 - confidence) / ln(objective)."""
    return math.ceil(math.log(1 - confidence) / math.log(objective))


def t_quantile(p: float, freedom: float) -> float:
    """The p-quantile, for p from 0.5, of Student's t with so many degrees of freedom."""
    x = _solve(lambda x: beta_cdf(x, freedom / 2, 0.5) - 2 * (1 - p))
    return math.sqrt(freedom * (1 - x) / x)


def beta_cdf(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function I_x(a, b), to about 1e-12."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    if x < (a + 1) / (a + b + 2):  # where the continued fraction converges fast; else use the symmetry
        return math.exp(log_front) * _beta_fraction(x, a, b) / a
    return 1 - math.exp(log_front) * _beta_fraction(1 - x, b, a) / b


def _beta_fraction(x: float, a: float, b: float) -> float:
    """The continued fraction of I_x (DLMF 8.17.22), evaluated by Lentz's method."""
    tiny, c = 1e-300, 1.0
    d = 1 / _nonzero(1 - (a + b) * x / (a + 1), tiny)
    result = d
    for m in range(1, 100_000):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d = 1 / _nonzero(1 + term * d, tiny)
            c = _nonzero(1 + term / c, tiny)
            result *= c * d
        if abs(c * d - 1) < 1e-14:
            break
    return result


def _nonzero(value: float, tiny: float) -> float:
    return value if abs(value) > tiny else tiny


def _solve(function: Callable[[float], float]) -> float:
    """The root in (0, 1) of an increasing function, by bisection to the last bits that matter."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if function(middle) > 0 else (middle, high)
    return (low + high) / 2
