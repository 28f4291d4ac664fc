"""OpenSLO documents as nodes that know their place: file, line, document and field."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from slo.spec import document
from slo.spec.document import MAX_BYTES, SpecError, Value

API_VERSION = "openslo/v1"
KINDS = ("DataSource", "SLO", "SLI", "AlertPolicy", "AlertCondition", "AlertNotificationTarget", "Service")


@dataclass(frozen=True, slots=True)
class Node:
    """A value of a document, with the name of the document and the path of the field."""

    value: Value
    document: str
    field: str = ""

    def error(self, message: str) -> SpecError:
        """A SpecError that names place, document and field."""
        where = f"{self.document}: {self.field}" if self.field else self.document
        return self.value.error(f"{where}: {message}")

    def get(self, key: str) -> "Node | None":
        """The node below `key`; None when there is none, or nothing in it."""
        found = self._pairs().get(key)
        if found is None or found[1].content is None:
            return None
        return Node(found[1], self.document, f"{self.field}.{key}" if self.field else key)

    def need(self, key: str) -> "Node":
        """The node below `key`, which must be there."""
        found = self.get(key)
        if found is None:
            raise self.error(f"{key!r} is missing")
        return found

    def fields(self) -> dict[str, "Node"]:
        """The nodes of a mapping by key, without those that hold nothing."""
        return {key: node for key in self._pairs() if (node := self.get(key))}

    def allow(self, *known: str) -> None:
        """Refuse keys that OpenSLO does not have here."""
        for key, (at, _) in self._pairs().items():
            if key not in known:
                raise Node(at, self.document, self.field).error(f"{key!r} is no field of {API_VERSION} here")

    def items(self) -> list["Node"]:
        """The members of a list."""
        if not isinstance(self.value.content, list):
            raise self.error("expected a list")
        return [Node(item, self.document, f"{self.field}[{i}]") for i, item in enumerate(self.value.content)]

    def text(self) -> str:
        """A single value as written."""
        if not isinstance(self.value.content, str):
            raise self.error("expected a single value")
        return self.value.content

    def flag(self) -> bool:
        """`true` or `false`."""
        if self.text() not in ("true", "false"):
            raise self.error(f"{self.text()!r} is neither true nor false")
        return self.text() == "true"

    def number(self) -> float:
        """A finite number."""
        try:
            number = float(self.text())
        except ValueError:
            number = float("nan")
        if not abs(number) < float("inf"):
            raise self.error(f"{self.text()!r} is not a number")
        return number

    def _pairs(self) -> dict[str, tuple[Value, Value]]:
        if not isinstance(self.value.content, dict):
            raise self.error("expected a mapping (key: value)")
        return self.value.content


def read(path: Path) -> list[Node]:
    """The documents of a file: several YAML documents, lists of them, or both. Raises SpecError."""
    found = [node for value in _values(path) for node in _documents(value)]
    if not found:
        raise SpecError(f"{path}:1: no OpenSLO document in it")
    return found


def _documents(value: Value) -> Iterator[Node]:
    for item in value.content if isinstance(value.content, list) else [value]:
        anonymous = Node(item, "OpenSLO document")
        kind, version = anonymous.need("kind"), anonymous.need("apiVersion")
        if version.text() != API_VERSION:
            raise version.error(f"{version.text()!r} is not {API_VERSION}")
        if kind.text() not in KINDS:
            raise kind.error(f"{kind.text()!r} is no kind of {API_VERSION}; it has {', '.join(KINDS)}")
        name = anonymous.need("metadata").need("name").text()
        node = Node(item, f"{kind.text()} {name!r}")
        node.allow("apiVersion", "kind", "metadata", "spec")
        yield node


def _values(path: Path) -> Iterator[Value]:
    """The YAML documents; each is parsed below as many empty lines as stand before it, so that places are right."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        text = content.decode("utf-8-sig")
    except OSError as error:
        raise SpecError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SpecError(f"{path}:1: not a text file in UTF-8") from None
    if len(content) > MAX_BYTES:
        raise SpecError(f"{path}:1: larger than {MAX_BYTES} bytes; split it")
    line = 0
    for part in re.split(r"^---(?=\s|$)", text, flags=re.MULTILINE):
        if any(row.strip() and not row.lstrip().startswith("#") for row in part.splitlines()):
            yield document.parse("\n" * line + part, str(path))
        line += part.count("\n")
