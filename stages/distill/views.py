"""Views: a crop box and a flip, drawn once, stored as data, replayed to teachers and student.

A view is a pure function of (seed, image id, number of the view): it depends neither on the order
of the pictures nor on the library that draws random numbers.
"""

import hashlib

import numpy as np

COLUMNS = ("x", "y", "width", "height", "flip")
AREA = (0.4, 1.0)  # share of the picture that a crop covers
ASPECT = (3 / 4, 4 / 3)  # of the crop, relative to the picture's own
FLIP = 0.5  # probability


def draw(seed: int, image_id: str, number: int) -> np.ndarray:
    """One view as (5,) float32: `x y width height` in fractions of the picture, `flip` 0 or 1.

    The aspect is drawn log-uniform within what keeps the crop inside, so that none is rejected.
    """
    area, ratio, x, y, flip = _uniform(f"{seed}/{number}/{image_id}")[:5]
    area = AREA[0] + (AREA[1] - AREA[0]) * area
    low, high = max(ASPECT[0], area), min(ASPECT[1], 1 / area)
    aspect = low * (high / low) ** ratio
    width, height = min((area * aspect) ** 0.5, 1.0), min((area / aspect) ** 0.5, 1.0)
    return np.array(
        [x * (1 - width), y * (1 - height), width, height, flip < FLIP], dtype=np.float32
    )


def draw_all(seed: int, image_ids: list[str], counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`counts[i]` views of picture i: (view_image (m,) int32 ascending, view (m, 5) float32)."""
    counts = np.asarray(counts, dtype=np.int64)
    view_image = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    view = np.empty((len(view_image), len(COLUMNS)), dtype=np.float32)
    row = 0
    for image_id, count in zip(image_ids, counts.tolist(), strict=True):
        for number in range(count):
            view[row] = draw(seed, image_id, number)
            row += 1
    return view_image, view


def expected_counts(group: np.ndarray, *, epochs: int, most: int) -> np.ndarray:
    """Views to store per picture, (n,) int64: as often as it is likely to be drawn, up to `most`.

    In E epochs a picture of a group of g is drawn 2E/g times; one that is a pair by itself
    (no group, or alone in it) is drawn 2E times and needs two views.
    """
    sizes = group_sizes(group)
    uses = np.ceil(2 * epochs / sizes).astype(np.int64)
    floor = np.where(sizes == 1, 2, 1)
    return np.clip(uses, floor, np.maximum(most, floor))


def group_sizes(group: np.ndarray) -> np.ndarray:
    """(n,) size of each picture's group; 1 where it has none (-1)."""
    _, inverse, counts = np.unique(group, return_inverse=True, return_counts=True)
    return np.where(group < 0, 1, counts[inverse])


def _uniform(text: str) -> np.ndarray:
    """(8,) float64 in [0, 1), from a hash."""
    raw = hashlib.blake2b(text.encode("utf-8"), digest_size=64).digest()
    return (np.frombuffer(raw, "<u8") >> np.uint64(11)) * 2.0**-53
