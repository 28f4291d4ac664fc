"""What the boards cost a Prometheus: samples read per panel for an hour on the screen, one point every 15 s.

Over 8 and 64 replicas and one load generator, from a real Prometheus filled with synthetic series that are scraped
every 15 s: each board, the dearest panels, the same with one instance chosen, and the rules whose series panels read.
Usage: bench_boards.py
"""

import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx

sys.path.insert(0, str(Path(__file__).parents[1] / "slo"))
from boards_as_read import BOARDS, Board, expressions, panels, selectors, substituted
from small_servers import prometheus

from slo import catalog
from slo.catalog import Kind, Metric
from slo.promql import EXPORTER, seconds
from slo.rules import latency, recorded

HOUR, SCRAPE = 3_600, 15
CHOSEN = {"__rate_interval": "1m", "__range": "1h"}
ASKED = {s.name for board in BOARDS.values() for _, expr in expressions(board) for s in selectors(expr)}


def series(metric: Metric, replica: int) -> Iterator[str]:
    """The series of a family that some panel asks for, as one replica with one model exposes them."""
    labels = dict.fromkeys(metric.labels, "x") | {"job": "sidecar", "instance": f"10.0.0.{replica}:9402"}
    labels |= {"gpu_uuid": f"GPU-{replica}"} if "gpu_uuid" in labels else {}
    parts = ("_bucket", "_sum", "_count") if metric.kind is Kind.HISTOGRAM else ("",)
    for name in ASKED & {metric.name + part for part in parts}:
        yield from bucketed(name, metric, labels) if name.endswith("_bucket") else (selected(name, labels),)


def of_rules() -> Iterator[str]:
    """The series that the rules record of all replicas together."""
    for metric in (*latency.ENGINE_SIDE, *latency.CLIENT_SIDE):
        yield from bucketed(recorded.buckets(metric), metric, {"model_name": "x", "load": "x"})


def bucketed(name: str, metric: Metric, labels: Mapping[str, str]) -> Iterator[str]:
    """A series for each bucket."""
    return (selected(name, {**labels, "le": le}) for le in (*map(repr, metric.buckets), "+Inf"))


def selected(name: str, labels: Mapping[str, str]) -> str:
    """A series as the exposition writes it."""
    text = ",".join(f'{label}="{value}"' for label, value in labels.items())
    return f"{name}{{{text}}}"


def everything(replicas: int) -> Iterator[str]:
    """All series: of the rules, of one load generator, and of each replica."""
    yield from of_rules()
    for metric in catalog.families():
        for replica in range(1 if "load" in metric.labels else replicas):
            yield from series(metric, replica)


def read(url: str, now: float, expr: str, span: int = 0) -> int:
    """Samples read by a query at `now`, or over the `span` before it."""
    form = {"query": expr, "stats": "all"}
    when = {"start": str(now - span), "end": str(now), "step": str(SCRAPE)} if span else {"time": str(now)}
    answer = httpx.post(f"{url}/api/v1/query{'_range' if span else ''}", data=form | when, timeout=60).json()
    return int(answer["data"]["stats"]["samples"]["totalQueryableSamples"])


def cost(url: str, now: float, panel: Board, **chosen: str) -> int:
    """Samples that a panel reads, with these choices above it."""
    asked = ((substituted(t["expr"], CHOSEN | chosen), 0 if t["instant"] else HOUR) for t in panel["targets"])
    return sum(read(url, now, expr, span) for expr, span in asked)


def measure(replicas: int) -> None:
    """Measure and print."""
    now = time.time() - 60
    times = range(int(now) - HOUR - 300, int(now) + SCRAPE, SCRAPE)
    samples = {name: [(float(at), 10.0 * i) for i, at in enumerate(times)] for name in everything(replicas)}
    with tempfile.TemporaryDirectory() as home, prometheus(Path(home), samples) as url:
        found = [(cost(url, now, panel), name, panel) for name, board in BOARDS.items() for panel in panels(board)]
        # The slo board reads recorded series only, one per SLO and window, however many replicas there are.
        for name in sorted(BOARDS.keys() - {"slo.json"}):
            print(f"{replicas} replicas  {sum(n for n, of, _ in found if of == name):>12,} samples  {name}, all panels")
        for n, name, panel in sorted(found, key=lambda one: -one[0])[:3]:
            one = cost(url, now, panel, instance="10[.]0[.]0[.]0:9402")
            print(f"{replicas} replicas  {n:>12,} samples  {name}, {panel['title']}; {one:,} with one instance chosen")
        rules = latency.group(EXPORTER)
        each = sum(read(url, now, rule.expr) for rule in rules.rules) / seconds(rules.interval)
        print(f"{replicas} replicas  {each:>12,.0f} samples/s by the rules of {rules.name}")


if __name__ == "__main__":
    for replicas in (8, 64):
        measure(replicas)
