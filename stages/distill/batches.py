"""Pairs: seeded batches in which each group occurs once; anchor i and positive i show the same."""

from collections.abc import Iterator

import numpy as np


def units(group: np.ndarray) -> np.ndarray:
    """(n,) int64 dense ids of what can be one row of a batch: a group, or an image without one."""
    unlabelled = group < 0
    ids = np.where(unlabelled, group.max(initial=-1) + 1 + np.arange(len(group)), group)
    return np.unique(ids, return_inverse=True)[1].astype(np.int64)


def plan(
    group: np.ndarray, spans: np.ndarray, *, batch: int, epochs: int, seed: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Batches of view rows for each epoch: (anchor, positive), each (steps, batch) int32.

    `group` (n,) per image, `spans` (n + 1,) the rows of its views. Every epoch permutes the
    groups anew and leaves out the tail that fills no batch; of a group it draws two different
    images, of a single image two different views. An image's views take turns, so that all
    are used evenly. Epoch e does not depend on how many epochs follow.
    """
    unit = units(group)
    order = np.argsort(unit, kind="stable")  # images, group by group
    start = np.searchsorted(unit[order], np.arange(unit.max(initial=-1) + 2))
    size = np.diff(start)
    views = np.diff(spans)
    used = np.zeros(len(group), dtype=np.int64)
    steps = len(size) // batch
    rng = np.random.default_rng(seed)
    for _ in range(epochs):
        chosen = rng.permutation(len(size))[: steps * batch]
        first = (rng.random(len(chosen)) * size[chosen]).astype(np.int64)
        other = 1 + (rng.random(len(chosen)) * (size[chosen] - 1)).astype(np.int64)
        second = np.where(size[chosen] > 1, (first + other) % size[chosen], first)
        anchor = order[start[chosen] + first]
        positive = order[start[chosen] + second]
        rows = []
        for image in (anchor, positive):  # in turn: a lone image gives its next view second
            rows.append(spans[image] + used[image] % views[image])
            used[image] += 1
        yield tuple(r.astype(np.int32).reshape(steps, batch) for r in rows)  # type: ignore[misc]
