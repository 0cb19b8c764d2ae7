"""The official lists of SVD: ids, one a line, and labels (`query candidate 1`)."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from ..core.errors import UserError
from ..images import lists

SUFFIX = ".mp4"
Labels = dict[str, dict[str, bool]]  # query -> candidate -> whether it is a near-duplicate


def read_ids(path: Path) -> list[str]:
    """Ids, one a line, without `.mp4`; each once. Raises UserError."""
    ids = [_id(line.strip(), path, n) for n, line in _lines(path)]
    return list(dict.fromkeys(ids))


def read_labels(path: Path) -> Labels:
    """Lines `query candidate label` as a map. Raises UserError with the number of a bad line."""
    labels: Labels = {}
    for n, line in _lines(path):
        fields = line.split()
        if len(fields) != 3 or fields[2] not in ("0", "1"):
            raise UserError(f"{path}: line {n}: expected a query, a candidate and 0 or 1")
        query, candidate = (_id(f, path, n) for f in fields[:2])
        own = labels.setdefault(query, {})
        if own.setdefault(candidate, fields[2] == "1") != (fields[2] == "1"):
            raise UserError(f"{path}: line {n}: {candidate} is 0 and 1 for query {query}")
    if not labels:
        raise UserError(f"{path}: no line in it; download it again")
    return labels


def groups(labels: Labels, ids: list[str]) -> np.ndarray:
    """(n,) int32: videos that positive labels connect have one number; -1 for those alone."""
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while parent.setdefault(name, name) != name:
            parent[name] = name = parent[parent[name]]
        return name

    for query, own in labels.items():
        for candidate, same in own.items():
            if same:
                parent[root(candidate)] = root(query)
    number: dict[str, int] = {}
    joined = [number.setdefault(root(i), len(number)) if i in parent else -1 for i in ids]
    group = np.array(joined, dtype=np.int32)
    sizes = np.bincount(group[group >= 0], minlength=len(number))
    return np.where((group >= 0) & (sizes[np.maximum(group, 0)] > 1), group, -1).astype(np.int32)


def _lines(path: Path) -> Iterable[tuple[int, str]]:
    try:
        return lists.read_lines(path)
    except UserError as error:
        raise UserError(f"{error}; unpack it again") from None


def _id(text: str, path: Path, line: int) -> str:
    """An id becomes a path: no separators, no leading dot."""
    name = text.removesuffix(SUFFIX)
    if not name or name.startswith(".") or any(c in name for c in "/\\ \t\0"):
        raise UserError(f"{path}: line {line}: {text[:60]!r} is not a video's id")
    return name
