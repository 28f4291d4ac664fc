"""Latency histograms over all replicas, recorded for the boards.

A panel that reads buckets reads every bucket of every replica at every point that it draws. One rule reads them twice a
minute for all panels and all who look at them; what it writes does not grow with the replicas.
"""

from slo import catalog
from slo.promql import EXPORTER, aggregate
from slo.rules import recorded
from slo.rules.rule import RecordingRule, RuleGroup

# Namespace and model are what people narrow a board to; whoever chooses a pod or an engine reads raw buckets.
KEPT = ("namespace", "model_name")
ENGINE_SIDE = (catalog.TTFT, catalog.TPOT, catalog.ITL, catalog.E2E, catalog.QUEUE_TIME, catalog.PREFILL_TIME,
               catalog.DECODE_TIME)  # fmt: skip
# Recorded too, few as they are: a load test's curves lie beside the engine's, so both have to cover the same seconds.
CLIENT_SIDE = (catalog.LOAD_TTFT, catalog.LOAD_TPOT, catalog.LOAD_E2E)


def group(source: str) -> RuleGroup:
    """Observations per second by bucket; no rules for other sources than the sidecar."""
    rules = tuple(
        RecordingRule(recorded.buckets(metric), aggregate("sum", f"rate({metric.name}_bucket[2m])", labels))
        for metrics, labels in ((ENGINE_SIDE, (*KEPT, "le")), (CLIENT_SIDE, (*KEPT, "load", "le")))
        for metric in metrics
    )
    return RuleGroup("llm-latency", "30s", rules if source == EXPORTER else ())
