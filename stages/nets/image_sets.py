"""A whole set of images through one network: batches of one shape, in parts that are kept.

An interrupted run goes on with the part that it was at; the rows lie on disk, since those of a
million images would fill the memory.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from torch import nn

from ..core import console, files, runtime
from ..core.errors import UserError
from ..images import own, reading, rendering
from ..images.scales import How
from ..images.sets import EvaluationSet
from . import embed

PART_IMAGES = 2048
LOOK_AHEAD = 1 << 20  # images whose shapes are known at a time


def describe(
    net: nn.Module,
    images: EvaluationSet,
    how: How,
    batch: int,
    precision: str,
    parts: runtime.Parts,
    label: str,
    whole: console.Whole,
) -> np.ndarray:
    """(n, dim) float16 unit descriptors of a set's images, in its order, on disk (unlinked).

    `batch`: images of one shape that go through the network together; `precision`: as `embed` has
    it. Of one's own images that cannot be read, rows of NaN. Raises UserError where none can.
    """
    describer = Describer(net, images, how, precision, label, whole)
    rows: np.ndarray | None = None
    for number, chunk in enumerate(_chunks(images, batch, how.px, label)):
        name = f"{number:06d}"
        part = parts.load(name)
        if part is None:
            part = describer.chunk(chunk)
            if part is None:
                continue
            parts.save(name, part)
        else:
            whole.skip(len(part))
        if rows is None:
            shape = (images.count, part.shape[1])
            rows = parts.reserved("rows", shape, np.float16)
            files.check_room(parts.folder, parts.missing(images.count, part))
            if images.own:
                rows[:] = np.nan  # until described: some cannot be read
        rows[np.concatenate(chunk)] = part
    if rows is None:
        own.described(images, np.full((images.count, 1), np.nan))  # says why each, if it has any
        raise UserError(f"{images.root}: no images to describe")
    return rows


def _chunks(
    images: EvaluationSet, batch: int, px: int | None, label: str
) -> Iterator[list[list[int]]]:
    """Batches of images of one shape, about PART_IMAGES at a time, of LOOK_AHEAD known shapes."""
    step = PART_IMAGES // batch + 1
    for first in range(0, images.count, LOOK_AHEAD):
        some = range(first, min(first + LOOK_AHEAD, images.count))
        looked = console.progress(some, total=len(some), label=f"{label}: shapes", part=True)
        batches = own.batches(images, looked, batch, px)
        yield from (batches[i : i + step] for i in range(0, len(batches), step))


@dataclass(frozen=True)
class Describer:
    """One network over batches of one set's images."""

    net: nn.Module
    images: EvaluationSet
    how: How
    precision: str
    label: str
    whole: console.Whole

    def chunk(self, batches: list[list[int]]) -> np.ndarray | None:
        """Rows of the images of all batches, None for none; of one's own that are broken NaN."""
        try:
            return self._batches(batches)
        except UserError:
            rows = [i for batch in batches for i in batch]
            lost = set(own.unreadable(self.images, rows))
            if not lost:
                raise
        sound = [good for batch in batches if (good := [i for i in batch if i not in lost])]
        if not sound:
            return None
        done = self._batches(sound)
        out = np.full((len(rows), done.shape[1]), np.nan, done.dtype)
        out[[i not in lost for i in rows]] = done
        return out

    def _batches(self, batches: Sequence[list[int]]) -> np.ndarray:
        """(b, dim) float16 descriptors of the images of `batches`, in that order."""
        load = partial(_load, self.images, self.how.px)  # without the network, to be handed on
        described = embed.descriptors(
            self.net, load, batches, scales=self.how.scales, precision=self.precision,
            half=True, label=self.label, whole=self.whole,
            name=lambda batch, row: str(self.images.file(batch[row])),
            advice="set describe.precision: float32, or mend the model",
        )  # fmt: skip
        return np.concatenate([rows for _, rows in described])


def _load(images: EvaluationSet, px: int | None, batch: list[int]) -> np.ndarray:
    """(b, h, w, 3) uint8 pixels of the images of a batch, which have one shape."""
    return np.stack(
        [rendering.plain(reading.read(images.file(i)), images.rectangle(i), px) for i in batch]
    )
