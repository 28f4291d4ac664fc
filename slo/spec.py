"""The SLO spec: a YAML file read into `Spec` and `Slo`, or refused with file:line, the reason and the way out."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from slo import catalog, document
from slo.catalog import Metric
from slo.document import SpecError, Value
from slo.promql import equals
from slo.sli import GENERATION_HANDLERS, AvailabilitySli, GoodputSli, LatencySli, SaturationSli, Sli, ThroughputSli
from slo.windows import DAY, LOWEST_CAP

__all__ = ["Slo", "Spec", "SpecError", "load"]

API_VERSION = "llm-slo/v1"
PERIODS = {"7d": 7 * DAY, "28d": 28 * DAY, "30d": 30 * DAY, "90d": 90 * DAY}
LATENCIES = {"ttft": catalog.TTFT, "tpot": catalog.TPOT, "e2e": catalog.E2E, "queue": catalog.QUEUE_TIME}
EVENT_SLIS = (LatencySli, GoodputSli)


@dataclass(frozen=True, slots=True, kw_only=True)
class Slo:
    """One promise: `objective` (0..1) of the events that `sli` counts are good over `period` seconds.

    `exact` counts events from spans, one by one, in place of histogram buckets.
    """

    service: str
    name: str
    objective: float
    sli: Sli
    period: int = 30 * DAY
    exact: bool = False
    description: str = ""
    owner: str = ""

    @property
    def id(self) -> str:
        """What the `slo` label says: `<service>-<name>`."""
        return f"{self.service}-{self.name}"

    @property
    def error_budget(self) -> float:
        """The share of events that may be bad, free of the noise of 1 - 0.999."""
        return round(1 - self.objective, 12)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """All SLOs of one service, and the series they read (`selector`, `group_by`)."""

    service: str
    slos: tuple[Slo, ...]
    selector: Mapping[str, str] = field(default_factory=dict)
    group_by: tuple[str, ...] = ("model_name",)


def load(path: Path | str) -> Spec:
    """Read a spec file. Raises SpecError, whose text is `file:line: message`."""
    top = document.read(Path(path)).mapping()
    top.take("apiVersion", _api_version)
    service = top.take("service", _name)
    period = top.optional("period", _period, PERIODS["30d"])
    owner = top.optional("owner", Value.text, "")
    selector = top.optional("selector", _labels, dict[str, str]())
    group_by = top.optional("group_by", lambda v: [_label(item) for item in v.items()], ["model_name"])
    slos: dict[str, Slo] = {}
    for item in top.take("slos", Value.items):
        slo = _slo(item, service, period, owner)
        if slo.name in slos:
            raise item.error(f"a second SLO called {slo.name!r}; names must differ")
        slos[slo.name] = slo
    top.done()
    if not slos:
        raise top.at.error("'slos' is empty; give at least one SLO")
    return Spec(service=service, slos=tuple(slos.values()), selector=selector, group_by=tuple(group_by))


def _slo(item: Value, service: str, period: int, owner: str) -> Slo:
    fields = item.mapping()
    exact = fields.optional("exact", _flag, False)
    slo = Slo(
        service=service,
        name=fields.take("name", _name),
        description=fields.optional("description", Value.text, ""),
        objective=fields.take("objective", _objective),
        sli=fields.take("sli", lambda v: _sli(v, exact)),
        period=period,
        exact=exact,
        owner=owner,
    )
    fields.done()
    if exact and not isinstance(slo.sli, EVENT_SLIS):
        raise item.error("'exact' counts spans: it fits latency and goodput only; take it out")
    return slo


def _sli(value: Value, exact: bool) -> Sli:
    key, body = value.mapping().only()
    readers: dict[str, Callable[[Value], Sli]] = {
        "latency": lambda v: _latency(v, exact),
        "goodput": lambda v: _goodput(v, exact),
        "availability": _availability,
        "throughput": _throughput,
        "kv_cache": _kv_cache,
    }
    if key.text() not in readers:
        raise key.error(f"unknown SLI {key.text()!r}; known: {', '.join(readers)}")
    return readers[key.text()](body)


def _latency(value: Value, exact: bool) -> LatencySli:
    fields = value.mapping()
    metric = fields.take("metric", _latency_metric)
    sli = LatencySli(metric, fields.take("threshold", lambda v: _threshold(v, metric, exact)))
    fields.done()
    return sli


def _goodput(value: Value, exact: bool) -> GoodputSli:
    fields = value.mapping()
    conditions = fields.take("conditions", lambda v: tuple(_latency(item, exact) for item in v.items()))
    fields.done()
    if not conditions:
        raise value.error("goodput needs at least one latency condition")
    return GoodputSli(conditions)


def _availability(value: Value) -> AvailabilitySli:
    fields = value.mapping()
    sli = AvailabilitySli(fields.optional("handlers", _regex, GENERATION_HANDLERS))
    fields.done()
    return sli


def _throughput(value: Value) -> ThroughputSli:
    fields = value.mapping()
    floor = fields.take("tokens_per_second", _positive)
    sli = ThroughputSli(floor, fields.optional("demand", lambda v: int(_positive(v)), 1))
    fields.done()
    return sli


def _kv_cache(value: Value) -> SaturationSli:
    fields = value.mapping()
    sli = SaturationSli(fields.take("limit", _ratio))
    fields.done()
    return sli


# --- single values ---------------------------------------------------------------------------------------------------


def _api_version(value: Value) -> str:
    if value.text() != API_VERSION:
        raise value.error(f"apiVersion {value.text()!r} is not known; this release reads {API_VERSION!r}")
    return API_VERSION


def _name(value: Value) -> str:
    # It becomes a label value, a file name and a Kubernetes object name.
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", value.text()):
        raise value.error(f"{value.text()!r} is no name: use lower-case letters, digits and '-', at most 63")
    return value.text()


def _label(value: Value) -> str:
    if not re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]*", value.text()):
        raise value.error(f"{value.text()!r} is no Prometheus label name")
    return value.text()


def _labels(value: Value) -> dict[str, str]:
    labels = value.mapping().text_items()
    for name in labels:
        if not re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]*", name):
            raise value.error(f"{name!r} is no Prometheus label name")
    return {m.label: m.value for m in equals(labels)}


def _period(value: Value) -> int:
    if value.text() not in PERIODS:
        raise value.error(f"period {value.text()!r} is not supported; use one of {', '.join(PERIODS)}")
    return PERIODS[value.text()]


def _objective(value: Value) -> float:
    objective = _ratio(value)
    if LOWEST_CAP * (1 - objective) >= 1:
        raise value.error(
            f"objective {value.text()} is too low to alert on: even a total outage burns such a budget too slowly; "
            f"promise more than {1 - 1 / LOWEST_CAP:.0%}"
        )
    return objective


def _ratio(value: Value) -> float:
    text = value.text()
    number = _number(value, text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    if not 0 < number < 1:
        raise value.error(f"{text!r} must lie between 0 and 1 (or 0% and 100%), both excluded")
    return round(number, 12)


def _positive(value: Value) -> float:
    number = _number(value, value.text())
    if number <= 0:
        raise value.error(f"{value.text()!r} must be greater than 0")
    return number


def _number(value: Value, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise value.error(f"{value.text()!r} is not a number") from None
    if not math.isfinite(number):
        raise value.error(f"{value.text()!r} is not a finite number")
    return number


def _flag(value: Value) -> bool:
    if value.text() not in ("true", "false"):
        raise value.error(f"{value.text()!r} is neither true nor false")
    return value.text() == "true"


def _latency_metric(value: Value) -> Metric:
    if value.text() not in LATENCIES:
        raise value.error(f"unknown latency {value.text()!r}; known: {', '.join(LATENCIES)}")
    return LATENCIES[value.text()]


def _seconds(value: Value) -> float:
    match = re.fullmatch(r"([0-9.]+)\s*(ms|s|m)", value.text())
    if not match:
        raise value.error(f"{value.text()!r} is no duration; write it like 500ms, 2.5s or 1m")
    number = _number(value, match[1]) * {"ms": 0.001, "s": 1.0, "m": 60.0}[match[2]]
    if number <= 0:
        raise value.error(f"{value.text()!r} must be longer than 0")
    return round(number, 9)


def _threshold(value: Value, metric: Metric, exact: bool) -> float:
    seconds = _seconds(value)
    try:
        exact or metric.edge(seconds)
    except ValueError as error:
        raise value.error(
            f"threshold {value.text()}: {error} (seconds). Use one of them, give the engine that bucket, "
            "or set 'exact: true' to count requests from spans"
        ) from None
    return seconds


def _regex(value: Value) -> str:
    try:
        re.compile(value.text())
    except re.error as error:
        raise value.error(f"{value.text()!r} is no regular expression: {error}") from None
    return value.text()
