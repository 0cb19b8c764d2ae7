"""HTML pages and model cards, made from the templates beside this file, and their images."""

import base64
import io
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from PIL import Image

from ..core import files
from ..core.errors import UserError
from ..images import reading, rendering

FOLDER = Path(__file__).parent / "templates"
THUMB_PX, LARGE_PX = 112, 256  # long side of a thumbnail: among many, among a few
QUALITY = 85  # of a thumbnail, JPEG


@cache
def _environment(trimmed: bool) -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=trimmed, lstrip_blocks=trimmed,
    )  # fmt: skip


def render(template: str, **values: Any) -> str:
    """A template filled: everything is escaped, a missing value is an error."""
    trimmed = template.endswith(".html")  # in Markdown line ends matter
    return _environment(trimmed).get_template(template).render(values)


def write(path: Path, template: str, **values: Any) -> None:
    """`render` to the file `path`, whole or not at all."""
    files.write_text(path, render(template, **values))


def is_page(path: Path) -> Path:
    """`path` where it can become a page.

    Raises UserError for another ending, a folder, or where a file that is no page lies.
    """
    if path.suffix.lower() not in (".html", ".htm") or path.is_dir():
        raise UserError(f"{path}: the page must be a file that ends in .html, such as report.html")
    if path.is_file() and not _begins_as_page(path):
        raise UserError(f"{path}: is a file that is no page; give another name, or remove it")
    return path


def _begins_as_page(path: Path) -> bool:
    with open(path, "rb") as file:
        begin = file.read(512).lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return not begin or begin.startswith((b"<!doctype html", b"<html", b"<!--", b"<?xml"))


def data_uri(content: bytes, kind: str) -> str:
    """`content` of MIME type `kind` as a data URI, an address that contains it."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def thumbnail(file: Path, px: int, box: tuple[float, ...] | None = None) -> bytes:
    """An image (or the `box` of it) as a JPEG, its long side at most `px`. Raises UserError."""
    image = reading.read(file)
    if box is not None:  # first, or `plain` would scale by the whole image's size
        image = image.crop(rendering.whole_pixels(box, *image.size))
    buffer = io.BytesIO()
    Image.fromarray(rendering.plain(image, None, px)).save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()


def image(file: Path, box: tuple[float, ...] | None = None, px: int = THUMB_PX) -> str | None:
    """A thumbnail as a data URI; None where the image cannot be read."""
    try:
        return data_uri(thumbnail(file, px, box), "image/jpeg")
    except UserError:
        return None
