"""Metrics over OTLP: the engine's own histograms under the conventions' names, at a real receiver."""

import asyncio
from pathlib import Path

import httpx
import pytest
from exporter_process import ended, running
from exporter_servers import Upstream, wait_for
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality, HistogramDataPoint, Metric
from opentelemetry.sdk.metrics.export import MetricExportResult, MetricsData
from opentelemetry.sdk.resources import Resource
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from exporters.cli import main
from exporters.collector import Collector, Snapshot
from exporters.engines.reader import EngineParser
from exporters.model import GpuReading
from exporters.serving import push
from slo import catalog

TESTS = Path(__file__).parents[1]
PAGE = (TESTS / "captures" / "vllm-0.32.0-cpu.metrics").read_bytes()
TWO_RANKS = (TESTS / "captures" / "vllm-0.32.0-dp2.metrics").read_bytes()
DCGM = (Path(__file__).parent / "handwritten" / "dcgm-4.5.txt").read_bytes()


def metrics(upstream: Upstream) -> dict[str, Metric]:
    """The metrics of the last push, by name."""
    export = ExportMetricsServiceRequest.FromString(upstream.posted[-1])
    return {metric.name: metric for r in export.resource_metrics for s in r.scope_metrics for metric in s.metrics}


def values(attributes: list[KeyValue]) -> dict[str, str]:
    return {pair.key: pair.value.string_value for pair in attributes}


def cumulative(point: HistogramDataPoint) -> list[float]:
    counts, total = [], 0
    for count in point.bucket_counts:
        total += count
        counts.append(float(total))
    return counts


def engines_own(name: str) -> tuple[list[float], float]:
    """The engine's buckets in order, and its sum."""
    samples = [s for f in text_string_to_metric_families(PAGE.decode()) for s in f.samples if s.name.startswith(name)]
    buckets = [s.value for s in samples if s.name == f"{name}_bucket"]
    return buckets, next(s.value for s in samples if s.name == f"{name}_sum")


def test_the_engines_histograms_arrive_as_they_are() -> None:
    """TTFT, TPOT and duration: every bucket, the sum, the bounds and the conventions' attributes; GPUs as hw.*."""
    with Upstream(PAGE) as engine, Upstream(DCGM) as dcgm, Upstream() as receiver:
        gpus = ("--gpu", "dcgm", "--dcgm-url", dcgm.url)
        with running("--engine", engine.url, *gpus, "--push", receiver.url) as (process, _):
            wait_for(lambda: len(receiver.posted) >= 1)
            assert ended(process) == 0
        assert len(receiver.posted) == 2  # the last one when it ends
        found = metrics(receiver)
    for name, upstream in (
        ("gen_ai.server.time_to_first_token", "vllm:time_to_first_token_seconds"),
        ("gen_ai.server.time_per_output_token", "vllm:request_time_per_output_token_seconds"),
        ("gen_ai.server.request.duration", "vllm:e2e_request_latency_seconds"),
    ):
        metric = found[name]
        assert metric.unit == "s"
        assert metric.histogram.aggregation_temporality == AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
        (point,) = metric.histogram.data_points
        assert (cumulative(point), point.sum) == engines_own(upstream)
        assert len(point.explicit_bounds) == len(point.bucket_counts) - 1
        assert not point.HasField("min")
        attributes = values([*point.attributes])
        assert attributes["gen_ai.provider.name"] == "vllm"
        assert attributes["gen_ai.request.model"] == "tiny-llama"
        assert attributes["gen_ai.operation.name"]
    energy = found["hw.energy"]
    assert (energy.unit, energy.sum.is_monotonic) == ("J", True)
    by_gpu = {values([*p.attributes])["hw.id"]: p.as_double for p in energy.sum.data_points}
    assert by_gpu["GPU-aaaa"] == 123456.789
    assert found["hw.gpu.utilization"].gauge.data_points


def test_ranks_are_points_of_their_own() -> None:
    """Two data-parallel ranks: two points per metric, told apart by engine."""
    snapshot = Snapshot((EngineParser().parse(TWO_RANKS),))
    data = push.metrics_data(snapshot, push.Starts(1), 2, Resource({}))
    (ttft,) = [m for m in data.resource_metrics[0].scope_metrics[0].metrics if m.name.endswith("first_token")]
    assert sorted(str((p.attributes or {})["engine"]) for p in ttft.data.data_points) == ["0", "1"]


def test_a_restart_is_a_new_start() -> None:
    """The start time stays while a counter grows, and moves behind the last push when it began anew."""
    starts = push.Starts(10)
    assert [starts.of("a", value, now) for value, now in ((5, 100), (6, 200), (1, 300), (2, 400))] == [10, 10, 200, 200]
    assert starts.of("b", 0, 500) == 10


def test_gpus_that_tell_little_are_left_out() -> None:
    """What a board does not tell is no point, and no empty metric."""
    gpu = GpuReading(uuid="GPU-1", index="0", values={catalog.GPU_POWER: 300.0})
    data = push.metrics_data(Snapshot(gpus=(gpu,)), push.Starts(0), 1, Resource({}))
    assert [metric.name for metric in data.resource_metrics[0].scope_metrics[0].metrics] == ["hw.power"]


@pytest.mark.parametrize(
    ("env", "url"),
    [
        ({}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, None),
        ({"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://c/x"}, "http://c/x"),
        ({"OTEL_METRICS_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, "http://c:4318/v1/metrics"),
        ({"OTEL_METRICS_EXPORTER": "otlp"}, "http://localhost:4318/v1/metrics"),
        ({"OTEL_METRICS_EXPORTER": "none", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://c/x"}, None),
        ({"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://c/x"}, None),
    ],
)
def test_where_to_comes_from_the_standard_variables(env: dict[str, str], url: str | None) -> None:
    """The endpoint of metrics is a full URL; the general one, set for traces, does not turn pushing on."""
    assert push.target(env) == url


def test_an_interval_that_is_none(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong OTEL_METRIC_EXPORT_INTERVAL is one line and exit code 2."""
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "1m")
    args = ["--engine", "http://127.0.0.1:1", "--gpu", "none", "--listen", "127.0.0.1:0", "--otlp-grpc", "none"]
    assert main([*args, "--push", "http://127.0.0.1:1"]) == 2
    assert "OTEL_METRIC_EXPORT_INTERVAL=1m: give milliseconds" in capsys.readouterr().err


def test_a_fault_costs_one_push_and_is_counted() -> None:
    """An exporter that raises once: a failed push, then good ones."""

    class Faulty:
        pushes = 0

        def export(self, metrics_data: MetricsData) -> MetricExportResult:
            self.pushes += 1
            if self.pushes == 1:
                raise RuntimeError("a fault")
            return MetricExportResult.SUCCESS

    async def drive() -> CollectorRegistry:
        registry, exporter = CollectorRegistry(), Faulty()
        pusher = push.Pusher(Collector([]), registry, exporter, 0.01)
        while exporter.pushes < 3:
            await asyncio.sleep(0.01)
        await pusher.close()
        return registry

    registry = asyncio.run(asyncio.wait_for(drive(), 20))
    assert registry.get_sample_value(catalog.PUSHES.name, {"outcome": "failed"}) == 1
    assert (registry.get_sample_value(catalog.PUSHES.name, {"outcome": "ok"}) or 0) >= 2


def test_a_receiver_that_refuses_is_counted() -> None:
    """Nobody takes the metrics: counted on the page, one line in the log, and the sidecar serves on."""
    with Upstream(PAGE) as engine, Upstream() as receiver:
        receiver.status = 400
        args = ("--engine", engine.url, "--push", receiver.url)
        with running(*args, OTEL_METRIC_EXPORT_INTERVAL="100") as (process, url):
            wait_for(lambda: len(receiver.posted) >= 3)
            text = httpx.get(f"{url}/metrics", trust_env=False).text
            assert f'{catalog.PUSHES.name}{{outcome="failed"}}' in text
            assert ended(process) == 0
