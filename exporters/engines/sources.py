"""From the URLs of engines and of further pages to sources of a scrape."""

import logging
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from exporters.collector import DEADLINE, Source
from exporters.engines import fetch
from exporters.engines.reader import MAX_SERIES, EngineParser
from exporters.engines.verbatim import RawParser
from exporters.model import EngineScrape, RawFamilies
from slo.engines import ENGINES

log = logging.getLogger(__name__)


class EngineUrl(NamedTuple):
    """An engine's metrics page, and which engine it is where that is stated."""

    url: str
    kind: str | None = None


def engine_url(text: str) -> EngineUrl:
    """What `[KIND=]URL` means. Raises ValueError when the kind is not known or the URL is none."""
    kind, equals, url = text.partition("=")
    if not equals or ":" in kind:  # of a plain URL too something may be equal
        return EngineUrl(fetch.metrics_url(text))
    if kind not in ENGINES:
        raise ValueError(f"{kind!r} is no engine that can be read; those are {', '.join(ENGINES)}")
    return EngineUrl(fetch.metrics_url(url, ENGINES[kind].path), kind)


def engines(
    pages: fetch.Pages, urls: Sequence[EngineUrl], model: str = "", passthrough: re.Pattern[str] | None = None
) -> list[Source[EngineScrape]]:
    """A source per URL. The series of several are told apart by an `endpoint` label, that of one needs none.

    `model` is the model's name where an engine does not say it. Families of the engines that `passthrough` matches, by
    their whole name, come along as they stand.
    """
    return [_engine(pages, url, len(urls) > 1, model, passthrough) for url in urls]


def merged(pages: fetch.Pages, urls: Sequence[str]) -> list[Source[RawFamilies]]:
    """A source per further page, all of whose families pass through."""
    return [_merged(pages, url) for url in urls]


def _engine(
    pages: fetch.Pages, at: EngineUrl, labelled: bool, model: str, passthrough: re.Pattern[str] | None
) -> Source[EngineScrape]:
    endpoint = fetch.without_password(at.url)
    labels = {"endpoint": endpoint} if labelled else {}
    parser = EngineParser(labels, at.kind, model)
    raw = RawParser(passthrough.fullmatch, labels) if passthrough else None
    warned: set[str] = set()

    async def scrape() -> EngineScrape:
        body = await pages.get(at.url, DEADLINE)
        found = parser.parse(body)
        for name in {metric.name for metric in found.dropped} - warned:
            warned.add(name)
            log.warning("engine %s: %s has more than %d series and is left out", endpoint, name, MAX_SERIES)
        return replace(found, raw=raw.parse(body)) if raw else found

    return Source("engine", endpoint, scrape)


def _merged(pages: fetch.Pages, url: str) -> Source[RawFamilies]:
    parser = RawParser(lambda _: True)

    async def scrape() -> RawFamilies:
        return parser.parse(await pages.get(url, DEADLINE))

    return Source("merge", fetch.without_password(url), scrape)
