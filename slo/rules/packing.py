"""Rule groups and files in the sizes that their readers accept; the same input is packed the same way every time."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from slo.rules.rule import Rule, RuleGroup

# What Mimir accepts of one tenant unless told otherwise: ruler_max_rules_per_rule_group. It also counts groups
# (ruler_max_rule_groups_per_tenant, 70), so that small groups are put together.
MIMIR_RULES = 20
# A ConfigMap holds 1 MiB; the Prometheus operator puts a PrometheusRule into half of one.
CONFIG_MAP_BYTES, PROMETHEUS_RULE_BYTES = 1_000_000, 500_000


def with_at_most(limit: int, name: str, groups: Iterable[RuleGroup]) -> list[RuleGroup]:
    """The rules in groups of at most `limit` rules, called `name` and a number.

    Groups with the same interval share one; a group goes whole into one of them unless it is larger than that.
    """
    packed: list[RuleGroup] = []
    for interval, same in groupby(sorted(groups, key=lambda g: g.interval), key=lambda g: g.interval):
        for rules in _filled(limit, (part for group in same for part in _parts(limit, group.rules))):
            packed.append(RuleGroup(f"{name}-{interval}-{len(packed) + 1}", interval, tuple(rules)))
    return packed


def _parts(limit: int, rules: Sequence[Rule]) -> Iterator[Sequence[Rule]]:
    for start in range(0, len(rules), limit):
        yield rules[start : start + limit]


def _filled(limit: int, parts: Iterable[Sequence[Rule]]) -> Iterator[list[Rule]]:
    filling: list[Rule] = []
    for part in parts:
        if len(filling) + len(part) > limit:
            yield filling
            filling = []
        filling += part
    if filling:
        yield filling


def in_files(limit: int, name: str, groups: Sequence[str]) -> dict[str, list[str]]:
    """The groups' texts in files of at most `limit` bytes: `name`, then `name-2` and so on. No group is split."""
    files: dict[str, list[str]] = {}
    size = 0
    for group in groups:
        bytes_ = len(group.encode()) + 4 * group.count("\n")  # as deep as an object indents it
        if not files or size + bytes_ > limit:
            files[name if not files else f"{name}-{len(files) + 1}"] = []
            size = 0
        files[list(files)[-1]].append(group)
        size += bytes_
    return files
