"""SVD from its official lists: ids with and without .mp4, frames or videos, what is broken."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from clips import broken, write
from PIL import Image

from stages.core.errors import UserError
from stages.datasets import svd

TRAIN = "q1.mp4 a1.mp4 1\nq1.mp4 n1.mp4 0\nq2 a2 1\nq2 a3 1\nq2 n1 0\nq3 n2 0\nq3 shared 0\n"
TEST = "t1.mp4 p1.mp4 1\nt1.mp4 m1.mp4 0\nt2 p2 1\nt2 shared 0\nt2 t1 0\n"
TRAINED = ["q1", "q2", "q3", "a1", "n1", "a2", "a3", "n2"]
TESTED = ["t1", "t2", "p1", "m1", "p2", "shared"]
UNLABELLED = ["u1", "u2", "u3"]


class World:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "metadata").mkdir()
        self.put("train_groundtruth", TRAIN)
        self.put("test_groundtruth", TEST)
        self.put("unlabeled-data-id", "".join(f"{u}.mp4\n" for u in UNLABELLED))

    def put(self, name: str, text: str) -> None:
        (self.folder / "metadata" / name).write_text(text)

    def settings(self, **changes: object) -> svd.Settings:
        values = {
            "metadata": str(self.folder / "metadata"), "frames": str(self.folder / "frames"),
            "videos": None, "fps": 1.0, "frame_px": None, "max_frames": 60,
        }  # fmt: skip
        return svd.Settings(**{**values, **changes})

    def frames(self, counts: dict[str, int]) -> None:
        for name, count in counts.items():
            (self.folder / "frames" / name).mkdir(parents=True)
            for k in range(count):
                Image.new("RGB", (4, 4)).save(self.folder / f"frames/{name}/{k:04d}.jpg")


@pytest.fixture
def world(tmp_path: Path) -> World:
    w = World(tmp_path)
    w.frames({name: 1 + i % 4 for i, name in enumerate([*TRAINED, *TESTED, *UNLABELLED])})
    return w


def test_training_is_the_training_ground_truth_without_test_videos(world: World) -> None:
    t = svd.training(world.settings(), world.folder)
    assert t.image_id == TRAINED and t.path == TRAINED
    assert t.frames is not None and t.frames.tolist() == [1 + i % 4 for i in range(8)]
    group = dict(zip(t.image_id, t.group.tolist(), strict=True))
    assert group["q1"] == group["a1"] >= 0 and group["q2"] == group["a2"] == group["a3"] >= 0
    assert group["q1"] != group["q2"] and {group[n] for n in ("q3", "n1", "n2")} == {-1}
    assert any("1 videos left out that test_groundtruth names too" in n for n in t.notes)
    short = svd.training(world.settings(max_frames=2), world.folder)
    assert short.frames is not None and short.frames.max() == 2


def test_evaluation_has_the_official_candidates(world: World) -> None:
    e = svd.evaluation(world.settings(), world.folder)
    role = dict(zip(e.image_id, e.role, strict=True))
    assert role == {
        "t1": "database", "t2": "query", "p1": "database", "m1": "database", "p2": "database",
        "shared": "database", "u1": "distractor", "u2": "distractor", "u3": "distractor",
    }  # fmt: skip
    assert e.protocol == "svd" and e.queries == [
        {"image_id": "t1", "positive": ["p1"], "negative": ["m1"]},
        {"image_id": "t2", "positive": ["p2"], "negative": ["shared", "t1"]},
    ]


@pytest.mark.parametrize("part", ["training", "evaluation"])
def test_an_id_without_a_video_is_an_error_that_names_it(world: World, part: str) -> None:
    name = "a3" if part == "training" else "p2"
    (world.folder / f"frames/{name}").rename(world.folder / "elsewhere")
    with pytest.raises(
        UserError, match=rf"1 videos that t\w+_groundtruth names are not there: {name}"
    ):
        getattr(svd, part)(world.settings(), world.folder)


def test_broken_and_missing_videos_are_told_never_fatal(world: World) -> None:
    for name in ("u2", "m1", "t2"):
        for file in (world.folder / "frames" / name).iterdir():
            file.unlink()
    (world.folder / "frames/u3").rename(world.folder / "elsewhere")
    e = svd.evaluation(world.settings(), world.folder)
    assert set(e.image_id) == {"t1", "p1", "p2", "shared", "u1"}
    assert e.queries == [{"image_id": "t1", "positive": ["p1"], "negative": []}]
    text = "\n".join(e.notes)
    assert "3 broken videos left out" in text and "u2: no frames" in text
    assert "1 of 3 unlabelled videos are not there" in text
    assert "1 queries left out, their videos are broken: t2" in text


def test_videos_are_decoded_once_and_broken_ones_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WHITEN_MTD_WORKERS", "0")
    world = World(tmp_path)
    for i, name in enumerate([*TRAINED, *TESTED]):
        write(tmp_path / f"videos/part-{i % 2}/{name}.mp4", 1 + 4 * (i % 3))
    (tmp_path / "videos/bad").mkdir()
    names = list(broken(tmp_path / "videos/bad"))
    world.put("unlabeled-data-id", "\n".join([*names, "whole.mp4"]))
    settings = world.settings(videos=str(tmp_path / "videos"), frame_px=32)
    t = svd.training(settings, tmp_path)
    assert t.frames is not None and t.frames.tolist() == [1 + i % 3 for i in range(8)]
    first = tmp_path / "frames/q2/0000.jpg"
    assert max(Image.open(first).size) == 32
    e = svd.evaluation(settings, tmp_path)
    assert set(e.image_id) == {*TESTED, "whole"}
    assert any(n.startswith(f"{len(names)} broken videos left out") for n in e.notes)
    listed = (tmp_path / "frames/broken-evaluation.txt").read_text().splitlines()
    assert len(listed) == len(names) and all(any(n in x for x in listed) for n in names)
    assert (tmp_path / "frames/broken-training.txt").read_text() == ""
    stamp = first.stat().st_mtime_ns
    again = svd.training(settings, tmp_path)
    assert first.stat().st_mtime_ns == stamp and np.array_equal(again.frames, t.frames)
    with pytest.raises(UserError, match="decoded by other settings"):
        svd.training(world.settings(videos=str(tmp_path / "videos"), fps=2.0), tmp_path)


@pytest.mark.parametrize(
    ("name", "text", "word"),
    [
        ("train_groundtruth", "q1 a1\n", "line 1: expected a query, a candidate and 0 or 1"),
        ("train_groundtruth", "q1 a1 1\nq1 a1 2\n", "line 2"),
        ("train_groundtruth", "q1 a1 1\nq1 a1.mp4 0\n", "line 2: a1 is 0 and 1"),
        ("train_groundtruth", "", "no line in it"),
        ("train_groundtruth", "q1 ../../etc 1\n", "'../../etc' is not a video's id"),
        ("unlabeled-data-id", "u1\n.mp4\n", "line 2"),
        ("test_groundtruth", TRAIN, "names no video but test ones"),
    ],
)
def test_lists_that_are_wrong(world: World, name: str, text: str, word: str) -> None:
    world.put(name, text)
    with pytest.raises(UserError) as error:
        svd.training(world.settings(), world.folder)
        svd.evaluation(world.settings(), world.folder)
    assert word in str(error.value) and "\n" not in str(error.value)


def test_folders_that_are_not_there(world: World) -> None:
    for key in ("metadata", "frames", "videos"):
        with pytest.raises(UserError, match=f"datasets.svd.{key}"):
            svd.training(world.settings(**{key: "nowhere"}), world.folder)
    (world.folder / "metadata/unlabeled-data-id").unlink()
    with pytest.raises(UserError, match="no unlabeled-data-id; metadata-release.zip"):
        svd.evaluation(world.settings(), world.folder)


@pytest.mark.parametrize("other", ["a.webm", "in/a.mp4"])
def test_two_files_of_one_id_are_refused(tmp_path: Path, other: str) -> None:
    (tmp_path / "in").mkdir()
    for name in ("a.mp4", "._a.mp4", "b.mp4", other):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(UserError, match="is video a too; remove one"):
        svd.below(tmp_path)
    (tmp_path / other).unlink()
    assert svd.below(tmp_path) == {n: tmp_path / f"{n}.mp4" for n in ("a", "b")}


def test_doctor_is_told_what_is_in_place(world: World, tmp_path: Path) -> None:
    assert svd.status(world.settings(), "").endswith("14 labelled videos, 3 of 3 unlabelled ones")
    (world.folder / "frames" / "u2").rename(world.folder / "away")
    assert "2 of 3 unlabelled" in svd.status(world.settings(), "")
    (world.folder / "frames" / "p1").rename(world.folder / "gone")
    with pytest.raises(UserError, match="1 labelled videos are not there: p1"):
        svd.status(world.settings(), "")
    (tmp_path / "films").mkdir()
    (tmp_path / "films" / "q1.mp4").touch()
    with pytest.raises(UserError, match="films: 13 labelled videos are not there"):
        svd.status(world.settings(videos=str(tmp_path / "films")), "")


def test_a_video_that_changed_is_decoded_again(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its frames would else be those of the earlier one; others are taken as they are."""
    for name in TRAINED:
        write(world.folder / f"videos/{name}.mp4", 5)
    shutil.rmtree(world.folder / "frames")
    (world.folder / "frames").mkdir()
    own = world.settings(videos=str(world.folder / "videos"))
    first = svd.training(own, world.folder)
    assert first.frames is not None and set(first.frames.tolist()) == {2}
    kept = (world.folder / "frames/a1/0000.jpg").stat().st_ino
    write(world.folder / "videos/q1.mp4", 13)
    again = svd.training(own, world.folder)
    assert again.frames is not None and again.frames.tolist() == [4, *[2] * 7]
    assert (world.folder / "frames/a1/0000.jpg").stat().st_ino == kept
    assert "1 videos changed and are decoded again" in capsys.readouterr().err
