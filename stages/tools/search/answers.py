"""Shared by index, search, serve and calibrate: an index with its student, and search results."""

from pathlib import Path
from typing import Any

import numpy as np

from ...core import console, contents, store
from ...core.errors import UserError
from ...retrieval.onnx_student import Exported, refuse_other
from . import generations as indexes
from .generations import Index


def student_of(index: Index, model: Path | None) -> Exported:
    """The student that describes queries: `model`, else the one kept in the index.

    Raises UserError where it is not the student that described the index.
    """
    path = model or index.model()
    if path is None:
        raise UserError(
            f"{index.folder}: this index contains no exported student; name one with "
            "--model EXPORTED (`whiten-mtd export` writes it)"
        )
    net = Exported.read(path)
    refuse_other(index.student, net.identity(), str(index.folder), str(path))
    return net


def open_index(folder: Path, model: Path | None) -> tuple[Index, Exported]:
    """The current generation and the student that describes its queries."""
    index = indexes.read(folder)
    return index, student_of(index, model)


def answers(index: Index, rows: np.ndarray, top: int) -> list[dict[str, Any]]:
    """For each query row its first images: path, file, score; `match` where calibrated."""
    calibration = index.about.get("calibration")
    threshold = calibration["threshold"] if calibration else None
    out = []
    for scores, index_rows in zip(*index.search(rows, top), strict=True):
        results = [
            {
                "path": str(index.path[row]), "file": str(index.file(row)),
                "score": round(min(float(score), 1.0), 6),  # float16 rounds to a little over 1
                "match": None if threshold is None else bool(score >= threshold),
                "id": int(index.ids[row]),
            }
            for score, row in zip(scores, index_rows, strict=True)
            if row >= 0
        ]  # fmt: skip
        match = None if threshold is None else any(r["match"] for r in results)
        out.append({"match": match, "results": results})
    return out


def is_descriptors(path: Path) -> bool:
    """Whether a source or a query is named as a descriptor file, not as images."""
    return path.suffix.lower() in (".h5", ".hdf5")


def ready(source: Path, dim: int | None = None) -> tuple[store.Stored, np.ndarray, list[str]]:
    """A descriptor file, its (n, d) float32 rows, of unit length, and its ids.

    Raises UserError unless it holds one descriptor per image (of `dim` dimensions).
    """
    stored = store.Stored(source, "descriptors")
    if "start" in stored:
        raise UserError(f"{source}: does not hold one descriptor per image; describe again")
    ids = [str(i) for i in stored.ids()]
    if not ids:
        raise UserError(f"{source}: holds no descriptors; describe again")
    rows = contents.unit(stored["descriptor"])
    if not stored.unit:
        console.say(f"{source}: its rows are not of unit length; their directions are compared")
    if dim is not None:
        refuse_width(source, rows, dim)
    return stored, rows, ids


def refuse_width(source: Path | str, rows: np.ndarray, dim: int) -> None:
    """Raise UserError where `rows` (n, d) of `source` do not have `dim` dimensions."""
    if rows.shape[1] != dim:
        raise UserError(
            f"{source}: its descriptors have {rows.shape[1]} dimensions, not {dim}: they are of "
            "another student; use the student of the index, or make a new index"
        )
