"""Targets and prototypes: what does not belong together is refused where it is read."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prepared import train_file

from stages.core import store
from stages.core.errors import UserError
from stages.distill.targets import Prototypes, Targets, read_whitened
from stages.images.sets import TrainSet


def shard(
    path: Path, views: TrainSet, *, leave: str = "", steps: int = 2, n: int = 2, **changes: Any
) -> None:
    rng = np.random.default_rng(0)
    about = {"train": views.digest, "whitened": "w", "epochs": 2, "held_out": 0, "strategy": "mean"}
    about = {k: v for k, v in {**about, **changes}.items() if k != leave}
    arrays = {
        "anchor": rng.integers(5, size=(steps, n)).astype(np.int32),
        "positive": rng.integers(5, size=(steps, n)).astype(np.int32),
        "target": rng.random((steps, n, changes.pop("columns", n))).astype(np.float16),
    }
    about.pop("columns", None)
    store.write(path, "targets", arrays, **about)


@pytest.fixture
def views(tmp_path: Path) -> TrainSet:
    return TrainSet.read(train_file(tmp_path / "t.h5"))


def folder(tmp_path: Path, views: TrainSet, **second: Any) -> Path:
    shard(tmp_path / "epoch-0000.h5", views)
    shard(tmp_path / "epoch-0001.h5", views, **second)
    return tmp_path


def test_targets_go_round_and_rows_are_anchor_then_positive(
    tmp_path: Path, views: TrainSet
) -> None:
    shard(tmp_path / "epoch-0009.h5", views, whitened="stale")  # never globbed
    found = Targets.read(folder(tmp_path, views), views)
    assert (found.steps, found.batch, len(found.shards)) == (2, 2, 2)
    for step in range(9):
        file = found.shards[(step // 2) % 2]
        wanted = [file["anchor"][step % 2], file["positive"][step % 2]]
        assert np.array_equal(found.rows(step), wanted)
        assert np.array_equal(found.target(step), file["target"][step % 2])


@pytest.mark.parametrize(
    "second", [{"train": "other"}, {"whitened": "other"}, {"columns": 3}, {"steps": 1}, {"n": 3}]
)
def test_a_shard_that_does_not_belong_to_the_others(
    tmp_path: Path, views: TrainSet, second: dict[str, Any]
) -> None:
    with pytest.raises(UserError, match="epoch-0001"):
        Targets.read(folder(tmp_path, views, **second), views)


def test_targets_need_every_shard_and_the_held_out_one(tmp_path: Path, views: TrainSet) -> None:
    shard(tmp_path / "epoch-0000.h5", views)
    with pytest.raises(UserError, match="epoch-0001.*no such file"):
        Targets.read(tmp_path, views)
    shard(tmp_path / "epoch-0000.h5", views, epochs=1, held_out=1)
    with pytest.raises(UserError, match="held-out.*no such file"):
        Targets.read(tmp_path, views)
    shard(tmp_path / "held-out.h5", views, epochs=1, held_out=1)
    assert Targets.read(tmp_path, views).held_out is not None


@pytest.mark.parametrize("name", ["held_out", "whitened", "train"])
def test_a_shard_without_an_attribute_is_one_line(
    tmp_path: Path, views: TrainSet, name: str
) -> None:
    shard(tmp_path / "epoch-0000.h5", views, epochs=1, leave=name)
    with pytest.raises(UserError, match="epoch-0000"):
        Targets.read(tmp_path, views)


def prototype_file(path: Path, views: TrainSet, rows: int = 5, **changes: Any) -> Path:
    about = {"train": views.digest, "whitened": "w", **changes}
    label = np.array([0, 0, 0, 1, 1], np.int32)[:rows]
    arrays = {"prototype": np.eye(2, 3, dtype=np.float16), "view_prototype": label}
    store.write(path, "prototypes", arrays, **about)
    return path


def test_prototypes_of_the_same_views_and_ensemble(tmp_path: Path, views: TrainSet) -> None:
    targets = Targets.read(folder(tmp_path, views), views)
    found = Prototypes.read(prototype_file(tmp_path / "p.h5", views), targets, views)
    assert found.prototype.dtype == np.float32
    assert found.view_prototype.tolist() == [0, 0, 0, 1, 1]
    for i, changes in enumerate(({"whitened": "other"}, {"train": "other"}, {"rows": 4})):
        path = prototype_file(tmp_path / f"{i}.h5", views, **changes)  # type: ignore[arg-type]
        with pytest.raises(UserError, match=f"{i}.h5"):
            Prototypes.read(path, targets, views)


def again(path: Path, kind: str, name: str, values: Any) -> None:
    """The file at `path` with another dataset `name`, its digests right."""
    stored = store.Stored(path, kind)
    arrays = {n: np.array(stored[n]) for n in stored._places} | {name: np.asarray(values)}
    own = ("format", "digest", "attributes_digest")
    store.write(path, kind, arrays, **{k: v for k, v in stored.attributes.items() if k not in own})


@pytest.mark.parametrize("name", ["anchor", "positive"])
@pytest.mark.parametrize("row", [-1, 5, 2**31 - 1, -(2**31)])
def test_rows_that_are_no_views_are_refused(
    tmp_path: Path, views: TrainSet, name: str, row: int
) -> None:
    folder(tmp_path, views)
    again(tmp_path / "epoch-0001.h5", "targets", name, np.array([[0, 1], [row, 2]], np.int32))
    with pytest.raises(UserError, match=rf"epoch-0001.h5: {name} has rows outside 0\.\.4"):
        Targets.read(tmp_path, views)


@pytest.mark.parametrize(
    "about", [{"epochs": 0}, {"epochs": 10**9}, {"epochs": "x"}, {"epochs": float("nan")},
              {"held_out": 2}, {"held_out": "1"}, {"epochs": -1}],
)  # fmt: skip
def test_odd_attributes_of_targets(tmp_path: Path, views: TrainSet, about: dict[str, Any]) -> None:
    shard(tmp_path / "epoch-0000.h5", views, **about)
    with pytest.raises(UserError, match=f"attribute '{next(iter(about))}' is"):
        Targets.read(tmp_path, views)


@pytest.mark.parametrize("label", [-1, 2, 10**6])
def test_prototypes_that_are_not_there(tmp_path: Path, views: TrainSet, label: int) -> None:
    targets = Targets.read(folder(tmp_path, views), views)
    path = prototype_file(tmp_path / "p.h5", views)
    again(path, "prototypes", "view_prototype", np.array([0, 0, 0, 1, label], np.int32))
    with pytest.raises(UserError, match=r"p.h5: view_prototype has rows outside 0\.\.1"):
        Prototypes.read(path, targets, views)


def test_files_of_another_teacher_are_refused(tmp_path: Path, views: TrainSet) -> None:
    rows = np.eye(5, 6, dtype=np.float16)
    for name in ("a", "b"):
        about = {"train": views.digest, "teacher": "a"}
        store.write(tmp_path / f"{name}.h5", "whitened", {"descriptor": rows}, **about)
    assert read_whitened(tmp_path / "a.h5", views)["descriptor"].shape == (5, 6)
    with pytest.raises(UserError, match="b.h5: of teacher a, not b"):
        read_whitened(tmp_path / "b.h5", views)
