"""Depths, alphas, photometric tags: the pixels of a viewer, or why not."""

import io
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import odd_images as odd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from odd_images import error, refusal, shown
from PIL import Image

from stages.core.errors import UserError
from stages.datasets import _images

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")
GREY, COLOUR = odd.GREY, odd.COLOUR
WIDE, LONG = GREY.astype(np.uint16) * 257, GREY.astype(np.int64)
ALPHA = np.full(odd.SHAPE, 128, np.uint8)


def one(values: np.ndarray, dtype: str, bits: int, photo: int = 1, **more: Any) -> bytes:
    return odd.tiff([values.astype(dtype).tobytes()], odd.tags(bits, photo, **more), dtype[0])


def floating(values: np.ndarray) -> bytes:
    return one(values, "<f4", 32, kind=3)


GREYS = {
    "float 0 to 1": floating(GREY / 255),
    "float 0 to 255": floating(GREY * 1.0),
    "float 0 to 65535": floating(GREY * 257.0),
    "float, white is zero": one(1 - GREY / 255, "<f4", 32, 0, kind=3),
    "int32": one(LONG * (2**31 - 1) // 255, "<i4", 32, kind=2),
    "uint32": one(LONG * 16843009, "<u4", 32),
    "int16": one(LONG * 32767 // 255, "<i2", 16, kind=2),
    "int16, big-endian": one(LONG * 32767 // 255, ">i2", 16, kind=2),
    "uint16, white is zero": one(65535 - LONG * 257, "<u2", 16, 0),
    "uint8, white is zero": one(255 - LONG, "<u1", 8, 0),
    "12 bits in 16, the maximum stated": one(LONG * 4095 // 255, "<u2", 16, most=4095),
    "10 bits in 16, the maximum stated": one(LONG * 1023 // 255, "<u2", 16, most=1023),
    "16-bit PNG": odd.png(WIDE, 16, 0),
    "12-bit PNG, scaled as it ought to be": odd.png(
        WIDE // 4112 * 4112, 16, 0, [(b"sBIT", b"\x0c")]
    ),
    "PFM": b"Pf\n32 24\n-1.0\n" + (GREY[::-1] / 255).astype("<f4").tobytes(),
    "PGM of 10 bits": b"P5 32 24 1023\n" + (LONG * 1023 // 255).astype(">u2").tobytes(),
}


@pytest.mark.parametrize("name", GREYS)
def test_unusual_depths_are_shown_as_they_are_meant(name: str) -> None:
    wanted = GREY // 16 * 16 if "scaled" in name else GREY
    assert error(GREYS[name], wanted) <= 2


def test_twelve_unscaled_bits_of_a_png_are_scaled_where_it_says_so() -> None:
    twelve = (LONG * 4095 // 255).astype(np.uint16)
    assert error(odd.png(twelve, 16, 0, [(b"sBIT", b"\x0c")]), GREY) <= 2
    dark = (twelve >> 4 << 4).astype(np.uint16)  # scaled, and nearly black indeed
    assert "nearly black" in refusal(odd.png(dark, 16, 0, [(b"sBIT", b"\x0c")]))


REFUSED = {
    "12 bits in 16 without a word": (one(LONG * 16, "<u2", 16), "nearly black"),
    "8 bits in 32": (one(LONG, "<i4", 32, kind=2), "nearly black"),
    "12 bits of colour in 16": (
        odd.tiff([(COLOUR.astype("<u2") * 16).tobytes()], odd.tags(16, 2, 3)), "nearly black"),
    "a sign that is used": (one(LONG * 200 - 20000, "<i2", 16, kind=2), "integers from -20000"),
    "8 bits with a sign": (one(LONG // 2, "<i1", 8, kind=2), "with a sign"),
    "not a number": (floating(np.where(GREY > 200, np.nan, GREY / 255)), "NaN"),
    "below zero": (floating(GREY / 128 - 1), "floating point from -1"),
    "beyond all ranges": (floating(GREY * 1e4), "floating point from 0"),
    "a little above 1": (floating(GREY / 200), "nearly black"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_viewers_do_not_agree_on_is_left_out_by_name(name: str, tmp_path: Path) -> None:
    data, why = REFUSED[name]
    assert why in refusal(data)
    (tmp_path / "odd.tif").write_bytes(data)
    Image.fromarray(COLOUR).save(tmp_path / "good.png")
    good, notes = _images.below(tmp_path)
    assert good == ["good.png"] and "odd.tif" in " ".join(notes) and why in " ".join(notes)


@pytest.mark.parametrize("packed", [1, 8])
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("order", ["<", ">"])
def test_planes_of_colours(order: str, bits: int, packed: int) -> None:
    values = COLOUR if bits == 8 else (COLOUR.astype(np.uint16) * 257).astype(f"{order}u2")
    planes = [np.ascontiguousarray(values[..., i]).tobytes() for i in range(3)]
    if packed == 8:
        planes = [zlib.compress(p) for p in planes]
    by = odd.tags(bits, 2, 3, planar=2, packed=packed)
    assert error(odd.tiff(planes, by, order), COLOUR) == 0


def premultiplied() -> np.ndarray:
    return (COLOUR.astype(int) * 128 // 255).astype(np.uint8)


ON_WHITE = np.rint(COLOUR * (128 / 255) + 255 * (127 / 255)).astype(int)
MULTIPLIED = np.dstack([premultiplied(), ALPHA])
ALPHAS = {
    "associated": odd.tiff([MULTIPLIED.tobytes()], odd.tags(8, 2, 4, extra=1)),
    "associated, in planes": odd.tiff(
        [zlib.compress(np.ascontiguousarray(MULTIPLIED[..., i]).tobytes()) for i in range(4)],
        odd.tags(8, 2, 4, extra=1, planar=2, packed=8)),
    "unassociated": odd.tiff([np.dstack([COLOUR, ALPHA]).tobytes()], odd.tags(8, 2, 4, extra=2)),
    "16 bits": odd.png(np.dstack([COLOUR, ALPHA]).astype(np.uint16) * 257, 16, 6),
}  # fmt: skip


@pytest.mark.parametrize("name", ALPHAS)
def test_half_transparent_colours_lie_on_white(name: str) -> None:
    assert error(ALPHAS[name], ON_WHITE) <= 2


def test_grey_with_alpha() -> None:
    wanted = ON_WHITE[..., 0]
    half = (GREY.astype(int) * 128 // 255).astype(np.uint8)
    by = odd.tags(8, 1, 2, extra=1)
    assert error(odd.tiff([np.dstack([half, ALPHA]).tobytes()], by), wanted) <= 2
    both = np.dstack([GREY, ALPHA]).astype(np.uint16) * 257
    assert error(odd.png(both, 16, 4), wanted) <= 2


@pytest.mark.parametrize(("bits", "packed"), [(1, 0b10000000), (2, 0b11000110), (4, 0xF0)])
def test_the_transparent_value_of_a_grey_png_is_of_its_own_depth(bits: int, packed: int) -> None:
    """The first pixel has the largest value, declared transparent; the second is black, or grey."""
    top = (1 << bits) - 1
    rows = np.array([[packed]], np.uint8)
    dark = odd.png(rows, bits, 0, [(b"tRNS", top.to_bytes(2, "big"))])
    grey = np.array([[0]], np.uint8)
    black = odd.png(grey, bits, 0, [(b"tRNS", b"\0\0")])
    assert shown(dark)[0, 0].tolist() == [255] * 3 and (shown(black) == 255).all()


def test_the_transparent_value_of_sixteen_bits() -> None:
    wide = np.array([[30000, 60000]], np.uint16)
    assert shown(
        odd.png(wide, 16, 0, [(b"tRNS", wide[0, :1].astype(">u2").tobytes())])
    ).tolist() == [[[255] * 3, [233] * 3]]
    colour = np.array([[[30000, 20000, 10000], [65535, 0, 0]]], np.uint16)
    hidden = [(b"tRNS", colour[0, 0].astype(">u2").tobytes())]
    assert shown(odd.png(colour, 16, 2, hidden)).tolist() == [[[255] * 3, [255, 0, 0]]]


def test_a_fourth_byte_that_is_no_alpha() -> None:
    """Every pixel of alpha zero, in the formats whose writers leave the byte empty."""
    empty = Image.fromarray(np.dstack([COLOUR, np.zeros(odd.SHAPE, np.uint8)]))
    for kind, wanted in (("TGA", COLOUR), ("PNG", np.full_like(COLOUR, 255))):
        out = io.BytesIO()
        empty.save(out, kind)
        assert error(out.getvalue(), wanted) == 0, kind


def test_a_gif_whose_first_frame_is_smaller_than_its_canvas() -> None:
    frame = io.BytesIO()
    Image.new("P", (4, 4), 0).save(frame, "GIF")
    raw = bytearray(frame.getvalue())
    raw[6:10] = b"\x08\0\x08\0"  # the canvas
    pixels = shown(bytes(raw))
    assert (
        (pixels[:4, :4] == 0).all() and (pixels[4:] == 255).all() and (pixels[:, 4:] == 255).all()
    )


def test_a_colour_map_of_eight_bits() -> None:
    """Some programs write it so; libtiff and viewers look whether any value is above 255."""
    by = odd.tags(8, 3)
    for scale in (1, 257):
        by[320] = ("H", [v * scale for v in (*range(256), *reversed(range(256)), *([7] * 256))])
        wanted = np.stack([GREY, 255 - GREY, np.full_like(GREY, 7)], -1)
        assert error(odd.tiff([GREY.tobytes()], by), wanted) == 0


def test_lab_and_other_modes_of_pillow() -> None:
    lab = np.stack([GREY, np.zeros_like(GREY), np.zeros_like(GREY)], -1)
    pixels = shown(odd.tiff([lab.tobytes()], odd.tags(8, 8, 3)))
    assert np.ptp(pixels, axis=-1).max() <= 2 and np.ptp(pixels) > 200  # a ramp of greys
    assert abs(int(pixels[0, 16, 0]) - 119) <= 3  # L* 50


@settings(max_examples=60, deadline=None)
@given(
    bits=st.sampled_from([8, 16, 32]),
    white_is_zero=st.booleans(),
    order=st.sampled_from(["<", ">"]),
    stated=st.booleans(),
    used=st.integers(2, 16),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_grey_tiff_is_right_to_two_levels_or_refused(
    bits: int, white_is_zero: bool, order: str, stated: bool, used: int, seed: int
) -> None:
    """Of whatever depth, byte order, photometric tag and stated maximum."""
    used = min(used, bits)
    values = np.random.default_rng(seed).integers(0, 1 << used, odd.SHAPE, dtype=np.int64)
    values[0, 0] = (1 << used) - 1
    if bits == 8 or not stated:
        values = values << (bits - used)  # of all the bits that there are
    top = (1 << used) - 1 if stated and bits == 16 else (1 << bits) - 1
    kept = top - values if white_is_zero and values.max() <= top else values
    more = {"most": top} if stated and bits == 16 else {}
    data = one(kept, f"{order}u{bits // 8}", bits, 0 if white_is_zero else 1, **more)
    try:
        pixels = shown(data)
    except UserError as told:
        assert "a: " in str(told)
        return
    assert np.abs(pixels[..., 0] - values * 255 / top).max() <= 2
