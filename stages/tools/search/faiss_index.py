"""Descriptors in faiss: exact, or compressed, with the recall that compression leaves."""

from typing import Any

import faiss
import numpy as np

from ...core.errors import UserError

KINDS = ("flat", "sq8", "ivfpq")
CENTROIDS = 256  # of each part of an IVF-PQ code
TRAIN_ROWS = 10 * CENTROIDS  # fewer give a bad codebook
EXACT_K = 10  # neighbours on which the recall of a compressed index is measured


def make(rows: np.ndarray, ids: np.ndarray, kind: str) -> tuple[Any, dict[str, Any]]:
    """(faiss index of (n, dim) rows, its kind and dim); of a compressed one also its recall."""
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
    """Share of the exact first ten results that `index` finds too, percent, of `most` own rows."""
    chosen = np.sort(np.random.default_rng(0).permutation(len(rows))[:most])
    k = min(EXACT_K, len(rows))
    exact = faiss.IndexFlatIP(rows.shape[1])
    exact.add(rows)
    exact_ids = ids[exact.search(rows[chosen], k)[1]]
    index_ids = index.search(rows[chosen], k)[1]
    pairs = zip(exact_ids.tolist(), index_ids.tolist(), strict=True)
    hits = [len(set(a) & set(b)) for a, b in pairs]
    return round(100 * sum(hits) / (k * len(chosen)), 2)


def seen(index: Any, rows: np.ndarray) -> np.ndarray:
    """(n, dim) rows as `index` keeps them: encoded and decoded by its codec."""
    codec = faiss.downcast_index(getattr(index, "index", index))
    return codec.sa_decode(codec.sa_encode(np.ascontiguousarray(rows, dtype=np.float32)))


def _ivfpq(n: int, dim: int) -> Any:
    """An IVF-PQ index, not trained yet, with ids of its own: an ID map breaks on removal."""
    if n < TRAIN_ROWS:
        raise UserError(
            f"{n} images are too few for ivfpq, which needs {TRAIN_ROWS}; use sq8 or flat"
        )
    if not (parts := [m for m in (32, 16, 8, 4) if dim % m == 0 and dim // m >= 2]):
        raise UserError(f"ivfpq needs dimensions divisible by 4, not {dim}; use sq8 or flat")
    lists = max(round(n**0.5), 1)
    coarse = faiss.IndexFlatIP(dim)  # the index keeps it alive in Python
    index = faiss.IndexIVFPQ(coarse, dim, lists, parts[0], 8, faiss.METRIC_INNER_PRODUCT)
    index.nprobe = min(max(8, lists // 4), lists)
    index.cp.min_points_per_centroid = index.pq.cp.min_points_per_centroid = 1  # else it prints
    return index
