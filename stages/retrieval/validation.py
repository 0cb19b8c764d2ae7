"""How well a network retrieves on the validation groups, and how far that figure can be trusted.

Crops are the queries and whole images are searched: a query shows a part of its image, 20 to 50 %
of the area, as large as a training view. Its own image is neither positive nor negative. Whole
images as queries are too easy where a group's images are alike, and then rank students badly. Of a
video every frame is cropped by one box.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ..core import files
from ..images import reading, rendering, views
from ..images.rendering import batches_by_shape
from ..images.sets import EvaluationSet
from ..nets.embed import Network, descriptors
from . import metrics, protocols, rank, video
from .ground_truth import GroundTruth

CROPS = 1  # of each image, as queries
SEED = 0  # of the crops: the same for every training, so that trainings can be compared


@dataclass(frozen=True)
class Score:
    """`ap` (q,) percent of each query, `group` (q,) the group that it is of.

    `map` is their mean and `error` its standard error over groups, both percent; the error is
    infinite where there are less than two groups.
    """

    ap: np.ndarray
    group: np.ndarray

    @property
    def map(self) -> float:
        """Mean average precision, percent."""
        return round(float(self.ap.mean()), 4)

    @property
    def error(self) -> float:
        """Standard error of `map`."""
        return metrics.group_error(self.ap, self.group)

    def gain_over(self, other: "Score") -> tuple[float, float]:
        """(mean gain, its standard error) over the score of another network: query by query, so
        that what is hard for both does not count as doubt."""
        change = self.ap - other.ap
        return float(change.mean()), metrics.group_error(change, self.group)


class Probe:
    """Average precision of a network on fixed images that fit in memory.

    `pixels`: (h, w, 3) uint8 of each image searched; `query` the rows of the queries, one
    several times where it has several crops; `lists` by query the rows of each list of `protocol`;
    `crops` the pixels of the queries, where it is not the images themselves. Where `start`
    (n + 1,) is given the images are the frames of videos, rows are videos, compared by chamfer, and
    `crops` are those of all frames of the queries. `files`: what an error calls the images.
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
        crops: Sequence[np.ndarray] | None = None,
    ) -> None:
        self._start, self._protocol, self._files = start, protocols.load(protocol), files
        self._query, self._lists, self._searched = query, lists, len(pixels)
        self.group = np.array([
            min([int(q), *self._protocol.positive(own).tolist()])
            for q, own in zip(query, lists, strict=True)
        ])  # fmt: skip
        self._cropped = crops is not None
        shown = [*pixels, *(crops or [])]
        self._count = len(shown)
        shapes = [(p.shape[0], p.shape[1]) for p in shown]
        self._rows = batches_by_shape(shapes, batch)
        self._batches = [torch.from_numpy(np.stack([shown[i] for i in b])) for b in self._rows]

    def __call__(self, net: nn.Module) -> Score:
        """How well `net` retrieves; it is left in the mode it was in."""
        was_training = net.training
        descriptor = self.descriptors(net.eval())
        net.train(was_training)
        return self.of(descriptor)

    def of(self, descriptor: np.ndarray) -> Score:
        """How well (n, dim) rows retrieve, those of `descriptors`."""
        database, query = descriptor[: self._searched], descriptor[self._searched :]
        if self._start is None:
            query = query if self._cropped else database[self._query]
            ranks = rank.ranks(query, database, self._lists)
        else:
            clips = video.Clips(database, self._start)
            queries = clips.take(self._query)
            if self._cropped:
                queries = video.Clips(query, queries.start)
            ranks = video.ranks(video.similarities(queries, clips, "chamfer"), self._lists)
        return self.score(np.array(self._protocol.per_query(ranks)[self._protocol.main]))

    def score(self, ap: np.ndarray) -> Score:
        """The score of average precisions (q,) measured here; queries without a positive left
        out."""
        counted = ~np.isnan(ap)
        return Score(ap[counted], self.group[counted])

    def descriptors(self, net: nn.Module | Network) -> np.ndarray:
        """(n, dim) float32 of all images, then of the crops, at one scale."""

        def name(batch: int, row: int) -> str:
            image = self._rows[batch][row]
            if self._files is None or image >= len(self._files):
                return f"image {image}"
            return str(self._files[image])

        out: np.ndarray | None = None
        for batch, rows in descriptors(
            net, self._batches.__getitem__, range(len(self._batches)), processes=0, name=name,
            advice="the training has diverged: lower train.lr",
        ):  # fmt: skip
            out = np.empty((self._count, rows.shape[1]), np.float32) if out is None else out
            out[self._rows[batch]] = rows
        assert out is not None
        return out


def read(prepared: Path, image_px: int, view_px: int, crops: int = CROPS) -> Probe | None:
    """Retrieval on the validation groups; None where there are none.

    `crops` of each image are queries, at `view_px`; whole images are searched, at `image_px`.
    """
    images = EvaluationSet.read(prepared / "validation.h5")
    if not len(images.image_id):
        return None
    where = prepared / "validation.json"
    truth = GroundTruth.parse(files.read_json(where), images.image_id, str(where))
    row = {str(image_id): i for i, image_id in enumerate(images.image_id)}
    paths = [images.file(i) for i in range(images.count)]
    pixels = [rendering.plain(reading.read(f), None, image_px) for f in paths]
    query = np.repeat([row[q.image_id] for q in truth.queries], crops)
    lists = [q.lists for q in truth.queries for _ in range(crops)]
    numbers = np.tile(np.arange(crops), len(truth.queries))
    shown = list(_crops(images, query, numbers, view_px))
    name = truth.protocol.name
    return Probe(pixels, query, lists, start=images.start, protocol=name, files=paths, crops=shown)


def _crops(
    images: EvaluationSet, query: np.ndarray, numbers: np.ndarray, px: int
) -> Iterator[np.ndarray]:
    """(px, px, 3) uint8 of crop `numbers[i]` of row `query[i]`, of a video all its frames."""
    start = np.arange(len(images.image_id) + 1) if images.start is None else images.start
    for row, number in zip(query.tolist(), numbers.tolist(), strict=True):
        box = views.draw_query(SEED, str(images.image_id[row]), number)
        view = dict(zip(views.COLUMNS, box.tolist(), strict=True))
        for image in range(int(start[row]), int(start[row + 1])):
            yield rendering.render(reading.read(images.file(image)), view, px)
