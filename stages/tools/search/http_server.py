"""The routes of the search server."""

import secrets
import socket
import time
from collections.abc import Awaitable, Callable
from functools import partial

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from ...core import console
from ...core.errors import UserError
from ...images import reading
from .. import pages
from . import front, matches, sockets
from .live_index import Refusal, Service
from .uploads import upload

CONNECTIONS = 64  # more at once are answered 503
TOP = 100
Handler = Callable[[Service, Request], Awaitable[Response]]


def application(service: Service, hosts: front.Hosts) -> front.Front:
    """The routes, behind what every request passes first."""
    routes = [
        ("/", "GET", page), ("/search", "POST", search), ("/healthz", "GET", health),
        ("/metrics", "GET", metrics), ("/image/{generation:int}/{id:int}", "GET", image),
    ]  # fmt: skip
    inner = Starlette(
        routes=[
            Route(path, partial(_answering, service, handler), methods=[method])
            for path, method, handler in routes
        ]
    )
    return front.Front(inner, service, hosts)


async def _answering(service: Service, handler: Handler, request: Request) -> Response:
    return await handler(service, request)


async def page(service: Service, request: Request) -> Response:
    """The page to drop an image on; it may load nothing from other servers."""
    loaded, nonce = await service.latest(), secrets.token_urlsafe(12)
    text = pages.render(
        "serve.html", index=service.folder.name, images=len(loaded.index),
        generation=loaded.index.generation, nonce=nonce,
        means=matches.words(loaded.index.about.get("calibration")),
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
    pixels = await run_in_threadpool(service.pixels, name, data)
    async with service.room(pixels):
        answer = await run_in_threadpool(service.search, loaded, name, data, int(top))
    seconds = time.perf_counter() - start
    service.counts.search_seconds.observe(seconds)
    about = {"generation": loaded.index.generation, "images": len(loaded.index)}
    about |= matches.about(loaded.index.about.get("calibration"))
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
        file = index.file(row)
        width, height = await run_in_threadpool(reading.shape, file)
        async with service.room(width * height):
            small = await run_in_threadpool(pages.thumbnail, file, pages.LARGE_PX)
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


def run(service: Service, bound: socket.socket, hosts: front.Hosts) -> None:
    """Serve until a signal."""
    app = application(service, hosts)
    protocol = type(
        "Bounded", (sockets.Connection,),
        {"seconds": service.limits.seconds,
         "refused": staticmethod(lambda: app.count(front.ELSEWHERE, 400))},
    )  # fmt: skip
    config = uvicorn.Config(
        app, http=protocol, ws="none", lifespan="off", log_level="warning", access_log=False,
        timeout_keep_alive=5, timeout_graceful_shutdown=5, server_header=False,
    )  # fmt: skip
    server = uvicorn.Server(config)
    app.crowded = lambda: len(server.server_state.connections) > CONNECTIONS
    try:
        server.run(sockets=[bound])
    except KeyboardInterrupt:
        console.say("stopped")
