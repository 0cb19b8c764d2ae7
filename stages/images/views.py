"""Views: a crop box and a flip, drawn once, stored as data, replayed to teachers and student.

A view is a pure function of (seed, image id, number of the view): it depends neither on the order
of the images nor on the library that draws random numbers. Of a video, views 2k and 2k + 1 show
the same frame by two recipes, and have colours, blur and solarisation as well.
"""

import hashlib
from collections.abc import Iterable
from itertools import islice

import numpy as np

COLUMNS = ("x", "y", "width", "height", "flip")
AREA = (0.4, 1.0)  # share of the image that a crop covers
QUERY_AREA = (
    0.2,
    0.5,
)  # the same of a crop that is a query in validation: harder than those trained on
ASPECT = (3 / 4, 4 / 3)  # of the crop, relative to the image's own
FLIP = 0.5  # probability
VIDEO_COLUMNS = (
    *COLUMNS, "frame", "role", "brightness", "contrast", "saturation", "hue", "order", "grey",
    "blur", "solarise",
)  # fmt: skip
JITTER = 0.8  # probability that colours change, in one of ORDERS orders, by up to CHANGE
CHANGE = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.2, "hue": 0.1}
ORDERS = 24
GREY = 0.2  # probability
BLUR = (1.0, 0.1)  # probability, by role: the first and the second view of a pair
SOLARISE = (0.0, 0.2)  # the same
SIGMA = (0.1 / 224, 2.0 / 224)  # of the blur, as a share of the side: 0.1 to 2 pixels of 224
BLOCK_VIEWS = 1 << 16  # drawn at a time: one by one they take seven times as long


def draw(seed: int, image_id: str, number: int) -> np.ndarray:
    """One view as (5,) float32: `x y width height` in fractions of the image, `flip` 0 or 1."""
    return _boxes(_uniform([f"{seed}/{number}/{image_id}"]))[0]


def draw_query(seed: int, image_id: str, number: int) -> np.ndarray:
    """One crop that is a query for its image's group, as `draw`; never flipped."""
    uniform = _uniform([f"{seed}/query/{number}/{image_id}"])
    uniform[:, 4] = 1.0
    return _boxes(uniform, QUERY_AREA)[0]


def draw_video(seed: int, video_id: str, number: int, frames: int) -> np.ndarray:
    """One view of a video of `frames` frames as (15,) float32, VIDEO_COLUMNS.

    The recipes of the two roles differ in blur and solarisation, as in BYOL.
    """
    role = number % 2
    frame = int(_one(f"{seed}/frame/{number // 2}/{video_id}")[0] * frames)
    jitter, order, grey, blur, sigma, solarise = _one(f"{seed}/effects/{number}/{video_id}")[:6]
    change = {
        n: by * (2 * u - 1) * (jitter < JITTER)
        for (n, by), u in zip(
            CHANGE.items(), _one(f"{seed}/colours/{number}/{video_id}"), strict=False
        )
    }
    sigma = SIGMA[0] + (SIGMA[1] - SIGMA[0]) * sigma
    effects = [
        frame, role, 1 + change["brightness"], 1 + change["contrast"], 1 + change["saturation"],
        change["hue"], int(order * ORDERS), grey < GREY, sigma * (blur < BLUR[role]),
        solarise < SOLARISE[role],
    ]  # fmt: skip
    return np.concatenate([draw(seed, video_id, number), np.array(effects, dtype=np.float32)])


def draw_all(
    seed: int, image_ids: list[str], counts: np.ndarray, frames: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """`counts[i]` views of image i: (view_image (m,) int32 ascending, view (m, k) float32).

    `frames` (n,): the images are videos of so many frames, and k is 15 instead of 5.
    """
    counts = np.asarray(counts, dtype=np.int64)
    view_image = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    columns = COLUMNS if frames is None else VIDEO_COLUMNS
    view = np.empty((len(view_image), len(columns)), dtype=np.float32)
    if frames is not None:
        number = np.arange(len(view_image)) - np.repeat(np.cumsum(counts) - counts, counts)
        for row, (i, k) in enumerate(zip(view_image.tolist(), number.tolist(), strict=True)):
            view[row] = draw_video(seed, image_ids[i], k, int(frames[i]))
        return view_image, view
    names = (
        f"{seed}/{number}/{image_id}"
        for image_id, count in zip(image_ids, counts.tolist(), strict=True)
        for number in range(count)
    )
    for first in range(0, len(view), BLOCK_VIEWS):
        block = view[first : first + BLOCK_VIEWS]
        block[:] = _boxes(_uniform(islice(names, len(block))))
    return view_image, view


def expected_counts(group: np.ndarray, *, epochs: int, most: int) -> np.ndarray:
    """Views to store per image, (n,) int64: as often as it is likely to be drawn, up to `most`.

    In E epochs an image of a group of g is drawn 2E/g times; one that is a pair by itself
    (no group, or alone in it) is drawn 2E times and needs two views.
    """
    sizes = group_sizes(group)
    uses = np.ceil(2 * epochs / sizes).astype(np.int64)
    floor = np.where(sizes == 1, 2, 1)
    return np.clip(uses, floor, np.maximum(most, floor))


def group_sizes(group: np.ndarray) -> np.ndarray:
    """(n,) size of each image's group; 1 where it has none (-1)."""
    _, inverse, counts = np.unique(group, return_inverse=True, return_counts=True)
    return np.where(group < 0, 1, counts[inverse])


def _boxes(uniform: np.ndarray, areas: tuple[float, float] = AREA) -> np.ndarray:
    """(b, 8) draws to (b, 5) views.

    The aspect is drawn log-uniform within what keeps the crop inside, so that none is rejected.
    """
    area, ratio, x, y, flip = uniform[:, :5].T
    area = areas[0] + (areas[1] - areas[0]) * area
    low, high = np.maximum(ASPECT[0], area), np.minimum(ASPECT[1], 1 / area)
    aspect = low * (high / low) ** ratio
    width = np.minimum((area * aspect) ** 0.5, 1.0)
    height = np.minimum((area / aspect) ** 0.5, 1.0)
    columns = [x * (1 - width), y * (1 - height), width, height, flip < FLIP]
    return np.stack(columns, axis=1).astype(np.float32)


def _one(text: str) -> np.ndarray:
    return _uniform([text])[0]


def _uniform(texts: Iterable[str]) -> np.ndarray:
    """(b, 8) float64 in [0, 1), from a hash of each text."""
    raw = (hashlib.blake2b(text.encode("utf-8"), digest_size=64).digest() for text in texts)
    return (np.frombuffer(b"".join(raw), "<u8").reshape(-1, 8) >> np.uint64(11)) * 2.0**-53
