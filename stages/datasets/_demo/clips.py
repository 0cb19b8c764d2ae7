"""Generated video clips: shots of landmarks, what people do to a video, and the encoder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter

from ...core import files
from .buildings import generator, pick, shade
from .facades import facade
from .scenes import look, render

STILL = 1.6  # long side of a shot's image over a video's height: room to move in
DIFFICULTY = 0.4  # of the landmarks' images
CODECS = (("libx264", (26, 36)), ("libx264", (30, 42)), ("mpeg4", (6, 14)))
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Shot:
    """An image, and the window that moves over it from `begin` to `end` in `seconds`."""

    still: Image.Image
    begin: Box
    end: Box
    seconds: float


@dataclass(frozen=True)
class Clip:
    """A video before it is encoded: shots in a row, each frame `size` (width, height)."""

    shots: tuple[Shot, ...]
    size: tuple[int, int]

    @property
    def seconds(self) -> float:
        """Length of the clip."""
        return sum(s.seconds for s in self.shots)

    def frame(self, time: float) -> Image.Image:
        """The image at `time` seconds, the last one after the end."""
        for shot in self.shots:
            if time < shot.seconds or shot is self.shots[-1]:
                share = min(time / shot.seconds, 1.0)
                box = [a + (b - a) * share for a, b in zip(shot.begin, shot.end, strict=True)]
                x0, y0, x1, y1 = box
                return shot.still.resize(self.size, Image.Resampling.BILINEAR, (x0, y0, x1, y1))
            time -= shot.seconds
        raise AssertionError("a clip has shots")


@dataclass(frozen=True)
class Edit:
    """What becomes of a clip: the part that is kept, its speed, and what is done to frames."""

    part: tuple[float, float]  # shares of the clip
    speed: float
    mirrored: bool
    crop: Box  # shares of the frame
    inside: float  # share of the frame that the image fills, the rest is a border
    border: tuple[int, int, int] | None  # its colour; None: the image itself, blurred
    strip: tuple[int, int, int] | None  # colour of a strip of text
    stickers: tuple[tuple[float, float, float, tuple[int, int, int]], ...]
    light: tuple[float, float, float]  # brightness, contrast, saturation
    codec: str
    quality: int


def source(
    seed: int, kind: str, number: int, size: tuple[int, int], longest: int, take: int = 0
) -> Clip:
    """Source video `number`: 2 to 4 shots of two landmarks; another `take` shows them otherwise."""
    rng = generator(seed, "clip", kind, number, take)
    count = int(rng.integers(2, 5))
    seconds = longest * rng.uniform(0.55, 1.0)
    cuts = rng.dirichlet(np.full(count, 6.0)) * seconds
    buildings = [facade(seed, f"video-{kind}", 2 * number + n, 0.0) for n in range(2)]
    shots = []
    for n in range(count):
        building = buildings[n % 2]
        for _ in range(20):
            seen = look(building, rng, int(size[1] * STILL), DIFFICULTY)
            if seen.visible > 0.6:
                break
        still = render(building, seen, rng, DIFFICULTY)
        shots.append(Shot(still, _window(rng, still, size), _window(rng, still, size), cuts[n]))
    return Clip(tuple(shots), size)


def _window(rng: np.random.Generator, still: Image.Image, size: tuple[int, int]) -> Box:
    """A window of the video's shape, somewhere in the image, most of it."""
    scale = min(still.width / size[0], still.height / size[1]) * rng.uniform(0.75, 1.0)
    w, h = size[0] * scale, size[1] * scale
    x, y = rng.uniform(0, still.width - w), rng.uniform(0, still.height - h)
    return x, y, x + w, y + h


def plain(seed: int, name: str) -> Edit:
    """Nothing but an encoder."""
    quality = int(generator(seed, "plain", name).integers(22, 30))
    whole = (0.0, 0.0, 1.0, 1.0)
    return Edit(
        (0.0, 1.0), 1.0, False, whole, 1.0, None, None, (), (1.0, 1.0, 1.0), "libx264", quality
    )


def edit(seed: int, name: str, difficulty: float) -> Edit:
    """What somebody did to a video; the difficulty says how much of it."""
    rng = generator(seed, "edit", name)
    often = 0.35 + 0.5 * difficulty

    def does() -> bool:
        return bool(rng.random() < often)

    def colour() -> tuple[int, int, int]:
        r, g, b = rng.integers(0, 256, 3).tolist()
        return r, g, b

    length = rng.uniform(1 - 0.7 * difficulty, 1.0) if does() else 1.0
    begin = rng.uniform(0, 1 - length)
    side = rng.uniform(1 - 0.55 * difficulty, 1.0) if does() else 1.0
    x, y = rng.uniform(0, 1 - side, 2)
    light = np.exp(rng.normal(0, 0.35 * difficulty, 3)) if does() else np.ones(3)
    codec, (low, high) = pick(rng, CODECS)
    return Edit(
        part=(begin, begin + length),
        speed=float(np.exp(rng.uniform(-0.5, 0.5) * difficulty)) if does() else 1.0,
        mirrored=bool(rng.random() < 0.4 * difficulty),
        crop=(x, y, x + side, y + side),
        inside=float(rng.uniform(0.95 - 0.45 * difficulty, 0.95)) if does() else 1.0,
        border=colour() if rng.random() < 0.6 else None,
        strip=colour() if does() else None,
        stickers=tuple(
            (rng.random(), rng.random(), rng.uniform(0.1, 0.15 + 0.3 * difficulty), colour())
            for _ in range(int(rng.integers(1, 4)) if does() else 0)
        ),
        light=(float(light[0]), float(light[1]), float(light[2])),
        codec=codec,
        quality=int(rng.integers(low, high)),
    )


def encode(path: Path, clip: Clip, by: Edit, size: tuple[int, int], fps: int) -> None:
    """Write `clip` edited as an .mp4, whole or not at all."""
    import av

    begin, end = (share * clip.seconds for share in by.part)
    count = max(int((end - begin) / by.speed * fps), 1)
    # x264's code for the widest registers gives other bytes from run to run
    exact = {"crf": str(by.quality), "x264-params": "cpu-independent=1"}
    option = exact if by.codec == "libx264" else {}
    with (
        files.atomic(path, sync=False) as scratch,
        av.open(str(scratch), "w", format="mp4") as container,
    ):
        stream: Any = container.add_stream(
            by.codec, rate=fps, options={"preset": "veryfast", **option}
        )
        stream.width, stream.height, stream.pix_fmt = size[0], size[1], "yuv420p"
        stream.codec_context.thread_count = 1
        if by.codec == "mpeg4":
            stream.codec_context.qmin = stream.codec_context.qmax = by.quality
        for n in range(count):
            image = _edited(clip.frame(begin + n * by.speed / fps), by)
            container.mux(stream.encode(av.VideoFrame.from_image(image)))
        container.mux(stream.encode())


def _edited(image: Image.Image, by: Edit) -> Image.Image:
    """One frame, edited: crop, mirror, light, border, stickers, strip."""
    w, h = image.size
    if by.crop != (0, 0, 1, 1):
        box = (by.crop[0] * w, by.crop[1] * h, by.crop[2] * w, by.crop[3] * h)
        image = image.resize((w, h), Image.Resampling.BILINEAR, box)
    if by.mirrored:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    enhancers = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)
    for enhance, value in zip(enhancers, by.light, strict=True):
        if value != 1:
            image = enhance(image).enhance(value)
    if by.inside < 1:
        page = Image.new("RGB", (w, h), by.border) if by.border else _blurred(image)
        small = image.resize((round(w * by.inside), round(h * by.inside)))
        page.paste(small, ((w - small.width) // 2, (h - small.height) // 2))
        image = page
    return _drawn_on(image, by)


def _blurred(image: Image.Image) -> Image.Image:
    return image.filter(ImageFilter.BoxBlur(image.height / 12))


def _drawn_on(image: Image.Image, by: Edit) -> Image.Image:
    """Stickers (discs with a ring) and a strip of what looks like text."""
    if not by.stickers and by.strip is None:
        return image
    w, h = image.size
    draw = ImageDraw.Draw(image)
    for x, y, size, colour in by.stickers:
        r = size * w / 2
        box = (x * w - r, y * h - r, x * w + r, y * h + r)
        draw.ellipse(box, fill=colour, outline=shade(colour, 0.4), width=max(int(r / 6), 1))
    if by.strip is not None:
        top = int(0.84 * h)
        draw.rectangle((0, top, w, int(0.95 * h)), fill=by.strip)
        ink = (0, 0, 0) if sum(by.strip) > 380 else (255, 255, 255)
        for n in range(9):
            left = (0.05 + 0.1 * n) * w
            draw.rectangle((left, top + 0.03 * h, left + 0.06 * w, top + 0.07 * h), fill=ink)
    return image
