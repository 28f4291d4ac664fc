"""Baselines: kept as JSON, bounded in size, and compared with bounds that mean what they say."""

import random
from pathlib import Path

import pytest
from load_records import recording, request

from loadgen.baseline import BaselineError, compare, encode, from_recording, read
from loadgen.record import RequestRecord
from loadgen.summary import quantile


def noisy(seed: int, number: int = 100, median: float = 0.1) -> list[RequestRecord]:
    rng = random.Random(seed)
    return [request(i, ttft=median * rng.lognormvariate(0, 0.3), tokens=1) for i in range(number)]


def test_a_baseline_survives_its_file(tmp_path: Path) -> None:
    """Everything comes back, the raw values too; absent latencies stay absent."""
    for records in ([request(i, tpot=0.02 + i / 7000) for i in range(9)], [request(0, error="timeout")]):
        before = from_recording(recording(records))
        (tmp_path / "b.json").write_text(encode(before))
        assert read(tmp_path / "b.json") == before


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": "llm-slo-baseline", "version": 1}', '{"format": 1'])
def test_files_that_are_no_baseline_are_refused(tmp_path: Path, text: str) -> None:
    """Wrong format, missing fields, torn JSON, no file at all."""
    path = tmp_path / "b.json"
    path.write_text(text)
    for wrong in (path, tmp_path / "missing"):
        with pytest.raises(BaselineError, match=wrong.name):
            read(wrong)


def test_a_long_run_keeps_its_quantiles_in_bounded_space() -> None:
    """Of 25 000 values 10 000 are kept, and p50 to p99 move by less than 0.1 %."""
    records = noisy(3, 25_000)
    kept = from_recording(recording(records)).ttft
    everything = sorted(record.ttft or 0 for record in records)
    assert len(kept) == 10_000
    for q in (0.5, 0.9, 0.99):
        assert quantile(kept, q) == pytest.approx(quantile(everything, q), rel=0.001)


def test_bounds_hold_the_truth_as_often_as_they_claim() -> None:
    """Pairs of runs of the same server: the 95 % bounds of the ratio of medians hold 1 in about 95 of 100 pairs."""
    held = 0
    for seed in range(100):
        ratio = compare(from_recording(recording(noisy(seed, 60))), recording(noisy(seed + 1000, 60))).ratios[0]
        assert ratio.name == "TTFT p50"
        assert ratio.low is not None
        assert ratio.high is not None
        held += ratio.low <= 1 <= ratio.high
    assert 88 <= held <= 99  # four standard errors below, one pair above


def test_bounds_agree_with_a_bootstrap_that_really_resamples() -> None:
    """The shortcut through order statistics gives the interval that 2 000 drawn resamples give."""
    old, new = recording(noisy(1)), recording(noisy(2, median=0.13))
    ratio = compare(from_recording(old), new).ratios[0]
    rng = random.Random(5)
    a, b = ([r.ttft or 0 for r in run.records] for run in (old, new))
    drawn = sorted(
        quantile(sorted(rng.choices(b, k=100)), 0.5) / quantile(sorted(rng.choices(a, k=100)), 0.5) for _ in range(2000)
    )
    assert ratio.value == pytest.approx(quantile(sorted(b), 0.5) / quantile(sorted(a), 0.5), rel=1e-4)
    assert ratio.low == pytest.approx(quantile(drawn, 0.025), rel=0.02)
    assert ratio.high == pytest.approx(quantile(drawn, 0.975), rel=0.02)


def test_a_comparison_repeats_itself() -> None:
    """The same files give the same bounds: a gate must not flicker."""
    before = from_recording(recording(noisy(1)))
    assert compare(before, recording(noisy(2))) == compare(before, recording(noisy(2)))
