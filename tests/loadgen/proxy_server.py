"""A small real HTTP proxy: it forwards whole URLs, opens tunnels, and lets only those in who know its user."""

import base64
import http.client
import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Proxied:
    """What a proxy saw: its port, the request lines, and the peers that connected."""

    port: int = 0
    lines: list[str] = field(default_factory=list)
    peers: set[object] = field(default_factory=set)


@contextmanager
def proxy(upstream: int, user: str = "") -> Iterator[Proxied]:
    """A proxy that takes every name for this port of this machine; `user` is `name:password`."""
    seen = Proxied()
    wanted = f"Basic {base64.b64encode(user.encode()).decode()}" if user else None

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def parse_request(self) -> bool:
            if not super().parse_request():
                return False
            seen.lines.append(self.requestline)
            seen.peers.add(self.client_address)
            if self.headers["Proxy-Authorization"] == wanted:
                return True
            self.send_response(407)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return False

        def do_CONNECT(self) -> None:
            with socket.create_connection(("127.0.0.1", upstream)) as server:
                self.send_response(200)
                self.end_headers()
                _pump(self.connection, server)
            self.close_connection = True

        def forward(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            server = http.client.HTTPConnection("127.0.0.1", upstream)
            path = "/" + self.path.split("/", 3)[3]
            server.request(self.command, path, body, {"Content-Type": "application/json"})
            answer = server.getresponse()
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.getheader("Content-Type") or "")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            while data := answer.read1():
                self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
            self.wfile.write(b"0\r\n\r\n")
            server.close()

        do_GET = do_POST = forward  # noqa: N815 (the library's names)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        seen.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield seen
        finally:
            server.shutdown()
            thread.join()


def _pump(one: socket.socket, other: socket.socket) -> None:
    """Carry bytes both ways until either side ends."""
    while True:
        for ready in select.select([one, other], [], [])[0]:
            data = ready.recv(65536)
            if not data:
                return
            (other if ready is one else one).sendall(data)
