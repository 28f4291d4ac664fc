"""Load generators of others as processes: installed from PyPI on demand, run on one core, and what they report.

Their CPU and memory are those of all their processes while the server streamed to them: start-up and what they compute
at the end are left out.
"""

import json
import os
import signal
import subprocess
import sys
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_WATCH_SECONDS = 0.25
_TICKS = os.sysconf("SC_CLK_TCK")
# A tokenizer that is only there because they ask for one: the server's usage counts.
_TOKENIZER = """
import sys
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
made = Tokenizer(models.WordLevel({"[UNK]": 0, "x": 1, "token": 2}, unk_token="[UNK]"))
made.pre_tokenizer = pre_tokenizers.Whitespace()
PreTrainedTokenizerFast(tokenizer_object=made, unk_token="[UNK]", eos_token="[UNK]").save_pretrained(sys.argv[1])
"""


@dataclass(frozen=True)
class Task:
    """What a peer is to do, and a folder for its files: `tokenizer/`, `prompts.jsonl` and `out`."""

    port: int
    concurrency: int
    requests: int
    folder: Path


@dataclass(frozen=True)
class Peer:
    """A package with its version, the command for a task, and how to read p99 of TTFT and ITL (ms) from its output."""

    package: str
    command: Callable[[Task], list[str]]
    reported: Callable[[Path], tuple[float, float]]
    environment: dict[str, str]


@dataclass(frozen=True)
class Usage:
    """CPU seconds that a tree of processes had used at a time (perf_counter_ns), and its resident memory in MB."""

    at: int
    cpu: float
    megabytes: float


def _aiperf(task: Task) -> list[str]:
    return [
        "aiperf", "profile", "-m", "bench", "--url", f"http://127.0.0.1:{task.port}", "--endpoint-type", "chat",
        "--streaming", "--concurrency", str(task.concurrency), "--request-count", str(task.requests),
        "--input-file", str(task.folder / "prompts.jsonl"), "--custom-dataset-type", "single_turn",
        "--tokenizer", str(task.folder / "tokenizer"), "--use-server-token-count", "--no-server-metrics",
        "--no-gpu-telemetry", "--ui-type", "none", "--output-artifact-dir", str(task.folder / "out"),
    ]  # fmt: skip


def _of_aiperf(folder: Path) -> tuple[float, float]:
    told = json.loads((folder / "out" / "profile_export_aiperf.json").read_text())
    return told["time_to_first_token"]["p99"], told["inter_chunk_latency"]["p99"]


def _guidellm(task: Task) -> list[str]:
    return [
        "guidellm", "run", "--backend", f"kind=openai_http,target=http://127.0.0.1:{task.port},model=bench",
        "--profile", f"kind=concurrent,streams={task.concurrency}",
        "--constraint", f"kind=max_requests,count={task.requests}",
        "--data", f"kind=json_file,path={task.folder / 'prompts.jsonl'}",
        "--tokenizer", f"kind=hf_auto,model={task.folder / 'tokenizer'}",
        "--output", f"kind=json,path={task.folder / 'out.json'}", "--disable-console",
    ]  # fmt: skip


def _of_guidellm(folder: Path) -> tuple[float, float]:
    """Its ITL is a mean per request: it has nothing else."""
    told = json.loads((folder / "out.json").read_text())["benchmarks"][0]["metrics"]
    names = ("time_to_first_token_ms", "inter_token_latency_ms")
    ttft, itl = (float(told[name]["successful"]["percentiles"]["p99"]) for name in names)
    return ttft, itl


PEERS = {
    "aiperf": Peer("aiperf==0.13.0", _aiperf, _of_aiperf, {}),
    # One worker: on one core more of them only stand in each other's way.
    "guidellm": Peer("guidellm==0.8.1", _guidellm, _of_guidellm,
                     {"GUIDELLM__MAX_WORKER_PROCESSES": "1", "HF_HUB_OFFLINE": "1"}),
}  # fmt: skip


def install(name: str, home: Path) -> Path:
    """The virtual environment of a peer, made when it is not there yet: minutes, and up to 6 GB."""
    venv = home / name
    if not (venv / "bin" / name).exists():
        print(f"installing {PEERS[name].package} into {venv}", file=sys.stderr, flush=True)
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
        subprocess.run([venv / "bin" / "pip", "install", "--quiet", PEERS[name].package], check=True)
    return venv


def play(name: str, venv: Path, task: Task) -> list[Usage]:
    """Run a peer on the last core and watch it. Its log is `log` in the task's folder."""
    peer = PEERS[name]
    subprocess.run([venv / "bin" / "python", "-c", _TOKENIZER, task.folder / "tokenizer"], check=True,
                   capture_output=True)  # fmt: skip
    row = json.dumps({"text": "x " * 64})
    (task.folder / "prompts.jsonl").write_text(f"{row}\n" * task.requests)
    command, *arguments = peer.command(task)
    with (task.folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [venv / "bin" / command, *arguments], stdout=log, stderr=log, cwd=task.folder, process_group=0,
            env={**os.environ, **peer.environment},
            preexec_fn=lambda: os.sched_setaffinity(0, {max(os.sched_getaffinity(0))}),
        )  # fmt: skip
        try:
            seen = list(_watched(process))
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    if process.returncode:
        raise RuntimeError(f"{name} failed: {(task.folder / 'log').read_text(errors='replace')[-2000:]}")
    return seen


def _watched(process: "subprocess.Popen[bytes]") -> Iterator[Usage]:
    while process.poll() is None:
        yield _usage(process.pid)
        time.sleep(_WATCH_SECONDS)


def between(seen: list[Usage], began: int, ended: int) -> tuple[float, float]:
    """CPU seconds from one time to another, and the most memory in MB."""
    within = [usage.megabytes for usage in seen if began <= usage.at <= ended]
    return _cpu_at(seen, ended) - _cpu_at(seen, began), max(within, default=0.0)


def _cpu_at(seen: list[Usage], when: int) -> float:
    after = min(max(1, bisect_left(seen, when, key=lambda usage: usage.at)), len(seen) - 1)
    a, b = seen[after - 1], seen[after]
    return a.cpu + (b.cpu - a.cpu) * (when - a.at) / (b.at - a.at)


def _usage(group: int) -> Usage:
    """Of all processes of a group, with those that have ended and were waited for."""
    cpu = megabytes = 0.0
    for path in Path("/proc").glob("[0-9]*/stat"):
        fields = _fields(path)
        if fields and int(fields[2]) == group:
            cpu += sum(map(int, fields[11:15])) / _TICKS
            megabytes += int(fields[21]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    return Usage(time.perf_counter_ns(), cpu, megabytes)


def _fields(path: Path) -> list[Any]:
    """What `/proc/PID/stat` says after the name of the program; empty for a process that is gone."""
    try:
        return path.read_text().rpartition(")")[2].split()
    except OSError:
        return []
