"""Where the server listens, and its connections: prompt, and none kept without a request."""

import ipaddress
import json
import socket
from collections.abc import Callable
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; of a name that has both kinds of address, IPv4.

    `::` listens to both kinds. Raises OSError where host or port cannot be used.
    """
    name = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    places = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, *_, place = sorted(places, key=lambda one: one[0] != socket.AF_INET)[0]
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            both = place[0] == "::" and socket.has_dualstack_ipv6()
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if both else 1)
        bound.bind(place)
        bound.listen()
    except BaseException:
        bound.close()
        raise
    return bound


def authority(bound: socket.socket) -> str:
    """`127.0.0.1:8000`, `[::1]:8000`: where a socket listens, as a browser takes it."""
    host, port = bound.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def address(text: str) -> Address | None:
    """The IP address that `text` is, in one form; None for a name.

    Brackets and the zone of a link (`fe80::1%eth0`) go; an IPv4 address in IPv6 becomes IPv4.
    """
    text = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    try:
        parsed = ipaddress.ip_address(text.split("%")[0])
    except ValueError:
        return None
    return getattr(parsed, "ipv4_mapped", None) or parsed


class Connection(H11Protocol):
    """Answers at once, and closes without a whole request in `seconds`; uvicorn would wait.

    `refused` is told of every request that is no HTTP.
    """

    seconds = 10.0
    refused: Callable[[], None] = staticmethod(lambda: None)

    def connection_made(self, transport: Any) -> None:
        # Without this an answer waits some 40 ms for the client's acknowledgement of its head.
        connection = transport.get_extra_info("socket")
        if connection is not None:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        super().connection_made(transport)
        self._seen: Any = None
        self._timer = self.loop.call_later(self.seconds, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        self._timer.cancel()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP gets the line of JSON that every other mistake gets."""
        self.refused()
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.close()  # an answer is under way already
            return
        body = json.dumps({"error": "not a valid HTTP request, such as one without Host"}).encode()
        head = [
            ("Content-Type", "application/json"), ("Content-Length", str(len(body))),
            ("Connection", "close"),
        ]  # fmt: skip
        for event in (
            h11.Response(status_code=400, headers=head, reason=b"Bad Request"),
            h11.Data(data=body), h11.EndOfMessage(),
        ):  # fmt: skip
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
        if self.cycle is not None:
            self.cycle.disconnected = True  # whoever still works at it need not answer
            self.cycle.message_event.set()

    def _unsupported_upgrade_warning(self) -> None:
        """A client that would rather speak HTTP/2 is answered in HTTP/1.1; nobody need know."""

    def _look(self) -> None:
        idle = self.cycle is None or self.cycle.response_complete
        if idle and self.cycle is self._seen:
            self.transport.close()
            return
        self._seen = self.cycle if idle else object()
        self._timer = self.loop.call_later(self.seconds, self._look)
