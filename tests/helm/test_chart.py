"""The chart, rendered by Helm's own engine: valid objects, the checked-in files inside, and values that are checked."""

import json
import re
import shutil
import subprocess
import tarfile
import tomllib
from collections.abc import Iterator, Mapping
from itertools import takewhile
from pathlib import Path
from typing import Any

import helm_python as helm
import kubernetes_validate
import pytest
import yaml

from slo.boards.dashboards import FOLDER

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm"
RULES = sorted(path for path in (ROOT / "rules").glob("*.yaml") if not path.name.endswith(".test.yaml"))
BOARDS = sorted((ROOT / "dashboards").glob("*.json"))
CI = {path.name.removesuffix("-values.yaml"): path for path in sorted((CHART / "ci").glob("*-values.yaml"))}
VALUES = {name: yaml.safe_load(path.read_text()) for name, path in CI.items()}
OPERATOR = "monitoring.coreos.com/v1"
OLDEST, NEWEST = "1.25", kubernetes_validate.latest_version()

Object = dict[str, Any]


@pytest.fixture(scope="module")
def chart() -> Iterator[helm.Chart]:
    """The chart as it lies in the repository."""
    with helm.Chart.load(CHART) as loaded:
        yield loaded


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the chart whose symbolic links became directories, to change at will."""
    return Path(shutil.copytree(CHART, tmp_path / "llm-slo"))


def render(chart: helm.Chart, values: Mapping[str, Any], name: str = "demo") -> list[Object]:
    """Every object that an install with `values` would create."""
    texts = chart.render(dict(values), name=name, namespace="prod")
    manifests = [text for path, text in texts.items() if path.endswith(".yaml")]
    return [document for text in manifests for document in yaml.safe_load_all(text) if document]


def of_kind(objects: list[Object], kind: str) -> dict[str, Object]:
    """The objects of one kind, by name."""
    return {thing["metadata"]["name"]: thing for thing in objects if thing["kind"] == kind}


def rules_only(**more: object) -> Object:
    """Values that switch on nothing but the rules."""
    return {"dashboards": {"enabled": False}, "prometheusRule": {"enabled": True, **more}}


def test_there_are_files_to_install() -> None:
    """The chart has something to wrap: without these the other tests would prove little."""
    assert RULES, "rules/ holds no rule files; run `slo-gen build`"
    assert BOARDS, "dashboards/ holds no dashboards; run `slo-gen build`"


@pytest.mark.parametrize("name", CI)
def test_strict_lint_passes(name: str) -> None:
    """`helm lint --strict` finds neither errors nor warnings with any of the example values."""
    report = helm.lint(CHART, VALUES[name], strict=True)
    assert report["errors"] == []
    assert [message for message in report["messages"] if message["severity"] > 1] == []


@pytest.mark.parametrize("name", CI)
@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_objects_are_valid(chart: helm.Chart, name: str, version: str) -> None:
    """Kubernetes' own schemas accept every object, in the oldest version the chart allows and the newest known."""
    for thing in render(chart, VALUES[name]):
        if thing["apiVersion"] == OPERATOR:
            assert thing["kind"] in {"PodMonitor", "PrometheusRule"}
        else:
            kubernetes_validate.validate(thing, version, strict=True)


def test_names_stay_valid_and_apart(chart: helm.Chart) -> None:
    """With the longest release name Helm accepts, every object has a DNS name of its own."""
    objects = render(chart, VALUES["everything"], name="r" * 53)
    names = [(thing["kind"], thing["metadata"]["name"]) for thing in objects]
    assert len(set(names)) == len(names)
    dns_name = re.compile(r"[a-z0-9][-a-z0-9]{0,251}[a-z0-9]")
    assert [name for _, name in names if not dns_name.fullmatch(name)] == []


@pytest.mark.parametrize("name", CI)
def test_release_label_is_on_every_object(chart: helm.Chart, name: str) -> None:
    """One value puts the label a Prometheus selects by on everything the chart creates."""
    objects = render(chart, VALUES[name] | {"additionalLabels": {"release": "kps"}})
    assert {thing["metadata"]["labels"]["release"] for thing in objects} <= {"kps"}


def test_everything_can_be_switched_off(chart: helm.Chart) -> None:
    """With the one default switched off too, the chart creates nothing."""
    assert render(chart, {"dashboards": {"enabled": False}}) == []


def test_rules_are_the_checked_in_files(chart: helm.Chart) -> None:
    """Each rule file is one PrometheusRule with exactly its groups, template expressions of alerts unharmed."""
    objects = of_kind(render(chart, rules_only()), "PrometheusRule")
    expected = {f"demo-llm-slo-{path.stem}": yaml.safe_load(path.read_text()) for path in RULES}
    assert {name: thing["spec"] for name, thing in objects.items()} == expected
    assert "{{ $labels." in json.dumps(list(objects.values()))


@pytest.mark.prometheus
@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_accepts_the_rules(chart: helm.Chart, tmp_path: Path) -> None:
    """Prometheus' checker parses the groups as they come out of the chart."""
    for name, thing in of_kind(render(chart, rules_only()), "PrometheusRule").items():
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(thing["spec"]))
    files = sorted(map(str, tmp_path.iterdir()))
    result = subprocess.run(["promtool", "check", "rules", *files], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_rule_files_can_be_left_out(chart: helm.Chart) -> None:
    """An excluded file is not installed, the others are; a name that is no file is refused with those that are."""
    gone, *kept = [path.stem for path in RULES]
    objects = of_kind(render(chart, rules_only(exclude=[gone])), "PrometheusRule")
    assert set(objects) == {f"demo-llm-slo-{name}" for name in kept}
    with pytest.raises(helm.HelmRenderError, match=f'names "typo"; the rule files are .*{gone}'):
        render(chart, rules_only(exclude=["typo"]))


def test_rule_tests_are_not_installed(copy: Path) -> None:
    """promtool's test files beside the rules are neither packaged nor, where .helmignore is not read, rendered."""
    (copy / "files/rules/slo-chat.test.yaml").write_text("tests: []\n")
    with helm.Chart.load(copy) as chart:
        assert "files/rules/slo-chat.test.yaml" not in {file["name"] for file in chart.files}
    (copy / ".helmignore").unlink()
    with helm.Chart.load(copy) as chart:
        assert "files/rules/slo-chat.test.yaml" in {file["name"] for file in chart.files}
        assert len(of_kind(render(chart, rules_only()), "PrometheusRule")) == len(RULES)


def test_dashboards_are_the_checked_in_files(chart: helm.Chart) -> None:
    """Each board is one ConfigMap below Kubernetes' 1 MiB, byte for byte, found by Grafana's sidecar."""
    objects = of_kind(render(chart, {}), "ConfigMap")
    assert BOARDS, "dashboards/ holds no dashboards; run `slo-gen build`"
    expected = {f"demo-llm-slo-dashboard-{path.stem}": {f"llm-slo-{path.name}": path.read_text()} for path in BOARDS}
    assert {name: thing["data"] for name, thing in objects.items()} == expected
    for thing in objects.values():
        assert len(yaml.safe_dump(thing)) < 2**20
        assert thing["metadata"]["labels"]["grafana_dashboard"] == "1"
        assert thing["metadata"]["annotations"] == {"grafana_folder": FOLDER}


@pytest.mark.parametrize(("folder", "values"), [("rules", rules_only()), ("dashboards", {})])
def test_lost_symbolic_links_are_noticed(copy: Path, folder: str, values: Object) -> None:
    """Where a checkout turned the links into text files, the chart refuses instead of installing nothing."""
    shutil.rmtree(copy / "files" / folder)
    (copy / "files" / folder).write_text(f"../../{folder}")
    with helm.Chart.load(copy) as chart, pytest.raises(helm.HelmRenderError, match=f"files/{folder} holds no"):
        render(chart, values)


def test_pod_monitor_says_what_the_values_say(chart: helm.Chart) -> None:
    """Selectors, timing and relabelling arrive in the PodMonitor; unset ones are left to Prometheus."""
    values = VALUES["everything"]["podMonitor"]
    (full,) = of_kind(render(chart, VALUES["everything"]), "PodMonitor").values()
    assert {key: full["spec"][key] for key in ("selector", "namespaceSelector")} == {
        key: values[key] for key in ("selector", "namespaceSelector")
    }
    set_there = ("interval", "scrapeTimeout", "honorLabels", "relabelings", "metricRelabelings")
    endpoint = {"port": "slo-metrics", "path": "/metrics"} | {key: values[key] for key in set_there}
    assert full["spec"]["podMetricsEndpoints"] == [endpoint]
    (bare,) = of_kind(render(chart, {"podMonitor": {"enabled": True}}), "PodMonitor").values()
    assert bare["spec"]["podMetricsEndpoints"] == [{"port": "slo-metrics", "path": "/metrics", "honorLabels": False}]


def test_spec_arrives_as_written(chart: helm.Chart) -> None:
    """The SLO spec reaches its ConfigMap byte for byte, whatever it contains."""
    spec = "# {{ not a template }}\nservice: größe\nslos:\n  - name: ttft\n\n\n"
    objects = of_kind(render(chart, {"slo": {"spec": spec}, "dashboards": {"enabled": False}}), "ConfigMap")
    assert {name: thing["data"] for name, thing in objects.items()} == {"demo-llm-slo-spec": {"slo.yaml": spec}}


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"podmonitor": {}}, "podmonitor"),
        ({"sidecar": {"engine": "http://127.0.0.1:8000"}}, "engine"),
        ({"sidecar": {"port": "9402"}}, "port"),
        ({"sidecar": {"gpu": "cuda"}}, "gpu"),
        ({"sidecar": {"engines": []}}, "engines"),
        ({"sidecar": {"engines": ["127.0.0.1:8000"]}}, "engines"),
        ({"sidecar": {"image": {"digest": "latest"}}}, "digest"),
        ({"podMonitor": {"interval": 15}}, "interval"),
        ({"dashboards": {"additionalLabels": {"grafana_dashboard": 1}}}, "grafana_dashboard"),
        ({"slo": {"spec": {"service": "chat"}}}, "spec"),
    ],
)
def test_wrong_values_are_refused(chart: helm.Chart, values: Object, key: str) -> None:
    """An unknown key or a value of the wrong type is refused, by name, when rendering too."""
    with pytest.raises(helm.HelmValuesError, match=rf"\b{key}\b"):
        chart.validate_schema(values)
    with pytest.raises(helm.HelmError, match=rf"\b{key}\b"):
        render(chart, values)


def test_schema_and_values_name_the_same_keys(chart: helm.Chart) -> None:
    """Every default has a schema and every key of the schema has a default, but for those Helm itself sets."""
    assert chart.schema is not None
    assert set(keys_of_schema(chart.schema)) - {"global", "enabled"} == set(keys_of_values(chart.values, chart.schema))


def keys_of_schema(schema: Object, prefix: str = "") -> Iterator[str]:
    """Dotted paths of the closed objects in a schema."""
    for key, value in schema.get("properties", {}).items():
        yield prefix + key
        yield from keys_of_schema(value, f"{prefix}{key}.")


def keys_of_values(values: Object, schema: Object, prefix: str = "") -> Iterator[str]:
    """Dotted paths of the values, as deep as the schema closes its objects."""
    for key, value in values.items():
        yield prefix + key
        inner = schema["properties"].get(key, {})
        if "properties" in inner:
            yield from keys_of_values(value, inner, f"{prefix}{key}.")


def test_every_value_is_explained(chart: helm.Chart) -> None:
    """Each leaf of values.yaml has the comment above it that helm-docs turns into its description."""
    text = (CHART / "values.yaml").read_text()
    root = yaml.compose(text)
    assert isinstance(root, yaml.MappingNode)
    assert chart.schema is not None
    assert [key for key, line in leaf_lines(root, chart.schema) if not explained(text, line)] == []


def leaf_lines(node: yaml.MappingNode, schema: Object) -> Iterator[tuple[str, int]]:
    """Each leaf key of the values and its line, as deep as the schema closes its objects."""
    for key, value in node.value:
        inner = schema["properties"][key.value]
        if "properties" in inner:
            yield from leaf_lines(value, inner)
        else:
            yield key.value, key.start_mark.line


def explained(text: str, line: int) -> bool:
    """Whether the comment right above a line is one for helm-docs."""
    above = reversed(text.splitlines()[:line])
    comment = takewhile(lambda text: text.lstrip().startswith("# "), above)
    return any(text.lstrip().startswith("# -- ") for text in comment)


def test_package_holds_the_linked_files(tmp_path: Path) -> None:
    """The archive contains the rules and dashboards themselves, not links, and nothing a cluster has no use for."""
    with tarfile.open(helm.package(CHART, destination=tmp_path)) as archive:
        members = {member.name: member for member in archive.getmembers()}
        assert all(member.isfile() for member in members.values())
        for path in (*RULES, *BOARDS):
            content = archive.extractfile(f"llm-slo/files/{path.relative_to(ROOT)}")
            assert content is not None
            assert content.read() == path.read_bytes()
    assert [name for name in members if "/ci/" in name] == []


def test_version_is_the_distribution_s() -> None:
    """The sidecar's default tag is the version of the package that it runs."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"] == project["version"]
