"""From what the user asked for to the GPU sources of a scrape."""

import logging
from collections.abc import Mapping
from functools import partial

import pynvml

from exporters import dcgm, fetch
from exporters.collector import DEADLINE, Source, in_thread, read
from exporters.model import GpuScrape, UsageError
from exporters.nvml import NvmlReader

log = logging.getLogger(__name__)


async def gpus(
    pages: fetch.Pages, choice: str, dcgm_url: str | None, env: Mapping[str, str]
) -> list[Source[GpuScrape]]:
    """The source for `--gpu auto|nvml|dcgm|none`; auto looks what answers. Raises UsageError for dcgm without a URL.

    HOST_IP stands for a missing `dcgm_url`; POD_NAME and POD_NAMESPACE pick the pod's own GPUs out of the node's.
    """
    nvml = Source("nvml", "local", partial(in_thread, NvmlReader(pynvml).read))
    url = dcgm_url or _on_host(env.get("HOST_IP", ""))
    of_node = [_dcgm(pages, url, env)] if url else []
    if choice == "nvml":
        return [nvml]
    if choice == "dcgm":
        if not of_node:
            raise UsageError("--gpu dcgm needs --dcgm-url, or the node's address in HOST_IP")
        return of_node
    if choice == "none":
        return []
    if await _answers(nvml):
        return [nvml]
    if dcgm_url or (of_node and await _answers(of_node[0])):
        return of_node
    log.info("no GPU metrics: NVML shows no GPU here and no dcgm-exporter answers; see --gpu and --dcgm-url")
    return []


async def _answers(source: Source[GpuScrape]) -> bool:
    (outcome,) = await read([source], DEADLINE)
    return outcome.status.up


def _dcgm(pages: fetch.Pages, url: str, env: Mapping[str, str]) -> Source[GpuScrape]:
    pod = dcgm.Pod(env.get("POD_NAME", ""), env.get("POD_NAMESPACE", ""))

    async def scrape() -> GpuScrape:
        return dcgm.parse(await pages.get(url, DEADLINE), pod if all(pod) else None)

    return Source("dcgm", fetch.without_password(url), scrape)


def _on_host(address: str) -> str:
    host = f"[{address}]" if ":" in address else address
    return f"http://{host}:9400/metrics" if address else ""
