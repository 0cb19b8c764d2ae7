"""Every command of the README: known as it is written, and run as it is written."""

import json
import re
import shlex
import shutil
import sys
from importlib import import_module
from pathlib import Path

import pytest
import typer
from project import ROOT, run

from stages.__main__ import MODULES
from stages.core import params
from stages.tools import check_params

README = (ROOT / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"```bash\n(.*?)```", README, re.S)
LINES = [line.split(" #")[0].strip() for block in BLOCKS for line in block.splitlines()]
# What stands in running text between backticks counts too.
INLINE = [" ".join(x.split()) for x in re.findall(r"`((?:whiten-mtd|dvc|make) [^`]+)`", README)]
COMMANDS = sorted({c for c in (*LINES, *INLINE) if c})


def of(word: str) -> list[str]:
    return [c for c in COMMANDS if c.split()[0] == word]


@pytest.mark.parametrize("command", of("whiten-mtd"))
def test_the_command_and_its_options_exist(command: str) -> None:
    name, *arguments = shlex.split(command)[1:]
    if name == "--help":
        return
    assert name in MODULES
    app = typer.main.get_command(import_module(f"stages.{MODULES[name]}").app)
    if arguments or command not in INLINE:  # a mere name in a sentence needs no arguments
        app.make_context(name, arguments)


@pytest.mark.parametrize("command", [c for c in of("dvc") if " -S " in c])
def test_overrides_are_keys_of_params(command: str, tmp_path: Path) -> None:
    from dvc.utils.hydra import apply_overrides, get_hydra_sweeps

    words = shlex.split(command.split("&&")[0])
    overrides = [words[i + 1] for i, word in enumerate(words) if word == "-S"]
    for sweep in get_hydra_sweeps({"p.yaml": overrides}):
        shutil.copy(ROOT / "params.yaml", tmp_path / "p.yaml")
        apply_overrides(tmp_path / "p.yaml", sweep["p.yaml"])
        wrong = [
            what
            for good, what in check_params.forms(params.read(tmp_path / "p.yaml"))
            if good is False
        ]
        assert wrong == [], wrong


@pytest.mark.parametrize("command", of("make"))
def test_the_target_exists(command: str) -> None:
    targets = re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text("utf-8"), re.M)
    assert command.split()[1].strip("`.,;") in targets


def test_every_other_line_is_one_that_anybody_knows() -> None:
    known = {"whiten-mtd", "dvc", "make", "git", "source"}
    assert {c.split()[0] for c in COMMANDS} <= known


def test_files_of_the_table_are_written(project: Path) -> None:
    table = README.split("| file | holds |")[1].split("\n\n")[0]
    names = re.findall(r"^\| `([^`]+)`", table, re.M)
    assert len(names) >= 10
    for name in names:
        pattern = name.replace("<teacher>", "a").replace("<model>", "student")
        assert (project / pattern.replace("<set>", "demo")).exists(), name


@pytest.mark.long
def test_own_images_and_reports_as_written(world: Path) -> None:
    """The two chapters for people with a run of their own, in the order in which they stand."""
    run("git", "init", "-q", cwd=world)
    shutil.copytree(world / "data/prepared/images", world / "my/images")
    images = sorted((world / "my/images").rglob("*.jpg"))
    shutil.copy(images[0], world / "query.jpg")
    (world / "queries").mkdir()
    (world / "more").mkdir()
    for image in images[1:3]:
        shutil.copy(image, world / "queries")
        shutil.copy(image, world / "more")
    chapters = [x.split("\n## ")[0] for x in re.split(r"\n## (?=Your own|Look at)", README)[1:]]
    commands = [
        line.split(" #")[0].strip()
        for chapter in chapters
        for block in re.findall(r"```bash\n(.*?)```", chapter, re.S)
        for line in block.splitlines()
    ]
    left_out = ("preset", "serve", "dvc", "--exp")  # tried elsewhere: they need DVC or a port
    ran = []
    for command in (c for c in commands if not any(word in c for word in left_out)):
        words = shlex.split(command)
        assert words[0] == "whiten-mtd"
        if words[1] == "calibrate":  # a single group is set aside in the tiny world
            words += ["--images", "data/prepared/evaluation/demo.h5"]
        run(sys.executable, "-m", "stages", *words[1:], cwd=world)
        ran.append(words[1])
    assert ran[:2] == ["export", "index"] and {"plan", "report", "audit"} <= set(ran)
    assert (world / "found.html").is_file() and (world / "report.html").is_file()
    first = run(
        sys.executable, "-m", "stages", "search", "my-index", "query.jpg", "--json", cwd=world
    )
    best = json.loads(first.stdout)["answers"][0]["results"][0]
    assert Path(best["file"]).resolve() == images[0].resolve()
    assert best["score"] == pytest.approx(1, abs=1e-3)
    run(sys.executable, "-m", "stages", "index", "more/", "my-index", "--add", cwd=world)
