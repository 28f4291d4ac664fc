"""Who counted the output tokens: the server's usage, its ids, this client's chunks or a local tokenizer."""

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from load_records import recording, request, saved
from load_servers import (
    DONE,
    END,
    ONE,
    ROLE,
    Got,
    Handler,
    Lines,
    answer,
    chunk,
    delta,
    event,
    head,
    in_thread,
    job,
    listening,
    says,
    usage,
)

from loadgen.cli import main
from loadgen.judging.verdict import Outcome, judge
from loadgen.reports.report import text
from loadgen.results import tokens
from loadgen.results.reading import read
from loadgen.results.record import RequestRecord
from loadgen.results.summary import summarize
from loadgen.running.runner import run
from slo import catalog
from slo.sli import LatencySli
from slo.spec.model import Slo, Spec

SPEC = Spec(service="chat", slos=(Slo(service="chat", name="ttft", objective=0.9, sli=LatencySli(catalog.TTFT, 0.25)),))


class Words:
    """Counts a word as a token, in the shape of the library's tokenizers."""

    def encode_batch_fast(self, texts: Sequence[str], add_special_tokens: bool) -> list[SimpleNamespace]:
        assert not add_special_tokens
        return [SimpleNamespace(ids=text.split()) for text in texts]


def streamed(*events: bytes) -> Handler:
    return says(head() + b"".join(map(chunk, [ROLE, *events, DONE])) + END)


def one(handler: Handler, keep: bool = False) -> RequestRecord:
    """The record of one request, with the text of its answer when a tokenizer is to count it."""

    async def both() -> Lines:
        lines = Lines()
        async with listening(handler) as port:
            work = job(port, ONE)
            work = replace(work, header=replace(work.header, tokenizer="words")) if keep else work
            await run(work, lines.all.append)
        return lines

    (record,) = asyncio.run(both()).records
    return record


@pytest.mark.parametrize(
    ("events", "source"),
    [
        ([delta(content="a"), delta("stop", content="b"), usage(7, 2)], None),
        ([delta(content="a"), delta("stop", content="b")], "chunks"),
        ([event({"choices": [{"delta": {"content": "ab"}, "token_ids": [1, 2], "finish_reason": "stop"}]})],
         "token_ids"),
    ],
)  # fmt: skip
def test_the_record_says_who_counted(events: list[bytes], source: str | None) -> None:
    """Usage where the server sent it; else the ids it listed, else the chunks."""
    record = one(streamed(*events))
    assert (record.output_tokens, record.tokens_from, record.text) == (2, source, None)


def test_the_text_is_all_that_was_made() -> None:
    """Reasoning once, though some servers send it under two names, calls of tools, and characters sent in halves."""
    call = {"function": {"name": "look ", "arguments": '{"up": 1}'}}
    record = one(
        streamed(
            delta(reasoning_content="I think ", reasoning="I think "),
            delta(content="caf\u00e9 \ud83d"),
            delta(content="\ude00 "),
            delta("tool_calls", tool_calls=[call]),
            usage(7, 5),
        ),
        keep=True,
    )
    assert record.error is None
    assert record.text == 'I think caf\u00e9 \U0001f600 look {"up": 1}'


def test_a_failed_request_has_no_text() -> None:
    """Nor has one without an answer to count."""
    assert one(says(head("500 Internal Server Error", content_length="0")), keep=True).text is None


def spoken(seq: int, words: int) -> RequestRecord:
    return replace(request(seq, tokens=16), text="word " * words)


def test_a_tokenizer_counts_after_the_run(tmp_path: Path) -> None:
    """Its count takes the place of the usage, which stands beside it; the texts are gone, all else is as it was."""
    whole, partial = spoken(2_500, 15), replace(spoken(2_501, 4), output_tokens=3, tokens_from="chunks")
    failed = request(2_502, error="timeout")
    before = recording([*(spoken(i, 17) for i in range(2_500)), whole, partial, failed])
    path = saved(tmp_path / "r.jsonl", before)
    path.chmod(0o640)
    tokens.recount(path, Words())
    after = read(path)
    assert (after.header, after.footer, path.stat().st_mode & 0o777) == (before.header, before.footer, 0o640)
    assert after.records[:2_500] == tuple(counted(request(i), 17, 16) for i in range(2_500))
    assert after.records[2_500:] == (counted(request(2_500), 15, 16), counted(request(2_501), 4, None), failed)
    assert list(tmp_path.iterdir()) == [path]


def counted(record: RequestRecord, by_tokenizer: int, by_usage: int | None) -> RequestRecord:
    return replace(record, output_tokens=by_tokenizer, tokens_from="tokenizer", usage_tokens=by_usage)


def test_a_count_that_fails_leaves_the_records(tmp_path: Path) -> None:
    """A folder in which no second file can be made: the records stay as the run wrote them."""
    path = saved(tmp_path / "r.jsonl", recording([spoken(0, 5)]))
    (tmp_path / "r.jsonl.counted").mkdir()
    with pytest.raises(OSError, match="directory"):
        tokens.recount(path, Words())
    assert read(path).records == (spoken(0, 5),)


KILLED = """\
import os, sys
from pathlib import Path
from loadgen.results.tokens import recount

class Killed:
    def encode_batch_fast(self, texts, add_special_tokens):
        if len(texts) < 999:  # the second batch, when the first is written
            os.kill(os.getpid(), 9)
        return [type("Found", (), {"ids": text.split()}) for text in texts]

recount(Path(sys.argv[1]), Killed())
"""


def test_a_count_that_is_killed_leaves_the_records(tmp_path: Path) -> None:
    """SIGKILL in the middle: all is as the run wrote it, and what is left over does not hinder the next count."""
    before = recording([spoken(i, 17) for i in range(1_500)])
    path = saved(tmp_path / "r.jsonl", before)
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)], cwd=Path(__file__).parents[2], timeout=30)
    assert done.returncode == -9
    assert read(path) == before
    tokens.recount(path, Words())
    assert {record.tokens_from for record in read(path).records} == {"tokenizer"}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("words", "outcome"), [(16, Outcome.PASS), (15, Outcome.PASS), (12, Outcome.INCONCLUSIVE)])
def test_a_count_far_from_the_usage_is_a_doubt(words: int, outcome: Outcome) -> None:
    """A few per cent are how tokenizers differ; more is another model's tokenizer or a server that counts wrongly."""
    run = recording([counted(request(i), words, 16) for i in range(100)])
    verdict = judge(SPEC, run)
    assert verdict.outcome is outcome
    told = "the tokenizer counts 1200 output tokens, the server's usage 1600: is it this model's tokenizer?"
    assert list(verdict.doubts) == ([told] if outcome is Outcome.INCONCLUSIVE else [])


def test_the_report_names_who_counted() -> None:
    """One source for all answers, or each with its number; the usage's mean beside a tokenizer's."""
    both = recording([request(0), replace(request(1), tokens_from="chunks"), request(2)])
    assert re.search(r"counted by +the server's usage \(2\), chunks \(1\)\n", text(both, summarize(both)))
    local = recording([counted(request(0), 15, 16)])
    assert re.search(r"counted by +local tokenizer\n.*by usage, mean +16\.0\n", text(local, summarize(local)))


async def engine(got: Got, writer: asyncio.StreamWriter) -> None:
    body = json.dumps({"data": [{"id": "tiny"}]}).encode()
    page = head("200 OK", "application/json", content_length=str(len(body))) + body
    writer.write(page if got.method == "GET" else answer(4))


def arguments(port: int, records: Path, tokenizer: str) -> list[str]:
    base = ["run", "--target", f"http://127.0.0.1:{port}", "--concurrency", "2", "--requests", "6", "--quiet", "--json"]
    return [*base, "--records", str(records), "--tokenizer", tokenizer]


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_run_with_a_tokenizer(workers: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The answers "w0 w1 w2 end" are seven tokens to this one, where the server's usage says four."""
    tokenizers = pytest.importorskip("tokenizers")
    vocabulary = tokenizers.models.WordPiece({"[UNK]": 0, "w": 1, "##0": 2, "##1": 3, "##2": 4}, unk_token="[UNK]")
    tokenizer = tokenizers.Tokenizer(vocabulary)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.enable_truncation(3)  # some files ask for it; a count must not be cut
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    records = tmp_path / "r.jsonl"
    with in_thread(engine) as port:
        assert main([*arguments(port, records, str(tmp_path)), "--workers", workers]) == 0
    told = json.loads(capsys.readouterr().out)["summary"]
    assert (told["tokens_from"], told["output_tokens"], told["usage_tokens"]) == ({"tokenizer": 6}, 7.0, 4.0)
    found = read(records)
    assert found.header.tokenizer == str(tmp_path)
    assert {record.text for record in found.records} == {None}


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("no/such-model", "no/such-model: no file, and no tokenizer that the Hugging Face Hub gives: "),
        ("no/tokenizer.json", "no/tokenizer.json: no such file\n"),
        ("/no/such", "/no/such: no such file\n"),
        ("tests", "tests/tokenizer.json: no such file\n"),
        ("pyproject.toml", "pyproject.toml: no tokenizer.json: "),
    ],
)
def test_a_tokenizer_that_is_nowhere_is_one_line(name: str, told: str, tmp_path: Path) -> None:
    """Before anything is sent, with what was looked for."""
    pytest.importorskip("tokenizers")
    code = "import sys; from loadgen.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, *arguments(9, tmp_path / "r.jsonl", name)]
    env = {"HF_HUB_OFFLINE": "1", "PATH": "", "HOME": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, env=env, cwd=Path(__file__).parents[2])
    assert done.returncode == 2
    assert done.stderr.startswith(f"slo-load run: --tokenizer {told}")
    assert done.stderr.count("\n") == 1


def test_a_device_does_not_give_way_to_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    """Records that go nowhere cannot be written anew: told before anything is sent."""
    assert main([*arguments(9, Path("/dev/null"), "any"), "--force"]) == 2
    assert "/dev/null: is no file" in capsys.readouterr().err
    assert Path("/dev/null").is_char_device()


def test_without_the_package_the_command_to_install_it_is_told(tmp_path: Path) -> None:
    """The extra is imported only when asked for."""
    code = "import sys; sys.modules['tokenizers'] = None; from loadgen.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, *arguments(9, tmp_path / "r.jsonl", "any")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, cwd=Path(__file__).parents[2])
    told = "slo-load run: --tokenizer needs the tokenizers package: pip install 'llm-slo[tokenizer]'\n"
    assert (done.returncode, done.stderr) == (2, told)
