"""`whiten-mtd init`: a project anywhere, in git and DVC, whose pipeline is the checkout's."""

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from project import ENVIRONMENT, ROOT, installed, run
from ruamel.yaml import YAML

from stages.core import console, params, stage_code
from stages.tools.setup import init, preset, project


def yaml(text: str) -> Any:
    return YAML(typ="safe").load(text)


@pytest.fixture(autouse=True)
def _identity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


def make(*arguments: str) -> int:
    return console.run(init.app, list(arguments))


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    before = sorted(Path().rglob("*"))
    assert make(*arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and sorted(Path().rglob("*")) == before
    return line


def test_the_package_has_the_checkouts_pipeline() -> None:
    """One template: edit dvc.yaml, then `make stages/core/pipeline.yaml`."""
    assert stage_code.PIPELINE.read_text("utf-8") == (ROOT / "dvc.yaml").read_text("utf-8")


def test_a_projects_pipeline_is_the_checkouts_but_for_the_code() -> None:
    ours, theirs = yaml(project.pipeline()), yaml((ROOT / "dvc.yaml").read_text("utf-8"))
    assert ours["plots"] == theirs["plots"] and list(ours["stages"]) == list(theirs["stages"])
    for name, entry in theirs["stages"].items():
        own = ours["stages"][name]
        own, entry = own.get("do", own), entry.get("do", entry)
        assert own["cmd"] == entry["cmd"].replace("python -m stages.", "python -m whiten_mtd.")
        deps = entry.get("deps", [])
        assert own.get("deps", []) == [d for d in deps if not d.startswith("stages/")]
        code = [p for p in own.get("params", []) if isinstance(p, dict)]
        assert [p for p in own.get("params", []) if p not in code] == entry.get("params", [])
        tracked = [key for p in code for key in p["code.json"]]
        of = "${item.kind}" if stage_code.KIND in stage_code.dependencies().get(name, ()) else ""
        assert tracked == ([] if name == "look" else stage_code.keys(name, of))
        rest = {"cmd", "deps", "params"}
        assert {k: v for k, v in own.items() if k not in rest} == {
            k: v for k, v in entry.items() if k not in rest
        }


def test_every_key_that_is_tracked_is_in_code_json() -> None:
    code = project.code()
    for stage, deps in stage_code.dependencies().items():
        for kind in stage_code.kinds() if stage_code.KIND in deps else [""]:
            for key in stage_code.keys(stage, kind):
                assert stage_code.at(code, key), key


def test_a_project_is_whole_and_committed(capsys: pytest.CaptureFixture[str]) -> None:
    Path("my photos").mkdir()
    assert make("a project", "--images", "my photos") == 0
    said = capsys.readouterr().err.splitlines()
    assert said[-1] == "next: cd a project; whiten-mtd doctor; dvc repro"
    folder = Path("a project")
    given = params.read(folder / "params.yaml")
    assert given.values["datasets"]["folder"]["root"] == str(Path("my photos").resolve())
    text = preset.text("folder").splitlines()
    own = (folder / "params.yaml").read_text("utf-8").splitlines()
    assert [a for a, b in zip(text, own, strict=True) if a != b] == ["    root: my/images"]
    assert len((folder / "README.md").read_text().splitlines()) == 10
    assert run("git", "status", "--porcelain", cwd=folder).stdout == ""
    assert len(run("git", "log", "--oneline", cwd=folder).stdout.splitlines()) == 1
    (folder / "params.yaml").write_text("student: nonsense\n")
    run("git", "checkout", "params.yaml", cwd=folder)
    assert params.read(folder / "params.yaml") == given
    shown = run("dvc", "stage", "list", "--name-only", cwd=folder).stdout.split()
    assert {"prepare", "extract@lite0", "describe_student@student", "evaluate"} <= set(shown)
    assert not run("dvc", "config", "--list", "--project", cwd=folder).stdout.count("remote")


def test_what_dvc_writes_is_ignored() -> None:
    assert make("p", "--preset", "demo") == 0
    for entry in yaml(Path("p/dvc.yaml").read_text("utf-8"))["stages"].values():
        for part in ("outs", "metrics", "plots"):
            for out in entry.get("do", entry).get(part, []):
                place = re.sub(r"\$\{.*?\}", "x", out if isinstance(out, str) else next(iter(out)))
                run("git", "check-ignore", "-q", place, cwd=Path("p"))


def test_a_preset_without_images_says_what_to_set(capsys: pytest.CaptureFixture[str]) -> None:
    assert make("p") == 0
    assert "set datasets.folder.root in p/params.yaml first" in capsys.readouterr().err
    assert make("q", "--preset", "gem_apgem_solar") == 0
    assert "set datasets.gldv2.root" in capsys.readouterr().err
    assert make("r", "--preset", "demo_video") == 0
    assert "first, then" not in capsys.readouterr().err


def test_without_an_identity_it_is_explained(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [n for n in os.environ if n.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    assert make("p", "--preset", "demo") == 0
    said = capsys.readouterr().err
    assert "git config --global user.name NAME" in said and "git add -A" in said
    for key, value in (("name", "A"), ("email", "a@example.com")):  # what it says to do
        run("git", "config", f"user.{key}", value, cwd=Path("p"))
    run("git", "add", "-A", cwd=Path("p"))
    run("git", "commit", "-qm", "my project", cwd=Path("p"))


def test_a_repository_that_is_there_is_used() -> None:
    Path("p").mkdir()
    run("git", "init", "-q", cwd=Path("p"))
    Path("p/notes.txt").write_text("mine")
    assert make("p", "--preset", "demo") == 0
    assert run("git", "status", "--porcelain", cwd=Path("p")).stdout.split() == ["??", "notes.txt"]


def test_bad_input_is_one_line_and_writes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    Path("there").mkdir()
    Path("there/params.yaml").write_text("x: 1\n")
    Path("file").touch()
    assert "there already" in refused(capsys, "there")
    assert "is a file" in refused(capsys, "file")
    assert "did you mean 'folder'" in refused(capsys, "p", "--preset", "foldr")
    assert "no such folder" in refused(capsys, "p", "--images", "nowhere")
    assert "makes its own" in refused(capsys, "p", "--preset", "demo", "--images", "there")


def test_git_that_is_missing_or_refuses(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("p").mkdir()
    run("git", "init", "-q", cwd=Path("p"))
    hook = Path("p/.git/hooks/pre-commit")
    hook.write_text("#!/bin/sh\necho not today >&2; exit 1\n")
    hook.chmod(0o755)
    assert make("p", "--preset", "demo") == 2
    assert "`git commit` says: not today" in capsys.readouterr().err
    monkeypatch.setenv("PATH", "/nowhere")
    assert "install git first" in refused(capsys, "q")


def test_the_installed_package_makes_one_too(tmp_path: Path) -> None:
    path = installed(tmp_path / "site")
    run(sys.executable, "-m", "whiten_mtd", "init", "p", cwd=tmp_path, PYTHONPATH=path)
    code = json.loads((tmp_path / "p/code.json").read_text())
    assert code == project.code()
