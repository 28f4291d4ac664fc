"""What a good event is: one definition per SLI, read as PromQL, per request, and from an exposition.

Every SLI answers the same questions: `good` and `total` as PromQL (events per second over a window) for the
rules, and `count` over requests as spans or load-test records tell them; a `RequestSli` also judges one alone.
"""

from slo.sli.base import Count, CounterSli, Request, Sli, Terms
from slo.sli.query import PromqlSli
from slo.sli.requests import (
    GENERATION_HANDLERS,
    AvailabilitySli,
    GoodputSli,
    ItlSli,
    LatencySli,
    RequestSli,
    exact,
    exact_terms,
)
from slo.sli.slices import SLICE, SLICE_SECONDS, SaturationSli, SliceSli, StallSli, ThroughputSli

__all__ = [
    "GENERATION_HANDLERS",
    "SLICE",
    "SLICE_SECONDS",
    "AvailabilitySli",
    "Count",
    "CounterSli",
    "GoodputSli",
    "ItlSli",
    "LatencySli",
    "PromqlSli",
    "Request",
    "RequestSli",
    "SaturationSli",
    "Sli",
    "SliceSli",
    "StallSli",
    "Terms",
    "ThroughputSli",
    "exact",
    "exact_terms",
]
