"""The arguments of `slo-load baseline`, and the way from them to a folder of files."""

import argparse
import shlex
import shutil
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from loadgen.arguments import positive, print_json, target_url
from loadgen.baselining import engine, files, table
from loadgen.demo import stack
from loadgen.results.exposition import Interval, Reading, read
from loadgen.results.record import Fingerprint
from loadgen.running.measure import RunError
from loadgen.wire import target
from slo import catalog
from slo.promql import Selector
from slo.spec import model as spec

SPEC = Path(__file__).parents[2] / "slo" / "specs" / "chat.yaml"
_WARM_UP = ("--concurrency", "4", "--requests", "8", "--seed", "0")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `slo-load baseline`."""
    add = parser.add_argument
    add("--model", type=_model, metavar="MODEL", help="what to serve: a name on a hub, a folder, or a real shape with "
        "random weights: random:llama-3.1-8b, random:llama-3.2-1b, random:tiny")  # fmt: skip
    add("--engine-command", default=engine.COMMAND, metavar="COMMAND", help="what starts the engine (default: "
        "%(default)s); what stands after -- is put at its end")  # fmt: skip
    add("--engine", type=target_url, metavar="URL", help="measure this running engine instead of starting one")
    add("--gpu", choices=("auto", "nvml", "dcgm", "none"), default="auto", help="where the sidecar reads GPUs; with "
        "nvml or dcgm there must be one (default: auto)")  # fmt: skip
    add("--dcgm-url", metavar="URL", help="dcgm-exporter of this machine, for --gpu dcgm")
    add("--slo", type=Path, default=SPEC, metavar="SPEC", help="what must hold at capacity (default: the chat spec)")
    add("--budget", type=positive, default=600.0, metavar="S", help="for the capacity search (default: %(default)g s)")
    add("--start", type=positive, default=1.0, metavar="R", help="requests/s it begins with (default: 1)")
    add("--share", type=positive, default=0.7, metavar="X", help="run at this share of the capacity (default: 0.7)")
    add("--rate", type=positive, metavar="R", help="run at this rate instead, without a search: to repeat a baseline")
    add("--duration", type=positive, default=300.0, metavar="S", help="of that run (default: %(default)g s)")
    add("--prompt-tokens", default="512", metavar="LENGTHS", help="as of 'slo-load run' (default: 512)")
    add("--output-tokens", default="128", metavar="LENGTHS", help="as of 'slo-load run' (default: 128)")
    add("--out", type=Path, default=Path("baselines"), metavar="DIR", help="DIR/<gpu>/<model>/ is written "
        "(default: baselines)")  # fmt: skip
    add("--keep-records", action="store_true", help="leave the run's records.jsonl there too; it is large")
    add("--table", action="store_true", help="measure nothing: print a table of what is in --out")
    add("--plot", type=Path, metavar="FILE", help="with --table: draw its capacity searches as SVG")
    add("--json", action="store_true", help="print one JSON object")
    add("engine_arguments", nargs="*", metavar="-- ARGUMENT", help="for the engine, such as -- --max-model-len 8192")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Make a baseline and print where it is; 0. Raises SpecError, TargetError and RunError."""
    if args.table:
        return table.show(args.out, args.plot)
    if not args.model and not args.engine:
        raise RunError("what to serve? give --model, or measure a running --engine")
    spec.load(args.slo)
    if args.engine:
        target.resolve(args.engine)
    try:
        args.out.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix="unfinished-", dir=args.out)).resolve()
    except OSError as error:
        raise RunError(f"{args.out}: cannot be written: {error.strerror}") from None
    try:
        summary = _Making(args, made).measure()
        folder = files.finish(made, args.out, summary, args.keep_records)
    except (RunError, target.TargetError, stack.DemoError, httpx.HTTPError) as error:
        raise RunError(f"{error} (what there is: {made})") from None
    print_json(summary) if args.json else print(folder)
    return 0


def _model(text: str) -> engine.Model:
    try:
        return engine.model(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


@dataclass
class _Making:
    """One baseline in the making, in `folder`; every command is run there and noted as it can be typed."""

    args: argparse.Namespace
    folder: Path
    commands: list[str] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)

    def measure(self) -> dict[str, Any]:
        """Start what is to be started, measure, stop it; the summary. Raises RunError."""
        shutil.copy(self.args.slo, self.folder / "spec.yaml")
        with ExitStack() as started:
            url, sidecar = self._start(started)
            found = self._inspect(url, sidecar)
            load = _Load(self, url, sidecar, found.model)
            load.warm_up()
            capacity = None if self.args.rate else load.capacity()
            rate = self.args.rate or self._rate(capacity or {})
            interval = load.run(rate)
        self.call("slo-load", "report", "records.jsonl", "--slo", "spec.yaml", "--html", "report.html", "--markdown",
                  out="report.md", fine=(0, 1, 3))  # fmt: skip
        proposed = self.call("slo-gen", "propose", "records.jsonl", out="proposed.yaml", fine=(0, 1))
        if not proposed:
            (self.folder / "proposed.yaml").unlink()
        return files.summary(self.folder, found, self.versions, self.commands, capacity, self._choice(rate)) | {
            "energy": _energy(interval)
        }

    def _choice(self, rate: float) -> dict[str, Any]:
        share = None if self.args.rate else self.args.share
        return {"requests_per_second": rate, "share_of_capacity": share, "seconds": self.args.duration}

    def _start(self, started: ExitStack) -> tuple[str, str]:
        """URLs of engine and sidecar."""
        listen = f"127.0.0.1:{stack.free_port()}"
        url = self.args.engine.url if self.args.engine else self._engine(started, f"http://{listen}/v1/traces")
        gpu = ["--gpu", self.args.gpu, *(("--dcgm-url", self.args.dcgm_url) if self.args.dcgm_url else ())]
        self.commands.append(f"slo-exporter --engine {url} --listen {listen} --slo spec.yaml {shlex.join(gpu)}")
        return url, started.enter_context(stack.sidecar(self.folder, listen, url, gpu, self.folder / "spec.yaml"))

    def _engine(self, started: ExitStack, spans: str) -> str:
        model: engine.Model = self.args.model
        port = stack.free_port()
        url = f"http://127.0.0.1:{port}"
        command = engine.arguments(self.args.engine_command, model, port, spans, self.args.engine_arguments)
        self.commands.append(shlex.join(command))
        self.versions = engine.versions(command)
        _say(f"starting the engine, which takes minutes: {shlex.join(command)}")
        started.enter_context(engine.running(command, model, self.folder, url))
        return url

    def _inspect(self, url: str, sidecar: str) -> Fingerprint:
        """What is being measured. Raises RunError when a GPU was asked for and none shows."""
        server, wanted = target.parse(url), [self.args.model.served] if self.args.model else []
        with target.control(server, {}) as client:
            found = target.inspect(client, server, wanted, [f"{sidecar}/metrics", f"{url}/metrics"])
        if not found.gpus and self.args.gpu not in ("auto", "none"):
            raise RunError(f"--gpu {self.args.gpu}: the sidecar sees no GPU; see {self.folder / 'exporter.log'}")
        return found

    def _rate(self, capacity: dict[str, Any]) -> float:
        """The share of the capacity, to three digits. Raises RunError when no rate is known to meet the spec."""
        passed = capacity.get("passed")
        if not passed:
            raise RunError(f"no rate is known to meet {self.args.slo} ({capacity['ended']}): give a larger --budget, "
                           "another --slo, or a --rate")  # fmt: skip
        return float(f"{passed * self.args.share:.3g}")

    def call(self, name: str, *arguments: str, out: str, fine: tuple[int, ...] = (0,)) -> bool:
        """Run a command of ours with its output in the file `out`; whether it ended with 0. Raises RunError."""
        self.commands.append(f"{shlex.join([name, *arguments])} > {out}")
        with (self.folder / out).open("w") as output:
            done = subprocess.run(  # noqa: S603
                [stack.command(name), *arguments], cwd=self.folder, stdout=output, check=False
            )
        if done.returncode == 130:
            raise KeyboardInterrupt
        if done.returncode not in fine:
            raise RunError(f"{name} {arguments[0]} ended with exit code {done.returncode}")
        return done.returncode == 0


@dataclass(frozen=True, slots=True)
class _Load:
    """The commands that send something."""

    making: _Making
    url: str
    sidecar: str
    model: str

    def warm_up(self) -> None:
        """A few requests, so that nothing is measured that happens only once."""
        self._send("run", *_WARM_UP, "--records", "warm-up.jsonl", "--quiet", "--json", out="warm-up.json")

    def capacity(self) -> dict[str, Any]:
        """What the search found."""
        args = self.making.args
        _say(f"searching the capacity under {args.slo} for up to {args.budget:g} s")
        flags = ("--slo", "spec.yaml", "--budget", f"{args.budget:g}", "--start", f"{args.start:g}", "--seed", "1")
        self._send("capacity", *flags, "--json", out="capacity.json", fine=(0, 1, 3))
        return files.load(self.making.folder / "capacity.json")

    def run(self, rate: float) -> Interval:
        """The run at a fixed rate, and the sidecar's pages around it."""
        args, before = self.making.args, self._reading()
        _say(f"running {rate:g} requests/s for {args.duration:g} s")
        flags = ("--rate", f"{rate:g}", "--duration", f"{args.duration:g}", "--seed", "1", "--quiet", "--json")
        written = ("--records", "records.jsonl", "--baseline-out", "baseline.json")
        self._send("run", *flags, *written, out="run.json")
        return Interval(before, self._reading())

    def _send(self, command: str, *flags: str, out: str, fine: tuple[int, ...] = (0,)) -> None:
        args = self.making.args
        pages = ("--metrics", f"{self.sidecar}/metrics", "--metrics", f"{self.url}/metrics")
        lengths = ("--prompt-tokens", args.prompt_tokens, "--output-tokens", args.output_tokens)
        self.making.call("slo-load", command, "--target", self.url, "--model", self.model, *lengths, *pages, *flags,
                         out=out, fine=fine)  # fmt: skip

    def _reading(self) -> Reading:
        return read(httpx.get(f"{self.sidecar}/metrics", timeout=30, trust_env=False).raise_for_status().text)


def _energy(interval: Interval) -> dict[str, float] | None:
    """Joules of all GPUs from the start of the run to its end, and per output token; None without a counter."""
    joules = interval.growth(Selector(catalog.GPU_ENERGY))
    tokens = interval.growth(Selector(catalog.GENERATION_TOKENS))
    return {"joules": joules, "joules_per_output_token": joules / tokens} if joules and tokens else None


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
