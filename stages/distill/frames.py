"""Frames: the spaces in which the targets may stand.

A frame takes each teacher's own descriptors through a whitening, or as they are, concatenates them
and projects them to the student's dimensions. `whitened` is the frame of the whitening that
`whiten` took. The others start from the teachers' own descriptors: the whitening that makes the
best ensemble need not make the best targets, since it may know labels that the student then learns
by heart.

    raw        as they are
    pca-0.25   PCA to `fuse.dim` dimensions, exponent 0.25
    pca-0.5    the same, exponent 0.5
    learned    by the within-group covariance, to `fuse.dim` dimensions (needs groups)
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from ..core import files, store
from ..core.errors import UserError
from . import prototypes, whitening
from .whitening import Array, Moments, Whitening, l2n

Name = Literal["whitened", "raw", "pca-0.25", "pca-0.5", "learned"]
NAMES: tuple[Name, ...] = get_args(Name)
WHITENED: Name = "whitened"
EXPONENTS = {"pca-0.25": 0.25, "pca-0.5": 0.5}
LEARNED: Name = "learned"
SHRINKAGE = 0.5  # of `learned`
FLOOR = 1e-5  # of the largest eigenvalue
FOLDER = "frames"  # beside the whitening of the teachers


@dataclass(frozen=True)
class Frame:
    """`teachers`: what each one's own descriptors go through first, None: as they are."""

    name: str
    teachers: tuple[Whitening | None, ...]
    projection: Whitening
    source: str  # what it was fitted on, for the scoring rules

    def apply(self, *rows: Array) -> Array:
        """(b, d_k) descriptors of each teacher to (b, dim) float32 fused embeddings."""
        return whitening.apply(together(rows, self.teachers), self.projection)


def together(rows: Sequence[Array], teachers: Sequence[Whitening | None]) -> Array:
    """(b, d_k) descriptors of each teacher through its whitening, concatenated."""
    return prototypes.concatenate([
        l2n(np.asarray(own, dtype=np.float32)) if by is None else whitening.apply(own, by)
        for own, by in zip(rows, teachers, strict=True)
    ])  # fmt: skip


def fit(name: str, moments: Moments, within: Array | None, dim: int) -> Whitening | None:
    """What a teacher goes through in frame `name`, of the `moments` of its descriptors.

    `within` (d, d): its within-group covariance, for `learned` alone.
    """
    if name == "raw":
        return None
    mean, total = moments.mean, moments.covariance
    dim = min(dim, len(mean))
    if name != LEARNED:
        return whitening.fit_pca(mean, total, dim=dim, exponent=EXPONENTS[name], floor=FLOOR)
    assert within is not None
    return whitening.fit_learned(mean, total, within, dim=dim, shrinkage=SHRINKAGE, floor=FLOOR)


def prototypes_file(targets: Path, name: str) -> Path:
    """The prototypes of a frame, in the folder of the targets."""
    return targets / ("prototypes.h5" if name == WHITENED else f"prototypes-{name}.h5")


def fused_file(whitenings: Path, name: str) -> Path:
    """The file of a frame, in the folder of the whitening files."""
    if name == WHITENED:
        return whitenings / "fused.h5"
    if name not in NAMES:
        raise UserError(f"no frame {name!r}: choose from {', '.join(NAMES)}")
    return whitenings / FOLDER / f"fused-{name}.h5"


def write(
    path: Path, projection: Whitening, teachers: Mapping[str, Whitening | None],
    **attributes: str | float,
) -> None:  # fmt: skip
    """The file of a frame that is not `whitened`: the projection as any whitening has it, and each
    teacher's own whitening beside it. float64."""
    arrays = {k: np.ascontiguousarray(getattr(projection, k)) for k in _ARRAYS}
    for name, by in teachers.items():
        if by is not None:
            arrays |= {f"{k}_of_{name}": np.ascontiguousarray(getattr(by, k)) for k in _ARRAYS}
    store.write(
        path, "whitening", arrays, energy_kept=projection.energy_kept,
        teachers=json.dumps([*teachers]), **attributes,
    )  # fmt: skip


_ARRAYS = ("mean", "projection", "eigenvalue")


def read(whitenings: Path, name: str, teachers: Sequence[str]) -> Frame:
    """The frame `name` of the `teachers` of an ensemble, in their order."""
    path = fused_file(whitenings, name)
    stored = store.Stored(path, "whitening")
    if stored.attributes.get("teachers", own := json.dumps([*teachers])) != own:
        raise UserError(f"{path}: of the ensemble {stored.text('teachers')}, not {own}; fuse again")
    projection = whitening.read(path)
    views = str(stored.attributes.get("train", "unknown"))[:8]
    made = "" if name == WHITENED else f"frame {name}, "
    source = f"{made}uncentred pca to {len(projection.eigenvalue)} of training views {views}"
    if name == WHITENED:
        firsts = [whitening.read(whitenings / f"{t}.h5") for t in teachers]
        return Frame(name, tuple(firsts), projection, source)
    return Frame(name, tuple(_first(stored, t) for t in teachers), projection, source)


def _first(stored: store.Stored, teacher: str) -> Whitening | None:
    """What the teacher goes through first, as the file of a frame has it."""
    if f"projection_of_{teacher}" not in stored:
        return None
    mean, projection, eigenvalue = (
        np.asarray(stored[f"{k}_of_{teacher}"], np.float64) for k in _ARRAYS
    )
    if projection.shape != (len(eigenvalue), len(mean)) or not np.isfinite(projection).all():
        raise UserError(f"{stored.path}: the whitening of {teacher} does not fit; fuse again")
    return Whitening(mean, projection, eigenvalue, 1.0)


def of_student(folder: Path) -> str:
    """The frame of a student's folder; of none, and of one that names none, `whitened`."""
    if not (folder / "config.json").is_file():
        return WHITENED
    config = files.read_json(folder / "config.json")
    return str(config.get("frame", WHITENED)) if isinstance(config, dict) else WHITENED
