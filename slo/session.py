"""HTTP as somebody: what Prometheus, Mimir and their tenants want to know of who asks."""

from types import TracebackType
from typing import Self

import httpx


class Session:
    """Requests with a bearer `token`, for one `tenant` (X-Scope-OrgID); leaving its block closes the connections."""

    def __init__(self, token: str | None, tenant: str | None, timeout: float) -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        headers |= {"X-Scope-OrgID": tenant} if tenant else {}
        self._http = httpx.Client(headers=headers, timeout=timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._http.close()
