"""XID errors: the driver's events, counted in a thread of their own, since the last code alone hides repetitions."""

import ctypes
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from exporters.gpus.cells import Cell
from slo import catalog

_WAIT_MS = 500
_PAUSE = 1.0  # seconds, after an error: it would come again at once
log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Errors:
    """Of one GPU: how often each code came, when it came last, and the last code."""

    counts: dict[int, int] = field(default_factory=dict)
    seen: dict[int, float] = field(default_factory=dict)
    last: int = 0


class XidLog:
    """What has come so far. It outlives the watch, which ends with the driver."""

    def __init__(self) -> None:
        self._errors: dict[str, _Errors] = {}
        self._lock = threading.Lock()

    def add(self, uuid: str, code: int, now: float) -> None:
        """Note one event, `now` in Unix time."""
        with self._lock:
            errors = self._errors.setdefault(uuid, _Errors())
            errors.counts[code] = errors.counts.get(code, 0) + 1
            errors.seen[code] = now
            errors.last = code

    def came(self, uuid: str) -> bool:
        """Whether any error of this GPU has come."""
        return uuid in self._errors

    def cells(self, uuid: str) -> dict[Cell, float]:
        """Of one GPU: the last code, and each code's count and time."""
        with self._lock:
            errors = self._errors.get(uuid, _Errors())
            cells: dict[Cell, float] = {(catalog.GPU_LAST_XID, ""): errors.last}
            cells |= {(catalog.GPU_XID_ERRORS, str(code)): n for code, n in errors.counts.items()}
            return cells | {(catalog.GPU_XID_LAST_SEEN, str(code)): at for code, at in errors.seen.items()}


class XidWatch:
    """Waits for events of the GPUs given to it, from the first one on until it is stopped."""

    def __init__(self, nvml: Any, errors: XidLog, clock: Callable[[], float]) -> None:
        self._nvml = nvml
        self._errors = errors
        self._clock = clock
        self._set: Any = None
        self._uuids: dict[int | None, str] = {}
        self._stop = threading.Event()

    def add(self, uuid: str, gpu: Any) -> bool:
        """Watch this GPU too. Raises NVMLError when the driver does not let us."""
        if uuid in self._uuids.values():
            return True
        nvml = self._nvml
        if self._set is None:
            self._set = nvml.nvmlEventSetCreate()
        nvml.nvmlDeviceRegisterEvents(gpu, nvml.nvmlEventTypeXidCriticalError, self._set)
        self._uuids[_address(gpu)] = uuid
        if len(self._uuids) == 1:
            threading.Thread(target=self._run, name="xid", daemon=True).start()
        return True

    def stop(self) -> None:
        """End within half a second; nothing waits for it."""
        self._stop.set()

    def _run(self) -> None:
        nvml, said = self._nvml, ""
        while not self._stop.is_set():
            try:
                event = nvml.nvmlEventSetWait_v2(self._set, _WAIT_MS)
            except nvml.NVMLError as error:
                if error.value == nvml.NVML_ERROR_TIMEOUT:
                    continue
                if str(error) != said:
                    said = str(error)
                    log.warning("waiting for XID errors: %s", said)
                self._stop.wait(_PAUSE)
            else:
                uuid = self._uuids.get(_address(event.device), "")
                log.warning("GPU %s: XID %d", uuid or "unknown", event.eventData)
                self._errors.add(uuid, int(event.eventData), self._clock())


def _address(handle: Any) -> int | None:
    """What two handles of the same GPU have in common: a lost GPU no longer tells its UUID."""
    return ctypes.cast(handle, ctypes.c_void_p).value
