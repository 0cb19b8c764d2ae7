"""The stage `describe` on videos of people's own."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from clips import broken, write
from project import stage

from stages.core import console
from stages.tools.check import score


def described(path: Path) -> tuple[np.ndarray, np.ndarray, list[str]]:
    with h5py.File(path) as f:
        ids = [i.decode() for i in f["image_id"][:]]
        return f["descriptor"][:].astype(np.float32), f["start"][:], ids


def test_a_folder_of_videos_whole_and_broken(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "my videos"
    for name, count in (("b", 9), ("in/a", 1)):
        write(folder / f"{name}.mp4", count)
    names = broken(folder / "bad")
    done = stage("describe", "models/student", str(folder), "mine.h5", cwd=world)
    frame, start, ids = described(world / "mine.h5")
    assert ids == ["b.mp4", "bad/whole.mp4", "in/a.mp4"]
    assert start.tolist() == [0, 3, 13, 14] and len(frame) == 14
    np.testing.assert_allclose(np.linalg.norm(frame, axis=1), 1, atol=2e-3)
    for name in names:
        assert f"bad/{name}.mp4" in done.stderr
    assert not [p for p in (world / ".scratch").iterdir() if p.is_dir() and p.name != "times"]
    truth = tmp_path / "truth.json"
    asked = {"image_id": "b.mp4", "positive": ["in/a.mp4"], "negative": []}
    truth.write_text(json.dumps({"protocol": "svd", "queries": [asked]}))
    files = [str(world / "mine.h5")] * 2 + [str(truth)]
    assert console.run(score.app, files) == 0
    assert console.run(score.app, [*files, "--similarity", "max_pooled"]) == 0
    capsys.readouterr()
    assert console.run(score.app, [*files, "--similarity", "chamfr"]) == 2
    assert "did you mean 'chamfer'?" in capsys.readouterr().err


def test_videos_that_cannot_be_described(world: Path, tmp_path: Path) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    (folder / "a.mp4").write_bytes(b"")
    done = stage("describe", "models/student", str(folder), "x.h5", cwd=world, check=False)
    assert done.returncode == 2 and "none of 1 videos can be decoded" in done.stderr
    (folder / "b.jpg").write_bytes(b"")
    done = stage("describe", "models/student", str(folder), "x.h5", cwd=world, check=False)
    assert done.returncode == 2 and "holds images and videos" in done.stderr
    assert "Traceback" not in done.stderr and not (world / "x.h5").exists()
