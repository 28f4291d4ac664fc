"""A run, its verdict and a comparison as text, Markdown, JSON and JUnit XML."""

import re
from typing import Any
from xml.etree import ElementTree

from loadgen.judging.comparison import FALSE_ALARMS, Comparison
from loadgen.judging.regression import Outcome
from loadgen.judging.verdict import Verdict
from loadgen.reports import tables
from loadgen.reports.tables import Row
from loadgen.results.levels import levels
from loadgen.results.record import Recording, plain
from loadgen.results.sampled import lanes
from loadgen.results.steady import Cut
from loadgen.results.summary import OK, Quantiles, Summary, summarize
from loadgen.traffic.arrivals import Load

_LATENCIES = (("ttft", "TTFT"), ("tpot", "TPOT"), ("itl", "ITL"), ("e2e", "e2e"), ("send_lag", "send lag"))


def describe(recording: Recording) -> str:
    """One line: what was measured, with which load, and whether the run came to its end."""
    load, found, workload = recording.header.load, recording.header.fingerprint, recording.header.workload
    parts = [
        found.model,
        " ".join(part for part in (found.engine, found.engine_version) if part),
        ", ".join(found.gpus),
        f"driver {found.driver}" if found.driver else "",
        _asked(load),
        f"{workload.prompt_tokens} -> {workload.output_tokens} tokens",
        f"commit {recording.header.commit[:12]}" if recording.header.commit else "",
        "simulated" if found.simulated else "",
        f"through the proxy {recording.header.proxy}" if recording.header.proxy else "",
    ]
    if recording.footer is None:
        parts.append("CUT SHORT: the records have no footer")
    elif recording.footer.interrupted:
        parts.append("INTERRUPTED")
    return "; ".join(part for part in parts if part)


def _asked(load: Load) -> str:
    if not load.rate:
        return f"concurrency {load.concurrency}"
    mean = f"{load.title}: mean " if load.stages or load.trace else ""
    return f"{mean}{round(load.rate, 2):g} requests/s, {load.arrivals}"


def facts(recording: Recording, summary: Summary) -> list[Row]:
    """Name and value of every figure that is not a latency, the client's own last."""
    footer = recording.footer
    loop_lag = footer.loop_lag if footer else None
    outcomes = ", ".join(f"{number} {kind}" for kind, number in sorted(summary.outcomes.items()))
    numbers = [
        ("seconds", summary.seconds, "{:.1f}"),
        ("requests/s", summary.requests_per_second, "{:.2f}"),
        ("output tokens/s", summary.output_tokens_per_second, "{:.1f}"),
        ("goodput, requests/s", summary.goodput, "{:.2f}"),
        ("prompt tokens, mean", summary.prompt_tokens, "{:.1f}"),
        ("output tokens, mean", summary.output_tokens, "{:.1f}"),
        ("output tokens counted by", _counted_by(summary), "{}"),
        ("output tokens by usage, mean", summary.usage_tokens, "{:.1f}"),
        ("client: sent, requests/s", footer.achieved_rate if footer else None, "{:.2f}"),
        ("client: CPU", footer.cpu_share if footer else None, "{:.0%}"),
        ("client: event-loop lag p99, ms", loop_lag.p99 * 1000 if loop_lag else None, "{:.1f}"),
        ("client: chunks read with the one before", footer.coalesced if footer else None, "{:.1%}"),
    ]
    rows: list[Row] = [("requests", f"{summary.requests} ({outcomes})" if outcomes else "0")]
    return rows + [(name, form.format(value)) for name, value, form in numbers if value is not None]


_SOURCES = {"usage": "the server's usage", "chunks": "chunks", "token_ids": "token ids", "tokenizer": "local tokenizer"}


def _counted_by(summary: Summary) -> str | None:
    """Who counted the tokens, and of how many answers where it was not one for all."""
    found = summary.tokens_from.items()
    return ", ".join(_SOURCES[source] + (f" ({number})" if len(found) > 1 else "") for source, number in found) or None


def latencies(summary: Summary) -> list[Row]:
    """A header row and one row of quantiles, in milliseconds, per latency that has data."""
    rows: list[Row] = [("latency, ms", "count", "p50", "p90", "p95", "p99")]
    for field, name in _LATENCIES:
        found: Quantiles | None = getattr(summary, field)
        if found is not None:
            values = (f"{value * 1000:.1f}" for value in (found.p50, found.p90, found.p95, found.p99))
            rows.append((name, str(found.count), *values))
    return rows


def stages(recording: Recording) -> list[Row]:
    """A header row and one row per stage of the load, latencies in milliseconds; empty for a load of one rate."""
    rows: list[Row] = [
        ("stage", "requests", "failed", "answers/s", "output tokens/s", "TTFT p50", "p99", "TPOT p50", "p99")
    ]
    for stage, part in levels(recording):
        found = summarize(part)
        failed = found.requests - found.outcomes.get(OK, 0)
        rates = (found.requests_per_second, found.output_tokens_per_second)
        times = [q and 1000 * q for latency in (found.ttft, found.tpot) for q in _middle_and_tail(latency)]
        rows.append((stage.title, str(found.requests), str(failed), *(_number(value) for value in (*rates, *times))))
    return rows if len(rows) > 2 else []


def _middle_and_tail(latency: Quantiles | None) -> tuple[float | None, float | None]:
    return (latency.p50, latency.p99) if latency else (None, None)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def server(recording: Recording) -> list[Row]:
    """A header row and one row per family that was sampled from the server; empty without samples."""
    rows: list[Row] = [("sampled from the server", "mean", "highest")]
    for lane in lanes(recording.samples):
        values = [value for _, value in lane.points]
        rows.append((lane.title, f"{sum(values) / len(values):.1f}", f"{max(values):.1f}"))
    return rows if len(rows) > 1 else []


def text(
    recording: Recording,
    summary: Summary,
    verdict: Verdict | None = None,
    cut: Cut | None = None,
    width: int | None = None,
) -> str:
    """The report for a terminal; with its `width` in characters, long lines are wrapped."""
    parts = [] if verdict is None else [verdict_text(verdict, width)]
    if verdict is None and cut is not None:
        parts.append(tables.wrapped(str(cut), width))
    found = (facts(recording, summary), latencies(summary), stages(recording), server(recording))
    shown = [tables.columns(rows, width) for rows in found if rows]
    return "\n\n".join([*parts, tables.wrapped(describe(recording), width), *shown])


def verdict_text(verdict: Verdict, width: int | None = None) -> str:
    """The verdict for a terminal: the outcome, why, and every check."""
    lines = [str(verdict.outcome), *(tables.wrapped(f"  in doubt: {doubt}", width, 4) for doubt in verdict.doubts)]
    lines.append(tables.columns([(f"  {outcome}", *cells) for outcome, *cells in check_rows(verdict)[1:]], width))
    return "\n".join([*lines, *(tables.wrapped(f"  {note}", width, 2) for note in notes(verdict))])


def notes(verdict: Verdict) -> list[str]:
    """What a reader must know of how the verdict came about: what was cut, how the comparison counts."""
    several = len(verdict.cuts) > 1
    cuts = [f"run {number}: {cut}" if several else str(cut) for number, cut in enumerate(verdict.cuts, 1)]
    return [*cuts, *(comparison_notes(verdict.comparison) if verdict.comparison else ())]


def comparison_notes(comparison: Comparison) -> list[str]:
    """How runs were compared, with which chance of a false alarm, and what stays unseen."""
    before, after = comparison.runs
    found = [
        f"{before} {'run' if before == 1 else 'runs'} before, {after} after; "
        f"{'the same' if comparison.paired else 'another'} schedule; "
        f"an unchanged service fails with a chance of {FALSE_ALARMS:.0%} at most"
    ]
    if before == after == 1:
        found.append("one run each: what differs from run to run is not seen; give several of either side")
    if comparison.too_few:
        found.append(f"too few requests for {', '.join(comparison.too_few)}")
    return found


def comparison_text(comparison: Comparison, width: int | None = None) -> str:
    """A comparison for a terminal: a row per figure, above 1 is worse."""
    rows: list[Row] = [("figure", "times as bad", "bounds", "80 % sure to find", "")]
    rows += [
        (c.name, f"{c.value:.3f}", f"{c.low:.3f} to {c.high:.3f}", f"{c.detectable:.1%}", c.outcome.replace("PASS", ""))
        for c in comparison.changes
    ]
    said = [f"not comparable: {problem}" for problem in comparison.problems], comparison_notes(comparison)
    problems, remarks = ([tables.wrapped(line, width, 2) for line in lines] for lines in said)
    return "\n".join([*problems, tables.columns(rows, width), *remarks])


def comparison_json(comparison: Comparison) -> dict[str, Any]:
    """A comparison as a JSON object."""
    changes = [{**plain(change), "outcome": change.outcome} for change in comparison.changes]
    return {**plain(comparison), "changes": changes}


def verdict_json(verdict: Verdict) -> dict[str, Any]:
    """A verdict as a JSON object."""
    value = {**plain(verdict), "checks": [plain(c) for c in verdict.checks], "cuts": [plain(c) for c in verdict.cuts]}
    return value | ({"comparison": comparison_json(verdict.comparison)} if verdict.comparison else {})


def check_rows(verdict: Verdict) -> list[Row]:
    """A header row and one row per check and per skipped SLO."""
    rows: list[Row] = [("outcome", "check", "seen")]
    rows += [(str(check.outcome), check.name, check.text) for check in verdict.checks]
    return rows + [("skipped", name, reason) for name, reason in verdict.skipped]


def markdown(recording: Recording, summary: Summary, verdict: Verdict | None = None, cut: Cut | None = None) -> str:
    """The report for a pull request or a CI summary page."""
    parts = []
    if verdict is not None:
        doubts = "\n".join(f"- in doubt: {doubt}" for doubt in verdict.doubts)
        remarks = "\n".join(f"- {note}" for note in notes(verdict))
        parts = [f"## {verdict.outcome}", doubts, tables.markdown(check_rows(verdict)), remarks]
    elif cut is not None:
        parts = [str(cut)]
    figures: list[Row] = [("figure", "value"), *facts(recording, summary)]
    found = (figures, latencies(summary), stages(recording), server(recording))
    parts = [part for part in parts if part] + [describe(recording), *(tables.markdown(rows) for rows in found if rows)]
    return "\n\n".join(parts) + "\n"


def junit(verdict: Verdict, service: str) -> str:
    """JUnit XML: a test case for the client and one per check; inconclusive is an error, never a success."""
    suite = ElementTree.Element("testsuite", name=f"slo-load {service}")
    client = ElementTree.SubElement(suite, "testcase", classname=service, name="client")
    if verdict.doubts:
        ElementTree.SubElement(client, "error", message=_xml("; ".join(verdict.doubts)))
    for check in verdict.checks:
        case = ElementTree.SubElement(suite, "testcase", classname=service, name=check.name)
        if check.outcome is Outcome.PASS:
            ElementTree.SubElement(case, "system-out").text = _xml(check.text)
        else:
            kind = "failure" if check.outcome is Outcome.FAIL else "error"
            ElementTree.SubElement(case, kind, message=_xml(check.text))
    for name, reason in verdict.skipped:
        case = ElementTree.SubElement(suite, "testcase", classname=service, name=name)
        ElementTree.SubElement(case, "skipped", message=reason)
    for attribute, tag in (("tests", "testcase"), ("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(attribute, str(len(list(suite.iter(tag)))))
    ElementTree.indent(suite)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(suite, encoding="unicode") + "\n"


def _xml(value: str) -> str:
    """Text without the control characters that XML 1.0 cannot hold."""
    return re.sub(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", value)
