"""Baselines: kept as JSON, bounded in size, several in a file, and read from records as well."""

import random
from pathlib import Path

import pytest
from load_records import recording, request, saved

from loadgen.results.baseline import BaselineError, encode, from_recording, read
from loadgen.results.record import RequestRecord
from loadgen.results.summary import quantile


def noisy(seed: int, number: int = 100) -> list[RequestRecord]:
    rng = random.Random(seed)
    return [request(i, ttft=0.1 * rng.lognormvariate(0, 0.3), tokens=1) for i in range(number)]


def test_a_baseline_survives_its_file(tmp_path: Path) -> None:
    """Everything comes back, the raw values too; absent latencies stay absent."""
    for records in ([request(i, tpot=0.02 + i / 7000) for i in range(90)], [request(0, error="timeout")]):
        before = from_recording(recording(records))
        (tmp_path / "b.json").write_text(encode(before))
        assert read(tmp_path / "b.json") == (before,)


def test_a_file_may_hold_several_runs(tmp_path: Path) -> None:
    """`cat` joins baselines; the order stays."""
    runs = tuple(from_recording(recording(noisy(seed))) for seed in range(3))
    (tmp_path / "b.json").write_text("".join(map(encode, runs)))
    assert read(tmp_path / "b.json") == runs


def test_records_serve_as_a_baseline(tmp_path: Path) -> None:
    """Their steady part by the rule that is asked for."""
    run = recording(noisy(1))
    path = saved(tmp_path / "r.jsonl", run)
    assert read(path, "none") == (from_recording(run, "none"),)
    assert read(path, 1.0)[0].summary.requests == 60  # 20 requests a second, one second less at either end


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"format": "llm-slo-baseline", "version": 1}', '{\n"format": 1', '{\n"format": 1}']
)
def test_files_that_are_no_baseline_are_refused(tmp_path: Path, text: str) -> None:
    """Wrong format, missing fields, torn JSON, no file at all."""
    path = tmp_path / "b.json"
    path.write_text(text)
    for wrong in (path, tmp_path / "missing"):
        with pytest.raises(BaselineError, match=wrong.name):
            read(wrong)


def test_a_long_run_keeps_its_quantiles_and_its_order_in_bounded_space() -> None:
    """Of 25 000 values 10 000 are kept, p50 to p99 move by less than 0.1 %, and the order is that of the requests."""
    records = noisy(3, 25_000)
    kept = from_recording(recording(records), "none").ttft
    values = [round(record.ttft or 0, 6) for record in records]
    assert len(kept) == 10_000
    for q in (0.5, 0.9, 0.99):
        assert quantile(sorted(kept), q) == pytest.approx(quantile(sorted(values), q), rel=0.001)
    rest = iter(values)
    assert all(value in rest for value in kept)


def test_token_rates_add_up_to_the_tokens_of_the_steady_part() -> None:
    """20 requests a second of 16 tokens each: 320 tokens a second in every one of the twenty parts."""
    rates = from_recording(recording([request(i) for i in range(401)]), 2.0).token_rates
    assert len(rates) == 20
    assert rates == pytest.approx([320] * 20, rel=0.03)
