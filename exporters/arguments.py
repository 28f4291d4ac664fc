"""The command's flags - engines, GPUs, spans, access and what goes out - and how their values are read."""

import argparse
import re
from argparse import ArgumentTypeError
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from exporters.engines import fetch
from exporters.engines import sources as engine_sources
from exporters.gpus import economics
from exporters.gpus import sources as gpu_sources
from exporters.serving.push import with_path
from exporters.serving.runner import GRPC
from exporters.spans.exact import MAX_LABEL_SETS
from slo.engines import ENGINES

T = TypeVar("T")

# Labels that the families of spans have already, or that Prometheus keeps for itself.
_TAKEN = re.compile(r"model_name|slo|le|job|instance|__.*")


def add_engines(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say what to read."""
    add = parser.add_argument
    add("--engine", action="append", required=True, type=_told(engine_sources.engine_url), metavar="[KIND=]URL",
        help="engine to read, http://HOST:PORT or the full URL of its metrics; which engine it is shows in them, or is "
        f"stated ({', '.join(ENGINES)}); may be repeated")  # fmt: skip
    add("--model-name", default="", metavar="NAME",
        help="the model's name, for engines whose metrics do not say it (TGI, llama.cpp)")  # fmt: skip
    add("--passthrough", type=_regex, metavar="REGEX",
        help="families of the engines to pass on as they stand too, by their whole name")  # fmt: skip
    add("--merge", action="append", default=[], type=_told(fetch.metrics_url), metavar="URL",
        help="metrics page of another container, all of whose families are passed on as they stand; may be "
        "repeated")  # fmt: skip


def add_gpus(parser: argparse.ArgumentParser) -> None:
    """Add the flags about GPUs and their cost."""
    add = parser.add_argument
    add("--gpu", choices=gpu_sources.CHOICES, default="auto",
        help="where GPU telemetry comes from; auto (the default) takes NVML if it shows a GPU, else dcgm-exporter if "
        "--dcgm-url is given or the node's answers at HOST_IP:9400, and looks again until there is one")  # fmt: skip
    add("--dcgm-url", type=_told(fetch.metrics_url), metavar="URL",
        help="dcgm-exporter of this node; with POD_NAME and POD_NAMESPACE in the environment only the GPUs that it "
        "lists for that pod count")  # fmt: skip
    add("--gpu-url", type=_told(fetch.metrics_url), metavar="URL",
        help="page of the exporter that --gpu names (dcgm, amd, gaudi, intel), where it is not on HOST_IP")  # fmt: skip
    add("--gpu-uuids", metavar="ID,...",
        help="count only these GPUs, by UUID or index; CUDA_VISIBLE_DEVICES and NVIDIA_VISIBLE_DEVICES do the "
        "same")  # fmt: skip
    add("--price", type=_told(economics.price), metavar="PER_GPU_HOUR",
        help="what a GPU costs per hour (2.50, 2.50EUR): its cost is counted")  # fmt: skip


def add_spans(parser: argparse.ArgumentParser) -> None:
    """Add the flags about spans, access and what goes out."""
    add = parser.add_argument
    add("--otlp-grpc", default=GRPC, type=_grpc, metavar="HOST:PORT|none",
        help="address to take spans on over gRPC, vLLM's default protocol (127.0.0.1:4317, for the engine beside; if "
        "that is taken a warning says so); over HTTP they come to /v1/traces at --listen")  # fmt: skip
    add("--otlp-token-file", type=Path, metavar="FILE",
        help="take only spans whose sender has this token, in a header Authorization: Bearer TOKEN")  # fmt: skip
    add("--span-label", action="append", default=[], type=_label, metavar="NAME=ATTRIBUTE",
        help="a label for the families of spans and exact SLOs, from an attribute of the span or its resource, like "
        "tenant=user.tenant; may be repeated")  # fmt: skip
    add("--span-label-sets", default=MAX_LABEL_SETS, type=_positive, metavar="N",
        help=f"sets of model and label values told apart ({MAX_LABEL_SETS}); further ones are 'other'")  # fmt: skip
    add("--forward", type=_traces_url, metavar="URL",
        help="send spans on, over OTLP/HTTP: all that broke an SLO or failed, some of the rest")  # fmt: skip
    add("--forward-keep", default=0.05, type=_fraction, metavar="FRACTION",
        help="the fraction of good traces that is sent on (0.05), the same traces by every sidecar")  # fmt: skip
    add("--push", type=_metrics_url, metavar="URL",
        help="push metrics over OTLP/HTTP under the names of the GenAI semantic conventions; "
        "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT does the same")  # fmt: skip
    add("--web.config.file", "--web-config", dest="web_config", type=Path, metavar="FILE",
        help="TLS, client certificates and users, in the format of the Prometheus exporters (web.yml)")  # fmt: skip


def address(text: str) -> tuple[str, int]:
    """HOST:PORT."""
    host, _, port = text.rpartition(":")
    if not host or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise ArgumentTypeError(f"{text!r} is no address; write it like 0.0.0.0:9402 or [::]:9402")
    return host.strip("[]"), int(port)


def _told(read: Callable[[str], T]) -> Callable[[str], T]:
    """`read`, whose ValueError is told to the user: argparse shows the text of its own errors only."""

    def told(text: str) -> T:
        try:
            return read(text)
        except ValueError as error:
            raise ArgumentTypeError(str(error)) from None

    return told


def _regex(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise ArgumentTypeError(f"{text!r} is no regular expression: {error}") from None


def _grpc(text: str) -> tuple[str, int] | None:
    return None if text == "none" else address(text)


def _label(text: str) -> tuple[str, str]:
    name, _, attribute = text.partition("=")
    if not re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_]*", name) or not attribute:
        raise ArgumentTypeError(f"{text!r}: write it like tenant=user.tenant")
    if _TAKEN.fullmatch(name):
        raise ArgumentTypeError(f"{text!r}: the label {name!r} has a meaning already; choose another name")
    return name, attribute


def _positive(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text)):
        raise ArgumentTypeError(f"{text!r} is no whole number above 0")
    return int(text)


def _fraction(text: str) -> float:
    try:
        fraction = float(text)
    except ValueError:
        fraction = -1.0
    if not 0 <= fraction <= 1:
        raise ArgumentTypeError(f"{text!r} is no fraction; give a number from 0 to 1")
    return fraction


def _traces_url(text: str) -> str:
    return _otlp_url(text, "/v1/traces")


def _metrics_url(text: str) -> str:
    return _otlp_url(text, "/v1/metrics")


def _otlp_url(text: str, path: str) -> str:
    try:
        fetch.metrics_url(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is no URL; write it like http://127.0.0.1:4318") from None
    return with_path(text, path)
