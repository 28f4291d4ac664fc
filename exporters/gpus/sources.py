"""From what the user asked for to the source of GPU telemetry; `auto` goes on looking until there is one."""

import asyncio
import logging
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from exporters.collector import DEADLINE, Source, in_thread, read
from exporters.engines import fetch
from exporters.gpus import pages as gpu_pages
from exporters.gpus.nvml import NvmlReader
from exporters.gpus.ours import RollCall, wanted
from exporters.gpus.pages import EXPORTERS, Exporter, Pod
from exporters.model import GpuScrape, UsageError

CHOICES = ("auto", "nvml", *EXPORTERS, "none")
# Seconds between two looks. dcgm-exporter shows the GPUs of a new pod after up to 30 s.
_FIRST_PAUSE, _LONGEST_PAUSE = 5.0, 60.0
log = logging.getLogger(__name__)


class GpuSources:
    """`found` holds the source that is read; it is empty until one of the candidates answers.

    The last candidate is taken in any case, answering or not, where the user has `stated` where it is.
    """

    def __init__(
        self, found: Iterable[Source[GpuScrape]], candidates: Iterable[Source[GpuScrape]] = (), stated: bool = False
    ) -> None:
        self.found = list(found)
        self._candidates = list(candidates)
        self._stated = stated
        self._said = ""
        self._task: asyncio.Task[None] | None = None

    def keep_looking(self, pauses: Iterable[float]) -> None:
        """Look now, and after each of the pauses until a source answers, while the event loop runs."""
        if self._candidates:
            self._task = asyncio.create_task(self._keep_looking(pauses))

    async def _keep_looking(self, pauses: Iterable[float]) -> None:
        await self.look()
        for pause in pauses:
            if self.found:
                return
            await asyncio.sleep(pause)
            await self.look()

    async def look(self) -> None:
        """Look once, and say what was found nowhere where that is news."""
        reasons: list[str] = []
        for source in () if self.found else self._candidates:
            (outcome,) = await read([source], DEADLINE)
            if outcome.status.up or (self._stated and source is self._candidates[-1]):
                self.found.append(source)
                return
            reasons.append(f"{source.name}: {outcome.status.error}")
        if reasons and self._said != (said := "; ".join(reasons)):
            log.info("no GPU metrics (see --gpu): %s", said)
            self._said = said


def pauses() -> Iterator[float]:
    """Longer and longer ones, without an end."""
    pause = _FIRST_PAUSE
    while True:
        yield pause
        pause = min(2 * pause, _LONGEST_PAUSE)


def choose(
    pages: fetch.Pages,
    nvml: Any,
    choice: str,
    *,
    dcgm_url: str | None = None,
    gpu_url: str | None = None,
    uuids: str | None = None,
    env: Mapping[str, str],
) -> GpuSources:
    """The sources for `--gpu`, with `nvml` the module pynvml. Raises UsageError when an exporter's URL is not known.

    HOST_IP stands for a missing URL; POD_NAME and POD_NAMESPACE pick the pod's own GPUs out of the node's, and `uuids`
    or the variables of CUDA and the container runtime name them outright.
    """
    if gpu_url and choice not in EXPORTERS:
        raise UsageError(f"--gpu-url needs --gpu {'|'.join(EXPORTERS)}, to say whose page it is")
    if choice == "none":
        return GpuSources(())
    local = _nvml(nvml, uuids, env)
    if choice == "nvml":
        return GpuSources([local])
    exporter = EXPORTERS["dcgm" if choice == "auto" else choice]
    url = gpu_url or (dcgm_url if exporter.kind == "dcgm" else None) or _on_host(env, exporter)
    of_node = [_page(pages, url, exporter, uuids, env)] if url else []
    if choice == "auto":
        return GpuSources((), [local, *of_node], stated=bool(dcgm_url))
    if not of_node:
        flag = "--dcgm-url" if choice == "dcgm" else "--gpu-url"
        raise UsageError(f"--gpu {choice} needs {flag}, or the node's address in HOST_IP")
    return GpuSources(of_node)


def _nvml(nvml: Any, uuids: str | None, env: Mapping[str, str]) -> Source[GpuScrape]:
    ours = wanted(uuids, env, of_node=False)
    reader, calls = NvmlReader(nvml, ours), RollCall(ours)
    return Source("nvml", "local", partial(in_thread, lambda: calls.check(reader.read())))


def _page(
    pages: fetch.Pages, url: str, exporter: Exporter, uuids: str | None, env: Mapping[str, str]
) -> Source[GpuScrape]:
    ours = wanted(uuids, env, of_node=True)
    pod, calls = Pod(env.get("POD_NAME", ""), env.get("POD_NAMESPACE", "")), RollCall(ours)
    of_pod = pod if all(pod) and ours is None else None

    async def scrape() -> GpuScrape:
        return calls.check(gpu_pages.parse(await pages.get(url, DEADLINE), exporter, of_pod))

    return Source(exporter.kind, fetch.without_password(url), scrape)


def _on_host(env: Mapping[str, str], exporter: Exporter) -> str:
    address = env.get("HOST_IP", "")
    host = f"[{address}]" if ":" in address else address
    return f"http://{host}:{exporter.port}/metrics" if address else ""
