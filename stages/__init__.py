"""whiten-mtd: several strong, slow retrieval models become one small fast one, offline.

The files of this folder are the stages of the pipeline, in the order that `dvc.yaml` says; the
folders are what they work with. Imports go one way: stages and tools use the blocks (datasets,
teachers, distill, retrieval), the blocks use nets, nets use images, and all may use core.

    import whiten_mtd
    student = whiten_mtd.load_student("models/student")   # a torch module, RGB in [0, 1]
"""

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .distill.student import Student

__version__ = "0.1.0"
OLDEST = (3, 11)
# What every command imports before it can say anything itself; not `faiss` and the like.
NEEDED = ("typer", "pydantic", "ruamel.yaml", "numpy", "h5py", "filelock", "rich", "PIL")


def wrong_python() -> str:
    """Why this Python cannot run a command, with the way out; empty where it can."""
    line = f"this is {sys.executable}"
    mend = "activate the environment (source .venv/bin/activate), or put .venv/bin on PATH"
    if sys.version_info < OLDEST:
        found, least = (".".join(map(str, v[:2])) for v in (sys.version_info, OLDEST))
        return f"{line}, Python {found}; {least} or newer is needed: {mend}"
    lacking = [name for name in NEEDED if find_spec(name.split(".")[0]) is None]
    return f"{line}, which lacks {', '.join(lacking)}: {mend}" if lacking else ""


# Of `python -m stages.X`; DVC runs the stages by the first `python` on PATH, whichever that is.
if sys.argv[:1] == ["-m"]:
    REASON = wrong_python()  # in words that old versions of Python read too
    if REASON:
        print(f"error: {REASON}", file=sys.stderr)
        sys.exit(2)
    from .core import machine

    machine.spin_briefly(machine.others_running())


def load_student(folder: "str | Path") -> "Student":
    """The student of a folder that `train` wrote: (B, 3, H, W) in [0, 1] to unit (B, dim)."""
    from .distill import student

    return student.load(Path(folder))
