"""What the table of one engine is made of."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from slo.metric import Upstream

# Per family of the catalogue, the engine's names for it: the newest first.
Names = Mapping[str, tuple[Upstream, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """One engine's metrics: what they are called, where they are served, and what is not among them.

    `path` is the page under the server's address and `hint` what has to be right for it to be there. `absent` gives
    reasons for families without a name; `rename` and `drop` apply to the labels of every series.

    `client_faults` (a regular expression) are the reasons of failed requests that are the client's own. Where it is
    given, finished and failed requests tell availability; HTTP statuses where it is None.
    """

    kind: str
    title: str
    path: str = "/metrics"
    hint: str
    names: Names
    absent: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    rename: Mapping[str, str] = field(default_factory=dict)
    drop: tuple[str, ...] = ()
    client_faults: str | None = None

    def why_absent(self, family: str) -> str:
        """Why the engine has no name for a family."""
        return next((why for why, families in self.absent.items() if family in families), "not exposed")


def named(
    name: str, since: str = "", until: str = "", *, where: Mapping[str, str] | None = None,
    rename: Mapping[str, str] | None = None, buckets: tuple[float, ...] | None = None,
) -> tuple[Upstream, ...]:  # fmt: skip
    """One name, as a table takes it; names of several releases are added up, the newest first."""
    return (Upstream(name, since, until, where=where or {}, rename=rename or {}, buckets=buckets),)
