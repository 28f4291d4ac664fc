"""NVML -> GPU readings, through the functions of the `pynvml` module (distribution nvidia-ml-py)."""

import contextlib
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from exporters.gpus.cells import OF_INSTANCE, Cell, reading
from exporters.gpus.gpm import Gpm
from exporters.gpus.ours import Wanted
from exporters.gpus.signals import LostError, Signals
from exporters.gpus.xid import XidLog, XidWatch
from exporters.model import GpuReading, GpuScrape, SourceError

_HINT = "give the container access to the GPUs and their driver, or choose --gpu dcgm or --gpu none"
# Seconds until a driver that did not start is tried again: twice as many each time.
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0


class _Session:
    """What holds between the start of the driver's library and its end."""

    def __init__(self, nvml: Any, errors: XidLog, clock: Callable[[], float], wall: Callable[[], float]) -> None:
        nvml.nvmlInit()
        self.driver: str = nvml.nvmlSystemGetDriverVersion()
        self.signals = Signals(nvml)
        self.gpm = Gpm(nvml, self.signals, clock)
        self.watch = XidWatch(nvml, errors, wall)


class NvmlReader:
    """Reads all GPUs that the process can see. Its calls block, and with a wedged driver for ever.

    `clock` counts seconds, `wall` is Unix time. GPUs that `ours` cannot mean are not asked.
    """

    def __init__(
        self,
        nvml: Any,
        ours: Wanted | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._nvml = nvml
        self._ours = ours
        self._clock = clock
        self._wall = wall
        self._session: _Session | None = None
        self._errors = XidLog()
        self._index: dict[str, str] = {}  # UUID -> the index it was first seen with: a lost GPU shifts the others'
        self._at: dict[int, str] = {}  # index -> the UUID it was last seen with: a lost GPU does not tell its own
        self._pause = _FIRST_PAUSE
        self._again = 0.0
        self._failure = ""

    def read(self) -> GpuScrape:
        """One reading. Raises SourceError when there is no driver or no GPU answers; it tries again with pauses."""
        if self._failure and self._clock() < self._again:
            raise SourceError(self._failure)
        try:
            session = self._session = self._session or _Session(self._nvml, self._errors, self._clock, self._wall)
            count = self._nvml.nvmlDeviceGetCount()
        except self._nvml.NVMLError as error:
            raise self._failed(f"NVML: {error}: {_HINT}") from None
        lost: dict[str, str] = {}
        gpus = tuple(self._read_all(session, count, lost))
        if not count:
            raise self._failed(f"NVML: 0 GPUs: {_HINT}")
        if not gpus and lost:
            reasons = "; ".join(f"{gpu}: {reason}" for gpu, reason in lost.items())
            raise SourceError(f"NVML: {count} GPUs, none that answers; {reasons}: {_HINT}")
        if not gpus:
            raise SourceError(f"NVML: none of its {count} GPUs is one that {self._ours and self._ours.origin} names")
        self._pause, self._failure = _FIRST_PAUSE, ""
        return GpuScrape(gpus, lost)

    def _failed(self, why: str) -> SourceError:
        """Start over, after a pause: drivers are installed and reloaded, devices are mounted late."""
        if self._session:
            self._session.watch.stop()
            with contextlib.suppress(self._nvml.NVMLError):
                self._nvml.nvmlShutdown()  # the library knows only the GPUs that were there when it began
        self._session, self._failure = None, why
        self._again, self._pause = self._clock() + self._pause, min(2 * self._pause, _LONGEST_PAUSE)
        return SourceError(why)

    def _read_all(self, session: _Session, count: int, lost: dict[str, str]) -> Iterator[GpuReading]:
        for index in range(count):
            try:
                gpu = self._nvml.nvmlDeviceGetHandleByIndex(index)
                uuid = self._at[index] = self._nvml.nvmlDeviceGetUUID(gpu)
                shown = self._index.setdefault(uuid, str(index))
                if self._ours is None or self._ours.may_hold(uuid, shown):
                    yield from self._read_one(session, uuid, gpu)
            except (self._nvml.NVMLError, LostError) as error:
                uuid = self._at.get(index, f"index {index}")
                lost[uuid] = str(error)
                if self._errors.came(uuid):  # what it was lost by, and which model ran on it
                    yield reading(self._errors.cells(uuid), uuid, self._index[uuid], driver=session.driver)

    def _read_one(self, session: _Session, uuid: str, gpu: Any) -> list[GpuReading]:
        index, driver = self._index[uuid], session.driver
        name = self._nvml.nvmlDeviceGetName(gpu)
        cells = session.signals.board(uuid, gpu)
        if session.signals.ask(uuid, "xid", lambda: session.watch.add(uuid, gpu)):
            cells |= self._errors.cells(uuid)
        instances = list(self._instances(session, uuid, gpu))
        if instances:
            cells = {cell: value for cell, value in cells.items() if cell[0] not in OF_INSTANCE}
        else:
            cells |= session.gpm.read(uuid, gpu)
        return [reading(cells, uuid, index, name=name, driver=driver), *instances]

    def _instances(self, session: _Session, parent: str, gpu: Any) -> Iterator[GpuReading]:
        nvml, ask = self._nvml, session.signals.ask
        mode = ask(parent, "mig", lambda: nvml.nvmlDeviceGetMigMode(gpu))
        if mode is None or mode[0] != nvml.NVML_DEVICE_MIG_ENABLE:
            return
        for number in range(nvml.nvmlDeviceGetMaxMigDeviceCount(gpu)):
            find = partial(nvml.nvmlDeviceGetMigDeviceHandleByIndex, gpu, number)
            mig = ask(parent, f"instance {number}", find)
            if mig is None:
                continue  # no instance has this number
            uuid, name = nvml.nvmlDeviceGetUUID(mig), nvml.nvmlDeviceGetName(mig)
            cells: dict[Cell, float] = session.signals.instance(uuid, mig)
            cells |= session.gpm.read(uuid, gpu, nvml.nvmlDeviceGetGpuInstanceId(mig))
            index = f"{self._index[parent]}:{number}"
            yield reading(cells, uuid, index, name=name, driver=session.driver, parent=parent,
                          profile=name.rpartition(" ")[2])  # fmt: skip
