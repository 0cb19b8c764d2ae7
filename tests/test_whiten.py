"""The stage `whiten` on small files: the formula in double precision, and what it refuses."""

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import spoiled
from ruamel.yaml import YAML

from stages import whiten
from stages.core import console, files, store

ROOT = Path(__file__).parents[1]
GROUPS, IMAGES, VIEWS, D = 40, 3, 2, 8
WHITEN = {
    "method": "pca", "dim": 5, "exponent": 0.5, "floor": 1e-5, "samples": 1000, "pairs": 400,
    "shrinkage": "auto", "seed": 0,
}  # fmt: skip


class World:
    """A folder in which `whiten` can run, and what it wrote."""

    def __init__(self, folder: Path, groups: bool = True) -> None:
        self.folder = folder
        n = GROUPS * IMAGES
        group = np.repeat(np.arange(GROUPS), IMAGES) if groups else np.full(n, -1)
        self.arrays = {
            "image_id": np.array([f"i{k}" for k in range(n)]),
            "path": np.array([f"{k}.png" for k in range(n)]), "group": group.astype(np.int32),
            "view_image": np.repeat(np.arange(n), VIEWS).astype(np.int32),
            "view": np.zeros((n * VIEWS, 5), np.float32),
        }  # fmt: skip
        self.digest = self.train()
        rng = np.random.default_rng(0)
        centre = np.repeat(rng.standard_normal((GROUPS, D)), IMAGES * VIEWS, axis=0)
        x = (centre + 0.5 * rng.standard_normal((n * VIEWS, D))) * np.logspace(0, -1, D) + 0.7
        self.x = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float16)
        self.features(self.x, self.digest)

    def train(self) -> str:
        about = {"columns": "x y width height flip", "root": "/r", "images": "0"}
        store.write(self.folder / "train.h5", "train", self.arrays, **about)
        return store.Stored(self.folder / "train.h5", "train").digest

    def features(self, x: np.ndarray, train: str) -> None:
        store.write(self.folder / "t.h5", "features", {"descriptor": x}, train=train, teacher="t")

    def run(self, **changes: Any) -> int:
        values = YAML(typ="safe").load((ROOT / "params.yaml").read_text("utf-8"))
        values["whiten"] = {k: v for k, v in {**WHITEN, **changes}.items() if v is not None}
        with (self.folder / "params.yaml").open("w") as f:
            YAML(typ="safe").dump(values, f)
        paths = ["train.h5", "t.h5", "w/t.h5", "y/t.h5", "--params", "params.yaml"]
        arguments = [p if p == "--params" else str(self.folder / p) for p in paths]
        return console.run(whiten.app, ["t", *arguments])

    def open(self, name: str, kind: str) -> store.Stored:
        return store.Stored(self.folder / name, kind)

    def outputs(self) -> dict[str, str]:
        written = [*self.folder.glob("w/*"), *self.folder.glob("y/*")]
        return {str(p): files.digest_of_file(p) for p in written}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def whitened_by_hand(x: np.ndarray, sample: np.ndarray, dim: int, exponent: float) -> np.ndarray:
    """Section 3.2 of the design, row by row in double precision."""
    x, sample = x.astype(np.float64), sample.astype(np.float64)
    mean = sum(sample) / len(sample)
    covariance = sum(np.outer(r - mean, r - mean) for r in sample) / len(sample)
    values, vectors = np.linalg.eigh(covariance)
    values, vectors = np.maximum(values[::-1], 1e-5 * values[-1]), vectors[:, ::-1]
    p = np.diag(values[:dim] ** -exponent) @ vectors[:, :dim].T
    return unit(np.array([p @ (row - mean) for row in x]))


@pytest.mark.parametrize("exponent", [0.5, 0.0, 1])
@pytest.mark.parametrize("dim", [1, 5, D])
def test_similarities_are_those_of_the_formula(world: World, dim: int, exponent: float) -> None:
    assert world.run(dim=dim, exponent=exponent) == 0
    y = world.open("y/t.h5", "whitened")["descriptor"]
    assert y.shape == (len(world.x), dim) and y.dtype == np.float16
    wanted = whitened_by_hand(world.x, world.x, dim, exponent)
    assert np.abs(y.astype(float) @ y.astype(float).T - wanted @ wanted.T).max() < 2e-3


def test_the_file_of_the_whitening_gives_the_rows(world: World) -> None:
    assert world.run() == 0
    w, y = world.open("w/t.h5", "whitening"), world.open("y/t.h5", "whitened")["descriptor"]
    rows = unit((world.x.astype(float) - w["mean"]) @ w["projection"].T)
    assert np.abs(rows - y).max() < 1e-3
    assert w["mean"].shape == (D,) and w["projection"].shape == (5, D)
    assert {"exponent", "floor", "samples", "energy_kept"} <= set(w.attributes)
    values = np.linalg.eigvalsh(np.cov(world.x.astype(float).T, bias=True))[::-1]
    assert np.allclose(w["eigenvalue"], values[:5], rtol=1e-6)
    assert w.attributes["energy_kept"] == pytest.approx(values[:5].sum() / values.sum(), rel=1e-6)


def test_a_sample_is_seeded_without_repeats_and_fits_only(world: World) -> None:
    assert world.run(samples=60) == 0
    first = world.outputs()
    mean = world.open("w/t.h5", "whitening")["mean"] * 60
    assert world.run(samples=60) == 0
    assert world.outputs() == first
    assert world.run(samples=60, seed=1) == 0
    assert not np.allclose(world.open("w/t.h5", "whitening")["mean"] * 60, mean)
    assert world.run(samples=len(world.x)) == 0  # all of them: no seed can matter
    whole = world.open("w/t.h5", "whitening")["mean"]
    assert np.allclose(whole, world.x.astype(float).mean(0))


def test_too_few_rows_warn(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert world.run(samples=20 * D) == 0
    assert "warning" not in capsys.readouterr().err
    assert world.run(samples=20 * D - 1) == 0
    assert f"warning: {20 * D - 1} rows for {D} dimensions" in capsys.readouterr().err


def test_none_keeps_the_descriptors_as_they_are(world: World) -> None:
    assert world.run(method="none", dim=3) == 0
    y = world.open("y/t.h5", "whitened")["descriptor"]
    assert y.shape == (len(world.x), D)
    assert np.abs(y - unit(world.x.astype(float))).max() < 1e-3


def test_learned_whitening_makes_the_scatter_within_groups_white(world: World) -> None:
    assert world.run(method="learned", shrinkage=0.0, dim=D, pairs=20_000) == 0
    w = world.open("w/t.h5", "whitening")
    z = (world.x.astype(float) - w["mean"]) @ w["projection"].T
    z = z.reshape(GROUPS, IMAGES, VIEWS, D)
    scatter = np.zeros((D, D))
    pairs = [(i, j) for i in range(IMAGES) for j in range(IMAGES) if i != j]
    for i, j in pairs:
        for v in range(VIEWS):
            for u in range(VIEWS):
                d = z[:, i, v] - z[:, j, u]
                scatter += d.T @ d / (2 * GROUPS * len(pairs) * VIEWS * VIEWS)
    assert np.abs(scatter - np.eye(D)).max() < 0.1
    assert w.attributes["shrinkage"] == 0


def score_of(world: World, **changes: Any) -> float:
    """What the whitening written says of its own choice."""
    rows = json.loads(world.open("w/t.h5", "whitening").text("tried"))
    wanted = [changes[k] for k in ("method", "dim", "exponent", "shrinkage")]
    return next(r[4] for r in rows if r[:4] == wanted)


AUTO = dict.fromkeys(("method", "dim", "exponent", "shrinkage"), "auto")


def test_auto_takes_the_best_that_it_tried_and_stores_the_table(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    assert world.run(**AUTO) == 0
    w = world.open("w/t.h5", "whitening")
    rows = json.loads(w.text("tried"))
    assert w.text("chosen_by") == "groups" and len({r[0] for r in rows}) == 3
    taken = {"method": w.text("method"), "dim": len(w["eigenvalue"]),
             "exponent": w.attributes["exponent"], "shrinkage": w.attributes["shrinkage"]}  # fmt: skip
    best = max(r[4] for r in rows)
    assert score_of(world, **taken) == best
    err = capsys.readouterr().err
    assert f"best of {len(rows)} on groups left out" in err and f"{best:5.1f}" in err
    first = world.outputs()
    assert world.run(**AUTO) == 0 and world.outputs() == first  # to the byte
    explicit = {k: v for k, v in taken.items() if v != 0 or k == "exponent"}
    assert world.run(**explicit) == 0  # the same as asking for it
    again = world.open("w/t.h5", "whitening")
    assert np.array_equal(again["projection"], w["projection"])
    assert "tried" not in again.attributes


def test_fixed_values_win_over_auto(world: World) -> None:
    assert world.run(method="pca", dim={"t": "auto"}, exponent=0.0) == 0
    w = world.open("w/t.h5", "whitening")
    assert w.text("method") == "pca" and w.attributes["exponent"] == 0
    assert world.run(**{**AUTO, "dim": 3}) == 0
    assert world.open("w/t.h5", "whitening")["projection"].shape == (3, D)


def test_auto_without_groups_asks_for_views_of_the_same_image(tmp_path: Path) -> None:
    lone = World(tmp_path, groups=False)
    assert lone.run(**AUTO) == 0
    w = lone.open("w/t.h5", "whitening")
    assert w.text("chosen_by") == "images" and w.text("method") != "learned"


def test_a_map_gives_each_teacher_its_own_width(world: World) -> None:
    assert world.run(dim={"t": 4, "other": 99}) == 0
    assert world.open("y/t.h5", "whitened")["descriptor"].shape[1] == 4


def refusal(world: World, capsys: pytest.CaptureFixture[str], **changes: Any) -> str:
    """Exit 2, one line, and no output touched."""
    before = world.outputs()
    capsys.readouterr()
    assert world.run(**changes) == 2
    text = capsys.readouterr().err
    assert text.count("\n") == 1 and text.startswith("error: "), text
    assert world.outputs() == before
    return text


def test_dimensions_that_are_not_there(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert world.run() == 0
    line = refusal(world, capsys, dim=D + 1)
    assert f"whiten.dim is {D + 1}" in line and f"at most {D}" in line and "params.yaml" in line
    assert "teacher t" in refusal(world, capsys, dim={"other": 4})
    assert "teacher t" in refusal(world, capsys, dim=0)


@pytest.mark.parametrize(
    ("key", "value"),
    [("method", "zca"), ("floor", 0), ("floor", 1.0), ("exponent", -0.1), ("samples", 1),
     ("pairs", 0), ("seed", -1), ("shrinkage", "none"), ("exponent", "best"), ("dim", "best"), ("shrinkage", 1.5), ("shrinkage", -0.1),
     ("dim", None)],
)  # fmt: skip
def test_impossible_knobs(
    world: World, capsys: pytest.CaptureFixture[str], key: str, value: Any
) -> None:
    before = world.outputs()
    assert world.run(**{"method": "learned", key: value}) == 2
    text = capsys.readouterr().err
    assert all(line.startswith("error: ") for line in text.splitlines()), text
    assert f"whiten.{key}" in text and world.outputs() == before


def test_a_wrong_shrinkage_is_one_error_not_one_for_each_type(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "whiten.shrinkage" in refusal(world, capsys, shrinkage="none")


def test_learned_needs_groups(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lone = World(tmp_path, groups=False)
    assert "needs groups" in refusal(lone, capsys, method="learned")


def test_constant_descriptors_are_refused_not_written_as_nan(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    world.features(np.full_like(world.x, D**-0.5), world.digest)
    assert "t.h5" in refusal(world, capsys)


def test_descriptors_that_are_no_numbers_are_refused(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    x = world.x.copy()
    x[7, 2] = np.nan
    for method in ("pca", "learned", "none"):
        path = world.folder / "t.h5"
        spoiled.write(path, "features", {"descriptor": x}, train=world.digest, teacher="t")
        line = refusal(world, capsys, method=method)
        assert "t.h5" in line and "1 of 240 rows have NaN or infinity, the first: row 7" in line


def test_inputs_that_are_not_what_they_should_be(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    assert world.run() == 0
    path = world.folder / "t.h5"
    whole = path.read_bytes()
    world.features(world.x, "of another train.h5")
    assert "extract again" in refusal(world, capsys)
    world.features(world.x[1:], world.digest)
    assert "extract again" in refusal(world, capsys)
    path.write_bytes(whole[:-100])
    assert "t.h5" in refusal(world, capsys)
    path.write_bytes(whole)
    with h5py.File(path, "r+") as f:
        f["descriptor"][3, 1] += np.float16(0.25)
    line = refusal(world, capsys)
    assert "t.h5" in line and "digest" in line
    path.unlink()
    assert "t.h5: no such file" in refusal(world, capsys)
