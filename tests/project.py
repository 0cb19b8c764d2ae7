"""A checkout of the project made tiny, and commands run in it as a person would."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from stages.core import params

ROOT = Path(__file__).parent.parent
ENVIRONMENT = {
    "WHITEN_MTD_WORKERS": "0",
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",  # tests run side by side
    "DVC_NO_ANALYTICS": "1",
    "GIT_AUTHOR_NAME": "Test", "GIT_AUTHOR_EMAIL": "test@example.com",
    "GIT_COMMITTER_NAME": "Test", "GIT_COMMITTER_EMAIL": "test@example.com",
}  # fmt: skip
# timm's own test networks with random weights: what they say is noise, but every byte is real.
TEACHERS = {
    "a": {"kind": "any_timm", "model": "test_efficientnet", "image_px": 48, "weights": "random"},
    "b": {"kind": "any_timm", "model": "test_resnet", "image_px": 32, "weights": "random"},
}
TINY: dict[str, Any] = {
    "student": "test_efficientnet",
    "ensemble": ["a", "b"],
    "teachers": TEACHERS,
    "datasets.demo": {
        "seed": 0, "image_px": 64, "groups": 12, "images": 3, "evaluation_groups": 4,
        "evaluation_images": 4, "queries": 1, "distractors": 4, "twins": 0.3, "difficulty": 0.3,
    },
    "prepare.views": 2, "prepare.epochs": 3, "prepare.validation_share": 0.2,
    "extract.batch": 16, "whiten.dim": 16, "fuse.batch": 4, "fuse.epochs": 2, "fuse.dim": 16,
    "train.loss": "relation", "train.head": "random", "train.lr": 0.0005,
    "train.epochs": 3, "train.view_px": 32, "train.image_px": 40, "train.weights": "random", "train.validate_every": 2,
    "evaluate.sheet_queries": 2, "evaluate.sheet_results": 3,
}  # fmt: skip


def parameters(**changes: Any) -> params.Parameters:
    """The project's own params.yaml made tiny, with `changes` by dotted key."""
    values = params.parse((ROOT / "params.yaml").read_bytes(), "params.yaml")
    return params.of(changed(values, {**TINY, **changes}), Path("params.yaml"))


def changed(values: Any, changes: dict[str, Any]) -> Any:
    """`values` with `changes` by dotted key, in place."""
    for key, value in changes.items():
        *parents, last = key.split(".")
        section = values
        for parent in parents:
            section = section[parent]
        section[last] = value
    return values


def write_params(path: Path, **changes: Any) -> Path:
    """The project's own params.yaml made tiny, with `changes` by dotted key, as a file."""
    yaml = YAML(typ="safe")
    yaml.default_flow_style = False
    values = yaml.load((ROOT / "params.yaml").read_text("utf-8"))
    changed(values, {**TINY, **changes})
    with path.open("w") as f:
        yaml.dump(values, f)
    return path


def run(
    *command: str, cwd: Path, check: bool = True, **environment: str
) -> subprocess.CompletedProcess[str]:
    """A command of the project as a person would run it, in `cwd`."""
    env = {**os.environ, **ENVIRONMENT, "PYTHONPATH": "", **environment}
    env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}"
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, timeout=600)
    if check and done.returncode:
        raise AssertionError(f"{command} failed:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    return done


def stage(
    *arguments: str, cwd: Path, check: bool = True, **env: str
) -> subprocess.CompletedProcess[str]:
    """`python -m stages.X ...` in a project folder."""
    return run(
        sys.executable, "-m", f"stages.{arguments[0]}", *arguments[1:], cwd=cwd, check=check, **env
    )


def checkout(folder: Path) -> Path:
    """A copy of what git tracks (and would), as a repository of its own with one commit."""
    listed = run("git", "ls-files", "-co", "--exclude-standard", cwd=ROOT).stdout.splitlines()
    for name in listed:
        if (ROOT / name).is_file() and not name.startswith("tests/"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    (folder / "dvc.lock").unlink(missing_ok=True)  # of a run that its owner committed
    write_params(folder / "params.yaml")
    run("git", "init", "-q", "-b", "main", cwd=folder)
    run("git", "add", "-A", cwd=folder)
    run("git", "commit", "-qm", "start", cwd=folder)
    return folder


def installed(folder: Path, copied: bool = False) -> str:
    """A PYTHONPATH on which the package stands under its name, as an install puts it there.

    `copied`: a copy, for a test that changes the code.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if copied:
        skip = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / "stages", folder / "whiten_mtd", ignore=skip)
    else:
        (folder / "whiten_mtd").symlink_to(ROOT / "stages")
    return str(folder)


def project_of_its_own(folder: Path, path: str, preset: str = "demo", **changes: Any) -> Path:
    """What `whiten-mtd init` makes, with the settings of the tiny world, committed."""
    command = (sys.executable, "-m", "whiten_mtd", "init", str(folder), "--preset", preset)
    run(*command, cwd=folder.parent, PYTHONPATH=path)
    yaml = YAML(typ="safe")
    yaml.default_flow_style = False
    values = changed(yaml.load((folder / "params.yaml").read_text("utf-8")), changes or TINY)
    with (folder / "params.yaml").open("w") as f:
        yaml.dump(values, f)
    run("git", "commit", "-qam", "tiny", cwd=folder)
    return folder
