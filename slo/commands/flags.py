"""Values of flags that argparse does not know."""

import argparse
import re

from slo.windows import DAY, HOUR, MINUTE

_SPANS = {"m": MINUTE, "h": HOUR, "d": DAY, "w": 7 * DAY}


def share(text: str) -> float:
    """`95%` or `0.95`, between 0 and 1."""
    number = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    if not 0 < number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} must lie between 0 and 1 (or 0% and 100%)")
    return number


def span(text: str) -> int:
    """`30d`, `12h` or the like, in seconds."""
    match = re.fullmatch(r"([1-9][0-9]{0,4})([mhdw])", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is no span of time; write it like 30d, 12h or 90m")
    return int(match[1]) * _SPANS[match[2]]


def count(text: str) -> int:
    """A whole number above 0."""
    if not re.fullmatch(r"[1-9][0-9]{0,6}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 to 9999999")
    return int(text)


def link(text: str) -> str:
    """The beginning of a link: a URL or a path, without what would end it or make a template of it."""
    if not re.fullmatch(r"[^\s\"'`<>{}]*", text):
        raise argparse.ArgumentTypeError(f"{text!r} cannot begin a link; give a URL such as https://host/path")
    return text
