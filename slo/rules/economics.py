"""What tokens and requests cost: energy, GPU time and money of each GPU go to its models, in equal parts."""

from slo import catalog
from slo.catalog import Metric
from slo.promql import EXPORTER
from slo.rules import recorded
from slo.rules.rule import RecordingRule, RuleGroup


def group(source: str) -> RuleGroup:
    """Costs per model, through the sidecar's join of engine and GPU; no rules for other sources."""
    tokens = f"sum by (model_name) (rate({catalog.GENERATION_TOKENS.name}[5m]))"
    requests = f"sum by (model_name) (rate({catalog.E2E.name}_count[5m]))"
    cost = f"sum by (model_name, currency) ({_of_models(catalog.GPU_COST, 'currency')})"
    rules = (
        RecordingRule(recorded.ENERGY_PER_OUTPUT, f"{_sum(catalog.GPU_ENERGY)} / ({tokens} > 0)"),
        RecordingRule(recorded.GPU_SECONDS_PER_REQUEST, f"{_sum(catalog.GPU_SECONDS)} / ({requests} > 0)"),
        RecordingRule(recorded.COST_PER_OUTPUT, f"1e6 * {cost} / on (model_name) group_left () ({tokens} > 0)"),
    )
    return RuleGroup("llm-economics", "1m", rules if source == EXPORTER else ())


def _sum(metric: Metric) -> str:
    return f"sum by (model_name) ({_of_models(metric)})"


def _of_models(metric: Metric, *labels: str) -> str:
    models, gpu = catalog.ENGINE_GPU_INFO.name, "job, instance, gpu_uuid"
    share = f"rate({metric.name}[5m]) / on ({gpu}) group_left () count by ({gpu}) ({models})"
    return f"{models} * on ({gpu}) group_left ({', '.join(labels)}) ({share})"
