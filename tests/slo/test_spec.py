"""Specs: what is accepted, and that every mistake gives one located line that says what to do."""

from pathlib import Path

import pytest

from slo import catalog
from slo.sli import GoodputSli, ItlSli, LatencySli, PromqlSli, StallSli
from slo.spec import SpecError, load
from slo.windows import DAY

SPECS = Path(__file__).parents[2] / "slo" / "specs"

GOOD = """\
apiVersion: llm-slo/v1
service: chat
slos:
  - name: ttft
    objective: 95%
    sli:
      latency: {metric: ttft, threshold: 250ms}
"""


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


BAD = {
    "unknown key": (GOOD.replace("objective:", "objektive:"), "spec.yaml:4: 'objective' is missing; is 'objektive'"),
    "extra key": (GOOD + "    treshold: 3\n", "spec.yaml:8: unknown key 'treshold'; known here"),
    "close key": ("ownr: me\n" + GOOD, "spec.yaml:1: unknown key 'ownr'; did you mean 'owner'?"),
    "off the edges": (GOOD.replace("250ms", "300ms"), "spec.yaml:7: threshold 300ms: 0.3 is no bucket edge"),
    "wrong version": (GOOD.replace("v1", "v9"), "spec.yaml:1: apiVersion 'llm-slo/v9' is not known"),
    "bad name": (GOOD.replace("name: ttft", "name: 'T T'"), "spec.yaml:4: 'T T' is no name"),
    "PromQL in a name": (GOOD.replace("name: ttft", "name: 'a\"} or vector(1)'"), "spec.yaml:4: "),
    "objective 100%": (GOOD.replace("95%", "100%"), "spec.yaml:5: '100%' must lie between 0 and 1"),
    "objective 95": (GOOD.replace("95%", "95"), "spec.yaml:5: '95' must lie between 0 and 1"),
    "objective nan": (GOOD.replace("95%", ".nan"), "spec.yaml:5: '.nan' is not a number"),
    "objective too low": (GOOD.replace("95%", "30%"), "spec.yaml:5: objective 30% is too low to alert on"),
    "unknown SLI": (GOOD.replace("latency:", "latenzy:"), "spec.yaml:7: unknown SLI 'latenzy'; known: latency"),
    "unknown metric": (GOOD.replace("metric: ttft", "metric: ttfb"), "spec.yaml:7: unknown latency 'ttfb'"),
    "no unit": (GOOD.replace("250ms", "250"), "spec.yaml:7: '250' is no duration"),
    "two SLIs": (GOOD + "      availability: {}\n", "spec.yaml:7: expected exactly one key here, found 2"),
    "same name twice": (GOOD + GOOD[GOOD.index("  - name") :], "spec.yaml:8: a second SLO called 'ttft'"),
    "same key twice": (GOOD + "service: again\n", "spec.yaml:8: 'service' is given twice"),
    "list for mapping": ("- a\n", "spec.yaml:1: expected a mapping"),
    "text for list": (GOOD[: GOOD.index("slos:")] + "slos: none\n", "spec.yaml:3: expected a list here"),
    "no SLOs": (GOOD[: GOOD.index("slos:")] + "slos: []\n", "spec.yaml:3: 'slos' is empty"),
    "empty file": ("", "spec.yaml:1: the file is empty"),
    "no YAML": ("a: [1\nb: {", "spec.yaml:2: not valid YAML"),
    "tab": ("a:\n\t- b\n", "spec.yaml:2: not valid YAML"),
    "two documents": (GOOD + "---\n" + GOOD, "spec.yaml:8: a second document"),
    "odd period": ("period: 31d\n" + GOOD, "spec.yaml:1: period '31d' is not supported"),
    "bad label": ("group_by: ['a-b']\n" + GOOD, "spec.yaml:1: 'a-b' is no Prometheus label"),
    "exact availability": (
        GOOD.replace("latency: {metric: ttft, threshold: 250ms}", "availability: {}") + "    exact: true\n",
        "spec.yaml:4: 'exact' counts requests",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("text", "message"), BAD.values(), ids=BAD.keys())
def test_mistakes_are_located(tmp_path: Path, text: str, message: str) -> None:
    """Each mistake is named with its line and in one line."""
    said = refusal(tmp_path, text)
    assert said.startswith(message)
    assert "\n" not in said


def test_files_that_are_no_specs_are_refused(tmp_path: Path) -> None:
    """Missing, huge, binary and folder: one line each, never a traceback."""
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "huge.yaml").write_bytes(b"a" * 2_000_000)
    for name, said in {
        "gone.yaml": "No such file",
        "binary.yaml": "UTF-8",
        "huge.yaml": "larger",
        ".": "cannot be",
    }.items():
        with pytest.raises(SpecError, match=said):
            load(tmp_path / name)
