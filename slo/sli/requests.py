"""The SLIs that counters of requests, or of the gaps between tokens, give."""

from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from slo import catalog
from slo.catalog import Metric
from slo.engines import ENGINES
from slo.promql import EXPORTER, Matcher, Scope, Selector
from slo.sli.base import Count, CounterSli, Request, Terms, added, combine


class RequestSli(CounterSli):
    """The SLIs whose event is one request: `judge` tells a good one."""

    @property
    def unit_of_count(self) -> str:
        return "requests"

    @abstractmethod
    def judge(self, request: Request) -> bool | None:
        """Whether a request is good; None when it does not count."""

    def count(self, requests: Iterable[Request], /) -> Count:
        """Good and total, one by one: there may be more than fit in memory."""
        verdicts = Counter(map(self.judge, requests))
        return Count(verdicts[True], verdicts[True] + verdicts[False])


_FIELD_OF: Mapping[str, str] = {
    catalog.TTFT.name: "ttft",
    catalog.TPOT.name: "tpot",
    catalog.E2E.name: "e2e",
    catalog.QUEUE_TIME.name: "queue",
}


@dataclass(frozen=True, slots=True)
class LatencySli(RequestSli):
    """Good: a latency of at most `threshold` seconds. A request that has no such latency does not count.

    `engine` is the one whose bucket edges hold; vLLM's where it is empty.
    """

    metric: Metric
    threshold: float
    engine: str = ""

    @property
    def condition(self) -> str:
        return f"{_FIELD_OF[self.metric.name]} ≤ {self.threshold * 1000:g} ms"

    def good_terms(self) -> Terms:
        """The bucket that ends at the threshold; ValueError when no bucket does."""
        return _bucket(self.metric, self.threshold, self.engine)

    def total_terms(self) -> Terms:
        return ((1, Selector(self.metric, "_count")),)

    def judge(self, request: Request) -> bool | None:
        value = getattr(request, _FIELD_OF[self.metric.name])
        return None if value is None else value <= self.threshold


@dataclass(frozen=True, slots=True)
class ItlSli(CounterSli):
    """Good: a gap between two tokens of at most `threshold` seconds. Long answers have more gaps and weigh more.

    One slow step in a thousand is invisible in a request's TPOT; here it is one bad event.
    """

    threshold: float
    engine: str = ""

    @property
    def condition(self) -> str:
        return f"itl ≤ {self.threshold * 1000:g} ms"

    @property
    def unit_of_count(self) -> str:
        return "gaps between tokens"

    def good_terms(self) -> Terms:
        """The bucket that ends at the threshold; ValueError when no bucket does."""
        return _bucket(catalog.ITL, self.threshold, self.engine)

    def total_terms(self) -> Terms:
        return ((1, Selector(catalog.ITL, "_count")),)

    def count(self, _requests: Sequence[Request], /) -> Count | None:
        """Always None: a request keeps the sum of its gaps, not each."""
        return None


def _bucket(metric: Metric, threshold: float, engine: str) -> Terms:
    return ((1, Selector(metric, "_bucket", (Matcher("le", "=", metric.edge(threshold, engine)),))),)


_CLIENT_ERROR = "4xx|4.."
_SERVER_ERROR = "5xx|5.."
# Requests that are finished without an answer: the client went away, or the engine gave up.
_GONE = "abort|cancelled"
_GIVEN_UP = "error|timeout"
# The routes that generate text; probes and model listings must not dilute the ratio.
GENERATION_HANDLERS = "/v1/(chat/completions|completions|responses)"


@dataclass(frozen=True, slots=True)
class AvailabilitySli(RequestSli):
    """Good: an answer that is not the service's failure. The client's own errors (4xx) do not count.

    A full queue answers 503, so refusals are failures. The status is the one an answer began with: a stream that
    breaks off later stays good here; a gateway in front can count those.

    An `engine` that counts no statuses counts requests that finished and that failed; those tell no `handlers`.
    """

    handlers: str = GENERATION_HANDLERS
    engine: str = ""

    @property
    def condition(self) -> str:
        return "answered"

    @property
    def by_status(self) -> bool:
        """Whether HTTP statuses are counted."""
        return self._client_faults is None

    def good_terms(self) -> Terms:
        if self.by_status:
            return ((1, self._requests(f"{_CLIENT_ERROR}|{_SERVER_ERROR}")),)
        return ((1, _without(catalog.FINISHED, "finished_reason", f"{_GONE}|{_GIVEN_UP}")),)

    def total_terms(self) -> Terms:
        if self.by_status:
            return ((1, self._requests(_CLIENT_ERROR)),)
        finished = _without(catalog.FINISHED, "finished_reason", _GONE)
        return ((1, finished), (1, _without(catalog.FAILED, "reason", self._client_faults or "")))

    def total(self, window: str, scope: Scope) -> str:
        return added(self.total_terms(), window, scope)

    @property
    def good_comes_late(self) -> bool:
        return True

    def judge(self, request: Request) -> bool | None:
        return request.ok

    @property
    def _client_faults(self) -> str | None:
        return ENGINES[self.engine].client_faults if self.engine else None

    def _requests(self, excluded: str) -> Selector:
        matchers = (Matcher("handler", "=~", self.handlers), Matcher("status", "!~", excluded))
        return Selector(catalog.HTTP_REQUESTS, "", matchers)


def _without(metric: Metric, label: str, excluded: str) -> Selector:
    return Selector(metric, "", (Matcher(label, "!~", excluded),) if excluded else ())


@dataclass(frozen=True, slots=True)
class GoodputSli(RequestSli):
    """Good: every latency condition met by the same request.

    Separate histograms cannot say which requests broke two conditions at once, so the PromQL subtracts each
    condition's bad requests: a guaranteed floor. Requests and spans are judged exactly.
    """

    conditions: tuple[LatencySli, ...]

    @property
    def condition(self) -> str:
        return " and ".join(condition.condition for condition in self.conditions)

    def good_terms(self) -> Terms:
        first, *others = self.conditions
        terms = list(first.good_terms())
        for condition in others:
            terms += condition.good_terms()
            terms += [(-sign, selector) for sign, selector in condition.total_terms()]
        return tuple(terms)

    def total_terms(self) -> Terms:
        return self.conditions[0].total_terms()

    def good(self, window: str, scope: Scope) -> str:
        return f"clamp_min({CounterSli.good(self, window, scope)}, 0)"

    def judge(self, request: Request) -> bool | None:
        verdicts = [condition.judge(request) for condition in self.conditions]
        if request.ok is None or verdicts[0] is None:
            return None
        return request.ok and False not in verdicts


def exact_terms(slo_id: str) -> tuple[Terms, Terms]:
    """Good and total of an SLO as the sidecar counts them from spans, request by request."""
    matcher = (Matcher("slo", "=", slo_id),)
    good, total = Selector(catalog.SLO_GOOD_EVENTS, "", matcher), Selector(catalog.SLO_EVENTS, "", matcher)
    return ((1, good),), ((1, total),)


def exact(slo_id: str, window: str, scope: Scope) -> tuple[str, str]:
    """Good and total of `exact_terms` as PromQL; ValueError for sources without the sidecar."""
    if scope.source != EXPORTER:
        raise ValueError("only the sidecar counts events from spans; build with --source exporter or take 'exact' out")
    good, total = exact_terms(slo_id)
    return combine(good, window, scope), combine(total, window, scope)
