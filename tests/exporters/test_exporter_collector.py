"""One scrape of many sources: shared readings, one deadline, and failures that stay where they are."""

import asyncio
import threading
import time

import pytest

from exporters.collector import Collector, Source, in_thread, read
from exporters.model import EngineScrape, GpuReading, GpuScrape, SourceError

SCRAPE = EngineScrape(("m",), {})
GPU = GpuScrape((GpuReading(uuid="GPU-a", index="0"),))


class Scripted:
    """A source whose next reading is a variable: a value, an error, or something to wait for."""

    def __init__(self, name: str, value: object) -> None:
        self.value = value
        self.begun = 0
        self.source: Source[object] = Source(name, f"http://{name}", self._read)

    async def _read(self) -> object:
        self.begun += 1
        if isinstance(self.value, asyncio.Event):
            await self.value.wait()
            return SCRAPE
        if isinstance(self.value, Exception):
            raise self.value
        return self.value


def test_many_scrapers_share_one_reading() -> None:
    """A hundred scrapes at once read each source once; the next one after that reads again."""

    async def scenario() -> None:
        gate = asyncio.Event()
        engine = Scripted("engine", gate)
        collector = Collector([engine.source])
        scrapes = [asyncio.create_task(collector.collect(5.0)) for _ in range(100)]
        await asyncio.sleep(0)
        gate.set()
        snapshots = await asyncio.gather(*scrapes)
        assert engine.begun == 1
        assert all(snapshot.engines == (SCRAPE,) for snapshot in snapshots)
        await collector.collect(5.0)
        assert engine.begun == 2

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (SourceError("HTTP 500"), "HTTP 500"),
        (KeyError("surprise"), "KeyError: 'surprise'"),
        (None, "no answer within 0.1 s"),
    ],
    ids=["error", "fault", "hanging"],
)
def test_a_bad_source_takes_no_other_down(value: Exception | None, said: str) -> None:
    """An error, a fault in the reader and a source that hangs each cost their own part of the page, no more."""

    async def scenario() -> None:
        bad = Scripted("bad", value or asyncio.Event())
        good, gpu = Scripted("good", SCRAPE), Scripted("gpu", GPU)
        started = time.monotonic()
        snapshot = await Collector([bad.source, good.source], [gpu.source]).collect(0.1)  # type: ignore[list-item]
        assert time.monotonic() - started < 2.0
        assert snapshot.engines == (SCRAPE,)
        assert snapshot.gpus == GPU.gpus
        assert [status.up for status in snapshot.statuses] == [False, True, True]
        assert said in snapshot.statuses[0].error

    asyncio.run(scenario())


def test_a_short_scrape_leaves_the_reading_to_others() -> None:
    """A scraper with little time goes without; the reading goes on for one that has more."""

    async def scenario() -> None:
        gate = asyncio.Event()
        engine = Scripted("engine", gate)
        collector = Collector([engine.source])
        patient = asyncio.create_task(collector.collect(5.0))
        assert (await collector.collect(0.05)).engines == ()
        gate.set()
        assert (await patient).engines == (SCRAPE,)
        assert engine.begun == 1

    asyncio.run(scenario())


def test_a_wedged_call_is_waited_for_once() -> None:
    """A driver call that never returns costs one deadline; later scrapes say so at once and start no more threads."""
    release = threading.Event()

    def wedged() -> GpuScrape:
        assert release.wait(20)
        return GPU

    async def scenario() -> None:
        source = Source("nvml", "local", lambda: in_thread(wedged))
        (first,) = await read([source], 0.1)
        assert not first.status.up
        threads = threading.active_count()
        started = time.monotonic()
        for _ in range(20):
            (again,) = await read([source], 0.1)
        assert time.monotonic() - started < 1.0  # waiting each time would take 2 s
        assert threading.active_count() == threads
        assert again.status.seconds >= first.status.seconds >= 0.1
        release.set()
        (recovered,) = await read([source], 5.0)
        while recovered.value is None:
            (recovered,) = await read([source], 5.0)
        assert recovered.value == GPU

    asyncio.run(scenario())


def test_a_lost_gpu_is_a_source_that_is_down() -> None:
    """A GPU that no longer answers shows as its own row, beside the reader that is up."""

    async def scenario() -> None:
        gpu = Scripted("nvml", GpuScrape(GPU.gpus, {"GPU-b": "GPU is lost"}))
        snapshot = await Collector([], [gpu.source]).collect()  # type: ignore[list-item]
        assert [(status.endpoint, status.up) for status in snapshot.statuses] == [
            ("http://nvml", True),
            ("GPU-b", False),
        ]

    asyncio.run(scenario())


def test_models_are_remembered_and_readiness_stays() -> None:
    """While an engine restarts, its spans still find their model and the pod stays ready."""

    async def scenario() -> None:
        engine = Scripted("engine", SourceError("refused"))
        collector = Collector([engine.source])  # type: ignore[list-item]
        await collector.collect()
        assert (collector.ready, collector.models) == (False, ())
        engine.value = SCRAPE
        await collector.collect()
        engine.value = SourceError("refused")
        await collector.collect()
        assert (collector.ready, collector.models) == (True, ("m",))

    asyncio.run(scenario())


def test_only_model_is_known_when_all_engines_are() -> None:
    """With two engines a span without a name is nobody's until both were read and serve the same; then it stays so."""

    async def scenario() -> None:
        first, second = Scripted("first", SCRAPE), Scripted("second", SourceError("starting"))
        collector = Collector([first.source, second.source])  # type: ignore[list-item]
        await collector.collect()
        assert collector.only_model is None
        second.value = SCRAPE
        await collector.collect()
        second.value = SourceError("restarting")
        await collector.collect()
        assert collector.only_model == "m"
        second.value = EngineScrape(("other",), {})
        await collector.collect()
        assert collector.only_model is None
        assert collector.models == ("m", "other")

    asyncio.run(scenario())


def test_log_says_what_changed_once(caplog: pytest.LogCaptureFixture) -> None:
    """A source that stays down is one line, its return another: not a line per scrape."""

    async def scenario() -> None:
        engine = Scripted("engine", SourceError("connection refused"))
        collector = Collector([engine.source])  # type: ignore[list-item]
        for _ in range(10):
            await collector.collect()
        engine.value = SCRAPE
        for _ in range(10):
            await collector.collect()

    with caplog.at_level("INFO", logger="exporters.collector"):
        asyncio.run(scenario())
    assert [record.getMessage() for record in caplog.records] == [
        "engine http://engine: connection refused",
        "engine http://engine: answers",
    ]
