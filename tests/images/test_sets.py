"""Prepared files and targets: what does not fit together is refused where it is read."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.core import store
from stages.core.errors import UserError
from stages.distill import whitening
from stages.distill.targets import Prototypes, Targets, read_whitened
from stages.images.sets import BY_LENGTH, EvaluationSet, TrainSet, image_digest
from stages.retrieval.ground_truth import GroundTruth

COLUMNS = "x y width height flip"


def train_file(file: Path, columns: str = COLUMNS, **arrays: np.ndarray) -> Path:
    base = {
        "image_id": np.array(["a", "ü", "c"]), "path": np.array(["a.png", "ü.png", "c.png"]),
        "group": np.array([0, 0, -1], np.int32), "view_image": np.array([0, 0, 1, 2, 2], np.int32),
        "view": np.tile(np.float32([0, 0, 1, 1, 0]), (5, 1)),
    }  # fmt: skip
    store.write(file, "train", {**base, **arrays}, columns=columns, root="/r", images="0")
    return file


def evaluation_file(file: Path, **arrays: np.ndarray) -> Path:
    base = {
        "image_id": np.array(["q", "d", "e"]), "path": np.array(["q.png", "d.png", "e.png"]),
        "role": np.array(["query", "database", "distractor"]),
        "box": np.float32([[1, 2, 3.5, 4], [np.nan] * 4, [np.nan] * 4]),
    }  # fmt: skip
    store.write(file, "evaluation", {**base, **arrays}, root="/r")
    return file


def test_train_set_and_its_spans(tmp_path: Path) -> None:
    found = TrainSet.read(train_file(tmp_path / "t.h5"))
    assert found.image_id.tolist() == ["a", "ü", "c"]
    assert found.columns == ("x", "y", "width", "height", "flip")
    assert found.spans().tolist() == [0, 2, 3, 5]
    assert found.file(1) == Path("/r/ü.png")


def test_images_are_those_that_were_prepared(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"12")
    digest = image_digest(tmp_path, ["a.png"])
    whole = EvaluationSet.read(evaluation_file(tmp_path / "e.h5"))
    found = replace(whole, root=tmp_path, path=np.array(["a.png"]), images=digest)
    found.check_images()
    for other in (b"21", b"123"):  # the same length, and another
        (tmp_path / "a.png").write_bytes(other)
        with pytest.raises(UserError, match="dvc repro"):
            found.check_images()
    (tmp_path / "a.png").write_bytes(b"12")  # written again: the content decides
    found.check_images()
    old = replace(
        found,
        images=BY_LENGTH
        + hashlib.blake2b(bytes([*b"a.png", 0, *b"2\n"]), digest_size=16).hexdigest(),
    )
    old.check_images()  # prepared by 0.1: by name and length
    (tmp_path / "a.png").unlink()
    with pytest.raises(UserError, match=r"1 images are missing, the first: a\.png"):
        found.check_images()
    with pytest.raises(UserError, match=r"1 images are missing, the first: a\.png/0000\.jpg"):
        (tmp_path / "a.png").write_bytes(b"")  # a file where a folder of frames was
        image_digest(tmp_path, ["a.png"], np.array([1]))
    whole.check_images()  # a file without the digest is not checked


@pytest.mark.parametrize(
    "arrays",
    [
        {"group": np.zeros(2, np.int32)},
        {"path": np.array(["a"])},
        {"view": np.zeros((4, 5), np.float32)},
        {"view_image": np.array([0, 1, 0, 2, 2], np.int32)},
        {"view_image": np.array([0, 0, 1, 2, 3], np.int32)},
        {"view_image": np.array([-1, 0, 1, 2, 2], np.int32)},
    ],
)
def test_train_set_whose_parts_do_not_fit(tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    with pytest.raises(UserError, match=r"t\.h5"):
        TrainSet.read(train_file(tmp_path / "t.h5", **arrays))


@pytest.mark.parametrize("columns", ["x y width height", COLUMNS + " blur"])
def test_train_set_with_other_columns_than_named(tmp_path: Path, columns: str) -> None:
    with pytest.raises(UserError, match=r"t\.h5"):
        TrainSet.read(train_file(tmp_path / "t.h5", columns=columns))


def test_evaluation_set_and_its_boxes(tmp_path: Path) -> None:
    found = EvaluationSet.read(evaluation_file(tmp_path / "e.h5"))
    assert found.rectangle(0) == (1, 2, 3.5, 4)
    assert found.rectangle(1) is None
    assert found.file(2) == Path("/r/e.png")


@pytest.mark.parametrize(
    "arrays",
    [
        {"role": np.array(["query", "database", "judge"])},
        {"role": np.array(["query", "database"])},
        {"box": np.zeros((3, 3), np.float32)},
        {"box": np.zeros((2, 4), np.float32)},
        {"path": np.array(["a", "b"])},
    ],
)
def test_evaluation_set_that_does_not_fit(tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    with pytest.raises(UserError, match=r"e\.h5"):
        EvaluationSet.read(evaluation_file(tmp_path / "e.h5", **arrays))


def truth(protocol: str = "positives", **query: Any) -> dict[str, Any]:
    return {"protocol": protocol, "queries": [query]}


DATABASE = np.array(["d0", "d1", "d2", "d3"])


def test_answers_become_rows_of_the_database() -> None:
    values = truth("revisitop", image_id="q", easy=["d3", "d1", "d3"], hard=[], junk=["d0"])
    (query,) = GroundTruth.parse(values, DATABASE, "w").queries
    assert query.image_id == "q"
    assert {k: v.tolist() for k, v in query.lists.items()} == {
        "easy": [1, 3], "hard": [], "junk": [0],
    }  # fmt: skip


@pytest.mark.parametrize(
    "values",
    [
        None,
        [],
        {"protocol": "positives"},
        {"protocol": "positives", "queries": {}},
        truth("nonsense", image_id="q", positive=[], junk=[]),
        truth(positive=[], junk=[]),
        truth(image_id="q", positive=["d0"]),
        truth(image_id="q", positive="d0", junk=[]),
        truth(image_id="q", positive=["d0", "d9"], junk=[]),
        {"protocol": "positives", "queries": ["q"]},
    ],
)
def test_ground_truth_that_cannot_be_resolved(values: Any) -> None:
    with pytest.raises(UserError, match="^where: ") as error:
        GroundTruth.parse(values, DATABASE, "where")
    assert "\n" not in str(error.value)


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


def test_a_video_is_shown_by_the_middle_frame_of_its_views(tmp_path: Path) -> None:
    frames = np.float32([4, 0, 9, 7, 7])
    view = np.concatenate([np.tile(np.float32([0, 0, 1, 1, 0]), (5, 1)), frames[:, None]], axis=1)
    videos = TrainSet.read(train_file(tmp_path / "v.h5", f"{COLUMNS} frame", view=view))
    assert videos.videos
    shown = [videos.thumbnail(row).relative_to("/r").as_posix() for row in range(3)]
    assert shown == ["a.png/0004.jpg", "ü.png/0009.jpg", "c.png/0007.jpg"]
    images = TrainSet.read(train_file(tmp_path / "t.h5"))
    assert not images.videos and images.thumbnail(1) == images.file(1)


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


@pytest.mark.parametrize(
    "box", [[0, 0, 0, 1], [0, 0, -1, 1], [0.5, 0, 0.6, 1], [-0.1, 0, 0.5, 1], [9, 9, 9, 9]]
)
def test_views_outside_their_image_are_refused(tmp_path: Path, box: list[float]) -> None:
    view = np.tile(np.float32([0, 0, 1, 1, 0]), (5, 1))
    view[3, :4] = box
    train = TrainSet.read(train_file(tmp_path / "t.h5", view=view))
    with pytest.raises(
        UserError, match="1 views have a box outside their image, the first: view 3"
    ):
        train.check_images()


@pytest.mark.parametrize(
    "box", [[1, 1, 1, 5], [5, 1, 2, 9], [np.nan, 0, 5, 5], [0, 0, np.inf, 9], [0, 0, -np.inf, 0]]
)
def test_boxes_that_are_none_are_refused(tmp_path: Path, box: list[float]) -> None:
    ids = np.array(["a", "b"])
    arrays = {
        "image_id": ids, "path": ids, "role": np.array(["query", "database"]),
        "box": np.float32([[np.nan] * 4, box]),
    }  # fmt: skip
    store.write(tmp_path / "e.h5", "evaluation", arrays, root="/r", images="")
    with pytest.raises(
        UserError, match="1 boxes are not left, top, right, bottom, the first: row 1"
    ):
        EvaluationSet.read(tmp_path / "e.h5")


def test_files_of_another_teacher_are_refused(tmp_path: Path, views: TrainSet) -> None:
    rows = np.eye(5, 6, dtype=np.float16)
    for name in ("a", "b"):
        about = {"train": views.digest, "teacher": "a"}
        store.write(tmp_path / f"{name}.h5", "whitened", {"descriptor": rows}, **about)
    assert read_whitened(tmp_path / "a.h5", views)["descriptor"].shape == (5, 6)
    with pytest.raises(UserError, match="b.h5: of teacher a, not b"):
        read_whitened(tmp_path / "b.h5", views)
    fitted = whitening.Whitening(np.zeros(3), np.eye(3), np.ones(3), 1.0)
    for name in ("wa", "wb"):
        whitening.write(tmp_path / f"{name}.h5", fitted, teacher="wa")
    assert whitening.read(tmp_path / "wa.h5").energy_kept == 1
    with pytest.raises(UserError, match="wb.h5: of teacher wa, not wb"):
        whitening.read(tmp_path / "wb.h5")
