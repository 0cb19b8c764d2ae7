"""The stage `describe` on images and videos of people's own."""

import json
import os
from pathlib import Path

import h5py
import numpy as np
import pytest
from clips import broken, write
from PIL import Image
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
    assert not [
        p
        for p in (world / ".scratch").iterdir()
        if p.is_dir() and p.name not in ("times", "contents")
    ]
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


def images_some_broken(folder: Path) -> list[str]:
    """Four images, the names of the broken files beside them."""
    folder.mkdir()
    for i in range(4):
        pixels = np.random.default_rng(i).integers(0, 256, (60, 80, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
    raw = (folder / "0.png").read_bytes()
    (folder / "half.png").write_bytes(raw[: len(raw) // 2])
    (folder / "text.jpg").write_text("404 not found")
    middle = raw.index(b"IDAT") + 5000  # header and end are whole: seen when it is decoded
    (folder / "middle.png").write_bytes(raw[:middle] + b"\0" * 400 + raw[middle + 400 :])
    Image.fromarray(np.full((60, 80), np.nan, np.float32)).save(folder / "odd.tif")
    os.mkfifo(folder / "pipe.jpg")
    return ["half.png", "text.jpg", "middle.png", "odd.tif", "pipe.jpg"]


@pytest.mark.parametrize("model", ["models/student", "fused"])
def test_broken_images_are_left_out_named_and_counted(
    world: Path, tmp_path: Path, model: str
) -> None:
    names = images_some_broken(tmp_path / "mine")
    done = stage("describe", model, str(tmp_path / "mine"), "mine.h5", cwd=world)
    with h5py.File(world / "mine.h5") as f:
        assert [i.decode() for i in f["image_id"][:]] == [f"{i}.png" for i in range(4)]
        rows = f["descriptor"][:].astype(np.float32)
    assert np.isfinite(rows).all()
    for name in names:
        assert name in done.stderr
    assert "4 of 8 images left out" in done.stderr
    for i in range(4):
        (tmp_path / f"mine/{i}.png").unlink()
    done = stage("describe", model, str(tmp_path / "mine"), "none.h5", cwd=world, check=False)
    assert done.returncode == 2 and "none of 4 images can be read" in done.stderr
    assert "Traceback" not in done.stderr and not (world / "none.h5").exists()


@pytest.mark.long
def test_the_rows_of_images_are_theirs_beside_broken_ones(world: Path, tmp_path: Path) -> None:
    images_some_broken(tmp_path / "mine")
    stage("describe", "models/student", str(tmp_path / "mine"), "mine.h5", cwd=world)
    for i in range(4):
        image = str(tmp_path / f"mine/{i}.png")
        stage("describe", "models/student", image, "one.h5", cwd=world)
        with h5py.File(world / "one.h5") as one, h5py.File(world / "mine.h5") as mine:
            np.testing.assert_allclose(one["descriptor"][0], mine["descriptor"][i], atol=2e-3)


def test_a_broken_image_of_an_evaluation_set_is_an_error_by_name(world: Path) -> None:
    file = next((world / "data/prepared/images/evaluation").rglob("*.jpg"))
    file.write_bytes(file.read_bytes()[:300].ljust(file.stat().st_size, b"\0"))
    done = stage(
        "describe", "models/student", "data/prepared/evaluation", "x", cwd=world, check=False
    )
    assert done.returncode == 2 and len(done.stderr.strip().splitlines()[-1:]) == 1
    assert "Traceback" not in done.stderr
