"""A Prometheus over its HTTP API: instant and range queries, and in one line what went wrong with them."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from slo.session import Session
from slo.urls import shown

TIMEOUT = 60.0
# Prometheus refuses a range query with more points per series.
MAX_POINTS = 11_000


class PrometheusError(Exception):
    """A query without an answer; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Series:
    """One series: its labels and its finite samples, Unix seconds -> value."""

    labels: Mapping[str, str]
    samples: Mapping[float, float]


class Prometheus(Session):
    """The server at `url` (Mimir: with its `/prometheus`). `token` is a bearer token, `tenant` the X-Scope-OrgID.

    The attribute `url` is what may be shown of it; `warnings` collects what the server said beside its answers, such
    as that data is incomplete.
    """

    def __init__(self, url: str, token: str | None = None, tenant: str | None = None) -> None:
        self.url, self._api = shown(url), f"{url.rstrip('/')}/api/v1"
        self.warnings: list[str] = []
        super().__init__(token, tenant, TIMEOUT)

    def instant(self, expr: str, time: float) -> list[Series]:
        """The value of `expr` at `time` (Unix seconds), each series with one sample. Raises PrometheusError."""
        return self._query("query", {"query": expr, "time": f"{time:.3f}"})

    def range(self, expr: str, start: float, end: float, step: int) -> list[Series]:
        """The values of `expr` every `step` seconds from `start` to `end`, in as many queries as the server wants."""
        merged: dict[frozenset[tuple[str, str]], dict[float, float]] = {}
        while start <= end:
            last = min(end, start + (MAX_POINTS - 1) * step)
            bounds = {"start": f"{start:.3f}", "end": f"{last:.3f}", "step": str(step)}
            for part in self._query("query_range", {"query": expr, **bounds}):
                merged.setdefault(frozenset(part.labels.items()), {}).update(part.samples)
            start += MAX_POINTS * step
        return [Series(dict(labels), samples) for labels, samples in merged.items()]

    def _query(self, endpoint: str, form: Mapping[str, str]) -> list[Series]:
        try:
            answer = self._http.post(f"{self._api}/{endpoint}", data=form)
            body = answer.json()
            if body["status"] != "success":
                raise PrometheusError(f"{self.url} refused the query: {body['error']}")
            self.warnings += [text for text in body.get("warnings", ()) if text not in self.warnings]
            return [_series(item) for item in body["data"]["result"]]
        except httpx.TimeoutException:
            raise PrometheusError(f"{self.url} did not answer within {TIMEOUT:g} s") from None
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise PrometheusError(f"{self.url!r} is no URL ({error}); write it like http://host:9090") from None
        except httpx.HTTPError as error:
            raise PrometheusError(f"{self.url} cannot be reached: {str(error) or type(error).__name__}") from None
        except (ValueError, KeyError, TypeError):
            raise PrometheusError(_not_prometheus(self.url, answer.status_code)) from None


def _series(item: dict[str, Any]) -> Series:
    """One entry of a vector (a `value`) or of a matrix (`values`)."""
    pairs = item["values"] if "values" in item else [item["value"]]
    samples = {float(time): float(value) for time, value in pairs}
    return Series(item["metric"], {time: value for time, value in samples.items() if math.isfinite(value)})


def _not_prometheus(url: str, status: int) -> str:
    if status in (401, 403):
        return f"{url} answered {status}: put a bearer token that it accepts into PROMETHEUS_TOKEN"
    return f"{url} answered {status}, but not as Prometheus does; give its root URL (of Mimir: with /prometheus)"
