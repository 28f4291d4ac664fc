"""Does the sidecar's memory stay flat? An hour of scrapes, one every five seconds, as fast as they can be had.

    python tests/benchmarks/soak.py [--scrapes 720] [--seconds 300] [--json]

The engine shows eight data-parallel ranks. All its values move with every scrape, once a minute a client invents a new
HTTP handler, and every ten minutes the engine restarts with another model: what was remembered must go. The first
tenth warms up; what memory grows by after that is printed.
"""

import argparse
import itertools
import json
import re
import time

import httpx
from bench_scrape import DP8, pages, resident, serving, sidecar

_VALUE = re.compile(rb" (\d+)\.0$", re.MULTILINE)
MINUTE = 12  # scrapes
RESTART = 10 * MINUTE


def engine_page(page: bytes, scrape: int) -> bytes:
    """What the engine shows at the n-th scrape."""
    moved = _VALUE.sub(lambda match: b" %d.0" % (int(match[1]) + scrape % RESTART), page)
    handlers = range(scrape % RESTART // MINUTE)
    invented = (b'http_requests_total{handler="/%d/%d",method="GET",status="4xx"} 1.0\n' % (scrape // RESTART, i)
                for i in handlers)  # fmt: skip
    return moved.replace(b'model_name="', b'model_name="%d-' % (scrape // RESTART)) + b"".join(invented)


def soak(scrapes: int, seconds: float) -> list[float]:
    """Resident memory, in MiB, after every scrape; fewer when the time is up."""
    page, counter = pages()[DP8], itertools.count()
    until = time.monotonic() + seconds
    memory = []
    with (
        serving(lambda: engine_page(page, next(counter))) as engine,
        sidecar(engine) as (pid, url),
        httpx.Client(trust_env=False) as client,
    ):
        while len(memory) < scrapes and time.monotonic() < until:
            client.get(url).raise_for_status()
            memory.append(resident(pid))
    return memory


def main() -> None:
    options = argparse.ArgumentParser(description="Watch the sidecar's memory over an hour of scrapes, run together.")
    options.add_argument("--scrapes", type=int, default=720)
    options.add_argument("--seconds", type=float, default=300, help="the longest it may take")
    options.add_argument("--json", action="store_true", help="print one JSON object")
    args = options.parse_args()
    memory = soak(args.scrapes, args.seconds)
    warm = memory[len(memory) // 10 :]
    result = {"scrapes": len(memory), "warm_mib": warm[0], "last_mib": warm[-1], "most_mib": max(memory)}
    if args.json:
        print(json.dumps(result))
        return
    print(
        f"{len(memory)} scrapes: {warm[0]:.1f} MiB after the first tenth, {warm[-1]:.1f} MiB at the end, "
        f"{max(memory):.1f} MiB at most"
    )


if __name__ == "__main__":
    main()
