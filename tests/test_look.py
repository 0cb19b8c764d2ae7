"""The stage `look`: images and weights outside of the project are followed, by content."""

import json
import os
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from project import checkout, run, stage, write_params
from test_pipeline import executed

from stages import look
from stages.core import params, seen_files


def bmp(file: Path, seed: int) -> None:
    """An image whose length in bytes is that of every other one."""
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file)


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A project at `project` on a folder of images at `mine`, which is returned."""
    for group in range(8):
        for i in range(3):
            bmp(tmp_path / f"mine/g{group}/{i}.bmp", 10 * group + i)
    folder = checkout(tmp_path / "project")
    own = {"root": str(tmp_path / "mine"), "seed": 0, "evaluation_share": 0.2, "queries": 1}
    write_params(
        folder / "params.yaml",
        **{
            "datasets.folder": own, "prepare.dataset": "folder", "fuse.batch": 2,
            "evaluation": {"mine": {"dataset": "folder"}}, "prepare.validation_share": 0.0,
        },
    )  # fmt: skip
    return tmp_path / "mine"


def prepared(mine: Path) -> bool:
    """Whether `dvc repro prepare` ran prepare."""
    done = run("dvc", "repro", "prepare", cwd=mine.parent / "project")
    assert executed(done.stdout) in ([], ["prepare"])
    return executed(done.stdout) == ["prepare"]


def test_dvc_sees_images_that_were_changed_added_and_removed(
    mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
    assert prepared(mine) and not prepared(mine)
    bmp(mine / "g1/1.bmp", 1000)  # of the same length
    assert prepared(mine)
    listed = tmp_path / "project/data/prepared/train.h5"
    before = listed.read_bytes()
    bmp(mine / "g1/new.bmp", 1001)
    assert prepared(mine) and listed.read_bytes() != before
    (mine / "g1/new.bmp").unlink()
    assert not prepared(mine) and listed.read_bytes() == before  # what is cached, brought back
    os.utime(mine / "g0/0.bmp", (1, 1))
    (mine / "notes.txt").write_text("no image")
    assert not prepared(mine)
    mine.rename(tmp_path / "elsewhere")  # a disk that is not there
    assert not prepared(mine)
    (tmp_path / "elsewhere").rename(mine)
    assert not prepared(mine)


def test_an_image_that_changes_after_prepare_stops_a_later_stage(mine: Path) -> None:
    folder = mine.parent / "project"
    stage("look", "data/looked", cwd=folder)
    stage("prepare", "data/prepared", cwd=folder)
    bmp(mine / "g1/1.bmp", 1000)
    done = stage("extract", "a", "data/prepared/train.h5", "a.h5", cwd=folder, check=False)
    if done.returncode == 0:  # it is in the evaluation set
        done = stage("describe", "a", "data/prepared/evaluation", "d", cwd=folder, check=False)
    assert done.returncode == 2 and "dvc repro" in done.stderr and "Traceback" not in done.stderr


def looked(folder: Path, name: str) -> dict:  # type: ignore[type-arg]
    stage("look", "data/looked", cwd=folder)
    return json.loads((folder / "data/looked" / name).read_text())


def test_weights_and_descriptors_that_the_parameters_name(mine: Path, tmp_path: Path) -> None:
    folder = mine.parent / "project"
    weights, rows = tmp_path / "w.safetensors", tmp_path / "rows.h5"
    weights.write_bytes(b"1")
    rows.write_bytes(b"1")
    old = tmp_path / "old student"
    old.mkdir()
    (old / "config.json").write_text("{}")
    teachers = {
        "a": {"kind": "any_timm", "model": "test_resnet", "image_px": 32, "weights": str(weights)},
        "b": {"kind": "precomputed", "descriptors": [str(rows)]},
        "c": {"kind": "any_timm", "model": "test_resnet", "image_px": 32, "weights": "random"},
    }
    write_params(folder / "params.yaml", teachers=teachers, **{"train.compatible_with": str(old)})
    names = ("teachers/a.json", "teachers/b.json", "train.json")
    before = [looked(folder, name) for name in names]
    assert all(before) and looked(folder, "teachers/c.json") == {}
    for file, changed in ((weights, names[0]), (rows, names[1]), (old / "config.json", names[2])):
        file.write_bytes(b"2" * file.stat().st_size)
        now = [looked(folder, name) for name in names]
        assert [n for n, a, b in zip(names, before, now, strict=True) if a != b] == [changed]
        before = now
    weights.unlink()  # not there: what was seen last stays noted
    assert looked(folder, names[0]) == before[0]
    write_params(folder / "params.yaml")
    assert looked(folder, names[0]) == {} and not (folder / "data/looked/teachers/c.json").exists()


def test_images_that_are_not_at_hand_count_as_they_were_seen_last(mine: Path) -> None:
    """A disk that is not mounted, a copy of the project: nothing runs again.

    For this `dvc.yaml` has DVC leave `data/looked` where it is (`persist`).
    """
    folder = mine.parent / "project"
    first = looked(folder, "datasets.json")
    mine.rename(mine.with_name("elsewhere"))
    said = stage("look", "data/looked", cwd=folder).stderr
    assert "no such folder" in said and "what was seen last stays noted" in said
    assert looked(folder, "datasets.json") == first
    (folder / "data/looked/datasets.json").unlink()  # what DVC does before it runs other stages
    assert looked(folder, "datasets.json") == {}


def test_what_is_drawn_needs_no_look_and_no_time_is_stored(mine: Path) -> None:
    folder = mine.parent / "project"
    first = looked(folder, "datasets.json")
    for file in mine.rglob("*.bmp"):
        os.utime(file, (2, 2))
    assert looked(folder, "datasets.json") == first and set(first) == {
        "training",
        "evaluation mine",
    }
    write_params(folder / "params.yaml")  # the demo
    assert looked(folder, "datasets.json") == {}


def test_a_wrong_table_is_for_prepare_to_tell(mine: Path, tmp_path: Path) -> None:
    folder = mine.parent / "project"
    (tmp_path / "t.csv").write_text("path,group,split\ng0/0.bmp,a,train\n")
    own = {"file": str(tmp_path / "t.csv"), "root": str(mine)}
    changes = {"datasets.csv": own, "prepare.dataset": "csv", "evaluation": {}}
    write_params(folder / "params.yaml", **changes)
    first = looked(folder, "datasets.json")
    (tmp_path / "t.csv").write_text("path,group,split\ng0/0.bmp,a,tarin\n")
    assert looked(folder, "datasets.json") != first


@pytest.mark.long
def test_nothing_to_do_is_quick_for_100_000_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seconds of this process, without the start of Python (0.3 s) and DVC's own (0.9 s)."""
    monkeypatch.chdir(tmp_path)
    for group in range(100):
        (tmp_path / f"mine/{group}").mkdir(parents=True)
        for i in range(1000):
            (tmp_path / f"mine/{group}/{i}.jpg").touch()
    monkeypatch.setattr(seen_files, "SETTLED_NS", -(10**12))
    own = {"root": "mine", "seed": 0, "evaluation_share": 0.2, "queries": 1}
    sets = {"mine": {"dataset": "folder"}}
    write_params(Path("params.yaml"), **{
        "datasets.folder": own, "prepare.dataset": "folder", "evaluation": sets})  # fmt: skip
    given = params.read(Path("params.yaml"))
    first = look.datasets(given, {})
    start = time.process_time()
    assert look.datasets(given, first) == first
    assert time.process_time() - start < 2
