"""What SLO rules cost and whether their 30-day value is true: ours, sloth's and pyrra's on the same data, in one run.

    python tests/benchmarks/bench_rules.py [--pods 8 64] [--json]

Made-up traffic of 31 days, scraped every 15 s: a daily curve with errors that grow with the load, two idle hours each
night, pods that are replaced every three days, and an error series that exists only from the 20th day on. It is loaded
into a real Prometheus (`promtool tsdb create-blocks-from openmetrics`), and every rule's expression is asked for with
its query statistics: samples = totalQueryableSamples, divided by the interval of the rule's group.

Recorded series are what their rules would have written: each rule's own expression, evaluated by range queries at its
group's interval over the raw data and loaded back. Series that are only read at the moment are evaluated for the last
minutes, those that windows sum up for as long as the windows are.

The shapes of sloth 0.16 (30d, `prometheus/v1`) and pyrra 0.10 (4w) are those of their own golden files. sloth sets no
interval; 30 s is kube-prometheus-stack's default, at Prometheus' own of 1 min its figures halve.
"""

import argparse
import json
import math
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import accumulate
from pathlib import Path

import httpx

from loadgen.demo.stack import answers
from slo.delivery import artefacts
from slo.promql import seconds
from slo.rules import cost
from slo.rules.recorded import PERIOD_ERROR
from slo.rules.rule import AlertingRule, RecordingRule, RuleGroup
from slo.spec.document import parse
from slo.spec.model import read

SCRAPE, DAY = 15, 86_400
STEPS = DAY // SCRAPE
DAYS = 31
LIFE = 3 * DAY  # of a pod
# The end of the data is a round number of five minutes, as increments are.
END = 1_790_000_100 // 300 * 300
START = END - DAYS * DAY
LATE = 20  # the day of the first error
MAX_POINTS = 10_000

SPEC = """\
apiVersion: llm-slo/v1
service: chat
slos:
  - name: latency
    objective: 99%
    sli: {latency: {metric: ttft, threshold: 250ms}}
  - name: availability
    objective: 99%
    sli: {availability: {}}
"""
COUNT = "llm_time_to_first_token_seconds_count"
BUCKET = 'llm_time_to_first_token_seconds_bucket{le="0.25"}'
ANSWERED, FAILED = (f'llm_http_requests_total{{handler="/v1/completions",status="{s}"}}' for s in ("2xx", "5xx"))


# --- traffic ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Traffic:
    """Events of one pod since START, cumulated at every scrape."""

    total: list[int]
    slow: list[int]
    failed: list[int]

    def truth(self, days: int) -> dict[str, float]:
        """The true share of bad events in the last `days`."""
        first = len(self.total) - 1 - days * STEPS
        total = self.total[-1] - self.total[first]
        return {
            "latency": (self.slow[-1] - self.slow[first]) / total,
            "availability": (self.failed[-1] - self.failed[first]) / total,
        }


def traffic() -> Traffic:
    """From 2 to 20 requests/s a pod over the day, nobody from 3 to 5; the slow grow with load, failures come late."""
    rates, slow, failed = [], [], []
    for step in range(DAYS * STEPS + 1):
        hour = step / STEPS * 24 % 24
        load = 0.0 if 3 <= hour < 5 else 11 - 9 * math.cos((hour - 4) / 24 * 2 * math.pi)
        events = load * SCRAPE
        day = step / STEPS
        rates.append(events)
        slow.append(events * 0.03 * (load / 20) ** 3)
        failed.append(events * (0.05 if LATE <= day < LATE + 1 else 0.004) if day >= LATE else 0.0)
    return Traffic(*(list(map(round, accumulate(each))) for each in (rates, slow, failed)))


def lines(made: Traffic, slo: str, pods: int, first: int, last: int) -> Iterator[str]:
    """OpenMetrics samples of all pods from scrape `first` to `last`, family by family."""
    bad = made.slow if slo == "latency" else made.failed
    good = [t - b for t, b in zip(made.total, bad, strict=True)]
    families = {"latency": ((COUNT, made.total, False), (BUCKET, good, False)),
                "availability": ((ANSWERED, good, False), (FAILED, bad, True))}  # fmt: skip
    for name, values, late in families[slo]:
        for pod in range(pods):
            yield from _pod_lines(name, values, pod, pods, first, last, late)


def _pod_lines(name: str, values: list[int], pod: int, pods: int, first: int, last: int, late: bool) -> Iterator[str]:
    """One pod's place: a new pod, from zero, every three days; places are replaced in turn."""
    life = LIFE // SCRAPE
    offset = life * pod // pods
    brace = "{" if "{" not in name else name[name.index("{") : -1] + ","
    for born in range(-offset, last + 1, life):
        begin, zero = max(born, first, 0), values[max(born, 0)]
        head = f'{name.partition("{")[0]}{brace}model_name="m",pod="{pod}-{born + offset}"}} '
        for step in range(begin, min(born + life, last + 1)):
            value = values[step] - zero
            if value or not late:
                yield f"{head}{value} {START + step * SCRAPE + pod * SCRAPE / pods:.3f}\n"


# --- Prometheus ------------------------------------------------------------------------------------------------------


def load(directory: Path, samples: Iterable[str]) -> None:
    """Add samples to the data directory."""
    text = directory / "samples.txt"
    with text.open("w") as file:
        file.writelines(samples)
        file.write("# EOF\n")
    promtool = ["promtool", "tsdb", "create-blocks-from", "--max-block-duration=54h", "openmetrics"]
    subprocess.run([*promtool, text, directory / "data"], check=True, capture_output=True)
    text.unlink()


class Server:
    """A Prometheus over the data directory."""

    def __init__(self, url: str) -> None:
        self._http = httpx.Client(base_url=f"{url}/api/v1/", timeout=900)

    def instant(self, expr: str, at: float = END) -> tuple[int, float | None]:
        """Samples read, and the value where there is exactly one."""
        data = self._get("query", {"query": expr, "time": str(at), "stats": "all"})
        values = [float(item["value"][1]) for item in data["result"]] if data["resultType"] == "vector" else []
        return data["stats"]["samples"]["totalQueryableSamples"], values[0] if len(values) == 1 else None

    def range(self, expr: str, start: int, step: int) -> Iterator[tuple[dict[str, str], float, str]]:
        """Labels, time and value of every point to END."""
        while start <= END:
            end = min(END, start + MAX_POINTS * step)
            data = self._get("query_range", {"query": expr, "start": str(start), "end": str(end), "step": str(step)})
            for series in data["result"]:
                yield from ((series["metric"], time, value) for time, value in series["values"])
            start = end + step

    def _get(self, endpoint: str, query: dict[str, str]) -> dict:  # type: ignore[type-arg]
        body = self._http.get(endpoint, params=query).json()
        if body["status"] != "success":
            raise SystemExit(f"{query['query']}: {body['error']}")
        return body["data"]  # type: ignore[no-any-return]


@contextmanager
def prometheus(directory: Path) -> Iterator[Server]:
    """A server over what is loaded."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    (directory / "prometheus.yml").write_text("")
    command = ["prometheus", f"--config.file={directory}/prometheus.yml", f"--storage.tsdb.path={directory}/data",
               "--storage.tsdb.retention.time=100y", f"--web.listen-address=127.0.0.1:{port}", "--query.timeout=15m",
               "--query.max-samples=500000000", "--log.level=error"]  # fmt: skip
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        try:
            while not answers(f"http://127.0.0.1:{port}/-/ready"):
                if process.poll() is not None:
                    raise SystemExit("prometheus did not start")
                time.sleep(0.1)
            yield Server(f"http://127.0.0.1:{port}")
        finally:
            process.terminate()


# --- the designs -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rule:
    """An expression, evaluated every `interval` seconds; as `record` its series are needed for `keep` seconds."""

    expr: str
    interval: int
    record: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    keep: int = 0


@dataclass(frozen=True)
class Design:
    """The rules for one SLO in stages, each of which reads what the ones before have recorded.

    `value` is the share of bad events in the last `days`, as the design tells it; `forgiving` tells it where that is
    NaN, as if no hour had been idle.
    """

    name: str
    stages: Sequence[Sequence[Rule]]
    value: str
    days: int = 30
    forgiving: str = ""


def groups_of(slo: str) -> list[RuleGroup]:
    """What `slo-gen build` writes for this SLO alone, alerts included; causes, costs and health serve all SLOs."""
    spec = read(parse(SPEC, "spec.yaml"))
    alone = replace(spec, slos=tuple(one for one in spec.slos if one.name == slo))
    return [g for part in artefacts.rule_groups([alone]).values() for g in part if g.name.startswith("llm-slo")]


def ours(slo: str) -> Design:
    """This project's rules."""
    stages = [[_own(rule, seconds(group.interval))] for group in groups_of(slo) for rule in group.rules]
    return Design("llm-slo", stages, PERIOD_ERROR)


def _own(rule: RecordingRule | AlertingRule, interval: int) -> Rule:
    if isinstance(rule, AlertingRule):
        return Rule(rule.expr, interval)
    summed_up = rule.record.endswith((":rate5m", ":increase5m"))
    return Rule(rule.expr, interval, rule.record, rule.labels, 30 * DAY if summed_up else 600)


def sloth(bad: str, total: str) -> Design:
    """sloth's: an error ratio per window on raw data, the 30 days as the mean of the 5-minute ratios."""
    name, labels = "slo:sli_error:ratio_rate", {"sloth_id": "chat"}
    windows = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")
    ratios = [
        Rule(
            f"({bad.replace('W', w)}) / ({total.replace('W', w)})",
            30,
            f"{name}{w}",
            labels,
            _DAYS30 if w == "5m" else 120,
        )
        for w in windows
    ]
    mean = f"sum_over_time({name}5m[30d]) / count_over_time({name}5m[30d])"
    budget = Rule("vector(1-0.99)", 30, "slo:error_budget:ratio", labels, 120)
    current = Rule(f"{name}5m / on(sloth_id) group_left slo:error_budget:ratio", 30)
    pairs = {"page": (("5m", "1h", 14.4), ("30m", "6h", 6)), "ticket": (("2h", "1d", 3), ("6h", "3d", 1))}
    alerts = [
        Rule(" or ".join(f"({name}{a} > ({k} * 0.01) and {name}{b} > ({k} * 0.01))" for a, b, k in each), 30)
        for each in pairs.values()
    ]
    forgiving = f"avg_over_time(({name}5m >= 0)[30d:30s])"
    return Design("sloth", [[*ratios, budget], [Rule(mean, 30), current, *alerts]], mean, forgiving=forgiving)


def pyrra(bad: str, total: str) -> Design:
    """pyrra's: an error ratio per window on raw data every 30 s, and four weeks' increases on raw data every 150 s."""
    name, windows = "burnrate", ("5m", "30m", "1h", "2h", "6h", "1d", "4d")
    ratios = [Rule(f"({bad.replace('W', w)}) / {total.replace('W', w)}", 30, f"{name}{w}", {}, 120) for w in windows]
    increases = [Rule(part.replace("rate(", "increase(").replace("W", "4w"), 150) for part in (bad, total)]
    pairs = (("5m", "1h", 14), ("30m", "6h", 7), ("2h", "1d", 2), ("6h", "4d", 1))
    alerts = [Rule(f"{name}{a} > ({k} * 0.01) and {name}{b} > ({k} * 0.01)", 30) for a, b, k in pairs]
    return Design("pyrra", [[*ratios, *increases], alerts], f"({increases[0].expr}) / {increases[1].expr}", 28)


_DAYS30 = 30 * DAY
# Bad and total events per second over a window W, as people write them for sloth and pyrra.
RAW = {
    "latency": (f"sum(rate({COUNT}[W])) - sum(rate({BUCKET}[W]))", f"sum(rate({COUNT}[W]))"),
    "availability": (f"sum(rate({FAILED}[W]))", "sum(rate(llm_http_requests_total[W]))"),
}


# --- the measurement -------------------------------------------------------------------------------------------------


def measured(directory: Path, design: Design, truth: Mapping[int, float]) -> dict[str, object]:
    """Samples per second of all rules of a design, its value, and how far that is from the truth."""
    per_second, started = 0.0, time.monotonic()
    for stage in design.stages:
        with prometheus(directory) as server:
            per_second += sum(server.instant(rule.expr)[0] / rule.interval for rule in stage)
            written = [line for rule in stage if rule.record for line in _written(server, rule)]
        if written:
            load(directory, written)
    with prometheus(directory) as server:
        value = server.instant(design.value)[1]
        if design.forgiving and value is not None and math.isnan(value):
            print(f"  {design.name:8} says NaN for 30 days: an idle minute is in them; without those minutes it says")
            value = server.instant(design.forgiving)[1]
    true = truth[design.days]
    off = None if value is None else value / true - 1
    print(f"  {design.name:8} {per_second:12,.0f} samples/s   {design.days}d {_percent(value)}   truth {_percent(true)}"
          f"   off by {_percent(off)}   ({time.monotonic() - started:.0f} s)", flush=True)  # fmt: skip
    return {"samples_per_second": per_second, "value": value, "truth": true, "off": off}


def _written(server: Server, rule: Rule) -> Iterator[str]:
    """What a rule would have recorded: its expression at every tick of its group."""
    first = END - rule.keep // rule.interval * rule.interval
    for labels, at, value in server.range(rule.expr, first, rule.interval):
        kept = {name: text for name, text in labels.items() if name != "__name__"} | dict(rule.labels)
        told = ",".join(f"{name}={json.dumps(text)}" for name, text in kept.items())
        yield f"{rule.record}{{{told}}} {value} {at}\n"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.4%}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--pods", type=int, nargs="+", default=[8, 64], help="pods to measure with (8 64)")
    parser.add_argument("--json", action="store_true", help="print one JSON object in the end")
    args = parser.parse_args()
    if not shutil.which("prometheus") or not shutil.which("promtool"):
        print("skipped: it needs prometheus and promtool (Debian: prometheus)")
        return
    made, results = traffic(), {}
    for pods in args.pods:
        # Availability differs in nothing that many pods would change.
        for slo in RAW if pods <= 8 else ("latency",):
            truth = {days: made.truth(days)[slo] for days in (28, 30)}
            with tempfile.TemporaryDirectory() as folder:
                started = time.monotonic()
                for day in range(0, DAYS, 2):
                    until = min(day + 2, DAYS) * STEPS
                    load(Path(folder), lines(made, slo, pods, day * STEPS, until - (until < DAYS * STEPS)))
                print(f"{slo}, {pods} pods, {DAYS} days every {SCRAPE} s ({time.monotonic() - started:.0f} s to load)")
                designs = (ours(slo), sloth(*RAW[slo]), pyrra(*RAW[slo]))
                found = {design.name: measured(Path(folder), design, truth) for design in designs}
            results[f"{slo}/{pods}"] = found
            estimate = cost.estimate(groups_of(slo), pods, SCRAPE).total
            print(f"  slo-gen check estimates {estimate:,.0f} samples/s of llm-slo")
            mine = found["llm-slo"]["samples_per_second"]
            for other in ("sloth", "pyrra"):
                print(f"  {other} reads {found[other]['samples_per_second'] / mine:.0f} times as much")  # type: ignore[operator]
    if args.json:
        print(json.dumps(results))


if __name__ == "__main__":
    main()
