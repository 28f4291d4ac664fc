"""Queries of a Prometheus as events per second over `{{window}}`: ranges give way to it, counters get a rate.

A query is taken only where that keeps its meaning. Anything else is a QueryError, whose text says why.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

import promql_parser

from slo import grammar
from slo.promql import Matcher, duration, quote
from slo.sli.query import WINDOW, placeholders

MARK = "{{window}}"
_MARKED = re.compile(r"\{\{\s*\.?window\s*\}\}")
# Over a longer range these say the same, per second; what counts or sums over its range says more.
_RATES = {"rate": "rate", "increase": "rate", "avg_over_time": "avg_over_time"}
_OPERATORS = {"MatchOp.Equal": "=", "MatchOp.NotEqual": "!=", "MatchOp.Re": "=~", "MatchOp.NotRe": "!~"}

# What a node becomes, where it becomes something else.
Change = Callable[[Any], str | None]


class QueryError(ValueError):
    """A query that cannot be taken; the text says why."""


@dataclass(frozen=True, slots=True)
class Windowed:
    """An expression with `{{window}}`, and the labels it keeps as far as it says so."""

    expr: str
    by: tuple[str, ...]


def windowed(query: str, counter: bool) -> Windowed:
    """A query as events per second. `counter` says that its series only grow. Raises QueryError."""
    if unknown := placeholders(query) - {WINDOW}:
        raise QueryError(f"unknown placeholder {{{{{min(unknown)}}}}}; {MARK} is the only one")
    expr = _MARKED.sub(MARK, query).strip()
    node = _parse(expr.replace(MARK, "5m"))
    if MARK in expr:
        return Windowed(expr, _kept(node))
    if _has_range(node):
        return Windowed(_render(node, _over_window), _kept(node))
    if counter:
        return Windowed(_render(node, _rate), _kept(node))
    raise QueryError(f"a value of the moment: give a rate over {MARK}, or say 'counter: true' if it only grows")


def instant(query: str) -> Windowed:
    """A query of the moment, as it is, with the labels it keeps. Raises QueryError."""
    return Windowed(query.strip(), _kept(_parse(query)))


def canonical(expr: str) -> str:
    """One spelling for expressions that differ in blanks, brackets' places or the order of matchers only."""
    return _render(_parse(expr), lambda _node: None)


# --- the tree of an expression ---------------------------------------------------------------------------------------


def _parse(expr: str) -> Any:
    if wrong := grammar.problem(expr):
        raise QueryError(f"not valid PromQL: {wrong}")
    return promql_parser.parse(expr)


def _kind(node: Any) -> str:
    return type(node).__name__


def _children(node: Any) -> list[Any]:
    inside = [getattr(node, name, None) for name in ("lhs", "rhs", "expr", "param")]
    return [part for part in (*inside, *getattr(node, "args", ())) if part is not None]


def _has_range(node: Any) -> bool:
    return _kind(node) in ("MatrixSelector", "SubqueryExpr") or any(map(_has_range, _children(node)))


def _kept(node: Any) -> tuple[str, ...]:
    """The labels of the result: those of the outermost `by`, on the left of operators and inside of functions."""
    kind = _kind(node)
    if kind == "AggregateExpr":
        by = node.modifier is not None and node.modifier.type == promql_parser.AggModifierType.By
        return tuple(node.modifier.labels) if by else ()
    inside = {"BinaryExpr": "lhs", "ParenExpr": "expr", "UnaryExpr": "expr", "SubqueryExpr": "expr"}
    if kind in inside:
        return _kept(getattr(node, inside[kind]))
    return _kept(node.args[0]) if kind == "Call" and node.args else ()


def _render(node: Any, change: Change) -> str:
    """The node as text, with everything below it changed where `change` says so."""
    if (changed := change(node)) is not None:
        return changed
    text = partial(_render, change=change)
    match _kind(node):
        case "VectorSelector":
            return _name(node) + _shift(node)
        case "MatrixSelector":
            return f"{_name(node.vector_selector)}[{_span(node.range)}]{_shift(node.vector_selector)}"
        case "SubqueryExpr":
            return f"{text(node.expr)}[{_span(node.range)}:{_step(node)}]{_shift(node)}"
        case "ParenExpr":
            return f"({text(node.expr)})"
        case "UnaryExpr":
            return f"-{text(node.expr)}"
        case "BinaryExpr":
            return " ".join(filter(None, (text(node.lhs), str(node.op), str(node.modifier or ""), text(node.rhs))))
        case "AggregateExpr":
            inside = ", ".join(text(part) for part in (node.param, node.expr) if part is not None)
            return f"{node.op} {node.modifier} ({inside})" if node.modifier else f"{node.op}({inside})"
        case "Call":
            return f"{node.func.name}({', '.join(map(text, node.args))})"
        case "StringLiteral":
            return quote(node.val)
    return str(node)


def _name(node: Any) -> str:
    """A selector's name and matchers. The parser's own text leaves quotes and backslashes in values as they are."""
    if node.matchers.or_matchers:
        raise QueryError("alternatives between matchers, which Prometheus does not have")
    matchers = sorted(str(Matcher(m.name, _OPERATORS[str(m.op)], m.value)) for m in node.matchers.matchers)
    return f"{node.name or ''}{{{','.join(matchers)}}}" if matchers or not node.name else str(node.name)


def _shift(node: Any) -> str:
    """The offset of a selector or subquery."""
    if node.at is not None:
        raise QueryError("a fixed time (@): alerts and budgets look at the present")
    if node.offset is None:
        return ""
    return f" offset {'-' if node.offset < timedelta() else ''}{_span(abs(node.offset))}"


def _step(node: Any) -> str:
    return _span(node.step) if node.step else ""


def _span(length: timedelta) -> str:
    seconds = length.total_seconds()
    return duration(seconds) if seconds == int(seconds) else f"{round(seconds * 1000)}ms"


# --- what changes ----------------------------------------------------------------------------------------------------


def _over_window(node: Any) -> str | None:
    """A function over a range becomes the same over the window; ranges inside a subquery are its own affair."""
    ranged = [arg for arg in getattr(node, "args", ()) if _kind(arg) in ("MatrixSelector", "SubqueryExpr")]
    if not ranged:
        return None
    [arg], name = ranged, node.func.name
    if name not in _RATES or (name == "increase" and _kind(arg) == "SubqueryExpr"):
        raise QueryError(f"{name}() over a range of its own; use rate() over {MARK}, or increase()")
    if _kind(arg) == "MatrixSelector":
        return f"{_RATES[name]}({_name(arg.vector_selector)}[{MARK}]{_shift(arg.vector_selector)})"
    return f"{name}({_render(arg.expr, lambda _node: None)}[{MARK}:{_step(arg)}]{_shift(arg)})"


def _rate(node: Any) -> str | None:
    """Counters become their rate, below sums and differences only: of anything else a rate says something else."""
    kind = _kind(node)
    if kind == "VectorSelector":
        return f"rate({_name(node)}[{MARK}]{_shift(node)})"
    if kind == "ParenExpr" or (kind, str(getattr(node, "op", ""))) in _LINEAR:
        return None
    raise QueryError(f"counters may be added, subtracted and summed; for anything else give rates over {MARK}")


_LINEAR = {("BinaryExpr", "+"), ("BinaryExpr", "-"), ("AggregateExpr", "sum")}
