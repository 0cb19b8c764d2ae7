"""What a video's views do to colours and sharpness, replayed exactly; Pillow and numpy only.

The steps and their order are those of the self-supervised recipes (BYOL, Barlow Twins, MoCo v3):
colour jitter in a drawn order, grey, blur, solarise. A value of a view says what is done, not how
likely it was: 1 (brightness, contrast, saturation) and 0 (the others) change nothing.
"""

from itertools import permutations

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

ORDERS = tuple(permutations(("brightness", "contrast", "saturation", "hue")))
SOLARISE_FROM = 128  # values from here on are inverted
ENHANCE = {
    "brightness": ImageEnhance.Brightness, "contrast": ImageEnhance.Contrast,
    "saturation": ImageEnhance.Color,
}  # fmt: skip


def apply(pixels: np.ndarray, view: dict[str, float]) -> np.ndarray:
    """(px, px, 3) uint8 pixels after the effects of `view`, another array of the same form.

    `order` is a row of ORDERS, `hue` a share of the circle, `blur` the standard deviation of a
    Gaussian as a share of the side, `grey` and `solarise` 0 or 1.
    """
    out = Image.fromarray(pixels)
    for name in ORDERS[int(view["order"])]:
        if name == "hue":
            out = _turned(out, view["hue"])
        elif view[name] != 1:
            out = ENHANCE[name](out).enhance(view[name])
    if view["grey"] >= 0.5:
        out = out.convert("L").convert("RGB")
    if view["blur"] > 0:
        out = out.filter(ImageFilter.GaussianBlur(view["blur"] * out.width))
    if view["solarise"] >= 0.5:
        out = ImageOps.solarize(out, SOLARISE_FROM)
    return np.asarray(out)


def _turned(image: Image.Image, hue: float) -> Image.Image:
    """The image with its hues turned by `hue` of the circle, in steps of 1/255."""
    if not (steps := int(hue * 255)):
        return image
    hsv = np.array(image.convert("HSV"))
    hsv[..., 0] += np.uint8(steps % 256)  # goes round by itself
    return Image.fromarray(hsv, "HSV").convert("RGB")
