"""The teachers of the ensemble side by side, row for row the stored views."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..core import files, store
from ..images.sets import TrainSet
from . import frames, prototypes
from .targets import read_features, read_whitened
from .whitening import Whitening


@dataclass(frozen=True)
class Ensemble:
    """The whitened descriptors of the named teachers, row for row the stored views; or their own
    descriptors with what each goes through first (`through`, see frames)."""

    names: tuple[str, ...]
    descriptors: tuple[np.ndarray, ...]
    digest: str  # of all of them, in this order
    through: tuple[Whitening | None, ...] | None = None

    @classmethod
    def read(cls, names: list[str], folder: Path, views: TrainSet) -> "Ensemble":
        """Open `folder/<name>.h5` for each name; refuses rows of other views."""
        return cls._of(names, [read_whitened(folder / f"{name}.h5", views) for name in names])

    @classmethod
    def of_features(cls, names: list[str], folder: Path, views: TrainSet) -> "Ensemble":
        """The same of the files of features: the teachers as they are."""
        return cls._of(names, [read_features(folder / f"{name}.h5", views) for name in names])

    @classmethod
    def _of(cls, names: list[str], stored: list[store.Stored]) -> "Ensemble":
        digest = files.digest_of([f.digest for f in stored])
        return cls(tuple(names), tuple(f["descriptor"] for f in stored), digest)

    def concatenated(self, rows: Any) -> np.ndarray:
        """(b, sum d_k) float32 of view rows (a slice or indices)."""
        own = [d[rows] for d in self.descriptors]
        side_by_side = (
            prototypes.concatenate(own)
            if self.through is None
            else frames.together(own, self.through)
        )
        for d in self.descriptors:
            store.forget(d)
        return side_by_side

    def similarities(self, anchor: np.ndarray, positive: np.ndarray) -> np.ndarray:
        """(T, N, N) float32 similarities of two lists of view rows."""
        sims = np.empty((len(self.names), len(anchor), len(positive)), dtype=np.float32)
        for out, d in zip(sims, self.descriptors, strict=True):
            np.matmul(d[anchor].astype(np.float32), d[positive].astype(np.float32).T, out=out)
            store.forget(d)
        return sims
