"""The files of a project of one's own, which `init` writes and `upgrade` renews."""

from pathlib import Path
from typing import Any

from ... import __version__
from ...core import files, params, stage_code
from ...core.errors import UserError

PIPELINE, PARAMS = Path("dvc.yaml"), Path("params.yaml")
HEADING = """\
# Written by `whiten-mtd init`, renewed by `whiten-mtd upgrade`: your settings stand in params.yaml.
# code.json says what code the stages run, so that an upgrade runs again only what it concerns.
"""
FIXED = {  # what never differs from project to project
    ".gitignore": """\
# What DVC caches, and what a machine keeps for itself.
/data/*
/models/*
/.scratch/
/downloads/
/dvc_plots/
/.venv/
__pycache__/
""",
    ".dvcignore": """\
__pycache__/
*.pyc
*.tmp
/.scratch/
/downloads/
/.venv/
""",
    ".dvc/.gitignore": "/config.local\n/tmp\n/cache\n",
    ".dvc/config": """\
[core]
    analytics = false
    check_update = false
[cache]
    type = "reflink,hardlink,symlink,copy"
""",
}
README = """\
# {name}

Several retrieval models become one small fast one: a whiten-mtd project, of the preset `{preset}`.

    whiten-mtd plan               # disk, memory and hours, before anything runs
    dvc repro                     # runs what is not up to date; then git add dvc.lock, git commit
    whiten-mtd results            # the scores; `whiten-mtd report report.html`: all on one page
    dvc exp run --temp -S train.epochs=12       # an experiment, in a copy
    git checkout params.yaml      # your settings, as you committed them last
    whiten-mtd upgrade            # after an upgrade of the package: which stages run again, and why
"""


def pipeline() -> str:
    """dvc.yaml of a project: the checkout's, with code.json in place of the files of the code."""
    lines = [HEADING.rstrip()]
    stage, tracked = "", list[str]()
    for line in stage_code.PIPELINE.read_text("utf-8").splitlines():
        if line.startswith("#"):  # the heading of the checkout's
            continue
        if named := stage_code.STAGE.match(line):
            stage, tracked = named[1], []
        if stage_code.DEP.match(line):
            continue
        if tracked and not line.lstrip().startswith("- "):  # params end here
            lines += tracked
            tracked = []
        lines.append(line.replace("python -m stages.", f"python -m {package()}."))
        if line.strip() == "params:":
            tracked = _tracked(stage, line[: line.index("params")])
    return "\n".join(lines) + "\n"


def _tracked(stage: str, indent: str) -> list[str]:
    """The lines, below `params:`, that name the keys of code.json."""
    of_kinds = stage_code.KIND in stage_code.dependencies()[stage]
    keys = stage_code.keys(stage, "${item.kind}" if of_kinds else "")
    return [f"{indent}- {stage_code.CODE}:", *(f"{indent}  - {key}" for key in keys)]


def package() -> str:
    """The name under which people import the package; a checkout's folder is not it."""
    return "whiten_mtd"


def code() -> dict[str, Any]:
    """code.json of a new project."""
    return {"version": __version__, **stage_code.code(), "pipeline": files.digest_of(pipeline())}


def read() -> dict[str, Any]:
    """code.json of the project in this folder. Raises UserError where it is none."""
    if not stage_code.CODE.is_file():
        raise UserError(
            f"{stage_code.CODE}: no such file; a project that `whiten-mtd init` made has one "
            "(in a checkout dvc.yaml names the code itself, and there is nothing to do)"
        )
    found = files.read_json(stage_code.CODE)
    if not isinstance(found, dict) or not isinstance(found.get("files"), dict):
        raise UserError(f"{stage_code.CODE}: not ours; `git checkout {stage_code.CODE}`")
    return found


def write_code(folder: Path, now: dict[str, Any]) -> None:
    """dvc.yaml and code.json of a project, as `now` says."""
    files.write_text(folder / PIPELINE, pipeline())
    files.write_text(folder / stage_code.CODE, files.to_json(now))


def kinds() -> dict[str, str]:
    """The kind of each teacher of the project in this folder."""
    return params.read(PARAMS).kinds
