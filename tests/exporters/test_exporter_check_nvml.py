"""check_nvml.py, which holds the sidecar against nvidia-smi on hardware, run on a capture and a stand-in."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
CAPTURES = HERE.parent / "captures"
H200 = CAPTURES / "nvml-handmade-h200.json"
# What nvidia-smi would print of the boards in that capture.
SAID = {
    "name": "NVIDIA H200",
    "driver_version": "580.95.05",
    "utilization.gpu": "87",
    "utilization.memory": "35",
    "memory.used": "133834",
    "memory.free": "9216",
    "memory.reserved": "721",
    "power.draw": "412.50",
    "enforced.power.limit": "700.00",
    "temperature.gpu": "54",
    "temperature.memory": "61",
    "clocks.sm": "1980",
    "clocks.mem": "3201",
    "ecc.errors.corrected.aggregate.total": "12",
    "ecc.errors.uncorrected.aggregate.total": "0",
    "remapped_rows.correctable": "1",
    "remapped_rows.uncorrectable": "0",
    "remapped_rows.pending": "No",
    "remapped_rows.failure": "No",
    "clocks_event_reasons.active": "0x0000000000000025",
    "clocks_event_reasons_counters.sw_power_cap": "5000000",
    "clocks_event_reasons_counters.sw_thermal_slowdown": "250000",
    "clocks_event_reasons_counters.hw_thermal_slowdown": "0",
    "clocks_event_reasons_counters.hw_power_brake_slowdown": "[N/A]",
}
SMI = """\
#!{python}
import sys
said = {said}
asked = sys.argv[1].removeprefix("--query-gpu=").split(",")
for field in asked:
    if field != "uuid" and field not in said:
        sys.exit(f'Field "{{field}}" is not a valid field to query.')
for uuid in ("GPU-aaaaaaaa-0000-0000-0000-000000000000", "GPU-bbbbbbbb-0000-0000-0000-000000000000"):
    print(", ".join(uuid if field == "uuid" else said[field] for field in asked))
"""


def smi(folder: Path, **changed: str) -> Path:
    """A program that answers as nvidia-smi does, with some answers changed (`.` is `__` in their names)."""
    path = folder / "nvidia-smi"
    said = SAID | {name.replace("__", "."): text for name, text in changed.items()}
    path.write_text(SMI.format(python=sys.executable, said=said))
    path.chmod(0o755)
    return path


def check(*arguments: object) -> tuple[int, dict[str, Any], dict[str, str]]:
    """Exit code, the whole result, and the outcome of every signal of the first GPU."""
    command = [sys.executable, HERE / "check_nvml.py", *arguments, "--pause", "0.15", "--json"]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout, done.stderr
    result = json.loads(done.stdout)
    return done.returncode, result, {row[1]: row[2] for row in reversed(result["signals"])}


def test_what_agrees_is_told_from_what_cannot_be_compared(tmp_path: Path) -> None:
    """Units, bits and counters of the capture are those nvidia-smi prints; what it has no field for is explained."""
    code, result, outcomes = check("--nvml", H200, "--nvidia-smi", smi(tmp_path), "--rounds", "1")
    assert code == 0, result["signals"]
    agreeing = {name for name, outcome in outcomes.items() if outcome == "agree"}
    assert agreeing >= {
        "name and driver", "llm_gpu_utilization_ratio", "llm_gpu_memory_used_bytes", "llm_gpu_power_watts",
        "llm_gpu_sm_clock_hertz", "llm_gpu_throttled", "llm_gpu_throttled_seconds_total{power_cap}",
        "llm_gpu_ecc_errors_total{corrected}", "llm_gpu_row_remap_pending",
    }  # fmt: skip
    assert outcomes["llm_gpu_throttled_seconds_total{hw_power_brake}"] == "explained"  # nvidia-smi says [N/A]
    assert outcomes["llm_gpu_throttled_seconds_total{sync_boost}"] == "explained"  # nor does it know this field
    assert outcomes["llm_gpu_tensor_active_ratio"] == "explained"
    assert {row[0] for row in result["signals"]} == {f"GPU-{x * 8}-0000-0000-0000-000000000000" for x in "ab"}


def test_a_wrong_unit_is_found(tmp_path: Path) -> None:
    """A power that is a thousand times another and memory that is not there disagree, in each of several rounds."""
    program = smi(tmp_path, power__draw="0.41", memory__used="1")
    code, _, outcomes = check("--nvml", H200, "--nvidia-smi", program, "--rounds", "2")
    assert code == 1
    assert {name for name, outcome in outcomes.items() if outcome == "disagree"} == {
        "llm_gpu_power_watts",
        "llm_gpu_memory_used_bytes",
        "llm_gpu_energy_joules_total",  # a capture's counter stands still
    }


def test_every_call_is_timed_and_tried_without_privileges(tmp_path: Path) -> None:
    """Each function has its latency; as root, each is asked again by a process that is nobody."""
    _, result, _ = check("--nvml", H200, "--nvidia-smi", smi(tmp_path), "--rounds", "1")
    calls = result["calls"]
    assert calls["nvmlDeviceGetFieldValues"]["calls"] == 4  # two readings of two GPUs
    assert all(call["longest_ms"] >= call["median_ms"] >= 0 for call in calls.values())
    if result["user"] == "user 0":
        assert set(result["unprivileged"]) == set(calls)


def test_a_capture_can_be_checked_again_without_a_gpu(tmp_path: Path) -> None:
    """What `--capture` wrote, and every such capture of hardware, agrees when it is read again from the file alone."""
    file = tmp_path / "nvml-copy.json"
    arguments = ("--nvml", H200, "--nvidia-smi", smi(tmp_path), "--rounds", "1", "--capture", file, "--about", "a copy")
    assert check(*arguments)[0] == 0
    assert json.loads(file.read_text())["about"] == "a copy"
    recorded = [path for path in CAPTURES.glob("nvml-*.json") if "smi" in json.loads(path.read_text())]
    for path in [file, *recorded]:
        code, result, outcomes = check("--replay", path)
        assert code == 0, [row for row in result["signals"] if row[2] == "disagree"]
        assert outcomes["llm_gpu_memory_used_bytes"] == "agree"


def test_no_driver_is_one_line(tmp_path: Path) -> None:
    """On a machine without GPUs the script says so; exit code 2."""
    capture = tmp_path / "none.json"
    capture.write_text(json.dumps({"calls": {"nvmlInit()": {"error": 12}}}))
    command = [sys.executable, HERE / "check_nvml.py", "--nvml", capture]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("check_nvml: NVML: ")
