"""Images as clients really send them: forms of every make, and bodies."""

import base64
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import served
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

FORM = "multipart/form-data; boundary=XX"
NAME = "größe 2/bild 1.png"


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return served.make(tmp_path_factory.mktemp("uploads"))


@pytest.fixture(scope="module")
def at(index: Path) -> Iterator[str]:
    with served.running(index, "--max-bytes", "300000") as at:
        yield at


@pytest.fixture(scope="module")
def image(index: Path) -> bytes:
    return (index.parent / "images" / NAME).read_bytes()


def part(about: str, data: bytes, more: str = "") -> bytes:
    head = f"--XX\r\nContent-Disposition: form-data; {about}\r\n{more}\r\n"
    return head.encode() + data + b"\r\n"


END = b"--XX--\r\n"


def finds(answer: tuple[int, object]) -> None:
    status, said = answer
    assert status == 200 and said["results"][0]["path"] == NAME, said  # type: ignore[index]


def refuses(answer: tuple[int, object], word: str, code: int = 400) -> None:
    status, said = answer
    assert status == code and set(said) == {"error"}, said  # type: ignore[call-overload]
    line = said["error"]  # type: ignore[index]
    assert word in line and line.isprintable(), line


@pytest.mark.parametrize(
    "kind",
    ["multipart/form-data; boundary=XX", "Multipart/Form-Data; boundary=XX", "MULTIPART/FORM-DATA;BOUNDARY=XX",
     'multipart/form-data; boundary="XX"', "multipart/form-data ; charset=utf-8 ; boundary=XX",
     'multipart/form-data; boundary=XX; charset="UTF-8"', "multipart/form-data;\tboundary=XX"],
)  # fmt: skip
def test_a_media_type_in_every_spelling(at: str, image: bytes, kind: str) -> None:
    finds(served.post(at, part('name="file"; filename="a.png"', image) + END, kind))


@pytest.mark.parametrize(
    "about",
    ['name="file"; filename="a.png"', 'name="file"', "name=file", "name=file; filename=a.png",
     "name=\"file\"; filename*=UTF-8''%C3%A9.png", 'name="file"; filename=""', 'filename="a.png"; name="file"',
     'name="file"; fileName="a.png"', 'NAME="file"; FILENAME="a.png"', 'name="image"; filename="a.png"',
     'name="image"', 'name="file[]"; filename="a.png"', 'name="file"; filename="größe.png"',
     'name="file"; filename="a;b\\"c.png"', "name=\"file\"; filename*=x-none''%FF", 'name="file"; filename="C:\\dir\\a.png"'],
)  # fmt: skip
def test_a_field_in_every_spelling(at: str, image: bytes, about: str) -> None:
    finds(served.post(at, part(about, image) + END, FORM))
    finds(
        served.post(
            at, part(about, image, "CONTENT-TYPE: application/octet-stream\r\n") + END, FORM
        )
    )


def test_other_fields_and_empty_inputs_of_a_page_do_not_matter(at: str, image: bytes) -> None:
    mine, other = (
        part('name="file"; filename="a.png"', image),
        part('name="second"; filename="b"', image),
    )
    empty = part('name="file"; filename=""', b"", "Content-Type: application/octet-stream\r\n")
    text = part('name="csrf"', b"a=b") + part('name="image"', b"")
    for form in (mine + other, other + mine, empty + mine, mine + empty + text, text + mine):
        finds(served.post(at, form + END, FORM))
    finds(served.post(at, b"\r\n" + mine + END + b"and after", FORM))
    finds(served.post(at, mine + END.rstrip(), FORM))  # without the last line end


def test_parts_that_travel_as_text(at: str, image: bytes) -> None:
    about = 'name="file"; filename="a.png"'
    for coding, data in (
        ("base64", base64.encodebytes(image)), ("BASE64", base64.b64encode(image)),
        ("binary", image), ("8bit", image),
    ):  # fmt: skip
        form = part(about, data, f"Content-Transfer-Encoding: {coding}\r\n") + END
        finds(served.post(at, form, FORM))


@pytest.mark.parametrize(
    "kind",
    [None, "image/png", "IMAGE/JPEG", "image/whatever; q=1", "application/octet-stream", "text/plain",
     "application/x-www-form-urlencoded", "application/json", "", "nonsense"],
)  # fmt: skip
def test_a_body_under_any_media_type(at: str, image: bytes, kind: str | None) -> None:
    finds(served.post(at, image, kind))


def chunked(at: str, body: bytes, kind: str, size: int) -> bytes:
    parts = [body[i : i + size] for i in range(0, len(body), size)]
    head = f"POST /search HTTP/1.1\r\nHost: {at}\r\nContent-Type: {kind}\r\n"
    head += "Transfer-Encoding: chunked\r\n\r\n"
    return head.encode() + b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in [*parts, b""])


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_chunks_of_every_size(at: str, image: bytes, size: int) -> None:
    finds(served.send(at, chunked(at, part('name="file"', image) + END, FORM, size)))
    finds(served.send(at, chunked(at, image, "image/png", size)))


def test_a_client_that_asks_before_it_sends(at: str, image: bytes) -> None:
    head = f"POST /search HTTP/1.1\r\nHost: {at}\r\nExpect: 100-continue\r\nContent-Length: "
    with served.connect(at) as client:
        client.sendall(f"{head}{len(image)}\r\n\r\n".encode())
        assert client.recv(100).startswith(b"HTTP/1.1 100")
        client.sendall(image)
        finds(served.read(client))
    with served.connect(at) as client:
        client.sendall(f"{head}400000000\r\n\r\n".encode())
        refuses(served.read(client), "300000 bytes", 413)


@pytest.mark.parametrize(
    "kind, body, word",
    [
        ("application/x-www-form-urlencoded", b"file=abc%00&x=1", "application/x-www-form-urlencoded"),
        ("application/json", b'{"file": "aGVsbG8="}', "application/json"),
        ("image/png", b"no image", "cannot be read as an image"),
        ("multipart/mixed; boundary=XX", part('name="file"', b"x") + END, "multipart/mixed"),
        ("multipart/form-data", part('name="file"', b"x") + END, "no boundary"),
        ("multipart/form-data; boundary=YY", part('name="file"', b"x") + END, "form cannot be read"),
        (f"multipart/form-data; boundary={'a' * 400}", b"x", "form cannot be read"),
        (FORM, part('name="file"', b"x" * 500), "before its last boundary"),
        (FORM, END, "no image in the request"), (FORM, b"\x00\xff", "form cannot be read"),
        (FORM, part('name="file"; filename="a.png"', b"") + END, "empty"),
        (FORM, part('name="upload"; filename="a.png"', b"x") + END, "'upload'"),
        (FORM, part('filename="a.png"', b"x") + END, "no image in the request"),
        (FORM, b"--XX\r\n\r\nx\r\n" + END, "no image in the request"),
        (FORM, part('name="file"; filename="../a\x1b[2J\x9bb.png"', b"x") + END, "u001b"),
        (FORM, part('name="file"', b"x") * 2 + END, "2 images"),
        (FORM, part('name="a"', b"x") * 40 + END, "32 fields"),
        (FORM, part('name="file"', b"*", "Content-Transfer-Encoding: base64\r\n") + END, ""),
    ],
)  # fmt: skip
def test_what_holds_no_image_is_one_clear_line(at: str, kind: str, body: bytes, word: str) -> None:
    refuses(served.post(at, body, kind), word)


def test_a_packed_body_says_so(at: str, image: bytes) -> None:
    import gzip

    body = gzip.compress(image)
    head = f"POST /search HTTP/1.1\r\nHost: {at}\r\nContent-Encoding: gzip\r\n"
    sent = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    refuses(served.send(at, sent), "gzip")


def test_a_heic_image_needs_no_name(at: str, image: bytes, tmp_path: Path) -> None:
    heif = pytest.importorskip("pillow_heif")
    import io

    from PIL import Image

    picture = Image.open(io.BytesIO(image)).convert("RGB").resize((128, 128))
    heif.from_pillow(picture).save(tmp_path / "a.heic", quality=90)
    data = (tmp_path / "a.heic").read_bytes()
    for answer in (
        served.post(at, data, "image/heic"),
        served.post(at, part("name=file", data) + END, FORM),
    ):
        assert answer[0] == 200, answer[1]


@settings(
    max_examples=60, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(data=st.data())
def test_a_damaged_form_is_answered_as_a_form_or_a_mistake(at: str, image: bytes, data) -> None:  # type: ignore[no-untyped-def]
    form = bytearray(part('name="file"; filename="a.png"', image) + END)
    head = form.index(image[:8])
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, head) | st.integers(len(form) - 12, len(form) - 1))
        form[place] = data.draw(st.integers(0, 255))
    status, said = served.post(at, bytes(form), FORM)
    assert status in (200, 400) and (status == 200 or said["error"].isprintable()), said


def test_a_client_that_leaves_is_no_trouble(at: str, image: bytes) -> None:
    for _ in range(5):
        with served.connect(at) as client:
            client.sendall(
                f"POST /search HTTP/1.1\r\nHost: {at}\r\nContent-Length: 999\r\n\r\n".encode()
            )
            client.sendall(image[:99])
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    finds(served.post(at, image, None))
