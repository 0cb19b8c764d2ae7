"""The image that a request holds: a field of a form, or the body itself."""

import asyncio
import base64
import binascii
import re
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote_to_bytes

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from ...core import console
from .live_index import Limits, Refusal

FORM_BYTES = 4096  # of a form, besides its file
NAMES = ("file", "image")  # the form fields that are looked at, in this order
MOST_PARTS = 32  # of a form
NAME_LETTERS = 120  # of a file name that are repeated in answers
FORM = "multipart/form-data"
HOW = f"send the image as field 'file' of a form ({FORM}), or as the body"


@dataclass
class Part:
    """One part of a form: its headers by lower-case name, its bytes."""

    headers: dict[str, bytes] = field(default_factory=dict)
    data: bytearray = field(default_factory=bytearray)

    def options(self) -> dict[bytes, bytes]:
        """The parameters of its Content-Disposition."""
        return parse_options_header(self.headers.get("content-disposition"))[1]

    def field(self) -> str:
        """The name of its field, without the `[]` that some clients add."""
        return _text(self.options().get(b"name", b"")).removesuffix("[]")

    def file(self) -> str:
        """The name of its file: `filename`, else `filename*`, else none."""
        if name := self.options().get(b"filename"):
            return _text(name)
        # The parser leaves this one out, since RFC 7578 forbids it; some clients send no other.
        line = _text(self.headers.get("content-disposition", b""))
        match = re.search(r"""filename\*\s*=\s*"?([\w-]*)'[\w-]*'([^;"]*)""", line, re.IGNORECASE)
        return _text(unquote_to_bytes(match[2]), match[1]) if match else ""

    def content(self) -> bytes:
        """Its bytes as they were before its Content-Transfer-Encoding. Raises Refusal."""
        coding = _text(self.headers.get("content-transfer-encoding", b"")).strip().lower()
        if coding == "base64":
            try:
                return base64.b64decode(self.data, validate=False)
            except binascii.Error:
                raise Refusal(400, "the form cannot be read (broken base64)") from None
        return bytes(self.data)


class Parts:
    """Collects the parts of a form, whose size `_bounded` limits."""

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self.whole = False
        self._name, self._value = bytearray(), bytearray()

    def callbacks(self) -> Any:
        """What the parser calls."""
        return {
            "on_part_begin": self._begin, "on_header_field": self._on("_name"),
            "on_header_value": self._on("_value"), "on_header_end": self._header,
            "on_part_data": self._data, "on_end": self._end,
        }  # fmt: skip

    def _begin(self) -> None:
        if len(self.parts) == MOST_PARTS:
            raise Refusal(400, f"the form has more than {MOST_PARTS} fields")
        self.parts.append(Part())

    def _on(self, which: str) -> Any:
        return lambda data, start, end: getattr(self, which).extend(data[start:end])

    def _header(self) -> None:
        name = self._name.decode("latin-1").lower()
        self.parts[-1].headers[name] = bytes(self._value)
        self._name, self._value = bytearray(), bytearray()

    def _data(self, data: bytes, start: int, end: int) -> None:
        self.parts[-1].data += data[start:end]

    def _end(self) -> None:
        self.whole = True


async def upload(request: Request, limits: Limits) -> tuple[str, bytes]:
    """(name, bytes) of the image that a client sends.

    Raises Refusal: 413 too large, 408 too slow, 400 no image.
    """
    stated = request.headers.get("content-length", "0")
    if not stated.isdecimal() or int(stated[:18]) > limits.bytes + FORM_BYTES:
        raise Refusal(413, f"too large: at most {limits.bytes} bytes")
    packed = request.headers.get("content-encoding", "identity").strip().lower()
    if packed not in ("identity", ""):
        raise Refusal(400, f"a body packed with {_line(packed)} is not read; send it as it is")
    kind, options = parse_options_header(request.headers.get("content-type"))
    media = kind.decode("latin-1").strip()
    try:
        async with asyncio.timeout(limits.seconds):
            if media == FORM:
                parts = await _parts(request, limits, options.get(b"boundary", b""))
                name, data = _image_of(parts)
            else:
                data = b"".join([part async for part in _bounded(request, limits)])
                name = _name_of_body(media, data)
    except TimeoutError:
        raise Refusal(408, f"the image did not arrive within {limits.seconds:g} s") from None
    if len(data) > limits.bytes:
        raise Refusal(413, f"too large: at most {limits.bytes} bytes")
    return name, data


async def _parts(request: Request, limits: Limits, boundary: bytes) -> list[Part]:
    """All parts of a form. Raises Refusal where it is none."""
    if not boundary:
        raise Refusal(400, f"the form cannot be read (its {FORM} states no boundary); {HOW}")
    form = Parts()
    try:
        parser = MultipartParser(boundary, form.callbacks())
        async for data in _bounded(request, limits):
            parser.write(data)
    except (FormParserError, ValueError) as error:
        raise Refusal(400, f"the form cannot be read ({_line(str(error))}); {HOW}") from None
    if not form.whole:
        raise Refusal(400, f"the form cannot be read (it ends before its last boundary); {HOW}")
    return form.parts


def _image_of(parts: list[Part]) -> tuple[str, bytes]:
    """The one image of a form: of `file`, else of `image`; empty inputs of a page do not count."""
    filled = [part for part in parts if part.data]
    for name in NAMES:
        images = [part for part in filled if part.field() == name]
        if len(images) > 1:
            raise Refusal(400, f"{len(images)} images in field '{name}'; send one at a time")
        if images:
            return _line(_without_folders(images[0].file())) or "the upload", images[0].content()
    names = ", ".join(f"'{_line(part.field())}'" for part in parts[:5])
    empty = any(part.field() in NAMES for part in parts)
    about = f"field {names} is empty" if empty and len(parts) == 1 else f"its fields: {names}"
    about = f" ({about})" if parts else ""
    raise Refusal(400, f"no image in the request{about}; send it as form field 'file'")


def _name_of_body(media: str, data: bytes) -> str:
    """What to call an image that is the body; programs send one under any media type."""
    if not data:
        raise Refusal(400, f"no image in the request; {HOW}")
    if media.startswith("multipart/"):
        raise Refusal(400, f"{_line(media)} is not read; {HOW}")
    known = not media or media.startswith("image/") or media == "application/octet-stream"
    return "the upload" if known else f"the upload, sent as {_line(media)}"


async def _bounded(request: Request, limits: Limits) -> AsyncGenerator[bytes, None]:
    count = 0
    async for part in request.stream():
        count += len(part)
        if count > limits.bytes + FORM_BYTES:
            raise Refusal(413, f"too large: at most {limits.bytes} bytes")
        yield part


def _text(raw: bytes, coding: str = "utf-8") -> str:
    try:
        return raw.decode(coding or "utf-8")
    except (UnicodeDecodeError, LookupError):
        return raw.decode("latin-1")


def _line(text: str) -> str:
    """What a client named, as it is repeated in an answer: short and printable."""
    return console.clean(text)[:NAME_LETTERS]


def _without_folders(name: str) -> str:
    return PurePosixPath(name.replace("\\", "/")).name
