"""The expositions: vLLM 0.32's families as captured from a real server, and dcgm-exporter's labels and units."""

from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import generate_latest
from prometheus_client.core import Metric, Sample
from prometheus_client.parser import text_string_to_metric_families

from loadgen.simulator import dcgm
from loadgen.simulator.metrics import registry
from loadgen.simulator.middleware import HttpMetrics
from loadgen.simulator.model import Engine, EngineConfig
from loadgen.simulator.virtual import drive, poisson
from slo import catalog

CAPTURE = Path(__file__).parents[2] / "captures" / "vllm-0.32.0-cpu.metrics"
ENUMERATIONS = {"le", "reason", "source", "finished_reason", "sleep_state", "engine"}


@pytest.fixture(scope="module")
def engine() -> Engine:
    """An engine that has served some requests, two of them alike, with the context length of the captured server."""
    engine = Engine(EngineConfig(max_model_len=1024))
    arrivals = poisson(20, 50, prompt_tokens=100, max_tokens=30)
    drive(engine, [replace(a, block_hashes=tuple(range(6)) if i in (0, 49) else ()) for i, a in enumerate(arrivals)])
    return engine


def exposition(engine: Engine) -> str:
    families = registry(engine, "tiny-llama")
    HttpMetrics(families).observe("/v1/chat/completions", "POST", 200, 0.05, (10, 20))
    return generate_latest(families).decode()


def captured() -> list[Metric]:
    """The families of the real server, without the creation times."""
    families = text_string_to_metric_families(CAPTURE.read_text())
    return [family for family in families if not family.name.endswith("_created")]


def shape(family: Metric) -> tuple[str, set[tuple[str, frozenset[tuple[str, str]]]]]:
    """Type and series of a family: label names, and the values of those labels that are enumerations."""

    def labels(sample: Sample) -> frozenset[tuple[str, str]]:
        return frozenset((key, value if key in ENUMERATIONS else "") for key, value in sample.labels.items())

    samples = (sample for sample in family.samples if not sample.name.endswith("_created"))
    return family.type, {(sample.name, labels(sample)) for sample in samples}


@pytest.mark.parametrize("family", captured(), ids=lambda family: family.name)
def test_a_family_looks_like_the_real_server_s(family: Metric, engine: Engine) -> None:
    """Type, sample names, labels, label values and buckets are those of the capture."""
    ours = {family.name: family for family in text_string_to_metric_families(exposition(engine))}[family.name]
    if family.name == "vllm:cache_config_info":
        assert set(ours.samples[0].labels) < set(family.samples[0].labels)
    else:
        assert shape(ours) == shape(family)


def test_there_is_no_family_that_vllm_does_not_have(engine: Engine) -> None:
    """Nothing invented beside the captured families."""
    ours = {f.name for f in text_string_to_metric_families(exposition(engine)) if not f.name.endswith("_created")}
    assert ours <= {family.name for family in captured()}


def test_all_that_the_exporter_reads_is_there(engine: Engine) -> None:
    """Every family of the catalogue that the real server exposes is exposed under the same name."""
    names = {u.name for metric in catalog.families() for u in metric.upstream.get("vllm", ())}
    wanted = {name for name in names if f"# TYPE {name} " in CAPTURE.read_text()}
    assert len(wanted) > 25
    assert wanted == {name for name in names if f"# TYPE {name} " in exposition(engine)}


def test_values_are_the_models(engine: Engine) -> None:
    """Literal series of the text hold the load that was served."""
    values = {
        (sample.name, sample.labels.get("finished_reason") or sample.labels.get("source")): sample.value
        for family in text_string_to_metric_families(exposition(engine))
        for sample in family.samples
    }
    assert values["vllm:generation_tokens_total", None] == 1500
    assert values["vllm:prompt_tokens_total", None] == 5000
    assert values["vllm:request_success_total", "length"] == 50
    assert values["vllm:time_to_first_token_seconds_count", None] == 50
    assert values["vllm:inter_token_latency_seconds_count", None] == 50 * 29
    assert values["vllm:request_generation_tokens_sum", None] == 1500
    assert values["vllm:prompt_tokens_by_source_total", "local_compute"] == 5000 - 96
    assert values["vllm:prompt_tokens_by_source_total", "local_cache_hit"] == 96
    assert values["vllm:prompt_tokens_cached_by_source_total", "device"] == 96
    assert values["vllm:iteration_tokens_total_sum", None] == 5000 - 96 + 1500


def test_the_cache_config_tells_the_capacity(engine: Engine) -> None:
    """The labels that an exporter needs are there and agree with each other."""
    (family,) = (f for f in text_string_to_metric_families(exposition(engine)) if f.name == "vllm:cache_config_info")
    labels = family.samples[0].labels
    assert int(labels["num_gpu_blocks"]) * int(labels["block_size"]) == int(labels["kv_cache_size_tokens"])


def test_every_help_text_of_the_engine_says_simulated(engine: Engine) -> None:
    """Whoever scrapes this by mistake can see it."""
    helps = [line for line in exposition(engine).splitlines() if line.startswith(("# HELP vllm:", "# HELP http_"))]
    assert helps
    assert all("simulated" in line for line in helps)


def test_dcgm_speaks_dcgm_exporters_language(engine: Engine) -> None:
    """Old field names, dcgm-exporter's label set on every series, and its units."""
    state = engine.gpu.read(1000.0)
    families = {f.name.removesuffix("_total"): f for f in text_string_to_metric_families(dcgm.render(state))}
    labels = {"gpu", "UUID", "pci_bus_id", "device", "modelName", "Hostname", "DCGM_FI_DRIVER_VERSION"}
    assert all(set(s.labels) == labels for family in families.values() for s in family.samples)
    values = {name: family.samples[0].value for name, family in families.items()}
    assert families["DCGM_FI_DEV_GPU_UTIL"].samples[0].labels["modelName"] == "Simulated GPU"
    assert values["DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION"] == pytest.approx(state.energy_joules * 1000)
    assert values["DCGM_FI_DEV_FB_USED"] + values["DCGM_FI_DEV_FB_FREE"] == 80 * 1024
    assert values["DCGM_FI_DEV_POWER_USAGE"] == 70
    assert values["DCGM_FI_DEV_SM_CLOCK"] == 1755
    assert values["DCGM_FI_DEV_XID_ERRORS"] == 0
    assert set(values) == {
        "DCGM_FI_DEV_GPU_UTIL", "DCGM_FI_DEV_MEM_COPY_UTIL", "DCGM_FI_DEV_FB_USED", "DCGM_FI_DEV_FB_FREE",
        "DCGM_FI_DEV_POWER_USAGE", "DCGM_FI_DEV_ENFORCED_POWER_LIMIT", "DCGM_FI_DEV_POWER_MGMT_LIMIT",
        "DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", "DCGM_FI_DEV_GPU_TEMP", "DCGM_FI_DEV_MEMORY_TEMP",
        "DCGM_FI_DEV_SM_CLOCK", "DCGM_FI_DEV_MEM_CLOCK", "DCGM_FI_PROF_SM_ACTIVE", "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE",
        "DCGM_FI_PROF_DRAM_ACTIVE", "DCGM_FI_DEV_PCIE_REPLAY_COUNTER", "DCGM_FI_DEV_XID_ERRORS",
        "DCGM_FI_DEV_CLOCK_THROTTLE_REASONS",
        "DCGM_FI_PROF_PCIE_TX_BYTES", "DCGM_FI_PROF_PCIE_RX_BYTES", "DCGM_FI_PROF_NVLINK_TX_BYTES",
        "DCGM_FI_PROF_NVLINK_RX_BYTES", "DCGM_FI_DEV_ECC_SBE_AGG_TOTAL", "DCGM_FI_DEV_ECC_DBE_AGG_TOTAL",
        "DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS", "DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS",
    }  # fmt: skip


def test_a_busy_gpu_shows_a_percentage() -> None:
    """Utilisation is 0..100 like DCGM's, not a ratio."""
    engine = Engine(EngineConfig())
    engine.submit(0.0, 10, 300)
    while (start := engine.next_start()) is not None:
        end = engine.step(start).end
    lines = dcgm.render(engine.gpu.read(end)).splitlines()
    (line,) = (line for line in lines if line.startswith("DCGM_FI_DEV_GPU_UTIL{"))
    assert float(line.split()[-1]) == 100
