"""What the three commands share before their arguments are read: how a wrong one is told, and which release this is."""

import argparse
from importlib.metadata import version
from typing import NoReturn

USAGE = 2


class Parser(argparse.ArgumentParser):
    """A parser that answers wrong arguments with one line and exit code 2, as do the parsers of its subcommands."""

    def error(self, message: str) -> NoReturn:
        """One line in place of argparse's page."""
        self.exit(USAGE, f"{self.prog}: {message}; see --help\n")


def add_version(parser: argparse.ArgumentParser) -> None:
    """The flag --version."""
    parser.add_argument("--version", action="version", version=f"%(prog)s {version('llm-slo')}")
