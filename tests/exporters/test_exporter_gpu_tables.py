"""GPUs on the metrics page: from recorded answers of a driver to series, seconds and cost."""

import asyncio
from itertools import count

import pytest
from nvml_replay import Replay, capture
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from exporters.collector import Collector, Source
from exporters.gpus.economics import Ledger, Price, Usage
from exporters.gpus.nvml import NvmlReader
from exporters.model import EngineScrape, GpuReading, GpuScrape, SourceError
from exporters.serving import page
from slo import catalog

Series = dict[str, dict[tuple[str, ...], float]]


def on_page(collector: Collector, times: int = 1) -> Series:
    """Per sample name the values by label values in the catalogue's order, as the strict parser reads the page."""

    async def scenario() -> bytes:
        for _ in range(times - 1):
            await collector.collect()
        return page.render(await collector.collect(), CollectorRegistry(), "application/openmetrics-text")[0]

    found: Series = {}
    for family in text_string_to_metric_families(asyncio.run(scenario()).decode()):
        for sample in family.samples:
            series = found.setdefault(sample.name, {})
            labels = tuple(sample.labels[label] for label in catalog.by_name(sample.name).labels)
            assert labels not in series
            assert len(labels) == len(sample.labels)
            series[labels] = sample.value
    return found


def of_driver(name: str) -> Source[GpuScrape]:
    ticks = count(100.0)
    reader = NvmlReader(Replay(capture(name)), clock=lambda: next(ticks))

    async def read() -> GpuScrape:
        return reader.read()

    return Source("nvml", "local", read)


def of_engine() -> Source[EngineScrape]:
    async def read() -> EngineScrape:
        return EngineScrape(("llama", "qwen"), {})

    return Source("engine", "http://e", read)


def test_all_that_nvml_tells_is_on_the_page() -> None:
    """Every family that the table has of NVML is a series of the right labels, but XIDs, of which there were none."""
    found = on_page(Collector([], [of_driver("nvml-handmade-h200.json")]), times=2)
    xids = {catalog.GPU_XID_ERRORS, catalog.GPU_XID_LAST_SEEN}
    for metric in catalog.families():
        if "nvml" in metric.upstream and metric not in xids:
            assert len(found[metric.name]) >= 2, metric.name
    uuid = "GPU-aaaaaaaa-0000-0000-0000-000000000000"
    assert found[catalog.GPU_ECC_ERRORS.name][uuid, "0", "corrected"] == 12
    assert found[catalog.GPU_THROTTLED.name][uuid, "0", "power_cap"] == 1
    assert found[catalog.GPU_INFO.name][uuid, "0", "NVIDIA H200", "580.95.05", "", ""] == 1
    assert found[catalog.GPU_SECONDS.name].keys() == {(uuid, "0"), (uuid.replace("a", "b"), "1")}
    assert catalog.GPU_COST.name not in found


def test_mig_joins_instances_and_counts_the_board_once() -> None:
    """Models are joined to instances only: the board's energy is on the page and in nobody's energy per token."""
    found = on_page(Collector([of_engine()], [of_driver("nvml-handmade-a100-mig.json")]))
    instances = {f"MIG-dddddddd-0000-0000-0000-00000000000{n}" for n in (0, 1)}
    assert found[catalog.ENGINE_GPU_INFO.name].keys() == {(m, gpu) for m in ("llama", "qwen") for gpu in instances}
    assert {uuid for uuid, _ in found[catalog.GPU_SECONDS.name]} == instances
    ((board, _),) = found[catalog.GPU_ENERGY.name]
    assert board not in instances
    assert ("0:1", board, "3g.20gb") in {(row[1], row[4], row[5]) for row in found[catalog.GPU_INFO.name]}


def test_cost_goes_on_while_a_source_is_down() -> None:
    """Seconds and cost stay on the page when the GPU cannot be read, so that rates see no reset."""
    answers = iter([GpuScrape((GpuReading(uuid="GPU-a", index="0"),)), None])

    async def read() -> GpuScrape:
        if (answer := next(answers)) is None:
            raise SourceError("gone")
        return answer

    ledger = Ledger(Price(3600.0, "EUR"))
    ledger.see([GpuReading(uuid="GPU-a", index="0")], 0.0)
    ledger.see([GpuReading(uuid="GPU-a", index="0")], 5.0)
    assert ledger.usage() == (Usage("GPU-a", "0", 5.0, 5.0, "EUR"),)
    found = on_page(Collector([], [Source("dcgm", "http://d", read)], ledger=ledger), times=2)
    assert found[catalog.SOURCE_UP.name] == {("dcgm", "http://d"): 0}
    (cost,) = found[catalog.GPU_COST.name].items()
    assert cost[0] == ("GPU-a", "0", "EUR")
    assert cost[1] == pytest.approx(found[catalog.GPU_SECONDS.name]["GPU-a", "0"])
    assert cost[1] >= 5
