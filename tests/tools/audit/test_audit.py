"""Planted label errors are found and mended; what is right stays; bad input is one line."""

import csv
import shutil
from pathlib import Path
from typing import Any

import chromium
import numpy as np
import pytest
from PIL import Image
from project import ROOT, parameters, stage, write_params

from stages import datasets
from stages.core import console, store
from stages.distill.whitening import l2n
from stages.images.sets import TrainSet
from stages.tools.audit import audit, votes

GROUPS, IMAGES, DIM = 40, 6, 48
NAMES = ("a", "b")


class Planted:
    """Made descriptors of a world whose labels are wrong in known places.

    Groups 0 and 1 are called one, group 2 is called two (rows `half` have a label of their own),
    and one image each of groups 3 to 8 is called group 10 to 15.
    """

    def __init__(self, folder: Path, noise: float = 1.1, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.truth = np.repeat(np.arange(GROUPS), IMAGES).astype(np.int32)
        self.group = self.truth.copy()
        self.group[self.truth == 1] = 0
        self.half = np.flatnonzero(self.truth == 2)[:3]
        self.group[self.half] = GROUPS
        self.moved = np.array([np.flatnonzero(self.truth == g)[0] for g in range(3, 9)])
        self.group[self.moved] = np.arange(10, 16)
        n = len(self.group)
        path = [f"all/{i:03d}.jpg" for i in range(n)]
        (folder / "all").mkdir(parents=True)
        for p in path:
            Image.new("RGB", (24, 16), tuple(rng.integers(0, 255, 3).tolist())).save(folder / p)
        view = np.tile(np.array([0, 0, 1, 1, 0], np.float32), (2 * n, 1))
        arrays = {
            "image_id": np.array(path), "path": np.array(path), "group": self.group,
            "view_image": np.repeat(np.arange(n, dtype=np.int32), 2), "view": view,
        }  # fmt: skip
        about = {"columns": "x y width height flip", "root": str(folder), "images": ""}
        store.write(folder / "data/prepared/train.h5", "train", arrays, **about)
        train = TrainSet.read(folder / "data/prepared/train.h5")
        for name in NAMES:
            centre = l2n(rng.standard_normal((GROUPS, DIM)))[np.repeat(self.truth, 2)]
            rows = l2n(centre + noise * rng.standard_normal((2 * n, DIM)) / np.sqrt(DIM))
            store.write(
                folder / f"data/whitened/{name}.h5", "whitened",
                {"descriptor": rows.astype(np.float16)}, train=train.digest, teacher=name,
                features="", parameters="",
            )  # fmt: skip
        write_params(folder / "params.yaml")


@pytest.fixture
def planted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Planted:
    monkeypatch.chdir(tmp_path)
    return Planted(tmp_path)


def table(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as f:
        return list(csv.DictReader(f))


def wrong_pairs(label: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(n, n): pairs whose labels say another thing than the truth."""
    return (label[:, None] == label[None]) != (truth[:, None] == truth[None])


def test_planted_errors_are_found_and_mended(
    planted: Planted, capsys: pytest.CaptureFixture[str]
) -> None:
    assert console.run(audit.app, []) == 0
    assert "clear cases" in capsys.readouterr().out
    suspects = table(Path("audit/suspects.csv"))
    row = {f"all/{i:03d}.jpg": i for i in range(len(planted.group))}
    wrong = wrong_pairs(planted.group, planted.truth)
    listed = [(row[s["path"]], row[s["other_path"]]) for s in suspects]
    right = sum(bool(wrong[a, b]) for a, b in listed)
    precision, recall = right / len(listed), right / (wrong.sum() / 2)
    assert precision > 0.8 and recall > 0.7, (precision, recall)
    corrected = table(Path("audit/corrected.csv"))
    _, label = np.unique([r["group"] for r in corrected], return_inverse=True)
    assert [r["path"] for r in corrected] == list(row)
    before, after = wrong.sum(), wrong_pairs(label, planted.truth).sum()
    assert after < 0.5 * before, (before, after)
    changed = np.flatnonzero([r["group"] != f"group {g}" for r, g in
                              zip(corrected, planted.group, strict=True)])  # fmt: skip
    meant = {*planted.moved.tolist(), *np.flatnonzero(planted.truth < 3).tolist()}
    assert set(changed.tolist()) <= meant  # nothing that was right was touched


def test_corrected_table_is_read_by_dataset_csv(planted: Planted) -> None:
    assert console.run(audit.app, ["out"]) == 0
    given = parameters(datasets={"csv": {"file": "out/corrected.csv", "root": "."}})
    module, checked = datasets.load("csv", "training", given)
    training = module.training(checked, Path("."))
    assert len(training.path) == len(planted.group)


def test_right_labels_raise_little(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    made = Planted(tmp_path)
    rows = [audit.read(Path(f"data/whitened/{n}.h5"), made_views()) for n in NAMES]
    limit = votes.bounds(rows, made.truth, neighbours=5, different=0.8, seed=0)
    found = audit.vote(rows, made.truth, limit, listed=0.5, apply=0.6)
    assert sum(c.sure for c in found.cases) <= 1


def made_views() -> TrainSet:
    return TrainSet.read(Path("data/prepared/train.h5"))


def test_own_csv_keeps_its_other_lines_and_names(planted: Planted) -> None:
    names = [f"house {g}" for g in planted.group]
    lines = [f"all/{i:03d}.jpg,{name},train," for i, name in enumerate(names)]
    for i in range(2):
        Image.new("RGB", (20, 20 + i), (9, 9, 9 * i)).save(f"asked {i}.jpg")
        lines.append(f"asked {i}.jpg,the church,evaluation,{i}")
    Path("mine.csv").write_text("path,group,split,query\n" + "\n".join(lines) + "\n")
    write_params(
        Path("params.yaml"), **{"prepare.dataset": "csv", "datasets.csv": {"file": "mine.csv"}}
    )
    assert console.run(audit.app, []) == 0
    corrected = table(Path("audit/corrected.csv"))
    assert corrected[-1] == {
        "path": "asked 1.jpg", "group": "the church", "split": "evaluation", "query": "1",
    }  # fmt: skip
    back = [corrected[i]["group"] for i in planted.moved]
    assert sum(b == f"house {planted.truth[i]}" for b, i in zip(back, planted.moved)) >= 4  # noqa: B905


def test_unlabelled_images_and_one_teacher(planted: Planted) -> None:
    assert console.run(audit.app, ["--teacher", "a", "--shown", "0", "--json"]) == 0
    assert "weaker cases are not shown" in Path("audit/audit.html").read_text("utf-8")


def test_videos_are_shown_by_a_frame(planted: Planted, capsys: pytest.CaptureFixture[str]) -> None:
    """The same world, its images now videos of which the views show two frames."""
    views = made_views()
    frame = np.tile(np.float32([2, 3]), len(views.path))[:, None]
    for i, path in enumerate(views.path):
        (folder := Path("frames") / str(i)).mkdir(parents=True)
        Image.open(views.root / str(path)).save(folder / "0003.jpg")  # of the two, the upper middle
    arrays = {
        "image_id": views.image_id, "path": np.arange(len(views.path)).astype(str),
        "group": views.group, "view_image": views.view_image,
        "view": np.concatenate([np.asarray(views.view), frame], axis=1),
    }  # fmt: skip
    about = {"columns": "x y width height flip frame", "root": "frames", "images": ""}
    train = Path("data/prepared/train.h5")
    store.write(train, "train", arrays, **about)
    for name in NAMES:
        file = Path(f"data/whitened/{name}.h5")
        rows = {"descriptor": np.array(store.Stored(file, "whitened")["descriptor"])}
        digest = TrainSet.read(train).digest
        store.write(file, "whitened", rows, train=digest, teacher=name, features="", parameters="")
    assert console.run(audit.app, []) == 0
    said = capsys.readouterr().out
    assert f"{len(views.path)} videos of" in said and "not these folders of frames" in said
    html = Path("audit/audit.html").read_text("utf-8")
    assert html.count("data:image/jpeg") > 20 and "image not found" not in html
    assert "this video seems" in html


@chromium.needed
def test_page_in_a_browser(planted: Planted, tmp_path: Path) -> None:
    assert console.run(audit.app, []) == 0
    assert chromium.check_page(Path("audit/audit.html"), tmp_path) > 20


@pytest.mark.parametrize(
    ("spoil", "arguments", "words"),
    [
        ("", ["--teacher", "c"], "no teacher 'c'"),
        ("", ["params.yaml"], "a folder is needed"),
        ("data/whitened/b.h5", [], "b.h5: no such file"),
        ("data/prepared/train.h5", [], "train.h5: no such file"),
    ],
)
def test_bad_input_is_one_line(
    planted: Planted, spoil: str, arguments: list[str], words: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    if spoil:
        Path(spoil).unlink()
    assert console.run(audit.app, arguments) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and words in said[0] and not Path("audit").exists()


def test_no_labels_and_other_views_are_refused(
    planted: Planted, capsys: pytest.CaptureFixture[str]
) -> None:
    views = made_views()
    arrays: dict[str, Any] = {
        "image_id": views.image_id, "path": views.path, "view_image": views.view_image,
        "view": np.asarray(views.view),
    }  # fmt: skip
    about = {"columns": "x y width height flip", "root": str(views.root), "images": ""}
    for group, words in (
        (np.full(len(views.path), -1, np.int32), "no labels to vote on"),
        (views.group[::-1].copy(), "of other stored views"),
    ):
        store.write(Path("data/prepared/train.h5"), "train", {**arrays, "group": group}, **about)
        assert console.run(audit.app, []) == 2
        assert words in capsys.readouterr().err


@pytest.mark.long
def test_planted_errors_of_the_demo_by_real_networks(tmp_path: Path) -> None:
    """Drawn buildings and two of the demo's networks, in small; near-twins deceive them."""
    shutil.copytree(ROOT / "stages", tmp_path / "stages")
    lite = {"kind": "any_timm", "image_px": 128}
    nets: dict[str, dict[str, Any]] = {
        "lite0": {**lite, "model": "tf_efficientnet_lite0"},
        "early": {**lite, "model": "tf_efficientnet_lite2", "stage": 3},
    }
    world = {"image_px": 192, "groups": 60, "images": 5, "evaluation_groups": 2}
    changes = {f"datasets.demo.{k}": v for k, v in world.items()}
    changes |= {"prepare.validation_share": 0.0, "prepare.views": 3, "whiten.dim": 32}
    write_params(
        tmp_path / "params.yaml", teachers=nets, ensemble=list(nets),
        **{**changes, "prepare.epochs": 12},
    )  # fmt: skip
    stage("prepare", "data/prepared", cwd=tmp_path)
    train = "data/prepared/train.h5"
    for name in nets:
        features = f"data/features/{name}.h5"
        stage("extract", name, train, features, cwd=tmp_path)
        out = [f"models/whitening/{name}.h5", f"data/whitened/{name}.h5"]
        stage("whiten", name, train, features, *out, cwd=tmp_path)
    views = TrainSet.read(tmp_path / train)
    rows = [audit.read(tmp_path / f"data/whitened/{n}.h5", views) for n in nets]
    group, moved = views.group.copy(), set()
    for a, b in np.random.default_rng(0).permutation(60)[:24].reshape(12, 2):
        image = int(np.flatnonzero(views.group == a)[0])
        moved.add(image)
        group[image] = b
    limit = votes.bounds(rows, group, neighbours=5, different=0.8, seed=0)
    found = audit.vote(rows, group, limit, listed=0.5, apply=0.6)
    parts = [set(c.left.tolist()) for c in found.cases if c.kind == "part"]
    right = sum(bool(p & moved) for p in parts)
    print(f"{len(parts)} parts, {right} right; {len(moved & set().union(*parts))} of 12 found")
    assert len(moved & set().union(*parts)) >= 5  # a random image is one of them at 4 %
    assert right >= 0.2 * len(
        parts
    )  # by chance 4 %; so few and weak teachers say much that is wrong
