"""Hold every GPU signal of the sidecar against nvidia-smi, on real hardware:

    python tests/exporters/check_nvml.py [--rounds 5] [--capture FILE --about TEXT] [--json]
    python tests/exporters/check_nvml.py --replay tests/captures/nvml-NAME.json

In each round the sidecar's reader reads between two readings of `nvidia-smi --query-gpu`. A signal agrees when its
value lies between them in every round; it is explained when it moves faster than that, or when nvidia-smi cannot tell
it; all else disagrees, and the exit code is 1. Every call to NVML is timed, and, for root, made once more as nobody.

`--capture` writes what the driver answers, in the format of nvml_replay.py, with the two readings of nvidia-smi beside:
`{"about": TEXT, "calls": {CALL: ANSWER}, "smi": [{UUID: {FIELD: TEXT}}, {UUID: {FIELD: TEXT}}]}`. `--replay` checks
such a file, without a GPU; a test does so with every capture that has an "smi".
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pynvml

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parent)]
from nvml_replay import Replay  # noqa: E402
from record_nvml import record  # noqa: E402

from exporters.gpus.cells import Cell  # noqa: E402
from exporters.gpus.nvml import NvmlReader  # noqa: E402
from exporters.model import GpuReading, SourceError  # noqa: E402
from slo import catalog  # noqa: E402
from slo.gpus.table import throttle_reasons  # noqa: E402

NOBODY = 65534
MIB = 2**20
Smi = Mapping[str, Mapping[str, str]]


class Signal(NamedTuple):
    """What nvidia-smi calls it, what turns its unit into ours, how near is equal, and why it may move in between."""

    field: str
    scale: float = 1.0
    near: float = 0.0
    moves: str = ""


_WINDOW = "each reading has a sampling window of its own (1/6 s to 1 s)"
_CLOCK = "clocks change within milliseconds"
_RUNS = "it counts on while it is read"
SIGNALS: dict[Cell, Signal] = {
    (catalog.GPU_UTILIZATION, ""): Signal("utilization.gpu", 0.01, 0.01, _WINDOW),
    (catalog.GPU_MEMORY_UTILIZATION, ""): Signal("utilization.memory", 0.01, 0.01, _WINDOW),
    (catalog.GPU_MEMORY_USED, ""): Signal("memory.used", MIB, MIB),
    (catalog.GPU_MEMORY_FREE, ""): Signal("memory.free", MIB, MIB),
    (catalog.GPU_MEMORY_RESERVED, ""): Signal("memory.reserved", MIB, MIB),
    (catalog.GPU_POWER, ""): Signal("power.draw", 1.0, 1.0, _WINDOW),
    (catalog.GPU_POWER_LIMIT, ""): Signal("enforced.power.limit", 1.0, 0.01),
    (catalog.GPU_TEMPERATURE, ""): Signal("temperature.gpu", 1.0, 1.0),
    (catalog.GPU_MEMORY_TEMPERATURE, ""): Signal("temperature.memory", 1.0, 1.0),
    (catalog.GPU_SM_CLOCK, ""): Signal("clocks.sm", 1e6, 0.0, _CLOCK),
    (catalog.GPU_MEMORY_CLOCK, ""): Signal("clocks.mem", 1e6, 0.0, _CLOCK),
    (catalog.GPU_ECC_ERRORS, "corrected"): Signal("ecc.errors.corrected.aggregate.total"),
    (catalog.GPU_ECC_ERRORS, "uncorrected"): Signal("ecc.errors.uncorrected.aggregate.total"),
    (catalog.GPU_REMAPPED_ROWS, "corrected"): Signal("remapped_rows.correctable"),
    (catalog.GPU_REMAPPED_ROWS, "uncorrected"): Signal("remapped_rows.uncorrectable"),
    (catalog.GPU_ROW_REMAP_PENDING, ""): Signal("remapped_rows.pending"),
    (catalog.GPU_ROW_REMAP_FAILURE, ""): Signal("remapped_rows.failure"),
    **{
        (catalog.GPU_THROTTLED_SECONDS, label): Signal(f"clocks_event_reasons_counters.{name}", 1e-6, 1e-3, _RUNS)
        for label, name in {
            "power_cap": "sw_power_cap",
            "sync_boost": "sync_boost",
            "sw_thermal": "sw_thermal_slowdown",
            "hw_thermal": "hw_thermal_slowdown",
            "hw_power_brake": "hw_power_brake_slowdown",
        }.items()
    },
}
_REASONS = "clocks_event_reasons.active"
_FIELDS = ("uuid", "name", "driver_version", _REASONS, *(signal.field for signal in SIGNALS.values()))
_WAITS = "nvmlEventSetWait_v2"  # for events, on a thread of its own: how long says nothing
_UNASKED = "nvidia-smi --query-gpu has no such field"


class Row(NamedTuple):
    """One signal of one GPU: agree, explained or disagree, what we read, nvidia-smi's bracket, and the explanation."""

    gpu: str
    signal: str
    outcome: str
    ours: str
    bracket: str
    note: str = ""


class Round(NamedTuple):
    """One reading between two of nvidia-smi; `at` in seconds."""

    before: Smi
    gpus: Mapping[str, GpuReading]
    after: Smi
    at: float


def nvidia_smi(program: str) -> Smi:
    """Field -> text of every GPU, by UUID; fields that this release does not know are left out."""
    asked = list(_FIELDS)
    while True:
        command = [program, f"--query-gpu={','.join(asked)}", "--format=csv,noheader,nounits"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        unknown = [field for field in asked if f'"{field}" is not a valid field' in done.stdout + done.stderr]
        if not unknown:
            break
        asked = [field for field in asked if field not in unknown]
    if done.returncode:
        raise SystemExit(f"{program}: exit code {done.returncode}: {(done.stderr or done.stdout).strip()}")
    rows = [dict(zip(asked, map(str.strip, line.split(",")), strict=True)) for line in done.stdout.splitlines()]
    return {row["uuid"]: row for row in rows}


def number(text: str | None) -> float | None:
    """A value as nvidia-smi writes it; None for what is not told, such as [N/A]."""
    if text in ("Yes", "No"):
        return float(text == "Yes")
    try:
        return float(int(text, 16)) if text and text.startswith("0x") else float(text or "")
    except ValueError:
        return None


def compare(rounds: Sequence[Round]) -> Iterator[Row]:
    """A row per signal that either side tells, of every GPU of the last round."""
    for uuid, last in rounds[-1].gpus.items():
        if last.parent:
            continue  # nvidia-smi has no rows for instances
        bare = [_Seen(one.before[uuid], one.gpus[uuid], one.after[uuid], one.at) for one in rounds]
        yield _identity(uuid, bare[-1])
        yield _reasons(uuid, bare)
        cells = _cells(last)
        for cell in dict.fromkeys([*SIGNALS, *cells]):
            if cell[0] == catalog.GPU_ENERGY:
                yield _energy(uuid, bare)
            elif cell in SIGNALS:
                yield _signal(uuid, cell, bare)
            elif cell[0] != catalog.GPU_THROTTLED:
                yield _unasked(uuid, cell, cells[cell])


class _Seen(NamedTuple):
    before: Mapping[str, str]
    gpu: GpuReading
    after: Mapping[str, str]
    at: float


def _cells(gpu: GpuReading) -> dict[Cell, float]:
    plain: dict[Cell, float] = {(metric, ""): value for metric, value in gpu.values.items()}
    return plain | {(m, label): value for m, labels in gpu.labelled.items() for label, value in labels.items()}


def _signal(uuid: str, cell: Cell, seen: Sequence[_Seen]) -> Row:
    signal, name = SIGNALS[cell], _name(cell)
    told = [[number(side.get(signal.field)) for side in (one.before, one.after)] for one in seen]
    ours = [_cells(one.gpu).get(cell) for one in seen]
    pairs = [
        (mine, [value * signal.scale for value in pair if value is not None])
        for mine, pair in zip(ours, told, strict=True)
    ]
    shown, bracket = _shown(pairs[-1][0]), " .. ".join(map(_shown, pairs[-1][1])) or "-"
    row = partial(Row, uuid, name, ours=shown, bracket=bracket)
    if all(mine is None for mine in ours):
        nobody = not any(pair for _, pair in pairs)
        return row("agree", note="neither tells it") if nobody else row("disagree", note="only nvidia-smi tells it")
    if not all(pair for _, pair in pairs):
        return row("explained", note="nvidia-smi does not tell it here")
    outside = sum(mine is None or not _within(mine, pair, signal.near) for mine, pair in pairs)
    if not outside:
        return row("agree")
    moved = signal.moves and (outside < len(pairs) or len(pairs) == 1)
    note = f"outside in {outside} of {len(pairs)} rounds"
    return row("explained", note=f"{note}: {signal.moves}") if moved else row("disagree", note=note)


def _within(value: float, bracket: Sequence[float], near: float) -> bool:
    # nvidia-smi rounds to what it prints: half of the last digit on either side is no difference.
    slack = near + 1e-6 * abs(value)
    return min(bracket) - slack <= value <= max(bracket) + slack


def _identity(uuid: str, seen: _Seen) -> Row:
    ours = f"{seen.gpu.name}, driver {seen.gpu.driver}"
    theirs = f"{seen.after['name']}, driver {seen.after['driver_version']}"
    return Row(uuid, "name and driver", "agree" if ours == theirs else "disagree", ours, theirs)


def _reasons(uuid: str, seen: Sequence[_Seen]) -> Row:
    """The reasons that hold clocks down are bits: those of the reading before or of the one after."""
    ours = [{reason for reason, on in one.gpu.labelled.get(catalog.GPU_THROTTLED, {}).items() if on} for one in seen]
    theirs = [[_decoded(side.get(_REASONS)) for side in (one.before, one.after)] for one in seen]
    outside = sum(mine not in pair for mine, pair in zip(ours, theirs, strict=True))
    shown = [", ".join(sorted(reasons)) or "none" for reasons in (ours[-1], *theirs[-1])]
    outcome = "agree" if not outside else "explained" if outside < len(seen) or len(seen) == 1 else "disagree"
    note = f"outside in {outside} of {len(seen)} rounds: {_CLOCK}" if outside else ""
    return Row(uuid, catalog.GPU_THROTTLED.name, outcome, shown[0], " .. ".join(shown[1:]), note)


def _decoded(text: str | None) -> set[str]:
    return {reason for reason, on in throttle_reasons(int(number(text) or 0)).items() if on}


def _energy(uuid: str, seen: Sequence[_Seen]) -> Row:
    """Watts by the energy counter from the first round to the last, against what nvidia-smi saw in between."""
    joules = [one.gpu.values[catalog.GPU_ENERGY] for one in seen if catalog.GPU_ENERGY in one.gpu.values]
    powers = [
        p for one in seen for side in (one.before, one.after) if (p := number(side.get("power.draw"))) is not None
    ]
    name = catalog.GPU_ENERGY.name
    if len(joules) < 2 or not powers or len(joules) < len(seen):
        return Row(uuid, name, "explained", _shown(joules[-1]), "-", f"{_UNASKED}; its growth takes several rounds")
    watts = (joules[-1] - joules[0]) / (seen[-1].at - seen[0].at)
    near = _within(watts, powers, 0.1 * max(powers))
    bracket = f"{min(powers):.1f} .. {max(powers):.1f} W"
    note = "its growth per second against power.draw, 10 % allowed"
    return Row(uuid, name, "agree" if near else "disagree", f"{watts:.1f} W", bracket, note)


def _unasked(uuid: str, cell: Cell, value: float) -> Row:
    if cell[0].name.endswith("_ratio") and not 0 <= value <= 1:
        return Row(uuid, _name(cell), "disagree", _shown(value), "0 .. 1", "no ratio")
    return Row(uuid, _name(cell), "explained", _shown(value), "-", _UNASKED)


def _name(cell: Cell) -> str:
    return f"{cell[0].name}{{{cell[1]}}}" if cell[1] else cell[0].name


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.10g}"


class Timed:
    """The module `nvml`, noting how long every call took (s), and the last error."""

    def __init__(self, nvml: Any) -> None:
        self._nvml = nvml
        self.seconds: dict[str, list[float]] = {}
        self.errors: dict[str, str] = {}

    def __getattr__(self, name: str) -> Any:
        known = getattr(self._nvml, name)
        timed = name.startswith("nvml") and callable(known) and name != _WAITS
        return partial(self._call, name, known) if timed else known

    def _call(self, name: str, function: Callable[..., Any], *arguments: Any) -> Any:
        begin = time.perf_counter()
        try:
            return function(*arguments)
        except pynvml.NVMLError as error:
            self.errors[name] = str(error)
            raise
        finally:
            self.seconds.setdefault(name, []).append(time.perf_counter() - begin)

    def calls(self) -> dict[str, dict[str, Any]]:
        """Per function how often, median and longest in ms, and what it refused with."""
        return {
            name: {
                "calls": len(times),
                "median_ms": round(1e3 * statistics.median(times), 3),
                "longest_ms": round(1e3 * max(times), 3),
                "error": self.errors.get(name),
            }
            for name, times in sorted(self.seconds.items())
        }


def read_rounds(nvml: Any, smi: Callable[[], Smi], rounds: int, pause: float) -> list[Round]:
    """So many rounds after a first reading, which GPM needs. Raises SourceError."""
    reader, found = NvmlReader(nvml), []
    reader.read()
    for _ in range(rounds):
        time.sleep(pause)
        before, at = smi(), time.monotonic()
        gpus = {gpu.uuid: gpu for gpu in reader.read().gpus}
        found.append(Round(before, gpus, smi(), at))
    return found


def calls_as(uid: int, nvml: Any, pause: float) -> dict[str, Any]:
    """The calls of two readings by another user, in a process that gives up all that it may do more."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        with contextlib.suppress(SourceError):
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)
            timed = Timed(nvml)
            with contextlib.suppress(SourceError):
                read_rounds(timed, dict, 1, pause)
            os.write(write, json.dumps(timed.calls()).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        text = pipe.read()
    os.waitpid(child, 0)
    found: dict[str, Any] = json.loads(text or "{}")
    return found


def markdown(result: Mapping[str, Any]) -> str:
    """The page: signals, then calls."""
    parts = [f"# NVML against nvidia-smi, as {result['user']}", ""]
    parts += ["| GPU | signal | outcome | sidecar | nvidia-smi | |", "|---|---|---|---|---|---|"]
    parts += [f"| {' | '.join((row[0][-8:], *row[1:]))} |" for row in result["signals"]]
    parts += ["", "| call | calls | median, ms | longest, ms | error | as nobody |", "|---|---|---|---|---|---|"]
    for name, call in result["calls"].items():
        other = result["unprivileged"].get(name) if result["unprivileged"] else None
        nobody = "-" if not result["unprivileged"] else (other["error"] or "works") if other else "not reached"
        cells = (name, call["calls"], call["median_ms"], call["longest_ms"], call["error"] or "", nobody)
        parts.append(f"| {' | '.join(map(str, cells))} |")
    outcomes = [row[2] for row in result["signals"]]
    counted = ", ".join(f"{outcomes.count(kind)} {kind}" for kind in ("agree", "explained", "disagree"))
    return "\n".join([*parts, "", counted])


def check(args: argparse.Namespace) -> dict[str, Any]:
    """All of it. Raises SourceError where NVML shows nothing."""
    if args.replay:
        file = json.loads(args.replay.read_text())
        timed, sides = Timed(Replay(file["calls"])), iter(file["smi"])
        rounds, nobody = read_rounds(timed, lambda: next(sides), 1, 0.15), {}
    else:
        nvml = Replay(json.loads(args.nvml.read_text())["calls"]) if args.nvml else pynvml
        smi = partial(nvidia_smi, args.nvidia_smi)
        nobody = calls_as(NOBODY, nvml, args.pause) if os.geteuid() == 0 else {}
        timed = Timed(nvml)
        rounds = read_rounds(timed, smi, args.rounds, args.pause)
        if args.capture:
            args.capture.write_text(json.dumps(captured(nvml, smi, args.about), indent=1) + "\n")
    return {
        "user": f"user {os.geteuid()}",
        "signals": list(compare(rounds)),
        "calls": timed.calls(),
        "unprivileged": nobody,
    }


def captured(nvml: Any, smi: Callable[[], Smi], about: str) -> dict[str, Any]:
    """What the driver answers between two readings of nvidia-smi."""
    before = smi()
    calls = dict(sorted(record(nvml).items()))
    return {"about": about, "calls": calls, "smi": [before, smi()]}


def main() -> int:
    options = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = options.add_argument
    add("--rounds", type=int, default=5)
    add("--pause", type=float, default=1.0, help="seconds between rounds")
    add("--nvidia-smi", default="nvidia-smi", metavar="PROGRAM")
    add("--nvml", type=Path, metavar="CAPTURE", help="ask this capture in place of the driver")
    add("--capture", type=Path, metavar="FILE", help="write a capture for the tests")
    add("--about", default="recorded", help="what the capture is of: board, driver, load, user")
    add("--replay", type=Path, metavar="FILE", help="check a capture; asks neither driver nor nvidia-smi")
    add("--json", action="store_true", help="print one JSON object")
    args = options.parse_args()
    try:
        result = check(args)
    except SourceError as error:
        print(f"check_nvml: {error}", file=sys.stderr)
        return 2
    print(json.dumps(result) if args.json else markdown(result))
    return int(any(row.outcome == "disagree" for row in result["signals"]))


if __name__ == "__main__":
    sys.exit(main())
