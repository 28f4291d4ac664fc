"""Arguments of a run: what they become, and what is refused in one line."""

import argparse
import json
from pathlib import Path

import pytest

from loadgen.running import options
from loadgen.running.measure import Plan, RunError
from loadgen.traffic.arrivals import Load


def plan(*arguments: str, end: tuple[str, ...] = ("--requests", "5")) -> Plan:
    parser = argparse.ArgumentParser()
    for add in (options.add_target, options.add_load, options.add_workload):
        add(parser)
    return options.plan(parser.parse_args(["--target", "http://h:1", *arguments, *end]))


def test_loads_and_their_defaults() -> None:
    """Poisson unless told otherwise; stages have their mean rate and end by themselves."""
    assert plan("--rate", "3").load == Load(rate=3, arrivals="poisson", requests=5)
    gamma = plan("--rate", "3", "--arrivals", "gamma", end=("--duration", "7"))
    assert gamma.load == Load(rate=3, arrivals="gamma", burstiness=0.25, duration=7)
    assert plan("--concurrency", "3").load == Load(concurrency=3, requests=5)
    staged = Load(rate=15, arrivals="poisson", stages="10:5,20:5", duration=10)
    assert plan("--stages", "10:5,20:5", end=()).load == staged


def test_a_trace_brings_rate_lengths_and_end(tmp_path: Path) -> None:
    """Its identity is its name and digest; the means of its lengths stand for the workload."""
    path = tmp_path / "t.jsonl"
    rows = [{"at": i, "prompt_tokens": 10 + i, "output_tokens": 4} for i in range(11)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = plan("--trace", str(path), "--speed", "2", end=())
    assert (found.load.rate, found.load.arrivals, found.load.speed) == (2.0, "trace", 2.0)
    assert (found.load.trace or "").startswith("t.jsonl sha256:")
    assert (found.workload.prompt_tokens, found.workload.output_tokens, len(found.files.rows)) == (15, 4, 11)


def test_mixes_lengths_and_bodies(tmp_path: Path) -> None:
    """Weights by `=`, a name may hold one; a distribution from a file is told in full."""
    lengths = tmp_path / "l.csv"
    lengths.write_text("64,3\n128,1\n")
    found = plan("--rate", "1", "--model", "base=3", "--model", "a=b", "--tenant", "x", "--prompt-tokens",
                 f"@{lengths}", "--output-tokens", "10..30", "--header", "X-A: b c", "--body", '{"n": 1}')  # fmt: skip
    assert (found.workload.models, found.model) == ({"base": 3.0, "a=b": 1.0}, None)
    assert (found.workload.tenants, found.workload.tenant_header) == ({"x": 1.0}, "X-Tenant")
    assert (found.workload.prompt_tokens, found.workload.output_tokens) == (80, 20)
    assert found.workload.prompt_lengths == "histogram:64..64=3,128..128=1"
    assert (found.headers, found.workload.body) == ({"X-A": "b c"}, {"n": 1})
    assert plan("--rate", "1", "--model", "one").model == "one"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--concurrency", "2", "--arrivals", "poisson"), "open loop"),
        (("--rate", "2", "--burstiness", "2"), "gamma"),
        (("--rate", "2", "--speed", "2"), "--trace"),
        (("--rate", "2", "--prefix-groups", "2"), "--prefix-tokens"),
        (("--rate", "2", "--prefix-tokens", "125"), "leaves no 8 tokens"),
        (("--rate", "2", "--think-time", "2"), "--turns"),
        (("--rate", "2", "--token-ids"), "--endpoint completions"),
        (("--rate", "2", "--prompt-tokens", "many"), "--prompt-tokens: 'many' is no length"),
        (("--rate", "2", "--prompt-tokens", "@nowhere"), "nowhere: cannot be read"),
        (("--rate", "2", "--prompts", "nowhere"), "nowhere: cannot be read"),
        (("--trace", "nowhere"), "nowhere: cannot be read"),
    ],
)
def test_what_does_not_go_together_is_told(arguments: tuple[str, ...], message: str) -> None:
    """One line that names the option or the file."""
    with pytest.raises(RunError, match=message):
        plan(*arguments)


def test_a_run_must_know_when_to_stop() -> None:
    """A rate or a concurrency goes on forever by itself."""
    with pytest.raises(RunError, match="--requests or --duration"):
        plan("--rate", "2", end=())


@pytest.mark.parametrize(
    "arguments",
    [
        ("--stages", "fast"),
        ("--rate", "1", "--header", "x"),
        ("--rate", "1", "--body", "[1]"),
        ("--rate", "1", "--tenant", "東京"),
        ("--rate", "1", "--tenant", "a\r\nX-Admin: yes"),
        ("--rate", "1", "--tenant-header", "X Y"),
    ],
)
def test_arguments_that_cannot_be_read_exit_2(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    """argparse names the option and what it should look like."""
    with pytest.raises(SystemExit) as caught:
        plan(*arguments)
    assert caught.value.code == 2
    assert arguments[-2] in capsys.readouterr().err
