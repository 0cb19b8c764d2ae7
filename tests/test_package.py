"""Wheel and source package: whole, of one version, enough for a project outside any checkout."""

import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from project import ENVIRONMENT, ROOT, TINY, changed, checkout, run
from ruamel.yaml import YAML
from test_pipeline import executed

import stages
from stages.core import console

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
BUILD = "from setuptools import build_meta as b; b.build_sdist('dist'); b.build_wheel('dist')"
# What `pip install whiten-mtd` does without: all that an extra brings.
WITHOUT = """
import sys
BLOCKED = set({blocked!r})
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in BLOCKED:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Finder())
import importlib.util
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *a: None if name in BLOCKED else found(name, *a)
from stages.__main__ import main
main()
"""


def names(requirements: list[str]) -> set[str]:
    """Packages of a list of requirements; of our own extras theirs."""
    found = set()
    for line in requirements:
        if own := re.fullmatch(r"whiten-mtd\[(\w+)\]", line):
            found |= names(EXTRAS[own[1]])
        else:
            found.add(re.split(r"[^\w.-]", line)[0].lower().replace("_", "-"))
    return found


def test_the_version_has_one_place() -> None:
    assert "version" not in PROJECT and PROJECT["dynamic"] == ["version"]
    said = run(sys.executable, "-m", "stages", "--version", cwd=ROOT).stdout
    assert said == f"whiten-mtd {stages.__version__}\n"


@pytest.mark.parametrize("module", sorted(console.EXTRAS))
def test_the_extra_that_a_message_names_brings_the_module(module: str) -> None:
    of = {d.lower().replace("_", "-") for d in packages_distributions()[module]}
    assert of & (names(EXTRAS[console.EXTRAS[module]]) | {"huggingface-hub"})  # timm brings that
    assert not of & names(PROJECT["dependencies"])


def bare(*arguments: str, cwd: Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    """A command in an install without extras."""
    code = WITHOUT.format(blocked=sorted(console.EXTRAS))
    path = str(cwd if (cwd / "stages").exists() else ROOT)
    return run(sys.executable, "-c", code, *arguments, cwd=cwd, check=check, PYTHONPATH=path)


@pytest.mark.parametrize(
    ("command", "extra"),
    [("index", "search"), ("search", "search"), ("calibrate", "search"), ("serve", "serve")],
)
def test_a_command_without_its_extra_says_what_to_install(
    command: str, extra: str, tmp_path: Path
) -> None:
    done = bare(command, "x", cwd=tmp_path, check=False)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 2 and f"pip install 'whiten-mtd[{extra}]'" in line


def test_the_bare_package_makes_a_project(tmp_path: Path) -> None:
    done = bare("init", "p", cwd=tmp_path)
    assert (tmp_path / "p/code.json").is_file() and done.returncode == 0
    assert "nothing to do" in bare("upgrade", cwd=tmp_path / "p").stderr


@pytest.mark.long
def test_the_bare_package_does_the_arithmetic(world: Path) -> None:
    one = ("data/prepared/train.h5", "data/features/a.h5", "models/whitening/a.h5")
    bare("whiten", "a", *one, "data/whitened/a.h5", cwd=world)
    bare("fuse", one[0], "data/whitened", "data/targets", "models/whitening/fused.h5", cwd=world)
    described = "data/described/student/demo.h5"
    done = bare("score", described, described, "data/prepared/evaluation/demo.json", cwd=world)
    assert "medium" in done.stdout
    assert "student" in bare("results", cwd=world).stdout
    refused = bare("train", *one[:1], "data/targets", "m", "u", cwd=world, check=False)
    assert refused.returncode == 2 and "whiten-mtd[train]" in refused.stderr


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a wheel and a source package, built from what git tracks."""
    source = checkout(tmp_path_factory.mktemp("build") / "source")
    run(sys.executable, "-c", BUILD, cwd=source)
    return source / "dist"


@pytest.mark.long
def test_packages_have_all_that_is_needed(packages: Path) -> None:
    (wheel,), (source,) = packages.glob("*.whl"), packages.glob("*.tar.gz")
    assert f"-{stages.__version__}-" in wheel.name
    inside = set(zipfile.ZipFile(wheel).namelist())
    tracked = run("git", "ls-files", "stages", cwd=packages.parent).stdout.splitlines()
    assert {f"whiten_mtd/{f.removeprefix('stages/')}" for f in tracked} <= inside
    assert not [f for f in inside if f.startswith(("stages", "tests"))]
    with tarfile.open(source) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    for file in ("dvc.yaml", "params.yaml", "docs/index.md", "deploy/Dockerfile", "Makefile"):
        assert file in held, file
    assert set(tracked) <= held


@pytest.mark.long
def test_an_install_outside_any_checkout_runs_a_project(
    packages: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "cache"))
    (wheel,) = packages.glob("*.whl")
    venv = tmp_path / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", str(venv), cwd=tmp_path)
    (site,) = venv.glob("lib/python*/site-packages")
    # Its dependencies are those of this Python, by a path alone: no network, no editable install.
    (site / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    pip = (sys.executable, "-m", "pip", "--python", str(venv / "bin/python"))
    run(*pip, "install", "--quiet", "--no-deps", "--no-index", str(wheel), cwd=tmp_path)

    def command(*words: str, cwd: Path) -> str:
        env = {
            **os.environ,
            **ENVIRONMENT,
            "PATH": f"{venv / 'bin'}{os.pathsep}{os.environ['PATH']}",
        }
        env.pop("PYTHONPATH", None)
        done = subprocess.run(words, cwd=cwd, env=env, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
        return done.stdout

    where = command("python", "-c", "import whiten_mtd; print(whiten_mtd.__file__)", cwd=tmp_path)
    assert where.startswith(str(venv))
    command("whiten-mtd", "init", "mine", "--preset", "demo", cwd=tmp_path)
    mine = tmp_path / "mine"
    yaml = YAML(typ="safe")
    yaml.default_flow_style = False
    values = changed(yaml.load((mine / "params.yaml").read_text("utf-8")), TINY)
    with (mine / "params.yaml").open("w") as f:
        yaml.dump(values, f)
    command("git", "commit", "-qam", "tiny", cwd=mine)
    assert len(executed(command("python", "-m", "dvc", "repro", cwd=mine))) == 12
    assert "student" in command("whiten-mtd", "results", cwd=mine)
    assert command("whiten-mtd", "upgrade", cwd=mine) == ""
    assert executed(command("python", "-m", "dvc", "repro", cwd=mine)) == []
