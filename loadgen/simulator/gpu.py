"""The simulated GPU: power, energy and utilisation that follow from what the engine's steps do.

A step of the engine draws IDLE_WATTS + (POWER_LIMIT_WATTS - IDLE_WATTS) * (0.35 + 0.40 * prefill + 0.25 * batch), where
`prefill` is the share of the step spent on prompt tokens (compute-bound, tensor cores) and `batch` the share of
`max_num_seqs` that decodes (memory-bound). Between steps it draws IDLE_WATTS. What a step draws above that shrinks with
the clock. Nothing here was measured on a GPU.
"""

from collections import deque
from dataclasses import dataclass

IDLE_WATTS = 70.0
POWER_LIMIT_WATTS = 700.0
MEMORY_BYTES = 80 * 1024.0**3
MEMORY_UTILIZATION = 0.9  # like vLLM, weights and KV pool are taken at start, so memory in use never moves
HOT_CELSIUS = 92  # of a GPU that heat slows down, whatever it draws
SM_CLOCK_HERTZ = 1_755e6
MEMORY_CLOCK_HERTZ = 2_619e6
WINDOW = 1.0  # seconds that gauges average over


@dataclass(frozen=True, slots=True)
class Load:
    """What the GPU did from `start` to `end` (seconds): shares 0..1 of prefill in it and of the batch that decoded.

    `clock` is the share of the full clock that it ran at.
    """

    start: float
    end: float
    prefill: float
    batch: float
    clock: float = 1.0

    @property
    def watts(self) -> float:
        """Draw of the board during this load."""
        activity = 0.35 + 0.40 * self.prefill + 0.25 * self.batch
        return IDLE_WATTS + (POWER_LIMIT_WATTS - IDLE_WATTS) * activity * self.clock


@dataclass(frozen=True, slots=True)
class GpuState:
    """Averages over the last WINDOW seconds, and the energy in joules since the start."""

    utilization: float
    power_watts: float
    energy_joules: float
    tensor_active: float
    dram_active: float

    @property
    def temperature_celsius(self) -> float:
        """Warmer with power: 35 when idle, 80 at the power limit."""
        return 30.0 + self.power_watts / 14.0


class GpuMeter:
    """Adds up loads; `read` says what a GPU monitor would show at that time. Loads come in order and do not overlap."""

    def __init__(self) -> None:
        self._recent: deque[Load] = deque()
        self._joules_above_idle = 0.0

    def record(self, load: Load) -> None:
        """Add one step of the engine."""
        self._joules_above_idle += (load.watts - IDLE_WATTS) * (load.end - load.start)
        self._recent.append(load)
        self._forget(load.end)

    def read(self, now: float) -> GpuState:
        """The state at `now`, seconds since the start and not before the end of the last load."""
        self._forget(now)
        shares = [((load.end - max(load.start, now - WINDOW)) / WINDOW, load) for load in self._recent]
        return GpuState(
            utilization=min(1.0, sum(share for share, _ in shares)),
            power_watts=IDLE_WATTS + sum(share * (load.watts - IDLE_WATTS) for share, load in shares),
            energy_joules=IDLE_WATTS * now + self._joules_above_idle,
            tensor_active=sum(share * (0.6 * load.prefill + 0.1 * load.batch) for share, load in shares),
            dram_active=sum(share * (0.8 - 0.5 * load.prefill) for share, load in shares),
        )

    def _forget(self, now: float) -> None:
        while self._recent and self._recent[0].end <= now - WINDOW:
            self._recent.popleft()
