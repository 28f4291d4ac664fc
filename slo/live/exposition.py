"""A live metrics page held against rules: does every raw series that they read exist there?"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import httpx
from prometheus_client.parser import text_string_to_metric_families

from slo import catalog, grammar
from slo.engines import ENGINES
from slo.grammar import Read
from slo.promql import EXPORTER, Matcher
from slo.rules import recording as rules
from slo.rules.rule import RecordingRule
from slo.spec.model import Slo, Spec

TIMEOUT = 10.0
MAX_BYTES = 50_000_000


class PageError(Exception):
    """A page that cannot be read; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Page:
    """One metrics page: the label sets of each series name, and whose names they are."""

    url: str
    series: Mapping[str, Sequence[Mapping[str, str]]]
    source: str


def fetch(url: str) -> Page:
    """Read the page at `url`; `/metrics` is added where it has no path. Raises PageError."""
    try:
        address = httpx.URL(url if "://" in url else f"http://{url}")
        address = address if address.path != "/" else address.join("/metrics")
        with httpx.stream("GET", address, timeout=TIMEOUT, follow_redirects=True) as answer:
            if not answer.is_success:
                raise PageError(f"{address} answered {answer.status_code}; give the URL of the metrics page")
            return parse(str(address), b"".join(_at_most(answer.iter_bytes(), address)).decode(errors="replace"))
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        raise PageError(f"{url!r} is no URL ({error}); write it like http://host:8000") from None
    except httpx.HTTPError as error:
        raise PageError(f"{url} cannot be read: {error or type(error).__name__}") from None


def _at_most(chunks: Iterable[bytes], address: httpx.URL) -> Iterator[bytes]:
    size = 0
    for chunk in chunks:
        size += len(chunk)
        if size > MAX_BYTES:
            raise PageError(f"{address} is larger than {MAX_BYTES} bytes; give the page of one engine or sidecar")
        yield chunk


def parse(url: str, text: str) -> Page:
    """The page that `text` is. Raises PageError when it is none, or none of an engine or the sidecar."""
    series: dict[str, list[Mapping[str, str]]] = {}
    try:
        for family in text_string_to_metric_families(text.replace("\n# EOF", "\n")):
            for sample in family.samples:
                series.setdefault(sample.name, []).append(sample.labels)
    except ValueError as error:
        raise PageError(f"{url} is no metrics page: {error}") from None
    return Page(url, series, _source(url, series))


def _source(url: str, series: Mapping[str, object]) -> str:
    """Whose page it is: the sidecar's, or that of the engine most of whose names are there."""
    names = {name.removesuffix(s) for name in series for s in ("", "_bucket", "_count", "_sum")}
    found = {EXPORTER: len(names & {metric.name for metric in catalog.families()})}
    for engine in ENGINES:
        theirs = {upstream.name for metric in catalog.families() for upstream in metric.upstream.get(engine, ())}
        found[engine] = len(names & theirs)
    best = max(found, key=lambda source: found[source])
    if not found[best]:
        raise PageError(f"{url} shows nothing of the sidecar or of any engine that is known: {', '.join(ENGINES)}")
    return best


def problems(page: Page, spec: Spec) -> list[str]:
    """What the rules of a spec would miss on this page, SLO by SLO; labels that a scrape adds are left aside."""
    found: list[str] = []
    for slo in spec.slos:
        if slo.exact and page.source != EXPORTER:
            continue  # spans are the sidecar's
        try:
            groups = rules.spec_groups(replace(spec, slos=(slo,), selector={}), page.source)
        except ValueError as error:
            found.append(str(error))
            continue
        expressions = [rule.expr for group in groups for rule in group.rules if isinstance(rule, RecordingRule)]
        raw = [read for expr in expressions for read in grammar.reads(expr) if not read.name.startswith("slo:")]
        missing = (_missing(page, slo, read) for read in raw)
        found += dict.fromkeys(f"{slo.id}: {problem}" for problem in missing if problem)
    return found


def _missing(page: Page, slo: Slo, read: Read) -> str | None:
    """Why nothing on the page matches a selector, or None where something does."""
    series = page.series.get(read.name)
    if series is None:
        hint = "; start slo-exporter with this spec" if slo.exact else "; some appear with the first request"
        return f"{page.url} has no {read.name}{hint}"
    try:
        if any(_matches(read.matchers, labels) for labels in series):
            return None
    except re.error:  # one that only Prometheus can read
        return None
    if le := next((m.value for m in read.matchers if m.label == "le"), None):
        return f"{read.name} has no bucket {_number(le)} on {page.url}; {_near(float(_number(le)), series)}"
    if slo.sli.good_comes_late:
        return None
    return f"no series of {read.name} on {page.url} has {', '.join(map(str, read.matchers))}"


def _matches(matchers: Iterable[Matcher], labels: Mapping[str, str]) -> bool:
    """Prometheus 3 writes whole edges as `1.0` whatever the page says, so both spellings of `le` count."""
    spellings = [labels, {**labels, "le": _number(labels["le"])}] if labels.get("le", "+Inf") != "+Inf" else [labels]
    return any(all(matcher.matches(spelling) for matcher in matchers) for spelling in spellings)


def _number(le: str) -> str:
    """The edge that a value or pattern of `le` stands for: `1`, `1.0` and `1(\\.0)?` are `1.0`."""
    return repr(float(le.removesuffix("(\\.0)?")))


def _near(edge: float, series: Sequence[Mapping[str, str]]) -> str:
    edges = sorted({float(labels["le"]) for labels in series if "le" in labels})
    below, above = [e for e in edges if e < edge][-1:], [e for e in edges if e > edge][:1]
    return f"the nearest are {' and '.join(f'{e:g}' for e in below + above)}"
