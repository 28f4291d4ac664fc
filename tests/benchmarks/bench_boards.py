"""What the boards cost a Prometheus: samples read per panel for an hour on the screen, one point every 15 s.

All panels over 8 replicas, then the dearest one over 64, from a real Prometheus filled with synthetic series that are
scraped every 15 s. Usage: bench_boards.py
"""

import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx

sys.path.insert(0, str(Path(__file__).parents[1] / "slo"))
from boards_as_read import BOARDS, Board, panels, selectors, substituted
from small_servers import prometheus

from slo import catalog
from slo.catalog import Kind, Metric

HOUR, SCRAPE = 3_600, 15
CHOSEN = {"__rate_interval": "1m", "__range": "1h"}
Cost = tuple[int, str, Board]


def series(metric: Metric, replica: int) -> Iterator[str]:
    """The series of a family as one replica with one model exposes them."""
    labels = dict.fromkeys(metric.labels, "x") | {"job": "sidecar", "instance": f"10.0.0.{replica}:9402"}
    labels |= {"gpu_uuid": f"GPU-{replica}"} if "gpu_uuid" in labels else {}
    text = ",".join(f'{name}="{value}"' for name, value in labels.items())
    if metric.kind is Kind.HISTOGRAM:
        yield from (f'{metric.name}_bucket{{{text},le="{le}"}}' for le in (*map(repr, metric.buckets), "+Inf"))
        yield from (f"{metric.name}{suffix}{{{text}}}" for suffix in ("_sum", "_count"))
    else:
        yield f"{metric.name}{{{text}}}"


def costs(board: str, shown: Sequence[Board], url: str, now: float) -> Iterator[Cost]:
    """Samples that each panel reads."""
    span = {"start": str(now - HOUR), "end": str(now), "step": str(SCRAPE)}
    for panel in shown:
        read = 0
        for target in panel["targets"]:
            form = {"query": substituted(target["expr"], CHOSEN), "stats": "all"}
            endpoint, when = ("query", {"time": str(now)}) if target["instant"] else ("query_range", span)
            answer = httpx.post(f"{url}/api/v1/{endpoint}", data=form | when, timeout=60).json()
            read += answer["data"]["stats"]["samples"]["totalQueryableSamples"]
        yield read, board, panel


def measured(replicas: int, metrics: Sequence[Metric], shown: dict[str, Sequence[Board]]) -> list[Cost]:
    """The costs of these panels over these families, dearest first."""
    now = time.time() - 60
    times = range(int(now) - HOUR - 300, int(now) + SCRAPE, SCRAPE)
    names = [name for replica in range(replicas) for metric in metrics for name in series(metric, replica)]
    samples = {name: [(float(at), 10.0 * i) for i, at in enumerate(times)] for name in names}
    with tempfile.TemporaryDirectory() as home, prometheus(Path(home), samples) as url:
        found = [cost for board, of_board in shown.items() for cost in costs(board, of_board, url, now)]
    return sorted(found, key=lambda cost: -cost[0])


def main() -> None:
    """Measure and print."""
    found = measured(8, list(catalog.families()), {name: panels(board) for name, board in BOARDS.items()})
    # The slo board reads recorded series only, one per SLO and window, however many replicas there are.
    for board in sorted(BOARDS.keys() - {"slo.json"}):
        print(f"8 replicas   {board:12} {sum(read for read, of, _ in found if of == board):>12,} samples, all panels")
    read, board, dearest = found[0]
    print(f"8 replicas   {board:12} {read:>12,} samples, the dearest panel: {dearest['title']}")
    asked = {s.name.removesuffix("_bucket") for t in dearest["targets"] for s in selectors(t["expr"])}
    [(read, _, _)] = measured(64, [m for m in catalog.families() if m.name in asked], {board: [dearest]})
    print(f"64 replicas  {board:12} {read:>12,} samples, the same panel")


if __name__ == "__main__":
    main()
