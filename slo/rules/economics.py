"""What tokens and requests cost: energy, GPU time and money of each GPU go to its models, in equal parts."""

from slo import catalog
from slo.catalog import Metric
from slo.promql import EXPORTER, aggregate
from slo.rules import recorded
from slo.rules.rule import RecordingRule, RuleGroup

_GPU = ("job", "instance", "gpu_uuid")
_TOKENS, _REQUESTS = catalog.GENERATION_TOKENS.name, f"{catalog.E2E.name}_count"


def group(source: str) -> RuleGroup:
    """Costs per model, through the sidecar's join of engine and GPU; no rules for other sources."""
    cost = f"1e6 * {_spent(catalog.GPU_COST, 'currency')} / on (model_name) group_left ()"
    rules = (
        RecordingRule(
            recorded.ENERGY_PER_OUTPUT, f"{_spent(catalog.GPU_ENERGY)} / {_done(_TOKENS, catalog.GPU_ENERGY)}"
        ),
        RecordingRule(
            recorded.GPU_SECONDS_PER_REQUEST, f"{_spent(catalog.GPU_SECONDS)} / {_done(_REQUESTS, catalog.GPU_SECONDS)}"
        ),
        RecordingRule(recorded.COST_PER_OUTPUT, f"{cost} {_done(_TOKENS, catalog.GPU_COST)}"),
    )
    return RuleGroup("llm-economics", "1m", rules if source == EXPORTER else ())


def _spent(metric: Metric, *labels: str) -> str:
    """What all GPUs of a model spend per second, kept apart by `labels`."""
    models, gpu = catalog.ENGINE_GPU_INFO.name, ", ".join(_GPU)
    # Summed: a GPU whose index has changed has two series for as long as the range is.
    of_gpu = aggregate("sum", f"rate({metric.name}[5m])", (*_GPU, *labels))
    share = f"{of_gpu} / on ({gpu}) group_left () count by ({gpu}) ({models})"
    of_models = f"{models} * on ({gpu}) group_left ({', '.join(labels)}) ({share})"
    return aggregate("sum", of_models, ("model_name", *labels))


def _done(counter: str, metric: Metric) -> str:
    """What a model gets done per second, where `metric` tells the price: other pods would make it look cheap."""
    return f"({aggregate('sum', f'rate({counter}[5m]) and on (job, instance) {metric.name}', ('model_name',))} > 0)"
