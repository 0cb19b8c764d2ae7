"""The second demo: a project of its own in `video/`, run for real on a tiny world."""

import json
import re
import sys
from pathlib import Path

import pytest
import test_layout
from project import ROOT, TINY, changed, checkout, run
from ruamel.yaml import YAML

from stages.tools.setup import preset as presets

CHANGES = {
    **{k: v for k, v in TINY.items() if not k.startswith("datasets.")},
    "datasets.demo_video": {
        "seed": 0, "width_px": 48, "fps": 4, "seconds": 4, "sources": 10, "copies": 1, "queries": 3,
        "positives": 2, "negatives": 1, "unlabelled": 5, "difficulty": 0.5,
    },
}  # fmt: skip


def test_its_stages_are_those_of_the_first() -> None:
    """video/dvc.yaml is dvc.yaml, a folder further down: `make video/dvc.yaml` writes it."""
    text = (ROOT / "dvc.yaml").read_text("utf-8")
    text = re.sub(r"^( *)- stages/", r"\1- ../stages/", text, flags=re.M)
    text = text.replace("python -m stages.", "PYTHONPATH=.. python -m stages.")
    assert (ROOT / "video/dvc.yaml").read_text("utf-8") == text


@pytest.mark.parametrize("name", ["demo_video", "svd"])
def test_every_knob_of_a_video_preset_has_a_comment(name: str) -> None:
    lines = presets.text(name).splitlines()
    for number, line in enumerate(lines):  # every knob has a comment, as in params.yaml
        if re.match(r"[a-z_]+:", line) and line.split(":")[0] in test_layout.STAGES:
            assert lines[number + 1].strip().startswith("#"), line


def write_params(path: Path) -> None:
    yaml = YAML(typ="safe")
    values = changed(yaml.load(presets.text("demo_video")), CHANGES)
    with path.open("w") as f:
        yaml.dump(values, f)


@pytest.mark.long
def test_the_tiny_video_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
    root = checkout(tmp_path / "project")
    folder = root / "video"
    write_params(folder / "params.yaml")
    log = run("dvc", "repro", cwd=folder)
    assert len(re.findall(r"Running stage", log.stdout)) == 13
    found = json.loads((folder / "data/results/metrics.json").read_text())["videos"]
    assert set(found) - {"trained", "fused", "asymmetric"} == {  # these where the student is aligned
        "student", "untrained", "a", "b", "ensemble",
    }  # fmt: skip
    assert set(found["student"]) == {"top-100", "top-inf"}
    # Beside the first demo's, not over them; git sees the lock file and nothing else.
    assert not (root / "data/results").exists() and not (root / "dvc.lock").exists()
    status = run("git", "status", "--porcelain", cwd=root).stdout.split()
    assert status == ["??", "video/dvc.lock", "??", "video/params.yaml"]
    assert run("dvc", "repro", cwd=folder).stdout.count("Running stage") == 1  # look
    known = run("dvc", "stage", "list", "--all", "--name-only", cwd=root).stdout
    assert "prepare" in known and "video" not in known  # the first does not know of the second
    verified = run(sys.executable, "-m", "stages", "verify", cwd=folder, PYTHONPATH="..")
    assert verified.stdout.count("as stored") == 2
    deps_are_what_is_loaded(root, folder)


def deps_are_what_is_loaded(root: Path, folder: Path) -> None:
    """As test_layout holds it for images: what each stage loads is what dvc.yaml names."""
    for name, entry in test_layout.resolved_stages(folder).items():
        arguments = entry["cmd"].split("stages.")[1].split()
        record = test_layout.RECORD.replace("pathlib.Path.cwd()", "pathlib.Path.cwd().parent")
        done = run(sys.executable, "-c", record, *arguments, cwd=folder, PYTHONPATH="..")
        line = next(x for x in done.stdout.splitlines() if x.startswith("LOADED"))
        loaded = set(json.loads(line.removeprefix("LOADED"))) - test_layout.EXEMPT
        loaded = {f for f in loaded if not test_layout.empty_package(root / f)}
        deps = {d["path"].removeprefix("../") for d in entry["deps"]}
        folders = {d for d in deps if (root / d).is_dir()}
        missing = {f for f in loaded - deps if not any(f.startswith(f"{d}/") for d in folders)}
        assert not missing, f"{name}: loads what dvc.yaml does not name: {missing}"
