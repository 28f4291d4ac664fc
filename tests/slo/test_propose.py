"""`slo-gen propose`: its statistics by simulation, its spec from files that the load generator really writes."""

import json
import math
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import NormalDist

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from loadgen.results.baseline import encode as encode_baseline
from loadgen.results.baseline import from_recording
from loadgen.results.record import (
    Client,
    ErrorCategory,
    Fingerprint,
    Footer,
    Header,
    Recording,
    RequestRecord,
    Sample,
    encode,
)
from loadgen.traffic.arrivals import NS, Load
from loadgen.traffic.workload import Workload
from slo import catalog
from slo.cli import main
from slo.evidence.runs import read, read_requests
from slo.evidence.sampling import quantile_bound, supports, tail_tau, tau
from slo.spec.model import load
from slo.stats import binomial_bounds

NORMAL = NormalDist()


# --- the statistics --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("quantile", "n", "rank"),
    [(0.90, 300, 279), (0.95, 300, 292), (0.99, 300, 300), (0.90, 1000, 916), (0.95, 1000, 962), (0.99, 3000, 2980)],
)
def test_order_statistics_are_those_of_the_tables(quantile: float, n: int, rank: int) -> None:
    """The bound is X_(r), r the least for which the binomial CDF at r - 1 reaches 95 %: literal ranks."""
    assert quantile_bound(list(range(1, n + 1)), quantile, n, 0.95) == rank


def test_the_least_sample_that_bounds_a_quantile() -> None:
    """59 values bound a p95 at 95 % confidence by their maximum, 58 do not bound it."""
    assert quantile_bound(list(range(59)), 0.95, 59, 0.95) == 58
    assert quantile_bound(list(range(58)), 0.95, 58, 0.95) is None


@given(st.integers(1, 400), st.data())
@settings(deadline=None)
def test_support_is_the_clopper_pearson_bound(total: int, data: st.DataObject) -> None:
    """An objective is supported just when it does not exceed the exact lower bound."""
    good = data.draw(st.integers(0, total))
    objective = data.draw(st.floats(0.34, 0.9999))
    low, _ = binomial_bounds(good, total, 0.95)
    if abs(low - objective) > 1e-6:
        assert supports(objective, good / total, total, 0.95) == (low > objective)


def _independent(n: int, rng: random.Random) -> list[float]:
    return [rng.random() for _ in range(n)]


def _drifting(n: int, rng: random.Random) -> list[float]:
    """Uniform values, each close to the one before (a Gaussian AR(1) with 0.9, tau 19)."""
    values, level = [], rng.gauss(0, 1)
    for _ in range(n):
        level = 0.9 * level + math.sqrt(1 - 0.81) * rng.gauss(0, 1)
        values.append(NORMAL.cdf(level))
    return values


def _bursting(n: int, rng: random.Random) -> list[float]:
    """Uniform values whose worst come in bursts of ten on average, once in 200: 4.8 % of all."""
    values, bad, share = [], rng.random() < 10 / 210, 10 / 210
    for _ in range(n):
        values.append(1 - share * rng.random() if bad else (1 - share) * rng.random())
        bad = rng.random() >= 1 / 10 if bad else rng.random() < 1 / 200
    return values


@pytest.mark.parametrize(
    ("futures", "n"), [(_independent, 100), (_independent, 1000), (_drifting, 1500), (_bursting, 3000)]
)
def test_proposals_hold_in_the_stated_share_of_futures(
    futures: Callable[[int, random.Random], list[float]], n: int
) -> None:
    """Of 200 load tests with a known truth, at most 5 % (and chance: 3.5 sigma) propose a p95 that is too low."""
    trials, too_low, proposed = 200, 0, 0
    for seed in range(trials):
        values = futures(n, random.Random(seed))
        bound = quantile_bound(sorted(values), 0.95, n / tail_tau(values, 0.95), 0.95)
        proposed += bound is not None
        too_low += bound is not None and bound < 0.95  # values are uniform: a bound's quantile is itself
    assert proposed > 0.8 * trials
    assert too_low <= 0.05 * trials + 3.5 * math.sqrt(trials * 0.05 * 0.95)


def test_dependence_costs_and_its_absence_does_not() -> None:
    """Tau of an AR(1) with 0.9 comes out near the 13 of its 95 % tail, of independent requests near 1."""
    found = sorted(tail_tau(_drifting(3000, random.Random(seed)), 0.95) for seed in range(20))
    assert 9 < found[10] < 20
    assert sorted(tail_tau(_independent(3000, random.Random(seed)), 0.95) for seed in range(20))[10] < 1.5
    assert tau([]) == tau([True] * 50) == tau([False] * 50) == 1


def test_a_run_that_only_gets_worse_says_little() -> None:
    """A queue that grows without end is one long drift: 3000 requests are worth a handful."""
    assert 3000 / tail_tau([float(i) for i in range(3000)], 0.95) < 30


# --- from the load generator's own files -----------------------------------------------------------------------------


def _recording(
    ttfts: list[float],
    errors: dict[int, ErrorCategory] | None = None,
    simulated: bool = False,
    model: str = "Llama 3",
    engine: str = "vllm",
) -> Recording:
    """Ten requests a second with these first-token times, 20 tokens at 30 ms each; `errors` by sequence number."""
    found = []
    for seq, ttft in enumerate(ttfts):
        error, due = (errors or {}).get(seq), seq * NS // 10
        stamps = tuple(due + int((ttft + 0.03 * i) * NS) for i in range(20))
        facts = {"token_ns": () if error else stamps, "output_tokens": None if error else 20, "error": error}
        found.append(
            RequestRecord(
                seq=seq,
                trace_id=f"{seq:032x}",
                scheduled_ns=due,
                sent_ns=due,
                done_ns=stamps[-1],
                **facts,  # type: ignore[arg-type]
            )
        )
    header = Header(
        started_unix_ns=1_790_000_000 * NS,
        target="http://127.0.0.1:8000",
        timeout=60.0,
        workload=Workload(),
        load=Load(rate=10.0, requests=len(ttfts)),
        fingerprint=Fingerprint(model=model, engine=engine, engine_version="0.32", gpus=("H100",), simulated=simulated),
        client=Client(version="0", python="3", event_loop="asyncio", cores=2),
    )
    end = Footer(interrupted=False, seconds=len(ttfts) / 10, sent=len(ttfts), cpu_share=0.1)
    return Recording(header, tuple(found), end)


def _records(path: Path, recording: Recording) -> Path:
    lines = (recording.header, *recording.records, *([recording.footer] if recording.footer else []))
    path.write_text("".join(encode(line) + "\n" for line in lines))
    return path


def _ttfts(n: int, seed: int = 1) -> list[float]:
    rng = random.Random(seed)
    return [round(0.05 + rng.expovariate(20), 6) for _ in range(n)]


@pytest.fixture
def records(tmp_path: Path) -> Path:
    return _records(tmp_path / "run.jsonl", _recording(_ttfts(3000), {7: "http_5xx", 9: "cancelled"}))


def test_requests_read_here_are_those_the_load_generator_tells(tmp_path: Path) -> None:
    """Every field of every request agrees with loadgen's own reading, errors of each kind included."""
    errors: dict[int, ErrorCategory] = {1: "http_5xx", 2: "http_429", 3: "timeout", 4: "client_error", 5: "cancelled"}
    recording = _recording(_ttfts(20), errors)
    path = _records(tmp_path / "r.jsonl", recording)
    whole = path.read_text().splitlines(keepends=True)
    sample = encode(Sample(at_ns=NS, values={"llm_requests_running": (3.0,)})) + "\n"
    path.write_text("".join([*whole[:5], sample, *whole[5:]]))  # as `slo-load run` puts them between the requests
    assert read_requests(path) == recording.requests()


def test_a_proposal_is_a_spec(records: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The output loads and checks: thresholds on bucket edges above each bound, the best objective supported."""
    assert main(["propose", str(records)]) == 0
    spec = tmp_path / "spec.yaml"
    spec.write_text(capsys.readouterr().out)
    assert main(["build", str(spec), "--out", str(tmp_path)]) == 0
    assert main(["check", str(spec), "--out", str(tmp_path)]) == 0
    found = load(spec)
    assert found.service == "llama-3"
    told = {slo.name: slo for slo in found.slos}
    assert set(told) == {"ttft", "tpot", "e2e", "availability"}
    values = sorted(request.ttft for request in read_requests(records) if request.ttft is not None)
    bound = quantile_bound(values, 0.95, len(values), 0.95)
    assert bound is not None
    assert 0.1 < bound < told["ttft"].sli.threshold == 0.25  # type: ignore[attr-defined]
    assert told["tpot"].sli.threshold == 0.05  # type: ignore[attr-defined]
    assert told["availability"].objective == 0.995  # 1 of 2999 failed; cancelled ones do not count
    assert "n = 2998" in spec.read_text()
    assert "SIMULATED" not in spec.read_text()


def test_thresholds_are_edges_of_the_engine_that_ran(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """SGLang has no edge at 250 ms; the spec names the engine, and builds on its names. Two engines are no one spec."""
    path = _records(tmp_path / "sglang.jsonl", _recording(_ttfts(3000), engine="sglang"))
    assert main(["propose", str(path)]) == 0
    spec = tmp_path / "spec.yaml"
    spec.write_text(capsys.readouterr().out)
    assert {slo.name: slo.sli.threshold for slo in load(spec).slos if slo.name == "ttft"} == {"ttft": 0.4}  # type: ignore[attr-defined]
    assert main(["build", str(spec), "--out", str(tmp_path), "--source", "sglang"]) == 0
    other = _records(tmp_path / "vllm.jsonl", _recording(_ttfts(300)))
    assert main(["propose", str(path), str(other)]) == 2
    assert "runs of several engines: sglang, vllm" in capsys.readouterr().err


def test_the_worst_run_decides(records: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A slow simulated run beside a fast one moves the threshold up, and the spec says that it was simulated."""
    slow = _records(tmp_path / "slow.jsonl", _recording([t + 0.5 for t in _ttfts(3000, 2)], simulated=True))
    assert main(["propose", str(records), str(slow), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    ttft = next(slo for slo in found["slos"] if slo["name"] == "ttft")
    assert ttft["threshold"] == 0.75
    assert [evidence["path"] for evidence in ttft["evidence"]] == [str(slow), str(records)]
    assert "# SIMULATED runs say nothing about real hardware." in found["spec"]
    assert [run["simulated"] for run in found["runs"]] == [False, True]


def test_a_baseline_does_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A baseline gives TTFT and TPOT of the same values, in their order; of failures it keeps none, and no e2e."""
    path = tmp_path / "baseline.json"
    recording = _recording(_ttfts(3000), {7: "http_5xx", 8: "http_4xx"})
    path.write_text(encode_baseline(from_recording(recording, "none")))
    assert main(["propose", str(path), "--period", "7d", "--service", "chat"]) == 0
    out, err = capsys.readouterr()
    spec = yaml.safe_load(out)
    assert (spec["service"], spec["period"]) == ("chat", "7d")
    assert {slo["name"]: slo["objective"] for slo in spec["slos"]} == {
        "ttft": "95%",
        "tpot": "95%",
        "availability": "99.5%",
    }
    assert "Baselines keep no order of failures" in out
    values = [request.ttft for request in recording.requests() if request.ttft is not None]
    assert read(path)[0].latencies["ttft"] == pytest.approx(values, abs=1e-6)
    assert "nothing proposed for e2e" in out
    assert f"nothing proposed for e2e: {path} holds no values of it" in err


def test_baselines_joined_in_a_file_are_runs_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`cat one.json two.json` holds two runs, and the worse one decides."""
    path = tmp_path / "baseline.json"
    runs = [_recording(_ttfts(300)), _recording([0.6] * 300)]
    path.write_text("".join(encode_baseline(from_recording(run, "none")) for run in runs))
    assert main(["propose", str(path), "--json"]) == 0
    ttft = json.loads(capsys.readouterr().out)["slos"][0]
    assert ttft["threshold"] == 0.75
    assert len(ttft["evidence"]) == 2


def test_too_short_a_run_proposes_nothing_and_says_what_it_takes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """20 requests support nothing: exit code 1, no spec, and the number of requests it would take."""
    path = _records(tmp_path / "short.jsonl", _recording(_ttfts(20)))
    assert main(["propose", str(path)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert "20 requests, worth 20 independent ones; 0.95 takes at least 59" in err
    assert "availability: " in err
    assert "0.9 takes at least 29" in err
    assert main(["propose", str(path), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["spec"] is None


def test_thresholds_only_of_what_the_engine_can_tell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Beyond the last bucket edge nothing is proposed, and below 90 % answered no availability."""
    endless = [catalog.TTFT.buckets[-1] + 1.0] * 300
    path = _records(tmp_path / "slow.jsonl", _recording(endless, dict.fromkeys(range(0, 300, 3), "http_5xx")))
    assert main(["propose", str(path)]) == 0  # TPOT is fine
    err = capsys.readouterr().err
    assert "ttft" in err
    assert "beyond the last bucket edge" in err
    assert "only 66.7% were answered" in err


def test_names_from_files_cannot_leave_their_comment(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A model called like a piece of YAML stays a comment."""
    recording = _recording(_ttfts(300), model="x\nslos: []\u2028evil: 1\x85more: 2\x00")
    path = _records(tmp_path / "run.jsonl", recording)
    assert main(["propose", str(path)]) == 0
    out = capsys.readouterr().out
    assert set(yaml.safe_load(out)) == {"apiVersion", "service", "period", "engine", "slos"}
    assert len(out.splitlines()) == out.count("\n")


def test_a_killed_run_can_be_read(records: Path) -> None:
    """A torn last line is left out; a broken one before it is not."""
    text = records.read_text()
    whole = text.splitlines(keepends=True)
    records.write_text("".join(whole[:100]) + whole[100][:50])
    assert len(read(records)[0].answered) == 98  # the header is a line, one was cancelled
    records.write_text("".join(whole[:50]) + "{torn\n" + "".join(whole[51:]))
    with pytest.raises(ValueError, match=r"run\.jsonl:51: not what"):
        read(records)


def _damaged(recording: Recording) -> Iterator[str]:
    header = encode(recording.header)
    baseline = encode_baseline(from_recording(recording))
    yield from ("", "{}", "[]", "{\n", "[" * 100_000, "{\n" + "[" * 100_000, '{"header": {}}', "hello", "\x00")
    yield header.replace('"version": 1', '"version": 9')
    yield header + '\n{"seq": 1}\n'
    yield header + '\n{"seq": 1, "scheduled_ns": NaN, "done_ns": 1}\n'
    yield header + '\n{"seq": 1, "scheduled_ns": 1, "done_ns": 2, "token_ns": "abc"}\n'
    yield baseline.replace('"outcomes"', '"outcome"')
    yield baseline.replace('"ttft": [', '"ttft": [NaN,')
    yield baseline.replace('"version": 1', '"version": 2')


@pytest.mark.parametrize("number", range(16))
def test_other_files_are_refused_in_one_line(number: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is no records file and no baseline is named with its place, exit code 2."""
    path = tmp_path / "run.jsonl"
    path.write_text(list(_damaged(_recording(_ttfts(5))))[number])
    assert main(["propose", str(path)]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"slo-gen: {path}")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--objective", "20%"], "too low to alert on"),
        (["missing.jsonl"], "missing.jsonl: cannot be read"),
    ],
)
def test_bad_usage(flags: list[str], said: str, records: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An objective that no alert can watch, a file that is not there: one line and exit code 2."""
    assert main(["propose", str(records), *flags]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("flags", [["--objective", "120%"], ["--confidence", "x"], ["--service", "My Service"]])
def test_bad_flags(flags: list[str], records: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Values that flags do not take are bad usage."""
    with pytest.raises(SystemExit) as ended:
        main(["propose", str(records), *flags])
    assert ended.value.code == 2
    assert flags[0] in capsys.readouterr().err
