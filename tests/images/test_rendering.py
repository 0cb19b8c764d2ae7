"""Decoded images to pixels: any shape, any box, one rule for shapes and for pixels."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as some
from PIL import Image

from stages.images import rendering

SIDE = some.integers(1, 90)
BOX = some.one_of(some.none(), some.tuples(*[some.floats(-50, 150, width=32)] * 4))


@given(width=SIDE, height=SIDE, box=BOX, px=some.one_of(some.none(), some.integers(1, 64)))
@settings(deadline=None)
def test_the_shape_is_known_before_anything_is_decoded(
    width: int, height: int, box: tuple[float, ...] | None, px: int | None
) -> None:
    image = Image.fromarray(
        np.arange(height * width * 3, dtype=np.uint32).astype(np.uint8).reshape(height, width, 3)
    )
    pixels = rendering.plain(image, box, px)
    assert pixels.shape[:2][::-1] == rendering.plain_shape(width, height, box, px)
    assert pixels.dtype == np.uint8 and pixels.size
    if box is None and px is not None:
        assert max(pixels.shape[:2]) <= max(px, 1) or max(width, height) <= px


@given(box=some.tuples(*[some.floats(-1e6, 1e6)] * 4), width=SIDE, height=SIDE)
def test_whole_pixels_lie_inside_and_are_never_empty(
    box: tuple[float, ...], width: int, height: int
) -> None:
    left, top, right, bottom = rendering.whole_pixels(box, width, height)
    assert 0 <= left < right <= width and 0 <= top < bottom <= height


@given(
    shapes=some.lists(some.tuples(some.integers(1, 4), some.integers(1, 4))),
    most=some.integers(1, 5),
)
def test_batches_hold_each_image_once_and_one_shape(
    shapes: list[tuple[int, int]], most: int
) -> None:
    batches = rendering.batches_by_shape(shapes, most)
    assert sorted(i for b in batches for i in b) == list(range(len(shapes)))
    assert all(len(b) <= most and len({shapes[i] for i in b}) == 1 for b in batches)


def test_a_view_is_its_box_and_its_mirror() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    view = {"x": 0.25, "y": 0.5, "width": 0.5, "height": 0.5, "flip": 0.0}
    assert np.array_equal(rendering.render(Image.fromarray(pixels), view, 4), pixels[4:8, 2:6])
    flipped = rendering.render(Image.fromarray(pixels), {**view, "flip": 1.0}, 4)
    assert np.array_equal(flipped, pixels[4:8, 2:6][:, ::-1])
