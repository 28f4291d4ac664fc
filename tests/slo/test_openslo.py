"""OpenSLO in and out: what converts and with which values, what is refused and where, and that a round trip keeps."""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_servers import needs_prometheus

from slo import catalog, grammar
from slo.cli import main
from slo.openslo.queries import canonical
from slo.promql import Scope, aggregate, equals
from slo.sli import AvailabilitySli, ItlSli, LatencySli, PromqlSli
from slo.sli import exact as exact_queries
from slo.spec.model import Slo, Spec, load

# An SLO of requests, with everything that OpenSLO wants and what may be asked of it.
SLO = """
apiVersion: openslo/v1
kind: SLO
metadata:
  name: chat-answered
  labels: {owner: ml-serving, team: [a, b], cost-centre: x1}
  annotations: {llm-slo/runbook: "https://wiki/answered", other.org/thing: "1"}
spec:
  description: Requests are answered.
  service: chat
  indicator:
    metadata: {name: answered}
    spec:
      ratioMetric:
        counter: true
        good: {metricSource: {type: Prometheus, spec: {query: 'sum by (cluster) (requests_total{code!~"5.."})'}}}
        total: {metricSource: {type: Prometheus, spec: {query: 'sum by (cluster) (requests_total)'}}}
  timeWindow: [{duration: 4w, isRolling: true}]
  budgetingMethod: Occurrences
  objectives: [{displayName: Answered, target: 0.99}]
"""


def _document(**changes: object) -> str:
    """The SLO with values replaced; keys are paths with `__` between names, None takes a key out."""
    document = yaml.safe_load(SLO)
    for path, value in changes.items():
        *parents, last = path.split("__")
        at = document
        for parent in parents:
            at = at[int(parent)] if isinstance(at, list) else at[parent]
        if value is None:
            del at[last]
        else:
            at[last] = value
    return yaml.safe_dump(document, sort_keys=False)


RATIO = "spec__indicator__spec__ratioMetric"


def _metric(query: str) -> dict[str, object]:
    return {"metricSource": {"type": "Prometheus", "spec": {"query": query}}}


def _ratio(good: str, total: str, counter: bool = True, **more: object) -> str:
    return _document(**{RATIO: {"counter": counter, "good": _metric(good), "total": _metric(total)}}, **more)


@pytest.fixture
def convert(tmp_path: Path, capsys: pytest.CaptureFixture[str]):  # type: ignore[no-untyped-def]
    """Imports a text and gives the spec, loaded, and its own text."""

    def imported(text: str) -> tuple[Spec, str]:
        (tmp_path / "openslo.yaml").write_text(text)
        assert main(["import", str(tmp_path / "openslo.yaml")]) == 0, capsys.readouterr().err
        written = capsys.readouterr().out
        (tmp_path / "spec.yaml").write_text(written)
        return load(tmp_path / "spec.yaml"), written

    return imported


# --- what converts ---------------------------------------------------------------------------------------------------


def test_a_ratio_of_counters(convert) -> None:  # type: ignore[no-untyped-def]
    """Every fact of the document arrives: counters as rates over the window, names without the service's twice."""
    spec, written = convert(SLO)
    [slo] = spec.slos
    assert (spec.service, spec.group_by, slo.id) == ("chat", ("cluster",), "chat-answered")
    assert (slo.objective, slo.period, slo.description) == (0.99, 28 * 86_400, "Requests are answered.")
    assert (slo.owner, slo.runbook) == ("ml-serving", "https://wiki/answered")
    assert slo.labels == {"team": "a,b", "cost_centre": "x1"}
    assert slo.sli == PromqlSli(
        'sum by (cluster) (rate(requests_total{code!~"5.."}[{{window}}]))',
        "sum by (cluster) (rate(requests_total[{{window}}]))",
    )
    assert written.startswith("# From OpenSLO")


@pytest.mark.parametrize(
    ("good", "total", "counter", "expected"),
    [
        ("sum(rate(ok[5m]))", "sum(rate(all[5m]))", False, "sum(rate(ok[{{window}}]))"),
        ("sum(rate(ok[{{.window}}]))", "sum(rate(all[{{ window }}]))", False, "sum(rate(ok[{{window}}]))"),
        ("sum(rate(ok[90s] offset 1m))", "sum(rate(all[5m] offset -1500ms))", False,
         "sum(rate(ok[{{window}}] offset 1m))"),
        ("sum(increase(ok[1h]))", "sum(increase(all[1h]))", True, "sum(rate(ok[{{window}}]))"),
        ('ok{a="\\"\\\\"}', "all", True, 'rate(ok{a="\\"\\\\"}[{{window}}])'),
        ("sum(a) + sum(b) - (c)", "all", True,
         "sum(rate(a[{{window}}])) + sum(rate(b[{{window}}])) - (rate(c[{{window}}]))"),
        ("avg_over_time((max_over_time(q[1m]) < bool 3)[5m:1m]) / 60", "avg_over_time((q * 0 + 1)[5m:1m]) / 60", False,
         "avg_over_time((max_over_time(q[1m]) < bool 3)[{{window}}:1m]) / 60"),
    ],
)  # fmt: skip
def test_queries(convert, good: str, total: str, counter: bool, expected: str) -> None:  # type: ignore[no-untyped-def]
    """Ranges give way to the window, whatever their spelling; subqueries keep what is inside of them."""
    spec, _ = convert(_ratio(good, total, counter))
    assert spec.slos[0].sli.good_query == expected


@pytest.mark.parametrize(
    ("name", "labels", "expected"),
    [
        ("llm_time_to_first_token_seconds", 'le="0.25"', LatencySli(catalog.TTFT, 0.25)),
        ("llm_inter_token_latency_seconds", 'le="0.05"', ItlSli(0.05)),
        ("vllm:e2e_request_latency_seconds", 'le="60.0"', LatencySli(catalog.E2E, 60, engine="vllm")),
    ],
)
def test_known_histograms_become_latencies(convert, name: str, labels: str, expected: LatencySli) -> None:  # type: ignore[no-untyped-def]
    """A bucket over its count is our latency SLI, narrowed by what the selectors share; an engine's names are named."""
    text = _ratio(
        f'sum by (model_name) ({name}_bucket{{{labels},cluster="a"}})',
        f'sum by (model_name) ({name}_count{{cluster="a"}})',
    )
    spec, written = convert(text)
    assert spec.slos[0].sli == expected
    assert (spec.selector, spec.group_by) == ({"cluster": "a"}, ("model_name",))
    assert ("build it with --source vllm" in written) == name.startswith("vllm:")


def test_known_counters_become_availability(convert) -> None:  # type: ignore[no-untyped-def]
    """The queries of our availability SLI are that SLI again."""
    sli, scope = AvailabilitySli("/v1/embeddings"), Scope("exporter", (), ("model_name",))
    spec, _ = convert(_ratio(sli.good("5m", scope), sli.total("5m", scope), False))
    assert spec.slos[0].sli == sli


def test_what_only_looks_like_a_latency_stays_a_query(convert) -> None:  # type: ignore[no-untyped-def]
    """Another quantity in the total, or SLOs of one service that are narrowed differently, keep their queries."""
    name = "llm_time_to_first_token_seconds"
    for le, narrowed in (("0.25", '{a="b"}'), ("0.26", ""), ("1.2.3", "")):
        spec, _ = convert(_ratio(f'sum({name}_bucket{{le="{le}"}})', f"sum({name}_count{narrowed})"))
        assert isinstance(spec.slos[0].sli, PromqlSli)
    one, two = (
        _ratio(f'sum({name}_bucket{{a="{x}",le="0.25"}})', f'sum({name}_count{{a="{x}"}})', metadata__name=x)
        for x in ("x", "y")
    )
    spec, _ = convert(f"{one}---\n{two}")
    assert [type(slo.sli) for slo in spec.slos] == [PromqlSli, PromqlSli]
    assert spec.selector == {}


def test_documents_refer_to_each_other(convert) -> None:  # type: ignore[no-untyped-def]
    """SLI and data source by name, in other YAML documents or in a list; several objectives become several SLOs."""
    sli = {
        "apiVersion": "openslo/v1",
        "kind": "SLI",
        "metadata": {"name": "answered"},
        "spec": {
            "ratioMetric": {
                "counter": True,
                "bad": {"metricSource": {"metricSourceRef": "main", "spec": {"query": "failed", "dimensions": ["x"]}}},
                "total": {"metricSource": {"metricSourceRef": "main", "spec": {"query": "all"}}},
            }
        },
    }
    source = {
        "apiVersion": "openslo/v1",
        "kind": "DataSource",
        "metadata": {"name": "main"},
        "spec": {"type": "Thanos"},
    }
    service = {"apiVersion": "openslo/v1", "kind": "Service", "metadata": {"name": "chat"}, "spec": {}}
    policies = [{"alertPolicyRef": "fast"}, {"kind": "AlertPolicy", "metadata": {"name": "slow"}}]
    slo = _document(
        spec__indicator=None,
        spec__indicatorRef="answered",
        spec__objectives=[{"displayName": "Gold users", "targetPercent": 99.95}, {"displayName": "All", "target": 0.9}],
        spec__alertPolicies=policies,
        spec__timeWindow=None,
    )
    spec, written = convert(
        f"# all of it\n---\n{yaml.safe_dump([sli, source])}\n---\n{slo}---\n{yaml.safe_dump(service)}"
    )
    told = [(one.name, one.objective) for one in spec.slos]
    assert told == [("answered-gold-users", 0.9995), ("answered-all", 0.9)]
    assert spec.slos[0].sli == PromqlSli(
        "(rate(all[{{window}}])) - (rate(failed[{{window}}])) or (rate(all[{{window}}]))", "rate(all[{{window}}])"
    )
    assert "not taken over: fast, slow" in written
    assert "no timeWindow was given: 30d" in written
    assert "not taken over: spec.ratioMetric.bad.metricSource.spec.dimensions" in written


# --- with which values, says Prometheus ------------------------------------------------------------------------------

THRESHOLD = {"thresholdMetric": _metric("queue_length")}
TIMESLICES = {"target": 0.9, "timeSliceTarget": 0.95, "timeSliceWindow": "1m"}


@needs_prometheus
@pytest.mark.prometheus
@pytest.mark.parametrize(
    ("document", "good", "total"),
    [
        # Two requests a second; from the tenth minute one in ten fails, counted from then on only.
        (_document(**{RATIO: {"counter": True, "bad": _metric("bad"), "total": _metric("all")}}), 1.8, 2),
        # One slice a minute: all are bad at 90 %, and each is worth 0.9.
        (_ratio("ok", "all", spec__budgetingMethod="Timeslices", spec__objectives=[TIMESLICES]), 0, 1 / 60),
        (_ratio("ok", "all", spec__budgetingMethod="RatioTimeslices", spec__objectives=[TIMESLICES]), 0.9 / 60, 1 / 60),
        # 3, 7, NaN, 3, 7, NaN ...: of each three minutes two have a value, one of which is at most 5.
        (
            _document(spec__indicator={"spec": THRESHOLD}, spec__objectives=[{"op": "lte", "value": 5, "target": 0.9}]),
            1 / 3 / 60,
            2 / 3 / 60,
        ),
    ],
    ids=["bad", "timeslices", "ratio-timeslices", "threshold"],
)
def test_values(convert, document: str, good: float, total: float, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """promtool evaluates the converted queries over half an hour of known events."""
    spec, _ = convert(document)
    scope = Scope("exporter", (), spec.group_by)
    queries = [spec.slos[0].sli.good("15m", scope), spec.slos[0].sli.total("15m", scope)]
    series = {"all": "0+120x40", "ok": "0+120x10 1308+108x30", "bad": "_x10 0+12x30", "queue_length": "3 7 NaN " * 14}
    case = {
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": name, "values": values} for name, values in series.items()],
                "promql_expr_test": [
                    {
                        # Before Prometheus 3 a subquery of fifteen minutes has sixteen points.
                        "expr": f"abs(({query}) - {value}) < bool {total * 0.07}",
                        "eval_time": "35m",
                        "exp_samples": [{"labels": "{}", "value": 1}],
                    }
                    for query, value in zip(queries, (good, total), strict=True)
                ],
            }
        ],
    }
    (tmp_path / "case.yaml").write_text(json.dumps(case))  # JSON is YAML
    done = subprocess.run(["promtool", "test", "rules", "case.yaml"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[:2000]


# --- what is refused -------------------------------------------------------------------------------------------------

ONE = "spec__objectives__0"
WINDOW = "spec__timeWindow__0"
RAW = {"rawType": "success", "raw": _metric("ratio")}
ANY = {"counter": True, "good": {"metricSource": {"type": "Any", "spec": {"query": "Any"}}}, "total": _metric("all")}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (_document(apiVersion="openslo/v1alpha"), "apiVersion: 'openslo/v1alpha' is not openslo/v1"),
        (_document(apiVersion="openslo.com/v2alpha"), "apiVersion: 'openslo.com/v2alpha' is not"),
        (_document(kind="Slo"), "kind: 'Slo' is no kind of openslo/v1"),
        (_document(metadata__name=None), "metadata: 'name' is missing"),
        (_document(spec=None), "SLO 'chat-answered': 'spec' is missing"),
        (_document(spec__service=None), "spec: 'service' is missing"),
        (_document(**{f"{WINDOW}__duration": "2w"}), "spec.timeWindow[0].duration: '2w' is none"),
        (_document(**{f"{WINDOW}__isRolling": False}), "spec.timeWindow[0].isRolling: a calendar"),
        (_document(**{f"{WINDOW}__calendar": {"startTime": "x"}}), "timeWindow[0].calendar: a calendar"),
        (_document(spec__timeWindow=[]), "spec.timeWindow: expected exactly one"),
        (_document(spec__budgetingMethod="Events"), "spec.budgetingMethod: 'Events' is none of Occurrences"),
        (_document(spec__objectives=[]), "spec.objectives: at least one objective"),
        (_document(spec__objectives=[{}]), "spec.objectives[0]: expected either target or targetPercent"),
        (_document(spec__objectives=[{"target": "high"}]), "spec.objectives[0].target: 'high' is not a number"),
        (_document(**{f"{ONE}__target": 0.2}), "spec.objectives[0]: a spec cannot hold this SLO: objective 0.2"),
        (_document(**{f"{ONE}__indicatorRef": "x"}), "spec.objectives[0].indicatorRef: a composite"),
        (_document(**{f"{ONE}__goal": 1}), "spec.objectives[0]: 'goal' is no field"),
        (_document(spec__indicator=None), "spec: expected either indicator or indicatorRef"),
        (_document(spec__indicator=None, spec__indicatorRef="x"), "spec.indicatorRef: no SLI 'x' in this file"),
        (_document(spec__indicator__spec={}), "spec.indicator.spec: expected either ratioMetric or thresholdMetric"),
        (_document(**{RATIO: RAW}), "ratioMetric.raw: a ratio computed before has lost its events"),
        (_document(**{RATIO: ANY}), "ratioMetric.good.metricSource.type: 'Any' is no Prometheus"),
        (_document(**{RATIO: {"total": _metric("all")}}), "ratioMetric: expected either good or bad beside total"),
        (_document(**{f"{RATIO}__total": None}), "ratioMetric: 'total' is missing"),
        (_document(**{f"{RATIO}__counter": "yes"}), "ratioMetric.counter: 'yes' is neither true nor false"),
        (_document(**{f"{RATIO}__good__metricSource__type": None}), "good.metricSource: 'type' or 'metricSourceRef'"),
        (_document(**{f"{RATIO}__good__metricSource": {"metricSourceRef": "x", "spec": {}}}), "no DataSource 'x'"),
        (_ratio("ok", "all", False), "good.metricSource.spec.query: a value of the moment: give a rate"),
        (_ratio("max(ok)", "all"), "query: counters may be added, subtracted and summed"),
        (_ratio("count_over_time(ok[5m])", "all"), "query: count_over_time() over a range of its own"),
        (_ratio("rate(ok[5m] @ 0)", "all"), "query: a fixed time (@)"),
        (_ratio("rate(ok[5m", "all"), "query: not valid PromQL"),
        (_ratio("rate(ok[{{span}}])", "all"), "query: unknown placeholder {{span}}"),
        (_ratio("(" * 1500 + "ok" + ")" * 1500, "all"), "a query with too many operators or brackets"),
        (_ratio("+".join(["ok"] * 1300), "all"), "a query with too many operators or brackets"),
        (_ratio("(" * 40_000, "all"), "query: not valid PromQL: longer than"),
        (_ratio("all", "all"), "are the same expression"),
        (_document(spec__indicator={"spec": THRESHOLD}), "spec.objectives[0]: 'op' is missing"),
        (_document(spec__indicator={"spec": THRESHOLD}, spec__objectives=[{"op": "eq", "value": 1}]), "'eq' is none"),
        (_ratio("ok", "all", spec__budgetingMethod="Timeslices"), "spec.objectives[0]: 'timeSliceWindow' is missing"),
        (
            _ratio("ok", "all", spec__budgetingMethod="Timeslices", spec__objectives=[{"timeSliceWindow": "1h"}]),
            "spec.objectives[0].timeSliceWindow: '1h' is not one of 1m to 5m",
        ),
        (_document(metadata__labels={"severity": "x"}), "a spec cannot hold this SLO: the label 'severity' is taken"),
        (_document(spec__service="../../etc"), "a spec cannot hold this SLO: '../../etc' is no name"),
        (SLO + "---" + SLO, "SLO 'chat-answered': a second document of this kind and name"),
        ("kind: Service\napiVersion: openslo/v1\nmetadata: {name: x}\n", "no SLO in it"),
        ("# nothing\n---\n", "no OpenSLO document in it"),
        ("- 7", "OpenSLO document: expected a mapping"),
        ("a: [", "not valid YAML"),
    ],
)  # fmt: skip
def test_refusals_name_document_and_field(
    text: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each is one line with the place, exit code 2, and nothing is written."""
    (tmp_path / "openslo.yaml").write_text(text)
    assert main(["import", str(tmp_path / "openslo.yaml"), "--out", str(tmp_path / "out")]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.startswith(f"slo-gen: {tmp_path}/openslo.yaml:")
    assert err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_lines_are_those_of_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In the third document, after a comment and a marker with text, the line is right; every refused SLO has one."""
    first = _document(metadata__name="chat-a", spec__budgetingMethod="X")
    second = _document(metadata__name="chat-b", spec__budgetingMethod="Y")
    text = f"# head\n--- # one\n{first}...\n---\n{second}"
    (tmp_path / "openslo.yaml").write_text(text)
    assert main(["import", str(tmp_path / "openslo.yaml")]) == 2
    lines = [i + 1 for i, line in enumerate(text.splitlines()) if "budgetingMethod" in line]
    err = capsys.readouterr().err.splitlines()
    assert [f"openslo.yaml:{line}: SLO" in told for line, told in zip(lines, err, strict=True)] == [True, True]


def test_a_missing_file_and_a_file_that_is_no_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What cannot be read is one line."""
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "large").write_bytes(b"#" * 2_000_000)
    for name, said in (("missing", "cannot be read"), ("binary", "UTF-8"), ("large", "larger than")):
        assert main(["import", str(tmp_path / name)]) == 2
        assert said in capsys.readouterr().err


def test_a_spec_per_service(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """SLOs of two services need a directory, and get a file each."""
    (tmp_path / "openslo.yaml").write_text(f"{SLO}---\n{_document(spec__service='batch')}".replace("answered", "up", 1))
    assert main(["import", str(tmp_path / "openslo.yaml")]) == 2
    assert "SLOs of 2 services; give --out DIR" in capsys.readouterr().err
    assert main(["import", str(tmp_path / "openslo.yaml"), "--out", str(tmp_path / "out"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["written"] == [
        str(tmp_path / "out" / f"{s}.yaml") for s in ("chat", "batch")
    ]
    assert [load(path).service for path in sorted((tmp_path / "out").iterdir())] == ["batch", "chat"]


# --- out and in again ------------------------------------------------------------------------------------------------

_NAMES = st.from_regex(r"[a-z]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True)
_TEXTS = st.text(st.characters(categories=["L", "N", "P"], include_characters=" "), max_size=20).map(
    lambda text: " ".join(text.split())
)
_SLIS = st.one_of(
    st.sampled_from(catalog.TTFT.buckets).map(lambda t: {"latency": {"metric": "ttft", "threshold": f"{t}s"}}),
    st.sampled_from(catalog.ITL.buckets).map(lambda t: {"latency": {"metric": "itl", "threshold": f"{t}s"}}),
    st.sampled_from([{"availability": {}}, {"availability": {"handlers": "/v1/.*"}}]),
    st.integers(1, 5000).map(lambda floor: {"throughput": {"tokens_per_second": floor, "demand": 4}}),
    st.just({"kv_cache": {"limit": 0.95}}),
    st.just({"stall": {}}),
    st.just({"promql": {
        "good": 'sum by (model_name) (rate(ok_total{a=~"\\\\d\\"", {{selector}}}[{{window}}]))',
        "total": "rate(all_total{ {{selector}} }[{{window}}])",
    }}),
    st.just({"goodput": {"conditions": [
        {"metric": "ttft", "threshold": "250ms"}, {"metric": "tpot", "threshold": "50ms"},
    ]}}),
)  # fmt: skip
_SLO = st.fixed_dictionaries(
    {
        "objective": st.sampled_from(["90%", "99%", "99.95%", "0.999"]),
        "period": st.sampled_from(["7d", "28d", "30d", "90d"]),
        "sli": _SLIS,
    },
    optional={
        "description": _TEXTS.filter(bool),
        "owner": _NAMES,
        "runbook": st.just("https://wiki/x"),
        "labels": st.just({"team": "a"}),
    },
)
_SPECS = st.fixed_dictionaries(
    {
        "apiVersion": st.just("llm-slo/v1"),
        "service": _NAMES,
        "group_by": st.sampled_from([[], ["model_name"], ["model_name", "cluster"]]),
        "slos": st.dictionaries(_NAMES, _SLO, min_size=1, max_size=4).map(
            lambda slos: [{"name": name, **slo} for name, slo in slos.items()]
        ),
    },
    optional={"selector": st.just({"namespace": 'a"b'})},
)


def _means(spec: Spec, slo: Slo, window: str) -> tuple[str, str]:
    """Good and total of an SLO, summed to its groups: that changes nothing where they are summed already."""
    scope = Scope("exporter", equals(spec.selector), spec.group_by)
    queries = (
        exact_queries(slo.id, window, scope)
        if slo.exact
        else (slo.sli.good(window, scope), slo.sli.total(window, scope))
    )
    return tuple(canonical(aggregate("sum", query, scope.by)) for query in queries)  # type: ignore[return-value]


@given(_SPECS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
def test_a_round_trip_keeps_the_meaning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: Mapping[str, object]
) -> None:
    """Any spec, exported and imported, has the same SLOs with the same facts, and good and total count the same."""
    before, between, after = (tmp_path / name for name in ("before.yaml", "openslo.yaml", "after.yaml"))
    before.write_text(yaml.safe_dump(content, sort_keys=False))
    old = load(before)
    assert main(["export", str(before)]) == 0
    between.write_text(capsys.readouterr().out)
    assert main(["import", str(between)]) == 0, capsys.readouterr().err
    after.write_text(capsys.readouterr().out)
    new = load(after)
    assert new.service == old.service
    for was, now in zip(old.slos, new.slos, strict=True):
        facts = [(s.id, s.objective, s.period, s.description, s.owner, s.runbook, s.labels) for s in (was, now)]
        assert facts[0] == facts[1]
        for window in ("5m", "1h"):
            kept = _means(new, now, window)
            assert kept in (_means(old, was, window), tuple(_twice(query, old) for query in _means(old, was, window)))


def _twice(query: str, spec: Spec) -> str:
    return canonical(aggregate("sum", query, spec.group_by))


def test_natives_come_back_as_they_were(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Latency and availability survive as SLIs of ours, not as queries; exact SLOs as queries of the exact counters."""
    specs = Path(__file__).parents[2] / "slo" / "specs"
    for name in ("chat", "batch"):
        assert main(["export", str(specs / f"{name}.yaml")]) == 0
        (tmp_path / "openslo.yaml").write_text(capsys.readouterr().out)
        assert main(["import", str(tmp_path / "openslo.yaml")]) == 0
        (tmp_path / "spec.yaml").write_text(capsys.readouterr().out)
        old, new = load(specs / f"{name}.yaml"), load(tmp_path / "spec.yaml")
        for was, now in zip(old.slos, new.slos, strict=True):
            if isinstance(was.sli, LatencySli | ItlSli | AvailabilitySli) and not was.exact:
                assert now.sli == was.sli
            elif was.exact:
                assert isinstance(now.sli, PromqlSli)
                assert {read.name for read in grammar.reads(now.sli.total("5m", Scope()))} == {"llm_slo_events_total"}


def test_a_source_without_the_family(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exporting an exact SLO under an engine's names is one line."""
    spec = tmp_path / "spec.yaml"
    spec.write_text("apiVersion: llm-slo/v1\nservice: s\nslos:\n- {name: a, exact: true, objective: 90%, "
                    "sli: {latency: {metric: ttft, threshold: 3s}}}\n")  # fmt: skip
    assert main(["export", str(spec), "--source", "vllm"]) == 2
    assert "only the sidecar counts events from spans" in capsys.readouterr().err
