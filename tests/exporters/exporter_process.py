"""The command as a process of its own, on a port of its own."""

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator

COMMAND = [sys.executable, "-c", "import sys; from exporters.cli import main; sys.exit(main())"]
# The sidecar ends within 2 s of its own, on a busy machine after several times that. What hangs in tests, hangs longer.
END = 15.0
BARE = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_") and name != "HOST_IP"}


@contextlib.contextmanager
def running(*args: str, **env: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command, without GPUs; yields the process and its URL."""
    command = [*COMMAND, "--listen", "127.0.0.1:0", "--otlp-grpc", "none", "--gpu", "none", *args]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=BARE | env) as process:
        try:
            yield process, said(process, r"serving (https?://\S+)/metrics")
        finally:
            process.kill()


def said(process: subprocess.Popen[str], pattern: str) -> str:
    """What the pattern's group matches in the next line of the log that has it."""
    assert process.stderr
    seen = []
    for line in process.stderr:
        seen.append(line)
        if found := re.search(pattern, line):
            return found[1]
    raise AssertionError(f"{pattern} is not in the log: {''.join(seen)}")


def ended(process: subprocess.Popen[str]) -> int:
    """The exit code after a SIGTERM, which must come before END seconds are over and leave no traceback."""
    process.send_signal(signal.SIGTERM)
    _, log = process.communicate(timeout=END)
    assert "Traceback" not in log, log
    return process.returncode
