"""Ray Serve LLM: vLLM's engine metrics as Ray's own exporter spells them, on the node's metrics port.

A series appears only after its first increment. The labels that name the node and the session say nothing here.
"""

from dataclasses import replace

from slo.engines.table import Engine
from slo.engines.vllm import NAMES
from slo.metric import Upstream

_ABSENT = {
    "vLLM's web server does not run under Ray; see ray_serve_* with --passthrough": (
        "llm_http_requests_total",
        "llm_admission_rejections_total",
        "llm_engine_sleep_state",
        "llm_requests_failed_total",
    ),
    "an info metric, which Ray does not pass on": ("llm_kv_cache_capacity_tokens",),
}


def _respelled(upstreams: tuple[Upstream, ...]) -> tuple[Upstream, ...]:
    """With an underscore as Ray writes them now, and with the colon that it kept before."""
    return tuple(
        replace(upstream, name=upstream.name.replace("vllm:", prefix))
        for prefix in ("ray_vllm_", "ray_vllm:")
        for upstream in upstreams
    )


ENGINE = Engine(
    kind="ray",
    title="Ray Serve LLM",
    hint="the node's metrics-export port (KubeRay: http://HOST:8080), with log_engine_metrics on",
    names={
        family: _respelled(names)
        for family, names in NAMES.items()
        if not any(family in families for families in _ABSENT.values())
    },
    absent=_ABSENT,
    drop=("Component", "NodeAddress", "SessionName", "Version"),
)
