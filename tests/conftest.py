"""A finished run on a tiny world, shared by the tests that need one."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from project import checkout, run


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One process for the tests that share the finished run, so that it is made once."""
    for item in items:
        if "project" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("project"))


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A checkout, at a path with a space, in which `dvc repro` ran once on the tiny world."""
    base = tmp_path_factory.mktemp("a project")
    folder = checkout(base / "whiten mtd")
    os.environ["DVC_SITE_CACHE_DIR"] = str(base / "site")
    done = run("dvc", "repro", cwd=folder)
    (base / "repro.log").write_text(done.stdout + done.stderr)
    run("git", "add", "-A", cwd=folder)
    run("git", "commit", "-qm", "ran", cwd=folder)
    yield folder


@pytest.fixture
def world(project: Path, tmp_path: Path) -> Path:
    """A copy of the finished project without git and DVC: stages can be run by hand in it."""
    folder = tmp_path / "world"
    shutil.copytree(project, folder, ignore=shutil.ignore_patterns(".git", ".dvc", "cache"))
    return folder
