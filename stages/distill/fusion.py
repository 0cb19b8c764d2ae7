"""Fusion: T similarity matrices of a batch into one target. T teachers, N pairs.

A strategy is a function (sims_TNN, rng) -> (N, N); row i, column i is a positive pair, every other
entry a negative one. The random ones draw one mask a batch, which serves rows and columns alike.
"""

from collections.abc import Callable

import numpy as np

Array = np.ndarray


def maxmin(sims_TNN: Array, rng: np.random.Generator) -> Array:
    """Positives from the most confident teacher, negatives from the least."""
    return _diagonal_else(sims_TNN.max(0), sims_TNN.min(0))


def mean(sims_TNN: Array, rng: np.random.Generator) -> Array:
    """The mean teacher everywhere: what concatenated descriptors would give."""
    return sims_TNN.mean(0)


def maxmean(sims_TNN: Array, rng: np.random.Generator) -> Array:
    """Positives from the most confident teacher, negatives from the mean."""
    return _diagonal_else(sims_TNN.max(0), sims_TNN.mean(0))


def maxrand(sims_TNN: Array, rng: np.random.Generator) -> Array:
    """Positives from the most confident teacher, each negative from a random one."""
    return _diagonal_else(sims_TNN.max(0), rand(sims_TNN, rng))


def rand(sims_TNN: Array, rng: np.random.Generator) -> Array:
    """Each entry from a random teacher."""
    teacher = rng.integers(len(sims_TNN), size=sims_TNN.shape[1:])
    return np.take_along_axis(sims_TNN, teacher[None], 0)[0]


def maxfix(sims_TNN: Array, rng: np.random.Generator) -> Array:
    """Positives from the most confident teacher, negatives from the last one named."""
    return _diagonal_else(sims_TNN.max(0), sims_TNN[-1])


STRATEGIES: dict[str, Callable[[Array, np.random.Generator], Array]] = {
    f.__name__: f for f in (maxmin, mean, maxmean, maxrand, rand, maxfix)
}


def _diagonal_else(positives_NN: Array, negatives_NN: Array) -> Array:
    return np.where(np.eye(len(positives_NN), dtype=bool), positives_NN, negatives_NN)
