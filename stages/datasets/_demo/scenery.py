"""What surrounds a building of the demo world: sky, ground and far things; people, trees, vans."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from .buildings import Colour, shade

SKIES: tuple[tuple[Colour, Colour], ...] = (  # zenith, horizon
    ((72, 128, 200), (190, 216, 236)), ((120, 164, 210), (226, 232, 236)),
    ((176, 184, 192), (216, 218, 220)), ((94, 104, 130), (240, 188, 140)),
    ((52, 66, 110), (150, 150, 178)), ((206, 214, 222), (240, 240, 238)),
)  # fmt: skip
GROUNDS: tuple[Colour, ...] = (
    (104, 136, 74), (140, 134, 124), (92, 92, 96), (176, 160, 128), (126, 116, 96), (84, 112, 132),
)  # fmt: skip
LEAVES: tuple[Colour, ...] = ((60, 96, 48), (84, 116, 56), (116, 112, 52), (150, 96, 44))
COATS: tuple[Colour, ...] = (
    (44, 48, 60), (150, 50, 48), (210, 206, 196), (60, 92, 130), (196, 160, 70),
)  # fmt: skip


def _cloud(rng: np.random.Generator, frame: tuple[int, int], cells: int) -> Image.Image:
    """Smooth random grey, the size of the frame."""
    coarse = rng.integers(0, 256, (cells, cells), dtype=np.uint8)
    return Image.fromarray(coarse).resize(frame, Image.Resampling.BICUBIC)


def backdrop(
    rng: np.random.Generator, frame: tuple[int, int], corners: np.ndarray, difficulty: float
) -> Image.Image:
    """Sky with clouds, houses or trees far away, and the ground."""
    width, height = frame
    top, bottom = SKIES[int(rng.integers(len(SKIES)))]
    ramp = np.linspace(0, 1, height)[:, None, None]
    sky = np.array(top) * (1 - ramp) + np.array(bottom) * ramp
    image = Image.fromarray(sky.astype(np.uint8)).resize(frame, Image.Resampling.NEAREST)
    clouds = _cloud(rng, frame, int(rng.integers(3, 9)))
    strength = float(rng.uniform(0.4, 2.2))
    cover = [min(255, int(max(0, grey - 130) * strength)) for grey in range(256)]
    image.paste((246, 246, 246), (0, 0), clouds.point(cover))
    base = corners[2:, 1]
    horizon = float(base.min() - rng.uniform(0, 0.05) * height)
    canvas = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(0, 3 + round(6 * difficulty)))):
        _far_thing(canvas, rng, frame, horizon)
    ground = GROUNDS[int(rng.integers(len(GROUNDS)))]
    if horizon < height:
        canvas.rectangle((0, horizon, width, height), ground)
        path = ((0, height), (width * rng.uniform(-0.5, 1.5), horizon),
                (width * rng.uniform(0, 1), height))  # fmt: skip
        canvas.polygon(path, shade(ground, rng.uniform(0.75, 1.2)))
    return image


def _far_thing(
    canvas: ImageDraw.ImageDraw, rng: np.random.Generator, frame: tuple[int, int], horizon: float
) -> None:
    """A house or a tree behind the landmark."""
    width, height = frame
    x, wide = rng.uniform(-0.1, 1.1) * width, rng.uniform(0.06, 0.2) * width
    tall = rng.uniform(0.08, 0.45) * height
    if rng.random() < 0.4:
        leaf = shade(LEAVES[int(rng.integers(len(LEAVES)))], rng.uniform(0.8, 1.2))
        canvas.rectangle((x - 2, horizon - tall / 2, x + 2, horizon), (84, 66, 52))
        canvas.ellipse((x - wide / 2, horizon - tall, x + wide / 2, horizon - tall / 4), leaf)
        return
    red, green, blue = (rng.integers(110, 220) + rng.integers(-20, 20, 3)).tolist()
    wall = (red, green, blue)
    canvas.rectangle((x, horizon - tall, x + wide, horizon), wall)
    if rng.random() < 0.5:
        roof = ((x - 2, horizon - tall), (x + wide + 2, horizon - tall),
                (x + wide / 2, horizon - tall - wide / 2))  # fmt: skip
        canvas.polygon(roof, shade(wall, 0.6))
    cell = max(6.0, wide / 5)
    for row in np.arange(horizon - tall + cell / 2, horizon - cell, 1.5 * cell):
        for column in np.arange(x + cell / 2, x + wide - cell / 2, 1.4 * cell):
            canvas.rectangle((column, row, column + cell / 2, row + 0.8 * cell), shade(wall, 0.55))


def occluders(rng: np.random.Generator, frame: tuple[int, int], strength: float) -> Image.Image:
    """What stands before the building: people, trees, lamp posts, vans. RGBA of the frame."""
    front = Image.new("RGBA", frame, (0, 0, 0, 0))
    canvas = ImageDraw.Draw(front)
    for _ in range(int(rng.poisson(0.3 + 3.5 * strength))):
        kind = float(rng.random())
        if kind < 0.45:
            _person(canvas, rng, frame)
        elif kind < 0.7:
            _tree(canvas, rng, frame)
        elif kind < 0.85:
            _van(canvas, rng, frame)
        else:
            x, thick = rng.uniform(0, frame[0]), rng.uniform(0.008, 0.03) * frame[0]
            canvas.rectangle((x, 0, x + thick, frame[1]), (50, 50, 54, 255))
    return front


def _person(canvas: ImageDraw.ImageDraw, rng: np.random.Generator, frame: tuple[int, int]) -> None:
    x, tall = rng.uniform(0, frame[0]), rng.uniform(0.15, 0.42) * frame[1]
    wide, head = tall * 0.28, tall * 0.09
    top = frame[1] * rng.uniform(0.96, 1.2) - tall
    coat = (*COATS[int(rng.integers(len(COATS)))], 255)
    canvas.rectangle((x - wide / 3, top + tall / 2, x + wide / 3, top + tall), (46, 46, 58, 255))
    canvas.rounded_rectangle((x - wide / 2, top + 2 * head, x + wide / 2, top + tall * 0.62),
                             wide / 3, coat)  # fmt: skip
    canvas.ellipse((x - head, top, x + head, top + 2.2 * head), (212, 168, 140, 255))


def _tree(canvas: ImageDraw.ImageDraw, rng: np.random.Generator, frame: tuple[int, int]) -> None:
    x, crown = rng.uniform(0, frame[0]), rng.uniform(0.07, 0.2) * frame[0]
    y = rng.uniform(0.1, 0.7) * frame[1]
    leaf = LEAVES[int(rng.integers(len(LEAVES)))]
    canvas.rectangle((x - crown / 8, y, x + crown / 8, frame[1]), (80, 62, 48, 255))
    for _ in range(14):
        dx, dy = rng.normal(0, crown * 0.45, 2)
        radius = crown * rng.uniform(0.25, 0.5)
        spot = (x + dx - radius, y + dy - radius, x + dx + radius, y + dy + radius)
        canvas.ellipse(spot, (*shade(leaf, rng.uniform(0.75, 1.3)), 255))


def _van(canvas: ImageDraw.ImageDraw, rng: np.random.Generator, frame: tuple[int, int]) -> None:
    x, wide = rng.uniform(-0.2, 0.9) * frame[0], rng.uniform(0.2, 0.45) * frame[0]
    tall = wide * rng.uniform(0.4, 0.6)
    top = frame[1] * rng.uniform(0.92, 1.08) - tall
    paint = (*COATS[int(rng.integers(len(COATS)))], 255)
    canvas.rounded_rectangle((x, top, x + wide, top + 0.85 * tall), tall / 8, paint)
    canvas.rectangle((x + wide * 0.1, top + tall * 0.12, x + wide * 0.9, top + tall * 0.4),
                     (60, 72, 84, 255))  # fmt: skip
    for share in (0.22, 0.78):
        cx, cy, radius = x + wide * share, top + 0.85 * tall, tall * 0.16
        canvas.ellipse((cx - radius, cy - radius, cx + radius, cy + radius), (30, 30, 32, 255))
