"""Time limits that all end when the process is told to."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

# Seconds that waits are given once the process is told to end: enough for an engine that answers, too short to notice.
LAST = 0.5


class Limits:
    """The time limits of what is under way. From `cut` on nothing waits longer than LAST."""

    def __init__(self) -> None:
        self._open: set[asyncio.Timeout] = set()
        self._ended = False

    @asynccontextmanager
    async def within(self, seconds: float) -> AsyncIterator[None]:
        """Raises TimeoutError when the block takes longer than so many seconds, or than the process has left."""
        async with asyncio.timeout(min(LAST, seconds) if self._ended else seconds) as limit:
            self._open.add(limit)
            try:
                yield
            finally:
                self._open.discard(limit)

    def cut(self) -> None:
        """The process is to end. Call it from the event loop."""
        self._ended = True
        end = asyncio.get_running_loop().time() + LAST
        for limit in self._open:
            limit.reschedule(min(limit.when() or end, end))
