"""One inference engine on one GPU as a queueing model: continuous batching over a paged KV cache.

There is no clock here: times are arguments, in seconds since the engine started. A step is scheduled at its start and
completed at its end, so whoever drives the model decides whether time is virtual or real. The rules are vLLM's: running
requests go first, oldest first; prompts are computed in chunks that fit the step's token budget; a request that cannot
get a block pushes the youngest running one back to the queue, which loses its KV cache and computes it again.
"""

import random
from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum

from loadgen.simulator.gpu import GpuMeter, Load
from loadgen.simulator.kv import BlockPool, Lease
from loadgen.simulator.stats import EngineStats, Timings

POSITIVE = (
    "max_model_len",
    "max_num_seqs",
    "max_num_batched_tokens",
    "block_size",
    "kv_blocks",
    "step_seconds",
    "mean_output_tokens",
    "clock",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineConfig:
    """Limits and speeds of the engine; the defaults resemble an 8B model on one data-centre GPU.

    A step takes `step_seconds` (one pass over the weights), `sequence_seconds` for every decoding sequence and
    `prefill_token_seconds` for every prompt token, all of it times 1 ± `jitter`. The length of the context
    costs blocks and no time. Where `clock`, the share of its full clock that the GPU runs at, is below 1, everything
    takes longer; `withheld_blocks` are in use by nobody. ValueError when a limit makes no sense.
    """

    max_model_len: int = 32_768
    max_num_seqs: int = 256
    max_num_batched_tokens: int = 2048
    block_size: int = 16
    kv_blocks: int = 24_576
    step_seconds: float = 0.008
    sequence_seconds: float = 0.000_03
    prefill_token_seconds: float = 1 / 25_000
    jitter: float = 0.03
    mean_output_tokens: float = 256.0
    clock: float = 1.0
    withheld_blocks: int = 0

    def __post_init__(self) -> None:
        for name in POSITIVE:
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}, but must be more than 0")
        if self.kv_blocks * self.block_size < self.max_model_len:
            raise ValueError(
                f"{self.kv_blocks} KV blocks hold {self.kv_blocks * self.block_size} tokens, fewer than max_model_len "
                f"{self.max_model_len}: give at least {-(-self.max_model_len // self.block_size)} blocks"
            )


class FinishReason(StrEnum):
    """Why a request ended by itself."""

    STOP = "stop"
    LENGTH = "length"


@dataclass(slots=True, eq=False, kw_only=True)
class Request:
    """One request. `output_tokens` is the length its answer will have; times are nan until they happened."""

    arrival: float
    prompt_tokens: int
    max_tokens: int
    output_tokens: int
    finish_reason: FinishReason
    block_hashes: tuple[int, ...] = ()
    lease: Lease = field(default_factory=Lease)
    cached_tokens: int = 0
    computed: int = 0
    generated: int = 0
    preemptions: int = 0
    aborted: bool = False
    scheduled: float = float("nan")
    first_token: float = float("nan")
    last_token: float = float("nan")

    @property
    def missing(self) -> int:
        """Tokens whose KV is still to compute: 1 while decoding."""
        return self.prompt_tokens + self.generated - self.computed

    @property
    def finished(self) -> bool:
        """Whether the whole answer is there."""
        return self.generated == self.output_tokens

    def timings(self) -> Timings:
        """The phases of a finished request. As in vLLM, the TPOT of a one-token answer is 0."""
        decode = self.last_token - self.first_token
        return Timings(
            ttft=self.first_token - self.arrival,
            e2e=self.last_token - self.arrival,
            queue=self.scheduled - self.arrival,
            prefill=self.first_token - self.scheduled,
            decode=decode,
            inference=self.last_token - self.scheduled,
            tpot=decode / (self.generated - 1) if self.generated > 1 else 0.0,
        )


@dataclass(frozen=True, slots=True)
class Step:
    """One engine step: how many tokens of which request are computed between `start` and `end`."""

    work: tuple[tuple[Request, int], ...]
    load: Load

    @property
    def end(self) -> float:
        """When its tokens are there."""
        return self.load.end


class Engine:
    """The model's state. `config` may be replaced while it runs; the size of the block pool stays."""

    def __init__(self, config: EngineConfig, seed: int = 0) -> None:
        self.config = config
        self.pool = BlockPool(config.kv_blocks)
        self.stats = EngineStats(config.max_model_len)
        self.gpu = GpuMeter()
        self.running: list[Request] = []
        self.waiting: deque[Request] = deque()
        self._random = random.Random(seed)
        self._time = 0.0

    def submit(
        self,
        arrival: float,
        prompt_tokens: int,
        max_tokens: int,
        *,
        ignore_eos: bool = True,
        block_hashes: tuple[int, ...] = (),
    ) -> Request:
        """Queue a request; it is served from the first step that starts at or after `arrival`.

        `block_hashes` identify the prompt's full blocks, each with all that is before it. Without `ignore_eos` the
        answer ends at a random length. ValueError when prompt and answer do not fit the context.
        """
        if prompt_tokens < 1 or max_tokens < 1 or prompt_tokens + max_tokens > self.config.max_model_len:
            raise ValueError(
                f"{prompt_tokens} prompt tokens and {max_tokens} output tokens do not fit: each must be at least 1 and "
                f"their sum at most {self.config.max_model_len}"
            )
        natural = max_tokens + 1 if ignore_eos else self._natural_length()
        request = Request(
            arrival=arrival,
            prompt_tokens=prompt_tokens,
            max_tokens=max_tokens,
            output_tokens=min(natural, max_tokens),
            finish_reason=FinishReason.STOP if natural <= max_tokens else FinishReason.LENGTH,
            block_hashes=block_hashes,
        )
        self.waiting.append(request)
        return request

    def abort(self, request: Request) -> None:
        """Forget a request whose client has gone. Like vLLM, nothing counts it; a finished one is left alone."""
        if request.finished or request.aborted:
            return
        request.aborted = True
        self.pool.release(request.lease)
        (self.running if request in self.running else self.waiting).remove(request)

    def next_start(self) -> float | None:
        """When the next step can start; None while there is nothing to do."""
        if self.running:
            return self._time
        return max(self._time, self.waiting[0].arrival) if self.waiting else None

    def step(self, now: float) -> Step:
        """Schedule a step at `now` and complete it at once: for virtual time."""
        step = self.schedule(now)
        self.complete(step)
        return step

    def schedule(self, now: float) -> Step:
        """Choose the work of the step that starts at `now` and how long it takes."""
        self.pool.withheld = self.config.withheld_blocks
        preemptions = self.stats.preemptions
        work, budget = self._continue_running()
        if self.stats.preemptions == preemptions:
            work += self._admit(budget, now)
        step = Step(tuple(work), self._load(work, now))
        self._time = step.end
        return step

    def complete(self, step: Step) -> list[Request]:
        """Book the step at its end: each request returned, aborted ones excepted, has got one more token by then."""
        emitted = [request for request, tokens in step.work if not request.aborted and self._computed(request, tokens)]
        if emitted:
            prefilled = sum(r.prompt_tokens - r.cached_tokens for r in emitted if r.generated == 0)
            self.stats.iteration_tokens.observe(prefilled + len(emitted))
        for request in emitted:
            self._emit(request, step.end)
        self.running = [request for request in self.running if not request.finished]
        self.gpu.record(step.load)
        return emitted

    def _natural_length(self) -> int:
        return 1 + int(self._random.expovariate(1 / self.config.mean_output_tokens))

    def _continue_running(self) -> tuple[list[tuple[Request, int]], int]:
        work: list[tuple[Request, int]] = []
        budget = self.config.max_num_batched_tokens
        while len(work) < len(self.running) and budget:
            request = self.running[len(work)]
            tokens = min(request.missing, budget)
            if self._grow(request, tokens):
                work.append((request, tokens))
                budget -= tokens
            else:
                self._preempt(self.running.pop())
        return work, budget

    def _admit(self, budget: int, now: float) -> list[tuple[Request, int]]:
        work: list[tuple[Request, int]] = []
        while budget and self.waiting and len(self.running) < self.config.max_num_seqs:
            request = self.waiting[0]
            if request.arrival > now:
                break
            # At least one token is always computed: the answer's next token comes out of it.
            hashes = request.block_hashes[: (request.missing - 1) // self.config.block_size]
            hits = hashes[: self.pool.lookup(hashes)]
            cached = len(hits) * self.config.block_size
            tokens = min(request.missing - cached, budget)
            if not self.pool.grow(request.lease, self._blocks(cached + tokens), hits):
                break
            self._start(self.waiting.popleft(), cached, now)
            work.append((request, tokens))
            budget -= tokens
        return work

    def _start(self, request: Request, cached: int, now: float) -> None:
        self.running.append(request)
        request.computed = cached
        if request.preemptions:
            return
        request.scheduled = now
        request.cached_tokens = cached
        self.stats.prefix_queries += request.prompt_tokens
        self.stats.prefix_hits += cached

    def _preempt(self, request: Request) -> None:
        self.pool.release(request.lease)
        request.computed = 0
        request.preemptions += 1
        self.stats.preemptions += 1
        self.waiting.appendleft(request)

    def _grow(self, request: Request, tokens: int) -> bool:
        return self.pool.grow(request.lease, self._blocks(request.computed + tokens))

    def _blocks(self, tokens: int) -> int:
        return -(-tokens // self.config.block_size)

    def _load(self, work: list[tuple[Request, int]], now: float) -> Load:
        config = self.config
        decoding = sum(request.generated > 0 and request.missing == 1 for request, _ in work)
        prefill = (sum(tokens for _, tokens in work) - decoding) * config.prefill_token_seconds
        seconds = config.step_seconds + decoding * config.sequence_seconds + prefill
        noise = self._random.uniform(1 - config.jitter, 1 + config.jitter) / config.clock
        batch = min(1.0, decoding / config.max_num_seqs)
        return Load(now, now + seconds * noise, prefill / seconds, batch, config.clock)

    def _computed(self, request: Request, tokens: int) -> bool:
        """Book computed tokens and publish the blocks they fill; True when the next token of the answer is there."""
        before, size = request.computed, self.config.block_size
        request.computed += tokens
        for block in request.block_hashes[before // size : request.computed // size]:
            self.pool.publish(request.lease, block)
        return not request.missing

    def _emit(self, request: Request, now: float) -> None:
        stats = self.stats
        if request.generated:
            stats.itl.observe(now - request.last_token)
        else:
            request.first_token = now
            stats.ttft.observe(now - request.arrival)
            stats.prompt_tokens += request.prompt_tokens
            stats.cached_prompt_tokens += request.cached_tokens
        request.generated += 1
        request.last_token = now
        stats.generation_tokens += 1
        if request.finished:
            self._finish(request)

    def _finish(self, request: Request) -> None:
        self.pool.release(request.lease)
        stats = self.stats
        stats.finished[request.finish_reason] += 1
        stats.observe_phases(request.timings())
        stats.request_preemptions.observe(request.preemptions)
        stats.request_prompt_tokens.observe(request.prompt_tokens)
        stats.prefill_computed_tokens.observe(request.prompt_tokens - request.cached_tokens)
        stats.request_generation_tokens.observe(request.generated)
        stats.max_generation_tokens.observe(request.generated)
        stats.params_max_tokens.observe(request.max_tokens)
        stats.params_n.observe(1)
