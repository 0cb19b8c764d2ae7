"""Images of any kind: upright, 8-bit RGB, or one clear line."""

import os
import struct
import sys
import types
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from stages.core.errors import UserError
from stages.images import reading, rendering

# Pillow's remarks are silenced by the module; pytest sets the filters anew for each test.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::RuntimeWarning")
NOISE = np.random.default_rng(0).integers(0, 256, (12, 20, 3), dtype=np.uint8)


def refusal(path: Path, function=reading.read) -> str:
    """The one line that an image is refused with; it names the file."""
    with pytest.raises(UserError) as error:
        function(path)
    line = str(error.value)
    assert "\n" not in line and str(path) in line
    return line


@pytest.mark.parametrize("kind", ["jpg", "png", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_upright_as_pillow_says_and_shape_agrees(tmp_path, kind, orientation):
    exif = Image.Exif()
    exif[reading.ORIENTATION] = orientation
    path = tmp_path / f"a.{kind}"
    options = {"lossless": True} if kind == "webp" else {}
    Image.fromarray(NOISE).save(path, exif=exif, **options)
    found = reading.read(path)
    with Image.open(path) as image:
        image.load()
        wanted = ImageOps.exif_transpose(image).convert("RGB")
    assert np.array_equal(np.asarray(found), np.asarray(wanted))
    assert reading.shape(path) == found.size == ((12, 20) if orientation > 4 else (20, 12))


def test_broken_exif_does_not_cost_the_image(tmp_path):
    path = tmp_path / "a.jpg"
    Image.fromarray(NOISE).save(path, exif=b"Exif\0\0MM\0*\xff\xff\xff\xffnonsense")
    assert reading.shape(path) == reading.read(path).size == (20, 12)


def test_cmyk_palette_grey_and_two_colours_become_rgb(tmp_path):
    flat = np.full((8, 8, 3), (204, 51, 102), np.uint8)  # of the web palette: no dither
    rgb = Image.fromarray(flat)
    for mode, name in (("CMYK", "a.jpg"), ("P", "a.png"), ("P", "a.gif"), ("CMYK", "a.tif")):
        rgb.convert(mode).save(tmp_path / name)
        found = reading.read(tmp_path / name)
        assert found.mode == "RGB"
        assert np.abs(np.asarray(found).astype(int) - flat).max() <= 4, name
    for mode in ("L", "1"):
        rgb.convert("L").convert(mode).save(tmp_path / "grey.png")
        pixels = np.asarray(reading.read(tmp_path / "grey.png"))
        assert pixels.shape == (8, 8, 3) and (pixels[..., 0] == pixels[..., 2]).all()


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.pgm"])
def test_sixteen_bits_are_scaled_not_cut(tmp_path, name):
    grey = np.arange(256, dtype=np.uint16).reshape(16, 16) * 257
    Image.fromarray(grey).save(tmp_path / name)
    found = np.asarray(reading.read(tmp_path / name))
    assert np.array_equal(found[..., 1], (grey // 257).astype(np.uint8))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "RGB"])
def test_what_is_transparent_shows_white(tmp_path, mode):
    path = tmp_path / "a.png"
    if mode in ("P", "RGB"):  # one colour is declared transparent
        black = Image.new(mode, (4, 4), 0)
        black.save(path, transparency=0 if mode == "P" else (0, 0, 0))
        wanted = 255
    else:
        half = Image.new("RGBA", (4, 4), (0, 0, 0, 64)).convert(mode)
        half.save(path)
        wanted = 191
    assert np.unique(np.asarray(reading.read(path))).tolist() == [wanted]


def test_first_frame_of_several(tmp_path):
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert reading.read(tmp_path / "a.gif").getpixel((0, 0)) == (255, 0, 0)


def test_one_pixel_and_a_very_long_image(tmp_path):
    Image.new("RGB", (1, 1), "red").save(tmp_path / "dot.png")
    dot = reading.read(tmp_path / "dot.png")
    view = {"x": 0.2, "y": 0.2, "width": 0.5, "height": 0.5, "flip": 1.0}
    assert rendering.render(dot, view, 16).shape == (16, 16, 3)
    assert rendering.plain(dot, None, 96).shape == (1, 1, 3)
    Image.new("RGB", (20_000, 3), "blue").save(tmp_path / "line.png")
    line = reading.read(tmp_path / "line.png")
    assert rendering.plain(line, None, 100).shape == (1, 100, 3)


def test_large_images_work_up_to_pillows_own_limit(tmp_path, monkeypatch):
    """Between the warning (89 Mpx) and the error (179 Mpx) an image is an image."""
    path = tmp_path / "wide.png"
    Image.new("L", (20_000, 3_000)).save(path)
    assert reading.shape(path) == (20_000, 3_000)
    assert reading.read(path).size == (20_000, 3_000)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 40_000_000)  # now above the warning
    assert reading.read(path).size == (20_000, 3_000)


def test_a_bomb_is_one_line(tmp_path):
    path = tmp_path / "bomb.png"
    Image.new("1", (8, 8)).save(path)
    content = bytearray(path.read_bytes())
    content[16:24] = struct.pack(">II", 60_000, 60_000)  # the size in the header
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    path.write_bytes(content)
    for function in (reading.read, reading.shape):
        assert "more than 178 million pixels" in refusal(path, function)


@pytest.mark.parametrize("kind", ["jpg", "png", "webp", "gif"])
def test_half_a_file_nothing_and_nonsense_are_one_line(tmp_path, kind):
    path = tmp_path / f"a.{kind}"
    Image.fromarray(NOISE).resize((200, 200)).save(path)
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"", b"not an image"):
        path.write_bytes(content)
        assert "leave it out" in refusal(path)
    assert "no such image" in refusal(tmp_path / "absent.png")
    assert "no such image" in refusal(tmp_path / "absent.png", reading.shape)


@pytest.mark.parametrize("name", ["a.eps", "a.jpg"])
def test_an_eps_is_no_image_and_reaches_no_ghostscript(tmp_path, monkeypatch, name):
    from PIL import EpsImagePlugin

    def ghostscript(*arguments, **more):
        raise AssertionError("Ghostscript was asked")

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", ghostscript)
    path = tmp_path / name
    Image.fromarray(NOISE).save(path, "EPS")
    for function in (reading.read, reading.shape):
        assert "cannot identify" in refusal(path, function)
    with pytest.raises(UserError, match="cannot identify"):
        reading.read(Path("sent.jpg"), path.read_bytes())


def test_the_shape_of_a_tiff_decodes_nothing(tmp_path, monkeypatch):
    from PIL import TiffImagePlugin

    path = tmp_path / "a.tif"
    Image.fromarray(NOISE).save(path, exif=Image.Exif())
    monkeypatch.setattr(TiffImagePlugin.TiffImageFile, "load", None)
    assert reading.shape(path) == (20, 12)


def test_every_suffix_has_a_reader(tmp_path):
    for suffix in sorted(reading.SUFFIXES - set(reading.HEIF)):
        mode = {".pbm": "1", ".pgm": "L", ".pfm": "F"}.get(suffix, "RGB")
        Image.fromarray(NOISE).convert(mode).save(tmp_path / f"a{suffix}")
        assert reading.read(tmp_path / f"a{suffix}").size == (20, 12)


def test_heic_without_its_reader_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "a.HEIC").write_bytes(b"\0" * 64)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    reading.heif.cache_clear()
    assert "pip install pillow-heif" in refusal(tmp_path / "a.HEIC")
    called = []
    reader = types.SimpleNamespace(register_heif_opener=lambda: called.append(1))
    monkeypatch.setitem(sys.modules, "pillow_heif", reader)
    reading.heif.cache_clear()
    assert "cannot be read" in refusal(tmp_path / "a.HEIC")
    assert called == [1]
    reading.heif.cache_clear()


def test_heic_images_are_read_where_the_extra_is_installed(tmp_path):
    pillow_heif = pytest.importorskip("pillow_heif")
    reading.heif.cache_clear()
    pillow_heif.register_heif_opener()
    flat = Image.new("RGB", (40, 30), (200, 60, 20))
    exif = Image.Exif()
    exif[reading.ORIENTATION] = 6
    flat.save(tmp_path / "a.heic", quality=95)
    found = reading.read(tmp_path / "a.heic")
    assert found.size == (40, 30) == reading.shape(tmp_path / "a.heic")
    assert np.abs(np.asarray(found).astype(int) - (200, 60, 20)).max() < 8
    assert reading.read(Path("sent.HEIC"), (tmp_path / "a.heic").read_bytes()).size == (40, 30)


def test_bytes_are_read_as_a_file_is(tmp_path):
    Image.fromarray(NOISE).save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    assert np.array_equal(np.asarray(reading.read(Path("sent"), data)), NOISE)
    assert reading.shape(Path("sent"), data) == (20, 12)
    with pytest.raises(
        UserError, match=r"^sent: cannot be read as an image \(cannot identify image file\)"
    ):
        reading.read(Path("sent"), b"no image")


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["pipe", "folder"])
def test_pipes_and_folders_are_no_images(make, tmp_path: Path) -> None:
    make(tmp_path / "x.jpg")
    for function in (reading.read, reading.shape, reading.check):
        with pytest.raises(UserError, match="x.jpg: not a file"):
            function(tmp_path / "x.jpg")
