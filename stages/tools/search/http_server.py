"""The routes of the search server, and its limits on uploads and slow clients."""

import asyncio
import secrets
import socket
import time
import traceback
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol

from ...core import console
from ...core.errors import UserError
from .. import pages
from .live_index import Limits, Refusal, Service

CONNECTIONS = 64  # more at once are answered 503
TOP = 100
FORM_BYTES = 4096  # of a form, besides its file
Handler = Callable[[Service, Request], Awaitable[Response]]


def application(service: Service, host: str) -> Starlette:
    """The routes, each counted, each error one line of JSON."""
    routes = [
        ("/", "GET", page), ("/search", "POST", search), ("/healthz", "GET", health),
        ("/metrics", "GET", metrics), ("/image/{generation:int}/{id:int}", "GET", image),
    ]  # fmt: skip
    # Pages of other sites must not reach this server by a name of theirs (DNS rebinding).
    hosts = ["*"] if host in ("0.0.0.0", "::") else [host, "127.0.0.1", "localhost"]
    return Starlette(
        routes=[
            Route(path, _answering(service, path.split("/{")[0], handler), methods=[method])
            for path, method, handler in routes
        ],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=hosts)],
    )


async def page(service: Service, request: Request) -> Response:
    """The page to drop an image on; it may load nothing from other servers."""
    loaded, nonce = await service.latest(), secrets.token_urlsafe(12)
    text = pages.render(
        "serve.html", index=service.folder.name, images=len(loaded.index),
        generation=loaded.index.generation, nonce=nonce,
    )  # fmt: skip
    policy = (
        f"default-src 'none'; img-src 'self' data:; connect-src 'self'; style-src 'nonce-{nonce}'; "
        f"script-src 'nonce-{nonce}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return HTMLResponse(text, headers={"Content-Security-Policy": policy})


async def search(service: Service, request: Request) -> Response:
    """The images nearest to the one that the client sends."""
    start = time.perf_counter()
    top = request.query_params.get("top", "20")
    if not top.isdecimal() or not 1 <= int(top[:9]) <= TOP:
        raise Refusal(400, f"top: must be a number from 1 to {TOP}")
    name, data = await upload(request, service.limits)
    loaded = await service.latest()
    async with service.slots:
        answer = await run_in_threadpool(service.search, loaded, name, data, int(top))
    seconds = time.perf_counter() - start
    service.counts.search_seconds.observe(seconds)
    about = {"generation": loaded.index.generation, "images": len(loaded.index)}
    return JSONResponse({**answer, **about, "milliseconds": round(1000 * seconds)})


async def image(service: Service, request: Request) -> Response:
    """A thumbnail of an image in the index."""
    index = service.now.index
    if request.path_params["generation"] != index.generation:
        raise Refusal(404, "the index has another generation now; search again")
    image_id = min(request.path_params["id"], 2**62)
    row = int(index.ids.searchsorted(image_id))
    if row >= len(index) or int(index.ids[row]) != image_id:
        raise Refusal(404, "no such image")
    try:
        async with service.slots:
            small = await run_in_threadpool(pages.thumbnail, index.file(row), pages.LARGE_PX)
    except UserError:
        raise Refusal(404, "the image file is missing or cannot be read") from None
    return Response(small, media_type="image/jpeg")


async def health(service: Service, request: Request) -> Response:
    """That the server is up, and which generation it uses."""
    index = (await service.latest()).index
    return JSONResponse({"status": "ok", "generation": index.generation, "images": len(index)})


async def metrics(service: Service, request: Request) -> Response:
    """Counters for Prometheus."""
    return Response(service.counts.as_text(), headers={"Content-Type": CONTENT_TYPE_LATEST})


async def upload(request: Request, limits: Limits) -> tuple[str, bytes]:
    """(name, bytes) of the uploaded image: the form's field `file`, or the body itself.

    Raises Refusal: 413 too large, 408 too slow, 400 no image.
    """
    stated = request.headers.get("content-length", "0")
    if not stated.isdecimal() or int(stated[:18]) > limits.bytes + FORM_BYTES:
        raise Refusal(413, f"too large: at most {limits.bytes} bytes")
    kind = request.headers.get("content-type", "")
    try:
        async with asyncio.timeout(limits.seconds):
            if kind.startswith("multipart/form-data"):
                name, data = await _from_form(request, limits)
            else:
                parts = [part async for part in _bounded(request, limits)]
                name, data = "the upload", b"".join(parts)
    except TimeoutError:
        raise Refusal(408, f"the image did not arrive within {limits.seconds:g} s") from None
    if len(data) > limits.bytes:
        raise Refusal(413, f"too large: at most {limits.bytes} bytes")
    if not data:
        raise Refusal(400, "no image in the request; send it as form field 'file' or as the body")
    return name, data


async def _from_form(request: Request, limits: Limits) -> tuple[str, bytes]:
    parser = MultiPartParser(request.headers, _bounded(request, limits), max_files=1, max_fields=4)
    try:
        form = await parser.parse()
    except (MultiPartException, KeyError, ValueError) as error:
        raise Refusal(400, f"the form cannot be read ({error})") from None
    try:
        file = form.get("file")
        if not isinstance(file, UploadFile):
            return "", b""
        return file.filename or "the upload", await file.read()
    finally:
        await form.close()


async def _bounded(request: Request, limits: Limits) -> AsyncGenerator[bytes, None]:
    count = 0
    async for part in request.stream():
        count += len(part)
        if count > limits.bytes + FORM_BYTES:
            raise Refusal(413, f"too large: at most {limits.bytes} bytes")
        yield part


def _answering(service: Service, path: str, handler: Handler) -> Any:
    """`handler` for Starlette: its refusals become JSON, every answer is counted."""

    async def answer(request: Request) -> Response:
        try:
            response = await handler(service, request)
        except Refusal as refusal:
            # The unread rest of this request must not be taken for the next one.
            response = JSONResponse(
                {"error": str(refusal)}, refusal.status, headers={"Connection": "close"}
            )
        except ClientDisconnect:
            response = Response(status_code=400)
        except Exception:
            console.say(traceback.format_exc())
            response = JSONResponse({"error": "internal error; the server's output says more"}, 500)
        response.headers["X-Content-Type-Options"] = "nosniff"
        service.counts.requests.labels(path, response.status_code).inc()
        return response

    return answer


class Impatient(H11Protocol):
    """Closes a connection without a whole request in `seconds`; uvicorn would wait for ever."""

    seconds = 10.0

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._seen: Any = None
        self._timer = self.loop.call_later(self.seconds, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        self._timer.cancel()
        super().connection_lost(exc)

    def _look(self) -> None:
        idle = self.cycle is None or self.cycle.response_complete
        if idle and self.cycle is self._seen:
            self.transport.close()
            return
        self._seen = self.cycle if idle else object()
        self._timer = self.loop.call_later(self.seconds, self._look)


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises OSError where host or port cannot be used."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family)


def run(service: Service, bound: socket.socket, host: str) -> None:
    """Serve until a signal."""
    protocol = type("Bounded", (Impatient,), {"seconds": service.limits.seconds})
    config = uvicorn.Config(
        application(service, host), http=protocol, lifespan="off", log_level="warning",
        access_log=False, limit_concurrency=CONNECTIONS, timeout_keep_alive=5,
        timeout_graceful_shutdown=5, server_header=False,
    )  # fmt: skip
    try:
        uvicorn.Server(config).run(sockets=[bound])
    except KeyboardInterrupt:
        console.say("stopped")
