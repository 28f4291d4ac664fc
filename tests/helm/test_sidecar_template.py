"""The sidecar as users get it: through a chart of their own that depends on ours, or as a patch for a Deployment."""

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import helm_python as helm
import httpx
import kubernetes_validate
import pytest
import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm"
CHAT_SPEC = ROOT / "slo/specs/chat.yaml"
CAPTURE = ROOT / "tests/captures/vllm-0.32.0-cpu.metrics"
METADATA = yaml.safe_load((CHART / "Chart.yaml").read_text())
NEWEST = kubernetes_validate.latest_version()
IMAGE = {"image": {"repository": "registry.example.com/llm-slo"}}
SPEC = "apiVersion: llm-slo/v1\nservice: chat\n"

Object = dict[str, Any]

DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: vllm}
spec:
  selector: {matchLabels: {app: vllm}}
  template:
    metadata: {labels: {app: vllm}}
    spec:
      {{- $slo := index .Subcharts "llm-slo" }}
      containers:
        - {name: vllm, image: "vllm/vllm-openai:v0.32.0"}
        {{- if not .Values.nativeSidecar }}
        {{- include "llm-slo.sidecar" $slo | nindent 8 }}
        {{- else }}
      initContainers:
        {{- include "llm-slo.sidecar" $slo | nindent 8 }}
        {{- end }}
      {{- with include "llm-slo.volumes" $slo }}
      volumes:
        {{- . | nindent 8 }}
      {{- end }}
"""


@pytest.fixture(scope="module")
def consumer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[helm.Chart]:
    """A chart of an inference service which depends on ours, fetched the way Helm does."""
    chart = tmp_path_factory.mktemp("consumer")
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["version"]
    dependency = {
        "name": "llm-slo",
        "version": version,
        "repository": f"file://{CHART}",
        "condition": "llm-slo.enabled",
    }
    metadata = {"apiVersion": "v2", "name": "vllm", "version": "1.0.0", "dependencies": [dependency]}
    (chart / "Chart.yaml").write_text(yaml.safe_dump(metadata))
    (chart / "values.yaml").write_text("nativeSidecar: false\nllm-slo: {enabled: true, dashboards: {enabled: false}}\n")
    (chart / "templates").mkdir()
    (chart / "templates/deployment.yaml").write_text(DEPLOYMENT)
    helm.dependency_update(chart)
    with helm.Chart.load(chart) as loaded:
        yield loaded


def deployment(chart: helm.Chart, values: Object, version: str = NEWEST) -> Object:
    """The pod spec of the consumer's Deployment, accepted by the Kubernetes schemas of `version`."""
    texts = chart.render(values, name="demo", namespace="prod")
    thing = yaml.safe_load(texts["vllm/templates/deployment.yaml"])
    kubernetes_validate.validate(thing, version, strict=True)
    pod: Object = thing["spec"]["template"]["spec"]
    return pod


def sidecar(pod: Object) -> Object:
    """The one slo-exporter of a pod."""
    (found,) = [item for item in pod["containers"] + pod.get("initContainers", []) if item["name"] == "slo-exporter"]
    assert isinstance(found, dict)
    return found


def test_sidecar_of_defaults(consumer: helm.Chart) -> None:
    """With nothing but an image set, the sidecar reads the engine on port 8000 and looks for GPUs by itself."""
    pod = deployment(consumer, {"llm-slo": {"sidecar": IMAGE}}, version="1.25")
    container = sidecar(pod)
    assert [item["name"] for item in pod["containers"]] == ["vllm", "slo-exporter"]
    assert container["args"] == [
        "--engine=http://127.0.0.1:8000",
        "--gpu=auto",
        "--listen=0.0.0.0:9402",
    ]
    assert container["ports"] == [{"name": "slo-metrics", "containerPort": 9402}]
    fields = {item["name"]: item["valueFrom"]["fieldRef"]["fieldPath"] for item in container["env"]}
    assert fields == {"HOST_IP": "status.hostIP", "POD_NAME": "metadata.name", "POD_NAMESPACE": "metadata.namespace"}
    assert "volumes" not in pod
    assert "volumeMounts" not in container


def test_sidecar_does_no_harm(consumer: helm.Chart) -> None:
    """It runs unprivileged and read-only, keeps the pod's QoS class, and its state never decides about readiness."""
    container = sidecar(deployment(consumer, {"llm-slo": {"sidecar": IMAGE}}))
    security = container["securityContext"]
    assert security["runAsNonRoot"]
    assert security["readOnlyRootFilesystem"]
    assert not security["allowPrivilegeEscalation"]
    assert security["capabilities"] == {"drop": ["ALL"]}
    assert container["resources"]["requests"] == container["resources"]["limits"]
    assert "readinessProbe" not in container


def test_native_sidecar(consumer: helm.Chart) -> None:
    """When asked for, the container restarts always and is valid among the init containers."""
    values = {"nativeSidecar": True, "llm-slo": {"sidecar": IMAGE | {"native": True}}}
    pod = deployment(consumer, values, version="1.29")
    assert [item["name"] for item in pod["containers"]] == ["vllm"]
    assert sidecar(pod)["restartPolicy"] == "Always"


@pytest.mark.parametrize(
    ("slo", "name"), [({"spec": SPEC}, "demo-llm-slo-spec"), ({"existingConfigMap": "our-slo"}, "our-slo")]
)
def test_spec_is_mounted(consumer: helm.Chart, slo: Object, name: str) -> None:
    """A spec, ours or the user's ConfigMap, is mounted where --slo points."""
    pod = deployment(consumer, {"llm-slo": {"sidecar": IMAGE, "slo": slo}})
    container = sidecar(pod)
    (volume,) = pod["volumes"]
    (mount,) = container["volumeMounts"]
    assert volume == {"name": mount["name"], "configMap": {"name": name}}
    assert f"--slo={mount['mountPath']}/slo.yaml" in container["args"]


def test_two_specs_are_refused(consumer: helm.Chart) -> None:
    """A spec and a ConfigMap of the user's cannot both be meant."""
    values = {"llm-slo": {"sidecar": IMAGE, "slo": {"spec": SPEC, "existingConfigMap": "our-slo"}}}
    with pytest.raises(helm.HelmRenderError, match=r"slo\.spec or slo\.existingConfigMap, not both"):
        deployment(consumer, values)


def test_gpu_settings(consumer: helm.Chart) -> None:
    """The GPU mode, the addresses of exporters and the price are handed on as they are."""
    gpu = {"gpu": "amd", "gpuUrl": "http://$(HOST_IP):5000", "dcgmUrl": "", "price": "2.50EUR"}
    container = sidecar(deployment(consumer, {"llm-slo": {"sidecar": IMAGE | gpu}}))
    assert container["args"][1:4] == ["--gpu=amd", "--gpu-url=http://$(HOST_IP):5000", "--price=2.50EUR"]
    dcgm = {"gpu": "dcgm", "dcgmUrl": "http://$(HOST_IP):9400"}
    container = sidecar(deployment(consumer, {"llm-slo": {"sidecar": IMAGE | dcgm}}))
    assert container["args"][1:3] == ["--gpu=dcgm", "--dcgm-url=http://$(HOST_IP):9400"]


def test_an_engine_may_be_stated(consumer: helm.Chart) -> None:
    """KIND=URL says which engine it is, for pages that do not tell."""
    values = {"llm-slo": {"sidecar": IMAGE | {"engines": ["sglang=http://127.0.0.1:30000"]}}}
    assert sidecar(deployment(consumer, values))["args"][0] == "--engine=sglang=http://127.0.0.1:30000"


@pytest.mark.parametrize(
    ("image", "reference"),
    [
        ({}, f"registry.example.com/llm-slo:{METADATA['appVersion']}"),
        ({"tag": "edge"}, "registry.example.com/llm-slo:edge"),
        ({"tag": "edge", "digest": f"sha256:{'0' * 64}"}, f"registry.example.com/llm-slo@sha256:{'0' * 64}"),
    ],
)
def test_image_reference(consumer: helm.Chart, image: Object, reference: str) -> None:
    """A digest wins over a tag, a tag over the chart's version."""
    values = {"llm-slo": {"sidecar": {"image": IMAGE["image"] | image}}}
    assert sidecar(deployment(consumer, values))["image"] == reference


def test_image_must_be_named(consumer: helm.Chart) -> None:
    """Without an image the chart says so, instead of leaving a GPU pod waiting for a pull that cannot work."""
    with pytest.raises(helm.HelmRenderError, match=r"set sidecar\.image\.repository"):
        deployment(consumer, {})


def test_port_is_the_one_listened_on(consumer: helm.Chart) -> None:
    """Another port moves the listener and the named port together."""
    container = sidecar(deployment(consumer, {"llm-slo": {"sidecar": IMAGE | {"port": 19402}}}))
    assert container["ports"] == [{"name": "slo-metrics", "containerPort": 19402}]
    assert "--listen=0.0.0.0:19402" in container["args"]


def test_wrong_values_of_the_subchart_are_refused(consumer: helm.Chart) -> None:
    """The schema guards the values also where the chart is a dependency."""
    with pytest.raises(helm.HelmError, match=r"\bengine\b"):
        deployment(consumer, {"llm-slo": {"sidecar": IMAGE | {"engine": "http://127.0.0.1:8000"}}})


@pytest.mark.parametrize(("native", "place"), [(False, "containers"), (True, "initContainers")])
def test_patch_fits_a_deployment(consumer: helm.Chart, native: bool, place: str) -> None:
    """The patch in the ConfigMap holds the same container and volumes as the include, where they belong."""
    values = {"slo": {"spec": SPEC}, "sidecar": IMAGE | {"native": native}}
    pod = deployment(consumer, {"nativeSidecar": native, "llm-slo": values})
    patch_on = {**values, "sidecarPatch": {"enabled": True}}
    with helm.Chart.load(CHART) as chart:
        text = chart.render(patch_on, name="demo")["llm-slo/templates/sidecar-patch.yaml"]
    patch = yaml.safe_load(yaml.safe_load(text)["data"]["patch.yaml"])
    assert patch["spec"]["template"]["spec"] == {place: [sidecar(pod)], "volumes": pod["volumes"]}


class Engine(BaseHTTPRequestHandler):
    """Answers every GET with a metrics page that a vLLM once gave."""

    def do_GET(self) -> None:
        """Send the page."""
        self.send_response(200)
        self.end_headers()
        self.wfile.write(CAPTURE.read_bytes())

    def log_message(self, *args: object) -> None:
        """Keep quiet."""


@pytest.fixture
def engine() -> Iterator[str]:
    """URL of an engine."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Engine) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def free_port() -> int:
    """A port nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def test_the_rendered_command_runs(consumer: helm.Chart, engine: str) -> None:
    """slo-exporter accepts the rendered arguments, answers the liveness probe and serves the engine's metrics."""
    values = {"gpu": "none", "engines": [engine], "port": free_port()}
    container = sidecar(deployment(consumer, {"llm-slo": {"sidecar": IMAGE | values, "slo": {"spec": SPEC}}}))
    spec_path = f"{container['volumeMounts'][0]['mountPath']}/slo.yaml"
    args = [arg.replace("$(HOST_IP)", "127.0.0.1").replace(spec_path, str(CHAT_SPEC)) for arg in container["args"]]
    command = Path(sys.executable).with_name(container["command"][0])
    base = f"http://127.0.0.1:{container['ports'][0]['containerPort']}"
    with subprocess.Popen([command, *args], stderr=subprocess.PIPE, text=True) as process:
        try:
            assert answer(process, base + container["livenessProbe"]["httpGet"]["path"])
            assert "llm_time_to_first_token_seconds_count" in answer(process, f"{base}/metrics")
        finally:
            process.terminate()


def answer(process: subprocess.Popen[str], url: str) -> str:
    """What a process serves at `url`, once it does; at most 15 seconds from now."""
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()[1]
        try:
            return httpx.get(url, trust_env=False).raise_for_status().text
        except httpx.TransportError:
            time.sleep(0.05)
    raise AssertionError(f"nothing answers at {url}")
