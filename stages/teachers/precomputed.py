"""A teacher whose descriptors exist already: descriptor files, no network.

For weights that are no longer to be had, or models that run elsewhere. A descriptor file has
`descriptor` (n, dim) and `image_id` (n,), attribute `format` `whiten-mtd/descriptors/1`; together
the files must hold every training image and every image of the evaluation sets, by id. A
image has one descriptor, so that all its stored views get the same one.
"""

from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from ..core import contents, files, params, store
from ..core.errors import UserError

PUBLISHED = "It is a file of your own"


class Settings(params.Teacher):
    """One entry of `teachers` of kind precomputed."""

    kind: Literal["precomputed"]
    descriptors: list[str] = Field(min_length=1)  # paths of descriptor files
    image_px: int = Field(default=0, ge=0)  # long side they were described at; 0: not known
    license: str | None = None  # of the model, for the student's card


class Ready:
    """Rows of descriptor files for images in the order asked; read when they are asked for.

    `dim` their width, `digest` of the files' payloads. Rows are (b, dim) float16 of unit length.
    """

    def __init__(self, stored: list[store.Stored], file: np.ndarray, row: np.ndarray) -> None:
        self._sources = [f["descriptor"] for f in stored]
        self._file, self._row = file, row
        self.dim = int(self._sources[0].shape[1])
        self.digest = files.digest_of([f.digest for f in stored])

    def __len__(self) -> int:
        return len(self._row)

    def __getitem__(self, index: Any) -> np.ndarray:
        file, row = self._file[index], self._row[index]
        out = np.empty((len(row), self.dim), dtype=np.float32)
        for f in np.unique(file):
            out[file == f] = contents.unit(self._sources[f][row[file == f]])
        return out.astype(np.float16)


def rows(settings: params.Given, where: str, image_ids: np.ndarray) -> Ready:
    """The descriptors of the images `image_ids`. Raises UserError where some are missing."""
    s = params.check(settings, Settings, where)
    files = [store.Stored(Path(name), "descriptors") for name in s.descriptors]
    for f in files:
        shape = f["descriptor"].shape
        if len(shape) != 2 or shape[0] != len(f["image_id"]) or shape[1] < 1:
            raise UserError(f"{f.path}: expected descriptor (n, dim) and image_id (n,)")
        if shape[1] != files[0]["descriptor"].shape[1]:
            raise UserError(
                f"{f.path} has {shape[1]} dimensions and {files[0].path} "
                f"{files[0]['descriptor'].shape[1]}: of different models"
            )
    ids = np.concatenate([f["image_id"] for f in files])
    order = np.argsort(ids, kind="stable")
    _refuse_twice(ids[order], where)
    place = np.searchsorted(ids, image_ids, sorter=order)
    match = order[np.minimum(place, len(ids) - 1)] if len(ids) else np.zeros(0, np.int64)
    has_one = ids[match] == image_ids if len(ids) else np.zeros(len(image_ids), bool)
    if not has_one.all():
        absent = image_ids[~has_one]
        raise UserError(
            f"{where}.descriptors: {len(absent)} of {len(image_ids)} images are in none of "
            f"{', '.join(s.descriptors)}, the first: {absent[0]}"
        )
    starts = np.cumsum([0, *(len(f["image_id"]) for f in files)])
    file = np.searchsorted(starts, match, side="right") - 1
    return Ready(files, file, match - starts[file])


def _refuse_twice(ids: np.ndarray, where: str) -> None:
    """`ids` sorted."""
    twice = np.flatnonzero(ids[1:] == ids[:-1])
    if len(twice):
        raise UserError(
            f"{where}.descriptors: {len(twice)} ids occur twice, the first: {ids[twice[0]]}"
        )
