"""`slo-gen check`: rules that Prometheus would refuse, pages that lack what the rules read, and what they cost."""

import json
from pathlib import Path

import pytest
from small_servers import serving

from slo import grammar
from slo.cli import main
from slo.delivery import artefacts
from slo.live import exposition
from slo.promql import Matcher
from slo.rules import cost
from slo.spec.model import load

ROOT = Path(__file__).parents[2]
CAPTURE = ROOT / "tests" / "captures" / "vllm-0.32.0-cpu.metrics"
SPECS = {name: load(ROOT / "slo" / "specs" / f"{name}.yaml") for name in ("chat", "batch")}
ONE = """\
apiVersion: llm-slo/v1
service: one
selector: {namespace: prod}
slos:
  - name: ttft
    objective: 95%
    sli: {latency: {metric: ttft, threshold: 250ms}}
"""


def page(text: str) -> exposition.Page:
    return exposition.parse("http://engine/metrics", text)


def problems(text: str, spec: str = ONE, tmp_path: Path | None = None) -> list[str]:
    assert tmp_path is not None
    path = tmp_path / "spec.yaml"
    path.write_text(spec)
    return exposition.problems(page(text), load(path))


def test_a_real_engine_has_all_that_the_shipped_specs_read() -> None:
    """vLLM's page is known by its names; labels that only a scrape adds are not missed."""
    assert page(CAPTURE.read_text()).source == "vllm"
    for spec in SPECS.values():
        assert exposition.problems(page(CAPTURE.read_text()), spec) == []


BUCKETS = """\
# TYPE vllm:time_to_first_token_seconds histogram
vllm:time_to_first_token_seconds_bucket{model_name="m",le="0.1"} 1
vllm:time_to_first_token_seconds_bucket{model_name="m",le="0.5"} 1
vllm:time_to_first_token_seconds_bucket{model_name="m",le="+Inf"} 1
vllm:time_to_first_token_seconds_count{model_name="m"} 1
vllm:time_to_first_token_seconds_sum{model_name="m"} 1
"""


def test_a_threshold_off_the_live_edges_is_told_with_the_nearest(tmp_path: Path) -> None:
    """An engine with buckets of its own makes the SLO silently empty; check says so."""
    assert problems(BUCKETS, tmp_path=tmp_path) == [
        "one-ttft: vllm:time_to_first_token_seconds_bucket has no bucket 0.25 on http://engine/metrics; "
        "the nearest are 0.1 and 0.5"
    ]


@pytest.mark.parametrize("le", ["1", "1.0"])
def test_whole_edges_may_be_spelled_either_way(le: str, tmp_path: Path) -> None:
    """Go and Rust write 1, Python 1.0: the rules match both."""
    text = BUCKETS.replace("0.5", le)
    assert problems(text, ONE.replace("250ms", "1s"), tmp_path) == []
    sidecar = text.replace("vllm:", "llm_")
    assert problems(sidecar, ONE.replace("250ms", "1s"), tmp_path) == []


def test_missing_families_and_uncounted_slos_are_told(tmp_path: Path) -> None:
    """Of an exact SLO the sidecar must know; other families may come with the first request."""
    exact = ONE.replace("objective", "exact: true\n    objective")
    sidecar = "llm_exporter_source_up 1\n"
    assert "start slo-exporter with this spec" in problems(sidecar, exact, tmp_path)[0]
    assert "some appear with the first request" in problems(sidecar, tmp_path=tmp_path)[0]
    assert problems(BUCKETS, exact, tmp_path) == []  # an engine cannot count spans: nothing to say


def test_check_reads_the_page_over_http(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--live takes host:port, follows to /metrics, and makes what is missing a failure."""
    spec = tmp_path / "one.yaml"
    spec.write_text(ONE)
    assert main(["build", str(spec), "--out", str(tmp_path)]) == 0
    capsys.readouterr()
    seen = []

    def answer(_method: str, path: str, *_: object) -> tuple[int, str]:
        seen.append(path)
        return 200, BUCKETS.replace("0.5", "0.25")

    with serving(answer) as url:
        check = ["check", str(spec), "--out", str(tmp_path), "--json", "--live"]
        assert main([*check, url.removeprefix("http://")]) == 0
        assert json.loads(capsys.readouterr().out)["problems"] == []
    with serving(lambda *_: (200, BUCKETS)) as url:
        assert main([*check, f"{url}/metrics"]) == 1
        assert "no bucket 0.25" in json.loads(capsys.readouterr().out)["problems"][0]
    assert seen == ["/metrics"]


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (404, "", "answered 404; give the URL of the metrics page"),
        (200, "<html>", "is no metrics page"),
        (200, "go_goroutines 1\n", "shows nothing of the sidecar or of any engine that is known"),
    ],
)
def test_pages_that_are_none_are_one_line(
    status: int, body: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever answers there: exit 2, one line, no traceback."""
    with serving(lambda *_: (status, body)) as url:
        assert main(["check", str(ROOT / "slo/specs/batch.yaml"), "--live", url]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("url", ["127.0.0.1:1", "http://", "ftp://x"])
def test_unreachable_pages_are_one_line(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody there, no host, no HTTP."""
    assert main(["check", str(ROOT / "slo/specs/batch.yaml"), "--live", url]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    "flags",
    [
        ["--pods", "0"],
        ["--scrape", "1.5"],
        ["--link-grafana", "{{ $value }}"],
        ["--link-runbooks", 'a"b'],
        ["--format", "x"],
    ],
    ids=" ".join,
)
def test_wrong_flags_are_one_line(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Bad usage is one line on stderr and exit code 2; nothing that would become a template gets into a link."""
    with pytest.raises(SystemExit) as ended:
        main(["check", str(ROOT / "slo/specs/batch.yaml"), *flags])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith(f"slo-gen check: argument {flags[0]}: ")
    assert said.count("\n") == 1


# --- grammar and cost ------------------------------------------------------------------------------------------------


def test_reads_are_found_wherever_they_are() -> None:
    """Ranges, subqueries, parameters, negations and names given as a matcher."""
    found = grammar.reads(
        'max_over_time((sum(rate(a{x="1"}[1m])) > -b)[1h:1m]) + topk(scalar(c), {__name__="d",y!~"z"})'
    )
    assert [(read.name, read.seconds, read.times) for read in found] == [
        ("a", 60, 60),
        ("b", 0, 60),
        ("d", 0, 1),
        ("c", 0, 1),
    ]
    assert found[0].matchers == (Matcher("x", "=", "1"),)
    assert found[2].matchers == (Matcher("y", "!~", "z"),)


def test_monstrous_expressions_end_no_process() -> None:
    """Thousands of brackets are refused before the parser recurses; a thousand terms are counted without recursion."""
    assert "longer than" in str(grammar.problem("(" * 100_000 + "x" + ")" * 100_000))
    assert grammar.problem("(" * 1_500 + "x" + ")" * 1_500) is None
    assert len(grammar.reads("+".join(["x"] * 1_500))) == 1_500


def test_costs_add_up_as_the_formula_says(tmp_path: Path) -> None:
    """By hand for one latency SLO: raw windows by pods and scrapes, recorded ones by their own interval."""
    (tmp_path / "one.yaml").write_text(ONE)
    groups = [group for part in artefacts.rule_groups([load(tmp_path / "one.yaml")]).values() for group in part]
    price = cost.estimate(groups, pods=8, scrape=15)
    assert price.groups["llm-slo-one-ttft"] == pytest.approx(2 * 8 * (300 + 3600) / 15 / 60)
    assert price.groups["llm-slo-burn-hours"] == pytest.approx((2 * (24 + 72) + 4) / 60)
    assert price.groups["llm-slo-budget-30d"] == pytest.approx((2 * 8640 + 3) / 180)
    double = cost.estimate(groups, pods=16, scrape=15)
    assert double.groups["llm-slo-one-ttft"] == pytest.approx(2 * price.groups["llm-slo-one-ttft"])
    assert double.groups["llm-slo-budget-30d"] == price.groups["llm-slo-budget-30d"]
