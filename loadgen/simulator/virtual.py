"""Drives the model through a list of arrivals in virtual time: at once, and always with the same numbers."""

import random
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from loadgen.simulator.model import Engine, Request


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """A request that comes at `time` (seconds); the other fields are those of `Engine.submit`."""

    time: float
    prompt_tokens: int
    max_tokens: int
    ignore_eos: bool = True
    block_hashes: tuple[int, ...] = ()


def poisson(rate: float, count: int, *, prompt_tokens: int, max_tokens: int, seed: int = 0) -> list[Arrival]:
    """`count` equal requests of a Poisson process with `rate` requests a second."""
    rng, now, arrivals = random.Random(seed), 0.0, []
    for _ in range(count):
        now += rng.expovariate(rate)
        arrivals.append(Arrival(time=now, prompt_tokens=prompt_tokens, max_tokens=max_tokens))
    return arrivals


def drive(engine: Engine, arrivals: Iterable[Arrival]) -> list[Request]:
    """Serve `arrivals`, which must be in order of time, to the end; the requests come back in the same order."""
    pending, requests = deque(arrivals), list[Request]()
    while pending or engine.next_start() is not None:
        start = engine.next_start()
        now = pending[0].time if start is None else start
        while pending and pending[0].time <= now:
            requests.append(_submit(engine, pending.popleft()))
        engine.step(now)
    return requests


def _submit(engine: Engine, arrival: Arrival) -> Request:
    return engine.submit(
        arrival.time,
        arrival.prompt_tokens,
        arrival.max_tokens,
        ignore_eos=arrival.ignore_eos,
        block_hashes=arrival.block_hashes,
    )
