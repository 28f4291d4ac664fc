"""Rule groups into a Mimir ruler: a namespace that holds exactly ours, so that pushing twice changes nothing."""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import quote

import httpx
import yaml

from slo.session import Session
from slo.urls import shown

TIMEOUT = 30.0

# A rule group as its YAML says: name, interval, rules.
RuleGroup = Mapping[str, Any]


class MimirError(Exception):
    """Mimir did not take the rules; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Change:
    """What a push does to one group; `diff` shows it as lines of YAML, taken out (-) and put in (+)."""

    action: Literal["create", "update", "delete"]
    group: str
    diff: Sequence[str]


def plan(wanted: Mapping[str, RuleGroup], present: Mapping[str, RuleGroup]) -> list[Change]:
    """What turns the `present` groups (by name) into the `wanted` ones; deletions come last."""
    changes = [
        Change("update" if name in present else "create", name, _diff(present.get(name), group))
        for name, group in wanted.items()
        if name not in present or _canonical(present[name]) != _canonical(group)
    ]
    return changes + [Change("delete", name, _diff(present[name], None)) for name in present if name not in wanted]


class Mimir(Session):
    """The ruler of the Mimir at `url` as one tenant sees it, narrowed to one namespace."""

    def __init__(self, url: str, namespace: str, token: str | None = None, tenant: str | None = None) -> None:
        self.url = f"{url.rstrip('/')}/prometheus/config/v1/rules/{quote(namespace, safe='')}"
        super().__init__(token, tenant, TIMEOUT)

    def groups(self) -> dict[str, RuleGroup]:
        """The namespace's groups by name. Raises MimirError."""
        answer = self._request("GET", self.url, fine_when="no rule groups")
        if answer.is_error:
            return {}
        try:
            [groups] = yaml.safe_load(answer.text).values() or [[]]
            return {group["name"]: group for group in groups}
        except (yaml.YAMLError, AttributeError, ValueError, TypeError, KeyError):
            raise MimirError(f"{shown(self.url)} holds no rule groups of Mimir; give Mimir's root URL") from None

    def apply(self, change: Change, wanted: Mapping[str, RuleGroup]) -> None:
        """Carry out one change. Raises MimirError, which names the group."""
        try:
            if change.action == "delete":
                self._request("DELETE", f"{self.url}/{quote(change.group, safe='')}", fine_when="does not exist")
            else:
                body = yaml.safe_dump(wanted[change.group], sort_keys=False, allow_unicode=True)
                self._request("POST", self.url, content=body.encode())
        except MimirError as error:
            raise MimirError(f"cannot {change.action} the group {change.group}: {error}") from None

    def _request(self, method: str, url: str, content: bytes = b"", fine_when: str | None = None) -> httpx.Response:
        """The answer; MimirError for any but a success, or a 404 with the text `fine_when`."""
        try:
            answer = self._http.request(method, url, content=content, headers={"Content-Type": "application/yaml"})
        except httpx.InvalidURL as error:
            raise MimirError(f"{shown(url)!r} is no URL: {error}") from None
        except httpx.HTTPError as error:
            raise MimirError(f"{shown(url)} cannot be reached: {str(error) or type(error).__name__}") from None
        missing = answer.status_code == httpx.codes.NOT_FOUND and fine_when is not None and fine_when in answer.text
        if answer.is_success or missing:
            return answer
        raise MimirError(_explain(shown(url), answer))


def _canonical(group: RuleGroup) -> dict[str, object]:
    """A group without what is empty or only written otherwise, such as 90s for 1m30s."""
    durations = ("interval", "for", "keep_firing_for", "query_offset")

    def plain(fields: Mapping[str, Any]) -> dict[str, object]:
        told = {key: _seconds(value) if key in durations else value for key, value in fields.items()}
        return {key: value.strip() if isinstance(value, str) else value for key, value in told.items() if value}

    return plain({**group, "rules": [plain(rule) for rule in group["rules"]]})


def _seconds(duration: str) -> float:
    units = {"d": 86_400, "h": 3_600, "m": 60, "s": 1, "ms": 0.001}
    return sum(int(number) * units[unit] for number, unit in re.findall(r"(\d+)(ms|[dhms])", str(duration)))


def _diff(before: RuleGroup | None, after: RuleGroup | None) -> list[str]:
    old, new = (yaml.safe_dump(group, sort_keys=False).splitlines() if group else [] for group in (before, after))
    return [line for line in difflib.unified_diff(old, new, lineterm="", n=1) if line[:3] not in ("---", "+++")]


def _explain(url: str, answer: httpx.Response) -> str:
    reasons = {
        401: "the tenant or the token is not accepted; give --tenant, and a token in MIMIR_TOKEN",
        403: "the token may not write rules",
        404: "no ruler API there; give Mimir's root URL, and start it with the ruler enabled",
    }
    said = " ".join(answer.text.split())[:300] or answer.reason_phrase
    return f"{url} answered {answer.status_code}: {reasons.get(answer.status_code, said)}"
