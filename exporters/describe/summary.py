"""`slo-exporter describe --summary`: which engine has which of the signals that matter, at a glance."""

from slo import catalog, tables
from slo.catalog import Metric
from slo.engines import ENGINES
from slo.engines.table import Engine

# One of the families is enough: engines count failures by status or by reason, and cached tokens by look-up or in all.
_SIGNALS: dict[str, tuple[Metric, ...]] = {
    "time to first token": (catalog.TTFT,),
    "time per output token": (catalog.TPOT,),
    "inter-token latency": (catalog.ITL,),
    "end to end": (catalog.E2E,),
    "queue": (catalog.QUEUE_TIME,),
    "prefill": (catalog.PREFILL_TIME,),
    "decode": (catalog.DECODE_TIME,),
    "prompt tokens": (catalog.PROMPT_TOKENS,),
    "output tokens": (catalog.GENERATION_TOKENS,),
    "prompt and output lengths": (catalog.REQUEST_GENERATION_TOKENS,),
    "running, waiting": (catalog.WAITING,),
    "KV cache in use": (catalog.KV_USAGE,),
    "KV cache capacity": (catalog.KV_CAPACITY,),
    "prefix cache": (catalog.PREFIX_HITS, catalog.CACHED_PROMPT_TOKENS),
    "preemptions": (catalog.PREEMPTIONS,),
    "speculative decoding": (catalog.ACCEPTED_TOKENS,),
    "finished requests": (catalog.FINISHED,),
    "failures": (catalog.HTTP_REQUESTS, catalog.FAILED),
}


def table() -> str:
    """The table of README.md, in Markdown; docs/engines.md has the names, and the reasons for what is absent.

    In parentheses is what only older releases have.
    """
    head = ["", *(engine.title.split()[0] for engine in ENGINES.values())]
    rows = [[signal, *(_mark(engine, of) for engine in ENGINES.values())] for signal, of in _SIGNALS.items()]
    return "\n".join(tables.markdown(head, rows)) + "\n"


def _mark(engine: Engine, families: tuple[Metric, ...]) -> str:
    names = [name for family in families for name in engine.names.get(family.name, ())]
    return "-" if not names else "(✓)" if all(name.until for name in names) else "✓"
