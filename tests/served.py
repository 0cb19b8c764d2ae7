"""A server of a small index, started as a person starts it, and requests of single bytes."""

import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tiny_onnx
from project import ROOT

from stages.core import console
from stages.tools.search import index


def make(folder: Path) -> Path:
    """An index of small images in `folder`, and beside it `images` and `exported`."""
    tiny_onnx.student(folder / "exported/model.onnx")
    tiny_onnx.images(folder / "images")
    made = [str(folder / "images"), str(folder / "mine"), "--model", str(folder / "exported")]
    assert console.run(index.app, made) == 0
    return folder / "mine"


@contextmanager
def running(index: Path, *options: str) -> Iterator[str]:
    """`HOST:PORT` of a server of `index`; at the end it must stop as asked, without complaint."""
    command = [sys.executable, "-m", "stages", "serve", str(index), "--port", "0", *options]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        found = re.search(r"http://(\S+:\d+)$", line)
        try:
            assert found, line
            yield found[1]
        finally:
            process.terminate()
            rest = process.stderr.read()
            assert process.wait(20) in (0, 130) and "Traceback" not in rest, rest


def connect(at: str) -> socket.socket:
    """A connection to `HOST:PORT`."""
    host, _, port = at.rpartition(":")
    return socket.create_connection((host.strip("[]"), int(port)), 20)


def send(at: str, request: bytes) -> tuple[int, Any]:
    """(status, body, read as JSON where it is) of one request, sent byte for byte."""
    with connect(at) as client:
        client.sendall(request)
        return read(client)


def read(client: socket.socket) -> tuple[int, Any]:
    """(status, body) of the next answer on a connection; 0 where it closes without one."""
    file = client.makefile("rb")
    first = file.readline()
    if not first:
        return 0, ""
    headers = {}
    while line := file.readline().strip():
        name, _, value = line.partition(b":")
        headers[name.lower()] = value.strip()
    body = file.read(int(headers.get(b"content-length", b"0")))
    is_json = headers.get(b"content-type") == b"application/json"
    return int(first.split()[1]), json.loads(body) if is_json and body else body.decode()


def post(at: str, body: bytes, kind: str | None, path: str = "/search?top=1") -> tuple[int, Any]:
    """(status, answer) of a body sent under a media type."""
    head = f"POST {path} HTTP/1.1\r\nHost: {at}\r\nContent-Length: {len(body)}\r\n"
    head += f"Content-Type: {kind}\r\n" if kind is not None else ""
    return send(at, head.encode() + b"\r\n" + body)


def counted(at: str, path: str, status: int) -> float:
    """How many answers with `status` /metrics counts for `path`."""
    text = send(at, f"GET /metrics HTTP/1.1\r\nHost: {at}\r\n\r\n".encode())[1]
    found = re.search(rf'requests_total{{path="{path}",status="{status}"}} (\S+)', text)
    return float(found[1]) if found else 0.0
