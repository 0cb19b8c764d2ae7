"""Prepared files: what does not fit together is refused where it is read."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from prepared import COLUMNS, evaluation_file, train_file

from stages.core import store
from stages.core.errors import UserError
from stages.images.sets import BY_LENGTH, EvaluationSet, TrainSet, image_digest


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


def test_a_video_is_shown_by_the_middle_frame_of_its_views(tmp_path: Path) -> None:
    frames = np.float32([4, 0, 9, 7, 7])
    view = np.concatenate([np.tile(np.float32([0, 0, 1, 1, 0]), (5, 1)), frames[:, None]], axis=1)
    videos = TrainSet.read(train_file(tmp_path / "v.h5", f"{COLUMNS} frame", view=view))
    assert videos.videos
    shown = [videos.thumbnail(row).relative_to("/r").as_posix() for row in range(3)]
    assert shown == ["a.png/0004.jpg", "ü.png/0009.jpg", "c.png/0007.jpg"]
    images = TrainSet.read(train_file(tmp_path / "t.h5"))
    assert not images.videos and images.thumbnail(1) == images.file(1)


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
