"""False alarms and power of the regression gate: pairs of simulated runs, unchanged and with the second 10 % slower.

`bench_gate.py [PAIRS] [REQUESTS]`: 100 pairs of 600 requests by default; 1 000 take about 10 minutes on one core. The
engine is the simulator's in virtual time, at about half of its capacity; both runs of a pair are sent the same
schedule, as with the default seed, and each engine has noise of its own.
"""

import sys
from collections import Counter

from loadgen.judging.comparison import FALSE_ALARMS, compare
from loadgen.judging.regression import POWER, Outcome
from loadgen.results.baseline import Baseline
from loadgen.results.record import Client, Fingerprint
from loadgen.results.summary import Summary
from loadgen.simulator.model import Engine, EngineConfig
from loadgen.simulator.virtual import drive, poisson
from loadgen.traffic.arrivals import Load
from loadgen.traffic.workload import Workload

RATE, PROMPT, OUTPUT = 10.0, 512, 64


def run(schedule: int, noise: int, slow: float, requests: int) -> Baseline:
    """A run against an engine whose every step takes `slow` times as long."""
    usual = EngineConfig()
    config = EngineConfig(
        step_seconds=usual.step_seconds * slow,
        sequence_seconds=usual.sequence_seconds * slow,
        prefill_token_seconds=usual.prefill_token_seconds * slow,
    )
    arrivals = poisson(RATE, requests, prompt_tokens=PROMPT, max_tokens=OUTPUT, seed=schedule)
    timings = [request.timings() for request in drive(Engine(config, noise), arrivals)]
    return Baseline(
        started_unix_ns=0,
        fingerprint=Fingerprint(model="simulated", simulated=True),
        workload=Workload(prompt_tokens=PROMPT, output_tokens=OUTPUT, seed=schedule),
        load=Load(rate=RATE, arrivals="poisson", requests=requests),
        client=Client(version="0", python="3", event_loop="none", cores=1),
        summary=Summary(requests=requests),
        ttft=tuple(timing.ttft for timing in timings),
        tpot=tuple(timing.tpot for timing in timings),
        steady="none",
    )


def main() -> None:
    """Print both rates with their counts."""
    pairs, requests = (int(text) for text in (sys.argv[1:] + ["100", "600"][len(sys.argv) - 1 :]))
    for slow in (1.0, 1.1):
        failed: Counter[str] = Counter()
        for pair in range(pairs):
            old, new = run(pair, 2 * pair, 1.0, requests), run(pair, 2 * pair + 1, slow, requests)
            changes = compare([old], [new]).changes
            names = [change.name for change in changes if change.outcome is Outcome.FAIL]
            failed.update([*names, *(["gate"] if names else [])])
        stated = f"at most {FALSE_ALARMS:.0%}" if slow == 1.0 else f"at least {POWER:.0%} of TTFT p50 where printed"
        print(
            f"{slow:.2f} times as slow, {pairs} pairs of {requests} requests: failed {dict(failed)}; stated: {stated}"
        )


if __name__ == "__main__":
    main()
