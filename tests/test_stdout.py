"""A reader that goes away ends a command quietly."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LONG = "import sys; from slo import stdout; sys.exit(stdout.run(lambda: print('x' * 10**6) or 0))"
SHORT = "import sys; from slo import stdout; sys.exit(stdout.run(lambda: print('x') or 3))"
HELP = "import sys; from {}.cli import main; sys.exit(main(sys.argv[1:]))"


def piped(program: str, *arguments: str, read: int) -> tuple[int, bytes]:
    """The exit code and stderr of a program whose reader takes `read` bytes and leaves."""
    process = subprocess.Popen(
        [sys.executable, "-c", program, *arguments], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout
    assert process.stderr
    process.stdout.read(read)
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    return process.wait(10), errors


@pytest.mark.parametrize("program", [LONG, SHORT])
def test_a_reader_that_leaves_ends_a_command_quietly(program: str) -> None:
    """In the middle of the output, or before the buffer is flushed at its end: 141 and nothing on stderr."""
    assert piped(program, read=0) == (141, b"")


def test_a_reader_that_stays_gets_the_exit_code() -> None:
    """Nothing is swallowed."""
    assert piped(SHORT, read=2) == (3, b"")


def test_slo_gen_into_head(tmp_path: Path) -> None:
    """A real command whose result nobody reads."""
    program = HELP.format("slo")
    assert piped(program, "check", "slo/specs/chat.yaml", "--out", str(tmp_path), read=0) == (141, b"")
