"""`slo-gen backtest`: scoring and recommending on made-up histories, then on a real Prometheus and on records."""

import json
import time
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

import pytest
from small_servers import needs_prometheus, prometheus, serving

from loadgen.results.record import Client, Fingerprint, Header, RequestRecord, encode
from loadgen.traffic.arrivals import NS, Load
from loadgen.traffic.workload import Workload
from slo import catalog
from slo.cli import main
from slo.evidence.backtest import Incident, Score, best, candidates, case, score
from slo.evidence.replay import History, Policy
from slo.sli import LatencySli
from slo.spec.model import Slo
from slo.windows import DAY, HOUR, MINUTE

TTFT = Slo(service="chat", name="ttft", objective=0.95, sli=LatencySli(catalog.TTFT, 0.25))
WEEK = 7 * DAY // MINUTE


def _history(*phases: tuple[int, float], slo: Slo = TTFT) -> History:
    """Minutes and error ratios at ten requests a second, as five-minute rates."""
    shares = [share for minutes, share in phases for _ in range(minutes)]
    sums = [0.0, *accumulate(shares)]
    good = [10 * (1 - (sums[i + 1] - sums[max(0, i - 4)]) / 5) for i in range(len(shares))]
    return History(slo=slo, group={}, start=0, step=60, good=good, total=[10.0] * len(shares))


def _minutes(incidents: Sequence[Incident]) -> list[tuple[int, int]]:
    return [(int(i.start // 60), int(i.end // 60)) for i in incidents]


# --- what is an incident, and what a page was worth ------------------------------------------------------------------


def test_without_labels_incidents_are_what_used_the_budget() -> None:
    """Two bursts twenty minutes apart are one incident; half an hour of 40 % errors uses 0.6 % of 30 days at 95 %."""
    history = _history((3000, 0.0), (15, 0.4), (20, 0.0), (15, 0.4), (WEEK, 0.01))
    [found] = case(history, 0, None, 0.005).incidents
    assert _minutes([found]) == [(3000, 3053)]
    assert case(history, 0, None, 0.006).incidents == ()  # 12 minutes' worth of the 2160 that may be bad: 0.56 %


def test_labelled_incidents_count_where_they_can_be_seen() -> None:
    """Of three labels one is another SLO's, and one raised no errors here."""
    history = _history((1000, 0.0), (60, 0.5), (2000, 0.0))
    labels = [Incident(990 * 60, 1060 * 60), Incident(990 * 60, 1060 * 60, "chat-tpot"), Incident(6e4 * 2, 6e4 * 2.5)]
    assert _minutes(case(history, 0, labels, 0.02).incidents) == [(990, 1060)]
    assert case(history, 2000 * 60, labels, 0.02).incidents == ()  # before the span


def test_a_score_tells_hits_misses_false_pages_delay_and_loss() -> None:
    """An outage is paged after ten minutes with their errors lost; an unlabelled one is a false page, a leak a miss."""
    history = _history((1000, 0.0), (30, 1.0), (1000, 0.0), (30, 1.0), (1000, 0.0), (600, 0.08), (WEEK - 3660, 0.0))
    labels = [Incident(1000 * 60, 1030 * 60), Incident(3060 * 60, 3660 * 60)]
    found = score([case(history, 0, labels, 0.02)], Policy())
    assert (found.pages, found.true_pages, found.incidents, len(found.delays)) == (2, 1, 2, 1)
    assert (found.recall, found.precision, found.f1) == (0.5, 0.5, 0.5)
    assert found.weeks == pytest.approx(1)
    assert found.delays[0] == pytest.approx(10 * MINUTE, abs=MINUTE)
    # Ten minutes of nothing but errors; 5 % of 30 days may be bad. The five-minute rates hold back two of them.
    assert found.lost[0] == pytest.approx(10 / (0.05 * 30 * 24 * 60), rel=0.3)


def test_a_quiet_past_is_a_perfect_score() -> None:
    """No incident and no page is right; no incident and a page is not, an unseen incident neither."""
    quiet = score([case(_history((WEEK, 0.001)), 0, None, 0.02)], Policy())
    assert (quiet.pages, quiet.recall, quiet.precision, quiet.f1) == (0, None, None, 1.0)
    assert Score(policy=Policy(), weeks=1, pages=1).f1 == 0
    assert Score(policy=Policy(), weeks=1, incidents=1).f1 == 0


# --- which policy to take --------------------------------------------------------------------------------------------


def _best(*histories: History, labels: Sequence[Incident] | None = None) -> Score:
    cases = [case(history, 0, labels, 0.001) for history in histories]
    return best([score(cases, policy) for policy in candidates()])


def test_what_does_as_well_is_not_changed() -> None:
    """On a quiet past, and where nothing finds more, the policy in force stays."""
    assert candidates()[0] == Policy()
    assert _best(_history((WEEK, 0.001))).policy == Policy()


def test_short_outages_ask_for_a_sooner_page() -> None:
    """Outages of eight minutes are over before the policy in force pages; a lower cap finds them all."""
    history = _history(*[(1500, 0.0), (8, 1.0)] * 4, (1500, 0.0))
    now = score([case(history, 0, None, 0.001)], Policy())
    found = _best(history)
    assert (now.recall, found.recall, found.precision) == (0, 1, 1)
    assert found.policy.detection_share < Policy().detection_share


def test_blips_ask_for_a_later_page() -> None:
    """Where people call only the long outages incidents, a policy wins that lets the blips of 11 minutes pass."""
    history = _history(*[(1500, 0.0), (11, 1.0)] * 5, (1500, 0.0), (60, 1.0), (1500, 0.0))
    start = 5 * 1511 + 1500
    labels = [Incident(start * 60, (start + 60) * 60)]
    now = score([case(history, 0, labels, 0.02)], Policy())
    found = _best(history, labels=labels)
    assert (now.precision, found.precision, found.recall) == (1 / 6, 1, 1)


# --- from a Prometheus -----------------------------------------------------------------------------------------------

SPEC = """
apiVersion: llm-slo/v1
service: chat
slos:
  - {name: ttft, objective: 95%, sli: {latency: {metric: ttft, threshold: 250ms}}}
  - {name: tpot, objective: 95%, sli: {latency: {metric: tpot, threshold: 50ms}}}
  - {name: up, objective: 99%, sli: {availability: {}}}
"""


@pytest.fixture
def spec(tmp_path: Path) -> str:
    path = tmp_path / "chat.yaml"
    path.write_text(SPEC)
    return str(path)


@needs_prometheus
@pytest.mark.prometheus
def test_raw_and_recorded_series_are_replayed(spec: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """TTFT has raw counters only, of two models, TPOT what the rules recorded; an hour's outage is paged in each.

    Availability has no data and says so; of a third model, whose engine lacks the bucket, nobody knows. Labels say when
    the outage was, in YAML or in CSV.
    """
    now = int(time.time()) // 60 * 60
    minutes = range(now - 30 * HOUR, now, 60)
    outage = (now - 5 * HOUR, now - 4 * HOUR)
    bad = [outage[0] < at <= outage[1] for at in minutes]
    good = [0, *accumulate(0 if one else 120 for one in bad)]
    name = "llm_time_to_first_token_seconds"
    samples = {
        f'{name}_count{{model_name="a"}}': [(at, 120.0 * i) for i, at in enumerate(minutes)],
        f'{name}_bucket{{le="0.25",model_name="a"}}': [(at, good[i]) for i, at in enumerate(minutes)],
        f'{name}_count{{model_name="b"}}': [(at, 120.0 * i) for i, at in enumerate(minutes)],
        f'{name}_bucket{{le="0.25",model_name="b"}}': [(at, 120.0 * i) for i, at in enumerate(minutes)],
        f'{name}_count{{model_name="c"}}': [(at, 120.0 * i) for i, at in enumerate(minutes)],
        'slo:total:rate5m{slo="chat-tpot",model_name="a"}': [(at, 2.0) for at in minutes],
        'slo:good:rate5m{slo="chat-tpot",model_name="a"}': [
            (at, 0.0 if b else 2.0) for at, b in zip(minutes, bad, strict=True)
        ],
    }
    written = tmp_path / "incidents.csv"
    written.write_text(f"start,end\n{outage[0]},{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(outage[1]))}\n")
    with prometheus(tmp_path, samples) as url:
        command = ["backtest", spec, "--prometheus", url, "--since", "1d"]
        assert main([*command, "--incidents", str(written), "--json"]) == 0
        out, err = capsys.readouterr()
        assert main(command) == 0
        table = capsys.readouterr().out.splitlines()
    found = {(one["slo"], one["group"]["model_name"]): one for one in json.loads(out)["cases"]}
    assert set(found) == {("chat-ttft", "a"), ("chat-ttft", "b"), ("chat-tpot", "a")}
    assert "no data for chat-up" in err
    for one in (found["chat-ttft", "a"], found["chat-tpot", "a"]):
        assert (one["pages"], one["incidents_paged"], one["recall"], one["precision"]) == (1, 1, 1, 1)
        assert one["weeks"] == pytest.approx(1 / 7, rel=0.01)
    # A total outage trips the one-hour window at 95 % after 3600 s / 6.
    assert found["chat-ttft", "a"]["seconds_to_page"][0] == pytest.approx(600, abs=120)
    assert (found["chat-ttft", "b"]["pages"], found["chat-ttft", "b"]["incidents_seen"]) == (0, 0)
    assert json.loads(out)["best"]["chat-ttft"]["recall"] == 1
    assert table[1].split()[:2] == ["chat-ttft", "a"]
    assert table[-1].startswith("chat-tpot: ")


def test_an_empty_prometheus_has_nothing_to_replay(spec: str, capsys: pytest.CaptureFixture[str]) -> None:
    """No data for any SLO is one line more, and exit code 2."""
    with serving(lambda *_: (200, '{"status": "success", "data": {"result": []}}')) as url:
        assert main(["backtest", spec, "--prometheus", url]) == 2
    assert "nothing to replay" in capsys.readouterr().err


# --- from records ----------------------------------------------------------------------------------------------------


def test_a_load_test_is_replayed(spec: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of an hour of requests those of twenty minutes come late: TTFT pages, availability does not."""
    path = tmp_path / "run.jsonl"
    header = Header(
        started_unix_ns=1_790_000_000 * NS,
        target="http://127.0.0.1:8000",
        timeout=60.0,
        workload=Workload(),
        load=Load(rate=1.0),
        fingerprint=Fingerprint(model="m"),
        client=Client(version="0", python="3", event_loop="asyncio", cores=2),
    )
    with path.open("w") as file:
        file.write(encode(header) + "\n")
        for seq in range(3600):
            due, first = seq * NS, (seq + (1 if 1800 <= seq < 3000 else 0.1)) * NS
            record = RequestRecord(
                seq=seq, trace_id="", scheduled_ns=due, sent_ns=due, done_ns=int(first), token_ns=(int(first),)
            )
            file.write(encode(record) + "\n")
    assert main(["backtest", spec, "--records", str(path), "--incident-share", "0.1%", "--json"]) == 0
    found = {one["slo"]: one for one in json.loads(capsys.readouterr().out)["cases"]}
    assert [firing["severity"] for firing in found["chat-ttft"]["firings"]] == ["page", "ticket"]
    assert found["chat-ttft"]["recall"] == 1
    assert found["chat-up"]["firings"] == []


def test_a_clock_that_jumps_is_no_load_test(spec: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Requests years apart are refused, not spread over millions of minutes."""
    path = tmp_path / "run.jsonl"
    header = {"started_unix_ns": 0, "fingerprint": {"model": "m"}, "load": {}}
    lines = [{"format": "llm-slo-records", "version": 1, "header": header}]
    lines += [{"scheduled_ns": at * NS, "done_ns": at * NS} for at in (0, 1_790_000_000)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert main(["backtest", spec, "--records", str(path)]) == 2
    assert "days apart; that is no load test" in capsys.readouterr().err


@pytest.mark.parametrize("broken", ["", "[]", "{}"])
def test_other_files_are_no_records(broken: str, spec: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is no records file is one line and exit code 2."""
    path = tmp_path / "run.jsonl"
    path.write_text(broken)
    assert main(["backtest", spec, "--records", str(path)]) == 2
    assert capsys.readouterr().err.startswith(f"slo-gen: {path}:1: not what")


# --- incidents as people write them ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("i.yaml", "- {start: 2026-01-01T10:00:00Z, end: 2026-01-01T09:00:00Z}", "i.yaml:1: the incident ends"),
        ("i.yaml", "- {start: 1, end: 5}\n- {start: yesterday, end: 7}", "i.yaml:2: 'yesterday' is no time"),
        ("i.yaml", "- {start: 1}", "i.yaml:1: 'end' is missing"),
        ("i.yaml", "- {start: 1, end: 2, model: x}", "i.yaml:1: unknown key 'model'"),
        ("i.yaml", "start: 1", "expected a list"),
        ("i.csv", "from,to\n1,2\n", "i.csv:1: expected a header line"),
        ("i.csv", "start,end\n1,2\n3,2\n", "i.csv:3: the incident ends"),
        ("i.csv", "start,end\n1\n", "i.csv:2: '' is no time"),
        ("i.csv", "start,end\n1,9999999999999\n2,1e400\n", "i.csv:3: '1e400' is no time"),
        ("i.csv", "", "i.csv:1: expected a header line"),
    ],
)
def test_bad_incidents_are_located(
    name: str, text: str, said: str, spec: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Wrong times, orders, keys and headers are one line with the place, and exit code 2."""
    path = tmp_path / name
    path.write_text(text)
    assert main(["backtest", spec, "--prometheus", "http://127.0.0.1:9", "--incidents", str(path)]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("flags", [["--since", "soon"], ["--incident-share", "2"], ["--records", "x"]])
def test_bad_flags(flags: list[str], spec: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Spans, shares and a second source are refused by argparse."""
    with pytest.raises(SystemExit) as ended:
        main(["backtest", spec, "--prometheus", "http://x", *flags])
    assert ended.value.code == 2
