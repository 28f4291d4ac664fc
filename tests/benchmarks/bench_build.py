"""Building ten thousand SLOs, against merely dumping the same YAML with libyaml, in one run.

    python tests/benchmarks/bench_build.py [--slos 10000] [--json]

A build is everything that `slo-gen build` does: read the specs, make the rules and dashboards, render, write. The dump
is yaml.dump(..., Dumper=CSafeDumper) of the same rule files as plain data. Both run in processes of their own by turns;
CPU time and peak memory are theirs. Then promtool checks what was built, and a Prometheus loads it.
"""

import argparse
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import httpx
import yaml

ROUNDS = 3
PER_SPEC = 100
KINDS = (
    "latency: {metric: ttft, threshold: 250ms}",
    "latency: {metric: tpot, threshold: 50ms}",
    "latency: {metric: e2e, threshold: 60s}",
    "availability: {}",
    "kv_cache: {limit: 0.95}",
)


def write_specs(folder: Path, slos: int) -> list[str]:
    """Specs of a hundred SLOs each."""
    paths = []
    for number in range(0, slos, PER_SPEC):
        head = f"apiVersion: llm-slo/v1\nservice: service-{number}\nowner: team-{number % 7}\nslos:\n"
        items = (
            f"  - name: slo-{i}\n    description: promise number {i}\n    objective: 99.{i % 10}%\n"
            f"    sli:\n      {KINDS[i % len(KINDS)]}\n"
            for i in range(min(PER_SPEC, slos - number))
        )
        path = folder / f"service-{number}.yaml"
        path.write_text(head + "".join(items))
        paths.append(str(path))
    return paths


def in_process(code: str, *arguments: str) -> tuple[float, float]:
    """CPU seconds and peak memory in MB of a Python process that times its own `work()`."""
    done = subprocess.run(
        [sys.executable, "-c", code + _MEASURE, *arguments], capture_output=True, text=True, check=True
    )
    seconds, megabytes = json.loads(done.stdout.splitlines()[-1])
    return seconds, megabytes


_MEASURE = """
import json, resource, time
before = time.process_time()
work()
seconds = time.process_time() - before
print(json.dumps([seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))
"""
_BUILD = """
import sys
from slo.cli import main
def work():
    assert main(["build", *sys.argv[2:], "--out", sys.argv[1], "--json"]) == 0
"""
# JSON reads back quickly, and is not part of the time.
_DUMP = """
import json, sys, yaml
data = json.load(open(sys.argv[1]))
def work():
    for one in data:
        yaml.dump(one, Dumper=yaml.CSafeDumper, sort_keys=False, width=1_000_000)
"""


def loads(out: Path) -> tuple[int, float]:
    """Rules that a Prometheus has loaded from the files, and how long it took, in seconds."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    (out / "prometheus.yml").write_text(yaml.safe_dump({"rule_files": [str(out / "rules" / "*.yaml")]}))
    command = ["prometheus", f"--config.file={out}/prometheus.yml", f"--storage.tsdb.path={out}/data",
               f"--web.listen-address=127.0.0.1:{port}"]  # fmt: skip
    started = time.monotonic()
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            while process.poll() is None and time.monotonic() - started < 300:
                try:
                    groups = httpx.get(f"http://127.0.0.1:{port}/api/v1/rules", timeout=60).json()["data"]["groups"]
                    return sum(len(group["rules"]) for group in groups), time.monotonic() - started
                except (httpx.TransportError, ValueError, KeyError):
                    time.sleep(0.2)
        finally:
            process.terminate()
    raise SystemExit("prometheus did not load the rules")


def measure(folder: Path, slos: int) -> dict[str, float]:
    """Best of ROUNDS of each, in turns."""
    specs = write_specs(folder, slos)
    out = folder / "out"
    builds, dumps = [], []
    for _ in range(ROUNDS):
        builds.append(in_process(_BUILD, str(out), *specs))
        if not dumps:
            _as_json(out, folder / "data.json")
        dumps.append(in_process(_DUMP, str(folder / "data.json")))
    size = sum(path.stat().st_size for path in (out / "rules").glob("*.yaml"))
    return {
        "slos": slos,
        "build_cpu_seconds": min(seconds for seconds, _ in builds),
        "dump_cpu_seconds": min(seconds for seconds, _ in dumps),
        "ratio": min(seconds for seconds, _ in builds) / min(seconds for seconds, _ in dumps),
        "build_megabytes": max(megabytes for _, megabytes in builds),
        "rules_megabytes": size / 1e6,
        **(_checked(out) if shutil.which("prometheus") else {}),
    }


def _as_json(out: Path, path: Path) -> None:
    files = sorted((out / "rules").glob("*.yaml"))
    path.write_text(json.dumps([yaml.load(file.read_text(), Loader=yaml.CSafeLoader) for file in files]))


def _checked(out: Path) -> dict[str, float]:
    files: Sequence[Path] = sorted((out / "rules").glob("*.yaml"))
    subprocess.run(["promtool", "check", "rules", *files], check=True, capture_output=True)
    rules, seconds = loads(out)
    return {"rules": rules, "prometheus_load_seconds": seconds}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--slos", type=int, default=10_000, help="how many SLOs (10000)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), args.slos)
    if args.json:
        print(json.dumps(found))
        return
    print(f"{args.slos} SLOs: built in {found['build_cpu_seconds']:.1f} s CPU, {found['build_megabytes']:.0f} MB peak;")
    print(
        f"the same {found['rules_megabytes']:.1f} MB of rules dumped by libyaml in {found['dump_cpu_seconds']:.1f} s:"
    )
    print(f"a build takes {found['ratio']:.2f} times as long")
    if "rules" in found:
        print(f"Prometheus loaded {found['rules']} rules in {found['prometheus_load_seconds']:.1f} s")


if __name__ == "__main__":
    main()
