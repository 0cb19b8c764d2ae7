"""whiten-mtd: several strong, slow retrieval models become one small fast one, offline.

The files of this folder are the stages of the pipeline, in the order that `dvc.yaml` says; the
folders are what they work with. Imports go one way: stages and tools use the blocks (datasets,
teachers, distill, retrieval), the blocks use nets, nets use images, and all may use core.

    import whiten_mtd
    student = whiten_mtd.load_student("models/student")   # a torch module, RGB in [0, 1]
"""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .distill.student import Student

__version__ = "0.1.0"


def load_student(folder: str | Path) -> "Student":
    """The student of a folder that `train` wrote: (B, 3, H, W) in [0, 1] to unit (B, dim)."""
    from .distill import student

    return student.load(Path(folder))
