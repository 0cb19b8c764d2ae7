"""Pages for people: one self-contained HTML file each, readable offline, no script in it."""

import base64
import io
from pathlib import Path
from typing import Any

import jinja2

from ..core import images, store
from ..core.errors import UserError

FOLDER = Path(__file__).parent / "templates"
THUMB_PX = 112
QUALITY = 82  # of a thumbnail, JPEG


def write(path: Path, template: str, **values: Any) -> None:
    """Render `templates/<template>` with `values` to `path`, whole or not at all."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    store.write_text(path, environment.get_template(template).render(values))


def is_page(path: Path) -> Path:
    """`path` where it can become a page. Raises UserError for another ending or a folder."""
    if path.suffix.lower() not in (".html", ".htm") or path.is_dir():
        raise UserError(f"{path}: a page is a file that ends in .html, such as report.html")
    return path


def data_uri(content: bytes, kind: str) -> str:
    """`content` of MIME type `kind` as an address that holds it."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def picture(file: Path, box: tuple[float, ...] | None = None, px: int = THUMB_PX) -> str | None:
    """A picture (or the `box` of it), its long side `px`, as a data URI; None if unreadable."""
    from PIL import Image

    try:
        pixels = images.plain(images.read(file), None, px) if box is None else _cut(file, box, px)
    except UserError:
        return None
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=QUALITY)
    return data_uri(buffer.getvalue(), "image/jpeg")


def _cut(file: Path, box: tuple[float, ...], px: int) -> Any:
    """The box scaled to `px` itself: `images.plain` would keep the picture's own factor."""
    image = images.read(file)
    part = image.crop(images.whole_pixels(box, *image.size))
    return images.plain(part, None, px)
