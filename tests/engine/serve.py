"""A live vLLM on the CPU: as a context manager for tests, and around a command: `serve.py VENV -- COMMAND...`.

The command gets `--engine URL --listen HOST:PORT` appended, where PORT is where vLLM sends its spans.
"""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MODEL = "tiny-llama"
# Compiling nothing and loading 1.6 MB of weights, it is ready after 25-40 s on two cores.
START_SECONDS = 240


def free_port() -> int:
    """A port nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def vllm(venv: Path, otlp_port: int, *, grpc: bool = False) -> Iterator[str]:
    """Start vLLM from `venv`, tracing to `otlp_port` over HTTP or gRPC; yields its URL.

    RuntimeError when it does not start.
    """
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    with tempfile.NamedTemporaryFile(prefix="vllm-", suffix=".log") as log:
        process = subprocess.Popen(
            [str(a) for a in _command(venv.resolve(), port, f"http://127.0.0.1:{otlp_port}{'' if grpc else _PATH}")],
            env=_INHERITED | _ENVIRONMENT | ({} if grpc else _HTTP),
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            _wait(process, url, Path(log.name))
            yield url
        finally:
            _stop(process)


_PATH = "/v1/traces"
# vLLM reads the protocol from this variable only and else speaks gRPC.
_HTTP = {"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf"}
_INHERITED = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
_ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "OTEL_SERVICE_NAME": "vllm",
    "OTEL_BSP_SCHEDULE_DELAY": "500",
}


def _command(venv: Path, port: int, traces: str) -> list[object]:
    # Its processes spin for work. Where they share a few cores with the client, they must not starve its clock.
    return [
        *("nice", "-n", "10"),
        *(venv / "bin" / "python", "-m", "vllm.entrypoints.openai.api_server"),
        *("--model", venv / MODEL, "--served-model-name", MODEL, "--host", "127.0.0.1", "--port", port),
        *("--dtype", "bfloat16", "--enforce-eager", "--max-model-len", 1024, "--max-num-seqs", 32),
        *("--otlp-traces-endpoint", traces),
    ]


def _wait(process: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(f"{url}/health", timeout=2).close()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
    tail = log.read_text(errors="replace")[-3000:]
    raise RuntimeError(f"vLLM did not start:\n{tail}")


def _stop(process: "subprocess.Popen[bytes]") -> None:
    # Engine core and workers are processes of their own in the same session; none may stay behind and spin.
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(timeout=15)
    except subprocess.TimeoutExpired:
        print("vLLM did not stop when asked to; killing it", file=sys.stderr)
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def main(arguments: list[str]) -> int:
    """Run the command beside a live vLLM; its exit code."""
    venv, separator, *command = arguments
    if separator != "--" or not command:
        print("usage: serve.py VENV -- COMMAND...", file=sys.stderr)
        return 2
    otlp_port = free_port()
    print("starting vLLM on the CPU (about half a minute)", file=sys.stderr)
    with vllm(Path(venv), otlp_port) as url:
        print(f"vLLM serves {MODEL} at {url}", file=sys.stderr)
        return subprocess.run([*command, "--engine", url, "--listen", f"127.0.0.1:{otlp_port}"], check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
