"""whiten-mtd: several strong, slow retrieval models become one small fast one, offline.

The files of this folder are the stages of the pipeline, in the order that `dvc.yaml` says; the
folders are what they work with. Imports go one way: stages and tools use the blocks (datasets,
teachers, distill, retrieval), the blocks use nets, nets use images, and all may use core.

    from whiten_mtd import load_student
    student = load_student("models/student")   # a torch module, RGB in [0, 1]

What people import is in `_interface.py`, and loaded when it is first used.
"""

import sys
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._interface import (
        Search as Search,
    )
    from ._interface import (
        UserError as UserError,
    )
    from ._interface import (
        apply_whitening as apply_whitening,
    )
    from ._interface import (
        average_precision as average_precision,
    )
    from ._interface import (
        fit_whitening as fit_whitening,
    )
    from ._interface import (
        fuse_similarities as fuse_similarities,
    )
    from ._interface import (
        load_index as load_index,
    )
    from ._interface import (
        load_student as load_student,
    )

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

    machine.spin_briefly()


# What stages/_interface.py offers; no name is that of a stage.
INTERFACE = (
    "load_student", "load_index", "fit_whitening", "apply_whitening", "fuse_similarities",
    "average_precision", "Search", "UserError",
)  # fmt: skip
__all__ = [*INTERFACE, "__version__"]


def __getattr__(name: str) -> Any:
    """A name of the interface, imported when it is first asked for."""
    if name not in INTERFACE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import _interface

    return getattr(_interface, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *INTERFACE})
