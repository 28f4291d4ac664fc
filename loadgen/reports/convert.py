"""`slo-load convert`: records from JSONL to Parquet and back."""

import argparse
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from loadgen.results import reading
from loadgen.results.reading import PARQUET, columnar
from loadgen.results.record import Line, Recording, encode
from loadgen.running.measure import RunError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `slo-load convert`."""
    add = parser.add_argument
    add("source", type=Path, metavar="IN", help="a records file")
    add("to", type=Path, metavar="OUT", help=f"where to write it: Parquet when it ends in {PARQUET}, else JSONL")
    add("--force", action="store_true", help="overwrite OUT")
    parser.set_defaults(run=_run)


def _run(args: argparse.Namespace) -> int:
    if args.to.exists() and not args.to.is_file():
        raise RunError(f"{args.to}: is no file; OUT takes the place of one")
    if args.to.exists() and not args.force:
        raise RunError(f"{args.to}: exists already; give another OUT or overwrite it with --force")
    recording = reading.read(args.source)
    part = args.to.with_name(f"{args.to.name}.part")
    try:
        with part.open("wb") as file:
            if args.to.suffix == PARQUET:
                columnar(args.to).write(file, recording)
            else:
                file.writelines(f"{encode(line)}\n".encode() for line in _lines(recording))
        part.replace(args.to)
    except OSError as error:
        raise RunError(f"{args.to}: cannot be written: {error.strerror or error}") from None
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)
    return 0


def _lines(recording: Recording) -> Iterable[Line]:
    yield recording.header
    yield from recording.samples
    yield from recording.records
    if recording.footer:
        yield recording.footer
