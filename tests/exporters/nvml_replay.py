"""The pynvml module over recorded answers: what the tests ask in place of a driver.

A capture is a file `tests/captures/nvml-NAME.json`: `{"about": TEXT, "calls": {CALL: ANSWER}, "smi": [...]}`. A call is
written as `function(gpu0, argument)`. Handles have names (gpu0, gpu0/mig1), a record is an object, an error is
`{"error": CODE}`, and field values and GPM metrics stand alone, whatever was asked together with them. "smi", which
captures made by hand lack, is what nvidia-smi said just before and just after (check_nvml.py).
"""

import ctypes
import json
import queue
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pynvml

CAPTURES = Path(__file__).parents[1] / "captures"
ALL_LINKS = 0xFFFFFFFF


def key(function: str, *arguments: object) -> str:
    """The name of a call in a capture."""
    return f"{function}({', '.join(map(str, arguments))})"


def capture(name: str) -> dict[str, Any]:
    """The calls of a file under tests/captures."""
    calls: dict[str, Any] = json.loads((CAPTURES / name).read_text())["calls"]
    return calls


class Replay:
    """Answers as `calls` says, which may be changed at any time; what it does not hold, the driver does not know.

    `asked` collects the calls and `unknown` those without an answer; `events` takes (handle, XID) pairs and errors.
    """

    def __init__(self, calls: dict[str, Any]) -> None:
        self.calls = calls
        self.asked: list[str] = []
        self.unknown: set[str] = set()
        self.events: queue.Queue[tuple[str, int] | int] = queue.Queue()
        self._names: list[str] = ["null"]  # a handle points to its place in this list
        self._of_sample: dict[int | None, str] = {}

    def __getattr__(self, name: str) -> Any:
        if name.startswith("nvml") and callable(getattr(pynvml, name)):
            return partial(self._answer, name)
        return getattr(pynvml, name)  # constants, errors and records

    def handle(self, name: str, kind: Any = pynvml.c_nvmlDevice_t) -> Any:
        """The handle of this name."""
        if name not in self._names:
            self._names.append(name)
        return ctypes.cast(self._names.index(name), kind)

    def fail(self, function: str, gpu: str, error: int) -> None:
        """Let a function of a GPU (`*`: all functions) answer with an error code from now on."""
        for call in self.calls:
            if f"({gpu}" in call and call.startswith("" if function == "*" else function + "("):
                self.calls[call] = {"error": error}

    def nvmlInit(self) -> None:  # noqa: N802 - NVML's names
        self._answer("nvmlInit")

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.asked.append("nvmlShutdown()")

    def nvmlDeviceGetFieldValues(self, gpu: Any, ids: list[Any]) -> list[Any]:  # noqa: N802
        self.asked.append(key("nvmlDeviceGetFieldValues", self._name(gpu)))
        return [self._field(self._name(gpu), field) for field in ids]

    def _field(self, gpu: str, field: Any) -> Any:
        number, scope = field if isinstance(field, tuple) else (field, 0)
        call = key("nvmlDeviceGetFieldValues", gpu, number, *([scope] if scope else []))
        answer = self.calls.get(call, {"nvmlReturn": pynvml.NVML_ERROR_NOT_SUPPORTED})
        value = answer.get("value", 0)
        members = dict.fromkeys(("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal"), value)
        return SimpleNamespace(
            nvmlReturn=answer.get("nvmlReturn", 0),
            valueType=answer.get("valueType", 0),
            value=SimpleNamespace(**members),
        )

    def nvmlEventSetCreate(self) -> Any:  # noqa: N802
        return self.handle("events")

    def nvmlEventSetWait_v2(self, _events: Any, milliseconds: int) -> Any:  # noqa: N802
        try:
            event = self.events.get(timeout=milliseconds / 1000)
        except queue.Empty:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_TIMEOUT) from None
        if isinstance(event, int):
            raise pynvml.NVMLError(event)
        return SimpleNamespace(device=self.handle(event[0]), eventData=event[1])

    def nvmlGpmSampleAlloc(self) -> Any:  # noqa: N802
        return self.handle(f"sample{len(self._names)}", pynvml.c_nvmlGpmSample_t)

    def nvmlGpmSampleGet(self, gpu: Any, sample: Any) -> None:  # noqa: N802
        self._answer("nvmlGpmSampleGet", gpu)
        self._of_sample[_address(sample)] = self._name(gpu)

    def nvmlGpmMigSampleGet(self, gpu: Any, instance: int, sample: Any) -> None:  # noqa: N802
        self._answer("nvmlGpmMigSampleGet", gpu, instance)
        self._of_sample[_address(sample)] = f"{self._name(gpu)}/gi{instance}"

    def nvmlGpmMetricsGet(self, request: Any) -> Any:  # noqa: N802
        self.asked.append("nvmlGpmMetricsGet()")
        whose = self._of_sample[_address(request.sample2)]
        for slot in request.metrics[: request.numMetrics]:
            answer = self.calls.get(key("nvmlGpmMetricsGet", whose, slot.metricId), {"nvmlReturn": 3})
            slot.nvmlReturn, slot.value = answer.get("nvmlReturn", 0), answer.get("value", 0)
        return request

    def _answer(self, function: str, *arguments: Any) -> Any:
        call = key(function, *map(self._name, arguments))
        self.asked.append(call)
        if call not in self.calls:
            self.unknown.add(call)
            raise pynvml.NVMLError(pynvml.NVML_ERROR_FUNCTION_NOT_FOUND)
        answer = self.calls[call]
        if isinstance(answer, dict) and "error" in answer:
            raise pynvml.NVMLError(answer["error"])
        if isinstance(answer, dict) and "handle" in answer:
            return self.handle(answer["handle"])
        if isinstance(answer, list):
            return [SimpleNamespace(**one) if isinstance(one, dict) else one for one in answer]
        return SimpleNamespace(**answer) if isinstance(answer, dict) else answer

    def _name(self, argument: Any) -> Any:
        return argument if isinstance(argument, (int, str)) else self._names[_address(argument) or 0]


def _address(handle: Any) -> int | None:
    return ctypes.cast(handle, ctypes.c_void_p).value
