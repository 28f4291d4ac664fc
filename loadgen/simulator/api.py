"""The HTTP face of the simulator: OpenAI's API as vLLM serves it, and the two expositions."""

import asyncio
import random
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from loadgen.simulator import dcgm, metrics
from loadgen.simulator.driver import Call, Driver, Stream
from loadgen.simulator.faults import Kind
from loadgen.simulator.faults import parse as parse_fault
from loadgen.simulator.middleware import CountRequests, HttpMetrics
from loadgen.simulator.protocol import Answer, ApiError, Body, ChatBody, CompletionBody, TokenizeBody, parse
from loadgen.simulator.tokens import Prompt, tokenize

OWNER = "llm-slo-simulator"
VERSION = "0.32.0+llm-slo-simulator"
COMPLETION_TOKENS = 16  # OpenAI's default for /v1/completions; a chat's is what the context leaves
TRACE_HEADERS = ("traceparent", "tracestate")


class Api:
    """The endpoints of one simulated engine. `registry` is what /metrics shows."""

    def __init__(self, driver: Driver, model: str, seed: int) -> None:
        self._driver = driver
        self._engine = driver.engine
        self._model = model
        self.registry = metrics.registry(driver.engine, model)
        self._random = random.Random(seed)
        self._luck = random.Random(seed)  # of its own: what is answered stays the same while others fail

    async def chat(self, request: Request) -> Response:
        """POST /v1/chat/completions."""
        raw, arrival = await request.body(), self._driver.now()
        body = parse(ChatBody, raw)
        prompt = tokenize("".join(message.text for message in body.messages), self._engine.config.block_size)
        limit = body.max_completion_tokens or body.max_tokens or self._engine.config.max_model_len - prompt.tokens
        return await self._serve(request, body, arrival, prompt, limit)

    async def completions(self, request: Request) -> Response:
        """POST /v1/completions."""
        raw, arrival = await request.body(), self._driver.now()
        body = parse(CompletionBody, raw)
        prompt = tokenize(body.prompt, self._engine.config.block_size)
        return await self._serve(request, body, arrival, prompt, body.max_tokens or COMPLETION_TOKENS)

    async def tokenize(self, request: Request) -> dict[str, Any]:
        """POST /tokenize: how many tokens a prompt or a chat has."""
        raw = await request.body()
        body = parse(TokenizeBody, raw)
        prompt = tokenize(body.text, self._engine.config.block_size)
        return {"count": prompt.tokens, "max_model_len": self._engine.config.max_model_len}

    async def models(self) -> dict[str, Any]:
        """GET /v1/models."""
        limit = self._engine.config.max_model_len
        card = {"id": self._model, "object": "model", "created": int(self._driver.epoch), "owned_by": OWNER}
        return {"object": "list", "data": [card | {"root": self._model, "parent": None, "max_model_len": limit}]}

    async def health(self) -> Response:
        """GET /health: 200, or 503 once the engine has stopped."""
        return Response(status_code=503 if self._driver.stopped else 200)

    async def version(self) -> dict[str, str]:
        """GET /version."""
        return {"version": VERSION}

    async def metrics(self) -> Response:
        """GET /metrics."""
        return Response(generate_latest(self.registry), headers={"content-type": CONTENT_TYPE_LATEST})

    async def dcgm(self) -> Response:
        """GET /dcgm/metrics."""
        now = self._driver.now()
        return PlainTextResponse(dcgm.render(self._engine.gpu.read(now), self._driver.faults.clock(now)))

    async def faults(self, request: Request) -> list[str]:
        """/faults: what goes wrong now and later. POST adds a fault, whose start counts from now; DELETE ends all."""
        faults, now = self._driver.faults, self._driver.now()
        if request.method == "POST":
            try:
                faults.add(parse_fault((await request.body()).decode().strip()), now)
            except ValueError as error:
                raise ApiError(400, str(error)) from error
        elif request.method == "DELETE":
            faults.clear()
        return faults.texts(now)

    async def _serve(self, request: Request, body: Body, arrival: float, prompt: Prompt, limit: int) -> Response:
        if body.model not in (None, self._model):
            raise ApiError(404, f"The model `{body.model}` does not exist.", "model")
        if self._driver.stopped:
            raise ApiError(503, "the simulator is stopping")
        if self._luck.random() < (self._driver.faults.size(Kind.ERRORS, arrival) or 0):
            raise ApiError(500, "an injected fault (simulated)")
        try:
            queued = self._engine.submit(
                arrival, prompt.tokens, limit, ignore_eos=body.ignore_eos, block_hashes=prompt.block_hashes
            )
        except ValueError as error:
            raise ApiError(400, str(error)) from error
        chat = isinstance(body, ChatBody)
        stream = self._driver.submit(queued, _call(request, body, "chatcmpl" if chat else "cmpl"))
        answer = Answer(stream.call.id, self._model, self._random.randrange(1024), chat=chat)
        if not body.stream:
            return await self._whole(request, stream, answer)
        usage = bool(body.stream_options and body.stream_options.include_usage)
        # Runs at the end, however the stream ended. A coroutine, or it would run in another thread.
        close = BackgroundTask(self._close, stream)
        return StreamingResponse(_events(stream, answer, usage), media_type="text/event-stream", background=close)

    async def _whole(self, request: Request, stream: Stream, answer: Answer) -> Response:
        ended, gone = asyncio.create_task(_ended(stream)), asyncio.create_task(_disconnected(request))
        try:
            await asyncio.wait({ended, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            ended.cancel()
            gone.cancel()
            self._driver.close(stream)
        queued = stream.request
        if queued.finished:
            return JSONResponse(answer.whole(queued.prompt_tokens, queued.generated, queued.finish_reason))
        if stream.broken:
            raise ApiError(503, "the simulator is stopping")
        return Response()  # nobody is there to read it; vLLM, too, counts it as 2xx

    async def _close(self, stream: Stream) -> None:
        self._driver.close(stream)


def create_app(driver: Driver, model: str, seed: int = 0) -> FastAPI:
    """The application; `driver` runs while the application does."""
    api = Api(driver, model, seed)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        running = asyncio.create_task(driver.run())
        yield
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running

    app = FastAPI(title="llm-slo simulator", lifespan=lifespan, openapi_url=None)
    app.add_api_route("/v1/chat/completions", api.chat, methods=["POST"])
    app.add_api_route("/v1/completions", api.completions, methods=["POST"])
    app.add_api_route("/tokenize", api.tokenize, methods=["POST"])
    app.add_api_route("/faults", api.faults, methods=["GET", "POST", "DELETE"])
    for path, endpoint in (
        ("/v1/models", api.models),
        ("/health", api.health),
        ("/version", api.version),
        ("/metrics", api.metrics),
        ("/dcgm/metrics", api.dcgm),
    ):
        app.add_api_route(path, endpoint, methods=["GET"])
    app.add_exception_handler(ApiError, _api_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(ClientDisconnect, _gone)
    app.add_middleware(CountRequests, metrics=HttpMetrics(api.registry))
    return app


async def _events(stream: Stream, answer: Answer, with_usage: bool) -> AsyncIterator[bytes]:
    request, seen = stream.request, 0
    while not (request.finished and seen == request.generated):
        total = await stream.progress(seen)
        if total == seen:
            return  # the server stops: a stream without [DONE] is a broken one
        opening = b"" if seen else answer.opening()
        yield opening + answer.tokens(seen, total, request.finish_reason if request.finished else None)
        seen = total
    yield answer.closing(request.prompt_tokens, seen, with_usage=with_usage)


async def _ended(stream: Stream) -> None:
    while not stream.request.finished and not stream.broken:
        await stream.progress(stream.request.generated)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _call(request: Request, body: Body, prefix: str) -> Call:
    return Call(
        id=f"{prefix}-{request.headers.get('x-request-id') or uuid.uuid4().hex}",
        temperature=1.0 if body.temperature is None else body.temperature,
        top_p=1.0 if body.top_p is None else body.top_p,
        trace={name: request.headers[name] for name in TRACE_HEADERS if name in request.headers},
    )


async def _gone(_: Request, __: Exception) -> Response:
    return Response(status_code=400)  # the client left while it sent the body


async def _api_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return JSONResponse(error.body, status_code=error.status)


async def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse(ApiError(error.status_code, str(error.detail)).body, status_code=error.status_code)
