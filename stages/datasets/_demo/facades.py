"""Buildings of the demo world drawn as flat facades: walls, windows, roofs, doors and marks.

Each carries one or two small coloured marks; near-twins share all but these and the door.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from .buildings import (
    GROUND,
    SIDE,
    Block,
    Colour,
    Style,
    generator,
    pick,
    plan_blocks,
    plan_style,
    shade,  # fmt: skip
)

MARKS: tuple[Colour, ...] = (
    (214, 38, 44), (30, 92, 200), (244, 196, 32), (28, 150, 76), (150, 50, 160), (240, 120, 24),
    (250, 250, 250), (20, 170, 190),
)  # fmt: skip
MARK_KINDS = ("banner", "sign", "disc", "diamond", "flag")


def facade(seed: int, family: str, number: int, twins: float) -> Image.Image:
    """The building `number` of `family`: RGBA, cropped to what is drawn, transparent elsewhere.

    Its last row is the ground. `twins` is the share (0..1) of the pairs (2k, 2k + 1) that look
    alike but for marks and door.
    """
    pair = generator(seed, family, "pair", number // 2)
    own = generator(seed, family, "own", number)
    rng = pair if pair.random() < twins else own
    style = plan_style(rng)
    blocks = plan_blocks(rng)
    image = Image.new("RGBA", (SIDE, SIDE), (*style.wall, 0))
    for block in blocks:
        _draw_block(image, block, style)
    details = generator(seed, family, "details", number)
    canvas = ImageDraw.Draw(image)
    _door(canvas, blocks[-1], style, rng, pick(details, MARKS))
    _ornament(canvas, blocks[-1], style, rng)
    for _ in range(int(details.integers(1, 3))):
        _mark(canvas, blocks[int(details.integers(len(blocks)))], details)
    return image.crop(image.getbbox())


def _draw_block(image: Image.Image, block: Block, style: Style) -> None:
    box = (block.left, block.top, block.right, GROUND)
    image.paste(_wall(block, style), box[:2])
    canvas = ImageDraw.Draw(image)
    _roof(canvas, block, style)
    storey = (GROUND - block.top) / block.floors
    bay = (block.right - block.left) / block.bays
    for floor in range(block.floors):
        base = block.top + floor * storey
        for column in range(block.bays):
            _window(canvas, block.left + column * bay, base, bay, storey, style)
        if style.cornices:
            canvas.rectangle((block.left, base - 2, block.right, base + 3), fill=style.trim)
    canvas.line((block.right - 1, block.top, block.right - 1, GROUND), shade(style.wall, 0.6), 3)
    canvas.rectangle((block.left, GROUND - 12, block.right, GROUND), fill=shade(style.wall, 0.65))


def _wall(block: Block, style: Style) -> Image.Image:
    """The wall of a block, RGB with its texture; the light falls off towards the ground."""
    width, height = block.right - block.left, GROUND - block.top
    rows, columns = np.arange(height)[:, None], np.arange(width)[None, :]
    course, shadow = style.course, np.ones((height, width), np.float32)
    if style.material in ("brick", "ashlar"):
        long = course * (2 if style.material == "brick" else 3)
        layer = rows // course
        stone = (columns + layer % 2 * (long // 2)) // long
        shadow += ((layer * 7919 + stone * 104729) % 13 - 6) * 0.014
        shadow[((rows % course) < 2) | ((columns + layer % 2 * (long // 2)) % long < 2)] *= 0.78
    elif style.material == "bands":
        shadow[np.broadcast_to(rows // (course + 6) % 2 == 0, shadow.shape)] *= 0.76
    elif style.material == "boards":
        shadow[np.broadcast_to(columns % course < 3, shadow.shape)] *= 0.72
    elif style.material == "timber":
        beam = 4 * course
        shadow[(rows % beam < 7) | (columns % beam < 7) | ((rows + columns) % beam < 6)] *= 0.42
    elif style.material == "checks":
        shadow[(rows // course + columns // course) % 2 == 0] *= 0.7
    elif style.material == "diamonds":
        beam = 3 * course
        shadow[((rows + columns) % beam < 6) | ((rows - columns) % beam < 6)] *= 0.6
    shadow *= 1.06 - 0.16 * rows / height
    colours = np.empty((height, width, 3), np.float32)
    colours[:] = style.wing if block.wing else style.wall
    colours[-(height // block.floors) :] = style.base if block.floors > 1 else style.wall
    colours *= shadow[..., None]
    return Image.fromarray(np.clip(colours, 0, 255).astype(np.uint8))


def _roof(canvas: ImageDraw.ImageDraw, block: Block, style: Style) -> None:
    left, right, top, rise = block.left - 6, block.right + 6, block.top, block.rise
    middle, wide = (left + right) / 2, right - left
    if block.roof in ("gable", "spire"):
        canvas.polygon(((left, top), (right, top), (middle, top - rise)), style.roof)
        if block.roof == "gable":  # a pediment: the same triangle, smaller, in the wall's colour
            inner = ((left + wide * 0.14, top), (right - wide * 0.14, top))
            canvas.polygon((*inner, (middle, top - rise * 0.72)), shade(style.wall, 0.92))
        else:
            canvas.polygon(((middle, top), (right, top), (middle, top - rise)),
                           shade(style.roof, 0.75))  # fmt: skip
    elif block.roof == "hip":
        inset = min(wide * 0.3, rise)
        canvas.polygon(((left, top), (right, top), (right - inset, top - rise),
                        (left + inset, top - rise)), style.roof)  # fmt: skip
        for row in range(top - rise, top, 9):
            across = inset * (top - row) / rise
            canvas.line((left + across, row, right - across, row), shade(style.roof, 0.8), 2)
    elif block.roof == "dome":
        canvas.pieslice((left + 6, top - rise, right - 6, top + rise), 180, 360, style.roof)
        canvas.pieslice((left + 6, top - rise, right - 6, top + rise), 290, 360,
                        shade(style.roof, 0.82))  # fmt: skip
        canvas.line((middle, top - rise - 24, middle, top - rise), style.trim, 4)
    elif block.roof == "steps":
        for step in range(4):
            canvas.rectangle((left + wide * step / 8, top - rise * (step + 1) / 4,
                              right - wide * step / 8, top - rise * step / 4),
                             shade(style.wall, 0.95 - 0.04 * step))  # fmt: skip
    elif block.roof == "battlement":
        for tooth in range(left, right - 8, 24):
            canvas.rectangle((tooth, top - rise, tooth + 13, top), style.wall)
    canvas.rectangle((left, top - 7, right, top), style.trim)


def _window(
    canvas: ImageDraw.ImageDraw, x: float, y: float, bay: float, storey: float, style: Style
) -> None:
    """One window in the middle of its bay; `x`, `y` is the bay's upper left corner."""
    wide, tall = bay * style.fill[0], storey * style.fill[1]
    x0, y0 = x + (bay - wide) / 2, y + (storey - tall) / 2
    x1, y1 = x0 + wide, y0 + tall
    for grow, colour in ((style.frame, style.trim), (0, style.glass)):
        a, b, c, d = x0 - grow, y0 - grow, x1 + grow, y1 + grow
        spring = min(b + (c - a) / 2, d - 1)  # where a round head begins
        if style.window == "arch":
            canvas.rectangle((a, spring, c, d), colour)
            canvas.pieslice((a, b, c, 2 * spring - b), 180, 360, colour)
        elif style.window == "pointed":
            canvas.polygon(((a, d), (a, spring), ((a + c) / 2, b - 4), (c, spring), (c, d)), colour)
        elif style.window == "round":
            half = min(c - a, d - b) / 2
            mx, my = (a + c) / 2, (b + d) / 2
            canvas.ellipse((mx - half, my - half, mx + half, my + half), colour)
        else:
            canvas.rectangle((a, b, c, d), colour)
    if style.window == "cross":
        canvas.line(((x0 + x1) / 2, y0, (x0 + x1) / 2, y1), style.trim, 3)
        canvas.line((x0, y0 + tall * 0.4, x1, y0 + tall * 0.4), style.trim, 3)
    if style.shutters and style.window in ("plain", "cross"):
        leaf = min(wide * 0.4, (bay - wide) / 2)
        canvas.rectangle((x0 - leaf, y0, x0 - 2, y1), style.roof)
        canvas.rectangle((x1 + 2, y0, x1 + leaf, y1), style.roof)


def _door(
    canvas: ImageDraw.ImageDraw, block: Block, style: Style, rng: np.random.Generator, leaf: Colour
) -> None:
    middle, wide, tall = (block.left + block.right) / 2, rng.uniform(15, 26), rng.uniform(48, 84)
    top = GROUND - tall
    round_head = rng.random() < 0.5
    for grow, colour in ((7, style.trim), (0, shade(leaf, 0.6))):
        x0, x1 = middle - wide - grow, middle + wide + grow
        canvas.rectangle((x0, top - grow, x1, GROUND), colour)
        if round_head:
            canvas.pieslice((x0, top - grow - wide, x1, top - grow + wide), 180, 360, colour)
    canvas.rectangle((middle - wide - 20, GROUND - 8, middle + wide + 20, GROUND), style.trim)


def _ornament(
    canvas: ImageDraw.ImageDraw, block: Block, style: Style, rng: np.random.Generator
) -> None:
    """A clock, a rose window or columns on the front block; sometimes nothing."""
    kind = pick(rng, ("clock", "rose", "columns", "none", "none"))
    middle, wide = (block.left + block.right) / 2, block.right - block.left
    if kind == "columns" and wide > 110:
        height = (GROUND - block.top) * rng.uniform(0.4, 0.9)
        count = min(int(rng.integers(4, 9)), wide // 28)
        for column in np.linspace(block.left + 10, block.right - 10, count):
            canvas.rectangle((column - 7, GROUND - height, column + 7, GROUND), style.trim)
            canvas.line((column + 5, GROUND - height, column + 5, GROUND),
                        shade(style.trim, 0.7), 4)  # fmt: skip
        canvas.rectangle((block.left - 4, GROUND - height - 12, block.right + 4, GROUND - height),
                         style.trim)  # fmt: skip
    elif kind in ("clock", "rose"):
        radius = wide * rng.uniform(0.14, 0.26)
        y = block.top + radius + 14
        face = (middle - radius, y - radius, middle + radius, y + radius)
        canvas.ellipse(face, style.trim if kind == "clock" else style.glass, style.trim, 5)
        for angle in rng.uniform(0, 6.3, 2) if kind == "clock" else np.arange(8) * np.pi / 4:
            tip = (middle + 0.8 * radius * np.cos(angle), y + 0.8 * radius * np.sin(angle))
            canvas.line((middle, y, *tip), style.roof if kind == "clock" else style.trim, 4)


def _mark(canvas: ImageDraw.ImageDraw, block: Block, rng: np.random.Generator) -> None:
    """A small coloured thing that tells a building from its near-twin."""
    colour, kind = pick(rng, MARKS), pick(rng, MARK_KINDS)
    x = rng.uniform(block.left + 16, block.right - 16)
    y = rng.uniform(block.top + 16, max(block.top + 20, GROUND - 100))
    grow = rng.uniform(17, 28)
    if kind == "banner":
        canvas.rectangle((x - grow / 2, y, x + grow / 2, y + 3 * grow), colour)
    elif kind == "sign":
        canvas.rectangle((x - 1.8 * grow, y, x + 1.8 * grow, y + grow), colour, (40, 40, 40), 2)
    elif kind == "disc":
        canvas.ellipse((x - grow, y - grow, x + grow, y + grow), colour, (250, 250, 250), 3)
    elif kind == "diamond":
        canvas.polygon(((x - grow, y), (x, y - grow), (x + grow, y), (x, y + grow)), colour)
    else:
        top = block.top - block.rise
        canvas.line((x, block.top, x, top - 10), (60, 60, 60), 4)
        canvas.polygon(((x, top - 10), (x + 2.2 * grow, top), (x, top + grow)), colour)
