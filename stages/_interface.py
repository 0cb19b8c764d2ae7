"""What people import: `from whiten_mtd import load_student, load_index, fit_whitening, ...`

    >>> import numpy as np
    >>> from whiten_mtd import apply_whitening, average_precision, fit_whitening, fuse_similarities

Every function imports what it needs when it is called; only `load_student` needs torch, and only
`load_index` faiss. What a person can mend is raised as `whiten_mtd.UserError`, one line each.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .core.errors import UserError

if TYPE_CHECKING:
    from .distill.student import Student
    from .distill.whitening import Whitening
    from .retrieval.onnx_student import Exported
    from .tools.search.generations import Index

HUB = "hf://"
STUDENT_FILES = ("config.json", "model.safetensors")


def load_student(folder: "str | Path") -> "Student":
    """The student of a folder that `train` wrote: (B, 3, H, W) in [0, 1] to unit rows (B, dim).

    `folder` may be on the Hugging Face hub, `hf://OWNER/NAME` or `hf://OWNER/NAME@REVISION`; its
    local cache is used first where there is no network. Raises UserError where it is not whole.
    """
    from .distill import student

    text = str(folder)
    return student.load(_of_hub(text) if text.startswith(HUB) else Path(folder))


def load_index(folder: "str | Path", model: "str | Path | None" = None) -> "Search":
    """The index of a folder that `whiten-mtd index` wrote, ready to search; no torch.

    `model`: the exported student that describes images, where the index contains none. Raises
    UserError where the index is damaged, or the student is another one than the index's.
    """
    from .tools.search import answers, generations

    index = generations.read(Path(folder))
    given = Path(model) if model is not None else None
    has_one = given is not None or index.model() is not None
    return Search(index, answers.student_of(index, given) if has_one else None)


@dataclass(frozen=True)
class Search:
    """An index and the student that describes its queries (None: descriptors only)."""

    index: "Index"
    student: "Exported | None"

    def __len__(self) -> int:
        """How many images there are."""
        return len(self.index)

    def describe(self, files: "Sequence[str | Path]") -> np.ndarray:
        """(n, dim) float32 unit rows of image files. Raises UserError for an unreadable one."""
        if self.student is None:
            raise UserError(f"{self.index.folder}: contains no student; load_index(..., model=)")
        rows, _, errors = self.student.images([Path(f) for f in files])
        if errors:
            raise UserError(errors[0])
        return rows

    def search(
        self, queries: "np.ndarray | Sequence[str | Path]", top: int = 10
    ) -> list[list[dict[str, Any]]]:
        """For each query its first `top` images, best first: `path`, `file`, `score` (a cosine),
        `match` (None where the index is not calibrated).

        `queries`: image files, or descriptors (n, dim) of the index's own student.
        """
        from .distill import whitening
        from .tools.search import answers

        rows = queries if isinstance(queries, np.ndarray) else self.describe(list(queries))
        unit = whitening.l2n(_rows(rows).astype(np.float32))
        return [answer["results"] for answer in answers.answers(self.index, unit, top)]


def fit_whitening(
    descriptors: np.ndarray,
    group: np.ndarray | None = None,
    *,
    dim: int | None = None,
    exponent: float = 0.5,
    shrinkage: float = 0.1,
    floor: float = 1e-5,
) -> "Whitening":
    """Whitening of descriptors (n, d) to `dim` dimensions (d where None), fitted in float64.

    Without `group` by PCA: the largest directions of the covariance, divided by its eigenvalues to
    the power `exponent` (0.5 whitens, 0 only rotates). With `group` (n,), whole numbers of which -1
    means none, it is learned: the covariance within groups is made white, weighed by `shrinkage` (0
    to 1) with the identity. Eigenvalues are raised to `floor` of the largest. Raises UserError.

    >>> x = np.random.default_rng(0).standard_normal((500, 4)) * [8, 4, 2, 1] + 5
    >>> whitening = fit_whitening(x, dim=2)
    >>> whitening.projection.shape
    (2, 4)
    >>> np.round((x - whitening.mean) @ whitening.projection.T, 9).std(0).round(6)
    array([1., 1.])
    """
    from .distill import learned_whitening, whitening

    x = _rows(descriptors)
    wide = x.shape[1] if dim is None else dim
    if not 1 <= wide <= x.shape[1]:
        raise UserError(f"dim is {wide}; give 1 to {x.shape[1]}, the descriptors' own")
    total = whitening.moments([x], x.shape[1])
    if group is None:
        return whitening.fit_pca(
            total.mean, total.covariance, dim=wide, exponent=exponent, floor=floor
        )
    labels = np.asarray(group)
    if labels.shape != (len(x),) or labels.dtype.kind not in "iu":
        raise UserError(f"group must be {len(x)} whole numbers, one a row; -1 means none")
    inside = np.flatnonzero(labels >= 0)
    inside = inside[np.argsort(labels[inside], kind="stable")]
    if not len(inside) or np.unique(labels[inside], return_counts=True)[1].max() < 2:
        raise UserError("no group has two rows; leave `group` out for PCA-whitening")
    within = learned_whitening.within_all(x[inside], labels[inside], inside)
    return whitening.fit_learned(
        total.mean, total.covariance, within, dim=wide, shrinkage=shrinkage, floor=floor
    )


def apply_whitening(whitening: "Whitening", descriptors: np.ndarray) -> np.ndarray:
    """Descriptors (n, d) whitened and of unit length, (n, dim) float32.

    >>> x = np.random.default_rng(0).standard_normal((500, 4)) * [8, 4, 2, 1] + 5
    >>> y = apply_whitening(fit_whitening(x, dim=2), x)
    >>> y.shape, y.dtype.name
    ((500, 2), 'float32')
    >>> bool(np.allclose(np.linalg.norm(y, axis=1), 1))
    True
    """
    from .distill import whitening as whitenings

    x = _rows(descriptors)
    if x.shape[1] != len(whitening.mean):
        raise UserError(
            f"descriptors have {x.shape[1]} dimensions, the whitening is of {len(whitening.mean)}"
        )
    return whitenings.apply(x, whitening)


def fuse_similarities(
    similarities: np.ndarray, strategy: str = "maxmin", seed: int = 0
) -> np.ndarray:
    """One target (N, N) of the similarities (T, N, N) of T teachers, as `fuse.strategy` says.

    Entry i, i is that of a pair that shows the same, every other one of a pair that does not.
    `seed`: of the strategies that draw. Raises UserError.

    >>> first, second = np.array([[0.9, 0.2], [0.1, 0.8]]), np.array([[0.7, 0.0], [0.3, 0.9]])
    >>> fuse_similarities(np.stack([first, second]))  # the surest of the right, the least of others
    array([[0.9, 0. ],
           [0.1, 0.9]])
    >>> fuse_similarities(np.stack([first, second]), "mean")
    array([[0.8 , 0.1 ],
           [0.2 , 0.85]])
    """
    from .core.plugins import nearest
    from .distill import fusion

    if strategy not in fusion.STRATEGIES:
        known = ", ".join(fusion.STRATEGIES)
        raise UserError(
            f"no strategy {strategy!r}{nearest(strategy, fusion.STRATEGIES)}: choose from {known}"
        )
    sims = np.asarray(similarities)
    if sims.ndim != 3 or sims.shape[1] != sims.shape[2] or not len(sims):
        raise UserError(f"similarities must be (teachers, N, N), not {sims.shape}")
    return fusion.STRATEGIES[strategy](sims, np.random.default_rng(seed))


def average_precision(
    ranks: "np.ndarray | Sequence[int]", junk: "np.ndarray | Sequence[int]" = ()
) -> float:
    """Average precision, 0 to 1, of one query by the rule of ROxford and RParis (trapezoids).

    `ranks`: 0-based positions in the ranking of all that is right; `junk`: of what is taken out
    before it is scored. Raises UserError where nothing is right, or a position occurs twice.

    >>> average_precision([0, 1])
    1.0
    >>> round(average_precision([0, 2]), 4)
    0.7917
    >>> average_precision([1, 2], junk=[0])
    1.0
    """
    from .retrieval import metrics

    right, left_out = np.asarray(ranks, np.int64), np.asarray(junk, np.int64)
    both = np.concatenate([right, left_out])
    if not len(right):
        raise UserError("no rank: a query without anything right has no average precision")
    if both.min() < 0 or len(np.unique(both)) < len(both):
        raise UserError("ranks are positions from 0 on, each given once")
    return metrics.average_precision(metrics.without_junk(right, left_out))


def _rows(descriptors: Any) -> np.ndarray:
    """Descriptors as an array (n, d) of finite numbers. Raises UserError."""
    x = np.asarray(descriptors)
    if x.ndim == 1:
        x = x[None]
    if x.ndim != 2 or not x.size or x.dtype.kind not in "fiu":
        raise UserError(f"descriptors must be numbers (n, d), not {x.dtype} {x.shape}")
    if not np.isfinite(x).all():
        raise UserError("descriptors hold NaN or infinity; leave those rows out")
    return x


def _of_hub(address: str) -> Path:
    """The folder of the hub's local cache that holds a student; fetched where it lacks."""
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import HFValidationError

    name, _, revision = address.removeprefix(HUB).partition("@")
    if len(name.split("/")) != 2 or not all(name.split("/")):
        raise UserError(
            f"{address}: not an address; write hf://OWNER/NAME or hf://OWNER/NAME@REVISION"
        )
    try:
        folder = snapshot_download(
            name, revision=revision or None, allow_patterns=list(STUDENT_FILES)
        )
    except HFValidationError as error:
        raise UserError(f"{address}: not an address: {_line(error)}") from None
    except Exception as error:  # the client's and its transport's many kinds
        advice = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else _line(error)
        raise UserError(f"{address}: neither in the hub's cache nor to be had ({advice})") from None
    return Path(folder)


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:150] or type(error).__name__
