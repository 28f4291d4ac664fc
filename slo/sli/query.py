"""The SLI of one's own PromQL: good and total as two expressions with placeholders."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from slo.promql import Scope, aggregate
from slo.sli.base import Count, Request

_PLACEHOLDER = re.compile(r"\{\{\s*\.?([^{}]*?)\s*\}\}")
# An indicator has no catalogue family: what it needs is the user's to know.
WINDOW, SELECTOR = "window", "selector"


@dataclass(frozen=True, slots=True)
class PromqlSli:
    """Good and total events per second, as PromQL with `{{window}}` for the range and `{{selector}}` for the matchers.

    Whatever labels the expressions return, only the scope's are kept: history cannot fork on a stray label.
    """

    good_query: str
    total_query: str

    @property
    def condition(self) -> str:
        return "good by its own PromQL"

    @property
    def unit_of_count(self) -> str:
        return "events"

    @property
    def unit_of_rules(self) -> str:
        return self.unit_of_count

    @property
    def needs(self) -> None:
        return None

    @property
    def good_comes_late(self) -> bool:
        return True

    def good(self, window: str, scope: Scope) -> str:
        return render(self.good_query, window, scope)

    def total(self, window: str, scope: Scope) -> str:
        return render(self.total_query, window, scope)

    def count(self, _requests: Sequence[Request], /) -> Count | None:
        """Always None: requests do not tell what a query counts."""
        return None


def placeholders(query: str) -> set[str]:
    """The names between double braces, `{{window}}` or, as sloth writes it, `{{.window}}`."""
    return set(_PLACEHOLDER.findall(query))


def render(query: str, window: str, scope: Scope | None) -> str:
    """The query over `window`, summed by the labels of `scope`; as it stands without one."""
    values = {WINDOW: window, SELECTOR: ",".join(map(str, scope.matchers)) if scope else ""}
    text = _PLACEHOLDER.sub(lambda match: values[match[1]], query).strip()
    if scope is None:
        return text
    # A comment runs to the end of its line: the closing parenthesis must not be in it.
    return aggregate("sum", f"{text}\n" if "#" in text else text, scope.by)
