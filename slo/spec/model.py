"""The SLO spec: a YAML file read into `Spec` and `Slo`, or refused with file:line, the reason and the way out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from slo.engines import ENGINES
from slo.sli import Sli
from slo.spec import document, indicators, values
from slo.spec.document import SpecError, Value
from slo.spec.indicators import EVENT_SLIS, LATENCIES
from slo.windows import DAY, LOWEST_CAP

__all__ = ["EVENT_SLIS", "LATENCIES", "PERIODS", "Slo", "Spec", "SpecError", "load"]

API_VERSION = "llm-slo/v1"
PERIODS = {"7d": 7 * DAY, "28d": 28 * DAY, "30d": 30 * DAY, "90d": 90 * DAY}
# Labels that the rules set themselves, so no spec may.
INFO_LABELS = ("slo", "service", "objective", "period", "unit", "needs", "owner", "runbook")
_TAKEN = {*INFO_LABELS, "severity", "alertname", "alertstate", "cause", "le", "quantile"}
_DEFAULT_GROUPS: tuple[str, ...] = ("model_name",)
# A selector narrows families; these labels of theirs the SLIs choose.
_CHOSEN = {"slo", "le", "quantile"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Slo:
    """One promise: `objective` (0..1) of the events that `sli` counts are good over `period` seconds.

    `exact` counts events from spans, one by one, in place of histogram buckets. `labels` go on its alerts, `runbook`
    is the URL of what to do when they fire.
    """

    service: str
    name: str
    objective: float
    sli: Sli
    period: int = 30 * DAY
    exact: bool = False
    description: str = ""
    owner: str = ""
    runbook: str = ""
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)

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
    """All SLOs of one service, and the series they read: narrowed by `selector`, told apart by `group_by`."""

    service: str
    slos: tuple[Slo, ...]
    selector: Mapping[str, str] = field(default_factory=dict)
    group_by: tuple[str, ...] = _DEFAULT_GROUPS


@dataclass(frozen=True, slots=True)
class _Defaults:
    """What a spec says once for all its SLOs."""

    service: str
    engine: str
    period: int
    owner: str
    runbook: str
    labels: dict[str, str]
    read_labels: Callable[[Value], dict[str, str]]
    narrowed: bool


def load(path: Path | str, engine: str = "") -> Spec:
    """Read a spec file; `engine` where it names none. Raises SpecError, whose text is `file:line: message`."""
    return read(document.read(Path(path)), engine)


def read(value: Value, engine: str = "") -> Spec:
    """The spec that a document holds. Raises SpecError, whose text is `file:line: message`."""
    top = value.mapping()
    top.take("apiVersion", _api_version)
    service = top.take("service", values.name)
    selector = top.optional("selector", partial(values.labels, reserved=_CHOSEN), dict[str, str]())
    group_by = top.optional("group_by", partial(values.group_labels, reserved=_TAKEN), _DEFAULT_GROUPS)
    read_labels = partial(values.labels, reserved=_TAKEN | set(group_by))
    defaults = _Defaults(
        service=service,
        engine=top.optional("engine", _engine, engine),
        period=top.optional("period", _period, PERIODS["30d"]),
        owner=top.optional("owner", values.line, ""),
        runbook=top.optional("runbook", values.url, ""),
        labels=top.optional("labels", read_labels, dict[str, str]()),
        read_labels=read_labels,
        narrowed=bool(selector),
    )
    slos = top.take("slos", lambda v: _slos(v, defaults))
    top.done()
    return Spec(service=service, slos=slos, selector=selector, group_by=group_by)


def _slos(value: Value, defaults: _Defaults) -> tuple[Slo, ...]:
    slos: dict[str, Slo] = {}
    for item in value.items():
        slo = _slo(item, defaults)
        if slo.name in slos:
            raise item.error(f"a second SLO called {slo.name!r}; names must differ")
        slos[slo.name] = slo
    if not slos:
        raise value.error("'slos' is empty; give at least one SLO")
    return tuple(slos.values())


def _slo(item: Value, defaults: _Defaults) -> Slo:
    fields = item.mapping()
    exact = fields.optional("exact", values.flag, False)
    slo = Slo(
        service=defaults.service,
        name=fields.take("name", values.name),
        description=fields.optional("description", Value.text, ""),
        objective=fields.take("objective", _objective),
        sli=fields.take(
            "sli", lambda v: indicators.read(v, engine=defaults.engine, exact=exact, narrowed=defaults.narrowed)
        ),
        period=fields.optional("period", _period, defaults.period),
        exact=exact,
        owner=fields.optional("owner", values.line, defaults.owner),
        runbook=fields.optional("runbook", values.url, defaults.runbook),
        labels=defaults.labels | fields.optional("labels", defaults.read_labels, dict[str, str]()),
    )
    fields.done()
    if exact and not isinstance(slo.sli, EVENT_SLIS):
        raise item.error("'exact' counts requests from spans: it fits latency (not itl) and goodput; take it out")
    return slo


def _api_version(value: Value) -> str:
    if value.text() != API_VERSION:
        raise value.error(f"apiVersion {value.text()!r} is not known; this release reads {API_VERSION!r}")
    return API_VERSION


def _engine(value: Value) -> str:
    if value.text() not in ENGINES:
        raise value.error(f"unknown engine {value.text()!r}; known: {', '.join(ENGINES)}")
    return value.text()


def _period(value: Value) -> int:
    if value.text() not in PERIODS:
        raise value.error(f"period {value.text()!r} is not supported; use one of {', '.join(PERIODS)}")
    return PERIODS[value.text()]


def _objective(value: Value) -> float:
    objective = values.ratio(value)
    if LOWEST_CAP * (1 - objective) >= 1:
        raise value.error(
            f"objective {value.text()} is too low to alert on: even a total outage burns such a budget too slowly; "
            f"promise more than {1 - 1 / LOWEST_CAP:.0%}"
        )
    return objective
