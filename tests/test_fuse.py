"""The stage `fuse` on small files: targets and prototypes as in double precision, errors whole."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from ruamel.yaml import YAML

from stages import fuse
from stages.core import console, files, store

ROOT = Path(__file__).parents[1]
WIDTHS = {"a": 6, "b": 4, "c": 5}
GROUP = np.array([0, 0, 0, 1, 1, 2, 2, -1, -1, 3], np.int32)  # 6 units
VIEWS = np.array([2, 1, 3, 2, 2, 1, 1, 2, 3, 2])
IMAGE = np.repeat(np.arange(10), VIEWS).astype(np.int32)
UNIT = np.array([0, 0, 0, 1, 1, 2, 2, 4, 5, 3])[IMAGE]
FUSE = {
    "strategy": "maxmin", "batch": 4, "epochs": 3, "held_out_epochs": 0, "prototypes": "ensemble",
    "frames": ["whitened"], "dim": 7, "samples": 1000, "seed": 0,
}  # fmt: skip


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def train_file(path: Path, seed: int = 0) -> str:
    n = len(GROUP)
    arrays = {
        "image_id": np.array([f"i{k}" for k in range(n)]),
        "path": np.array([f"{k}.png" for k in range(n)]), "group": GROUP, "view_image": IMAGE,
        "view": np.random.default_rng(seed).random((len(IMAGE), 5)).astype(np.float32),
    }  # fmt: skip
    store.write(path, "train", arrays, columns="x y width height flip", root="/r", images="0")
    return store.Stored(path, "train").digest


def whitened_file(path: Path, train: str, seed: int, rows: int = len(IMAGE)) -> None:
    x = unit(np.random.default_rng(seed).standard_normal((rows, WIDTHS[path.stem])))
    store.write(
        path, "whitened", {"descriptor": x.astype(np.float16)}, train=train, teacher=path.stem
    )


class World:
    """A folder in which `fuse` can run, and what it wrote."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.digest = train_file(folder / "train.h5")
        for seed, name in enumerate(WIDTHS):
            whitened_file(folder / f"whitened/{name}.h5", self.digest, seed)

    def params(self, ensemble: tuple[str, ...] = ("a", "b"), **changes: Any) -> Path:
        values = YAML(typ="safe").load((ROOT / "params.yaml").read_text("utf-8"))
        values["teachers"] = {n: {"kind": "any_timm"} for n in WIDTHS}
        values["ensemble"] = list(ensemble)
        values["fuse"] = {k: v for k, v in {**FUSE, **changes}.items() if v is not None}
        with (self.folder / "params.yaml").open("w") as f:
            YAML(typ="safe").dump(values, f)
        return self.folder / "params.yaml"

    def run(self, **changes: Any) -> int:
        f = self.folder
        arguments = [f / "train.h5", f / "whitened", f / "targets", f / "fused.h5", "--params"]
        return console.run(fuse.app, [*map(str, arguments), str(self.params(**changes))])

    def open(self, name: str, kind: str = "targets") -> store.Stored:
        return store.Stored(self.folder / name, kind)

    def teachers(self, names: tuple[str, ...] = ("a", "b")) -> list[np.ndarray]:
        return [
            np.asarray(self.open(f"whitened/{n}.h5", "whitened")["descriptor"], np.float64)
            for n in names
        ]

    def outputs(self) -> dict[str, str]:
        """Digests of everything that was written, hidden files too."""
        written = [*self.folder.glob("targets/**/*"), *self.folder.glob("*fused*")]
        return {str(p): files.digest_of_file(p) for p in written if p.is_file()}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def sims_by_hand(
    teachers: list[np.ndarray], anchor: np.ndarray, positive: np.ndarray
) -> np.ndarray:
    """(T, N, N), one inner product at a time."""
    return np.array([
        [[sum(p * q for p, q in zip(t[i], t[j], strict=True)) for j in positive] for i in anchor]
        for t in teachers
    ])  # fmt: skip


BY_HAND: dict[str, Callable[[np.ndarray, bool], float]] = {
    "maxmin": lambda s, diagonal: max(s) if diagonal else min(s),
    "mean": lambda s, diagonal: sum(s) / len(s),
    "maxmean": lambda s, diagonal: max(s) if diagonal else sum(s) / len(s),
    "maxfix": lambda s, diagonal: max(s) if diagonal else s[-1],
}


@pytest.mark.parametrize("strategy", BY_HAND)
def test_targets_are_the_fused_similarities_of_the_plan(world: World, strategy: str) -> None:
    names = ("a", "c", "b")
    assert world.run(ensemble=names, strategy=strategy, epochs=1) == 0
    shard = world.open("targets/epoch-0000.h5")
    anchor, positive, target = shard["anchor"], shard["positive"], shard["target"]
    assert anchor.shape == positive.shape == (1, 4) and target.shape == (1, 4, 4)
    assert target.dtype == np.float16 and anchor.dtype == positive.dtype == np.int32
    sims = sims_by_hand(world.teachers(names), anchor[0], positive[0])
    for i in range(4):
        for j in range(4):
            assert abs(float(target[0, i, j]) - BY_HAND[strategy](sims[:, i, j], i == j)) < 2e-3


@pytest.mark.parametrize("strategy", ["rand", "maxrand"])
def test_random_targets_are_of_one_teacher_each_and_repeatable(world: World, strategy: str) -> None:
    assert world.run(strategy=strategy) == 0
    first = world.outputs()
    sims_of = world.teachers()
    chosen = []
    for e in range(3):
        shard = world.open(f"targets/epoch-{e:04d}.h5")
        sims = sims_by_hand(sims_of, shard["anchor"][0], shard["positive"][0])
        error = np.abs(sims - shard["target"][0][None])
        off = ~np.eye(4, dtype=bool)
        assert error.min(0)[off].max() < 2e-3
        chosen.append(error.argmin(0)[off].tobytes())
        if strategy == "maxrand":
            assert np.allclose(np.diag(shard["target"][0]), np.diagonal(sims.max(0)), atol=2e-3)
    assert len(set(chosen)) == 3  # every batch draws anew
    assert world.run(strategy=strategy) == 0
    assert world.outputs() == first
    assert world.run(strategy=strategy, seed=1) == 0
    assert world.outputs() != first


def test_batches_are_pairs_of_groups_with_their_plan_beside_them(world: World) -> None:
    assert world.run() == 0
    for e in range(3):
        shard = world.open(f"targets/epoch-{e:04d}.h5")
        a, b = shard["anchor"], shard["positive"]
        assert np.array_equal(UNIT[a], UNIT[b]) and (a != b).all()
        assert all(len(set(row)) == 4 for row in UNIT[a].tolist())
        assert shard.attributes["epochs"] == 3 and shard.text("train") == world.digest
        assert json.loads(shard.text("teachers")) == ["a", "b"]


def test_more_epochs_change_no_earlier_targets_and_fewer_leave_no_stale_file(
    world: World,
) -> None:
    assert world.run(epochs=4, held_out_epochs=1) == 0
    assert world.open("targets/epoch-0000.h5").attributes["held_out"] == 1
    long = [np.array(world.open(f"targets/epoch-{e:04d}.h5")["target"]) for e in range(4)]
    held = np.array(world.open("targets/held-out.h5")["target"])
    assert world.run(epochs=2) == 0
    names = sorted(p.name for p in (world.folder / "targets").iterdir())
    assert names == ["epoch-0000.h5", "epoch-0001.h5", "prototypes.h5"]
    for e in range(2):
        assert np.array_equal(world.open(f"targets/epoch-{e:04d}.h5")["target"], long[e])
    assert not any(np.array_equal(held, x) for x in long)


def fused_by_hand(teachers: list[np.ndarray], dim: int) -> tuple[np.ndarray, np.ndarray]:
    """(m, dim) fused embeddings and the eigenvalues, in double precision."""
    x = np.concatenate(teachers, axis=1) / np.sqrt(len(teachers))
    second = sum(np.outer(row, row) for row in x) / len(x)
    values, vectors = np.linalg.eigh(second)
    return unit(x @ vectors[:, ::-1][:, :dim]), values[::-1]


@pytest.mark.parametrize("dim", [7, 10])
def test_prototypes_are_the_normalised_means_of_fused_embeddings(world: World, dim: int) -> None:
    assert world.run(dim=dim) == 0
    found = world.open("targets/prototypes.h5", "prototypes")
    prototype, label = found["prototype"], found["view_prototype"]
    assert prototype.shape == (6, dim) and prototype.dtype == np.float16
    assert np.allclose(np.linalg.norm(prototype.astype(float), axis=1), 1, atol=1e-3)
    assert label.dtype == np.int32 and len(label) == len(IMAGE)
    same = label[:, None] == label[None]
    assert np.array_equal(same, UNIT[:, None] == UNIT[None])
    embedding, values = fused_by_hand(world.teachers(), dim)
    w = world.open("fused.h5", "whitening")
    assert np.allclose(w["eigenvalue"], values[:dim], atol=1e-6)
    assert w["projection"].shape == (dim, 10) and not w["mean"].any()
    assert np.allclose(w["projection"] @ w["projection"].T, np.eye(dim), atol=1e-6)
    x = np.concatenate(world.teachers(), axis=1) / np.sqrt(2)
    frame = unit(x @ w["projection"].T)  # as by hand, up to the signs of its axes
    assert np.allclose(frame @ frame.T, embedding @ embedding.T, atol=1e-5)
    for p in range(6):
        total = np.zeros(dim)
        for row, of in zip(frame, label, strict=True):
            if of == p:
                total += row
        assert np.abs(prototype[p] - total / np.linalg.norm(total)).max() < 1e-3


def test_a_sample_is_seeded_and_only_fits_the_frame(world: World) -> None:
    assert world.run(samples=12) == 0
    first = world.outputs()
    assert world.run(samples=12) == 0
    assert world.outputs() == first
    assert world.run(samples=1000) == 0
    changed = {Path(k).name for k, v in world.outputs().items() if first[k] != v}
    assert changed == {"prototypes.h5", "fused.h5"}


def test_random_prototypes_know_the_labels_only(world: World) -> None:
    assert world.run(prototypes="random") == 0
    first = np.array(world.open("targets/prototypes.h5", "prototypes")["prototype"])
    assert np.allclose(np.linalg.norm(first.astype(float), axis=1), 1, atol=1e-3)
    for seed, name in enumerate(WIDTHS, 50):
        whitened_file(world.folder / f"whitened/{name}.h5", world.digest, seed)
    assert world.run(prototypes="random") == 0
    again = world.open("targets/prototypes.h5", "prototypes")["prototype"]
    assert np.array_equal(first, again)


def test_only_the_named_teachers_are_opened(world: World) -> None:
    (world.folder / "whitened/c.h5").write_bytes(b"damaged")
    (world.folder / "whitened/stale.h5").write_bytes(b"damaged")
    assert world.run() == 0


def test_more_dimensions_than_there_are_become_all_of_them(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    assert world.run(dim=11) == 0
    assert "fuse.dim is 11" in (said := capsys.readouterr().err) and "10 are used" in said
    wide = world.outputs()
    assert world.run(dim=10) == 0
    assert world.outputs() == wide


def refusal(world: World, capsys: pytest.CaptureFixture[str], **changes: Any) -> str:
    """Exit 2, one line, and no output touched."""
    before = world.outputs()
    capsys.readouterr()
    assert world.run(**changes) == 2
    text = capsys.readouterr().err
    assert text.count("\n") == 1 and text.startswith("error: "), text
    assert world.outputs() == before
    return text


def test_knobs_that_do_not_fit_the_data(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert world.run() == 0  # an earlier run, which a mistake must not harm
    line = refusal(world, capsys, batch=7)
    assert "fuse.batch is 7" in line and "at most 6" in line
    line = refusal(world, capsys, strategy="maxmean2")
    assert "did you mean 'maxmean'?" in line and "maxfix" in line
    assert "no teacher 'd'" in refusal(world, capsys, ensemble=("a", "d"))


@pytest.mark.parametrize(
    ("key", "value"),
    [("batch", 1), ("epochs", 0), ("dim", 0), ("seed", -1), ("samples", 1), ("batch", 4.0),
     ("held_out_epochs", 2), ("prototypes", "none"), ("strategy", None)],
)  # fmt: skip
def test_impossible_knobs(
    world: World, capsys: pytest.CaptureFixture[str], key: str, value: Any
) -> None:
    assert f"fuse.{key}" in refusal(world, capsys, **{key: value})


def test_inputs_that_are_not_what_they_should_be(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    assert world.run() == 0
    path = world.folder / "whitened/b.h5"
    whole = path.read_bytes()

    whitened_file(path, "of another train.h5", 1)
    assert "b.h5" in refusal(world, capsys)
    whitened_file(path, world.digest, 1, rows=len(IMAGE) - 1)
    assert "b.h5" in refusal(world, capsys)
    path.write_bytes(whole[: len(whole) // 2])
    assert "b.h5" in refusal(world, capsys)
    path.unlink()
    assert "b.h5: no such file" in refusal(world, capsys)

    path.write_bytes(whole)
    with h5py.File(path, "r+") as f:
        f["descriptor"][3, 1] += np.float16(0.25)
    line = refusal(world, capsys)
    assert "b.h5" in line and "digest" in line

    path.write_bytes(whole)
    train_file(world.folder / "train.h5", seed=1)  # other views
    assert "extract" in refusal(world, capsys)
    (world.folder / "train.h5").unlink()
    assert "train.h5: no such file" in refusal(world, capsys)


def test_the_folder_of_the_inputs_is_not_taken_for_the_output(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """The stage clears its own output; given its input folder, it must not clear that."""
    before = {p: files.digest_of_file(p) for p in world.folder.rglob("*.h5")}
    f = world.folder
    arguments = [f / "train.h5", f / "whitened", f / "whitened", f / "fused.h5", "--params"]
    console.run(fuse.app, [*map(str, arguments), str(world.params())])
    assert all(p.is_file() and files.digest_of_file(p) == d for p, d in before.items())
