"""`slo-exporter --check`: read every source once and say what is there."""

from collections.abc import Sequence
from typing import Any

from exporters.collector import DEADLINE, Outcome, Source, read
from exporters.model import EngineScrape, GpuScrape


async def check(engines: Sequence[Source[EngineScrape]], gpus: Sequence[Source[GpuScrape]]) -> list[dict[str, Any]]:
    """A report per source: source, endpoint, error (empty when it was read), models or gpus, and the families found,
    each with the upstream name it was read from where that is known."""
    reports = [_report(outcome) | _engine(outcome.value) for outcome in await read(engines, DEADLINE)]
    return reports + [_report(outcome) | _gpus(outcome.value) for outcome in await read(gpus, DEADLINE)]


def table(reports: Sequence[dict[str, Any]]) -> str:
    """The reports as text for people."""
    lines: list[str] = []
    for report in reports:
        what = ", ".join(report.get("models", ()) or report.get("gpus", ())) or "no model name"
        found = f"{report.get('kind', '')}  {len(report['families'])} families of {what}".strip()
        lines.append(f"{report['source']}  {report['endpoint']}  {report['error'] or found}")
        lines += (f"    {name:44} {upstream}".rstrip() for name, upstream in report["families"].items())
    return "\n".join(lines)


def _report(outcome: Outcome[Any]) -> dict[str, Any]:
    status = outcome.status
    return {"source": status.source, "endpoint": status.endpoint, "error": status.error, "families": {}}


def _engine(scrape: EngineScrape | None) -> dict[str, Any]:
    if scrape is None:
        return {}
    families = {metric.name: family.upstream for metric, family in scrape.families.items()}
    return {"kind": scrape.kind, "models": list(scrape.models), "families": families}


def _gpus(scrape: GpuScrape | None) -> dict[str, Any]:
    if scrape is None:
        return {}
    names = {metric.name for gpu in scrape.gpus for metric in (*gpu.values, *gpu.labelled)}
    return {"gpus": [gpu.uuid for gpu in scrape.gpus], "families": dict.fromkeys(sorted(names), "")}
