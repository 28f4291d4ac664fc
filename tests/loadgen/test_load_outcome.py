"""Whatever a server says becomes a record, and one that can be read back: no answer may cost the others."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st
from load_servers import DONE, delta

from loadgen.results.record import RequestRecord, decode, encode
from loadgen.traffic.conversation import Source
from loadgen.traffic.workload import Workload
from loadgen.wire.client import Exchange
from loadgen.wire.http1 import Body
from loadgen.wire.outcome import read_exchange


def outcome(*events: bytes) -> RequestRecord:
    """The record of one streamed answer of these events."""
    conversation = Source(Workload(), "m").conversation(0)
    exchange = Exchange(conversation.next(), conversation, "0" * 32, b"")
    exchange.response.status = 200
    exchange.response.headers = {"content-type": "text/event-stream"}
    exchange.response.body = Body([1], [b"".join(events)], True)
    steps = read_exchange(exchange, 0, Workload(), keep_text=True)
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value[0]  # type: ignore[no-any-return]


LEAVES = st.sampled_from([None, True, 0, 1, -1, 10**30, 0.5, "", "stop", "\ud800"])
ODD = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.just("x"), inner), max_leaves=3
)


def some(**fields: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    """Objects with some of these fields, or something else instead."""
    return ODD | st.fixed_dictionaries({}, optional=fields)


DELTAS = some(content=ODD, reasoning=ODD, tool_calls=ODD)
CHOICES = some(delta=DELTAS, text=ODD, finish_reason=ODD, token_ids=ODD)
USAGE = some(completion_tokens=ODD, prompt_tokens=ODD, output_tokens=ODD)
KINDS = st.sampled_from(["response.completed", "response.failed", "response.output_text.delta"])
RESPONSES = some(usage=USAGE, error=ODD, incomplete_details=some(reason=ODD))
CHUNKS = some(choices=ODD | st.lists(CHOICES, max_size=2), usage=USAGE, error=ODD) | some(
    type=KINDS, delta=ODD, response=RESPONSES
)


@settings(max_examples=400, deadline=None)
@given(st.lists(CHUNKS, max_size=3))
def test_any_json_becomes_a_record_that_can_be_read_back(chunks: list[object]) -> None:
    """Objects where words are expected, numbers of thirty digits, halves of characters, in any place."""
    record = outcome(*(f"data: {json.dumps(chunk)}\n\n".encode() for chunk in chunks), DONE)
    assert decode(encode(record)) == record
    assert f"{record.detail}{record.finish_reason}{record.text}".encode()


def test_choices_that_are_no_list_are_a_bad_response() -> None:
    """Also beside an error, whose event is not looked at for tokens: the run goes on."""
    record = outcome(delta(content=" a"), b'data: {"choices": {"0": 1}, "error": "broken"}\n\n', DONE)
    assert (record.error, len(record.token_ns)) == ("bad_response", 1)


def test_a_finish_reason_is_told_in_words() -> None:
    """Some servers send an object; a record that could not be read back would lose the whole file."""
    record = outcome(b'data: {"choices": [{"delta": {"content": "a"}, "finish_reason": {"type": "length"}}]}\n\n', DONE)
    assert (record.error, record.finish_reason) == (None, "{'type': 'length'}")
