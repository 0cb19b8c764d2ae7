"""Every dataset keeps the contract: what it offers it can count, and counting makes nothing."""

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clips import write
from PIL import Image
from project import parameters

from stages import datasets
from stages.core import params, plugins
from stages.core.errors import UserError
from stages.datasets import demo, demo_video, folder, gldv2, revisitop, svd
from stages.tools.setup import preset

ROOT = Path(__file__).parents[2]
NAMES = plugins.names("stages.datasets")


def arguments(function: object) -> list[str]:
    assert callable(function)
    return list(inspect.signature(function).parameters)


@pytest.mark.parametrize("name", NAMES)
def test_a_dataset_offers_what_the_contract_says(name: str) -> None:
    module = plugins.load("stages.datasets", name)
    parts = [part for part in ("training", "evaluation") if hasattr(module, part)]
    assert parts, "neither to train nor to evaluate on"
    for part, protocol in (
        ("training", datasets.TrainingDataset), ("evaluation", datasets.EvaluationDataset),
    ):  # fmt: skip
        assert hasattr(module, f"count_{part}") == (part in parts)
        for function in (part, f"count_{part}", "status") if part in parts else ():
            wanted = arguments(getattr(protocol, function))[1:]
            assert arguments(getattr(module, function)) == wanted, function


def test_a_dataset_without_counts_is_refused_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(folder, "count_training")
    values = {"folder": {"root": "x", "seed": 0, "evaluation_share": 0.1, "queries": 1}}
    given = parameters(datasets=values, **{"prepare.dataset": "folder"})
    with pytest.raises(UserError, match="folder.py has no count_training"):
        datasets.count_training(given)


def files_below(root: Path) -> set[Path]:
    return set(root.rglob("*"))


@pytest.mark.parametrize("name", ["demo", "demo_video"])
def test_a_generated_world_has_what_it_counts(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WHITEN_MTD_WORKERS", "0")
    small: dict[str, dict[str, Any]] = {
        "demo": {"image_px": 64, "groups": 5, "images": 3, "evaluation_groups": 2, "distractors": 3},
        "demo_video": {
            "width_px": 48, "seconds": 4, "sources": 8, "copies": 2, "queries": 2, "unlabelled": 2,
        },
    }  # fmt: skip
    module = {"demo": demo, "demo_video": demo_video}[name]
    settings = module.Settings(
        **{**params.parse(preset.text(name).encode(), name)["datasets"][name], **small[name]}
    )
    train, evaluated = module.count_training(settings), module.count_evaluation(settings, "x")
    assert module.status(settings, "").endswith("to train on") and not files_below(tmp_path)
    training = module.training(settings, tmp_path)
    assert train.images == len(training.path) and np.array_equal(train.group, training.group)
    evaluation = module.evaluation(settings, tmp_path, "x")
    assert evaluated.images == len(evaluation.path)
    for counts, made in ((train, training), (evaluated, evaluation)):
        frames = None if made.frames is None else int(made.frames.sum())
        assert (counts.frames is None) == (frames is None)
        assert counts.made is not None
        assert counts.made.images == pytest.approx(frames or len(made.path), rel=0.3)
    weight = sum(f.stat().st_size for f in files_below(tmp_path) if f.is_file())
    both = train.made.bytes + evaluated.made.bytes
    assert weight / 4 < both < weight * 4  # small images have a larger share of headers


def test_lists_are_counted_without_a_look_into_the_files(tmp_path: Path) -> None:
    """The files are no images at all: whoever opened them would say so."""
    for name in ("a/1", "a/2", "a/3", "b/1", "b/2", "c/1", "loose"):
        (tmp_path / "own" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "own" / f"{name}.jpg").write_bytes(b"no image")
    own = folder.Settings(root=str(tmp_path / "own"), seed=0, evaluation_share=0.5, queries=1)
    train, evaluated = folder.count_training(own), folder.count_evaluation(own, "own")
    assert train.group is not None and train.images == len(train.group) == len(train.files)
    assert train.images + evaluated.images == 7 and (train.group < 0).sum() == 1
    rows = ["1.jpg,a,train", "2.jpg,a,train", "3.jpg,,train", "1.jpg,b,evaluation"]
    lines = [f"{'ab'[r.endswith('n') and 'evaluation' in r]}/{r}" for r in rows]
    (tmp_path / "own/t.csv").write_text("\n".join(["path,group,split", *lines]) + "\n")
    table = {"csv": {"file": str(tmp_path / "own/t.csv")}}
    changes = {"prepare.dataset": "csv", "evaluation": {"x": {"dataset": "csv"}}}
    given = parameters(datasets=table, **changes)
    counts = datasets.count_training(given)
    assert counts.images == 3 and counts.group is not None
    assert counts.group[0] == counts.group[1] >= 0 and counts.group[2] == -1
    assert datasets.count_evaluation(given, "x").images == 1


def test_landmarks_are_counted_as_they_are_listed(tmp_path: Path) -> None:
    import pickle

    (tmp_path / "train").mkdir()
    (tmp_path / "train_clean.csv").write_text("landmark_id,images\n7,aaa bbb ccc\n3,ddd\n")
    counts = gldv2.count_training(gldv2.Settings(root=str(tmp_path), least=2, exclude=None))
    assert counts.images == 3 and counts.group is not None and set(counts.group) == {7}
    gnd = [{"bbx": [0, 0, 9, 9], "easy": [0], "hard": [], "junk": [1]}]
    truth = {"imlist": ["a", "b"], "qimlist": ["q"], "gnd": gnd}
    for name in ("roxford5k", "revisitop1m"):
        (tmp_path / name).mkdir()
    (tmp_path / "roxford5k/gnd_roxford5k.pkl").write_bytes(pickle.dumps(truth))
    (tmp_path / "revisitop1m/revisitop1m.txt").write_text("x.jpg\ny.jpg\n")
    settings = revisitop.Settings(root=str(tmp_path), crop_queries=True)
    assert revisitop.count_evaluation(settings, "roxford5k").images == 3
    assert revisitop.count_evaluation(settings, "revisitop1m").images == 2
    with pytest.raises(UserError, match="neither .*gnd_other.pkl nor .*other.txt"):
        revisitop.count_evaluation(settings, "other")


def test_videos_are_counted_before_and_after_they_are_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WHITEN_MTD_WORKERS", "0")
    (tmp_path / "metadata").mkdir()
    lists = {
        "train_groundtruth": "q a 1\nq b 0\n", "test_groundtruth": "t p 1\n",
        "unlabeled-data-id": "u\nlost\n",
    }  # fmt: skip
    for name, text in lists.items():
        (tmp_path / "metadata" / name).write_text(text)
    for name in ("q", "a", "b", "t", "p", "u"):
        write(tmp_path / f"videos/{name}.mp4", 12)  # 3 seconds
    place = {name: str(tmp_path / name) for name in ("metadata", "frames", "videos")}
    values = {**place, "fps": 1.0, "frame_px": None, "max_frames": 60}
    settings = params.check(values, svd.Settings, "datasets.svd")
    before = files_below(tmp_path)
    train, evaluated = svd.count_training(settings), svd.count_evaluation(settings)
    assert (train.images, train.frames, evaluated.images) == (3, 180, 3)
    assert train.made is not None and train.made.images == 180 and not train.files
    assert any("60 frames a video are assumed" in note for note in train.notes)
    assert files_below(tmp_path) == before
    training = svd.training(settings, tmp_path)
    assert training.frames is not None
    after = svd.count_training(settings)
    assert after.frames == int(training.frames.sum()) and after.made is None and not after.notes
    assert after.group is not None and after.group.tolist() == training.group.tolist()
    assert len(after.files) == 3 and Image.open(after.files[0]).size == (64, 48)
