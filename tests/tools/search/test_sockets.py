"""Where the server listens: both kinds of address, and answers without waiting."""

import socket
import statistics
import time
from pathlib import Path

import pytest
import served

from stages.core import console
from stages.tools.search import serve, sockets


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return served.make(tmp_path_factory.mktemp("sockets"))


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")


@needs_ipv6
@pytest.mark.parametrize("host", ["::1", "[::1]", "0:0:0:0:0:0:0:1"])
def test_ipv6_is_printed_as_a_browser_takes_it_and_answers_to_it(index: Path, host: str) -> None:
    with served.running(index, "--host", host) as at:
        assert at.startswith("[::1]:")
        for name in (at, "[::1]", "localhost:1"):
            sent = f"GET /healthz HTTP/1.1\r\nHost: {name}\r\n\r\n".encode()
            assert served.send(at, sent)[1]["status"] == "ok"
        assert served.send(at, b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n")[0] == 400


@needs_ipv6
def test_every_address_of_ipv6_is_every_address_of_ipv4_too(index: Path) -> None:
    with served.running(index, "--host", "::") as at:
        port = at.rpartition(":")[2]
        for place in (f"[::1]:{port}", f"127.0.0.1:{port}"):
            sent = f"GET /healthz HTTP/1.1\r\nHost: {place}\r\n\r\n".encode()
            assert served.send(place, sent)[0] == 200


def test_a_name_is_listened_to_at_its_ipv4_address() -> None:
    with sockets.listen("localhost", 0) as bound:
        assert sockets.authority(bound).startswith("127.0.0.1:")


@pytest.mark.parametrize("host", ["2001:db8::1", "[::1", "1.2.3.4.5", "fe80::1", "a b", "::1]"])
def test_what_is_no_address_of_this_machine(index: Path, capsys, host: str) -> None:  # type: ignore[no-untyped-def]
    assert console.run(serve.app, [str(index), "--host", host, "--port", "0"]) == 2
    said = capsys.readouterr().err
    assert f"error: --host {host}: not an address" in said and len(said.splitlines()) == 1


def test_a_port_in_use_is_a_line(index: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    with sockets.listen("127.0.0.1", 0) as bound:
        port = str(bound.getsockname()[1])
        assert console.run(serve.app, [str(index), "--port", port]) == 2
        assert "give another --port" in capsys.readouterr().err


def test_an_answer_does_not_wait_for_an_acknowledgement(index: Path) -> None:
    """An answer of two pieces on a connection that stays open: 40 ms with Nagle's algorithm."""
    seconds = []
    with served.running(index) as at, served.connect(at) as client:
        for _ in range(30):
            start = time.perf_counter()
            client.sendall(f"GET /healthz HTTP/1.1\r\nHost: {at}\r\n\r\n".encode())
            assert served.read(client)[0] == 200
            seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.01 and statistics.median(seconds) < 0.03, seconds


@pytest.mark.parametrize(
    "text, found",
    [("[::1]", "::1"), ("fe80::1%eth0", "fe80::1"), ("::ffff:10.0.0.1", "10.0.0.1"), ("a", "None")],
)
def test_addresses_have_one_form(text: str, found: str) -> None:
    assert str(sockets.address(text)) == found
