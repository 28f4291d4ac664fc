"""The driver: the model's times are kept in real time, and nobody waits for an engine that has stopped."""

import asyncio
from collections.abc import Callable, Coroutine

import pytest
import uvloop
from simulating import QUICK

from loadgen.simulator.driver import Call, Driver, Stream
from loadgen.simulator.model import Engine


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_tokens_come_when_the_model_says(run: Callable[[Coroutine[None, None, list[float]]], list[float]]) -> None:
    """No token is handed out before its time, and after 100 steps some still come within milliseconds of it."""

    async def lateness() -> list[float]:
        driver = Driver(Engine(QUICK), on_finish=lambda _: None)
        serving, late, seen = asyncio.create_task(driver.run()), [], 0
        request = driver.engine.submit(driver.now(), 10, 150)
        stream = driver.submit(request, Call(id="a", temperature=1.0, top_p=1.0))
        while not request.finished:
            seen = await stream.progress(seen)
            late.append(driver.now() - request.last_token)
        serving.cancel()
        return late

    late = run(lateness())
    assert len(late) > 100
    assert min(late) >= 0
    assert min(late[-50:]) < 0.02


def test_a_dead_engine_is_said_and_lets_nobody_wait(caplog: pytest.LogCaptureFixture) -> None:
    """When the model fails, streams end and the log says why, instead of clients that hang."""

    def fail(_: Stream) -> None:
        raise RuntimeError("broken pipe to nowhere")

    async def tokens() -> int:
        driver = Driver(Engine(QUICK), on_finish=fail)
        serving = asyncio.create_task(driver.run())
        call, now = Call(id="a", temperature=1.0, top_p=1.0), driver.now()
        driver.submit(driver.engine.submit(now, 1, 1), call)
        other = driver.submit(driver.engine.submit(now, 1, 500), call)
        await asyncio.wait_for(serving, 5)
        assert driver.stopped
        return await asyncio.wait_for(other.progress(1), 5)

    assert asyncio.run(tokens()) == 1
    assert "broken pipe to nowhere" in caplog.text


def test_a_stopped_driver_lets_nobody_wait() -> None:
    """Streams that wait for their first token end when the driver is cancelled, later ones at once."""

    async def tokens() -> list[int]:
        driver = Driver(Engine(QUICK), on_finish=lambda _: None)
        serving = asyncio.create_task(driver.run())
        call = Call(id="a", temperature=1.0, top_p=1.0)
        early = driver.submit(driver.engine.submit(driver.now() + 60, 1, 5), call)
        await asyncio.sleep(0)
        serving.cancel()
        waited = await asyncio.wait_for(early.progress(0), 5)
        late = driver.submit(driver.engine.submit(driver.now(), 1, 5), call)
        return [waited, await asyncio.wait_for(late.progress(0), 5)]

    assert asyncio.run(tokens()) == [0, 0]
