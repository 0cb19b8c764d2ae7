"""Frames of the targets: as in double precision by hand, chosen by what retrieves, followed."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_fuse import IMAGE, UNIT, WIDTHS, World, fused_by_hand, unit

from stages import fuse
from stages.core import console, store
from stages.core.errors import UserError
from stages.distill import frames, ridge_start
from stages.distill.student import Student
from stages.distill.targets import Prototypes, Targets, read_frames
from stages.images.sets import TrainSet
from stages.retrieval.validation import Probe

GROUP = np.array([0, 0, 0, 1, 1, 2, 2, -1, -1, 3])[IMAGE]


class Framed(World):
    """A world of `fuse` with the teachers' own descriptors beside the whitened ones."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        for seed, name in enumerate(WIDTHS, 20):
            self.features(name, seed)

    def features(self, name: str, seed: int, train: str | None = None) -> None:
        rng = np.random.default_rng(seed)
        centre = rng.standard_normal((6, WIDTHS[name]))[UNIT]
        x = unit(centre + rng.standard_normal((len(IMAGE), WIDTHS[name])) + 1)
        store.write(
            self.folder / f"features/{name}.h5", "features", {"descriptor": x.astype(np.float16)},
            train=train or self.digest, teacher=name,
        )  # fmt: skip

    def run(self, features: bool = True, **changes: Any) -> int:
        f = self.folder
        arguments = [f / "train.h5", f / "whitened", f / "targets", f / "fused.h5"]
        more = ["--features", f / "features"] if features else []
        arguments = [*arguments, *more, "--params", self.params(**changes)]
        return console.run(fuse.app, [str(a) for a in arguments])

    def own(self, names: tuple[str, ...] = ("a", "b")) -> list[np.ndarray]:
        return [np.asarray(self.open(f"features/{n}.h5", "features")["descriptor"]) for n in names]

    def outputs(self) -> dict[str, str]:
        written = (self.folder / "frames").glob("*")
        return {
            **super().outputs(),
            **{str(p): store.Stored(p, "whitening").digest for p in written},
        }


@pytest.fixture
def world(tmp_path: Path) -> Framed:
    return Framed(tmp_path)


def pca_by_hand(x: np.ndarray, dim: int, exponent: float) -> np.ndarray:
    """(m, dim) unit rows, one outer product at a time."""
    mean = sum(x) / len(x)
    covariance = sum(np.outer(row - mean, row - mean) for row in x) / len(x)
    values, vectors = np.linalg.eigh(covariance)
    order = np.argsort(-values)[:dim]
    return unit(np.array([
        [values[k] ** -exponent * float(vectors[:, k] @ (row - mean)) for k in order] for row in x
    ]))  # fmt: skip


def learned_by_hand(x: np.ndarray, dim: int) -> np.ndarray:
    """(m, dim) unit rows: within-group covariance over all pairs of different images of a group,
    every group's pairs as often as they are drawn."""
    d = x.shape[1]
    within, weight = np.zeros((d, d)), 0.0
    for g in set(GROUP[GROUP >= 0].tolist()):
        rows = np.flatnonzero(g == GROUP)
        for i in rows:
            for j in rows:
                if IMAGE[i] != IMAGE[j]:
                    share = 1 / (len(rows) * (len(rows) - 1))
                    within += share * np.outer(x[i] - x[j], x[i] - x[j]) / 2
                    weight += share
    within /= weight
    shrunk = 0.5 * within + 0.5 * np.trace(within) / d * np.eye(d)
    values, vectors = np.linalg.eigh(shrunk)
    white = vectors @ np.diag(values**-0.5) @ vectors.T
    mean = sum(x) / len(x)
    total = white @ (sum(np.outer(r - mean, r - mean) for r in x) / len(x)) @ white.T
    values, vectors = np.linalg.eigh(total)
    return unit((x - mean) @ white @ vectors[:, ::-1][:, :dim])


BY_HAND = {
    "raw": lambda x, dim: unit(x),
    "pca-0.25": lambda x, dim: pca_by_hand(x, min(dim, x.shape[1]), 0.25),
    "pca-0.5": lambda x, dim: pca_by_hand(x, min(dim, x.shape[1]), 0.5),
    "learned": lambda x, dim: learned_by_hand(x, min(dim, x.shape[1])),
}


@pytest.mark.parametrize("dim", [3, 7])
def test_every_frame_is_what_it_is_by_hand(world: Framed, dim: int) -> None:
    assert world.run(frames=list(frames.NAMES), dim=dim) == 0
    own = world.own()
    for name, first in BY_HAND.items():
        seen = [first(x.astype(np.float64), dim) for x in own]
        embedding, values = fused_by_hand(seen, dim)
        frame = frames.read(world.folder, name, ["a", "b"])
        assert np.allclose(frame.projection.eigenvalue, values[:dim], atol=1e-4), name
        found = frame.apply(*own)
        assert np.allclose(found @ found.T, embedding @ embedding.T, atol=2e-3), name
        stored = world.open(f"targets/prototypes-{name}.h5", "prototypes")
        for p in range(6):
            total = sum(found[k].astype(np.float64) for k in np.flatnonzero(p == UNIT))
            label = stored["view_prototype"][p == UNIT]
            assert len(set(label.tolist())) == 1
            wanted = total / np.linalg.norm(total)
            assert np.abs(stored["prototype"][label[0]] - wanted).max() < 1e-3, name


def test_the_frame_of_whiten_is_what_it_was_without_others(world: Framed) -> None:
    assert world.run(frames=["whitened"]) == 0
    alone = {n: world.open(n, k).digest for n, k in (
        ("targets/prototypes.h5", "prototypes"), ("fused.h5", "whitening"))}  # fmt: skip
    assert world.run(frames=["whitened", "raw"]) == 0
    assert (
        world.open("targets/prototypes.h5", "prototypes").digest == alone["targets/prototypes.h5"]
    )
    assert world.open("fused.h5", "whitening").digest == alone["fused.h5"]
    white = [np.asarray(w, np.float32) for w in world.teachers()]
    projection = np.asarray(world.open("fused.h5", "whitening")["projection"])
    assert projection.shape[1] == sum(w.shape[1] for w in white)


def test_same_inputs_same_bytes_and_no_stale_frame(world: Framed) -> None:
    assert world.run(frames=["whitened", "raw", "pca-0.5"]) == 0
    first = world.outputs()
    assert world.run(frames=["whitened", "raw", "pca-0.5"]) == 0
    assert world.outputs() == first
    mine = world.folder / "frames/mine.h5"
    mine.write_bytes(b"of somebody else")
    assert world.run(frames=["whitened"]) == 0
    assert [p.name for p in (world.folder / "frames").iterdir()] == ["mine.h5"]
    assert not list((world.folder / "targets").glob("prototypes-*"))


def test_frames_that_cannot_be_made_are_left_out_and_said(
    world: Framed, capsys: pytest.CaptureFixture[str]
) -> None:
    def names() -> list[str]:
        return json.loads(world.open("targets/prototypes.h5", "prototypes").text("frames"))

    assert world.run(features=False, frames=["whitened", "raw"]) == 0
    assert "frame raw is left out: it needs --features" in capsys.readouterr().err
    assert names() == ["whitened"]
    assert world.run(prototypes="random", frames=["whitened", "raw"]) == 0
    assert "fuse.prototypes is random" in capsys.readouterr().err and names() == ["whitened"]
    assert world.run(features=False, frames=["raw"]) == 2
    assert "fuse.frames: no raw" in capsys.readouterr().err
    assert world.run(frames=[]) == 2 and "fuse.frames" in capsys.readouterr().err
    assert world.run(frames=["pca"]) == 2 and "fuse.frames" in capsys.readouterr().err


def test_files_of_another_run_are_refused(
    world: Framed, capsys: pytest.CaptureFixture[str]
) -> None:
    assert world.run(frames=["whitened", "raw"]) == 0
    with pytest.raises(UserError, match=r"of the ensemble .* fuse again"):
        frames.read(world.folder, "raw", ["b", "a"])
    with pytest.raises(UserError, match="no frame 'rawer'"):
        frames.read(world.folder, "rawer", ["a", "b"])
    world.features("a", 20, train="of another train.h5")
    before = world.outputs()
    assert world.run(frames=["whitened", "raw"]) == 2
    assert "a.h5: of other stored views; extract again" in capsys.readouterr().err
    assert world.outputs() == before


def coloured() -> tuple[Student, np.ndarray, Probe]:
    """An untrained student, its features of 30 images of 10 colours, and a probe of the same."""
    torch.manual_seed(0)
    student = Student("test_efficientnet", dim=4, image_px=32).eval()
    rng = np.random.default_rng(0)
    colour = np.repeat(rng.integers(0, 256, (10, 3)), 3, axis=0)[:, None, None]
    noise = rng.integers(-8, 9, (30, 32, 32, 3))
    pixels = list(np.clip(colour + noise, 0, 255).astype(np.uint8))
    group = np.repeat(np.arange(10), 3)
    lists = [
        {"positive": np.flatnonzero((group == group[q]) & (np.arange(30) != q)),
         "junk": np.array([q])}
        for q in range(30)
    ]  # fmt: skip
    probe = Probe(pixels, np.arange(30), lists)
    return student, probe.descriptors(student.features), probe


def test_the_frame_is_the_one_whose_ridge_start_retrieves_best() -> None:
    """Prototypes that are all the same teach nothing: a frame of such is not taken, wherever it
    stands; where two frames are equal, the first is."""
    student, features, probe = coloured()
    label = np.repeat(np.arange(10), 3).astype(np.int32)
    means = features.reshape(10, 3, -1).mean(1)
    directions = np.linalg.svd(means - means.mean(0))[2][:4]
    good = Prototypes(unit((means - means.mean(0)) @ directions.T).astype(np.float32), label)
    flat = Prototypes(np.tile(np.float32([[1, 0, 0, 0]]), (10, 1)), label)
    rows = np.arange(30)

    def taken(by_frame: dict[str, Prototypes], measure: Probe | None = probe) -> str:
        return ridge_start.ridge(student, rows, features, by_frame, 0, measure).frame

    assert taken({"whitened": flat, "raw": good}) == "raw"
    weight = student.head.weight.detach().clone()  # type: ignore[union-attr]
    assert taken({"raw": good}) == "raw"  # without a choice the same head
    assert torch.equal(weight, student.head.weight)  # type: ignore[union-attr]
    assert taken({"whitened": good, "raw": flat}) == "whitened"
    assert taken({"whitened": good, "raw": good}) == "whitened"
    assert taken({"whitened": flat, "raw": good}, None) == "whitened"  # nothing to choose by
    chosen = ridge_start.ridge(student, rows, features, {"whitened": flat, "raw": good}, 0, probe)
    table = {str(row["frame"]): row for row in chosen.table()}
    assert list(table) == ["whitened", "raw"]
    assert table["raw"]["map"] == pytest.approx(probe(student).map, abs=0.5)
    assert "frame raw is taken" in list(chosen.said())


def test_frames_of_two_runs_are_not_mixed(world: Framed) -> None:
    assert world.run(frames=["whitened", "raw"], dim=3) == 0
    small = (world.folder / "targets/prototypes-raw.h5").read_bytes()
    assert world.run(frames=["raw", "whitened"]) == 0
    views = TrainSet.read(world.folder / "train.h5")
    plan = Targets.read(world.folder / "targets", views)
    read = read_frames(world.folder / "targets", plan, views)
    assert list(read) == ["raw", "whitened"]  # as fuse.frames has them
    stored = world.open("targets/prototypes-raw.h5", "prototypes")["prototype"]
    assert np.array_equal(read["raw"].prototype, stored.astype(np.float32))
    assert list(read_frames(world.folder / "targets", plan, views, first=True)) == ["raw"]
    (world.folder / "targets/prototypes-raw.h5").write_bytes(small)
    with pytest.raises(UserError, match="is of another run of fuse; fuse again"):
        read_frames(world.folder / "targets", plan, views)
