"""How well a network retrieves on a set of images that fits in memory: one number."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ..core import files
from ..images import reading, rendering
from ..images.rendering import batches_by_shape
from ..images.sets import EvaluationSet
from ..nets.embed import descriptors
from . import protocols, rank, video
from .ground_truth import GroundTruth


class Probe:
    """Mean average precision of a network on fixed images, each of which may be a query.

    `pixels`: (h, w, 3) uint8 of each image; `query` the rows of the queries; `lists` by query the
    rows of each list of `protocol`. Where `start` (n + 1,) is given the images are the frames
    of videos, and rows are videos, compared by chamfer. `files`: what an error calls the images.
    """

    def __init__(
        self,
        pixels: Sequence[np.ndarray],
        query: np.ndarray,
        lists: Sequence[dict[str, np.ndarray]],
        batch: int = 64,
        start: np.ndarray | None = None,
        protocol: str = "positives",
        files: Sequence[Path] | None = None,
    ) -> None:
        self._start, self._protocol, self._files = start, protocols.load(protocol), files
        self._query, self._lists, self._count = query, lists, len(pixels)
        shapes = [(p.shape[0], p.shape[1]) for p in pixels]
        self._rows = batches_by_shape(shapes, batch)
        self._batches = [torch.from_numpy(np.stack([pixels[i] for i in b])) for b in self._rows]

    def __call__(self, net: nn.Module) -> float:
        """mAP in percent of `net`, which is left in the mode it was in."""
        was_training = net.training
        descriptor = self.descriptors(net.eval())
        net.train(was_training)
        if self._start is None:
            ranks = rank.ranks(descriptor[self._query], descriptor, self._lists)
        else:
            clips = video.Clips((descriptor,), self._start)
            sims = video.similarities(clips.take(self._query), clips, "chamfer")
            ranks = video.ranks(sims, self._lists)
        return self._protocol.all_scores(ranks)[self._protocol.main]["map"]

    def descriptors(self, net: nn.Module) -> np.ndarray:
        """(n, dim) float32 of all images, at one scale."""

        def name(batch: int, row: int) -> str:
            image = self._rows[batch][row]
            return f"image {image}" if self._files is None else str(self._files[image])

        out: np.ndarray | None = None
        for batch, rows in descriptors(
            net, self._batches.__getitem__, range(len(self._batches)), processes=0, name=name,
            advice="the training has diverged: lower train.lr",
        ):  # fmt: skip
            out = np.empty((self._count, rows.shape[1]), np.float32) if out is None else out
            out[self._rows[batch]] = rows
        assert out is not None
        return out


def read(prepared: Path, image_px: int) -> Probe | None:
    """Retrieval on the validation groups, whole images; None where there are none."""
    images = EvaluationSet.read(prepared / "validation.h5")
    if not len(images.image_id):
        return None
    where = prepared / "validation.json"
    truth = GroundTruth.parse(files.read_json(where), images.image_id, str(where))
    row = {str(image_id): i for i, image_id in enumerate(images.image_id)}
    paths = [images.file(i) for i in range(images.count)]
    pixels = [rendering.plain(reading.read(f), None, image_px) for f in paths]
    query = np.array([row[q.image_id] for q in truth.queries])
    name = truth.protocol.name
    return Probe(pixels, query, truth.lists, start=images.start, protocol=name, files=paths)
