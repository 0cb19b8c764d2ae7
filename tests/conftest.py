"""A finished run on a tiny world, shared by the tests that need one."""

import os
import shutil
from pathlib import Path

import pytest
from filelock import FileLock
from project import checkout, run


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout, at a path with a space, in which `dvc repro` ran once on the tiny world.

    The first process that needs it makes it; each process has a copy of its own.
    """
    own = tmp_path_factory.mktemp("a project")
    several = "PYTEST_XDIST_WORKER" in os.environ
    made = tmp_path_factory.getbasetemp().parent / "made" if several else own / "made"
    os.environ["DVC_SITE_CACHE_DIR"] = str(own / "site")
    with FileLock(f"{made}.lock"):
        if not (made / "repro.log").exists():
            folder = checkout(made / "whiten mtd")
            done = run("dvc", "repro", cwd=folder)
            run("git", "add", "-A", cwd=folder)
            run("git", "commit", "-qm", "ran", cwd=folder)
            (made / "repro.log").write_text(done.stdout + done.stderr)
    shutil.copytree(made, own, symlinks=True, dirs_exist_ok=True)
    return own / "whiten mtd"


@pytest.fixture
def world(project: Path, tmp_path: Path) -> Path:
    """A copy of the finished project without git and DVC: stages can be run by hand in it."""
    folder = tmp_path / "world"
    shutil.copytree(project, folder, ignore=shutil.ignore_patterns(".git", ".dvc", "cache"))
    return folder
