"""Prometheus' own grammar, through promql-parser: what is wrong with an expression, and which series it reads."""

from dataclasses import dataclass, replace
from functools import cache
from types import ModuleType
from typing import Any

from slo.promql import Matcher

# The parser recurses: some ten thousand open brackets in a row would end the process. Generated rules are far shorter.
MAX_LENGTH = 4_000


@dataclass(frozen=True, slots=True)
class Read:
    """One selector of an expression: `seconds` is its range (0: an instant), `times` how often it is evaluated."""

    name: str
    matchers: tuple[Matcher, ...]
    seconds: float = 0.0
    times: int = 1


@cache
def _promql() -> ModuleType:
    import promql_parser  # 5 MB that only a spec with PromQL of its own, or a check, needs

    return promql_parser


def problem(expr: str) -> str | None:
    """Why `expr` is no PromQL, in one line; None when it is."""
    if len(expr) > MAX_LENGTH:
        return f"longer than {MAX_LENGTH} characters"
    try:
        _promql().parse(expr)
    except ValueError as error:
        return " ".join(str(error).split())
    return None


def reads(expr: str) -> list[Read]:
    """The selectors of `expr`, in its order. Raises ValueError when it is no PromQL."""
    found: list[Read] = []
    left = [(_promql().parse(expr), 1)]  # a stack of our own: a sum of a thousand terms is a thousand levels deep
    while left:
        node, times = left.pop()
        kind = type(node).__name__
        if kind == "VectorSelector":
            found.append(replace(_selector(node), times=times))
        elif kind == "MatrixSelector":
            found.append(replace(_selector(node.vector_selector), seconds=node.range.total_seconds(), times=times))
        elif kind == "SubqueryExpr":
            step = node.step.total_seconds() if node.step else 60.0  # else the evaluation interval
            left.append((node.expr, times * max(1, int(node.range.total_seconds() / step))))
        else:
            left += [(part, times) for part in reversed(_parts(node))]
    return found


def _parts(node: Any) -> list[Any]:
    """The expressions inside an aggregation, a call, a binary or unary operation, or parentheses."""
    inside = [getattr(node, name, None) for name in ("lhs", "rhs", "expr", "param")]
    return [part for part in (*inside, *getattr(node, "args", ())) if part is not None]


def _selector(node: Any) -> Read:
    matchers = tuple(Matcher(m.name, _OPERATORS[str(m.op)], m.value) for m in node.matchers.matchers)
    named = next((m.value for m in matchers if m.label == "__name__"), "")
    return Read(node.name or named, tuple(m for m in matchers if m.label != "__name__"))


_OPERATORS = {"MatchOp.Equal": "=", "MatchOp.NotEqual": "!=", "MatchOp.Re": "=~", "MatchOp.NotRe": "!~"}
