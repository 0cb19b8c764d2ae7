"""Procedural buildings, the landmarks of the demo world: their plans, before anything is drawn.

A building is made of blocks (body, wings, tower), each with floors, bays and a roof, in one style
of walls, colours and windows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

T = TypeVar("T")

SIDE = 512  # pixels of the square drawing
GROUND = 500  # row of the drawing on which the building stands
Colour = tuple[int, int, int]

WALLS: tuple[Colour, ...] = (
    (168, 84, 62), (142, 62, 52), (196, 148, 96), (222, 202, 160), (232, 226, 212), (150, 146, 138),
    (188, 178, 160), (216, 170, 150), (158, 178, 190), (170, 186, 148), (206, 180, 92),
    (116, 98, 86), (196, 104, 110), (104, 134, 160), (120, 146, 116), (90, 88, 94),
)  # fmt: skip
ROOFS: tuple[Colour, ...] = (
    (120, 52, 40), (74, 70, 76), (92, 78, 64), (78, 126, 104), (60, 66, 96), (166, 92, 50),
    (190, 150, 70), (48, 48, 52),
)  # fmt: skip
TRIMS: tuple[Colour, ...] = (
    (240, 236, 226), (206, 190, 158), (120, 108, 96), (70, 60, 56), (176, 120, 96),
    (210, 172, 70), (70, 110, 104), (150, 60, 54),
)  # fmt: skip
GLASS: tuple[Colour, ...] = (
    (52, 60, 74), (92, 126, 150), (40, 36, 34), (226, 190, 110), (150, 190, 200), (80, 50, 60),
)  # fmt: skip
MATERIALS = ("plain", "brick", "ashlar", "bands", "boards", "timber", "checks", "diamonds")
WINDOWS = ("plain", "arch", "pointed", "round", "cross")
ROOF_KINDS = ("flat", "battlement", "gable", "hip", "dome", "spire", "steps")


def generator(*key: object) -> np.random.Generator:
    """Random numbers that depend on the words of `key` alone, so drawing order never matters."""
    digest = hashlib.blake2b("/".join(map(str, key)).encode(), digest_size=16).digest()
    return np.random.default_rng(int.from_bytes(digest, "big"))


@dataclass(frozen=True)
class Style:
    """What all blocks of one building share: colours, wall texture, windows."""

    wall: Colour
    wing: Colour  # wall of the side blocks
    base: Colour  # wall of the ground floor
    trim: Colour
    roof: Colour
    glass: Colour
    material: str
    course: int  # height of a brick, stone or band, pixels
    window: str
    fill: tuple[float, float]  # share of a bay's width and a floor's height taken by its window
    frame: int  # pixels
    shutters: bool
    cornices: bool


@dataclass(frozen=True)
class Block:
    """One upright box of a building, pixels of the drawing."""

    left: int
    right: int
    top: int
    wing: bool
    floors: int
    bays: int
    roof: str
    rise: int  # height of the roof


def pick(rng: np.random.Generator, choices: Sequence[T]) -> T:
    """One of the choices, all equally likely."""
    return choices[int(rng.integers(len(choices)))]


def _jitter(rng: np.random.Generator, colour: Colour, by: int = 16) -> Colour:
    moved = np.clip(np.asarray(colour) + rng.integers(-by, by + 1, 3), 0, 255)
    return int(moved[0]), int(moved[1]), int(moved[2])


def shade(colour: Colour, factor: float) -> Colour:
    """The colour made darker (below 1) or lighter (above 1)."""
    red, green, blue = (min(255, int(value * factor)) for value in colour)
    return red, green, blue


def plan_style(rng: np.random.Generator) -> Style:
    """A building's colours, textures and windows."""
    wall = _jitter(rng, pick(rng, WALLS))
    other = _jitter(rng, pick(rng, WALLS))
    return Style(
        wall=wall,
        wing=other if rng.random() < 0.3 else wall,
        base=other if rng.random() < 0.3 else wall,
        trim=_jitter(rng, pick(rng, TRIMS)),
        roof=_jitter(rng, pick(rng, ROOFS)),
        glass=_jitter(rng, pick(rng, GLASS)),
        material=pick(rng, MATERIALS),
        course=int(rng.integers(12, 30)),
        window=pick(rng, WINDOWS),
        fill=(float(rng.uniform(0.3, 0.72)), float(rng.uniform(0.42, 0.78))),
        frame=int(rng.integers(0, 5)),
        shutters=bool(rng.random() < 0.2),
        cornices=bool(rng.random() < 0.5),
    )


def plan_blocks(rng: np.random.Generator) -> list[Block]:
    """Wings first, then the body, then the tower; the last one stands in front."""
    width, height = int(rng.integers(140, 310)), int(rng.integers(140, 310))
    storey = int(rng.integers(38, 80))
    bay = int(rng.integers(26, 62))
    roofs = [pick(rng, ROOF_KINDS) for _ in range(3)]

    def block(left: int, right: int, tall: int, roof: str, wing: bool = False) -> Block:
        wide = right - left
        rise = {"flat": 8, "battlement": 16}.get(roof, int(wide * rng.uniform(0.2, 0.6)))
        rise = int(wide * rng.uniform(1.0, 1.8)) if roof == "spire" and wide < 90 else rise
        top = GROUND - tall
        return Block(left, right, top, wing, max(1, tall // storey), max(1, wide // bay), roof,
                     max(6, min(rise, top - 8)))  # fmt: skip

    left = 256 - width // 2
    placed = []
    wing, low = int(rng.integers(40, 100)), int(height * rng.uniform(0.45, 0.85))
    sides = pick(rng, ((), (-1,), (1,), (-1, 1), (-1, 1)))
    for side in sides:
        start = left - wing if side < 0 else left + width
        placed.append(block(start, start + wing, low, roofs[0], wing=True))
    placed.append(block(left, left + width, height, roofs[1]))
    if rng.random() < 0.55:
        wide = int(rng.integers(44, 88))
        centre = 256 + int(pick(rng, (0, 0, -1, 1)) * (width - wide) // 2)
        tall = min(400, int(height * rng.uniform(1.15, 1.6)))
        placed.append(block(centre - wide // 2, centre + wide // 2, tall, roofs[2]))
    return placed
