"""Colour profiles, and what a PNG says of its colours, become sRGB."""

import io

import numpy as np
import odd_images as odd
import pytest
from odd_images import error, shown, with_profile
from PIL import Image, ImageCms

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")
GREY, COLOUR = odd.GREY, odd.COLOUR
ALPHA = np.full(odd.SHAPE, 128, np.uint8)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_a_profile_is_converted_to_srgb(kind: str) -> None:
    icc = odd.rgb_profile(odd.P3, None)
    source = Image.fromarray(COLOUR)
    wanted = ImageCms.profileToProfile(
        source, ImageCms.ImageCmsProfile(io.BytesIO(icc)), ImageCms.createProfile("sRGB")
    )
    assert wanted is not None
    assert np.abs(np.asarray(wanted).astype(int) - COLOUR).max() > 20
    assert error(with_profile(source, icc, kind), np.asarray(wanted)) <= 1


def test_a_profile_of_srgb_touches_nothing() -> None:
    for icc in (
        odd.rgb_profile(odd.SRGB, None),
        ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
    ):
        assert error(with_profile(Image.fromarray(COLOUR), icc, "PNG"), COLOUR) == 0


def test_a_profile_that_cannot_be_read_or_is_of_other_colours_is_passed_over() -> None:
    whole = odd.rgb_profile(odd.P3, 2.2)
    for icc in (b"nonsense", whole[:200], odd.grey_profile(1.0), odd.press_profile()):
        assert error(with_profile(Image.fromarray(COLOUR), icc, "PNG"), COLOUR) == 0


def test_profiles_of_greys_and_of_inks() -> None:
    linear = shown(with_profile(Image.fromarray(GREY), odd.grey_profile(1.0), "PNG"))
    assert abs(int(linear[0, 16, 0]) - 188) <= 2  # half the light
    ink = Image.merge("CMYK", [Image.new("L", (32, 24), v) for v in (0, 0, 0, 255)])
    dark = shown(with_profile(ink, odd.press_profile(), "TIFF"))
    assert (shown(with_profile(ink, b"", "TIFF")) == 0).all()
    assert np.abs(dark - 48).max() <= 4  # L* 20, not black


def test_alpha_and_profile_together() -> None:
    icc = odd.rgb_profile(odd.P3, None)
    half = Image.fromarray(np.dstack([COLOUR, ALPHA]))
    opaque = shown(with_profile(Image.fromarray(COLOUR), icc, "PNG"))
    wanted = np.rint(opaque * (128 / 255) + 127)
    assert error(with_profile(half, icc, "PNG"), wanted) <= 2


def test_gamma_of_a_png_as_browsers_show_it() -> None:
    def gamma(value: float, *more: tuple[bytes, bytes]) -> bytes:
        stated = round(value * 100000).to_bytes(4, "big")
        return odd.png(COLOUR, 8, 2, [(b"gAMA", stated), *more])

    assert error(gamma(1 / 2.2), COLOUR) == 0
    assert error(gamma(1.0, (b"sRGB", b"\0")), COLOUR) == 0  # which goes before
    light = shown(gamma(1.0))
    assert abs(int(light[0, 16, 0]) - 188) <= 2
    numbers = (31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)
    p3 = (b"cHRM", b"".join(n.to_bytes(4, "big") for n in numbers))
    icc = with_profile(Image.fromarray(COLOUR), odd.rgb_profile(odd.P3, None), "PNG")
    assert error(gamma(1 / 2.2, p3), shown(icc)) <= 2
    dark = np.full((24, 24), 128, np.uint8)
    for depth, values in ((8, dark), (16, dark.astype(">u2") * 257)):  # greys too
        grey = odd.png(values, depth, 0, [(b"gAMA", (100000).to_bytes(4, "big"))])
        assert abs(int(shown(grey)[0, 0, 0]) - 188) <= 2
    broken = (b"cHRM", b"\0" * 32)
    assert error(gamma(1 / 2.2, broken), COLOUR) == 0
