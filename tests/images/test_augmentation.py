"""Effects of a video's views: torchvision is the oracle of colours, numbers of the rest."""

import numpy as np
import pytest
from PIL import Image
from torchvision.transforms import functional as oracle

from stages.images import augmentation

PIXELS = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)
NOTHING = {
    "brightness": 1.0, "contrast": 1.0, "saturation": 1.0, "hue": 0.0, "order": 0.0, "grey": 0.0,
    "blur": 0.0, "solarise": 0.0,
}  # fmt: skip
ADJUST = {
    "brightness": oracle.adjust_brightness, "contrast": oracle.adjust_contrast,
    "saturation": oracle.adjust_saturation, "hue": oracle.adjust_hue,
}  # fmt: skip


def test_values_of_nothing_change_nothing() -> None:
    for order in range(24):
        assert np.array_equal(augmentation.apply(PIXELS, {**NOTHING, "order": order}), PIXELS)


@pytest.mark.parametrize("order", [0, 5, 13, 23])
def test_colours_as_torchvision_makes_them(order: int) -> None:
    values = {"brightness": 0.7, "contrast": 1.35, "saturation": 0.85, "hue": -0.08}
    wanted = Image.fromarray(PIXELS)
    for name in augmentation.ORDERS[order]:
        wanted = ADJUST[name](wanted, values[name])
    found = augmentation.apply(PIXELS, {**NOTHING, **values, "order": order})
    assert np.array_equal(found, np.asarray(wanted))


def test_the_orders_are_all_of_them() -> None:
    assert len(set(augmentation.ORDERS)) == 24
    values = {**NOTHING, "brightness": 1.4, "contrast": 0.6, "saturation": 1.2, "hue": 0.1}
    made = {augmentation.apply(PIXELS, {**values, "order": o}).tobytes() for o in range(24)}
    assert len(made) > 6


def test_grey_solarise_and_their_order() -> None:
    grey = augmentation.apply(PIXELS, {**NOTHING, "grey": 1})
    assert (grey[..., 0] == grey[..., 1]).all() and (grey[..., 1] == grey[..., 2]).all()
    sun = augmentation.apply(PIXELS, {**NOTHING, "solarise": 1})
    assert np.array_equal(sun, np.where(PIXELS >= 128, 255 - PIXELS, PIXELS))
    both = augmentation.apply(PIXELS, {**NOTHING, "grey": 1, "solarise": 1})
    assert np.array_equal(both, np.where(grey >= 128, 255 - grey, grey))


def test_blur_is_a_share_of_the_side() -> None:
    """A point spreads with the standard deviation asked for, at any size."""
    for side in (56, 112):
        point = np.zeros((side, side, 3), np.uint8)
        point[side // 2 - 4 : side // 2 + 4, side // 2 - 4 : side // 2 + 4] = 255
        out = augmentation.apply(point, {**NOTHING, "blur": 4 / 56}).astype(float)[..., 0]
        place = np.arange(side) - side / 2 + 0.5
        variance = (out.sum(0) * place**2).sum() / out.sum()
        sigma = (variance - 64 / 12) ** 0.5  # of the square itself
        assert sigma == pytest.approx(4 / 56 * side, rel=0.1)
