"""Stored views back to pixels: the same function for every teacher and for the student."""

from collections import OrderedDict
from collections.abc import Iterable

import numpy as np
from PIL import Image

from . import images
from .records import TrainSet


class Replay:
    """Pixels of the stored views of `views` at `px` x `px`.

    Decoded pictures are kept up to `cache_bytes`, the oldest leaving first.
    """

    def __init__(self, views: TrainSet, px: int, cache_bytes: int = 0) -> None:
        self.views, self.px, self.spans = views, px, views.spans()
        self._cache: OrderedDict[int, Image.Image] = OrderedDict()
        self._left = cache_bytes

    def pictures(self, span: tuple[int, int]) -> np.ndarray:
        """All views of the pictures first..last - 1, in order: (b, px, px, 3) uint8."""
        out = []
        for picture in range(*span):
            image = images.read(self.views.file(picture))  # decoded once for all its views
            rows = range(self.spans[picture], self.spans[picture + 1])
            out += [self._render(image, row) for row in rows]
        return np.stack(out) if out else np.zeros((0, self.px, self.px, 3), np.uint8)

    def rows(self, rows: Iterable[int]) -> np.ndarray:
        """The views `rows`, in that order: (b, px, px, 3) uint8."""
        return np.stack(
            [self._render(self._picture(int(self.views.view_image[r])), r) for r in rows]
        )

    def _render(self, image: Image.Image, row: int) -> np.ndarray:
        values = self.views.view[row]
        view = {n: float(v) for n, v in zip(self.views.columns, values, strict=True)}
        return images.render(image, view, self.px)

    def _picture(self, picture: int) -> Image.Image:
        if picture in self._cache:
            self._cache.move_to_end(picture)
            return self._cache[picture]
        image = images.read(self.views.file(picture))
        self._left -= image.width * image.height * 3
        self._cache[picture] = image
        while self._left < 0 and self._cache:
            _, old = self._cache.popitem(last=False)
            self._left += old.width * old.height * 3
        return image
