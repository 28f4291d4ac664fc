"""The files of a baseline: `<gpu>/<model>/` with a summary, a report and what the commands wrote."""

import json
import platform
import re
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from loadgen.baselining import random_model
from loadgen.results.record import Fingerprint, plain
from loadgen.running.measure import RunError
from loadgen.traffic.arrivals import NS

FORMAT, VERSION = "llm-slo-baseline-summary", 1
# What stays of a baseline in the making; records.jsonl does when asked for.
KEPT = ("summary.json", "baseline.json", "capacity.json", "report.md", "report.html", "proposed.yaml", "spec.yaml")
RECORDS = "records.jsonl"
_CAPACITY = ("outcome", "passed", "failed", "estimated", "limit", "ended")
NOISE = (
    "**Random weights.** A model of this shape whose weights were made up: speed, memory and KV cache are those of the "
    "architecture, the text is noise."
)


def slug(text: str) -> str:
    """A name as a folder's name: what stands after the last slash, in lower case."""
    return re.sub(r"[^a-z0-9.]+", "-", text.rpartition("/")[2].lower()).strip("-.") or "unnamed"


def hardware(found: Fingerprint) -> str:
    """The GPUs as a folder's name: `nvidia-h200`, `8x-nvidia-h200`, `simulated`, or `cpu` where none shows."""
    if found.simulated:
        return "simulated"
    counted = Counter(found.gpus).items()
    return "-".join(f"{number}x-{slug(name)}" if number > 1 else slug(name) for name, number in counted) or "cpu"


def load(path: Path) -> dict[str, Any]:
    """A JSON object from a file. Raises RunError."""
    try:
        value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: cannot be read: {error}") from None
    return value


def summary(
    folder: Path,
    found: Fingerprint,
    versions: Mapping[str, str],
    commands: Sequence[str],
    capacity: Mapping[str, Any] | None,
    run: Mapping[str, Any],
) -> dict[str, Any]:
    """The figures of a baseline in the making as one object: what a table shows, and how they came about."""
    baseline = load(folder / "baseline.json")
    day = datetime.fromtimestamp(baseline["started_unix_ns"] / NS, UTC).date().isoformat()
    return {
        "format": FORMAT,
        "version": VERSION,
        "date": day,
        "hardware": hardware(found),
        "random_weights": found.model.endswith(random_model.SUFFIX),
        "fingerprint": plain(found),
        "versions": {"llm-slo": metadata.version("llm-slo"), "kernel": platform.release(), **versions},
        "workload": {name: baseline["workload"][name] for name in ("prompt_tokens", "output_tokens")},
        "capacity": capacity and {name: capacity.get(name) for name in _CAPACITY},
        "run": dict(run),
        "summary": baseline["summary"],
        "commands": list(commands),
    }


def finish(made: Path, out: Path, summary: Mapping[str, Any], keep_records: bool) -> Path:
    """Complete the folder and move it to its place, where it replaces an older one; the place."""
    (made / "summary.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    body = (made / "report.md").read_text(encoding="utf-8")
    (made / "report.md").write_text(head(summary) + body, encoding="utf-8")
    kept = {*KEPT, RECORDS} if keep_records else set(KEPT)
    for path in made.iterdir():
        if path.name not in kept:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    place: Path = out / summary["hardware"] / slug(summary["fingerprint"]["model"])
    place.parent.mkdir(exist_ok=True)
    shutil.rmtree(place, ignore_errors=True)
    made.chmod(0o755)  # a temporary folder is its owner's alone
    made.rename(place)
    return place


def head(summary: Mapping[str, Any]) -> str:
    """The beginning of the report: what was measured on what, the capacity, and every command."""
    found = summary["fingerprint"]
    rows = [
        ("date", summary["date"]),
        ("GPUs", ", ".join(found.get("gpus", ())) or summary["hardware"]),
        ("driver", found.get("driver")),
        ("engine", " ".join(found[name] for name in ("engine", "engine_version") if found.get(name))),
        ("versions", ", ".join(f"{name} {version}" for name, version in summary["versions"].items())),
        ("capacity", capacity(summary)),
        ("this run", run(summary)),
        ("energy", energy(summary)),
    ]
    lines = [f"# {found['model']} on {summary['hardware']}", ""]
    lines += [NOISE, ""] if summary["random_weights"] else []
    lines += ["| | |", "|---|---|", *(f"| {name} | {text} |" for name, text in rows if text)]
    return "\n".join([*lines, "", "## Commands", "", "```", *summary["commands"], "```", "", "## The run", "", ""])


def capacity(summary: Mapping[str, Any]) -> str:
    """The capacity in words; nothing where it was not searched."""
    found = summary["capacity"]
    if not found or not found["passed"]:
        return ""
    above = f", surely not {found['failed']:.3g}" if found["failed"] else ""
    limit = f"; {found['limit']} breaks first" if found["limit"] else ""
    return f"{found['passed']:.3g} requests/s meet spec.yaml{above}{limit}"


def run(summary: Mapping[str, Any]) -> str:
    """The load of the run in words."""
    how, work = summary["run"], summary["workload"]
    share = f", {how['share_of_capacity']:.0%} of the capacity" if how["share_of_capacity"] else ""
    tokens = f"{work['prompt_tokens']} -> {work['output_tokens']} tokens"
    return f"{how['requests_per_second']:g} requests/s{share}, for {how['seconds']:g} s, {tokens}"


def energy(summary: Mapping[str, Any]) -> str:
    """Energy per output token in words; nothing where no counter told it."""
    return f"{summary['energy']['joules_per_output_token']:.3g} J per output token" if summary["energy"] else ""
