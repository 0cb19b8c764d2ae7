"""Stored views back to pixels: the same function for every teacher and for the student."""

from collections import OrderedDict
from collections.abc import Iterable
from itertools import groupby

import numpy as np
from PIL import Image

from ..core.errors import UserError
from . import augmentation, reading, rendering
from .sets import TrainSet

CACHE_BYTES = 2 << 30  # decoded images that all loading processes of a training keep together


class Replay:
    """Pixels of the stored views of `views` at `px` x `px`.

    Decoded images are kept up to `cache_bytes`, the oldest leaving first.
    """

    def __init__(self, views: TrainSet, px: int, cache_bytes: int = 0) -> None:
        self.views, self.px, self.spans = views, px, views.spans()
        self._cache: OrderedDict[tuple[int, int], Image.Image] = OrderedDict()
        self._left = cache_bytes

    def images(self, span: tuple[int, int]) -> np.ndarray:
        """All views of the images first..last - 1, in order: (b, px, px, 3) uint8."""
        out = []
        rows = range(self.spans[span[0]], self.spans[span[1]])
        for source, views in groupby(rows, self.views.source):
            image = self._read(source)  # decoded once for views of it in a row
            out += [self._render(image, row) for row in views]
        return np.stack(out) if out else np.zeros((0, self.px, self.px, 3), np.uint8)

    def rows(self, rows: Iterable[int]) -> np.ndarray:
        """The views `rows`, in that order: (b, px, px, 3) uint8."""
        return np.stack([self._render(self._image(self.views.source(r)), r) for r in rows])

    def _render(self, image: Image.Image, row: int) -> np.ndarray:
        values = self.views.view[row]
        view = {n: float(v) for n, v in zip(self.views.columns, values, strict=True)}
        pixels = rendering.render(image, view, self.px)
        return augmentation.apply(pixels, view) if "blur" in view else pixels

    def _read(self, source: tuple[int, int]) -> Image.Image:
        try:
            return reading.read(self.views.file(*source))
        except UserError as error:  # of a set too large to be decoded by prepare
            image_id = self.views.image_id[source[0]]
            raise UserError(
                f"{error}: remove it, or name its id {image_id} in the dataset's `exclude` if it "
                "has one, and prepare again"
            ) from None

    def _image(self, source: tuple[int, int]) -> Image.Image:
        if source in self._cache:
            self._cache.move_to_end(source)
            return self._cache[source]
        image = self._read(source)
        self._left -= image.width * image.height * 3
        self._cache[source] = image
        while self._left < 0 and self._cache:
            _, old = self._cache.popitem(last=False)
            self._left += old.width * old.height * 3
        return image
