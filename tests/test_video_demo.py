"""The second demo: a project that `init` makes, run for real on a tiny world."""

import json
import re
import sys
from pathlib import Path

import pytest
import test_layout
from project import ROOT, TINY, installed, project_of_its_own, run

from stages.core import stage_code
from stages.tools.setup import preset as presets

CHANGES = {
    **{k: v for k, v in TINY.items() if not k.startswith("datasets.")},
    "datasets.demo_video": {
        "seed": 0, "width_px": 48, "fps": 4, "seconds": 4, "sources": 10, "copies": 1, "queries": 3,
        "positives": 2, "negatives": 1, "unlabelled": 5, "difficulty": 0.5,
    },
}  # fmt: skip


@pytest.mark.parametrize("name", ["demo_video", "svd"])
def test_every_knob_of_a_video_preset_has_a_comment(name: str) -> None:
    lines = presets.text(name).splitlines()
    for number, line in enumerate(lines):  # every knob has a comment, as in params.yaml
        if re.match(r"[a-z_]+:", line) and line.split(":")[0] in test_layout.STAGES:
            assert lines[number + 1].strip().startswith("#"), line


@pytest.mark.long
def test_the_tiny_video_world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site cache"))
    path = installed(tmp_path / "site")
    folder = project_of_its_own(tmp_path / "demo-video", path, "demo_video", **CHANGES)
    log = run("dvc", "repro", cwd=folder, PYTHONPATH=path)
    assert len(re.findall(r"Running stage", log.stdout)) == 13
    found = json.loads((folder / "data/results/metrics.json").read_text())["videos"]
    assert set(found) - {"trained", "fused", "asymmetric"} == {  # these where the student is aligned
        "student", "untrained", "a", "b", "ensemble",
    }  # fmt: skip
    assert set(found["student"]) == {"top-100", "top-inf"}
    status = run("git", "status", "--porcelain", cwd=folder).stdout.split()
    assert status == ["??", "dvc.lock"]  # git sees the lock file and nothing else
    again = run("dvc", "repro", cwd=folder, PYTHONPATH=path)
    assert again.stdout.count("Running stage") == 1  # look
    verified = run(sys.executable, "-m", "whiten_mtd", "verify", cwd=folder, PYTHONPATH=path)
    assert verified.stdout.count("as stored") == 2
    code_json_has_what_is_loaded(folder, path)


def code_json_has_what_is_loaded(folder: Path, path: str) -> None:
    """As test_layout holds it of a checkout: each stage's digests are of all that it loads."""
    record = test_layout.RECORD.replace("stages", "whiten_mtd").replace(
        "pathlib.Path.cwd()", f"pathlib.Path({path!r})"
    )
    exempt = {f.removeprefix("stages/") for f in test_layout.EXEMPT}
    for name, entry in test_layout.resolved_stages(folder).items():
        stage = name.split("@")[0]
        if stage == "look":  # runs every time
            continue
        arguments = entry["cmd"].split("whiten_mtd.")[1].split()
        done = run(sys.executable, "-c", record, *arguments, cwd=folder, PYTHONPATH=path)
        line = next(x for x in done.stdout.splitlines() if x.startswith("LOADED"))
        files = {f.removeprefix("whiten_mtd/") for f in json.loads(line.removeprefix("LOADED"))}
        loaded = {f for f in files if not test_layout.empty_package(ROOT / "stages" / f)} - exempt
        of_kinds = stage_code.KIND in stage_code.dependencies()[stage]
        known = set(stage_code.stage_files(stage, "any_timm" if of_kinds else ""))
        for plugins in stage_code.folders(stage):
            for plugin in stage_code.code()[Path(plugins).name]:
                known |= set(stage_code.plugin_files(plugins, plugin))
        assert loaded <= known, f"{name}: loads what code.json does not know: {loaded - known}"


def test_make_makes_it_once_and_renews_its_code(tmp_path: Path) -> None:
    (tmp_path / ".venv").mkdir()
    for name in ("pyproject.toml", "requirements.lock", ".venv/.ready"):
        (tmp_path / name).touch()
    command = ("make", "-n", "-f", str(ROOT / "Makefile"), "demo-video")
    # As a person starts it, though these tests may be started by a make themselves.
    said = run(*command, "--no-print-directory", cwd=tmp_path, MAKEFLAGS="").stdout.splitlines()
    made = "test -e demo-video/code.json || whiten-mtd init demo-video --preset demo_video"
    assert [line.removeprefix("cd demo-video && ") for line in said] == [
        made, "whiten-mtd upgrade", "dvc repro", "whiten-mtd results",
    ]  # fmt: skip
    run("git", "check-ignore", "-q", "demo-video/params.yaml", cwd=ROOT)
