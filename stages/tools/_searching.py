"""What index, search, serve and calibrate share: an index with its student, answers, thumbnails."""

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from ..core import images
from ..core.errors import UserError
from ..retrieval import index as indexes
from ..retrieval.exported import Exported, refuse_other
from ..retrieval.index import Index

THUMBNAIL_PX = 256


def student_of(found: Index, model: Path | None) -> Exported:
    """The exported student of an index: the one given, else its own. Refuses another one."""
    path = model or found.model()
    if path is None:
        raise UserError(
            f"{found.folder}: has no exported student in it; give one: --model EXPORTED "
            "(`whiten-mtd export` writes it)"
        )
    net = Exported.read(path)
    refuse_other(found.student, net.identity(), str(found.folder), str(path))
    return net


def open_index(folder: Path, model: Path | None) -> tuple[Index, Exported]:
    """The current generation and the student that describes its queries."""
    found = indexes.read(folder)
    return found, student_of(found, model)


def answers(found: Index, rows: np.ndarray, top: int) -> list[dict[str, Any]]:
    """For each query row its first pictures: path, file, score; match where calibrated."""
    calibration = found.about.get("calibration")
    threshold = calibration["threshold"] if calibration else None
    out = []
    for scores, places in zip(*found.search(rows, top), strict=True):
        results = [
            {
                "path": str(found.path[row]), "file": str(found.file(row)),
                "score": round(float(score), 6),
                "match": None if threshold is None else bool(score >= threshold),
                "id": int(found.ids[row]),
            }
            for score, row in zip(scores, places, strict=True)
            if row >= 0
        ]  # fmt: skip
        match = None if threshold is None else any(r["match"] for r in results)
        out.append({"match": match, "results": results})
    return out


def thumbnail(path: Path, data: bytes | None = None, px: int = THUMBNAIL_PX) -> bytes:
    """A small JPEG of a picture. Raises UserError where it cannot be read."""
    image = images.read(path, data)
    small = image.resize(images.fitted(image.width, image.height, px), Image.Resampling.BILINEAR)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def data_url(path: Path) -> str | None:
    """A thumbnail inside a page; None where the picture is no longer to be had."""
    try:
        return "data:image/jpeg;base64," + base64.b64encode(thumbnail(path)).decode()
    except UserError:
        return None


def render(template: str, **values: Any) -> str:
    """A page of `templates/`: everything is escaped, a name that is missing is an error."""
    loader = PackageLoader(__package__, "templates")
    page = Environment(loader=loader, autoescape=True, undefined=StrictUndefined)
    return page.get_template(template).render(**values)
