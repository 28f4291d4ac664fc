"""What a sample of requests says about the service, without assuming a distribution.

A quantile is bounded by one of the sorted values (an order statistic), a share by the exact binomial
(Clopper-Pearson) bound. Requests that follow each other are alike, so that n of them say as much as n / tau
independent ones; tau is estimated from the sample itself.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

from slo.stats import beta_cdf

# Fewer block means than this say too little about how much they vary.
_LEAST_BLOCKS = 16
# A tail's dependence shows at its edge and, where bursts reach far, further out; that of a slow drift before it.
_TAILS = (4.0, 1.0, 0.5, 0.25)


def supports(objective: float, share: float, size: float, confidence: float) -> bool:
    """Whether a good `share` of a sample worth `size` independent events puts the true share at `objective` or above.

    That is: whether the lower Clopper-Pearson bound at this confidence reaches `objective`.
    """
    return share > 0 and beta_cdf(objective, share * size, size - share * size + 1) <= 1 - confidence


def quantile_bound(ordered: Sequence[float], quantile: float, size: float, confidence: float) -> float | None:
    """The least of the sorted values that bounds the true quantile from above at this confidence.

    `size` is how many independent values they are worth; None when that is too few.
    """
    if not supports(quantile, 1, size, confidence):
        return None
    low, high = 1, len(ordered)
    while low < high:
        rank = (low + high) // 2
        if supports(quantile, rank / len(ordered), size, confidence):
            high = rank
        else:
            low = rank + 1
    return ordered[low - 1]


def tail_tau(values: Sequence[float], quantile: float) -> float:
    """Tau of exceeding the `quantile` of values in the order of their requests: the largest over several tails."""
    ordered = sorted(values)
    shares = [1 - (1 - quantile) * tail for tail in _TAILS]
    levels = {ordered[int(share * len(ordered))] for share in shares if ordered and share > 0}
    return max((tau([value <= level for value in values]) for level in levels), default=1.0)


def tau(good: Sequence[bool]) -> float:
    """How many requests in a row, each good or not, say as much as one independent request; 1 at least.

    The variance of means over blocks of 1, 2, 4, ... requests, each times the block's length, grows until a block is
    longer than the memory of the sample; the largest is taken. Where bad ones come in bursts, a few bursts say
    little about how many there will be: then one standard error is added.
    """
    if not good:
        return 1.0
    mean = sum(good) / len(good)
    variance = mean * (1 - mean)
    if not variance:
        return 1.0
    largest, length, means = 1.0, 1, [float(one) for one in good]
    while len(means) >= 2 * _LEAST_BLOCKS:
        means = [(first + second) / 2 for first, second in zip(means[::2], means[1::2], strict=False)]
        length *= 2
        spread = sum((value - mean) ** 2 for value in means) / (len(means) - 1)
        largest = max(largest, length * spread / variance)
    bursts = sum(before and not after for before, after in pairwise((True, *good)))
    bursty = len(good) - sum(good) >= 2 * bursts
    return largest * (1 + math.sqrt(2 / bursts)) if bursty else largest
