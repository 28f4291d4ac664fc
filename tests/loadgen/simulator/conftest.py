"""Simulators and collectors as fixtures."""

import threading
from collections.abc import Iterator

import pytest
from simulating import DEADLINE, Collector, Running, serving


@pytest.fixture(scope="module")
def simulator() -> Iterator[Running]:
    """A quick simulator that the tests of a module share."""
    with serving() as running:
        yield running


@pytest.fixture
def fresh() -> Iterator[Running]:
    """A quick simulator that has served nothing yet."""
    with serving() as running:
        yield running


@pytest.fixture
def collector() -> Iterator[Collector]:
    """A live collector."""
    collector = Collector()
    thread = threading.Thread(target=collector.server.serve_forever, args=(0.05,))
    thread.start()
    yield collector
    collector.server.shutdown()
    thread.join(DEADLINE)
    collector.server.server_close()
