"""Is the client honest: why a run cannot be trusted, whatever its figures say."""

from collections.abc import Iterator, Sequence

from loadgen.results.record import Recording, RequestRecord
from loadgen.results.summary import quantiles
from slo import catalog
from slo.sli import GoodputSli, ItlSli, LatencySli, Sli
from slo.spec.model import Spec

# The client may be late by 10 % of the tightest threshold that counts from the intended start (or, when it reads, of
# that between two tokens): a lag that small moves only requests that were within 10 % of it anyway. Below 10 ms it may
# always be: that is a timer on a busy host.
_FROM_START = (catalog.TTFT, catalog.E2E)
_LAG_SHARE = 0.1
_LAG_FLOOR = 0.010
# Throughput specs have no such threshold; there a late client only offers less load, by little up to this.
_LAG_WITHOUT_LATENCY = 0.100
# Special tokens, and text that other tokens would spell as well, make a few per cent between two honest counts.
_MISCOUNT = 0.1


def doubts(spec: Spec, recording: Recording) -> Iterator[str]:
    """Why the run cannot be trusted; nothing when it can."""
    footer = recording.footer
    if footer is None:
        yield "the run was killed or still goes on: its records have no footer" + (
            " and a torn last line" if recording.torn else ""
        )
    elif footer.lost_workers:
        yield f"the run {footer.loss}"
    elif footer.interrupted:
        yield "the run was interrupted"
    if broken := [record for record in recording.records if record.error == "client_error"]:
        yield f"this client could not send {len(broken)} requests: {broken[0].detail}"
    yield from _miscounts(recording.records)
    from_start = [c.threshold for slo in spec.slos for c in latency_conditions(slo.sli) if c.metric in _FROM_START]
    gaps = [slo.sli.threshold for slo in spec.slos if isinstance(slo.sli, ItlSli)]
    send_lag = quantiles(record.send_lag for record in recording.records)
    loop_lag = footer.loop_lag if footer else None
    for name, lag, limit in (
        ("sent requests late", send_lag, _lag_limit(from_start)),
        ("read answers late", loop_lag, _lag_limit(from_start + gaps)),
    ):
        if lag is not None and lag.p99 > limit:
            yield (
                f"the client {name}: p99 {lag.p99 * 1000:.0f} ms, allowed {limit * 1000:.0f} ms; "
                "give it a core of its own or lower the load"
            )


def _miscounts(records: Sequence[RequestRecord]) -> Iterator[str]:
    both = [(r.output_tokens or 0, r.usage_tokens) for r in records if r.usage_tokens is not None and not r.error]
    counted, told = sum(count for count, _ in both), sum(usage for _, usage in both)
    if abs(counted - told) > _MISCOUNT * told:
        yield f"the tokenizer counts {counted} output tokens, the server's usage {told}: is it this model's tokenizer?"


def _lag_limit(thresholds: Sequence[float]) -> float:
    return max(_LAG_FLOOR, _LAG_SHARE * min(thresholds)) if thresholds else _LAG_WITHOUT_LATENCY


def latency_conditions(sli: Sli) -> tuple[LatencySli, ...]:
    """The latency thresholds an SLI is made of; none for the others."""
    if isinstance(sli, GoodputSli):
        return sli.conditions
    return (sli,) if isinstance(sli, LatencySli) else ()
