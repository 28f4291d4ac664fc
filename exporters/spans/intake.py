"""What becomes of an export, whichever protocol it came over: counted, judged, and handed on."""

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from exporters.collector import Collector
from exporters.model import SpanBatch
from exporters.spans import otlp
from exporters.spans.exact import SpanMetrics
from exporters.spans.forward import Forwarder
from exporters.spans.reader import SpanReader

# Seconds to ask the engines for their model before the first scrape has.
_ASK = 0.7


class Intake:
    """Takes exports in. `forward` gets what is to be sent on."""

    def __init__(
        self, collector: Collector, spans: SpanMetrics, reader: SpanReader, forward: Forwarder | None = None
    ) -> None:
        self._collector = collector
        self._spans = spans
        self._reader = reader
        self._forward = forward

    async def take(self, body: bytes, content_type: str, encoding: str = "") -> bytes:
        """Take an export in; returns the answer to it, in its own encoding. Raises RefusedError."""
        export = otlp.decode(otlp.inflate(body, encoding), content_type)
        return otlp.answer(await self._count(export), content_type)

    def reject(self, refused: otlp.RefusedError) -> None:
        """Count an export that was refused."""
        self._spans.reject(refused.reason)

    async def _count(self, export: ExportTraceServiceRequest) -> SpanBatch:
        batch = self._reader.read(export)
        if not self._collector.ready and any(span.model_name is None for span in batch.spans):
            await self._collector.collect(_ASK)  # an engine that sends spans is up, and tells its model
        bad = self._spans.take(batch, self._collector.only_model or "")
        if self._forward:
            self._forward.offer(export, bad)
        return batch
