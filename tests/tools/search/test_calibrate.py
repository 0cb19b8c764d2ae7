"""Thresholds from a set of videos: frames of different videos are compared, as an index has them."""

from pathlib import Path

import numpy as np
import pytest
import tiny_onnx
from PIL import Image

from stages.core import console
from stages.datasets import Evaluation
from stages.images.sets import EvaluationSet
from stages.prepare import write_evaluation
from stages.retrieval.onnx_student import Exported
from stages.tools.search import calibrate, index

SOURCES, LENGTHS = 12, (3, 20)  # videos by pairs, of so many frames


def videos(folder: Path, protocol: str = "positives") -> Path:
    """Pairs of videos of one colour each; with protocol svd the next pair is named a negative."""
    rng = np.random.default_rng(0)
    ids, frames = [], []
    for source in range(SOURCES):
        colour = rng.integers(20, 236, 3)
        for n, length in enumerate(LENGTHS):
            ids.append(f"{source:02d}-{n}")
            frames.append(length)
            (folder / "frames" / ids[-1]).mkdir(parents=True)
            for k in range(length):
                shade = np.clip(colour + rng.normal(0, 8, 3), 0, 255).astype(np.uint8)
                image = Image.new("RGB", (24, 32), tuple(shade.tolist()))
                image.save(folder / "frames" / ids[-1] / f"{k:04d}.jpg")
    queries = []
    for source in range(SOURCES):
        own, other = f"{source:02d}-0", f"{(source + 1) % SOURCES:02d}-1"
        kinds = {"negative": [other]} if protocol == "svd" else {"junk": [own]}
        queries.append({"image_id": own, "positive": [f"{source:02d}-1"], **kinds})
    box = np.full((len(ids), 4), np.nan, np.float32)
    roles, notes = ["database"] * len(ids), list[str]()
    made = Evaluation(
        folder / "frames", ids, ids, roles, box, protocol, queries, notes, np.array(frames)
    )
    write_evaluation(folder, "validation", made)
    return folder / "validation.h5"


@pytest.mark.parametrize("protocol", ["positives", "svd"])
def test_frames_of_videos_are_what_is_compared(tmp_path: Path, protocol: str) -> None:
    file = videos(tmp_path, protocol)
    net = Exported.read(tiny_onnx.student(tmp_path / "exported/model.onnx"))
    known = calibrate.labelled(file, net)
    assert known.videos and len(np.unique(known.group)) == SOURCES
    counts = np.bincount(known.source)
    assert counts.tolist() == [3, calibrate.FRAMES] * SOURCES  # of a long video some of its frames
    for row, place in enumerate(known.files):
        assert Path(place).is_file()
        source = int(Path(place).parent.name.split("-")[0])
        assert known.group[row] == 2 * source  # a negative is another thing
    last = f"{LENGTHS[1] - 1:04d}.jpg"
    assert {Path(f).name for f in known.files} >= {"0000.jpg", last}
    whole = net.images([Path(known.files[5])])[0][0]
    assert np.allclose(known.rows[5], whole, atol=1e-5)


def test_pairs_of_one_video_do_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = videos(tmp_path)
    tiny_onnx.student(tmp_path / "exported/model.onnx")
    assert console.run(index.app, ["frames", "mine", "--model", "exported"]) == 0
    opened, net = calibrate.answers.open_index(Path("mine"), None)
    known = calibrate.labelled(file, net)
    assert len(calibrate.true_scores(opened, known)) == SOURCES * 2 * 3 * calibrate.FRAMES
    others = len(known.group) ** 2 - SOURCES * (3 + calibrate.FRAMES) ** 2
    assert len(calibrate.false_scores(opened, known)) == others


def test_a_person_calibrates_on_videos(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    file = str(videos(tmp_path))
    tiny_onnx.student(tmp_path / "exported/model.onnx")
    assert console.run(index.app, ["frames", "mine", "--model", "exported"]) == 0
    capsys.readouterr()
    assert console.run(calibrate.app, ["mine", "--images", file, "--rate", "0.05"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("threshold ") and "132 frames of 24 videos" in lines[1]
    share = float(lines[1].split("videos: ")[1].split(" %")[0])
    assert 4 <= share <= 5


def test_images_are_compared_as_before(tmp_path: Path) -> None:
    images = EvaluationSet(
        tmp_path, np.array(["a", "b"]), np.array(["a.png", "b.png"]), np.array(["database"] * 2),
        np.full((2, 4), np.nan, np.float32), "",
    )  # fmt: skip
    source, number = calibrate.frames_of(images)
    assert source.tolist() == number.tolist() == [0, 1]
