"""The choice of whitening against a slow oracle: every candidate fitted anew, every list sorted."""

from collections import defaultdict

import numpy as np
import pytest

from stages.distill import leave_one_out, whitening_choice
from stages.distill.leave_one_out import Sample
from stages.distill.whitening_choice import Candidate, Knobs

D, GROUPS, IMAGES, VIEWS = 20, 24, 3, 2
AUTO = Knobs("auto", "auto", "auto", "auto", 1e-5)


def world(seed: int = 0, noise: float = 0.8) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(float16 unit rows, group, image) of views whose groups differ in some directions only."""
    rng = np.random.default_rng(seed)
    centre = rng.standard_normal((GROUPS, 1, 1, D)) * np.linspace(0.1, 0.6, D)
    scatter = rng.standard_normal((GROUPS, IMAGES, 1, D)) * np.linspace(1.2, 0.1, D)
    view = 0.2 * rng.standard_normal((GROUPS, IMAGES, VIEWS, D))
    x = (centre + noise * scatter + view).reshape(-1, D) + 0.4
    x = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float16)
    images = np.repeat(np.arange(GROUPS * IMAGES), VIEWS)
    return x, images // IMAGES, images


def oracle_within(x: np.ndarray, unit: np.ndarray, item: np.ndarray) -> np.ndarray:
    """Pair by pair: half the outer product of differences, each unit's pairs weighted as drawn."""
    outer, weights = np.zeros((x.shape[1], x.shape[1])), 0.0
    for i in range(len(x)):
        for j in range(len(x)):
            if unit[i] == unit[j] and item[i] != item[j]:
                size = int((unit == unit[i]).sum())
                weight = 1 / (size * (size - 1))
                outer += weight * np.outer(x[i] - x[j], x[i] - x[j]) / 2
                weights += weight
    return outer / weights


def oracle_projection(
    c: Candidate, x: np.ndarray, unit: np.ndarray, item: np.ndarray, floor: float
) -> tuple[np.ndarray, np.ndarray]:
    """(mean, projection) of one candidate, fitted from scratch."""
    mean = x.mean(0)
    total = (x - mean).T @ (x - mean) / len(x)
    if c.method == "pca":
        values, vectors = np.linalg.eigh(total)
        values, vectors = values[::-1], vectors[:, ::-1]
        values = np.maximum(values, floor * values[0])
        return mean, (vectors * values**-c.exponent).T[: c.dim]
    within = oracle_within(x, unit, item)
    shrunk = (1 - c.shrinkage) * within + c.shrinkage * np.trace(within) / D * np.eye(D)
    values, vectors = np.linalg.eigh(shrunk)
    white = vectors @ np.diag(np.maximum(values, floor * values[-1]) ** -0.5) @ vectors.T
    kept = np.linalg.eigh(white @ total @ white)[1][:, ::-1]
    return mean, kept[:, : c.dim].T @ white


def oracle_map(y: np.ndarray, unit: np.ndarray, item: np.ndarray) -> float:
    """The first row of each item asks; full sorts; mean over queries of a unit, then units."""
    y = y / np.linalg.norm(y, axis=1, keepdims=True)
    aps = defaultdict(list)
    for q in range(len(y)):
        if q and item[q] == item[q - 1]:
            continue
        others = [i for i in range(len(y)) if item[i] != item[q]]
        others.sort(key=lambda i: -float(y[i] @ y[q]))
        hits, precisions = 0, []
        for place, i in enumerate(others, 1):
            if unit[i] == unit[q]:
                hits += 1
                precisions.append(hits / place)
        aps[unit[q]].append(np.mean(precisions))
    return 100 * float(np.mean([np.mean(v) for v in aps.values()]))


def oracle_score(
    c: Candidate, x: np.ndarray, sides: tuple[Sample, Sample], floor: float = 1e-5
) -> float:
    total = 0.0
    for fit, scored in (sides, sides[::-1]):
        rows = x[scored.row].astype(np.float64)
        if c.method != "none":
            mean, p = oracle_projection(c, x[fit.row].astype(np.float64), fit.unit, fit.item, floor)
            rows = (rows - mean) @ p.T
        total += oracle_map(rows, scored.unit, scored.item) / 2
    return total


@pytest.mark.parametrize("seed", [0, 1])
def test_every_score_and_the_choice_are_the_oracle_s(seed: int) -> None:
    x, group, image = world(seed)
    found = whitening_choice.choose(x, group, image, AUTO, seed=seed)
    assert found.by == "groups"
    sides = leave_one_out.halves(group, image, bound=10_000, seed=seed)
    methods = [c.method for c in found.scores]
    tried = len(whitening_choice.dims(D))
    assert methods.count("none") == 1
    assert methods.count("pca") == tried * len(whitening_choice.EXPONENTS)
    assert methods.count("learned") == tried * len(whitening_choice.SHRINKAGES)
    wanted = {c: oracle_score(c, x, sides) for c in found.scores}
    for c, score in found.scores.items():
        assert score == pytest.approx(wanted[c], abs=1e-6), c
    assert found.taken == whitening_choice.best(wanted)


def test_without_groups_the_views_of_an_image_are_what_is_found() -> None:
    x, _, image = world(2)
    none = np.full(len(image), -1)
    found = whitening_choice.choose(x, none, image, AUTO, seed=0)
    assert found.by == "images"
    assert {c.method for c in found.scores} == {"none", "pca"}
    sides = leave_one_out.halves(image, np.arange(len(image)), bound=10_000, seed=0)
    for c, score in found.scores.items():
        assert score == pytest.approx(oracle_score(c, x, sides), abs=1e-6), c


def test_fixed_knobs_leave_only_their_own_candidates() -> None:
    x, group, image = world()

    def left(**fixed: object) -> set[Candidate]:
        knobs = Knobs(**{**vars(AUTO), **fixed})  # type: ignore[arg-type]
        return set(whitening_choice.choose(x, group, image, knobs, seed=0).scores)

    assert {c.method for c in left(method="pca")} == {"pca"}
    assert {c.exponent for c in left(method="pca", exponent=0.3)} == {0.3}
    assert {c.dim for c in left(dim=12)} == {12}  # nor `none`, which has all dimensions
    assert {c.shrinkage for c in left(method="learned", shrinkage=0.6, dim=8)} == {0.6}
    assert {c.method for c in left(dim=D)} == {"none", "pca", "learned"}


def test_what_is_fixed_altogether_asks_for_no_choice() -> None:
    assert not Knobs("pca", 8, 0.5, "auto", 1e-5).free
    assert not Knobs("learned", 8, "auto", 0.2, 1e-5).free
    assert not Knobs("none", "auto", "auto", "auto", 1e-5).free
    assert Knobs("learned", 8, 0.5, "auto", 1e-5).free
    assert Knobs("auto", 8, 0.5, 0.5, 1e-5).free


def test_nothing_is_taken_that_is_below_no_whitening() -> None:
    """White noise around the groups: every direction says the same, and whitening only hurts."""
    rng = np.random.default_rng(0)
    image = np.repeat(np.arange(60), 2)
    x = np.repeat(np.repeat(rng.standard_normal((20, 64)), 3, axis=0), 2, axis=0)
    x = x - x.mean(0) + 1.2 * rng.standard_normal((120, 64))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    found = whitening_choice.choose(x, image // 3, image, AUTO, seed=0)
    raw = next(s for c, s in found.scores.items() if c.method == "none")
    assert found.scores[found.taken] >= raw


def test_where_nothing_can_be_ranked_nothing_is_whitened() -> None:
    x, _, _ = world()
    alone = np.arange(len(x))
    found = whitening_choice.choose(x, np.full(len(x), -1), alone, AUTO, seed=0)
    assert found.taken.method == "none" and not found.scores and found.by == ""
    few = np.where(alone < 12, alone // 4, -1)  # three groups say nothing
    assert whitening_choice.choose(x, few, alone, AUTO, seed=0).taken.method == "none"


def test_the_choice_is_the_same_each_time_and_another_with_another_seed() -> None:
    x, group, image = world()
    one, same, other = (
        whitening_choice.choose(x, group, image, AUTO, seed=s).scores for s in (3, 3, 4)
    )
    assert one == same and one != other


def test_dimensions_tried() -> None:
    assert whitening_choice.dims(5) == (5,)
    assert whitening_choice.dims(20) == (8, 12, 16, 20)
    assert whitening_choice.dims(64) == (8, 12, 16, 24, 32, 48, 64)
    assert whitening_choice.dims(1280)[-3:] == (768, 1024, 1280)


def test_of_equal_scores_the_simpler_is_taken() -> None:
    none, pca = Candidate("none", 20, 0.0, 0.0), Candidate("pca", 20, 0.0, 0.0)
    small, learned = Candidate("pca", 8, 0.5, 0.0), Candidate("learned", 8, 0.0, 0.5)
    assert whitening_choice.best({learned: 1.0, pca: 1.0, small: 1.0, none: 1.0}) == none
    assert whitening_choice.best({learned: 1.0, pca: 1.0, small: 1.0}) == small
    assert whitening_choice.best({learned: 1.1, pca: 1.0}) == learned
