"""All that is to be measured of the tools themselves beside an engine on a GPU, in one go, as a page and as JSON:

    python tests/benchmarks/gpu_page.py --model random:llama-3.1-8b --engine-command 'python -m vllm...' --out gpu-page
    python tests/benchmarks/gpu_page.py --engine URL --spans-port PORT --out gpu-page     # it sends its spans to PORT

1. Headroom: closed loops of more and more requests, up to the engine's limit; how busy the client was there.
2. Energy: the GPUs' power, read five times a second and integrated, against what their energy counters grew by.
3. Agreement: client, engine histograms and spans on the same requests at the engine's limit.
4. Effect: tokens per second with and without the sidecar, in pairs (bench_sidecar_effect.py).

It runs on the simulator and on a CPU as well, to try it out; what such a page says of energy is simulated or absent.
"""

import argparse
import json
import shlex
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import bench_sidecar_effect as effect
import httpx

from loadgen.baselining import engine
from loadgen.demo import stack
from loadgen.results import record
from loadgen.results.exposition import Interval, Reading, read
from loadgen.results.summary import summarize
from slo import catalog
from slo.promql import Selector
from slo.sli import LatencySli

SPEC = Path(__file__).parents[2] / "slo" / "specs" / "chat.yaml"
POLL_SECONDS = 0.2
# An engine is at its limit when twice the requests give less than this much more.
GROWTH = 1.05
_SPANS = {
    catalog.TTFT: catalog.SPAN_TTFT,
    catalog.E2E: catalog.SPAN_E2E,
    catalog.QUEUE_TIME: catalog.SPAN_QUEUE_TIME,
}


def reading(sidecar: str) -> Reading:
    return read(httpx.get(f"{sidecar}/metrics", timeout=30, trust_env=False).raise_for_status().text)


class Poller(threading.Thread):
    """Watts and joules of all GPUs, with the time of each reading (s), until stopped."""

    def __init__(self, sidecar: str) -> None:
        super().__init__(daemon=True)
        self._sidecar, self._over = sidecar, threading.Event()
        self.found: list[tuple[float, float, float]] = []

    def run(self) -> None:
        while not self._over.wait(POLL_SECONDS):
            with suppress(httpx.HTTPError):
                page, at = reading(self._sidecar), time.monotonic()
                watts, joules = (page.sum(Selector(metric)) for metric in (catalog.GPU_POWER, catalog.GPU_ENERGY))
                if watts is not None and joules is not None:
                    self.found.append((at, watts, joules))

    def stop(self) -> None:
        self._over.set()
        self.join()


def energy(found: list[tuple[float, float, float]]) -> dict[str, float] | None:
    """Joules by power and by counter from the first reading to the last; None where either is not told."""
    if len(found) < 2:
        return None
    by_power = sum((then - now) * (a + b) / 2 for (now, a, _), (then, b, _) in pairwise(found))
    by_counter = found[-1][2] - found[0][2]
    apart = abs(by_power - by_counter) / by_counter * 100 if by_counter else float("nan")
    seconds = found[-1][0] - found[0][0]
    return {"seconds": seconds, "by_power_j": by_power, "by_counter_j": by_counter, "apart_percent": apart}


def run(target: effect.Target, seconds: float, concurrency: int) -> record.Recording:
    """One closed loop."""
    with tempfile.TemporaryDirectory() as home:
        records = Path(home) / "records.jsonl"
        lengths = ("--prompt-tokens", target.prompt_tokens, "--output-tokens", target.output_tokens)
        command = [stack.command("slo-load"), "run", "--target", target.url, "--model", target.model, *lengths,
                   "--concurrency", concurrency, "--duration", seconds, "--records", records, "--quiet"]  # fmt: skip
        subprocess.run(list(map(str, command)), stdout=subprocess.DEVNULL, check=True)
        return reading.read(records)


def level(recording: record.Recording, concurrency: int) -> dict[str, Any]:
    """What a closed loop gave, and what it took of the client; shares are of one core, lags p99 in ms."""
    footer, summary = recording.footer, summarize(recording)
    assert footer is not None
    lag = footer.loop_lag.p99 * 1000 if footer.loop_lag else None
    return {
        "concurrency": concurrency,
        "tokens_per_second": summary.output_tokens_per_second,
        "requests_per_second": summary.requests_per_second,
        "ttft_p50_ms": summary.ttft.p50 * 1000 if summary.ttft else None,
        "tpot_p50_ms": summary.tpot.p50 * 1000 if summary.tpot else None,
        "client_processes": footer.workers or 1,
        "client_cpu_share": footer.cpu_share,
        "client_loop_lag_p99_ms": lag,
        "client_send_lag_p99_ms": summary.send_lag.p99 * 1000 if summary.send_lag else None,
    }


def headroom(target: effect.Target, seconds: float) -> list[dict[str, Any]]:
    """Levels of doubling concurrency, up to the first that gives hardly more than the one before."""
    levels: list[dict[str, Any]] = []
    concurrency = target.concurrency
    while len(levels) < 2 or levels[-1]["tokens_per_second"] > GROWTH * levels[-2]["tokens_per_second"]:
        levels.append(level(run(target, seconds, concurrency), concurrency))
        print(f"{concurrency} in flight: {levels[-1]['tokens_per_second']:.0f} tokens/s", file=sys.stderr)
        concurrency *= 2
    return levels


def at_the_limit(target: effect.Target, sidecar: str, seconds: float, concurrency: int) -> dict[str, Any]:
    """One run between two pages of the sidecar: what the three parties say of it, and its energy."""
    settle(sidecar)
    before, poller = reading(sidecar), Poller(sidecar)
    poller.start()
    recording = run(target, seconds, concurrency)
    poller.stop()
    settle(sidecar)
    interval = Interval(before, reading(sidecar))
    tokens = interval.growth(Selector(catalog.GENERATION_TOKENS))
    found = energy(poller.found)
    per_token = found["by_counter_j"] / tokens if found and tokens else None
    return {"agreement": agreement(recording, interval), "energy": found and found | {"j_per_token": per_token}}


def settle(sidecar: str) -> None:
    """Wait until the spans, which come in batches, are as many as the requests that ended; or half a minute."""
    with suppress(stack.DemoError):
        stack.wait_for("all spans", lambda: _count(reading(sidecar), catalog.SPAN_E2E) == _count(
            reading(sidecar), catalog.E2E), 30)  # fmt: skip


def _count(page: Reading, metric: catalog.Metric) -> float:
    return page.sum(Selector(metric, "_count")) or 0.0


def agreement(recording: record.Recording, interval: Interval) -> dict[str, Any]:
    """Requests, tokens and mean latencies (ms) by client, engine and spans, and buckets in which the latter differ."""
    good = [one for one in recording.records if one.error is None]
    ttfts = [one.ttft for one in good if one.ttft is not None]
    client = {
        "requests": len(good),
        "output_tokens": sum(one.output_tokens or 0 for one in good),
        "ttft_mean_ms": 1000 * sum(ttfts) / len(ttfts) if ttfts else None,
    }
    engine_side = _side(interval, catalog.TTFT, catalog.GENERATION_TOKENS)
    spans = _side(interval, catalog.SPAN_TTFT, catalog.SPAN_GENERATION_TOKENS)
    return {"client": client, "engine": engine_side, "spans": spans, "buckets_that_differ": _differing(interval)}


def _side(interval: Interval, ttft: catalog.Metric, tokens: catalog.Metric) -> dict[str, Any]:
    mean = interval.mean(ttft)
    return {
        "requests": interval.growth(Selector(ttft, "_count")),
        "output_tokens": interval.growth(Selector(tokens)),
        "ttft_mean_ms": mean * 1000 if mean is not None else None,
    }


def _differing(interval: Interval) -> list[str]:
    """Buckets of which histogram and spans count another number of the same requests."""
    found = []
    for histogram, span in _SPANS.items():
        for edge in histogram.buckets:
            ((_, theirs),) = LatencySli(histogram, edge).good_terms()
            counts = interval.growth(Selector(span, "_bucket", theirs.matchers)), interval.growth(theirs)
            if counts[0] != counts[1]:
                found.append(f"{histogram.name} le={edge:g}: {counts[1]} and {counts[0]}")
    return found


def markdown(result: Mapping[str, Any]) -> str:
    """The page."""
    top = max(result["headroom"], key=lambda one: one["tokens_per_second"])
    cost, joules, said = result["effect"], result["energy"], result["agreement"]
    lines = [f"# {result['model']}", "", *(f"    {command}" for command in result["commands"]), ""]
    lines += [f"versions: {', '.join(f'{name} {number}' for name, number in result['versions'].items())}", ""]
    lines += ["## Headroom of the load generator", "", *_table(result["headroom"]), ""]
    lines += [
        f"At the engine's limit, {top['tokens_per_second']:.0f} tokens/s, the busiest of {top['client_processes']} "
        f"client processes used {top['client_cpu_share']:.0%} of a core and its event loop was "
        f"{top['client_loop_lag_p99_ms'] or 0:.0f} ms late (p99). Where that is a few ms, it could do "
        f"{1 / top['client_cpu_share']:.1f} times as much; where not, others took its core.",
        "",
        "## Energy",
        "",
    ]
    lines += [
        "No GPU told its energy." if joules is None else
        f"{joules['by_counter_j']:.0f} J by the counters, {joules['by_power_j']:.0f} J by power over "
        f"{joules['seconds']:.0f} s: {joules['apart_percent']:.2f} % apart (wanted: below 2). "
        f"{joules['j_per_token']:.3g} J per output token."
    ]  # fmt: skip
    lines += ["", "## Agreement", "", *_table([{"by": who, **said[who]} for who in ("client", "engine", "spans")]), ""]
    lines += [f"buckets in which histogram and spans differ: {'; '.join(said['buckets_that_differ']) or 'none'}", ""]
    lines += [
        "## The sidecar's effect",
        "",
        f"{cost['loss_percent']:.2f} % fewer tokens per second (95 % interval {cost['low']:.2f} to {cost['high']:.2f}, "
        f"{cost['pairs']} pairs; wanted: below 0.5), and {100 * cost['cores']:.1f} % of a core.",
    ]
    return "\n".join(lines) + "\n"


def _table(rows: list[dict[str, Any]]) -> list[str]:
    cells = [[_cell(value) for value in row.values()] for row in rows]
    lines = [f"| {' | '.join(row)} |" for row in [[name.replace("_", " ") for name in rows[0]], *cells]]
    return [lines[0], "|" + "---|" * len(rows[0]), *lines[1:]]


def _cell(value: Any) -> str:
    return "-" if value is None else f"{value:.5g}" if isinstance(value, float) else str(value)


@contextmanager
def started(args: argparse.Namespace, folder: Path) -> Iterator[tuple[effect.Target, list[str], dict[str, str]]]:
    """The engine that is given or started, the commands so far and the versions."""
    load = {"concurrency": args.concurrency, "prompt_tokens": args.prompt_tokens, "output_tokens": args.output_tokens}
    if args.engine:
        models = httpx.get(f"{args.engine}/v1/models", trust_env=False).raise_for_status().json()["data"]
        yield effect.Target(args.engine, args.spans_port, models[0]["id"], gpu=args.gpu, **load), [], {}
        return
    model, port, spans = engine.model(args.model), stack.free_port(), stack.free_port()
    url = f"http://127.0.0.1:{port}"
    command = engine.arguments(
        args.engine_command, model, port, f"http://127.0.0.1:{spans}/v1/traces", args.engine_arguments
    )
    with engine.running(command, model, folder, url):
        target = effect.Target(url, spans, model.served, gpu=args.gpu, **load)
        yield target, [shlex.join(command)], engine.versions(command)


def measure(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """All four, on one engine."""
    with ExitStack() as running:
        target, commands, versions = running.enter_context(started(args, folder))
        listen = f"127.0.0.1:{target.spans}"
        gpu = ["--gpu", args.gpu, *(["--dcgm-url", args.dcgm_url] if args.dcgm_url else [])]
        with stack.sidecar(folder, listen, target.url, gpu, SPEC) as sidecar:
            levels = headroom(target, args.seconds)
            limit = max(levels, key=lambda one: one["tokens_per_second"])["concurrency"]
            result = at_the_limit(target, sidecar, args.seconds * 3, limit)
        pairs = effect.measure_running(target._replace(concurrency=limit), args.pairs, args.seconds)
    return {
        "model": target.model,
        "commands": [*commands, shlex.join(sys.argv)],
        "versions": versions,
        "headroom": levels,
        **result,
        "effect": effect.effect(pairs),
    }


def main() -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = options.add_argument
    add("--model", default="random:llama-3.1-8b", help="as of slo-load baseline")
    add("--engine-command", default=engine.COMMAND)
    add("--engine", metavar="URL", help="a running engine, with --spans-port")
    add("--spans-port", type=int, metavar="PORT", help="of this machine, where --engine sends its spans over HTTP")
    add("--gpu", default="nvml", help="where the sidecar reads GPUs")
    add("--dcgm-url", metavar="URL")
    add("--concurrency", type=int, default=32, help="to begin with; it doubles up to the engine's limit")
    add("--prompt-tokens", type=int, default=512)
    add("--output-tokens", type=int, default=128)
    add("--seconds", type=float, default=20.0, help="of each run and half; three times that at the limit")
    add("--pairs", type=int, default=6)
    add("--out", type=Path, default=Path("gpu-page"), help="folder of page.json, page.md and logs")
    add("engine_arguments", nargs="*", metavar="-- ARGUMENT")
    args = options.parse_args()
    if bool(args.engine) != bool(args.spans_port):
        options.error("--engine and --spans-port go together")
    args.out.mkdir(parents=True, exist_ok=True)
    result = measure(args, args.out.resolve())
    (args.out / "page.json").write_text(json.dumps(result, indent=1) + "\n")
    (args.out / "page.md").write_text(markdown(result))
    print(markdown(result))


if __name__ == "__main__":
    main()
