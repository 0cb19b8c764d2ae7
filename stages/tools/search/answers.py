"""What index, search, serve and calibrate share: an index with its student, and answers."""

from pathlib import Path
from typing import Any

import numpy as np

from ...core import store
from ...core.errors import UserError
from ...retrieval.onnx_student import Exported, refuse_other
from . import generations as indexes
from .generations import Index


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
    """For each query row its first images: path, file, score; match where calibrated."""
    calibration = found.about.get("calibration")
    threshold = calibration["threshold"] if calibration else None
    out = []
    for scores, places in zip(*found.search(rows, top), strict=True):
        results = [
            {
                "path": str(found.path[row]), "file": str(found.file(row)),
                "score": round(min(float(score), 1.0), 6),  # float16 rows are a little long
                "match": None if threshold is None else bool(score >= threshold),
                "id": int(found.ids[row]),
            }
            for score, row in zip(scores, places, strict=True)
            if row >= 0
        ]  # fmt: skip
        match = None if threshold is None else any(r["match"] for r in results)
        out.append({"match": match, "results": results})
    return out


def ready(source: Path, dim: int | None = None) -> tuple[store.Stored, np.ndarray, list[str]]:
    """A descriptor file, its (n, d) float32 rows and its ids.

    Raises UserError unless it holds one finite descriptor an image, of `dim` numbers where given.
    """
    stored = store.Stored(source, "descriptors")
    rows = np.asarray(stored["descriptor"], dtype=np.float32)
    if rows.ndim != 2 or "start" in stored or not np.isfinite(rows).all():
        raise UserError(f"{source}: not one finite descriptor an image; describe again")
    names = [str(i) for i in stored["image_id"]]
    if len(names) != len(rows):
        raise UserError(f"{source}: its datasets have different lengths; describe again")
    if not len(rows):
        raise UserError(f"{source}: holds no descriptors; describe again")
    if dim is not None:
        refuse_width(source, rows, dim)
    return stored, rows, names


def refuse_width(source: Path | str, rows: np.ndarray, dim: int) -> None:
    """Raise UserError where `rows` (n, d) of `source` are not of `dim` numbers."""
    if rows.shape[1] != dim:
        raise UserError(
            f"{source}: descriptors of {rows.shape[1]} dimensions, not {dim}: of another student; "
            "use the same one, or make a new index"
        )
