"""Tables as text: aligned, and no wider than the terminal."""

from hypothesis import given
from hypothesis import strategies as st

from loadgen.reports.tables import columns, markdown, wrapped

WORDS = st.lists(st.text("abcdefgh-%", min_size=1, max_size=9), min_size=1, max_size=40).map(" ".join)


def test_numbers_stand_to_the_right() -> None:
    """Below their heads, in the terminal and in Markdown; a column of words stays left."""
    rows = [("latency, ms", "p50", "p99"), ("TTFT", "8.5", "12,345.0"), ("TPOT", "-", "3%")]
    assert columns(rows).splitlines() == [
        "latency, ms  p50       p99",
        "TTFT         8.5  12,345.0",
        "TPOT           -        3%",
    ]
    assert markdown(rows).splitlines()[1] == "|---|---:|---:|"
    assert columns([("requests", "7"), ("outcomes", "7 ok"), ("seconds", "1.5")]).endswith("\nseconds   1.5")


@given(WORDS, st.integers(40, 120), st.integers(0, 10))
def test_wrapping_keeps_every_word(text: str, width: int, indent: int) -> None:
    """No line is wider, lines after the first are indented, nothing is lost or cut."""
    lines = wrapped(" " * indent + text, width, indent).splitlines()
    assert max(map(len, lines)) <= width
    assert all(line.startswith(" " * indent) for line in lines)
    assert " ".join(lines).split() == text.split()


@given(st.lists(st.tuples(st.text("abc", max_size=8), WORDS), min_size=1, max_size=5))
def test_the_last_column_is_wrapped_below_itself(rows: list[tuple[str, ...]]) -> None:
    """What follows in the last column begins where it does, whatever stands before."""
    start = max(len(name) for name, _ in rows) + 2
    lines = columns(rows, 60).splitlines()
    assert max(map(len, lines)) <= 60
    assert " ".join(line[start:] for line in lines).split() == " ".join(text for _, text in rows).split()
