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

import typer
from pydantic import BaseModel

from ...core import console, files, params, plugins, runtime
from ...core import machine as hardware
from ...core.errors import UserError
from ..check_params import forms
from . import copies, downloads
from .downloads import Finding

app = console.app()
PIPELINE = ("torch", "timm", "dvc", "h5py", "numpy", "safetensors", "matplotlib")


@app.command()
def main(
    params_file: Path = params.OPTION,
    json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Check the machine, the parameters, the teachers' weights and git; exit 2 where one fails."""
    checks = [*machine(), *packages(), *repository(), *copies.findings(), *parameters(params_file)]
    if json:
        console.result(files.to_json([{"good": g, "what": w} for g, w in checks]).rstrip())
    else:
        marks = {True: "ok  ", False: "FAIL", None: "    "}
        for good, what in checks:
            console.result(f"{marks[good]} {console.clean(what)}")
    if bad := sum(good is False for good, _ in checks):
        raise UserError(f"{bad} of {len(checks)} checks failed; each line above says what to do")


def machine() -> Iterator[Finding]:
    """Python, cores, memory, disk, device."""
    yield sys.version_info >= (3, 11), f"Python {sys.version.split()[0]} (3.11 or newer)"
    free = shutil.disk_usage(".").free / 2**30
    yield free > 2, f"{hardware.cores()} cores, {free:.0f} GiB of disk free"
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    yield memory > 3, f"{memory:.0f} GiB of memory (a small run takes 2)"
    workers = hardware.workers()
    yield None, f"{workers} loading processes (WHITEN_MTD_WORKERS)"
    shared = Path("/dev/shm")
    if workers and shared.is_dir() and (left := shutil.disk_usage(shared).free / 2**20) < 512:
        yield None, f"{left:.0f} MiB of shared memory: should loading end, WHITEN_MTD_WORKERS=0"
    if importlib.util.find_spec("torch"):
        yield None, f"device {runtime.device()} (WHITEN_MTD_DEVICE)"


def packages() -> Iterator[Finding]:
    """What the pipeline imports."""
    for name in PIPELINE:
        installed = importlib.util.find_spec(name) is not None
        advice = "" if installed else ": pip install 'whiten-mtd[train]'"
        yield installed, f"{name} {version(name) if installed else 'is missing'}{advice}"


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
        given = params.read(path)
        sections = list(forms(given))
    except UserError as error:
        yield from ((False, line) for line in error.lines)
        return
    except ModuleNotFoundError as error:  # the line on the package says what to do
        yield False, f"{path}: cannot be checked without {error.name}"
        return
    yield from sections
    if any(good is False for good, _ in sections):
        return
    for name in given.kinds:
        yield from teacher(name, given.teacher(name))
    yield from student(given)
    yield from downloads.datasets(given)


def teacher(name: str, settings: params.Teacher) -> Iterator[Finding]:
    """Whether a teacher's weights are in place, without loading them."""
    module = plugins.load(f"{params.PACKAGE}.teachers", settings.kind)
    if (descriptors := getattr(settings, "descriptors", None)) is not None:
        yield from downloads.descriptor_files(name, descriptors)
        return
    source, model = getattr(settings, "weights", ""), getattr(settings, "model", "")
    if source == "random":
        yield None, f"teacher {name}: random weights"
    elif source != "pretrained":
        digest, published = getattr(settings, "sha256", None), getattr(module, "PUBLISHED", "")
        is_code = Path(source).suffix in getattr(module, "CODE", ())
        yield downloads.weights_file(name, Path(source), digest, published, is_code)
    else:
        advice = f"set teachers.{name}.weights to a file"
        yield downloads.published_weights(f"teacher {name}", model, advice)


class First(BaseModel):
    """What `doctor` reads of section `train` of params.yaml."""

    weights: str
    without_weights: str


def student(given: params.Parameters) -> Iterator[Finding]:
    """Whether the first weights of the student are in place, without loading them."""
    from ...nets import weights

    p, name = given.part("train", First), f"student {given.student}"
    if p.weights == "pretrained":
        advice = "set train.weights to a file"
        model = weights.timm_name(given.student)
        good, line = downloads.published_weights(name, model, advice)
        if not good and p.without_weights == "random":
            good, line = None, f"{line}; it would start from random weights"
        yield good, line
    elif p.weights == "random":
        yield None, f"{name}: random weights"
    elif not Path(p.weights).is_file():
        yield False, f"{name}: {p.weights} is missing (train.weights)"


if __name__ == "__main__":
    console.main(app)
