"""Metrics pages over HTTP."""

import asyncio
from urllib.parse import urlsplit

import httpx

from exporters.model import SourceError

# An engine of 64 data-parallel ranks shows about 4 MB.
MAX_PAGE = 8 * 1024 * 1024


def metrics_url(text: str, path: str = "/metrics") -> str:
    """The page meant by `http://HOST:PORT` (its `path`) or by a full URL. Raises ValueError when it is no URL."""
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 and text.isprintable()
    except ValueError:
        usable = False
    if not usable or " " in text:
        raise ValueError(f"{text!r} is no URL; write it like http://127.0.0.1:8000")
    return parts._replace(path=parts.path if parts.path.strip("/") else path, fragment="").geturl()


def without_password(url: str) -> str:
    """The URL as it may be shown and used as a label."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


class Pages:
    """Gets pages, over connections that are kept where the server keeps them."""

    def __init__(self) -> None:
        # Uncompressed, since an engine has better things to do; directly, whatever proxy the pod uses for the world.
        self._client = httpx.AsyncClient(headers={"Accept-Encoding": "identity"}, trust_env=False)

    async def get(self, url: str, seconds: float) -> bytes:
        """The body of a page. Raises SourceError when it does not come whole, in time and with status 200."""
        try:
            async with asyncio.timeout(seconds), self._client.stream("GET", url) as response:
                if response.status_code != httpx.codes.OK:
                    raise SourceError(f"HTTP {response.status_code} {response.reason_phrase}; is it the metrics page?")
                if (encoding := response.headers.get("content-encoding", "identity")) != "identity":
                    raise SourceError(f"a page compressed with {encoding}, which was not asked for")
                body = bytearray()
                async for chunk in response.aiter_bytes():
                    body += chunk
                    if len(body) > MAX_PAGE:
                        raise SourceError(f"a page of more than {MAX_PAGE >> 20} MiB; is it the metrics page?")
                return bytes(body)
        except TimeoutError:
            raise SourceError(f"no whole answer within {seconds:g} s") from None
        except httpx.ConnectError as error:
            raise SourceError(f"no connection ({error}); is it up, and the address right?") from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise SourceError(f"no answer: {error or type(error).__name__}") from None

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()
