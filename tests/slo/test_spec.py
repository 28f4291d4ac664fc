"""Specs: what is accepted, and that every mistake gives one located line that says what to do."""

import json
from pathlib import Path

import jsonschema
import pytest
import yaml
from bad_specs import BAD, GOOD, SCHEMA_BLIND

from slo import catalog, grammar
from slo.cli import main
from slo.engines import ENGINES
from slo.rules import recording as rules
from slo.sli import GoodputSli, ItlSli, LatencySli, PromqlSli, StallSli
from slo.spec.model import LATENCIES, PERIODS, SpecError, load
from slo.windows import DAY

SPECS = Path(__file__).parents[2] / "slo" / "specs"


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "spec.yaml"
    path.write_text(text)
    return path


def refusal(tmp_path: Path, text: str) -> str:
    """The message for a bad spec, with the folder taken off."""
    with pytest.raises(SpecError) as caught:
        load(write(tmp_path, text))
    return str(caught.value).removeprefix(f"{tmp_path}/")


@pytest.mark.parametrize("path", sorted(SPECS.glob("*.yaml")), ids=lambda p: p.name)
def test_shipped_specs_load(path: Path) -> None:
    """The specs that we ship are valid, and their SLO ids carry the service's name."""
    spec = load(path)
    assert spec.service == path.stem
    assert all(slo.id.startswith(f"{path.stem}-") for slo in spec.slos)


def test_units_are_read_as_written(tmp_path: Path) -> None:
    """95%, 0.95, 250ms and 0.25s mean the same numbers."""
    first = load(write(tmp_path, GOOD)).slos[0]
    second = load(write(tmp_path, GOOD.replace("95%", "0.95").replace("250ms", "0.25s"))).slos[0]
    assert first == second
    assert first.sli == LatencySli(catalog.TTFT, 0.25)
    assert first.error_budget == 0.05


def test_exact_slos_may_have_any_threshold(tmp_path: Path) -> None:
    """Counted from spans, a threshold need not be a bucket edge."""
    text = GOOD.replace("250ms", "300ms").replace("objective: 95%", "objective: 95%\n    exact: true")
    assert load(write(tmp_path, text)).slos[0].sli == LatencySli(catalog.TTFT, 0.3)


FULL = """\
apiVersion: llm-slo/v1
service: chat
owner: serving
labels: {team: serving, tier: "1"}
group_by: [model_name, tenant, cluster]
slos:
  - name: itl
    objective: 99.9%
    period: 7d
    owner: core
    runbook: https://wiki.example/itl
    labels: {tier: "0"}
    sli:
      latency: {metric: itl, threshold: 100ms}
  - name: stall
    objective: 99.5%
    sli:
      stall: {}
  - name: gateway
    objective: 99%
    sli:
      promql:
        good: sum by (tenant) (rate(gw_requests_total{code!~"5.."}[{{window}}]))
        total: sum by (tenant) (rate(gw_requests_total[{{window}}]))
"""


def test_an_slo_may_differ_from_what_its_spec_says(tmp_path: Path) -> None:
    """Period, owner, runbook and labels are the spec's unless the SLO has its own; labels are merged."""
    spec = load(write(tmp_path, FULL))
    itl, stall, gateway = spec.slos
    assert (itl.period, itl.owner, itl.runbook) == (7 * DAY, "core", "https://wiki.example/itl")
    assert itl.labels == {"team": "serving", "tier": "0"}
    assert (stall.period, stall.owner, stall.runbook) == (30 * DAY, "serving", "")
    assert stall.labels == {"team": "serving", "tier": "1"}
    assert (itl.sli, stall.sli) == (ItlSli(0.1), StallSli(120))
    assert isinstance(gateway.sli, PromqlSli)
    assert spec.group_by == ("model_name", "tenant", "cluster")


def test_goodput_keeps_the_order_of_its_conditions() -> None:
    """The chat spec's goodput is TTFT and TPOT."""
    goodput = next(slo for slo in load(SPECS / "chat.yaml").slos if slo.name == "goodput")
    assert isinstance(goodput.sli, GoodputSli)
    assert [c.metric for c in goodput.sli.conditions] == [catalog.TTFT, catalog.TPOT]


@pytest.mark.parametrize("bad", BAD)
def test_mistakes_are_located(bad: str, tmp_path: Path) -> None:
    """Each mistake is named with its line and in one line of bearable length."""
    text, message = BAD[bad]
    said = refusal(tmp_path, text)
    assert said.startswith(f"spec.yaml:{message}")
    assert "\n" not in said
    assert len(said) < 1500


@pytest.mark.parametrize("bad", ["objective too low", "off the edges", "billion laughs", "dashes", "broken PromQL"])
def test_refused_specs_leave_nothing_behind(bad: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 2, one line on stderr, and not a file written - not even of the good spec beside it."""
    good, out = str(SPECS / "batch.yaml"), tmp_path / "out"
    assert main(["build", good, str(write(tmp_path, BAD[bad][0])), "--out", str(out)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.count("\n") == 1
    assert not out.exists()


def test_the_corpus_is_large() -> None:
    """At least sixty different mistakes."""
    assert len(BAD) >= 60


VALIDATOR = jsonschema.Draft202012Validator(
    json.loads((SPECS.parent / "spec.schema.json").read_text()), format_checker=None
)


@pytest.mark.parametrize("bad", BAD)
def test_the_schema_refuses_what_a_schema_can_see(bad: str) -> None:
    """Editors mark the same mistakes as the loader; where a schema is blind, that is written down."""
    try:
        data = yaml.safe_load(BAD[bad][0])
        seen = not VALIDATOR.is_valid(data)
    except (yaml.YAMLError, RecursionError, TypeError):
        seen = False
    assert seen == (bad not in SCHEMA_BLIND)


@pytest.mark.parametrize("text", [GOOD, FULL, *(path.read_text() for path in sorted(SPECS.glob("*.yaml")))])
def test_the_schema_accepts_what_the_loader_does(text: str, tmp_path: Path) -> None:
    """No editor complains about a good spec."""
    load(write(tmp_path, text))
    VALIDATOR.validate(yaml.safe_load(text))


def test_the_schema_knows_the_same_words() -> None:
    """Engines, periods and kinds of SLI are those of the loader."""
    schema = VALIDATOR.schema
    assert schema["properties"]["engine"]["enum"] == list(ENGINES)
    assert schema["$defs"]["period"]["enum"] == list(PERIODS)
    assert schema["$defs"]["sli"]["properties"]["latency"]["properties"]["metric"]["enum"] == [*LATENCIES, "itl"]


def test_files_that_are_no_specs_are_refused(tmp_path: Path) -> None:
    """Missing, of 100 MB, endless, binary and folder: one line each, never a traceback, and soon."""
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with (tmp_path / "huge.yaml").open("wb") as file:
        file.truncate(100_000_000)
    (tmp_path / "endless.yaml").symlink_to("/dev/zero")
    for name, said in {
        "gone.yaml": "No such file",
        "binary.yaml": "UTF-8",
        "huge.yaml": "larger",
        "endless.yaml": "larger",
        ".": "cannot be",
    }.items():
        with pytest.raises(SpecError, match=said):
            load(tmp_path / name)


def test_any_label_value_reaches_promql_as_a_value(tmp_path: Path) -> None:
    """What looks like PromQL, a template or YAML in a label stays one label value in the rules."""
    hostile = """x"} or vector(1) # {{ $value }}\\ 'a' é"""
    spec = load(
        write(
            tmp_path, f"selector: {{namespace: {json.dumps(hostile)}}}\nlabels: {{team: {json.dumps(hostile)}}}\n{GOOD}"
        )
    )
    [group] = rules.spec_groups(spec, "exporter")
    budget, total = group.rules[:2]
    assert budget.labels["team"] == hostile
    [read] = grammar.reads(total.expr)
    assert [(m.label, m.value) for m in read.matchers] == [("namespace", hostile)]
