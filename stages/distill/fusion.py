"""Fusion: T similarity matrices of a batch into one target. T teachers, N pairs.

A strategy is a function (sims_TNN, rng) -> (N, N); row i, column i is a positive pair, every other
entry a negative one. The random ones draw one mask a batch, which serves rows and columns alike.
"""

from collections.abc import Callable

import numpy as np

Array = np.ndarray


def maxmin(sims_TNN: Array, rng: np.random.Generator) -> Array:
    """Positives from the most confident teacher, negatives from the least."""
    return _filled(sims_TNN.min(0), sims_TNN)


def mean(sims_TNN: Array, rng: np.random.Generator) -> Array:
    """The mean teacher everywhere: what concatenated descriptors would give."""
    return sims_TNN.mean(0)


def maxmean(sims_TNN: Array, rng: np.random.Generator) -> Array:
    """Positives from the most confident teacher, negatives from the mean."""
    return _filled(sims_TNN.mean(0), sims_TNN)


def maxrand(sims_TNN: Array, rng: np.random.Generator) -> Array:
    """Positives from the most confident teacher, each negative from a random one."""
    return _filled(rand(sims_TNN, rng), sims_TNN)


def rand(sims_TNN: Array, rng: np.random.Generator) -> Array:
    """Each entry from a random teacher."""
    teacher = rng.integers(len(sims_TNN), size=sims_TNN.shape[1:])
    return np.take_along_axis(sims_TNN, teacher[None], 0)[0]


def maxfix(sims_TNN: Array, rng: np.random.Generator) -> Array:
    """Positives from the most confident teacher, negatives from the last one named."""
    return _filled(sims_TNN[-1].copy(), sims_TNN)


STRATEGIES: dict[str, Callable[[Array, np.random.Generator], Array]] = {
    f.__name__: f for f in (maxmin, mean, maxmean, maxrand, rand, maxfix)
}


def _filled(negatives_NN: Array, sims_TNN: Array) -> Array:
    """`negatives_NN`, its diagonal set to the largest of the teachers' similarities."""
    np.fill_diagonal(negatives_NN, sims_TNN.diagonal(axis1=1, axis2=2).max(0))
    return negatives_NN
