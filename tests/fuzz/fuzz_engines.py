"""Feed pages bent by atheris to the parsers of engines' and other containers' pages. Not part of `make test`:

    pip install -e '.[fuzz]'
    python tests/fuzz/fuzz_engines.py [-runs=200000] [any other option of libFuzzer]

Whatever comes, a parser refuses it with SourceError or gives a page that prometheus_client reads, the same one when it
meets the page again. It starts from the first lines of every page the tests have. libFuzzer says how many inputs ran:
200 000, with atheris 3.0, took five minutes and found nothing.
"""

import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import atheris
from prometheus_client.parser import text_string_to_metric_families as parse_text

with atheris.instrument_imports(include=["exporters"]):
    from exporters.engines.reader import EngineParser
    from exporters.engines.verbatim import RawParser, render
    from exporters.model import SourceError
    from exporters.serving.page import engine_text

TESTS = Path(__file__).parents[1]
PAGES = [*TESTS.glob("captures/*.metrics"), *TESTS.glob("exporters/handwritten/*.metrics")]
LENGTH = 4096
survivor = EngineParser()  # it meets every input, as the parser of a long-lived process does


def one_input(data: bytes) -> None:
    """A page for all parsers."""
    engine(data)
    raw(data)


def engine(data: bytes) -> None:
    try:
        scrape = survivor.parse(data)
    except SourceError:
        return
    fresh = EngineParser(kind=scrape.kind)
    try:
        page = engine_text([fresh.parse(data)])
    except SourceError:  # a broken value may hide behind a duplicate that only the model's name, once known, makes one
        return
    assert page == engine_text([fresh.parse(data)]) == engine_text([scrape])
    list(parse_text(page.decode()))


def raw(data: bytes) -> None:
    parser = RawParser(lambda _: True)
    try:
        families = parser.parse(data)
    except SourceError:
        return
    assert parser.parse(data) == families
    list(parse_text(render([families], False).decode()))


def seeds() -> Iterator[bytes]:
    """The head of every page, and its sample lines without the comments."""
    for page in PAGES:
        body = page.read_bytes()
        yield body[:LENGTH].rpartition(b"\n")[0] + b"\n"
        lines = [line for line in body.split(b"\n") if not line.startswith(b"#")]
        yield b"\n".join(lines[:20]) + b"\n"


def main() -> None:
    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(seeds()):
            (Path(corpus) / str(number)).write_bytes(seed)
        atheris.Setup([sys.argv[0], "-runs=200000", f"-max_len={LENGTH}", *sys.argv[1:], corpus], one_input)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
