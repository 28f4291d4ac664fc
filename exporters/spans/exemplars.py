"""Trace ids for the engine's histograms: spans that fell into their buckets, as OpenMetrics exemplars."""

import re
from collections.abc import Iterable
from functools import lru_cache
from math import inf

from prometheus_client.core import Exemplar
from prometheus_client.core import Metric as Exposed

from exporters.engines import text
from slo import catalog
from slo.catalog import Metric

# The engine's histogram of what a span histogram measures.
_TWINS = {
    catalog.SPAN_TTFT.name: catalog.TTFT,
    catalog.SPAN_TPOT.name: catalog.TPOT,
    catalog.SPAN_E2E.name: catalog.E2E,
    catalog.SPAN_QUEUE_TIME.name: catalog.QUEUE_TIME,
    catalog.SPAN_PREFILL_TIME.name: catalog.PREFILL_TIME,
    catalog.SPAN_DECODE_TIME.name: catalog.DECODE_TIME,
}

# Per engine histogram and model, exemplars that wait for a bucket.
Pending = dict[Metric, dict[str, list[Exemplar]]]


def of_spans(families: Iterable[Exposed]) -> Pending:
    """For every engine histogram and model the newest exemplar of each bucket of its span histogram."""
    newest: dict[Metric, dict[str, dict[str, Exemplar]]] = {}
    for family in families:
        if (metric := _TWINS.get(family.name)) is None:
            continue
        for sample in family.samples:
            if (exemplar := sample.exemplar) is None:
                continue
            buckets = newest.setdefault(metric, {}).setdefault(sample.labels["model_name"], {})
            before = buckets.setdefault(sample.labels["le"], exemplar)
            if float(exemplar.timestamp or 0) > float(before.timestamp or 0):
                buckets[sample.labels["le"]] = exemplar
    return {
        metric: {model: [*buckets.values()] for model, buckets in models.items()} for metric, models in newest.items()
    }


def attach(samples: bytes, pending: dict[str, list[Exemplar]]) -> bytes:
    """The sample lines of an engine's histogram with the exemplars that fit behind them; those are taken out.

    No span says which of several engines (data-parallel ranks) it is of: the first with an event in the bucket has it.
    """
    for model, exemplars in pending.items():
        samples = _attach(samples, _buckets_of(model), exemplars)
    return samples


def _attach(samples: bytes, buckets: re.Pattern[bytes], exemplars: list[Exemplar]) -> bytes:
    parts, done, low, below = list[bytes](), 0, -inf, 0.0
    for line in buckets.finditer(samples) if exemplars else ():
        edge, count = float(line[1]), float(line[2])
        if edge <= low:  # the next series begins
            low, below = -inf, 0.0
        if count > below and (fits := next((e for e in exemplars if low < e.value <= edge), None)):
            parts += (samples[done : line.end()], _text(fits))
            done = line.end()
            exemplars.remove(fits)
            if not exemplars:
                break
        low, below = edge, count
    return b"".join((*parts, samples[done:]))


@lru_cache(maxsize=256)
def _buckets_of(model: str) -> re.Pattern[bytes]:
    # Labels stand in the order of their names.
    return re.compile(rb'le="([^"]+)",(?:[^\n]*,)?model_name="%s"[^\n]* (\S+)$' % re.escape(text.escaped(model)), re.M)


def _text(exemplar: Exemplar) -> bytes:
    labels = ",".join(f'{name}="{value}"' for name, value in exemplar.labels.items())
    return f" # {{{labels}}} {exemplar.value!r} {exemplar.timestamp!r}".encode()
