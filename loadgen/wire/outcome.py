"""What became of a request: an ended exchange, read into its record."""

from collections.abc import Mapping
from email.utils import parsedate_to_datetime

from loadgen.results.record import RequestRecord, TokenSource
from loadgen.traffic.workload import Workload
from loadgen.wire.client import Exchange
from loadgen.wire.reply import Reply, Steps, read_reply


def read_exchange(
    exchange: Exchange, origin_ns: int, workload: Workload, keep_text: bool = False
) -> Steps[tuple[RequestRecord, str]]:
    """Read an exchange, pause by pause, into a record whose stamps count from `origin_ns`.

    The text of the answer comes beside it, where the conversation goes on; with `keep_text` the record holds it, too,
    with whatever else the model said.
    """
    response, reply = exchange.response, Reply()
    if response.status is not None:
        content_type = response.headers.get("content-type", "")
        keep = keep_text or not exchange.conversation.ended
        reply = yield from read_reply(response.status, content_type, response.body, keep)
    said = _unicode("".join(reply.said)) if keep_text and reply.token_ns else None
    return _record(exchange, reply, origin_ns, workload, said), "".join(reply.text or ())


def _unicode(text: str) -> str:
    """Halves of characters, as servers spread them over two events, put together; such that stay alone replaced."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _record(exchange: Exchange, reply: Reply, origin_ns: int, workload: Workload, said: str | None) -> RequestRecord:
    error, detail = reply.error, reply.detail
    if exchange.error and error in (None, "truncated", "bad_response"):  # how it ended says more than how it looks
        error, detail = exchange.error, exchange.detail
    spec, response, counts = exchange.spec, exchange.response, reply.token_counts
    output_tokens = reply.output_tokens if reply.output_tokens is not None else reply.tokens
    by_us: TokenSource | None = None
    if reply.output_tokens is None and counts:
        by_us = "token_ids" if reply.listed else "chunks"
    return RequestRecord(
        seq=spec.seq,
        trace_id=exchange.trace_id,
        scheduled_ns=exchange.scheduled_ns - origin_ns,
        sent_ns=exchange.sent_ns - origin_ns,
        done_ns=exchange.done_ns - origin_ns,
        token_ns=tuple([stamp - origin_ns for stamp in reply.token_ns]),
        token_counts=tuple(counts) if any(count != 1 for count in counts) else (),
        prompt_tokens=reply.prompt_tokens,
        output_tokens=output_tokens if response.status == 200 else None,
        status=response.status,
        error=error,
        detail=detail and _unicode(detail),
        finish_reason=reply.finish_reason and _unicode(reply.finish_reason),
        retry_after=_retry_after(response.headers) if response.status != 200 else None,
        session=spec.session if workload.turns else None,
        turn=spec.turn if workload.turns else None,
        model=spec.model if len(workload.models) > 1 else None,
        tenant=spec.tenant,
        tokens_from=by_us,
        text=said,
    )


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds of a Retry-After header, also when it is a date: that counts from the reply's own Date."""
    asked = headers.get("retry-after", "")
    if asked.isascii() and asked.isdigit() and len(asked) < 10:  # more is no number of seconds
        return float(asked)
    try:
        return (parsedate_to_datetime(asked) - parsedate_to_datetime(headers.get("date", ""))).total_seconds()
    except (ValueError, TypeError, OverflowError):
        return None
