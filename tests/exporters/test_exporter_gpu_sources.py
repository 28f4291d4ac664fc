"""Where GPU telemetry comes from: what auto picks, that it goes on looking, and exporters that break."""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from exporter_servers import Upstream
from nvml_replay import Replay, capture

from exporters.collector import Collector, Source, read
from exporters.engines import fetch
from exporters.gpus import sources as gpu_sources
from exporters.gpus.sources import GpuSources
from exporters.model import GpuScrape, UsageError

HANDWRITTEN = Path(__file__).parent / "handwritten"
DCGM = (HANDWRITTEN / "dcgm-4.5.txt").read_bytes()
POD = {"POD_NAME": "chat-0", "POD_NAMESPACE": "prod"}


def no_driver() -> Replay:
    return Replay({"nvmlInit()": {"error": 12}})


def two_gpus() -> Replay:
    return Replay(capture("nvml-handmade-h200.json"))


def run(scenario: Callable[[fetch.Pages], Awaitable[None]]) -> None:
    """Run the scenario with connections that are closed after it."""

    async def with_pages() -> None:
        pages = fetch.Pages()
        try:
            await scenario(pages)
        finally:
            await pages.close()

    asyncio.run(with_pages())


def choose(pages: fetch.Pages, choice: str = "auto", nvml: Replay | None = None, **more: Any) -> GpuSources:
    """What is chosen, on a machine without a driver unless `nvml` is one."""
    return gpu_sources.choose(pages, nvml or no_driver(), choice, **({"env": {}} | more))


def looked(**more: Any) -> list[str]:
    """The names of what is found at the first look."""
    names: list[str] = []

    async def scenario(pages: fetch.Pages) -> None:
        sources = choose(pages, **more)
        await sources.look()
        names.extend(source.name for source in sources.found)

    run(scenario)
    return names


async def scraped(source: Source[GpuScrape], seconds: float = 2.0) -> tuple[list[str], str]:
    """The UUIDs of one reading, and its error."""
    (outcome,) = await read([source], seconds)
    return [gpu.uuid for gpu in outcome.value.gpus] if outcome.value else [], outcome.status.error


def test_auto_takes_the_own_gpus_first() -> None:
    """NVML where it shows a GPU, without asking the node's exporter at all."""
    with Upstream(DCGM) as dcgm:
        assert looked(nvml=two_gpus(), dcgm_url=dcgm.url) == ["nvml"]
        assert dcgm.reads == 0


def test_auto_takes_a_stated_exporter_without_asking() -> None:
    """Who says where dcgm-exporter is hears of it when it is down; who did not, hears that there is nothing."""
    assert looked(dcgm_url="http://127.0.0.1:1/metrics") == ["dcgm"]
    assert looked(env={"HOST_IP": "127.0.0.1"}) == []


def test_auto_says_what_it_found_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    """The log names every place that was looked at and why it would not do, once and not at every look."""

    async def scenario(pages: fetch.Pages) -> None:
        sources = choose(pages, env={"HOST_IP": "127.0.0.1"})
        for _ in range(3):
            await sources.look()

    with caplog.at_level("INFO"):
        run(scenario)
    (message,) = (record.getMessage() for record in caplog.records)
    assert "no GPU metrics" in message
    assert "nvml: NVML: NVML Shared Library Not Found" in message
    assert "dcgm: no connection" in message


def test_auto_goes_on_looking() -> None:
    """A driver that comes later is found by the collector that is already at work, and then it stays."""
    nvml = Replay(capture("nvml-handmade-h200.json") | {"nvmlDeviceGetCount()": 0})

    async def scenario(pages: fetch.Pages) -> None:
        sources = choose(pages, nvml=nvml)
        sources.keep_looking(itertools.repeat(0.05))
        collector = Collector([], sources.found)
        snapshot = await collector.collect()
        assert (snapshot.gpus, snapshot.statuses) == ((), ())  # nothing is down: there is nothing
        nvml.calls["nvmlDeviceGetCount()"] = 2
        end = time.monotonic() + 5
        while not (snapshot := await collector.collect()).gpus:
            assert time.monotonic() < end
            await asyncio.sleep(0.02)
        assert [(status.source, status.up) for status in snapshot.statuses] == [("nvml", True)]
        nvml.calls["nvmlDeviceGetCount()"] = {"error": 999}
        snapshot = await collector.collect()
        assert [(status.source, status.up) for status in snapshot.statuses] == [("nvml", False)]

    run(scenario)


def test_pauses_grow_to_a_minute() -> None:
    """A node without GPUs is not asked for ever at full speed."""
    assert list(itertools.islice(gpu_sources.pauses(), 6)) == [5, 10, 20, 40, 60, 60]


@pytest.mark.parametrize(
    ("way", "said"),
    [
        (lambda server: setattr(server, "status", 500), "HTTP 500"),
        (lambda server: setattr(server, "claimed", 1000), "no answer"),
        (lambda server: setattr(server, "body", DCGM[:700]), "cut short"),
        (lambda server: setattr(server, "body", b"\x00\xff\n"), "no sample line"),
        (lambda server: server.gate.clear(), "no answer within 0.3 s"),
    ],
    ids=["500", "half a body", "half a page", "garbage", "hanging"],
)
def test_an_exporter_that_breaks_is_told_of_and_comes_back(way: Callable[[Upstream], None], said: str) -> None:
    """However dcgm-exporter fails, the reading fails within its time and says so; then it is read again."""

    async def scenario(pages: fetch.Pages) -> None:
        (source,) = choose(pages, "dcgm", dcgm_url=fetch.metrics_url(server.url), env=POD).found
        assert await scraped(source) == (["GPU-aaaa"], "")
        way(server)
        uuids, error = await scraped(source, 0.3)
        assert uuids == []
        assert said in error
        server.gate.set()
        server.status, server.claimed, server.body = 200, 0, DCGM
        while (await scraped(source))[1]:
            await asyncio.sleep(0.01)

    with Upstream(DCGM) as server:
        run(scenario)


def test_a_new_pods_rows_come_late() -> None:
    """dcgm-exporter knows a new pod after half a minute: auto does not settle for another pod's GPUs meanwhile."""

    async def scenario(pages: fetch.Pages) -> None:
        (source,) = choose(pages, "dcgm", dcgm_url=fetch.metrics_url(server.url), env=POD).found
        auto = GpuSources((), [source])
        await auto.look()
        assert auto.found == []
        assert "no GPU of this node is in use by pod prod/chat-0" in (await scraped(source))[1]
        server.body = DCGM
        await auto.look()
        assert auto.found == [source]
        assert await scraped(source) == (["GPU-aaaa"], "")

    with Upstream(DCGM.replace(b"chat-0", b"old-0")) as server:
        run(scenario)


def test_named_gpus_go_before_the_pods() -> None:
    """Where pod labels are missing or wrong, --gpu-uuids says which GPUs are meant, and only they are read."""

    async def scenario(pages: fetch.Pages) -> None:
        url = fetch.metrics_url(server.url)
        (source,) = choose(pages, "dcgm", dcgm_url=url, uuids="GPU-bbbb", env=POD).found
        assert await scraped(source) == (["GPU-bbbb"], "")

    with Upstream(DCGM) as server:
        run(scenario)


@pytest.mark.parametrize(
    ("kind", "page", "uuid"),
    [
        ("amd", "amd-1.5.txt", "SN-0"),
        ("intel", "intel-xpumd-2.txt", "uuid-0"),
        ("gaudi", "gaudi-1.23.txt", "01P0-HL2080A0"),
    ],
)
def test_the_other_exporters_are_read_where_they_are(kind: str, page: str, uuid: str) -> None:
    """--gpu-url with --gpu amd, intel or gaudi reads that page."""

    async def scenario(pages: fetch.Pages) -> None:
        (source,) = choose(pages, kind, gpu_url=fetch.metrics_url(server.url)).found
        assert source.name == kind
        assert uuid in (await scraped(source))[0]

    with Upstream((HANDWRITTEN / page).read_bytes()) as server:
        run(scenario)


def test_each_exporter_has_its_port_on_the_node() -> None:
    """Without a URL the node's own exporter is meant, of an IPv6 node too."""

    async def scenario(pages: fetch.Pages) -> None:
        for kind, port in (("dcgm", 9400), ("amd", 5000), ("gaudi", 41611), ("intel", 8080)):
            (source,) = choose(pages, kind, env={"HOST_IP": "10.0.0.7"}).found
            assert source.endpoint == f"http://10.0.0.7:{port}/metrics"
        (source,) = choose(pages, "dcgm", env={"HOST_IP": "fd00::7"}).found
        assert source.endpoint == "http://[fd00::7]:9400/metrics"

    run(scenario)


def test_what_cannot_be_meant_is_refused() -> None:
    """An exporter without an address, and an address without an exporter."""

    async def scenario(pages: fetch.Pages) -> None:
        with pytest.raises(UsageError, match="--gpu amd needs --gpu-url, or the node's address in HOST_IP"):
            choose(pages, "amd")
        with pytest.raises(UsageError, match="--gpu-url needs --gpu"):
            choose(pages, "nvml", gpu_url="http://h/metrics")
        assert choose(pages, "none").found == []

    run(scenario)
