"""`slo-load demo`: engine, sidecar, rules, load and verdict in one go, and the table that compares them."""

import argparse
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx

from loadgen.arguments import count, positive
from loadgen.demo import stack, table, views
from loadgen.demo.stack import DemoError
from loadgen.judging.regression import Outcome
from loadgen.judging.verdict import Verdict, judge
from loadgen.results import reading
from loadgen.results.exposition import Interval, Reading, read
from slo import catalog
from slo.promql import Selector
from slo.rules import recorded
from slo.sli import SliceSli
from slo.spec.model import Slo, Spec, SpecError, load

SPEC = Path(__file__).parents[2] / "slo" / "specs" / "chat.yaml"
SPAN_SECONDS = 15.0
_WRITTEN = {
    "records": "records.jsonl",
    "baseline": "records-baseline.json",
    "report": "report.html",
    "rules": "rules",
    "dashboards": "dashboards",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `slo-load demo`."""
    add = parser.add_argument
    add("--engine", metavar="URL", help="a running engine; without it a simulated one is started")
    add("--spec", type=Path, default=SPEC, metavar="SPEC", help="the SLOs to judge by (default: the chat spec)")
    add("--out", type=Path, default=Path("demo-out"), metavar="DIR", help="what is written goes there (%(default)s)")
    add("--rate", type=positive, default=20.0, metavar="R", help="requests per second (%(default)g)")
    add("--duration", type=positive, default=30.0, metavar="S", help="seconds of load (%(default)g)")
    add("--prompt-tokens", type=count, default=512, metavar="N", help="of each request (%(default)s)")
    add("--output-tokens", type=count, default=100, metavar="N", help="of each answer (%(default)s)")
    add("--listen", metavar="HOST:PORT", help="where the sidecar listens, and takes the engine's spans")


def run(args: argparse.Namespace) -> int:
    """Run the demo; 0 when it ran, whatever the SLOs say of it, and 2 when it could not."""
    try:
        rows, verdict = _Demo(args, load(args.spec)).play()
    except (DemoError, SpecError, httpx.HTTPError) as error:
        print(f"slo-load demo: {error}", file=sys.stderr)
        return 2
    _call("slo-load", "report", str(args.out / "records.jsonl"), "--html", str(args.out / "report.html"))
    print(table.render(rows), _notes(args.out, verdict, args.engine), sep="\n\n")
    return 0


def _notes(out: Path, verdict: Verdict, engine: str | None) -> str:
    lines = [f"verdict of the client's records: {verdict.outcome}"]
    lines += [f"  in doubt: {doubt}" for doubt in verdict.doubts]
    lines += [f"  {check.name}: {check.text}" for check in verdict.checks if check.outcome is not Outcome.PASS]
    lines += ["", "written:", *(f"  {what:<11} {out / name}" for what, name in _WRITTEN.items())]
    if not engine:
        lines += ["", "The engine was simulated. On a real one: make demo ENGINE=http://host:8000"]
    return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class _Demo:
    args: argparse.Namespace
    spec: Spec

    def play(self) -> tuple[list[table.Row], Verdict]:
        """Start the stack, drive it, read it three ways."""
        out: Path = self.args.out
        out.mkdir(parents=True, exist_ok=True)
        _say(f"building rules and dashboards from {self.args.spec} into {out}")
        _call("slo-gen", "build", str(self.args.spec), "--out", str(out))
        with ExitStack() as started:
            engine, sidecar = self._start(started)
            prometheus = started.enter_context(stack.prometheus(out, sidecar))
            return self._measure(engine, sidecar, prometheus)

    def _start(self, started: ExitStack) -> tuple[str, str]:
        out, listen = self.args.out, self.args.listen or f"127.0.0.1:{stack.free_port()}"
        if self.args.engine:
            engine, gpu = self.args.engine.rstrip("/"), ["--gpu", "auto"]
            _check_engine(engine)
        else:
            _say("starting a simulated engine: its numbers show the path, not a GPU's speed")
            engine = started.enter_context(stack.simulator(out, f"http://{listen}/v1/traces"))
            gpu = ["--gpu", "dcgm", "--dcgm-url", f"{engine}/dcgm/metrics"]
        _say(f"starting the sidecar at http://{listen}/metrics")
        return engine, started.enter_context(stack.sidecar(out, listen, engine, gpu, self.args.spec))

    def _measure(self, engine: str, sidecar: str, prometheus: str | None) -> tuple[list[table.Row], Verdict]:
        self._load(engine, "warm-up", "--rate", "4", "--requests", "8", "--quiet")
        _await_spans(sidecar, 8)
        sampler, before = views.Sampler(lambda: _reading(sidecar)), _reading(sidecar)
        sampler.start()
        _say(f"driving {self.args.rate:g} requests/s for {self.args.duration:g} s")
        self._load(engine, "records", "--rate", f"{self.args.rate:g}", "--duration", f"{self.args.duration:g}")
        sampler.stop()
        recording = reading.read(self.args.out / "records.jsonl")
        _await_spans(sidecar, _spans(before) + sum(r.error is None for r in recording.records))
        run = views.Run(recording, Interval(before, _reading(sidecar)), sampler.samples)
        verdict = judge(self.spec, recording)
        return [_row(slo, run, verdict, prometheus) for slo in self.spec.slos], verdict

    def _load(self, engine: str, name: str, *arguments: str) -> None:
        out: Path = self.args.out
        files = ("--records", f"{out / name}.jsonl", "--baseline-out", f"{out / name}-baseline.json", "--force")
        lengths = ("--prompt-tokens", self.args.prompt_tokens, "--output-tokens", self.args.output_tokens)
        _call("slo-load", "run", "--target", engine, *files, *map(str, lengths), "--seed", "1", *arguments)


def _row(slo: Slo, run: views.Run, verdict: Verdict, prometheus: str | None) -> table.Row:
    client, metrics = views.client(slo, run), views.metrics(slo, run)
    outcomes = {check.name: check.outcome for check in verdict.checks}
    seen = client.count or metrics.count
    # An SLI of minutes is none of Prometheus' in a run of seconds: its first minute began before the load.
    left = _prometheus_budget(prometheus, slo) if prometheus and not isinstance(slo.sli, SliceSli) else None
    return table.Row(
        slo=slo,
        client=client,
        metrics=metrics,
        spans=views.spans(slo, run),
        budget_left=table.budget_left(slo, seen) if left is None else left,
        verdict=outcomes.get(slo.id) or _observed(slo, metrics),
    )


def _observed(slo: Slo, view: views.View) -> str:
    """For what requests cannot see: the engine's own figure against the objective, without a claim of confidence."""
    ratio = view.count.ratio if view.count else None
    if ratio is None:
        return "-"
    return Outcome.PASS if ratio >= slo.objective else Outcome.FAIL


def _prometheus_budget(prometheus: str, slo: Slo) -> float | None:
    """What the generated rules say of the last five minutes: 1 - burn rate; None before the first evaluation."""
    query = {"query": f'{recorded.burn_rate("5m")}{{slo="{slo.id}"}}'}
    result = httpx.get(f"{prometheus}/api/v1/query", params=query).raise_for_status().json()["data"]["result"]
    return 1 - float(result[0]["value"][1]) if result else None


def _reading(sidecar: str) -> Reading:
    return read(httpx.get(f"{sidecar}/metrics", timeout=10).raise_for_status().text)


def _spans(reading: Reading) -> float:
    return reading.sum(Selector(catalog.SPAN_TTFT, "_count")) or 0.0


def _await_spans(sidecar: str, expected: float) -> None:
    """Engines send spans in batches; without tracing none ever come, and the table says so by its dashes."""
    try:
        stack.wait_for("all spans", lambda: _spans(_reading(sidecar)) >= expected, SPAN_SECONDS)
    except DemoError:
        got = _spans(_reading(sidecar))
        _say(f"{got:g} of {expected:g} spans came; an engine needs --otlp-traces-endpoint {sidecar}/v1/traces")


def _check_engine(engine: str) -> None:
    """Ask the sidecar's own check, whose one line says what is wrong; DemoError with that line."""
    arguments = [stack.command("slo-exporter"), "--engine", engine, "--gpu", "none", "--check"]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise DemoError(done.stderr.strip().removeprefix("slo-exporter: "))


def _call(name: str, *arguments: str) -> None:
    done = subprocess.run([stack.command(name), *arguments], stdout=subprocess.DEVNULL, check=False)  # noqa: S603
    if done.returncode:
        raise DemoError(f"{name} {arguments[0]} ended with exit code {done.returncode}")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
