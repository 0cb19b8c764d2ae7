"""A PNG whose texts or profile are long is an image like any other."""

import os
import zlib
from pathlib import Path

import numpy as np
import odd_images as odd
import pytest
from odd_images import error, with_profile
from PIL import Image, PngImagePlugin

from stages.datasets import _images
from stages.images import reading

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")
COLOUR = odd.COLOUR


LONG_TEXTS = {
    "zTXt": ([(b"zTXt", b"prompt\0\0" + zlib.compress(b"x" * 3_000_000))], []),
    "iTXt": ([(b"iTXt", b"workflow\0\1\0\0\0" + zlib.compress(b"y" * 2_000_000))], []),
    "behind the pixels": ([], [(b"zTXt", b"late\0\0" + zlib.compress(b"z" * 3_000_000))]),
    "70 MB in short ones": ([(b"tEXt", b"a\0" + b"x" * 1_000_000)] * 70, []),
    "bomb": ([(b"zTXt", b"bomb\0\0" + zlib.compress(b"\0" * 300_000_000))], []),
    "broken": ([(b"zTXt", b"odd\0\0" + b"x" * 90_000)], []),
    "profile of 1.5 MB": ([(b"iCCP", b"p\0\0" + zlib.compress(os.urandom(100) * 15000))], []),
}


@pytest.mark.parametrize("name", LONG_TEXTS)
def test_long_metadata_cost_no_pixels(name: str, tmp_path: Path) -> None:
    before, after = LONG_TEXTS[name]
    data = odd.png(COLOUR, 8, 2, before, after)
    assert error(data, COLOUR) == 0
    (tmp_path / "a.png").write_bytes(data)
    assert reading.shape(tmp_path / "a.png") == (32, 24)
    assert _images.below(tmp_path) == (["a.png"], [])


def test_a_long_profile_counts_and_a_turn_beside_long_texts_too(tmp_path: Path) -> None:
    icc = odd.rgb_profile(odd.P3, None)
    padded = icc + os.urandom(200_000)
    padded = len(padded).to_bytes(4, "big") + padded[4:]
    assert error(with_profile(Image.fromarray(COLOUR), padded, "PNG"), COLOUR) > 20
    exif, texts = Image.Exif(), PngImagePlugin.PngInfo()
    exif[reading.ORIENTATION] = 6
    texts.add_text("prompt", "x" * 3_000_000, zip=True)
    Image.fromarray(COLOUR).save(tmp_path / "a.png", exif=exif, pnginfo=texts)
    found = np.asarray(reading.read(tmp_path / "a.png"))
    assert np.array_equal(found, np.rot90(COLOUR, -1)) and reading.shape(tmp_path / "a.png") == (
        24,
        32,
    )
