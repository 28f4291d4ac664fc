"""What a build writes: the same rules in every format, groups of their own, sizes that readers take, all or nothing."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from slo import render
from slo.cli import main
from slo.delivery import artefacts
from slo.rules import packing
from slo.rules import recording as rules
from slo.rules.rule import Links, RecordingRule, RuleGroup
from slo.spec.model import load

ROOT = Path(__file__).parents[2]
PATHS = [str(ROOT / "slo" / "specs" / name) for name in ("chat.yaml", "batch.yaml")]
SPECS = [load(path) for path in PATHS]
Rule = dict[str, object]


def groups_in(text: str) -> list[dict[str, object]]:
    """The rule groups of a file of any format."""
    data = yaml.safe_load(text)
    if data.get("kind") == "ConfigMap":
        [data] = [yaml.safe_load(value) for value in data["data"].values()]
    found: list[dict[str, object]] = []
    for part in data.get("additionalPrometheusRulesMap", {"": data.get("spec", data)}).values():
        found += part["groups"]
    return found


def rules_of(fmt: str) -> list[Rule]:
    files = artefacts.build(SPECS, fmt=fmt)
    texts = [text for path, text in files.items() if path.startswith("rules/")]
    return [rule for text in texts for group in groups_in(text) for rule in group["rules"]]  # type: ignore[attr-defined]


@pytest.mark.parametrize("fmt", artefacts.FORMATS)
def test_every_format_holds_the_same_rules(fmt: str) -> None:
    """Whatever the wrapping, no rule is lost, doubled or changed."""
    plain, wrapped = (sorted(map(repr, rules_of(f))) for f in ("prometheus", fmt))
    assert wrapped == plain


def test_objects_are_named_and_kinded() -> None:
    """What Kubernetes and mimirtool need is there."""
    by_format = {fmt: artefacts.build(SPECS, fmt=fmt) for fmt in artefacts.FORMATS}
    rule = yaml.safe_load(by_format["operator"]["rules/slo-chat.yaml"])
    assert (rule["kind"], rule["metadata"]["name"]) == ("PrometheusRule", "llm-slo-chat")
    config = yaml.safe_load(by_format["configmap"]["rules/slo-chat.yaml"])
    assert (config["kind"], list(config["data"])) == ("ConfigMap", ["slo-chat.yaml"])
    assert yaml.safe_load(by_format["mimir"]["rules/slo-chat.yaml"])["namespace"] == "llm-slo-chat"
    values = yaml.safe_load(by_format["helm-values"]["rules/values.yaml"])
    assert set(values["additionalPrometheusRulesMap"]) == {
        "llm-slo-chat", "llm-slo-batch", "llm-recording", "llm-health"
    }  # fmt: skip


def test_what_is_rendered_reads_back_as_it_was() -> None:
    """parse(render(x)) == x for every rule, multi-line expressions and hostile text included."""
    hostile = "a: 'b'\n  # \t{{ $x }} \"é\"\n\nend "
    group = RuleGroup("g", "1m", (RecordingRule("a", hostile, {"k": hostile}), RecordingRule("b", "1")))
    [text] = render.rule_groups([group])
    [read] = yaml.safe_load(text)
    assert read["rules"] == [{"record": "a", "expr": hostile, "labels": {"k": hostile}}, {"record": "b", "expr": "1"}]


@given(st.text(), st.text())
def test_any_text_survives_rendering_in_any_object(expr: str, label: str) -> None:
    """Objects indent what is in them; nothing in a rule can break out of that."""
    printable = [re.sub(r"[^\x09\x0a\x20-\x7e\xa0-\ud7ff]", "", text) or "x" for text in (expr, label)]
    texts = render.rule_groups([RuleGroup("g", "1m", (RecordingRule("r", printable[0], {"l": printable[1]}),))])
    wanted = [{"record": "r", "expr": printable[0], "labels": {"l": printable[1]}}]
    for text in (
        render.rule_file(texts),
        render.prometheus_rule("n", texts),
        render.config_map("n", "f.yaml", texts),
        render.mimir_namespace("n", texts),
        render.helm_values({"n": texts}),
    ):
        assert groups_in(text)[0]["rules"] == wanted


def test_mimir_gets_few_groups_of_at_most_twenty_rules() -> None:
    """A hundred SLOs fit Mimir's limits of 20 rules a group, and the SLO's own rules stay together and in order."""
    many = [
        RuleGroup(f"g{i}", "1m", tuple(RecordingRule(f"r{i}_{j}", "1") for j in range(5 + i % 3))) for i in range(100)
    ]
    packed = packing.with_at_most(20, "n", many)
    assert [rule for group in packed for rule in group.rules] == [rule for group in many for rule in group.rules]
    assert max(len(group.rules) for group in packed) <= 20
    assert len(packed) <= 40
    for group in many:
        assert any(all(rule in one.rules for rule in group.rules) for one in packed)
    assert len({group.name for group in packed}) == len(packed)
    for name, groups in artefacts.rule_groups(SPECS, isolated=True).items():
        assert all(len(group.rules) <= 20 for group in packing.with_at_most(20, name, groups))


@given(st.lists(st.integers(1, 50)), st.integers(1, 60))
def test_packing_loses_nothing(sizes: list[int], limit: int) -> None:
    """Any groups, any limit: every rule once, in order, and no group too large."""
    groups = [
        RuleGroup(f"g{i}", "1m", tuple(RecordingRule(f"r{i}_{j}", "1") for j in range(n))) for i, n in enumerate(sizes)
    ]
    packed = packing.with_at_most(limit, "n", groups)
    assert [rule for group in packed for rule in group.rules] == [rule for group in groups for rule in group.rules]
    assert all(0 < len(group.rules) <= limit for group in packed)


@given(st.lists(st.text("ab\n", min_size=1, max_size=30)), st.integers(40, 200))
def test_files_keep_to_their_size(groups: list[str], limit: int) -> None:
    """Objects stay within what a ConfigMap holds, in order, and only a group alone may be larger."""
    files = packing.in_files(limit, "slo-chat", groups)
    assert [group for part in files.values() for group in part] == groups
    assert all(len(part) == 1 or sum(map(len, part)) <= limit for part in files.values())
    assert list(files)[:2] == ["slo-chat", "slo-chat-2"][: len(files)]


def test_isolated_slos_need_no_other() -> None:
    """Every expression of an SLO's groups reads its own recorded series and no one else's."""
    files = artefacts.rule_groups(SPECS, isolated=True)
    for slo in (slo for spec in SPECS for slo in spec.slos):
        own = [g for g in files[f"slo-{slo.service}"] if g.name.startswith(f"llm-slo-{slo.id}")]
        assert len(own) == 7
        for rule in (rule for group in own for rule in group.rules):
            read = re.findall(r"slo:[a-z_]+:\w+(?:\{([^}]*)\})?", rule.expr)
            assert all(f'slo="{slo.id}"' in matchers for matchers in read), rule.expr


needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")


@pytest.mark.prometheus
@needs_promtool
@pytest.mark.parametrize("flags", [["--isolated"], ["--source", "vllm"], ["all models together"]], ids=" ".join)
def test_other_shapes_of_the_rules_pass_their_own_tests(flags: list[str], tmp_path: Path) -> None:
    """promtool finds no duplicates in them, and their generated scenarios hold."""
    spec = tmp_path / "spec.yaml"
    spec.write_text(FEATURES)
    if not flags[0].startswith("--"):
        spec.write_text(FEATURES.replace("[model_name, tenant]", "[]"))
        flags = []
    assert main(["build", str(spec), "--out", str(tmp_path), *flags]) == 0
    built = sorted((tmp_path / "rules").glob("*.yaml"))
    done = subprocess.run(["promtool", "check", "rules", *built], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert main(["test", str(spec), "--out", str(tmp_path), *flags]) == 0


@pytest.mark.prometheus
@needs_promtool
@pytest.mark.parametrize("flags", [[], ["--isolated"]], ids=["shared", "isolated"])
def test_an_alert_carries_its_slos_labels_and_runbook(flags: list[str], tmp_path: Path) -> None:
    """Labels of the SLO are on its alerts for routing, whatever is in them; its own runbook wins over the other."""
    spec = tmp_path / "spec.yaml"
    spec.write_text(FEATURES)
    assert main(["build", str(spec), "--out", str(tmp_path), *flags]) == 0
    count, bucket = (
        f'llm_inter_token_latency_seconds_{s},namespace="pr\\"od",tenant="t"}}'
        for s in ('count{x="1"', 'bucket{le="0.1"')
    )
    case = {
        "rule_files": ["rules/slo-all.yaml", "rules/recording.yaml"],
        "evaluation_interval": "1m",
        "group_eval_order": [g.name for n, gs in artefacts.rule_groups([load(spec)], isolated=bool(flags)).items()
                             for g in gs if n != "health"],
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": count, "values": "0+600x90"}, {"series": bucket, "values": "0+60x90"}],
                "alert_rule_test": [{"alertname": "SloErrorBudgetBurnPage", "eval_time": "80m", "exp_alerts": []}],
            }
        ],
    }  # fmt: skip
    (tmp_path / "one.test.yaml").write_text(yaml.safe_dump(case))
    done = subprocess.run(["promtool", "test", "rules", tmp_path / "one.test.yaml"], capture_output=True, text=True)
    said = done.stdout + done.stderr  # nothing was expected, so promtool tells what came
    assert 'runbook_url="https://wiki.example/itl"' in said
    assert r'team="we\"ird {{ $value }}"' in said
    assert 'tier="0"' in said
    assert 'tenant="t"' in said


FEATURES = """\
apiVersion: llm-slo/v1
service: all
group_by: [model_name, tenant]
selector: {namespace: 'pr"od'}
labels: {team: 'we"ird {{ $value }}'}
slos:
  - name: itl
    objective: 99.9%
    period: 7d
    runbook: https://wiki.example/itl
    labels: {tier: "0"}
    sli: {latency: {metric: itl, threshold: 100ms}}
  - name: own
    objective: 99%
    sli:
      promql:
        good: sum by (tenant) (rate(gw_requests_total{code!~"5..", {{selector}}}[{{window}}])) # answered
        total: sum by (tenant) (rate(gw_requests_total{ {{selector}} }[{{window}}]))
"""


def test_a_source_that_lacks_a_family_is_told_by_slo(capsys: pytest.CaptureFixture[str]) -> None:
    """The error names the SLO that stands in the way, or its line, and why."""
    assert main(["build", PATHS[0], "--source", "vllm"]) == 2
    assert "chat-goodput cannot be built: only the sidecar counts events from spans" in capsys.readouterr().err
    assert main(["build", PATHS[1], "--source", "tgi"]) == 2
    said = "batch.yaml:11: threshold 60s: 60 is no bucket edge of llm_request_duration_seconds of tgi"
    assert said in capsys.readouterr().err


def test_rules_for_an_engine_say_its_names_and_leave_out_what_only_the_sidecar_has() -> None:
    """Without a sidecar there are no GPU or source alerts, and whole bucket edges match both spellings."""
    files = artefacts.rule_groups([SPECS[1]], "vllm")
    exprs = [rule.expr for groups in files.values() for group in groups for rule in group.rules]
    assert any(r'vllm:e2e_request_latency_seconds_bucket{le=~"60(\\.0)?"}' in expr for expr in exprs)
    assert not any("llm_gpu" in expr or "llm_exporter" in expr for expr in exprs)


def test_names_that_would_collide_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """a-b + c and a + b-c are the same SLO id; an SLO called as a group of another's would be taken for it."""
    one = "apiVersion: llm-slo/v1\nservice: {}\nslos: [{{name: {}, objective: 99%, sli: {{stall: {{}}}}}}]\n"
    for name, text in {
        "x": one.format("a-b", "c"),
        "y": one.format("a", "b-c"),
        "z": one.format("burn", "fast"),
    }.items():
        (tmp_path / f"{name}.yaml").write_text(text)
    x, y, z = (str(tmp_path / f"{name}.yaml") for name in "xyz")
    assert main(["build", x, y, "--out", str(tmp_path)]) == 2
    assert "two SLOs would both be called 'a-b-c'" in capsys.readouterr().err
    assert main(["build", z, "--out", str(tmp_path)]) == 2
    assert "two rule groups would both be called 'llm-slo-burn-fast'" in capsys.readouterr().err
    assert not (tmp_path / "rules").exists()


def test_a_label_that_would_hide_the_groups_of_another_spec_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The alerts that SLOs share would lose `tenant` of one spec for the sake of the other, and fail for all."""
    text = "apiVersion: llm-slo/v1\nservice: {}\n{}\nslos: [{{name: c, objective: 99%, sli: {{stall: {{}}}}}}]\n"
    for service, line in {"a": "labels: {tenant: gold}", "b": "group_by: [model_name, tenant]"}.items():
        (tmp_path / f"{service}.yaml").write_text(text.format(service, line))
    a, b = str(tmp_path / "a.yaml"), str(tmp_path / "b.yaml")
    assert main(["build", a, b, "--out", str(tmp_path)]) == 2
    assert "a-c has a label 'tenant', by which b is grouped; rename the label" in capsys.readouterr().err
    assert main(["build", a, "--out", str(tmp_path)]) == 0


def test_writing_is_all_or_nothing(tmp_path: Path) -> None:
    """When the last file cannot be written, the first keeps its old content and no half-written file stays."""
    (tmp_path / "a.yaml").write_text("old")
    (tmp_path / "sub").write_text("a file where a folder is needed")
    with pytest.raises(OSError, match="sub"):
        artefacts.write(tmp_path, {"a.yaml": "new", "sub/b.yaml": "new"})
    assert (tmp_path / "a.yaml").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.yaml", "sub"]


def test_what_is_no_longer_generated_is_stale(tmp_path: Path) -> None:
    """A rule file of an SLO that is gone is named; files that people wrote are left alone."""
    files = artefacts.build([SPECS[1]])
    artefacts.write(tmp_path, files)
    (tmp_path / "rules" / "mine.yaml").write_text("groups: []\n")
    (tmp_path / "rules" / "slo-gone.yaml").write_text(files["rules/slo-batch.yaml"])
    assert artefacts.stale(tmp_path, files) == ["rules/slo-gone.yaml"]


def test_links_lead_where_they_are_told_to() -> None:
    """Alerts link the SLO's board and their runbook below the given roots."""
    links = Links("https://grafana.example/", "https://wiki.example/runbooks/")
    [group] = rules.health_groups(SPECS, "exporter", links)
    told = [rule.annotations for rule in group.rules]  # type: ignore[union-attr]
    assert all(one["runbook_url"].startswith("https://wiki.example/runbooks/") for one in told)
    assert all(one["dashboard_url"].startswith("https://grafana.example/d/llm-slo-") for one in told)


def test_the_c_library_and_pure_python_write_the_same_bytes() -> None:
    """Machines whose PyYAML has no libyaml generate the same files."""

    class Pure(yaml.SafeDumper):
        def ignore_aliases(self, data: object) -> bool:
            return True

    Pure.add_representer(str, render._text)
    data = [yaml.safe_load(text) for path, text in artefacts.build(SPECS).items() if path.startswith("rules/")]
    for one in data:
        pure = yaml.dump(one, Dumper=Pure, sort_keys=False, width=1_000_000, allow_unicode=True)
        assert render.document(one) == render.MARK + pure
