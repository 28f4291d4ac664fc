"""What the boards share: their variables, series narrowed by them, and the shapes of their expressions."""

from collections.abc import Sequence

from slo import catalog
from slo.boards.layout import Annotation, Dashboard, Row, Variable
from slo.boards.panel import Text, Thresholds
from slo.catalog import Metric
from slo.promql import Matcher, aggregate
from slo.rules import recorded

TAG = "llm-slo"
INTERVAL = "$__rate_interval"
# `count:` is Grafana's prefix for units that it has no name for.
TOKENS_PER_SECOND = "count:tok/s"

# Every sidecar says how its sources are, whatever else it can read.
_SIDECARS = catalog.SOURCE_UP.name
_ENGINES = f'{catalog.RUNNING.name}{{namespace=~"$namespace",job=~"$job"}}'
# All is everything, an absent label too: recorded series carry no job, and where no pod label is scraped there is none.
VARIABLES = (
    Variable(name="namespace", label="Namespace", query=f"label_values({_SIDECARS}, namespace)"),
    Variable(
        name="job",
        label="Job",
        query=f'label_values({_SIDECARS}{{namespace=~"$namespace"}}, job)',
    ),
    Variable(
        name="instance",
        label="Instance",
        query=f'label_values({_SIDECARS}{{namespace=~"$namespace",job=~"$job"}}, instance)',
    ),
    Variable(
        name="pod",
        label="Pod",
        query=f'label_values({_SIDECARS}{{namespace=~"$namespace",job=~"$job"}}, pod)',
    ),
    Variable(name="model_name", label="Model", query=f"label_values({_ENGINES}, model_name)"),
    Variable(name="engine", label="Engine", query=f"label_values({_ENGINES}, engine)"),
)
_OF_SIDECAR = tuple(Matcher(name, "=~", f"${name}") for name in ("namespace", "job", "instance", "pod"))
OF_MODEL, _OF_ENGINE = (Matcher(name, "=~", f"${name}") for name in ("model_name", "engine"))
# No series has this label. An absent label is empty, which `All` of all four matches and any choice does not.
_SOME_CHOSEN = Matcher("some_chosen", "!~", "$job$instance$pod$engine")

# Below this share of the period's budget an SLO is at risk.
LOW_BUDGET = 0.25
BUDGET_COLORS: Thresholds = ((None, "red"), (0, "orange"), (LOW_BUDGET, "green"))
# Up to 1 the budget lasts the period. What is fast enough for a page differs from SLO to SLO: the alert says it.
BURN_COLORS: Thresholds = ((None, "green"), (1, "orange"))
# An objective of 99.9 % and 99.95 % of good events must not both look like 100 %.
SHARE_DECIMALS = 3
KV_CACHE_FULL = 0.95
KV_CACHE_COLORS: Thresholds = ((None, "green"), (0.85, "orange"), (KV_CACHE_FULL, "red"))
STATE_RULE = f"met above {LOW_BUDGET:.0%} of the period's error budget, at risk below, broken when it is spent."
STATES = (Text(0, "met", "green"), Text(1, "at risk", "orange"), Text(2, "broken", "red"))
ALERTS = (Text(0, "quiet", "green"), Text(1, "ticket", "orange"), Text(2, "page", "red"))


def dashboard(
    name: str,
    title: str,
    description: str,
    *rows: Row,
    variables: Sequence[Variable] = VARIABLES,
    since: str = "now-1h",
) -> Dashboard:
    """The board with the uid `llm-slo-<name>`."""
    return Dashboard(
        uid=f"{TAG}-{name}",
        title=f"LLM SLO / {title}",
        description=description,
        tag=TAG,
        variables=tuple(variables),
        rows=rows,
        annotations=_annotations(),
        since=since,
    )


def _annotations() -> tuple[Annotation, ...]:
    by = ("model_name", "instance")
    reset = aggregate("sum", f"resets({series(catalog.GENERATION_TOKENS)}[2m])", by)
    running = series(catalog.RUNNING)
    new = f"{aggregate('count', running, by)} unless {aggregate('count', f'{running} offset 2m', by)}"
    alerts = f'ALERTS{{alertstate="firing",slo!="",{OF_MODEL}}}'
    load = aggregate("max", f"{catalog.LOAD_SECONDS.name}{{{OF_MODEL}}}", catalog.LOAD_LABELS)
    return (
        Annotation("SLO alerts", alerts, "red", "{{alertname}}", "{{severity}} {{slo}} {{model_name}}"),
        Annotation("Restarts", f"({reset} > 0) or ({new})", "purple", "Engine started", "{{model_name}} {{instance}}"),
        Annotation("Load tests", load, "blue", "Load test", "{{load}} on {{model_name}}"),
    )


def link(name: str, variable: str) -> str:
    """The address of another board, with `variable` set to the clicked cell and everything else kept."""
    variables = ("datasource", *(v.name for v in VARIABLES if v.name != variable))
    kept = "&".join(f"${{{v}:queryparam}}" for v in variables)
    return f"/d/{TAG}-{name}?{kept}&var-{variable}=${{__value.raw}}&${{__url_time_range}}"


# --- raw families ----------------------------------------------------------------------------------------------------


def series(metric: Metric, *matchers: Matcher, suffix: str = "") -> str:
    """The series of a family under the board's variables."""
    return narrowed(metric.name + suffix, *matchers, *_chosen(metric))


def narrowed(name: str, *matchers: Matcher) -> str:
    """The series called `name` that all `matchers` match."""
    return f"{name}{{{','.join(map(str, matchers))}}}"


def _chosen(metric: Metric) -> tuple[Matcher, ...]:
    """What the board's variables ask of a family. HTTP answers are a server's, whichever of its engines worked."""
    of_engine = () if metric is catalog.HTTP_REQUESTS else (_OF_ENGINE,)
    return (*_OF_SIDECAR, *(matcher for matcher in (OF_MODEL, *of_engine) if matcher.label in metric.labels))


def gauge(function: str, metric: Metric, *by: str) -> str:
    """A gauge over all its series, or per `by`."""
    return aggregate(function, series(metric), by)


def rate(metric: Metric, *by: str, matchers: tuple[Matcher, ...] = (), suffix: str = "") -> str:
    """Increase per second of a counter, summed over all its series or per `by`."""
    return aggregate("sum", f"rate({series(metric, *matchers, suffix=suffix)}[{INTERVAL}])", by)


def quantile(q: float, metric: Metric, *by: str) -> str:
    """A quantile of a histogram."""
    return of_buckets(q, buckets(metric, *by))


def of_buckets(q: float, per_second: str) -> str:
    """A quantile of buckets. The comparison drops the NaN of an idle interval."""
    return f"histogram_quantile({q:g}, {per_second}) >= 0"


def buckets(metric: Metric, *by: str) -> str:
    """Observations per second by bucket: as recorded over all replicas, or read from those that are chosen.

    Recorded series have no job, instance, pod or engine: a choice among those matches none of them, and no choice
    none of the raw ones.
    """
    raw = f"rate({series(metric, _SOME_CHOSEN, suffix='_bucket')}[{INTERVAL}])"
    return aggregate("sum", f"{narrowed(recorded.buckets(metric), *_chosen(metric))} or {raw}", ("le", *by))


def with_exemplars(expr: str, raw: str) -> str:
    """`expr`, which also names the `raw` buckets that carry exemplars: as of 1970, which adds and costs nothing.

    Prometheus finds the exemplars of every selector in a query, whatever its time. Grafana asks only for those of the
    first query of a panel that names a family.
    """
    return f"{expr} or rate({raw}[{INTERVAL}] @ 0)"


def mean(metric: Metric, *by: str) -> str:
    """The mean of a histogram's observations."""
    return ratio(rate(metric, *by, suffix="_sum"), rate(metric, *by, suffix="_count"))


def ratio(part: str, whole: str) -> str:
    """`part` over `whole`; nothing, rather than NaN, where the whole is 0."""
    return f"{part} / ({whole} > 0)"


def of_models(per_gpu: str) -> str:
    """A value per `gpu_uuid`, summed per model over the GPUs that serve it; models that share a GPU get equal parts."""
    info = catalog.ENGINE_GPU_INFO
    models = aggregate("max", narrowed(info.name, *_OF_SIDECAR), ("model_name", "gpu_uuid"))
    share = (
        f"{gauge('max', info, 'model_name', 'gpu_uuid')} / on (gpu_uuid) group_left () count by (gpu_uuid) ({models})"
    )
    return aggregate("sum", f"{share} * on (gpu_uuid) group_left () {per_gpu}", ("model_name",))


def gpu_rate(metric: Metric) -> str:
    """Increase per second of a counter per `gpu_uuid`. Two sidecars on one node may report the same GPU."""
    return f"max by (gpu_uuid) (rate({series(metric)}[{INTERVAL}]))"


def cost_per_million(*by: str) -> str:
    """Cost of the GPUs that serve a model per million output tokens, as the rules record it."""
    return aggregate("max", f"{recorded.COST_PER_OUTPUT}{{{OF_MODEL}}}", ("model_name", *by))


def energy_per_million() -> str:
    """Joules of the GPUs that serve a model per million output tokens, as the rules record them."""
    return "1e6 * " + aggregate("max", f"{recorded.ENERGY_PER_OUTPUT}{{{OF_MODEL}}}", ("model_name",))
