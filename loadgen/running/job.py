"""What one worker of a run has to do: plain data, so that it can go to another process or another machine."""

import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import count, islice

from loadgen.results.record import Header
from loadgen.traffic.conversation import Conversation, Files, Source
from loadgen.traffic.workload import PATHS
from loadgen.wire.client import Address, Exchange
from loadgen.wire.http1 import request_bytes


@dataclass(frozen=True, slots=True)
class Wire:
    """How to reach the target: the address, the path before /v1 and the headers every request carries."""

    address: Address
    base_path: str
    headers: dict[str, str]


@dataclass(frozen=True, slots=True)
class Job:
    """The share of worker number `worker` in a run by `workers`: every conversation whose index is that modulo them.

    With a tokenizer in the header the records hold the texts of the answers, for it to count them afterwards.
    """

    header: Header
    wire: Wire
    files: Files = field(default_factory=Files)
    worker: int = 0
    workers: int = 1

    @property
    def keep_text(self) -> bool:
        """Whether the records are to hold the texts of the answers."""
        return self.header.tokenizer is not None

    @property
    def slots(self) -> int:
        """How many requests this worker keeps in flight in a closed loop."""
        return len(range(self.worker, self.header.load.concurrency or 0, self.workers))

    def offsets(self) -> Iterator[int]:
        """When this worker's requests of an open loop are due, in ns; empty for a closed one."""
        load, traced = self.header.load, [row.offset_ns for row in self.files.rows]
        offsets = load.offsets(self.header.workload.seed, traced) if load.rate else iter(())
        return islice(offsets, self.worker, None, self.workers)

    def conversations(self) -> Iterator[Conversation]:
        """This worker's conversations in order; endless when only time ends the run."""
        source = Source(self.header.workload, self.header.fingerprint.model, self.files)
        limits = [limit for limit in (self.header.load.requests, len(self.files.rows)) if limit]
        indexes = range(self.worker, min(limits), self.workers) if limits else count(self.worker, self.workers)
        return map(source.conversation, indexes)


class Envelopes:
    """Puts requests into HTTP, each with a trace id of its own."""

    def __init__(self, job: Job) -> None:
        self._wire, self._workload = job.wire, job.header.workload
        self._path = job.wire.base_path + PATHS[self._workload.endpoint]
        self._run_id = secrets.token_hex(8)

    def exchange(self, conversation: Conversation, answer: str = "") -> Exchange:
        """The next request of a conversation as bytes."""
        spec = conversation.next(answer)
        span_id = f"{spec.seq + 1:016x}"
        headers = {**self._wire.headers, "traceparent": f"00-{self._run_id}{span_id}-{span_id}-01"}
        if spec.tenant is not None:
            headers[self._workload.tenant_header or "X-Tenant"] = spec.tenant
        payload = request_bytes("POST", self._path, headers, spec.body)
        return Exchange(replace(spec, body=b""), conversation, self._run_id + span_id, payload)
