"""Vectors in faiss: exact, or compressed with the recall that is left."""

from typing import Any

import faiss
import numpy as np

from ...core.errors import UserError

KINDS = ("flat", "sq8", "ivfpq")
CENTROIDS = 256  # of each part of an IVF-PQ code
TRAIN_ROWS = 10 * CENTROIDS  # fewer give no codebook worth having
EXACT_K = 10  # neighbours that the recall of a compressed index is measured on


def make(rows: np.ndarray, ids: np.ndarray, kind: str) -> tuple[Any, dict[str, Any]]:
    """(faiss index of (n, dim) rows, what to say of it); of a compressed one its recall too."""
    rows = np.ascontiguousarray(rows, dtype=np.float32)
    n, dim = rows.shape
    if kind == "ivfpq":
        index = _ivfpq(n, dim)
    elif kind == "sq8":
        codec = faiss.IndexScalarQuantizer(
            dim, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT
        )
        index = faiss.IndexIDMap2(codec)
    else:
        index = faiss.IndexIDMap2(faiss.IndexFlatIP(dim))
    if n and not index.is_trained:
        index.train(rows)
    if n:
        index.add_with_ids(rows, ids)
    about: dict[str, Any] = {"kind": kind, "dim": dim}
    if kind != "flat":
        about["recall"] = recall(index, rows, ids)
    return index, about


def recall(index: Any, rows: np.ndarray, ids: np.ndarray, most: int = 500) -> float:
    """Share of the exact first ten of (at most `most`) own rows that `index` finds too, percent."""
    chosen = np.sort(np.random.default_rng(0).permutation(len(rows))[:most])
    k = min(EXACT_K, len(rows))
    exact = faiss.IndexFlatIP(rows.shape[1])
    exact.add(rows)
    wanted = ids[exact.search(rows[chosen], k)[1]]
    found = index.search(rows[chosen], k)[1]
    hits = [len(set(a) & set(b)) for a, b in zip(wanted.tolist(), found.tolist(), strict=True)]
    return round(100 * sum(hits) / (k * len(chosen)), 2)


def seen(index: Any, rows: np.ndarray) -> np.ndarray:
    """(n, dim) rows as `index` would keep them: what its codec leaves of them."""
    codec = faiss.downcast_index(getattr(index, "index", index))
    return codec.sa_decode(codec.sa_encode(np.ascontiguousarray(rows, dtype=np.float32)))


def _ivfpq(n: int, dim: int) -> Any:
    """An untrained IVF-PQ index with ids of its own: an ID map over it loses track on removal."""
    if n < TRAIN_ROWS:
        raise UserError(
            f"{n} images are too few for ivfpq, which needs {TRAIN_ROWS}; use sq8, or none"
        )
    if not (parts := [m for m in (32, 16, 8, 4) if dim % m == 0 and dim // m >= 2]):
        raise UserError(f"ivfpq needs dimensions divisible by 4, not {dim}; use sq8, or none")
    lists = max(round(n**0.5), 1)
    coarse = faiss.IndexFlatIP(dim)  # kept alive by the index's Python side
    index = faiss.IndexIVFPQ(coarse, dim, lists, parts[0], 8, faiss.METRIC_INNER_PRODUCT)
    index.nprobe = min(max(8, lists // 4), lists)
    index.cp.min_points_per_centroid = index.pq.cp.min_points_per_centroid = 1  # or it prints
    return index
