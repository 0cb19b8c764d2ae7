"""After an upgrade of the package: renew code.json and dvc.yaml, and say what runs again and why.

    pip install -U 'whiten-mtd[train]'
    whiten-mtd upgrade

In the folder of a project that `whiten-mtd init` made. Nothing runs before the next `dvc repro`.
"""

from typing import Any

import typer

from ... import __version__
from ...core import console, files, params, stage_code
from ...core.errors import UserError
from ..check_params import forms
from . import project

app = console.app()


@app.command()
def main(
    dry: bool = typer.Option(False, "--dry", help="Only say what would run again."),
    force: bool = typer.Option(False, "--force", help="Replace a dvc.yaml that you changed."),
) -> None:
    """Renew code.json and dvc.yaml of the project in this folder."""
    before, now = project.read(), project.code()
    own = project.PIPELINE.read_text("utf-8") if project.PIPELINE.is_file() else ""
    if before == now:
        console.say(f"nothing to do: {stage_code.CODE} is that of whiten-mtd {__version__}")
        return
    if renewed := before.get("pipeline") != now["pipeline"]:
        changed = own and files.digest_of(own) not in (before.get("pipeline"), now["pipeline"])
        if changed and not force:
            raise UserError(
                f"{project.PIPELINE}: has changes of your own, and this version has another one; "
                "commit yours, add --force, and bring back with git what you need"
            )
    for name, why in reasons(before, now, project.kinds(), own if renewed else ""):
        console.result(f"{name}: {why}")
    if not dry:
        renew(now, renewed)
        for line in wrong_params():
            console.say(line)


def renew(now: dict[str, Any], renewed: bool) -> None:
    """Write what changed; a dvc.yaml that fits stays as it is, own changes too."""
    files.write_text(stage_code.CODE, files.to_json(now))
    if renewed:
        files.write_text(project.PIPELINE, project.pipeline())
    written = f"{stage_code.CODE}{f' and {project.PIPELINE}' if renewed else ''}"
    console.say(
        f"{written}: as of whiten-mtd {__version__}. What is listed runs again with the next `dvc "
        "repro`, and after it what uses a result that changed; then git commit -am "
        f"'whiten-mtd {__version__}'"
    )


def reasons(
    before: dict[str, Any], now: dict[str, Any], kinds: dict[str, str], own: str
) -> list[tuple[str, str]]:
    """(stages, why they run again), in pipeline order; `own`: dvc.yaml where it is replaced."""
    found: list[tuple[str, str]] = []
    old, new = entries(own), entries(project.pipeline())
    for stage, deps in stage_code.dependencies().items():
        other = ["dvc.yaml"] if own and old.get(stage) != new.get(stage) else []
        of_kinds = stage_code.KIND in deps
        for kind in sorted(set(kinds.values())) if of_kinds else [""]:
            why = [*differing(before, now, stage, kind), *other]
            names = [f"{stage}@{t}" for t, k in kinds.items() if k == kind] if kind else [stage]
            if why:
                found.append((", ".join(names), stage_code.some(why)))
    return found


def differing(before: dict[str, Any], now: dict[str, Any], stage: str, kind: str) -> list[str]:
    """The files for which a stage runs again; its key where it only lost files, or is new."""
    changed = [
        key for key in stage_code.keys(stage, kind)
        if stage_code.at(before, key) != stage_code.at(now, key)
    ]  # fmt: skip
    if not changed:
        return []
    files_now = set(stage_code.stage_files(stage, kind))
    for folder in stage_code.folders(stage):
        files_now |= {f for f in now["files"] if f.startswith(f"{folder}/")}
    found = [f for f in sorted(files_now) if before["files"].get(f) != now["files"][f]]
    return found or changed


def entries(text: str) -> dict[str, Any]:
    """Stages of a dvc.yaml without what they say to people; {} of none, or of one that is odd."""
    try:
        stages = params.parse(text.encode(), "dvc.yaml")["stages"]
    except (UserError, KeyError):
        return {}
    return {
        name: {k: v for k, v in {**entry, **entry.get("do", {})}.items() if k not in ("desc", "do")}
        for name, entry in stages.items()
    }


def wrong_params() -> list[str]:
    """What this version does not understand of params.yaml."""
    try:
        return [line for good, line in forms(params.read(project.PARAMS)) if good is False]
    except ModuleNotFoundError:  # of an install without torch; `doctor` says it
        return []


if __name__ == "__main__":
    console.main(app)
