"""What tests/compare_runs.py takes for the same run, and that nothing else passes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import compare_runs
import h5py
import numpy as np
import pytest
from safetensors.numpy import save_file

SCORES = {"demo": {"student": {"all": {"map": 50.0}}, "ensemble": {"all": {"map": 60.0}}}}


def project(folder: Path, digest: str = "images", scores: Any = SCORES) -> Path:
    """A small run; `digest`: the attribute that says which images prepare met."""
    for place in ("data/prepared", "data/results", "models/student"):
        (folder / place).mkdir(parents=True)
    with h5py.File(folder / "data/prepared/train.h5", "w") as f:
        f["group"] = np.arange(4, dtype=np.int32)
        f.attrs.update({digest: "abc", "columns": "x y", "root": str(folder), "digest": digest})
    save_file({"w": np.ones(3, np.float32)}, folder / "models/student/model.safetensors")
    (folder / "data/results/metrics.json").write_text(json.dumps(scores))
    return folder


def lines(old: Path, new: Path) -> list[str]:
    return list(compare_runs.differences(old, new))


def looked(folder: Path, text: str = "{}") -> None:
    (folder / "data/looked").mkdir()
    (folder / "data/looked/train.json").write_text(text)


def test_a_run_is_the_same_as_itself(tmp_path: Path) -> None:
    assert lines(project(tmp_path / "a"), project(tmp_path / "b")) == []


@pytest.mark.parametrize("old", ["images", "pictures"])
def test_today_s_digest_and_what_look_writes_are_known(tmp_path: Path, old: str) -> None:
    before, now = project(tmp_path / "a", old), project(tmp_path / "b", "contents")
    looked(now)
    assert lines(before, now) == []
    back = lines(now, before)  # not the other way round
    assert any("data/looked/train.json: only in" in line for line in back)
    assert any("attribute contents" in line for line in back)


def test_a_digest_of_the_same_kind_must_be_the_same(tmp_path: Path) -> None:
    before, now = project(tmp_path / "a", "contents"), project(tmp_path / "b", "contents")
    with h5py.File(now / "data/prepared/train.h5", "a") as f:
        f.attrs["contents"] = "other"
    assert lines(before, now) == ["data/prepared/train.h5: attribute contents: abc and other"]
    with h5py.File(now / "data/prepared/train.h5", "a") as f:
        del f.attrs["contents"]
    assert len(lines(before, now)) == 1


def test_a_digest_beside_the_old_one_is_a_difference(tmp_path: Path) -> None:
    before, now = project(tmp_path / "a"), project(tmp_path / "b")
    with h5py.File(now / "data/prepared/train.h5", "a") as f:
        f.attrs["contents"] = "abc"
    assert lines(before, now) == ["data/prepared/train.h5: attribute contents: None and abc"]


def test_a_file_of_look_that_only_one_run_has_is_a_difference(tmp_path: Path) -> None:
    before, now = project(tmp_path / "a"), project(tmp_path / "b")
    looked(before)
    looked(now)
    (now / "data/looked/datasets.json").write_text("{}")
    assert lines(before, now) == [f"data/looked/datasets.json: only in {now}"]


def other_array(folder: Path) -> None:
    with h5py.File(folder / "data/prepared/train.h5", "a") as f:
        f["group"][0] = 9


def other_attribute(folder: Path) -> None:
    with h5py.File(folder / "data/prepared/train.h5", "a") as f:
        f.attrs["columns"] = "x z"


def other_weight(folder: Path) -> None:
    save_file({"w": np.full(3, 2, np.float32)}, folder / "models/student/model.safetensors")


def other_score(folder: Path) -> None:
    scores = {"demo": {**SCORES["demo"], "student": {"all": {"map": 50.1}}}}
    (folder / "data/results/metrics.json").write_text(json.dumps(scores))


def other_file(folder: Path) -> None:
    (folder / "data/lookedat.json").write_text("{}")


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (other_array, "group differs"), (other_attribute, "attribute columns"),
        (other_weight, "w differs by 1"), (other_score, "demo, student"), (other_file, "only in"),
    ],
)  # fmt: skip
def test_a_difference_is_one_line(
    tmp_path: Path, change: Callable[[Path], None], word: str
) -> None:
    before, now = project(tmp_path / "a"), project(tmp_path / "b")
    change(now)
    (line,) = lines(before, now)
    assert word in line
