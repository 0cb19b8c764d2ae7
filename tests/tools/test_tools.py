"""The tools on the finished tiny world, and bad input as one clear line with exit 2."""

import json
import shutil
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from project import ROOT, run, stage, write_params


def tool(*arguments: str, cwd: Path, check: bool = True):  # type: ignore[no-untyped-def]
    return run(sys.executable, "-m", "stages", *arguments, cwd=cwd, check=check)


def refused(done, *words: str) -> None:  # type: ignore[no-untyped-def]
    """Exit 2, `error:` lines only, no traceback, and the words that matter."""
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    lines = [x for x in done.stderr.splitlines() if x.startswith("error: ")]
    assert lines, done.stderr
    for word in words:
        assert word in "\n".join(lines)


def test_verify_passes_on_what_extract_wrote(world: Path) -> None:
    said = tool("verify", cwd=world).stdout
    assert said.count("as stored") == 2


def test_verify_deep_names_every_damaged_file(world: Path) -> None:
    assert "what their digests say" in tool("verify", "--deep", "--teacher", "b", cwd=world).stdout
    names = ("data/whitened/a.h5", "models/whitening/b.h5")
    for name in names:
        content = (world / name).read_bytes()
        (world / name).unlink()
        (world / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    refused(tool("verify", "--deep", cwd=world, check=False), *names, "again")


@pytest.mark.parametrize("fault", ["flip", "channels", "box"])
def test_verify_fails_when_pixels_are_not_replayed(world: Path, fault: str) -> None:
    replay = world / "stages/images/rendering.py"
    code = replay.read_text()
    changes = {
        "flip": ('if view["flip"] >= 0.5:', "if False:"),
        "channels": ("return np.asarray(out)\n\n\ndef fitted", "return np.asarray(out)[..., ::-1].copy()\n\n\ndef fitted"),
        "box": ('x, y = view["x"] * w, view["y"] * h', 'x, y = view["x"] * w + 2, view["y"] * h'),
    }  # fmt: skip
    assert changes[fault][0] in code
    replay.write_text(code.replace(*changes[fault]))
    refused(tool("verify", cwd=world, check=False), "not what the live teacher gives")


def test_score_says_what_evaluate_said(world: Path) -> None:
    described = "data/described/student/demo.h5"
    truth = "data/prepared/evaluation/demo.json"
    done = tool("score", described, described, truth, "--json", "--per-query", "q.csv", cwd=world)
    metrics = json.loads((world / "data/results/metrics.json").read_text())
    told = json.loads(done.stdout)
    rules = json.loads((world / "data/results/scoring_rules.json").read_text())
    assert told.pop("scoring_rules") | {"distractors": 4} == rules["demo"]["student"]
    assert told == metrics["demo"]["student"]
    assert (world / "q.csv").read_text().startswith("difficulty,query,ap\n")


def test_score_takes_descriptors_of_any_origin(world: Path) -> None:
    with h5py.File(world / "data/described/student/demo.h5") as f:
        descriptor, ids = f["descriptor"][:], [i.decode() for i in f["image_id"][:]]
    with h5py.File(world / "mine.h5", "w") as f:  # as anyone would write it
        f.attrs["format"] = "whiten-mtd/descriptors/1"
        f["descriptor"] = descriptor
        f["image_id"] = np.array(ids, dtype="S")
        f["path"] = np.array(ids, dtype="S")
    truth = "data/prepared/evaluation/demo.json"
    done = tool("score", "mine.h5", "mine.h5", truth, "--json", cwd=world)
    metrics = json.loads((world / "data/results/metrics.json").read_text())
    told = json.loads(done.stdout)
    rules = json.loads((world / "data/results/scoring_rules.json").read_text())
    said = told.pop("scoring_rules")  # the file does not say how it was made
    assert said["scales"] == "unknown" and said["crop"] == "as described"
    assert said["ground_truth"] == rules["demo"]["student"]["ground_truth"]
    assert told == metrics["demo"]["student"]


def test_results_and_describe_fused(world: Path) -> None:
    assert "queries.png" in tool("results", cwd=world).stdout
    tool("describe", "fused", "data/prepared/images/evaluation", "fused.h5", cwd=world)
    with h5py.File(world / "fused.h5") as f:
        assert f["descriptor"].shape[1] == 16
        norms = np.linalg.norm(f["descriptor"][:].astype(np.float32), axis=1)
    np.testing.assert_allclose(norms, 1, atol=2e-3)


def test_doctor_names_every_error_of_every_section(world: Path) -> None:
    text = (world / "params.yaml").read_text()
    (world / "params.yaml").write_text(
        text.replace("batch: 4", "bach: 4").replace("lr: 0.0005", "lr: fast")
    )
    done = tool("doctor", cwd=world, check=False)
    assert done.returncode == 2
    assert "fuse.bach: unknown key (did you mean 'batch'?)" in done.stdout
    assert "train.lr" in done.stdout and "fuse.batch: missing" in done.stdout


def test_presets(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "stages", tmp_path / "stages")
    tool("preset", "demo", cwd=tmp_path)
    assert (tmp_path / "params.yaml").read_bytes() == (ROOT / "params.yaml").read_bytes()
    refused(tool("preset", "dmo", cwd=tmp_path, check=False), "did you mean 'demo'?")


def test_help_and_version_are_quick(tmp_path: Path) -> None:
    assert "extract" in tool("--help", cwd=ROOT).stdout
    assert tool("--version", cwd=ROOT).stdout.startswith("whiten-mtd 0.")
    refused(tool("evalute", cwd=ROOT, check=False), "did you mean 'evaluate'?")


TRAIN = "data/prepared/train.h5"
BAD = {
    "unknown key": ({"fuse.bacth": 3}, ("fuse", TRAIN, "data/whitened", "t", "f.h5"), "did you mean"),
    "wrong type": ({"train.lr": "x"}, ("train", TRAIN, "data/targets", "s", "u"), "train.lr"),
    "strategy": ({"fuse.strategy": "maxmim"}, ("fuse", TRAIN, "data/whitened", "t", "f.h5"), "did you mean 'maxmin'"),
    "batch": ({"fuse.batch": 99}, ("fuse", TRAIN, "data/whitened", "t", "f.h5"), "only"),
    "dim": ({"whiten.dim": 9999}, ("whiten", "a", TRAIN, "data/features/a.h5", "w.h5", "x.h5"), "set whiten.dim to at most"),
    "teacher": ({}, ("extract", "aa", TRAIN, "x.h5"), "did you mean 'a'"),
    "student": ({"student": "resnet8"}, ("train", TRAIN, "data/targets", "s", "u"), "did you mean"),
    "dataset": ({"prepare.dataset": "dmeo"}, ("prepare", "p"), "did you mean 'demo'"),
    "weights": ({"train.loss": {"relation": 0.0}}, ("train", TRAIN, "data/targets", "s", "u"), "all zero"),
    "stop": (
        {"train.weights": "pretrained", "train.without_weights": "stop"},
        ("train", TRAIN, "data/targets", "s", "u"), "no weights for",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line(world: Path, case: str) -> None:
    changes, arguments, word = BAD[case]
    before = sorted(p for p in world.rglob("*") if ".scratch" not in p.parts)
    write_params(world / "params.yaml", **changes)
    refused(stage(*arguments, cwd=world, check=False), word)
    after = sorted(p for p in world.rglob("*") if ".scratch" not in p.parts)
    left = {p.name for p in set(after) - set(before)} - {"__pycache__", "images", "p"}
    assert not {n for n in left if not n.endswith(".pyc")}


def test_damaged_and_foreign_files(world: Path) -> None:
    whole = (world / TRAIN).read_bytes()
    arguments = ("whiten", "a", TRAIN, "data/features/a.h5", "w.h5", "x.h5")
    shutil.copy(world / TRAIN, world / "copy")
    (world / TRAIN).unlink()  # a hard link of DVC's cache must not be written through
    for damaged in (whole[: len(whole) // 2], whole[:-9] + b"damaged!!"):
        (world / TRAIN).write_bytes(damaged)
        refused(stage(*arguments, cwd=world, check=False), "train.h5", "again")
    (world / TRAIN).write_bytes(whole)
    swapped = ("whiten", "a", TRAIN, "data/whitened/a.h5", "w.h5", "x.h5")
    refused(stage(*swapped, cwd=world, check=False), "whiten-mtd/features/1")
    assert not (world / "w.h5").exists() and not (world / "x.h5").exists()


def test_other_images_than_prepare_met_stop_a_stage(world: Path) -> None:
    for part, command in (
        ("train", ("extract", "a", TRAIN, "x.h5")),
        ("train", ("train", TRAIN, "data/targets", "s", "u")),
        ("evaluation", ("describe", "models/student", "data/prepared/evaluation", "d")),
    ):
        image = next((world / "data/prepared/images" / part).rglob("*.jpg"))
        content = image.read_bytes()
        image.unlink()
        refused(stage(*command, cwd=world, check=False), "1 images are missing", image.name)
        image.write_bytes(content + b" ")
        refused(stage(*command, cwd=world, check=False), "not the images that prepare met")
        image.write_bytes(content)
