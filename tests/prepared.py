"""Small files as `prepare` writes them, any of their arrays replaced."""

from pathlib import Path

import numpy as np

from stages.core import store

COLUMNS = "x y width height flip"


def train_file(file: Path, columns: str = COLUMNS, **arrays: np.ndarray) -> Path:
    base = {
        "image_id": np.array(["a", "ü", "c"]), "path": np.array(["a.png", "ü.png", "c.png"]),
        "group": np.array([0, 0, -1], np.int32), "view_image": np.array([0, 0, 1, 2, 2], np.int32),
        "view": np.tile(np.float32([0, 0, 1, 1, 0]), (5, 1)),
    }  # fmt: skip
    store.write(file, "train", {**base, **arrays}, columns=columns, root="/r", images="0")
    return file


def evaluation_file(file: Path, **arrays: np.ndarray) -> Path:
    base = {
        "image_id": np.array(["q", "d", "e"]), "path": np.array(["q.png", "d.png", "e.png"]),
        "role": np.array(["query", "database", "distractor"]),
        "box": np.float32([[1, 2, 3.5, 4], [np.nan] * 4, [np.nan] * 4]),
    }  # fmt: skip
    store.write(file, "evaluation", {**base, **arrays}, root="/r")
    return file
