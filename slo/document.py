"""YAML with positions: a mapping reader whose every complaint is `file:line: what, and what to do`."""

import difflib
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import yaml

T = TypeVar("T")

# Far above any honest spec; keeps a wrong file from filling the memory.
MAX_BYTES = 1_000_000


class SpecError(ValueError):
    """A spec that cannot be used; the text is `file:line: message`."""


class Value:
    """One YAML node with its place in the file."""

    def __init__(self, path: str, node: yaml.Node) -> None:
        self.path, self.node = path, node

    def error(self, message: str) -> SpecError:
        """A SpecError that points at this node."""
        return SpecError(f"{self.path}:{self.node.start_mark.line + 1}: {message}")

    def text(self) -> str:
        """The scalar as written; a SpecError for anything else."""
        if not isinstance(self.node, yaml.ScalarNode) or self.node.tag == "tag:yaml.org,2002:null":
            raise self.error("expected a single value here")
        return str(self.node.value)

    def items(self) -> list["Value"]:
        """The members of a list."""
        if not isinstance(self.node, yaml.SequenceNode):
            raise self.error("expected a list here")
        return [Value(self.path, node) for node in self.node.value]

    def mapping(self) -> "Mapping":
        """The node as a mapping."""
        if not isinstance(self.node, yaml.MappingNode):
            raise self.error("expected a mapping (key: value) here")
        return Mapping(self, self.node)


class Mapping:
    """A mapping whose keys are taken one by one; what is left in the end is unknown and refused."""

    def __init__(self, value: Value, node: yaml.MappingNode) -> None:
        self.at = value
        self._left: dict[str, tuple[Value, Value]] = {}
        self._known: list[str] = []
        for key_node, value_node in node.value:
            key = Value(value.path, key_node)
            if key.text() in self._left:
                raise key.error(f"{key.text()!r} is given twice")
            self._left[key.text()] = (key, Value(value.path, value_node))

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

    def text_items(self) -> dict[str, str]:
        """A mapping of free keys to single values."""
        taken = {name: value.text() for name, (_, value) in self._left.items()}
        self._left.clear()
        return taken


def read(path: Path) -> Value:
    """The only document of a YAML file. Raises SpecError for files that are unreadable, too large or no YAML."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise SpecError(f"{path}:1: larger than {MAX_BYTES} bytes; this is no SLO spec")
        node = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except OSError as error:
        raise SpecError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SpecError(f"{path}:1: not a text file in UTF-8") from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise SpecError(f"{path}:{line}: not valid YAML: {error.problem}") from None
    except yaml.YAMLError as error:
        raise SpecError(f"{path}:1: not valid YAML: {error}") from None
    if node is None:
        raise SpecError(f"{path}:1: the file is empty")
    return Value(str(path), node)
