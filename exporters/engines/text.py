"""Sample lines of the Prometheus text format and of OpenMetrics, as bytes: what a reader of samples needs of both."""

import re
from collections.abc import Collection, Iterator
from math import isfinite
from typing import NamedTuple

# Possessive quantifiers (*+): a line of any length is matched or refused in one pass.
_SAMPLE = re.compile(
    rb"""\s*+([A-Za-z_:][A-Za-z0-9_:]*+)
         (?:[ \t]*+\{((?:[^"{}]|"(?:[^"\\]|\\.)*+")*+)\})?
         [ ]++(\S++)(?:[ ].*+)?""",  # behind the value: a timestamp, an exemplar
    re.VERBOSE,
)
_LABEL = re.compile(rb'\s*+([A-Za-z_][A-Za-z0-9_]*+)\s*+=\s*+"((?:[^"\\]|\\.)*+)"\s*+(?:,|\Z)')
_NUMBER = re.compile(rb"[+-]?(?:\d++(?:\.\d*+)?|\.\d++)(?:e[+-]?\d++)?|[+-]?inf|nan", re.IGNORECASE)
_ESCAPE = re.compile(r'\\([\\n"])')


class Sample(NamedTuple):
    """One line: the name, the labels with their values still escaped, the text of the value.

    `head` is the line up to the value. Two lines with the same head are the same series.
    """

    head: bytes
    name: bytes
    labels: dict[bytes, bytes]
    value: bytes


def sample(line: bytes) -> Sample:
    """Take a sample line apart. Raises ValueError, naming the line, when it is none."""
    match = _SAMPLE.fullmatch(line)
    if match is None:
        raise ValueError(f"no sample line: {_shown(line)}")
    head = line[: match.end(2) + 1] if match[2] is not None else line[: match.end(1)]
    return Sample(head, match[1], _labels(match[2] or b"", line), match[3])


def samples(body: bytes) -> Iterator[Sample]:
    """The samples of a page, without comments and blank lines. Raises ValueError on the first line that is none."""
    for line in body.split(b"\n"):
        if line and not line.startswith(b"#"):
            yield sample(line)


def number(value: bytes) -> float:
    """The number that a value or a bucket edge stands for. Raises ValueError when it is none."""
    if not _NUMBER.fullmatch(value):
        raise ValueError(f"{_shown(value)} stands where a number belongs")
    return float(value)


def plain_numbers(values: Collection[bytes]) -> bool:
    """Whether all are finite numbers of at least 0, told without a look at each of them in Python."""
    joined = b" ".join(values)
    if joined.translate(None, b"0123456789.e+- ") or joined.startswith(b"-") or b" -" in joined:
        return False
    try:
        return isfinite(sum(map(float, values)))
    except ValueError:
        return False


def plain(value: bytes) -> str:
    """A label value without its escapes."""
    return _ESCAPE.sub(lambda m: "\n" if m[1] == "n" else m[1], value.decode())


def escaped(value: str) -> bytes:
    """A label value as it stands between the quotes."""
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"").encode()


def head(name: bytes, labels: dict[bytes, bytes]) -> bytes:
    """`name{a="b",...}` of escaped values, labels in order of their names."""
    if not labels:
        return name
    return name + b"{" + b",".join(b'%s="%s"' % pair for pair in sorted(labels.items())) + b"}"


def check_complete(body: bytes) -> None:
    """Raises ValueError when the page was cut off: text ends in a line feed, OpenMetrics in `# EOF`."""
    last = body.rpartition(b"\n")[2]
    if last and last != b"# EOF":
        raise ValueError(f"cut short in its last line: {_shown(last)}")


def what_is(body: bytes) -> str:
    """In a few words, what an answer without any known metric looks like."""
    start = body[:200].strip()
    if not start:
        return "an empty page"
    if start.startswith(b"<"):
        return "a web page (HTML)"
    if start.startswith((b"{", b"[")):
        return "JSON"
    return f"a page that starts with {_shown(start.splitlines()[0])}"


def _labels(text: bytes, line: bytes) -> dict[bytes, bytes]:
    labels: dict[bytes, bytes] = {}
    text, position = text.strip(), 0
    while position < len(text):
        match = _LABEL.match(text, position)
        if match is None or match[1] in labels:
            raise ValueError(f"labels that cannot be read: {_shown(line)}")
        labels[match[1]] = match[2]
        position = match.end()
    return labels


def _shown(line: bytes) -> str:
    return repr(line[:80].decode(errors="replace")) + ("..." if len(line) > 80 else "")
