"""The commands from their arguments to their exit codes, with real processes where signals matter."""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest
from load_records import footer, recording, request, saved
from load_servers import Got, answer, chunk, delta, head, in_thread

from loadgen.cli import main
from loadgen.results import baseline
from loadgen.results.reading import read

COMMAND = [sys.executable, "-c", "import sys; from loadgen.cli import main; sys.exit(main())"]
ROOT = Path(__file__).parents[2]
TTFT_SPEC = """\
apiVersion: llm-slo/v1
service: chat
slos:
  - name: ttft
    objective: 95%
    sli:
      latency: {metric: ttft, threshold: 250ms}
"""


unanswered: list[Got] = []


async def engine(got: Got, writer: asyncio.StreamWriter) -> None:
    """A tiny model that answers four tokens; the model `slow` never ends its answers."""
    if got.method == "GET":
        body = json.dumps({"data": [{"id": "tiny"}, {"id": "slow"}]}).encode()
        page = head("200 OK", "application/json", content_length=str(len(body))) + body
        writer.write(page if got.path == "/v1/models" else head("404 Not Found", content_length="0"))
    elif got.path == "/tokenize":
        page = json.dumps({"count": len(json.loads(got.body)["messages"][0]["content"].split()) + 5}).encode()
        writer.write(head("200 OK", "application/json", content_length=str(len(page))) + page)
    elif b'"slow"' in got.body:
        unanswered.append(got)
        writer.write(head() + chunk(delta(content=" a")))
        await asyncio.sleep(60)
    else:
        writer.write(answer(4))


@pytest.fixture(scope="module")
def target() -> Iterator[str]:
    with in_thread(engine) as port:
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def slo(tmp_path: Path) -> str:
    path = tmp_path / "slo.yaml"
    path.write_text(TTFT_SPEC)
    return str(path)


def run(target: str, path: Path, *more: str) -> int:
    return main(["run", "--target", target, "--model", "tiny", "--concurrency", "4", "--requests", "80",
                 "--records", str(path), "--quiet", *more])  # fmt: skip


def test_run_gate_and_report_share_one_file(
    target: str, slo: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The walk of a CI job: measure, keep a baseline, gate with JUnit and Markdown, look at the page."""
    records, before = tmp_path / "run.jsonl", tmp_path / "base.json"
    assert run(target, records, "--json", "--baseline-out", str(before)) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["summary"]["outcomes"] == {"ok": 80}
    assert printed["client"]["sent"] == 80
    # A shared machine may stall this process; what the gate thinks of that is tested with made-up records.
    saved(records, recording(read(records).records))
    outputs = {name: tmp_path / name for name in ("junit.xml", "summary.md", "page.html")}
    # Made-up times leave no telling where the steady part is.
    gate = ["gate", str(records), "--slo", slo, "--steady", "none", "--junit", str(outputs["junit.xml"])]
    assert main([*gate, "--markdown", str(outputs["summary.md"])]) == 0
    assert main(["report", str(records), "--slo", slo, "--html", str(outputs["page.html"])]) == 0
    ElementTree.parse(outputs["junit.xml"])
    assert outputs["summary.md"].read_text().startswith("## ")
    assert "<svg" in outputs["page.html"].read_text()
    assert 40 <= baseline.read(before)[0].summary.requests <= 80
    assert "chat-ttft" in capsys.readouterr().out
    assert main(["report", str(records), "--slo", slo, "--steady", "none", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["requests"], told["steady"]["rule"], told["verdict"]["outcome"]) == (80, "none", "PASS")


@pytest.mark.parametrize(("slow", "code"), [(0, 0), (100, 1), (6, 3)])
def test_gate_exit_codes(slow: int, code: int, slo: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """0 PASS, 1 FAIL, 3 INCONCLUSIVE, and the JSON says the same."""
    run_file = saved(tmp_path / "r", recording([request(i, ttft=0.5 if i < slow else 0.1) for i in range(100)]))
    assert main(["gate", str(run_file), "--slo", slo, "--json", "--steady", "none"]) == code
    printed = json.loads(capsys.readouterr().out)
    assert printed["outcome"] == {0: "PASS", 1: "FAIL", 3: "INCONCLUSIVE"}[code]
    assert printed["checks"][0]["count"] == {"good": 100 - slow, "total": 100}


def test_gate_compares_with_a_baseline(slo: str, tmp_path: Path) -> None:
    """A run within its SLO that is half as fast as its baseline fails; a tolerance of 200 % lets it pass."""
    before = tmp_path / "b.json"
    before.write_text(baseline.encode(baseline.from_recording(recording([request(i) for i in range(100)]))))
    run_file = saved(tmp_path / "r", recording([request(i, ttft=0.2) for i in range(100)]))
    gate = ["gate", str(run_file), "--slo", slo, "--baseline", str(before)]
    assert main(gate) == 1
    assert main([*gate, "--tolerance", "2"]) == 0


def test_gate_counts_several_runs_together(slo: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two runs of 40 decide what one of them cannot, and several baselines are compared with both."""
    runs = [str(saved(tmp_path / name, recording([request(i) for i in range(40)]))) for name in ("a", "b")]
    rest = ["--slo", slo, "--steady", "none", "--json"]
    assert main(["gate", runs[0], *rest]) == 3
    assert main(["gate", *runs, *rest]) == 0
    capsys.readouterr()
    main(["gate", *runs, *rest, "--baseline", runs[0], "--baseline", runs[1]])
    printed = json.loads(capsys.readouterr().out)
    assert printed["comparison"]["runs"] == [2, 2]
    assert printed["checks"][0]["count"] == {"good": 80, "total": 80}
    assert len(printed["cuts"]) == 2


def test_compare_shows_two_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Records against records: what got worse, by how much, and what could have been found."""
    before = saved(tmp_path / "a", recording([request(i, ttft=0.1 + i % 7 / 1000) for i in range(200)]))
    after = saved(tmp_path / "b", recording([request(i, ttft=0.2 + i % 7 / 1000) for i in range(200)]))
    assert main(["compare", str(before), str(after)]) == 0
    assert re.search(r"TTFT p50 +1\.9", capsys.readouterr().out)
    assert main(["compare", str(before), str(after), "--json"]) == 0
    changes = {change["name"]: change for change in json.loads(capsys.readouterr().out)["changes"]}
    assert changes["TTFT p50"]["outcome"] == "FAIL"
    assert changes["TPOT p50"]["outcome"] == "PASS"


def test_a_killed_run_is_inconclusive(slo: str, tmp_path: Path) -> None:
    """No footer, last line torn: the gate does not go green on half a run."""
    run_file = saved(tmp_path / "r", recording([request(i) for i in range(100)]))
    run_file.write_bytes(run_file.read_bytes()[:-200])
    assert main(["gate", str(run_file), "--slo", slo]) == 3


def test_wrong_files_are_one_line_and_exit_2(slo: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Missing records, broken spec or baseline, an output that cannot be written: what and where, no traceback."""
    good = str(saved(tmp_path / "r", recording([request(0)], footer())))
    broken = tmp_path / "broken"
    broken.write_text("slos: [")
    nowhere = str(tmp_path / "no" / "where")
    for arguments, place in (
        (["gate", nowhere, "--slo", slo], nowhere),
        (["gate", good, "--slo", str(broken)], f"{broken}:"),
        (["gate", good, "--slo", nowhere], nowhere),
        (["gate", good, "--slo", slo, "--baseline", str(broken)], str(broken)),
        (["gate", good, "--slo", slo, "--junit", nowhere], nowhere),
        (["report", str(broken)], f"{broken}:1: not a line of llm-slo-records"),
        (["report", good, "--html", nowhere], nowhere),
    ):
        assert main(arguments) == 2
        error = capsys.readouterr().err
        assert place in error
        assert error.count("\n") == 1


def test_run_refuses_what_it_cannot_do(target: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Unknown model, several models, existing or unwritable records, missing key: exit 2, one line, nothing written."""
    path, taken = tmp_path / "r", tmp_path / "taken"
    taken.write_text("precious")
    for arguments, message in (
        (["--model", "huge"], "it serves tiny, slow"),
        (["--target", "http://127.0.0.1:1"], "cannot be reached"),
        (["--records", str(taken)], "--force"),
        (["--records", str(tmp_path / "no" / "where")], "cannot be written"),
        (["--api-key-env", "NO_SUCH_VARIABLE"], "NO_SUCH_VARIABLE is not set"),
        (["--arrivals", "poisson"], "open loop"),
    ):
        assert run(target, path, *arguments) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
    assert not path.exists()
    assert taken.read_text() == "precious"
    assert run(target, taken, "--force") == 0
    assert len(read(taken).records) == 80


@pytest.mark.parametrize(
    "arguments",
    [
        ["--rate", "0"],
        ["--rate", "nan"],
        ["--rate", "5", "--concurrency", "5"],
        ["--concurrency", "2.5"],
        ["--requests", "-1"],
        ["--target", "nowhere"],
        ["--timeout", "inf"],
    ],
)
def test_arguments_that_make_no_sense_exit_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """One line says which one; nothing is contacted or written."""
    base = ["run", "--target", "http://127.0.0.1:1", "--requests", "1", "--records", "/dev/null/x"]
    with pytest.raises(SystemExit) as caught:
        main([*base, *arguments])
    assert caught.value.code == 2
    told = capsys.readouterr().err
    assert arguments[-2] in told
    assert told.count("\n") == 1


def wait_until(condition: Callable[[], bool], process: "subprocess.Popen[str]") -> None:
    """Wait for a condition while a process runs, at most 10 s."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)


def has_records(path: Path) -> bool:
    """Whether a file has 20 records by now."""
    return path.exists() and path.read_text().count("\n") > 21


def started(target: str, model: str, path: Path) -> "subprocess.Popen[str]":
    load = ["--rate", "100", "--duration", "60", "--records", str(path), "--baseline-out", f"{path}.baseline"]
    arguments = ["run", "--target", target, "--model", model, *load]
    return subprocess.Popen([*COMMAND, *arguments], cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_keeps_its_records(number: signal.Signals, target: str, tmp_path: Path) -> None:
    """One signal: sending stops, answers in flight end, exit 130, and the file is whole and says so; no baseline."""
    path = tmp_path / "r"
    process = started(target, "tiny", path)
    wait_until(lambda: has_records(path), process)
    process.send_signal(number)
    out, err = process.communicate(timeout=10)
    assert process.returncode == 130, err
    found = read(path)
    assert found.footer is not None
    assert found.footer.interrupted
    assert found.footer.sent == len(found.records) > 20
    assert {record.error for record in found.records} == {None}
    assert "INTERRUPTED" in out
    assert f"{path}.baseline: not written" in err
    assert list(tmp_path.iterdir()) == [path]


def test_a_second_signal_breaks_off_what_is_in_flight(target: str, tmp_path: Path) -> None:
    """Answers that never end are recorded as cancelled, with the tokens they had; no traceback."""
    path = tmp_path / "r"
    process = started(target, "slow", path)
    wait_until(lambda: len(unanswered) > 20, process)
    process.send_signal(signal.SIGINT)
    counts = [-1]
    wait_until(lambda: counts.append(len(unanswered)) or counts[-20:] == counts[-1:] * 20, process)  # sending stopped
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    _, err = process.communicate(timeout=10)
    assert time.monotonic() - began < 1.5  # the drain after the first signal would take 2 s
    assert (process.returncode, "Traceback" in err) == (130, False)
    found = read(path)
    assert {record.error for record in found.records} == {"cancelled"}
    assert max(len(record.token_ns) for record in found.records) == 1


def test_a_killed_run_keeps_what_had_ended(target: str, tmp_path: Path) -> None:
    """SIGKILL: every record up to then is in the file."""
    path = tmp_path / "r"
    process = started(target, "tiny", path)
    wait_until(lambda: has_records(path), process)
    process.kill()
    process.communicate(timeout=10)
    found = read(path)
    assert found.footer is None
    assert len(found.records) >= 20


def test_a_key_is_sent_and_never_written(tmp_path: Path) -> None:
    """The key reaches every request and no file."""
    seen: set[str | None] = set()

    async def handle(got: Got, writer: asyncio.StreamWriter) -> None:
        seen.add(got.headers.get("authorization"))
        await engine(got, writer)

    with in_thread(handle) as port:
        arguments = ["run", "--target", f"http://127.0.0.1:{port}", "--model", "tiny", "--concurrency", "1",
                     "--requests", "1", "--records", str(tmp_path / "r"), "--api-key-env", "KEY"]  # fmt: skip
        done = subprocess.run(
            [*COMMAND, *arguments], cwd=ROOT, env={**os.environ, "KEY": "s3cret"}, capture_output=True
        )
    assert done.returncode == 0
    assert seen == {"Bearer s3cret"}
    assert b"s3cret" not in (tmp_path / "r").read_bytes() + done.stdout + done.stderr
