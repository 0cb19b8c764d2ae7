"""Small generated inputs that the rows of `bench` give to the stages' own functions."""

from pathlib import Path

import numpy as np

from ...core import store
from ...images import views as drawing
from ...images.sets import TrainSet
from ...retrieval.video import Clips

DRAWN_ROWS = 50_000  # random rows made at a time


def images(folder: Path, count: int, views: int, px: int) -> TrainSet:
    """A train set of textured JPEGs with stored views, two images a group, as `prepare` writes."""
    from PIL import Image

    root = folder / "images"
    root.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    names = [f"{i}.jpg" for i in range(count)]
    for name in names:
        small = rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(small).resize((px, px), Image.Resampling.BICUBIC).save(root / name)
    view_image, view = drawing.draw_all(0, names, np.full(count, views))
    return _train_set(folder, names, np.arange(count) // 2, view_image, view)


def views_of_groups(folder: Path, groups: int, images: int) -> TrainSet:
    """A train set of one view an image, without the images: for what reads rows alone."""
    names = [str(i) for i in range(groups * images)]
    whole = np.tile(np.array([0, 0, 1, 1, 0], np.float32), (len(names), 1))
    group = np.repeat(np.arange(groups), images)
    return _train_set(folder, names, group, np.arange(len(names)), whole)


def _train_set(
    folder: Path, names: list[str], group: np.ndarray, view_image: np.ndarray, view: np.ndarray
) -> TrainSet:
    arrays = {
        "image_id": np.array(names), "path": np.array(names), "group": group.astype(np.int32),
        "view_image": view_image.astype(np.int32), "view": view,
    }  # fmt: skip
    about = {"columns": " ".join(drawing.COLUMNS), "root": str(folder / "images")}
    store.write(folder / "train.h5", "train", arrays, **about)
    return TrainSet.read(folder / "train.h5")


def unit_rows(file: Path, rows: int, dim: int, rng: np.random.Generator) -> np.ndarray:
    """(rows, dim) float16 random rows of unit length in `file`, memory-mapped to be changed."""
    out = np.memmap(file, np.float16, "w+", shape=(rows, dim))
    for start in range(0, rows, DRAWN_ROWS):
        x = rng.standard_normal((min(DRAWN_ROWS, rows - start), dim), dtype=np.float32)
        out[start : start + len(x)] = x / np.linalg.norm(x, axis=1, keepdims=True)
    return out


def whitened(folder: Path, views: TrainSet, teachers: int, dim: int) -> list[str]:
    """Whitened descriptors of some teachers in `folder`; their names."""
    rng, names = np.random.default_rng(0), [f"teacher{k}" for k in range(teachers)]
    for name in names:
        rows = unit_rows(folder / "rows.f16", len(views.view_image), dim, rng)
        store.write(folder / f"{name}.h5", "whitened", {"descriptor": rows}, train=views.digest)
    return names


def clips(folder: Path, videos: int, frames: int, dim: int, seed: int) -> Clips:
    """`videos` videos of `frames` random frames each."""
    file = folder / f"clips-{seed}.f16"
    rows = unit_rows(file, videos * frames, dim, np.random.default_rng(seed))
    return Clips(rows, np.arange(0, len(rows) + 1, frames))


def positives_by_rank(
    query: np.ndarray, database: np.ndarray, count: int, rng: np.random.Generator
) -> np.ndarray:
    """(q, count) rows of `database` that are made to stand where a trained model puts positives.

    Their ranks are spread evenly on a logarithmic scale from the first to a fifth of the database:
    most come early, a few late. Written into `database` (n, d) float16; of unit length.
    """
    q, d = query.shape
    chosen = rng.permutation(len(database))[: q * count].reshape(q, count)
    share = 10 ** rng.uniform(np.log10(1 / len(database)), np.log10(0.2), (q, count))
    # Random unit rows have similarities of deviation d^-1/2: how many stand above a value is known.
    cosine = np.minimum(_normal_quantile(1 - share) * d**-0.5, 0.99)
    for one, rows, cosines in zip(query, chosen, cosine, strict=True):
        across = rng.standard_normal((count, d), dtype=np.float32)
        across -= np.outer(across @ one, one)
        across /= np.linalg.norm(across, axis=1, keepdims=True)
        c = cosines[:, None]
        database[rows] = c * one + np.sqrt(1 - c * c) * across
    return chosen


def _normal_quantile(share: np.ndarray) -> np.ndarray:
    from statistics import NormalDist

    return np.vectorize(NormalDist().inv_cdf)(np.clip(share, 1e-9, 1 - 1e-9))
