"""What a metric family is: its name, kind, unit, labels and buckets, and the names that sources give it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from math import isclose

# Engines compute edges (0.0001 x 1.5^k); people write what is printed of them: six digits.
_SIX_DIGITS = 1e-5


class Kind(StrEnum):
    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Upstream:
    """A name some source gives a family. `scale` turns its unit into ours; versions are the releases sampled.

    Only series that carry the labels `where` are meant; `rename` gives the source's name of a label and ours.
    `buckets` are the source's own edges: None where they are the family's, empty where they are not known.
    `label` is the value of the family's last label that the name stands for, where it stands for one.
    """

    name: str
    since: str = ""
    until: str = ""
    scale: float = 1.0
    where: Mapping[str, str] = field(default_factory=dict, hash=False)
    rename: Mapping[str, str] = field(default_factory=dict, hash=False)
    buckets: tuple[float, ...] | None = field(default=None, hash=False)
    label: str = ""

    def __str__(self) -> str:
        """The name, with the labels that are needed."""
        needed = ",".join(f'{label}="{value}"' for label, value in self.where.items())
        return f"{self.name}{{{needed}}}" if needed else self.name


# Each family exists once: it is equal to itself alone, and quick to look up.
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Metric:
    """One family. `upstream` lists, per source, the names to look for: the newest first, and only one is used."""

    name: str
    kind: Kind
    help: str
    unit: str = ""
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = field(default=(), hash=False)
    upstream: Mapping[str, tuple[Upstream, ...]] = field(default_factory=dict, hash=False)
    otel: str = ""

    def buckets_of(self, source: str) -> tuple[float, ...]:
        """The edges of a source's newest name for the family; the family's own for any other source."""
        names = self.upstream.get(source, ())
        own = names[0].buckets if names else None
        return self.buckets if own is None else own

    def edge(self, threshold: float, source: str = "") -> str:
        """The `le` text of the bucket that ends at `threshold` (in `unit`), of the engine `source` where one is given.

        ValueError names the nearest edges.
        """
        buckets = self.buckets_of(source)
        for edge in buckets:
            if isclose(edge, threshold, rel_tol=_SIX_DIGITS):
                return repr(float(edge))
        whose = f"{self.name} of {source}" if source in self.upstream else self.name
        if not buckets:
            raise ValueError(f"{threshold:g} may be no bucket edge: the edges of {whose} are not known")
        below = [b for b in buckets if b < threshold][-1:]
        above = [b for b in buckets if b > threshold][:1]
        near = " and ".join(f"{edge:g}" for edge in below + above)
        raise ValueError(f"{threshold:g} is no bucket edge of {whose}; the nearest are {near}")
