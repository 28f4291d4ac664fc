"""Records as Parquet: nothing is lost on the way there and back, and every command reads both."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from load_records import footer, recording, request, save, saved

from loadgen.cli import main
from loadgen.results.reading import read
from loadgen.results.record import Line, Recording, RequestRecord, Sample

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
parquet = pytest.importorskip("loadgen.results.parquet")

WHOLE = st.integers(-(2**63), 2**63 - 1)
SOME = st.none() | st.text(st.characters(exclude_categories=["Cs"]))
STAMPS = st.lists(WHOLE, max_size=5).map(tuple)
RECORDS = st.builds(
    RequestRecord,
    seq=WHOLE, trace_id=st.text(st.characters(exclude_categories=["Cs"])), scheduled_ns=WHOLE, sent_ns=WHOLE,
    done_ns=WHOLE, token_ns=STAMPS, prompt_tokens=st.none() | WHOLE, output_tokens=st.none() | WHOLE,
    status=st.none() | WHOLE, error=st.sampled_from([None, "timeout", "http_429"]), detail=SOME, finish_reason=SOME,
    retry_after=st.none() | st.floats(allow_nan=False), session=st.none() | WHOLE, turn=st.none() | WHOLE, model=SOME,
    tenant=SOME, tokens_from=st.sampled_from([None, "chunks"]), usage_tokens=st.none() | WHOLE, text=SOME,
)  # fmt: skip
SAMPLES = st.builds(
    Sample, at_ns=WHOLE, values=st.dictionaries(st.text(), st.tuples(st.floats(allow_nan=False)), min_size=1)
)
RUN = replace(
    recording([request(i, error="timeout" if i % 9 == 5 else None) for i in range(40)]),
    samples=(Sample(at_ns=5, values={"llm_kv_cache_usage_ratio": (0.5, 0.25)}),),
)
LINES: list[Line] = [RUN.header, *RUN.samples, *RUN.records, footer()]


def written(folder: Path, run: Recording) -> Path:
    with (folder / "r.parquet").open("wb") as file:
        parquet.write(file, run)
    return folder / "r.parquet"


@settings(max_examples=50, deadline=None)
@given(st.lists(RECORDS, max_size=4), st.lists(SAMPLES, max_size=2), st.booleans(), st.booleans())
def test_nothing_is_lost(
    tmp_path_factory: pytest.TempPathFactory,
    records: list[RequestRecord],
    samples: list[Sample],
    ended: bool,
    torn: bool,
) -> None:
    """Any field that a record can hold, samples, and whether the run ended or was cut short."""
    before = Recording(recording([]).header, tuple(records), footer() if ended else None, torn, tuple(samples))
    assert read(written(tmp_path_factory.mktemp("p"), before)) == before


def test_there_is_a_column_for_every_field(tmp_path: Path) -> None:
    """Under the names of the JSON lines, so that other programs find them."""
    assert pq.read_schema(written(tmp_path, RUN)).names == list(RequestRecord.__dataclass_fields__)


def test_there_and_back_again(tmp_path: Path) -> None:
    """By the command, byte for byte the same lines; chunks of several tokens keep their counts; much smaller."""
    many = [replace(request(i, tokens=64), token_counts=(2,) * 64, trace_id=f"{i * 7919:032x}") for i in range(500)]
    jsonl, columns, back = (saved(tmp_path / "a.jsonl", recording(many)), tmp_path / "b.parquet", tmp_path / "c.jsonl")
    assert main(["convert", str(jsonl), str(columns)]) == 0
    assert main(["convert", str(columns), str(back)]) == 0
    assert back.read_bytes() == jsonl.read_bytes()
    assert columns.stat().st_size < jsonl.stat().st_size / 5
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize(
    "command",
    ["report A", "gate A --slo slo/specs/chat.yaml", "gate A --slo slo/specs/chat.yaml --baseline A", "compare A A"],
)
def test_commands_read_both(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same words about the same run."""
    jsonl, columns = save(tmp_path / "a.jsonl", *LINES), tmp_path / "b.parquet"
    assert main(["convert", str(jsonl), str(columns)]) == 0
    spec = str(Path(__file__).parents[2] / "slo/specs/chat.yaml")
    said = []
    for path in (jsonl, columns):
        code = main(command.replace("A", str(path)).replace("slo/specs/chat.yaml", spec).split())
        said.append((code, capsys.readouterr().out))
    assert said[0] == said[1]


def test_what_cannot_be_used_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No Parquet, Parquet of others, no file, a folder, numbers too large, a file that is there already."""
    jsonl = save(tmp_path / "a.jsonl", *LINES)
    (tmp_path / "text.parquet").write_text("no columns")
    pq.write_table(pa.table({"seq": [1]}), tmp_path / "other.parquet")
    huge = saved(tmp_path / "huge.jsonl", recording([replace(request(0), seq=2**70)]))
    for source, to, told in (
        ("text.parquet", "x.jsonl", "text.parquet: not a Parquet file that 'slo-load convert' wrote"),
        ("other.parquet", "x.jsonl", "other.parquet: not a Parquet file that 'slo-load convert' wrote"),
        ("none.parquet", "x.jsonl", "none.parquet: cannot be read: No such file"),
        (jsonl.name, "no/x.parquet", "no/x.parquet: cannot be written: "),
        (huge.name, "x.parquet", "cannot hold these records"),
        (jsonl.name, "text.parquet", "text.parquet: exists already"),
    ):
        assert main(["convert", str(tmp_path / source), str(tmp_path / to)]) == 2
        err = capsys.readouterr().err
        assert told in err
        assert err.count("\n") == 1
    assert main(["convert", str(jsonl), "/dev/null", "--force"]) == 2  # no device gives way to a file
    assert "/dev/null: is no file" in capsys.readouterr().err
    assert len(list(tmp_path.iterdir())) == 4
    assert main(["convert", str(jsonl), str(tmp_path / "text.parquet"), "--force"]) == 0
    assert read(tmp_path / "text.parquet") == RUN


def test_without_the_package_the_command_to_install_it_is_told(tmp_path: Path) -> None:
    """Reading and writing; all else works without."""
    jsonl = save(tmp_path / "a.jsonl", *LINES)
    code = "import sys; sys.modules['pyarrow'] = None; from loadgen.cli import main; sys.exit(main(sys.argv[1:]))"
    for arguments in (["convert", str(jsonl), str(tmp_path / "b.parquet")], ["report", str(tmp_path / "b.parquet")]):
        command = [sys.executable, "-c", code, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, cwd=Path(__file__).parents[2])
        assert done.returncode == 2
        assert done.stderr.endswith("b.parquet: Parquet needs the pyarrow package: pip install 'llm-slo[parquet]'\n")
        assert done.stderr.count("\n") == 1


def test_halves_of_characters_become_whole_text(tmp_path: Path) -> None:
    """What JSON can hold and Parquet cannot is replaced, and no reason to lose a run."""
    path = written(tmp_path, recording([replace(request(0), error="bad_response", detail="a\ud800b")]))
    assert read(path).records[0].detail == "a\ufffdb"
