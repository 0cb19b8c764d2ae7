"""What every request passes first: whose name it is sent to, and what is said of mistakes."""

import asyncio
import re
import traceback
from collections.abc import Callable, Collection
from typing import Any
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from ...core import console
from ...core.errors import UserError
from . import sockets
from .live_index import Refusal, Service

LOOPBACK = ("127.0.0.1", "::1", "localhost")
HOST = re.compile(r"(\[[^\]@/\s]+\]|[^:\[\]@/\s]+)(?::\d{0,5})?")  # of a Host header, its name
NAME = re.compile(r"(\*\.)?(?!-)[a-z0-9_-]+(\.[a-z0-9_-]+)*")
DRAIN_SECONDS = 2.0  # for which the rest of a refused request is read
ELSEWHERE = "other"  # the path of what is none of ours, in the counters
READ = "whiten_mtd.read"  # in the scope of a request: whether all of its body was read


class Hosts:
    """The names under which clients may address this server.

    A page of another site could otherwise reach it by a name of its own (DNS rebinding).
    """

    def __init__(self, host: str, bound: str, allowed: Collection[str] = ()) -> None:
        """`host` as the user gave it, `bound` the address it became, `allowed` by --allow-host."""
        everywhere = sockets.address(bound)
        self.names = {name_of(name) for name in allowed}
        # Whoever listens on every address wants to be reached by any name, or says by which.
        self.any = "*" in self.names
        if everywhere is not None and everywhere.is_unspecified and not allowed:
            self.any = True
        self.names |= {_plain(name) for name in (*LOOPBACK, host, bound)}

    def allow(self, header: str | None, reached: str | None) -> bool:
        """Whether a request with this Host, at the address `reached` of this machine, is for us.

        One without Host comes from no browser: an old health check of HTTP/1.0.
        """
        if self.any or not header:
            return True
        match = HOST.fullmatch(header.strip())
        if match is None:
            return False
        name = _plain(match[1])
        if name in self.names or (reached is not None and name == _plain(reached)):
            return True
        parents = [f"*.{name[at.end() :]}" for at in re.finditer(r"\.", name)]
        return not self.names.isdisjoint(parents)


def name_of(text: str) -> str:
    """A name of --allow-host as it is compared. Raises UserError where it is none."""
    if text == "*":
        return text
    if sockets.address(text):
        return _plain(text)
    match = HOST.fullmatch(text)
    name = _plain(match[1]) if match else ""
    if not (NAME.fullmatch(name) or sockets.address(name)):
        raise UserError(
            f"--allow-host {text}: not the name of a host; give one such as photos.example.org, "
            "or *.example.org for all below it, once for each name"
        )
    return name


def _plain(name: str) -> str:
    """A name in lower case, without the last dot, in ASCII; an address in its one form."""
    if address := sockets.address(name):
        return str(address)
    name = name.strip().removesuffix(".").lower()
    try:
        return name if name.isascii() else name.encode("idna").decode("ascii")
    except UnicodeError:
        return name


class Front:
    """The application within: mistakes become one line of JSON, every answer is counted."""

    def __init__(self, inner: Starlette, service: Service, hosts: Hosts) -> None:
        self.inner, self.service, self.hosts = inner, service, hosts
        self.crowded: Callable[[], bool] = lambda: False
        inner.add_exception_handler(Refusal, _refused)
        inner.add_exception_handler(HTTPException, _of_the_router)
        inner.add_exception_handler(ClientDisconnect, _gone)
        inner.add_exception_handler(Exception, _failed)  # Starlette raises it again when answered
        self.paths = {getattr(r, "path", "").split("/{")[0] for r in inner.routes}

    def count(self, path: str, status: int) -> None:
        """Note an answer for /metrics."""
        self.service.counts.requests.labels(path, status).inc()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        scope = _as_our_own(scope)
        path = "/" + scope["path"].split("/")[1]
        path = path if path in self.paths else ELSEWHERE
        started = False

        async def receiving() -> Any:
            message = await receive()
            scope[READ] = not message.get("more_body")
            return message

        async def sending(message: Any) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message["headers"] = [
                    *message["headers"], (b"x-content-type-options", b"nosniff"),
                ]  # fmt: skip
                self.count(path, message["status"])
            await send(message)

        try:
            await (self._refusal(scope) or self.inner)(scope, receiving, sending)
        except Exception:
            console.say(*traceback.format_exc().splitlines())
            if not started:
                await _FAILED(scope, receiving, sending)

    def _refusal(self, scope: Any) -> Response | None:
        """The answer to a request that nobody looks at further."""
        if self.crowded():
            return refusal(503, "too many connections at once; try again soon")
        header = Request(scope).headers.get("host")
        reached = (scope.get("server") or (None,))[0]
        if not self.hosts.allow(header, reached):
            name = console.clean(header or "")[:100]
            return refusal(
                400, f"this server is not called {name!r}; start it with --allow-host NAME to "
                "have it answer to that name"
            )  # fmt: skip
        return None


class Closing(JSONResponse):
    """An answer after which the connection is closed.

    Whole before the rest of the request has come; but that rest is still read for a while. The
    system would otherwise reset the connection, and the client might never see the answer.
    """

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await send(
            {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        )
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        try:
            async with asyncio.timeout(DRAIN_SECONDS):
                while not scope.get(READ, True):
                    await receive()
        except TimeoutError:
            pass
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def refusal(status: int, line: str, **headers: str) -> Response:
    """One line of JSON."""
    # The unread rest of this request must not be taken for the next one.
    return Closing({"error": line}, status, headers={"Connection": "close", **headers})


_FAILED = refusal(500, "internal error; the server's output says more")


async def _failed(request: Request, error: Any) -> Response:
    return _FAILED


async def _refused(request: Request, error: Any) -> Response:
    return refusal(error.status, str(error))


async def _gone(request: Request, error: Any) -> Response:
    return Response(status_code=400)


async def _of_the_router(request: Request, error: Any) -> Response:
    path = console.clean(request.url.path)[:100]
    allowed = sorted((error.headers or {}).get("Allow", "").split(", "))  # a set: of any order
    if error.status_code != 405:
        return refusal(error.status_code, f"no such page here: {path}")
    if request.method == "OPTIONS":  # what some health checks send
        return Response(status_code=204, headers={"Allow": ", ".join([*allowed, "OPTIONS"])})
    line = f"{request.method} is not for {path}; use {' or '.join(allowed)}"
    return refusal(405, line, Allow=", ".join(allowed))


def _as_our_own(scope: Any) -> Any:
    """The request as if it had named its path alone: proxies may send the whole address."""
    path, headers = scope["path"], scope["headers"]
    if re.match(r"https?://", path, re.IGNORECASE):
        parts = urlsplit(path)
        path = parts.path or "/"
        headers = [(k, v) for k, v in headers if k != b"host"]
        headers.append((b"host", parts.netloc.encode("latin-1", "replace")))
    elif path == "*":  # OPTIONS *
        path = "/"
    path = "/" + path.strip("/") if path.strip("/") else "/"
    return {**scope, "path": path, "raw_path": path.encode(), "headers": headers, READ: False}
