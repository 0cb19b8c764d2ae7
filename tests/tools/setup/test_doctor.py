"""Weights and images that are not in place are named, and everything else that a run needs."""

import hashlib
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from huggingface_hub import constants
from PIL import Image
from project import ROOT, parameters, run, write_params

from stages.core import console
from stages.datasets import gldv2, revisitop
from stages.tools.cost import plan
from stages.tools.setup import doctor, downloads
from stages.tools.setup import preset as presets


@pytest.mark.parametrize("preset", presets.names())
def test_a_wrong_key_anywhere_fails(preset: str, tmp_path: Path) -> None:
    text = presets.text(preset)
    for old, new in (
        ("  views:", "  vieuws:"), ("{dataset:", "{datasett:"), ("kind:", "kinnd:"),
        ("image_px: ", "image_pix: "), ("  seeds:", "  seed_s:"),
    ):  # fmt: skip
        (tmp_path / "p.yaml").write_text(text.replace(old, new), "utf-8")
        lines = list(doctor.parameters(tmp_path / "p.yaml"))
        assert [line for good, line in lines if good is False], new


def test_weights_missing_whole_and_half(tmp_path: Path) -> None:
    digest = hashlib.sha256(b"\xffweights").hexdigest()
    there = tmp_path / f"net-{digest[:7]}.pth"
    good, told = downloads.weights_file("t", there, None, "example.org")
    assert good is False and "is missing. Published: example.org" in told
    there.write_bytes(b"\xffweights")
    assert downloads.weights_file("t", there, None, "")[0] is True
    assert downloads.weights_file("t", there, digest, "")[0] is True
    there.write_bytes(b"\xffweig")
    good, told = downloads.weights_file("t", there, None, "")
    assert good is False and "another or half a file?" in told
    plain = tmp_path / "ap_gem.safetensors"
    assert (
        f"whiten-mtd convert DOWNLOADED {plain}" in downloads.weights_file("t", plain, None, "")[1]
    )
    assert "convert" not in downloads.weights_file("t", tmp_path / "a.pth", None, "")[1]
    good, told = downloads.weights_file("t", there, digest, "")
    assert good is False and "half a file?" in told


def test_images_in_place_missing_and_published(tmp_path: Path) -> None:
    folder = tmp_path / "roxford5k"
    (folder / "jpg").mkdir(parents=True)
    one = {"bbx": [0, 0, 5, 5], "easy": [0], "hard": [], "junk": []}
    known = {"imlist": ["a", "b"], "qimlist": ["q"], "gnd": [one]}
    (folder / "gnd_roxford5k.pkl").write_bytes(pickle.dumps(known))
    changes = {
        "prepare.dataset": "gldv2", "evaluation": {"roxford5k": {"dataset": "revisitop"}},
        "datasets": {
            "revisitop": {"root": str(tmp_path), "crop_queries": True},
            "gldv2": {"root": str(tmp_path), "least": 2},
        },
    }  # fmt: skip
    given = parameters(**changes)
    found = list(downloads.datasets(given))
    assert [good for good, _ in found] == [False, False]
    assert "no train_clean.csv" in found[0][1] and gldv2.PUBLISHED in found[0][1]
    assert "3 of 3 images are missing" in found[1][1] and revisitop.PUBLISHED in found[1][1]
    for name in "abq":
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(folder / f"jpg/{name}.jpg")
    (tmp_path / "train_clean.csv").write_text("landmark_id,images\n7,abc0 abd0\n")
    for name in ("a/b/c/abc0", "a/b/d/abd0"):
        (tmp_path / f"train/{name}.jpg").parent.mkdir(parents=True)
        (tmp_path / f"train/{name}.jpg").touch()
    found = list(downloads.datasets(given))
    assert [good for good, _ in found] == [True, True]
    assert "the published list has 81313 and 1580470" in found[0][1]
    assert "1 queries, 2 images, all there (the published set has 70 and 4993)" in found[1][1]
    (tmp_path / "train/a/b/d/abd0.jpg").unlink()
    assert "1 of 2 images are missing" in next(downloads.datasets(given))[1]


def test_own_images_in_place_and_not(tmp_path: Path) -> None:
    def looked_at() -> list[tuple[bool | None, str]]:
        return list(downloads.datasets(parameters(**changes)))

    root, table = tmp_path / "mine", tmp_path / "mine.csv"
    changes: dict[str, Any] = {
        "prepare.dataset": "folder", "evaluation": {"own": {"dataset": "csv"}},
        "datasets": {
            "folder": {"root": str(root), "seed": 0, "evaluation_share": 0.0, "queries": 1},
            "csv": {"file": str(table)},
        },
    }  # fmt: skip
    found = looked_at()
    assert [good for good, _ in found] == [False, False]
    assert "no such folder" in found[0][1] and "no such file" in found[1][1]
    (root / "a").mkdir(parents=True)
    table.write_text("path,group,split\nmine/a/1.png,a,train\n")
    found = looked_at()
    assert "no images in it" in found[0][1] and "1 of 1 images are missing" in found[1][1]
    (root / "a/1.png").touch()
    assert looked_at() == [
        (True, f"dataset folder: {root}: 1 images, 1 sub-folders of them"),
        (True, f"dataset csv: {table}: 1 images of split train, 0 images of split evaluation, "
         "all there"),
    ]  # fmt: skip
    changes["evaluation"] = {}
    assert len(looked_at()) == 1


@pytest.mark.parametrize("section", ["evaluation", "datasets"])
@pytest.mark.parametrize("odd", [None, []])
def test_a_section_that_is_no_map_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys, section: str, odd: object
) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.chdir(tmp_path)
    write_params(tmp_path / "params.yaml", **{section: odd})
    for tool in (doctor, plan):
        assert console.run(tool.app, []) == 2
        said = "".join(capsys.readouterr())
        assert f"params.yaml: {section}: expected a map" in said


def test_without_torch_the_packages_are_reported(tmp_path: Path) -> None:
    write_params(tmp_path / "params.yaml")
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from stages.core import console; from stages.tools.setup import doctor\n"
        "assert console.run(doctor.app, []) == 2"
    )
    done = run(sys.executable, "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{code}",
               cwd=tmp_path)  # fmt: skip
    assert "FAIL torch is missing: pip install" in done.stdout and "ok   numpy" in done.stdout
    assert "params.yaml: cannot be checked without torch" in done.stdout


def test_a_program_without_a_digest_fails_and_its_digest_is_printed(tmp_path: Path) -> None:
    there = tmp_path / "net.pt"
    there.write_bytes(b"\xff program")
    digest = hashlib.sha256(b"\xff program").hexdigest()
    good, told = downloads.weights_file("t", there, None, "", is_code=True)
    assert good is False and f"sha256: {digest}" in told
    assert downloads.weights_file("t", there, digest.upper(), "", is_code=True)[0] is True
    there.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:aa\n")
    good, told = downloads.weights_file("t", there, None, "", is_code=True)
    assert good is False and "git lfs pull" in told


def test_published_weights_are_asked_of_the_hubs_own_client(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    name = "test_resnet.r160_in1k"
    good, told = downloads.published_weights("teacher t", name, "set a file")
    assert good is False and "HF_HUB_OFFLINE is set" in told and "set a file" in told
    folder = tmp_path / f"models--timm--{name}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs/main").write_text("0" * 40)
    file = folder / "snapshots" / ("0" * 40) / "model.safetensors"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"\xffweights")
    good, told = downloads.published_weights("teacher t", name, "set a file")
    assert good is True and str(file) in told


def test_the_students_first_weights_are_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    changes = {"student": "resnet18", "train.weights": "pretrained"}
    for decided, verdict in (("stop", False), ("random", None)):
        found = list(doctor.student(parameters(**changes, **{"train.without_weights": decided})))
        assert [good for good, _ in found] == [verdict], found
    found = list(doctor.student(parameters(**{"train.weights": str(tmp_path / "no.pth")})))
    assert found[0][0] is False and "no.pth is missing" in found[0][1]
