"""Images of the demo world: a facade seen by a camera, with sky, ground, clutter and light.

`look` chooses a view and tells how much of the building it shows and how strong it is, from which
the demo derives what is easy, hard or junk; `render` draws it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from .scenery import backdrop, occluders

POINTS = 28  # a facade's visible share is counted on POINTS x POINTS places


@dataclass(frozen=True)
class Camera:
    """How a facade is seen. `strength` 0..1 says how far from frontal, centred and whole."""

    strength: float
    yaw: float  # radians, as pitch and roll
    pitch: float
    roll: float
    fill: float  # building's extent over the frame's, at the tighter of the two sides
    shift: tuple[float, float]  # of the building's centre, in frames
    flat: float  # distance in building widths; small means strong perspective


@dataclass(frozen=True)
class Shot:
    """The geometry of an image, known before it is drawn."""

    corners: np.ndarray  # (4, 2) pixels: where the facade's corners fall, from upper left clockwise
    front: Image.Image  # RGBA of the frame: what stands before the building
    visible: float  # share of the facade in sight
    strength: float  # of the viewpoint, 0..1

    @property
    def box(self) -> tuple[float, float, float, float]:
        """The building's box x0, y0, x1, y1 in the frame, pixels."""
        x0, y0 = np.clip(self.corners.min(0), 0, self.front.size)
        x1, y1 = np.clip(self.corners.max(0), 0, self.front.size)
        return float(x0), float(y0), float(x1), float(y1)


def camera(rng: np.random.Generator, difficulty: float) -> Camera:
    """A random viewpoint; at difficulty 0 nearly frontal, at 1 up to about 60 degrees aside."""
    strength = float(rng.random())
    reach = (0.35 + 0.65 * difficulty) * strength
    side = float(rng.choice((-1.0, 1.0)))
    fill = 0.95 * math.exp(-rng.random() * (0.15 + 0.85 * reach))
    if rng.random() < 0.1 + 0.6 * reach:  # come close: part of the building leaves the frame
        fill = rng.uniform(1.0, 1.1 + 1.1 * reach)
    if rng.random() < 0.06:  # a detail, as tourists take: mostly junk
        fill = rng.uniform(2.0, 3.6)
    spread = 0.03 + 0.2 * reach
    return Camera(
        strength=strength,
        yaw=side * math.radians(60) * reach * rng.uniform(0.75, 1.0),
        pitch=math.radians(rng.uniform(-4, 26) * (0.3 + 0.7 * reach)),
        roll=math.radians(rng.normal(0, 1.5 + 4 * reach)),
        fill=float(fill),
        shift=(float(rng.normal(0, spread)), float(rng.normal(0.03, 0.6 * spread))),
        flat=float(rng.uniform(1.3, 3.0)),
    )


def look(facade: Image.Image, rng: np.random.Generator, image_px: int, difficulty: float) -> Shot:
    """Choose a viewpoint and what stands before the facade; 4:3 or 3:4, `image_px` long."""
    short = image_px * 3 // 4
    frame = (image_px, short) if rng.random() < 0.55 else (short, image_px)
    view = camera(rng, difficulty)
    corners = _project(facade.size, view, frame)
    front = occluders(rng, frame, view.strength * difficulty)
    visible = _visible(facade, _homography(facade.size, corners), front)
    return Shot(corners, front, visible, view.strength)


def render(
    facade: Image.Image, shot: Shot, rng: np.random.Generator, difficulty: float
) -> Image.Image:
    """The image (RGB) of a shot: backdrop, facade, occluders, then light and noise."""
    image = backdrop(rng, shot.front.size, shot.corners, difficulty)
    _paste(image, facade, shot.corners)
    image.paste(shot.front, (0, 0), shot.front)
    return _develop(image, rng, difficulty * (0.3 + shot.strength))


def _project(facade: tuple[int, int], view: Camera, frame: tuple[int, int]) -> np.ndarray:
    """Corners of the facade in the frame, (4, 2) float64: upper left, upper right, lower two."""
    width, height = facade
    aspect = width / height
    plane = np.array([[-aspect, -1, 0], [aspect, -1, 0], [aspect, 1, 0], [-aspect, 1, 0]]) / 2
    sy, cy, sx, cx = (math.sin(view.yaw), math.cos(view.yaw), math.sin(view.pitch),
                      math.cos(view.pitch))  # fmt: skip
    sz, cz = math.sin(view.roll), math.cos(view.roll)
    turn = (
        np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
        @ np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
        @ np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    )
    seen = plane @ turn.T
    seen = seen[:, :2] / (1 + seen[:, 2:] / (view.flat * max(1.0, aspect)))
    low, high = seen.min(0), seen.max(0)
    scale = view.fill * min(frame / (high - low))
    return (seen - (low + high) / 2) * scale + (np.array(view.shift) + 0.5) * frame


def _homography(size: tuple[int, int], corners: np.ndarray) -> np.ndarray:
    """The 3 x 3 matrix that takes points of an image of `size` to the four `corners`."""
    width, height = size
    rows, values = [], []
    for (x, y), (u, v) in zip(((0, 0), (width, 0), (width, height), (0, height)), corners,
                              strict=True):  # fmt: skip
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        values += [u, v]
    solved = np.linalg.solve(np.array(rows, float), np.array(values, float))
    return np.append(solved, 1.0).reshape(3, 3)


def _visible(facade: Image.Image, matrix: np.ndarray, front: Image.Image) -> float:
    """Share of the facade's own pixels that lie in the frame and behind no occluder."""
    width, height = facade.size
    small = facade.resize((POINTS, POINTS), Image.Resampling.NEAREST)
    rows, columns = np.nonzero(np.asarray(small)[..., 3])
    x, y = (columns + 0.5) * width / POINTS, (rows + 0.5) * height / POINTS
    moved = np.column_stack((x, y, np.ones(len(x)))) @ matrix.T
    u, v = np.floor(moved[:, :2] / moved[:, 2:]).astype(int).T
    inside = (u >= 0) & (v >= 0) & (u < front.width) & (v < front.height)
    hidden = np.asarray(front.getchannel("A"))[v[inside], u[inside]] > 127
    return float((inside.sum() - hidden.sum()) / len(moved))


def _paste(image: Image.Image, facade: Image.Image, corners: np.ndarray) -> None:
    """The facade warped into the image, from a level small enough not to shimmer."""
    extent = float(np.abs(corners.max(0) - corners.min(0)).max())
    while max(facade.size) > 1.5 * extent:
        facade = facade.reduce(2)
    x0, y0 = np.clip(np.floor(corners.min(0)), 0, image.size).astype(int).tolist()
    x1, y1 = np.clip(np.ceil(corners.max(0)), 0, image.size).astype(int).tolist()
    if x0 == x1 or y0 == y1:  # all of it lies outside the frame
        return
    back = np.linalg.inv(_homography(facade.size, corners - (x0, y0)))
    warped = facade.transform((x1 - x0, y1 - y0), Image.Transform.PERSPECTIVE,
                              tuple((back / back[2, 2]).ravel()[:8]),
                              Image.Resampling.BILINEAR)  # fmt: skip
    image.paste(warped, (x0, y0), warped)


def _develop(image: Image.Image, rng: np.random.Generator, odd: float) -> Image.Image:
    """Light, colour cast, blur and noise of one exposure, `odd` 0..1.3; a few are grey."""
    grey = rng.random() < 0.1 * odd + 0.01
    blur = rng.random() * (0.5 + 1.3 * odd)
    if blur > 0.4:
        image = image.filter(ImageFilter.BoxBlur(blur))
    gain = math.exp(rng.normal(0, 0.05 + 0.15 * odd))
    cast = np.exp(rng.normal(0, 0.02 + 0.06 * odd, 3)) * gain
    contrast = rng.uniform(1 - 0.3 * odd, 1.15)
    lamp = rng.normal(0, 0.06 + 0.14 * odd)  # one side of the image lies in the shade
    slope = np.exp(np.linspace(-lamp, lamp, image.width))[:, None] * cast * contrast
    if grey:
        image, slope = image.convert("L").convert("RGB"), slope.mean(1, keepdims=True)
    pixels = rng.standard_normal((image.height, image.width, 1), np.float32)
    pixels *= np.float32(rng.random() * (3 + 9 * odd))
    pixels += np.float32(120 * (1 - contrast))
    pixels = pixels + np.asarray(image) * slope.astype(np.float32)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
