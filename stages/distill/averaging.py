"""Weights between two students of one training: averages, and the head of an untrained network.

A student half way between its start and its last weights retrieves better than either in most
trials (Wortsman et al., CVPR 2022, for classifiers): it has learned, and has forgotten less.
Everything is computed in float64 and rounded once.
"""

import numpy as np
from torch import Tensor

Array = np.ndarray
State = dict[str, Tensor]
SHARES = (0.3, 0.5, 0.7, 0.85)  # of the way from the start; 1 is the last weights themselves
UNMEASURED = 0.5  # the share where there are no validation groups to choose by


def between(start: State, end: State, share: float) -> State:
    """(1 - `share`) `start` + `share` `end`, batch statistics too; counters are those of `end`."""
    return {
        name: last
        if not last.is_floating_point()
        else ((1 - share) * start[name].double() + share * last.double()).to(last.dtype)
        for name, last in end.items()
    }


class Moving:
    """An average of weights along a training, in which older ones count less and less.

    After step t (from 1) it moves by max(1 / 100, 9 / (t + 9)) of the way to the weights of now:
    near the start it follows them, later it remembers about a hundred steps.
    """

    def __init__(self, start: State) -> None:
        self.state = {
            name: (w.double() if w.is_floating_point() else w).clone() for name, w in start.items()
        }

    def add(self, weights: State, step: int) -> None:
        """Take in the `weights` after `step`."""
        move = max(0.01, 9 / (step + 9))
        for name, new in weights.items():
            if new.is_floating_point():
                self.state[name].lerp_(new.double(), move)
            else:
                self.state[name] = new.clone()

    def result(self, like: State) -> State:
        """The average, in the types of `like`."""
        return {name: self.state[name].to(w.dtype).to(w.device) for name, w in like.items()}


def head_by_pca(features: Array, dim: int) -> tuple[Array, Array]:
    """(weight (dim, d), bias (dim,)) float64: the `dim` largest directions of (n, d) `features`.

    Of their uncentred covariance, each divided by the fourth root of its eigenvalue (floored at
    1e-5 of the largest): half way to whitening, which costs least of what is cut off. The bias is
    zero, as are rows beyond d.
    """
    x = np.asarray(features, dtype=np.float64)
    values, vectors = np.linalg.eigh(x.T @ x / len(x))
    values, kept = values[::-1][:dim], vectors[:, ::-1][:, :dim].T
    kept = kept * np.sign(kept[np.arange(len(kept)), np.abs(kept).argmax(1)])[:, None]
    weight = np.zeros((dim, x.shape[1]))
    weight[: len(kept)] = np.maximum(values, 1e-5 * values[0])[:, None] ** -0.25 * kept
    return weight, np.zeros(dim)
