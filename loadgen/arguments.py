"""What the commands of `slo-load` share at their edges: values of arguments, files and JSON to write."""

import argparse
import json
import math
import os
import sys
from pathlib import Path

from loadgen.results.steady import Rule
from loadgen.running.measure import RunError
from loadgen.wire import target


def target_url(text: str) -> target.Target:
    """The address of a server, as an argument."""
    try:
        return target.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def positive(text: str) -> float:
    """A finite number above 0, as an argument."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return value


def count(text: str) -> int:
    """A whole number above 0, as an argument."""
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 10**9):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def steady_rule(text: str) -> Rule:
    """`auto`, `none` or seconds, as an argument."""
    if text == "auto" or text == "none":
        return text  # type: ignore[return-value]
    try:
        return positive(text)
    except argparse.ArgumentTypeError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither auto nor none nor a number of seconds") from None


def api_key(variable: str | None) -> str | None:
    """The key that an environment variable holds; RunError when it does not."""
    key = os.environ.get(variable, "").strip() if variable else None
    if variable and not key:
        raise RunError(f"the environment variable {variable} is not set; it should hold the API key")
    if key and not (key.isascii() and key.isprintable()):
        raise RunError(f"the API key in {variable} holds characters that no HTTP header can carry")
    return key


def save(path: Path, text: str) -> None:
    """Write a file; RunError when that cannot be done."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise RunError(f"{path}: cannot be written: {error.strerror}") from None


def terminal_width() -> int | None:
    """Characters in a line of the terminal that stdout is; None when it is none."""
    return os.get_terminal_size(sys.stdout.fileno()).columns or None if sys.stdout.isatty() else None


def print_json(value: object) -> None:
    """One JSON object on stdout; what has no number (infinity) is null."""
    print(json.dumps(_finite(value), allow_nan=False))


def _finite(value: object) -> object:
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
