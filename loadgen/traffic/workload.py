"""What is asked, as the header of a record tells it: endpoint, lengths, sharing, turns, mix."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Endpoint = Literal["chat", "completions", "responses"]

PATHS: dict[Endpoint, str] = {
    "chat": "/v1/chat/completions",
    "completions": "/v1/completions",
    "responses": "/v1/responses",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """Parameters of a workload. Lengths are in tokens, means where `*_lengths` names a distribution.

    `prefix_tokens` of every prompt are shared within one of `prefix_groups`. A conversation has `turns` requests, with
    `think_time` seconds from an answer to the next one. `prompts` names a file and its digest. `models` and `tenants`
    are weights, a tenant is told in `tenant_header`; `body` holds fields put into every request (None removes one).
    `tokens_per_word` and `template_tokens` are how the prompts were sized, as the server counted; with `token_ids` they
    are lists of ids.
    """

    endpoint: Endpoint = "chat"
    prompt_tokens: int = 128
    output_tokens: int = 128
    seed: int = 0
    salt: str = ""
    prompt_lengths: str | None = None
    output_lengths: str | None = None
    prefix_tokens: int | None = None
    prefix_groups: int | None = None
    turns: int | None = None
    think_time: float | None = None
    prompts: str | None = None
    models: Mapping[str, float] = field(default_factory=dict)
    tenants: Mapping[str, float] = field(default_factory=dict)
    tenant_header: str | None = None
    body: Mapping[str, Any] = field(default_factory=dict)
    tokens_per_word: float | None = None
    template_tokens: int | None = None
    token_ids: bool | None = None
