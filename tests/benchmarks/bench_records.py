"""Time and memory that the records of a large run take: written, reported, gated, kept as a baseline.

    python tests/benchmarks/bench_records.py [REQUESTS [TOKENS]]

A million requests of 200 tokens are a file of 3.4 GB in the temporary directory. Each command is a process of its own;
`MB` is its peak resident memory. `write` is what a run does with its records: one line each, handed to the system.
"""

import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from io import FileIO
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1] / "loadgen")]

from load_header import header  # noqa: E402 (the folder is known only now)

from loadgen.results.record import Footer, Lag, RequestRecord, append  # noqa: E402
from loadgen.traffic.arrivals import NS, Load  # noqa: E402

RATE = 500.0
SPEC = Path(__file__).parents[2] / "slo" / "specs" / "chat.yaml"
COMMAND = "import sys; from loadgen.cli import main; sys.exit(main())"


def made_up(seq: int, tokens: int, rng: random.Random) -> RequestRecord:
    """An answer with gaps of 20 ms, give or take, one in a hundred of them four times as long."""
    due = int(seq / RATE * NS)
    stamp = due + int(rng.gammavariate(4, 0.02) * NS)
    stamps = [stamp]
    for _ in range(tokens - 1):
        stamp += int(rng.gauss(20e6, 1e6)) * (4 if rng.random() < 0.01 else 1)
        stamps.append(stamp)
    return RequestRecord(
        seq=seq, trace_id=f"{rng.getrandbits(128):032x}", scheduled_ns=due, sent_ns=due + rng.randrange(100_000),
        done_ns=stamp, token_ns=stamps, prompt_tokens=512, output_tokens=tokens, status=200, finish_reason="length",
    )  # fmt: skip


def write(path: str, requests: int, tokens: int) -> None:
    """A whole records file."""
    rng, lag = random.Random(0), Lag(p50=0.0001, p99=0.001, max=0.002)
    made = [made_up(0, tokens, rng) for _ in range(100)]  # a million made up anew would take longer than to read them
    with FileIO(path, "w") as file:
        append(file, header(Load(rate=RATE, arrivals="constant", requests=requests), output_tokens=tokens))
        for seq in range(requests):
            append(file, shifted(rng.choice(made), seq, rng))
        append(file, Footer(interrupted=False, seconds=requests / RATE, sent=requests, cpu_share=0.5, send_lag=lag,
                            loop_lag=lag, achieved_rate=RATE))  # fmt: skip


def shifted(record: RequestRecord, seq: int, rng: random.Random) -> RequestRecord:
    """The same answer, later in the run and a little slower or faster to begin."""
    due = int(seq / RATE * NS)
    late = due + rng.randrange(20_000_000)
    return RequestRecord(
        seq=seq, trace_id=f"{rng.getrandbits(128):032x}", scheduled_ns=due, sent_ns=record.sent_ns + due,
        done_ns=record.done_ns + late, token_ns=[late + stamp for stamp in record.token_ns], prompt_tokens=512,
        output_tokens=record.output_tokens, status=200, finish_reason="length",
    )  # fmt: skip


def play(name: str, *arguments: str) -> None:
    """Run a command to its end and print what it took."""
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    megabytes = used.ru_maxrss / (1024 if sys.platform == "linux" else 1024**2)
    took = f"{time.perf_counter() - began:7.1f} s  {megabytes:6.0f} MB  exit code {process.returncode}"
    print(f"{name:28} {took}", flush=True)


def main(requests: int, tokens: int) -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "records.jsonl")
        play("write", __file__, "write", path, str(requests), str(tokens))
        size = Path(path).stat().st_size / 1e6
        print(f"{requests} requests of {tokens} tokens: {size:.0f} MB")
        load = ("-c", COMMAND)
        play("report", *load, "report", path)
        play("report --html", *load, "report", path, "--html", f"{folder}/page.html")
        play("gate", *load, "gate", path, "--slo", str(SPEC))
        play("gate with itself as baseline", *load, "gate", path, "--slo", str(SPEC), "--baseline", path)


if __name__ == "__main__":
    if sys.argv[1:2] == ["write"]:
        write(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    else:
        main(*(int(text) for text in (sys.argv[1:] + ["20000", "200"][len(sys.argv) - 1 :])))
