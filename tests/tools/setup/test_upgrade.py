"""`whiten-mtd upgrade`: other code runs again what it concerns, says why, and nothing else."""

import json
import sys
from pathlib import Path

import pytest
from project import installed, project_of_its_own, run
from test_pipeline import executed


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A project at `mine`, of the package whose copy is at `site`."""
    return project_of_its_own(tmp_path / "mine", installed(tmp_path / "site", copied=True))


def upgrade(mine: Path, *arguments: str, check: bool = True):  # type: ignore[no-untyped-def]
    command = (sys.executable, "-m", "whiten_mtd", "upgrade", *arguments)
    return run(*command, cwd=mine, check=check, PYTHONPATH=str(mine.parent / "site"))


def change(mine: Path, file: str, text: str = "\n# changed\n") -> None:
    with (mine.parent / "site/whiten_mtd" / file).open("a") as f:
        f.write(text)


def test_the_same_code_is_nothing_to_do(mine: Path) -> None:
    done = upgrade(mine)
    assert done.stdout == "" and "nothing to do" in done.stderr
    assert run("git", "status", "--porcelain", cwd=mine).stdout == ""


def test_it_says_which_stages_run_again_and_why(mine: Path) -> None:
    for file in ("distill/losses/relation.py", "teachers/any_timm.py", "teachers/gem.py"):
        change(mine, file)
    said = upgrade(mine, "--dry").stdout
    assert said.splitlines() == [
        "extract@a, extract@b: teachers/any_timm.py",
        "train: distill/losses/relation.py",
        "describe@a, describe@b: teachers/any_timm.py",
    ]
    assert run("git", "status", "--porcelain", cwd=mine).stdout == ""  # --dry
    done = upgrade(mine)
    assert done.stdout == said and "code.json: as of whiten-mtd" in done.stderr
    assert run("git", "status", "--porcelain", cwd=mine).stdout.split() == ["M", "code.json"]
    assert upgrade(mine).stdout == ""


def test_a_tool_runs_nothing_again(mine: Path) -> None:
    change(mine, "tools/search/search.py")
    assert "nothing to do" in upgrade(mine).stderr


def test_a_stage_that_another_version_has_is_renewed(mine: Path) -> None:
    pipeline = mine.parent / "site/whiten_mtd/core/pipeline.yaml"
    text = pipeline.read_text()
    pipeline.write_text(text.replace("    - ensemble\n    - fuse\n", "    - fuse\n"))
    assert pipeline.read_text() != text
    done = upgrade(mine)
    assert done.stdout == "fuse: dvc.yaml\n" and "code.json and dvc.yaml" in done.stderr
    assert "    - ensemble\n    - fuse\n" not in (mine / "dvc.yaml").read_text()


def test_a_pipeline_that_was_changed_by_hand_is_not_lost(mine: Path) -> None:
    own = (mine / "dvc.yaml").read_text() + "# mine\n"
    (mine / "dvc.yaml").write_text(own)
    change(mine, "whiten.py")
    assert upgrade(mine).stdout == "whiten: whiten.py\n"  # the pipeline is the same: it stays
    assert (mine / "dvc.yaml").read_text() == own
    change(mine, "core/pipeline.yaml", "# another\n")
    assert upgrade(mine).returncode == 0  # a comment makes no other pipeline
    pipeline = mine.parent / "site/whiten_mtd/core/pipeline.yaml"
    pipeline.write_text(pipeline.read_text().replace("desc: Rank", "desc: Sort"))
    done = upgrade(mine, check=False)
    assert done.returncode == 2 and "changes of your own" in done.stderr
    assert (mine / "dvc.yaml").read_text() == own
    assert upgrade(mine, "--force").stdout == ""  # what it says to people runs nothing
    assert "desc: Sort" in (mine / "dvc.yaml").read_text()


def test_params_that_the_new_version_does_not_know_are_named(mine: Path) -> None:
    change(mine, "fuse.py", "\nclass Params(Params):\n    added: int\n")
    assert "fuse.added: missing" in upgrade(mine).stderr


def test_outside_of_a_project_it_says_so(tmp_path: Path, mine: Path) -> None:
    (mine / "code.json").unlink()
    done = upgrade(mine, check=False)
    assert done.returncode == 2 and "code.json: no such file" in done.stderr
    (mine / "code.json").write_text("[]")
    done = upgrade(mine, check=False)
    assert done.returncode == 2 and "Traceback" not in done.stderr


@pytest.mark.long
def test_only_what_changed_runs_after_an_upgrade(
    mine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(mine.parent / "dvc"))
    site = str(mine.parent / "site")

    def repro() -> tuple[list[str], str]:
        done = run("dvc", "repro", cwd=mine, PYTHONPATH=site)
        return executed(done.stdout), done.stderr

    ran, said = repro()
    assert len(ran) == 12 and "warning: other code" not in said
    run("git", "add", "-A", cwd=mine)
    run("git", "commit", "-qm", "ran", cwd=mine)
    assert run("git", "status", "--porcelain", cwd=mine).stdout == ""
    # another loss: before `upgrade` DVC does not see it, and a stage that runs says so
    change(mine, "distill/losses/relation.py")
    assert repro()[0] == []
    forced = run("dvc", "repro", "-sf", "train", cwd=mine, PYTHONPATH=site)
    assert "warning: other code than code.json says (distill/losses/relation.py)" in forced.stderr
    assert upgrade(mine).stdout == "train: distill/losses/relation.py\n"
    assert repro()[0] == ["train"]  # its bytes are the same, so that nothing follows
    # another kind's code is nothing to this project
    change(mine, "teachers/gem.py")
    assert upgrade(mine).stdout == ""
    assert repro()[0] == []
    # experiments start from this project, and its settings come back
    run("git", "add", "-A", cwd=mine)
    run("git", "commit", "-qm", "upgraded", cwd=mine)
    experiment = ("dvc", "exp", "run", "-S", "evaluate.sheet_results=2")
    assert executed(run(*experiment, cwd=mine, PYTHONPATH=site).stdout) == ["evaluate"]
    run("git", "checkout", "-q", "params.yaml", cwd=mine)
    aside = ("dvc", "exp", "run", "--temp", "-S", "evaluate.sheet_results=1")
    run(*aside, cwd=mine, PYTHONPATH=site)
    assert json.loads((mine / "code.json").read_text())["stages"]
    assert repro()[0] == []
