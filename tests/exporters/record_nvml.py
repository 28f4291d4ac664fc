"""Record what the driver of this machine answers, as a capture for the tests:

    python tests/exporters/record_nvml.py "H200, driver 580.95, idle" > tests/captures/nvml-h200.json

It holds what the sidecar asks in two readings, and every field id that the installed nvidia-ml-py knows.
"""

import json
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pynvml

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parent)]
from nvml_replay import ALL_LINKS, _address, key  # noqa: E402

from exporters.gpus.gpm import METRICS  # noqa: E402
from exporters.gpus.nvml import NvmlReader  # noqa: E402

# Answers that are not those of one call, or not the same twice.
_LEFT_OUT = ("nvmlEvent", "nvmlShutdown", "nvmlGpmSampleAlloc")


class Recorder:
    """The module `nvml`, noting every answer in `calls`."""

    def __init__(self, nvml: Any) -> None:
        self._nvml = nvml
        self._names: dict[int | None, str] = {}
        self.calls: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        known = getattr(self._nvml, name)
        return partial(self._call, name, known) if name.startswith("nvml") and callable(known) else known

    def _call(self, name: str, function: Any, *arguments: Any) -> Any:
        note = partial(self._note, name, arguments)
        try:
            answer = function(*arguments)
        except pynvml.NVMLError as error:
            note({"error": error.value})
            raise
        if name.endswith(("HandleByIndex", "DeviceHandleByIndex")):
            parent = f"{self._named(arguments[0])}/mig" if name.startswith("nvmlDeviceGetMig") else "gpu"
            self._names[_address(answer)] = f"{parent}{arguments[-1]}"
            note({"handle": self._names[_address(answer)]})
        elif name == "nvmlEventSetCreate":
            self._names[_address(answer)] = "events"
        elif name == "nvmlDeviceGetFieldValues":
            self._fields(arguments[0], arguments[1], answer)
        elif name == "nvmlGpmMetricsGet":
            self._gpm(answer)
        elif name.startswith("nvmlGpm") and name.endswith("SampleGet"):
            instance = f"/gi{arguments[1]}" if len(arguments) == 3 else ""
            self._names[_address(arguments[-1])] = self._named(arguments[0]) + instance
            self._note(name, arguments[:-1], None)
        else:
            note(plain(answer))
        return answer

    def _named(self, argument: Any) -> Any:
        return argument if isinstance(argument, (int, str)) else self._names.get(_address(argument))

    def _note(self, name: str, arguments: Any, answer: Any) -> None:
        if not name.startswith(_LEFT_OUT):
            names = [named for argument in arguments if (named := self._named(argument)) is not None]
            self.calls[key(name, *names)] = answer

    def _fields(self, gpu: Any, ids: list[Any], answers: Any) -> None:
        for field, answer in zip(ids, answers, strict=True):
            number, scope = field if isinstance(field, tuple) else (field, 0)
            noted = {"nvmlReturn": answer.nvmlReturn, "valueType": answer.valueType}
            if not answer.nvmlReturn:
                members = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")
                noted["value"] = getattr(answer.value, members[answer.valueType])
            self._note("nvmlDeviceGetFieldValues", (gpu, number, *([scope] if scope else [])), noted)

    def _gpm(self, request: Any) -> None:
        whose = self._names[_address(request.sample2)]
        for slot, _ in zip(request.metrics, METRICS, strict=False):
            noted = {"nvmlReturn": slot.nvmlReturn, "value": slot.value}
            self._note("nvmlGpmMetricsGet", (whose, slot.metricId), noted)


def plain(answer: Any) -> Any:
    """An answer as JSON has it."""
    if isinstance(answer, (list, tuple)):
        return [plain(one) for one in answer]
    if hasattr(answer, "_fields_"):
        return {name: plain(getattr(answer, name)) for name, *_ in answer._fields_}
    return vars(answer) if hasattr(answer, "__dict__") else answer


def record(nvml: Any, sleep: Any = time.sleep) -> dict[str, Any]:
    """The calls of two readings and a sweep over the field ids."""
    recorder = Recorder(nvml)
    reader = NvmlReader(recorder)
    reader.read()
    sleep(0.2)
    reader.read()
    every = {
        value for name, value in vars(pynvml).items() if name.startswith("NVML_FI_DEV_") and isinstance(value, int)
    }
    for index in range(nvml.nvmlDeviceGetCount()):
        gpu = recorder.nvmlDeviceGetHandleByIndex(index)
        recorder.nvmlDeviceGetFieldValues(
            gpu, [*sorted(every), *((field, ALL_LINKS) for field in (138, 139, 202, 204))]
        )
    return recorder.calls


if __name__ == "__main__":
    about = sys.argv[1] if len(sys.argv) > 1 else "recorded"
    json.dump({"about": about, "calls": dict(sorted(record(pynvml).items()))}, sys.stdout, indent=1)
    print()
