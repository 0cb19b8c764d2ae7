"""The server over a real socket, and its page and search's page in a real browser."""

import base64
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import chromium
import httpx
import pytest
import tiny_onnx
from project import ROOT

from stages.core import console
from stages.tools.search import index, search, serve

LIMITS = ("--timeout", "1", "--max-bytes", "300000", "--max-pixels", "1000000")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("a server")
    tiny_onnx.student(folder / "exported/model.onnx")
    tiny_onnx.images(folder / "images")
    made = [str(folder / "images"), str(folder / "mine"), "--model", str(folder / "exported")]
    assert console.run(index.app, made) == 0
    return folder


@pytest.fixture(scope="module")
def server(place: Path) -> Iterator[str]:
    """Its address; at the end it must still be alive and stop as asked."""
    command = [sys.executable, "-m", "stages", "serve", str(place / "mine"), "--port", "0", *LIMITS]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+", line)
        assert found, line
        yield found[0]
        assert httpx.get(f"{found[0]}/healthz").json()["status"] == "ok"
        process.terminate()
        rest = process.stderr.read()
        assert process.wait(20) in (0, 130) and "Traceback" not in rest, rest


def image(place: Path, name: str = "größe 2/bild 1.png") -> bytes:
    return (place / "images" / name).read_bytes()


def test_a_form_and_a_body_find_the_image(server: str, place: Path) -> None:
    for sent in ({"files": {"file": ("ä b.png", image(place))}}, {"content": image(place)}):
        found = httpx.post(f"{server}/search?top=3", **sent).json()  # type: ignore[arg-type]
        assert found["results"][0]["path"] == "größe 2/bild 1.png" and len(found["results"]) == 3
        assert found["match"] is None and "file" not in found["results"][0]
    first = found["results"][0]["id"]
    small = httpx.get(f"{server}/image/{found['generation']}/{first}")
    assert small.headers["content-type"] == "image/jpeg" and len(small.content) > 300


def png(width: int, height: int) -> bytes:
    import io

    from PIL import Image

    buffer = io.BytesIO()
    Image.new("L", (width, height), 99).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    "case, status, word",
    [
        ({"content": b"no image"}, 400, "cannot be read as an image"),
        ({"content": b""}, 400, "no image in the request"),
        ({"files": {"other": ("a", b"b")}}, 400, "no image in the request"),
        ({"files": {"file": ("a.png", png(50, 50)[:60])}}, 400, "a.png"),
        ({"content": b"-", "headers": {"Content-Type": "multipart/form-data; boundary=x"}}, 400, "form"),
        ({"content": b"x" * 400_000}, 413, "300000 bytes"),
        ({"content": iter([b"x" * 100_000] * 4)}, 413, "300000 bytes"),
        ({"content": png(2000, 600)}, 413, "million pixels"),
        ({"content": png(1, 1), "params": {"top": "x"}}, 400, "top"),
    ],
)  # fmt: skip
def test_what_is_no_question_is_one_line(server: str, case: dict, status: int, word: str) -> None:  # type: ignore[type-arg]
    answer = httpx.post(f"{server}/search", **case)
    assert answer.status_code == status and word in answer.json()["error"]
    assert "\n" not in answer.json()["error"]


def test_odd_images_are_answered(server: str) -> None:
    for shape in ((1, 1), (20_000, 3), (1, 500)):
        assert httpx.post(f"{server}/search", content=png(*shape)).status_code == 200


def test_slow_clients_are_let_go(server: str) -> None:
    host, port = server.removeprefix("http://").split(":")
    for sent, answer in (
        (b"GET / HT", b""),
        (
            b"POST /search HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\nab",
            b"HTTP/1.1 408",
        ),
    ):
        with socket.create_connection((host, int(port)), 10) as client:
            client.sendall(sent)
            start = time.monotonic()
            assert client.recv(12) == answer and time.monotonic() - start < 5


def test_other_names_and_other_places_are_refused(server: str) -> None:
    assert httpx.get(server, headers={"Host": "elsewhere.example"}).status_code == 400
    for path in ("image/1/999", "image/99/0", f"image/1/{10**30}", "image/1/../../x"):
        assert httpx.get(f"{server}/{path}").status_code == 404


def test_generations_switch_while_it_runs(server: str, place: Path) -> None:
    assert console.run(index.app, [str(place / "mine"), "--remove", "größe 5/*"]) == 0
    assert httpx.get(f"{server}/healthz").json() == {
        "status": "ok",
        "generation": 2,
        "images": 15,
    }
    (place / "mine/CURRENT").write_text("000007\n")  # what is not there is not switched to
    for _ in range(2):
        assert httpx.get(f"{server}/healthz").json()["generation"] == 2
    (place / "mine/CURRENT").write_text("000001\n")
    assert httpx.get(f"{server}/healthz").json()["generation"] == 1
    text = httpx.get(f"{server}/metrics").text
    assert "whiten_mtd_switches_total 2" in text and "whiten_mtd_failed_switches_total 1" in text
    assert re.search(r'requests_total\{path="/healthz",status="200"\} \d', text)
    assert "whiten_mtd_images 18.0" in text and "whiten_mtd_generation 1.0" in text


def test_metrics_are_prometheus_own(server: str, place: Path) -> None:
    before = samples(server)
    assert httpx.post(f"{server}/search", content=image(place)).status_code == 200
    after = samples(server)
    for name in ("whiten_mtd_search_seconds_count", 'whiten_mtd_requests_total{"/search","200"}'):
        assert after[name] == before.get(name, 0) + 1
    assert after["whiten_mtd_search_seconds_sum"] > before["whiten_mtd_search_seconds_sum"]


def samples(server: str) -> dict[str, float]:
    """Every value of /metrics by its name and its labels' values, as Prometheus reads them."""
    from prometheus_client.parser import text_string_to_metric_families

    text = httpx.get(f"{server}/metrics").text
    return {
        s.name
        + ("{" + ",".join(f'"{v}"' for v in s.labels.values()) + "}" if s.labels else ""): s.value
        for family in text_string_to_metric_families(text)
        for s in family.samples
    }


@chromium.needed
@pytest.mark.long
def test_a_dropped_image_finds_its_neighbours(server: str, place: Path, tmp_path: Path) -> None:
    with chromium.Chromium(tmp_path / "profile") as page:
        page.open(f"{server}/")
        data = base64.b64encode(image(place)).decode()
        page.run(
            f"const bytes = Uint8Array.from(atob('{data}'), c => c.charCodeAt(0));"
            "const given = new DataTransfer();"
            "given.items.add(new File([bytes], 'mine.png', {type: 'image/png'}));"
            "document.getElementById('drop').dispatchEvent("
            "new DragEvent('drop', {dataTransfer: given, bubbles: true, cancelable: true})); 1"
        )
        page.wait(f"document.images.length > 3 && {chromium.LOADED}")
        first = page.run("document.querySelector('.results figcaption').textContent")
        assert first.startswith("1.000 größe 2/bild 1.png")
        assert all(url.startswith(server) for url in page.requests())
        assert not page.complaints()
        shot = page.do("Page.captureScreenshot", format="png")["data"]
        (tmp_path / "page.png").write_bytes(base64.b64decode(shot))


@chromium.needed
@pytest.mark.long
def test_the_page_of_search_loads_offline(place: Path, tmp_path: Path) -> None:
    query = str(place / "images/größe 3/bild 0.png")
    out = tmp_path / "found page.html"
    assert console.run(search.app, [str(place / "mine"), query, "--html", str(out)]) == 0
    assert chromium.check_page(out, tmp_path) == 11


@pytest.mark.parametrize("host", ["nosuch.invalid", "192.0.2.1"])
def test_a_host_that_is_not_ours(place: Path, capsys, host: str) -> None:  # type: ignore[no-untyped-def]
    assert console.run(serve.app, [str(place / "mine"), "--host", host, "--port", "0"]) == 2
    said = capsys.readouterr().err
    assert f"--host {host}" in said and "--port" not in said


def memory(process: int) -> dict[str, int]:
    """MB that a process holds now (VmRSS) and held at most (VmHWM)."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return {x.split(":")[0]: int(x.split()[1]) // 1000 for x in lines if x.startswith("Vm")}


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="no /proc")
def test_large_images_are_bounded_and_leave_nothing_behind(place: Path) -> None:
    import io
    from concurrent.futures import ThreadPoolExecutor

    from PIL import Image

    buffer = io.BytesIO()
    Image.new("RGB", (7000, 6800), "red").save(buffer, "WEBP", quality=5)
    command = [sys.executable, "-m", "stages", "serve", str(place / "mine"), "--port", "0"]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        at = process.stderr.readline().split()[-1]
        assert httpx.post(f"{at}/search", content=image(place)).status_code == 200
        start = memory(process.pid)["VmRSS"]
        with ThreadPoolExecutor(4) as pool:
            sent = lambda _: httpx.post(f"{at}/search", content=buffer.getvalue(), timeout=120)  # noqa: E731
            assert {a.status_code for a in pool.map(sent, range(4))} == {200}
        for _ in range(20):
            if (now := memory(process.pid))["VmRSS"] < start + 60:
                break
            time.sleep(0.1)
        process.terminate()
        process.stderr.read()
    assert now["VmRSS"] < start + 60 and now["VmHWM"] < start + 900, (start, now)
