"""The simulator behind uvicorn: starts the API, sends spans of finished requests, stops without waiting for streams."""

import socket
import sys

import uvicorn

from loadgen.simulator.api import create_app
from loadgen.simulator.driver import Driver, Stream
from loadgen.simulator.faults import Faults
from loadgen.simulator.model import Engine
from loadgen.simulator.spans import SpanSender

GRACE_SECONDS = 2


class Server(uvicorn.Server):
    """Serves one engine under the name `model`. Stopping it ends open streams where they are."""

    def __init__(
        self, engine: Engine, model: str, seed: int = 0, spans: SpanSender | None = None, faults: Faults | None = None
    ) -> None:
        self.model = model
        self.driver = Driver(engine, self._finished, faults)
        self._spans = spans
        app = create_app(self.driver, model, seed)
        super().__init__(
            uvicorn.Config(app, access_log=False, log_level="warning", timeout_graceful_shutdown=GRACE_SECONDS)
        )

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then say where on stderr."""
        await super().startup(sockets)
        for listener in sockets or []:
            host, port = listener.getsockname()[:2]
            url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
            print(f"{url} serves {self.model}: simulated, no GPU and no model behind it", file=sys.stderr, flush=True)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Break open streams, or uvicorn would wait for their last token."""
        self.driver.stop()
        await super().shutdown(sockets)

    def _finished(self, stream: Stream) -> None:
        if self._spans:
            self._spans.send(stream.call, stream.request, self.driver.epoch)
