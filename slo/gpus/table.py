"""What the tables of GPU names are made of."""

from slo.metric import Upstream

MIB = 1024.0 * 1024.0


def named(*names: str, scale: float = 1.0, label: str = "", **where: str) -> tuple[Upstream, ...]:
    """Names for the same thing, the first of which is used that is there; the rest as `Upstream` has it."""
    return tuple(Upstream(name, scale=scale, label=label, where=where) for name in names)
