"""Make a project of one's own: settings, pipeline, git and DVC, in a folder anywhere.

    whiten-mtd init products --images ~/photos/products
    whiten-mtd init landmarks --preset gem_apgem_solar

The folder holds what is yours (params.yaml, data, models); the code stays in the installed package.
"""

import importlib.util
import json
import os
import shutil
import subprocess
from pathlib import Path

import typer

from ...core import console, files, params
from ...core.errors import UserError
from ...core.plugins import nearest
from . import preset as presets
from . import project

app = console.app()
OWN = ("params.yaml", "dvc.yaml", "code.json", "README.md", *project.FIXED)
IDENTITY = (("name", "GIT_AUTHOR_NAME"), ("email", "GIT_AUTHOR_EMAIL"))
WHO = "git config --global user.name NAME && git config --global user.email ADDRESS"


@app.command()
def main(
    folder: Path,
    preset: str = typer.Option("folder", help="What to start from, as for `whiten-mtd preset`."),
    images: Path = typer.Option(None, help="The folder of your images."),
) -> None:
    """Make a project in FOLDER, which is new or empty."""
    settings = text(preset, images)
    refuse(folder)
    for name, content in project.FIXED.items():
        files.write_text(folder / name, content)
    files.write_text(folder / "params.yaml", settings)
    title = folder.resolve().name
    files.write_text(folder / "README.md", project.README.format(name=title, preset=preset))
    project.write_code(folder, project.code())
    committed = commit(folder)
    console.say(f"{folder}: a project of preset {preset}")
    for line in advice(folder, preset, images, committed):
        console.say(line)


def text(preset: str, images: Path | None) -> str:
    """params.yaml of a preset, the folder of its images set. Raises UserError."""
    known = presets.names()
    if preset not in known:
        raise UserError(
            f"--preset {preset}: no such preset{nearest(preset, known)}: choose from "
            f"{', '.join(known)}"
        )
    whole = presets.text(preset)
    if images is None:
        return whole
    key = root_key(whole)
    if key is None:
        raise UserError(f"--images: preset {preset} makes its own images; leave it out")
    if not images.is_dir():
        raise UserError(f"--images {images}: no such folder")
    root = json.dumps(str(images.expanduser().resolve()), ensure_ascii=False)
    return presets.replaced(whole, key, [f"{key}: {root}"], presets.Span(0, 0, 1))


def root_key(whole: str) -> str | None:
    """The key of params.yaml that says where the images are to train on; None where none does."""
    given = params.of(params.parse(whole.encode(), "preset"), project.PARAMS)
    settings = given.values["datasets"].get(given.training_set) or {}
    return f"datasets.{given.training_set}.root" if "root" in settings else None


def refuse(folder: Path) -> None:
    """Raise UserError where a project cannot be made in `folder`, before anything is written."""
    if shutil.which("git") is None:
        raise UserError("git is missing, and DVC works on a git repository; install git first")
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: is a file; a project is a folder")
    if there := [name for name in OWN if (folder / name).exists()]:
        raise UserError(
            f"{folder}: {there[0]} is there already; give a new folder (`whiten-mtd upgrade` "
            "renews the code of a project)"
        )


def commit(folder: Path) -> bool:
    """Make a repository of the folder where it is none, and the first commit where git knows who.

    Whether it was made. Raises UserError where git refuses.
    """
    if not (folder / ".git").exists():
        git(folder, "init", "--quiet")
    if not all(known(folder, key, variable) for key, variable in IDENTITY):
        return False
    git(folder, "add", "--", *OWN)
    git(folder, "commit", "--quiet", "-m", "A whiten-mtd project", "--", *OWN)
    return True


def known(folder: Path, key: str, variable: str) -> bool:
    """Whether git was told a part of who commits; what it guesses is not enough for DVC."""
    if os.environ.get(variable):
        return True
    asked = subprocess.run(["git", "config", f"user.{key}"], cwd=folder, capture_output=True)
    return asked.returncode == 0 and bool(asked.stdout.strip())


def git(folder: Path, *arguments: str) -> None:
    """A git command in the folder. Raises UserError with what git says."""
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines() or ["no reason given"]
        raise UserError(
            f"{folder}: its files are written, but `git {arguments[0]}` says: {said[-1]}; mend "
            "that, then git add -A and git commit there"
        )


def advice(folder: Path, preset: str, images: Path | None, committed: bool) -> list[str]:
    """What is left to do, a line each."""
    lines = []
    if not committed:
        lines.append(
            "git does not know who you are, so nothing is committed yet, and `dvc exp run` needs "
            f"a commit: {WHO}, then in {folder}: git add -A && git commit -m 'my project'"
        )
    if importlib.util.find_spec(project.package()) is None:
        lines.append(
            f"no {project.package()} in this Python: install the package, or no stage runs"
        )
    if importlib.util.find_spec("dvc") is None:
        lines.append("no dvc in this Python: pip install 'whiten-mtd[train]'")
    key = root_key(presets.text(preset))
    if images is None and key is not None:
        lines.append(
            f"set {key} in {folder / 'params.yaml'} first, then: git commit -am 'my images'"
        )
    return [*lines, f"next: cd {folder}; whiten-mtd doctor; dvc repro"]


if __name__ == "__main__":
    console.main(app)
