"""What every command does when the reader of its output goes away, as `head` does."""

import os
import sys
from collections.abc import Callable

# What a shell reports of a program that SIGPIPE ended: 128 + 13.
CLOSED = 141


def run(command: Callable[[], int]) -> int:
    """The exit code of `command`, or 141 without a word when stdout was closed before all was written."""
    try:
        code = command()
        sys.stdout.flush()
    except BrokenPipeError:
        # The interpreter flushes once more as it ends, and would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return CLOSED
    return code
