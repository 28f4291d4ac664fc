"""A run as CSV: a row per request, for spreadsheets and notebooks."""

import csv as writer
import io

from loadgen.results.record import Recording
from loadgen.traffic.arrivals import NS

_COLUMNS = (
    "seq", "trace_id", "scheduled_s", "sent_s", "done_s", "ttft_s", "tpot_s", "e2e_s", "send_lag_s", "prompt_tokens",
    "output_tokens", "status", "error", "finish_reason", "tokens_from", "retry_after_s", "session", "turn", "model",
    "tenant",
)  # fmt: skip


def csv(recording: Recording) -> str:
    """All requests of a run; times in seconds, from the start of the run where they are not durations."""
    text = io.StringIO()
    rows = writer.writer(text)
    rows.writerow(_COLUMNS)
    for r in recording.records:
        times = (r.scheduled_ns / NS, r.sent_ns / NS, r.done_ns / NS, r.ttft, r.tpot, r.e2e, r.send_lag)
        rows.writerow(
            (r.seq, r.trace_id, *("" if time is None else f"{time:.6f}" for time in times), r.prompt_tokens,
             r.output_tokens, r.status, r.error, r.finish_reason, r.tokens_from, r.retry_after, r.session, r.turn,
             r.model, r.tenant)
        )  # fmt: skip
    return text.getvalue()
