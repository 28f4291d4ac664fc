"""YAML with positions: a mapping reader whose every complaint is `file:line: what, and what to do`."""

import difflib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml

T = TypeVar("T")

# Far above any honest spec; keeps a wrong file from filling the memory or the stack.
MAX_BYTES = 1_000_000
MAX_DEPTH = 20
# libyaml where PyYAML was built with it: seven times faster, and the same events.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class SpecError(ValueError):
    """A spec that cannot be used; the text is `file:line: message`."""


@dataclass(frozen=True, slots=True)
class Value:
    """One YAML value with its place in the file: text, a list, a mapping, or nothing (null)."""

    path: str
    line: int
    content: "str | list[Value] | dict[str, tuple[Value, Value]] | None"

    def error(self, message: str) -> SpecError:
        """A SpecError that points at this value."""
        return SpecError(f"{self.path}:{self.line}: {message}")

    def text(self) -> str:
        """The scalar as written; a SpecError for anything else."""
        if not isinstance(self.content, str):
            raise self.error("expected a single value here")
        return self.content

    def items(self) -> "list[Value]":
        """The members of a list."""
        if not isinstance(self.content, list):
            raise self.error("expected a list here")
        return self.content

    def mapping(self) -> "Mapping":
        """The value as a mapping."""
        if not isinstance(self.content, dict):
            raise self.error("expected a mapping (key: value) here")
        return Mapping(self, self.content)


class Mapping:
    """A mapping whose keys are taken one by one; what is left in the end is unknown and refused."""

    def __init__(self, at: Value, pairs: dict[str, tuple[Value, Value]]) -> None:
        self.at = at
        self._left = dict(pairs)
        self._known: list[str] = []

    def take(self, key: str, read: Callable[[Value], T]) -> T:
        """The value of a key that must be there, through `read`."""
        if key not in self._left:
            near = difflib.get_close_matches(key, self._left, n=1)
            raise self.at.error(f"{key!r} is missing" + (f"; is {near[0]!r} a slip of the pen?" if near else ""))
        self._known.append(key)
        return read(self._left.pop(key)[1])

    def optional(self, key: str, read: Callable[[Value], T], default: T) -> T:
        """The value of a key through `read`, or `default` when the key is absent."""
        self._known.append(key)
        found = self._left.pop(key, None)
        return default if found is None else read(found[1])

    def only(self) -> tuple[Value, Value]:
        """The key and value of a mapping that must have exactly one."""
        if len(self._left) != 1:
            raise self.at.error(f"expected exactly one key here, found {len(self._left)}")
        _, pair = self._left.popitem()
        return pair

    def done(self) -> None:
        """Refuse what nobody took."""
        for name, (key, _) in self._left.items():
            near = difflib.get_close_matches(name, self._known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(self._known)}"
            raise key.error(f"unknown key {name!r}; {hint}")

    def pairs(self) -> list[tuple[Value, Value]]:
        """All keys and values of a mapping whose keys are free."""
        taken = list(self._left.values())
        self._left.clear()
        return taken


def read(path: Path) -> Value:
    """The only document of a YAML file. Raises SpecError for files that are unreadable, too large or no YAML."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise SpecError(f"{path}: cannot be read: {error.strerror}") from None
    if len(content) > MAX_BYTES:
        raise SpecError(f"{path}:1: larger than {MAX_BYTES} bytes; this is no SLO spec")
    try:
        return parse(content.decode("utf-8-sig"), str(path))
    except UnicodeDecodeError:
        raise SpecError(f"{path}:1: not a text file in UTF-8") from None


def parse(text: str, path: str) -> Value:
    """The only document of a YAML text; `path` is what errors call it. Raises SpecError."""
    try:
        return _Composer(path, yaml.parse(text, Loader=_LOADER)).document()
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise SpecError(f"{path}:{line}: not valid YAML: {error.problem}") from None
    except yaml.YAMLError as error:
        raise SpecError(f"{path}:1: not valid YAML: {str(error).splitlines()[0]}") from None


class _Composer:
    """Events to values. PyYAML's own composers recurse once per level of the file, libyaml's into a crash."""

    def __init__(self, path: str, events: Iterator[Any]) -> None:
        self._path, self._events = path, events
        self._anchors: dict[str, Value] = {}

    def document(self) -> Value:
        """The first document; SpecError when there is none or a second one."""
        next(self._events)  # the stream starts
        if isinstance(next(self._events), yaml.StreamEndEvent):
            raise SpecError(f"{self._path}:1: the file is empty")
        value = self._value(next(self._events), MAX_DEPTH)
        next(self._events)  # the document ends
        end = next(self._events)
        if not isinstance(end, yaml.StreamEndEvent):
            raise self._error(end, "a second document starts here; a file holds one spec")
        return value

    def _value(self, event: Any, depth: int) -> Value:
        if depth == 0:
            raise self._error(event, f"more than {MAX_DEPTH} levels deep; this is no SLO spec")
        if isinstance(event, yaml.AliasEvent):
            return self._aliased(event)
        value = Value(self._path, event.start_mark.line + 1, self._content(event, depth - 1))
        if event.anchor is not None:  # known from here on only, so nothing can contain itself
            self._anchors[event.anchor] = value
        return value

    def _content(self, event: Any, depth: int) -> str | list[Value] | dict[str, tuple[Value, Value]] | None:
        if isinstance(event, yaml.ScalarEvent):
            null = event.implicit[0] and event.value in ("", "~", "null", "Null", "NULL")
            return None if null else str(event.value)
        if isinstance(event, yaml.SequenceStartEvent):
            return list(self._until(yaml.SequenceEndEvent, depth))
        return self._pairs(depth)

    def _pairs(self, depth: int) -> dict[str, tuple[Value, Value]]:
        pairs: dict[str, tuple[Value, Value]] = {}
        for key in (values := self._until(yaml.MappingEndEvent, depth)):
            if key.text() in pairs:
                raise key.error(f"{key.text()!r} is given twice")
            pairs[key.text()] = (key, next(values))
        return pairs

    def _until(self, end: type, depth: int) -> Iterator[Value]:
        while not isinstance(event := next(self._events), end):
            yield self._value(event, depth)

    def _aliased(self, event: Any) -> Value:
        if event.anchor not in self._anchors:
            raise self._error(event, f"'*{event.anchor}' refers to nothing above it")
        return self._anchors[event.anchor]

    def _error(self, event: Any, message: str) -> SpecError:
        return SpecError(f"{self._path}:{event.start_mark.line + 1}: {message}")
