"""Under which names the server answers, what it says of mistakes, and that it counts them all."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import served

from stages.core.errors import UserError
from stages.tools.search import front


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return served.make(tmp_path_factory.mktemp("front"))


@pytest.fixture(scope="module")
def at(index: Path) -> Iterator[str]:
    allowed = ("--allow-host", "Photos.example.org", "--allow-host", "*.pics.example")
    with served.running(index, *allowed) as at:
        yield at


def health(at: str, host: str | None, version: str = "1.1", target: str = "/healthz") -> int:
    line = "" if host is None else f"Host: {host}\r\n"
    status, said = served.send(at, f"GET {target} HTTP/{version}\r\n{line}\r\n".encode())
    assert status == 200 or set(said) == {"error"}, said
    return status


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.0.0.1:8782", "localhost", "LOCALHOST:80", "localhost.", "localhost.:8782", "localhost:",
     "[::1]", "[::1]:99", "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]:8000", "photos.example.org",
     "PHOTOS.example.ORG.:443", "a.pics.example", "a.b.pics.example:80"],
)  # fmt: skip
def test_its_own_names_in_every_spelling(at: str, host: str) -> None:
    assert health(at, host) == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "photos.example.org.evil.example", "xphotos.example.org", "pics.example",
     "localhost.evil.example", "127.0.0.1.evil.example", "[::2]", "::1", "[::1", "192.0.2.1",
     "localhost@evil.example", "localhost:80:80", "localhost/x", "photos.example.org..", "\x01"],
)  # fmt: skip
def test_names_of_others_are_refused_in_a_line_and_counted(at: str, host: str) -> None:
    before = served.counted(at, "/healthz", 400) + served.counted(at, "other", 400)
    assert health(at, host) == 400
    after = served.counted(at, "/healthz", 400) + served.counted(at, "other", 400)
    assert after == before + 1


def test_the_refusal_names_the_option(at: str) -> None:
    _, said = served.send(at, b"GET / HTTP/1.1\r\nHost: other.example\r\n\r\n")
    assert "'other.example'" in said["error"] and "--allow-host" in said["error"]


def test_old_health_checks(at: str) -> None:
    assert health(at, None, "1.0") == 200
    assert health(at, "", "1.0") == 200
    assert health(at, "evil.example", "1.0") == 400
    assert health(at, None, "1.1") == 400  # no HTTP without it
    assert health(at, "evil.example", target="http://localhost:1/healthz") == 200
    assert health(at, "localhost", target="http://evil.example/healthz") == 400
    for request, status in (
        ("HEAD /healthz HTTP/1.0", 200), ("OPTIONS / HTTP/1.0", 204), ("OPTIONS * HTTP/1.0", 204),
        ("GET /healthz/ HTTP/1.0", 200),
    ):  # fmt: skip
        assert served.send(at, f"{request}\r\n\r\n".encode())[0] == status, request


@pytest.mark.parametrize(
    "request_line, status, path, word",
    [
        ("GET /nothing", 404, "other", "/nothing"), ("GET /search/more", 404, "/search", "no such"),
        ("GET /search", 405, "/search", "use POST"), ("DELETE /", 405, "/", "use GET"),
        ("PUT /healthz", 405, "/healthz", "GET"), ("GET /image/x", 404, "/image", "no such"),
        ("GET /image/1/99999", 404, "/image", "no such image"), ("BREW /x%1b%0a", 404, "other", "u001b"),
        ("POST /search?top=0", 400, "/search", "top"), ("POST /search", 400, "/search", "no image"),
    ],
)  # fmt: skip
def test_every_mistake_is_one_line_of_json_and_counted(
    at: str, request_line: str, status: int, path: str, word: str
) -> None:
    before = served.counted(at, path, status)
    sent = f"{request_line} HTTP/1.1\r\nHost: {at}\r\nContent-Length: 0\r\n\r\n"
    got, said = served.send(at, sent.encode())
    assert (got, set(said)) == (status, {"error"})
    assert word in said["error"] and said["error"].isprintable()
    assert served.counted(at, path, status) == before + 1


def test_what_is_no_http_is_a_line_too(at: str) -> None:
    before = served.counted(at, "other", 400)
    twice = b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n"
    for sent in (b"\x16\x03\x01 hello of TLS\r\n\r\n", b"GET /\r\n\r\n", twice):
        status, said = served.send(at, sent)
        assert status == 400 and "HTTP" in said["error"], sent
    assert served.counted(at, "other", 400) == before + 3


def test_the_rest_of_a_refused_upload_does_not_lose_the_answer(at: str) -> None:
    count = 60_000_000
    head = f"POST /search HTTP/1.1\r\nHost: {at}\r\nContent-Length: {count}\r\n\r\n".encode()
    for _ in range(3):
        status, said = served.send(at, head + bytes(count))
        assert status == 413 and "20000000 bytes" in said["error"]


@pytest.mark.parametrize(
    "allowed",
    ["", "http://a.example", "a b", "a,b", "a.example/x", "a*.example", "x@y", "[::1", "-a"],
)
def test_what_is_no_name_is_refused_at_the_start(allowed: str) -> None:
    with pytest.raises(UserError, match="--allow-host"):
        front.name_of(allowed)


def test_whoever_listens_everywhere_may_still_name_names(index: Path) -> None:
    with served.running(index, "--host", "0.0.0.0") as at:
        assert health(at, "any.example") == 200
    with served.running(index, "--host", "0.0.0.0", "--allow-host", "a.example") as at:
        assert health(at, "any.example") == 400
        assert health(at, "A.example:80") == 200
        with served.connect(at) as client:  # at the address it came by
            assert health(at, client.getpeername()[0]) == 200


def test_the_names_of_other_alphabets_are_compared_as_browsers_send_them() -> None:
    hosts = front.Hosts("127.0.0.1", "127.0.0.1", ["bücher.example"])
    assert hosts.allow("xn--bcher-kva.example:1", None) and not hosts.allow("bcher.example", None)


def test_too_many_connections_is_a_line(at: str) -> None:
    clients = [served.connect(at) for _ in range(64)]
    try:
        status, said = served.send(at, f"GET /healthz HTTP/1.1\r\nHost: {at}\r\n\r\n".encode())
        assert status == 503 and "connections" in said["error"]
    finally:
        for client in clients:
            client.close()
    assert health(at, at) == 200
