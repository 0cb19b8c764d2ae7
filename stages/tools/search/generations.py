"""A searchable index: a folder of numbered generations, and a file that names the current one.

    my-index/CURRENT              the number of the generation in use
    my-index/000001/              index.faiss, images.h5 (id, path, root), index.json
    my-index/models/DIGEST.onnx   the exported student, where one was given

A generation never changes once it is written. `index.json` holds the digests of the other files,
its own, and the identity of the student. Digests are checked before anything is read, because faiss
reads many damaged files without an error.
"""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from ...core import files, runtime, store
from ...core.errors import UserError

KEEP = 5  # generations, the current one among them
SEEN = ".seen.npy"  # contents of images by their times of change; a shortcut, no part of the index
NEEDED: dict[str, Any] = {  # of index.json, and its type
    "files": dict, "roots": list, "dim": int, "kind": str, "student": dict, "next_id": int,
    "model": (str, type(None)),
}  # fmt: skip
PARTS = ("index.faiss", "images.h5")
FIRST = ".first"  # in the folder of an index until its first generation is in use
UNFINISHED = re.compile(r"\.(\d{6}|CURRENT|[0-9a-f]+\.onnx)\.\d+\.tmp")  # while it is written
OLD_IMAGES, OLD_COUNT = "pictures.h5", "pictures"  # the names of images.h5 and `images` once


@dataclass(frozen=True)
class Index:
    """One generation: `ids` (n,) ascending int64, and by row the root, path and image id."""

    folder: Path
    generation: int
    about: dict[str, Any]
    index: Any
    ids: np.ndarray
    root: np.ndarray
    path: np.ndarray
    image_id: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    def file(self, row: int) -> Path:
        """The image file of a row, as it was when it was indexed."""
        return Path(self.about["roots"][self.root[row]]) / str(self.path[row])

    def files(self) -> list[str]:
        """The file of every image; an image that is added again is known by it."""
        return [str(self.file(row)) for row in range(len(self))]

    @property
    def student(self) -> dict[str, Any]:
        """The identity of the student; {} where the descriptor file did not say."""
        return self.about["student"]

    def model(self) -> Path | None:
        """The exported student that is kept in the index, if any."""
        digest = self.about["model"]
        return self.folder / "models" / f"{digest}.onnx" if digest else None

    def search(self, query: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """(q, dim) unit rows to (scores, rows), both (q, k), best first; row -1: none found."""
        query = np.ascontiguousarray(query, dtype=np.float32)
        if query.shape[1] != self.about["dim"]:
            raise UserError(
                f"{self.folder}: its descriptors have {self.about['dim']} dimensions, the query "
                f"has {query.shape[1]}: of another student"
            )
        scores, ids = self.index.search(query, min(k, len(self)))
        rows = np.where(ids < 0, -1, np.searchsorted(self.ids, ids))
        return scores, rows


def current(folder: Path) -> int:
    """The number of the generation in use. Raises UserError where there is no index."""
    file = folder / "CURRENT"
    try:
        text = file.read_text("utf-8", "replace").strip()
    except FileNotFoundError:
        if generations(folder):
            raise UserError(f"{file}: missing; {_mend(folder)}") from None
        what = "contains no index" if folder.is_dir() else "no such index"
        raise UserError(f"{folder}: {what}; `whiten-mtd index` makes one") from None
    except (NotADirectoryError, IsADirectoryError):
        raise UserError(f"{folder}: not a folder, and so not an index") from None
    if not (text.isascii() and text.isdecimal()):
        raise UserError(f"{file}: not the number of a generation: {text[:20]!r}; {_mend(folder)}")
    return int(text)


def generations(folder: Path) -> list[int]:
    """The numbers of all generations, ascending; none where there is no folder."""
    names = [f.name for f in folder.iterdir() if f.is_dir()] if folder.is_dir() else []
    numbers = [int(name) for name in names if name.isascii() and name.isdecimal()]
    return sorted(n for n in numbers if f"{n:06d}" in names)


def is_index(folder: Path) -> bool:
    """Whether a folder is an index, or one that lost its pointer."""
    return (folder / "CURRENT").is_file() or any(
        (folder / f"{number:06d}" / "index.json").is_file() for number in generations(folder)
    )


def read(folder: Path, generation: int | None = None) -> Index:
    """One generation, the current one by default, checked. Raises UserError."""
    number = current(folder) if generation is None else generation
    place = folder / f"{number:06d}"
    try:
        about = files.read_json(place / "index.json")
    except UserError:
        raise _damaged(place / "index.json") from None
    if not isinstance(about, dict) or about.get("format") != store.file_format("index"):
        raise UserError(f"{place / 'index.json'}: does not describe an index; {_mend(folder)}")
    if about.get("digest") != files.digest_of({k: v for k, v in about.items() if k != "digest"}):
        raise _damaged(place / "index.json")
    if odd := [k for k, kind in NEEDED.items() if not isinstance(about.get(k), kind)]:
        raise UserError(f"{place / 'index.json'}: {odd[0]} is missing or odd; {_mend(folder)}")
    for name, digest in about["files"].items():
        if not (place / name).is_file() or files.digest_of_file(place / name) != digest:
            raise _damaged(place / name)
    images = images_of(place)
    vectors = faiss.read_index(str(place / "index.faiss"))
    index = Index(folder, number, about, vectors, np.asarray(images["id"]),
                  np.asarray(images["root"]), images["path"], images["image_id"])  # fmt: skip
    _check_rows(index, images, place)
    if (model := index.model()) is not None and (
        not model.is_file() or files.digest_of_file(model) != about["model"]
    ):
        raise _damaged(model)
    return index


def _check_rows(index: Index, images: store.Stored, place: Path) -> None:
    """Raise UserError where the rows of the index and its images are not the same ones."""
    n, roots = len(index), len(index.about["roots"])
    columns = [len(images[c]) for c in ("root", "path", "image_id", "bytes")]
    rising = not n or bool((np.diff(index.ids) > 0).all())
    known = not n or bool(index.root.min() >= 0 and index.root.max() < roots)
    vectors = (int(index.index.ntotal), int(index.index.d))
    if set(columns) - {n} or not rising or not known or vectors != (n, index.about["dim"]):
        raise UserError(f"{place}: its vectors are not those of its images; {_mend(index.folder)}")


def images_of(place: Path) -> store.Stored:
    """The images of the generation in the folder `place`: id, root, path, image_id, bytes, content.

    `content`: digest of the file that was described, empty where that is not known.
    """
    if (place / OLD_IMAGES).is_file():
        return store.Stored(place / OLD_IMAGES, OLD_COUNT)
    return store.Stored(place / "images.h5", "images")


def write(
    folder: Path, index: Any, images: dict[str, np.ndarray], about: dict[str, Any],
    model: Path | None = None,
) -> int:  # fmt: skip
    """Write a new generation and switch to it; returns its number. Call it within `writing`."""
    existing = generations(folder)
    number = (existing[-1] if existing else 0) + 1
    place = folder / f"{number:06d}"
    if not existing:
        (folder / FIRST).touch()
    with files.unfinished(place) as scratch:
        scratch.mkdir()
        faiss.write_index(index, str(scratch / "index.faiss"))
        store.write(scratch / "images.h5", "images", images)
        about = {k: v for k, v in about.items() if k not in ("digest", OLD_COUNT)}
        about |= {"format": store.file_format("index"), "images": len(images["id"])}
        about["files"] = {name: files.digest_of_file(scratch / name) for name in PARTS}
        about["model"] = _keep_model(folder, model) if model is not None else about.get("model")
        files.write_text(
            scratch / "index.json", files.to_json({**about, "digest": files.digest_of(about)})
        )
        os.replace(scratch, place)
    point(folder, number)
    (folder / FIRST).unlink(missing_ok=True)
    _prune(folder, number)
    return number


def point(folder: Path, number: int) -> None:
    """Switch to a generation."""
    files.write_text(folder / "CURRENT", f"{number:06d}\n")


def rollback(folder: Path) -> int:
    """Switch to the newest undamaged generation before the current one, and return its number.

    Where CURRENT is lost or damaged: to the newest undamaged one. Raises UserError without any.
    """
    existing = generations(folder)
    try:
        now = current(folder)
    except UserError:
        if not existing:
            raise
        now = existing[-1] + 1
    for number in [n for n in reversed(existing) if n < now]:
        if _whole(folder, number):
            point(folder, number)
            return number
    raise UserError(f"{folder}: no undamaged generation before {now}; make the index again")


@contextmanager
def writing(folder: Path, mending: bool = False) -> Iterator[None]:
    """Lock the index, or a new or empty folder, for writing; `mending`: also one without CURRENT.

    Where nothing was written the folder is removed again, but only if it was made here: a folder
    that a person made stays. Raises UserError where another process writes, or the folder holds
    files that are no index.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: is a file; an index is a folder")
    lock, made = folder / ".lock", not folder.exists()
    if not lock.exists():
        _refuse_others(folder)
    folder.mkdir(parents=True, exist_ok=True)
    locked_before = lock.exists()
    refusal = f"{folder}: another process is writing this index; wait until it is done"
    with runtime.locked(lock, refusal):
        try:
            _refuse_others(folder)  # another process may have written since
            _tidy(folder, mending)
            if generations(folder) and not mending:
                current(folder)
            yield
        finally:
            if not (folder / "CURRENT").exists():  # nothing was written
                if made:
                    shutil.rmtree(folder)
                elif not locked_before:
                    lock.unlink(missing_ok=True)


def _refuse_others(folder: Path) -> None:
    """Raise UserError where a folder is neither empty nor an index or the rest of one."""
    names = {f.name for f in folder.iterdir()} if folder.is_dir() else set()
    ours = {"CURRENT", FIRST} & names or generations(folder)
    left = {name for name in names if UNFINISHED.fullmatch(name)}
    if not ours and names - left - {".lock", SEEN} - ({"models"} if left else set()):
        raise UserError(f"{folder}: contains files that are not an index; give a new folder")


def _tidy(folder: Path, mending: bool) -> None:
    """Remove what killed writers left; the lock is ours, so none of them is at work.

    Where the very first one was killed between its generation and CURRENT, that one is used.
    """
    for place in (folder, folder / "models"):
        for left in place.iterdir() if place.is_dir() else ():
            if UNFINISHED.fullmatch(left.name):
                _remove(left)
    if (folder / FIRST).exists() and not (folder / "CURRENT").exists() and not mending:
        for number in generations(folder):
            point(folder, number) if _whole(folder, number) else _remove(folder / f"{number:06d}")
    (folder / FIRST).unlink(missing_ok=True)


def _remove(left: Path) -> None:
    if left.is_dir() and not left.is_symlink():
        shutil.rmtree(left, ignore_errors=True)
    else:
        left.unlink(missing_ok=True)


def _keep_model(folder: Path, model: Path) -> str:
    digest = files.digest_of_file(model)
    kept = folder / "models" / f"{digest}.onnx"
    if not kept.is_file():
        with files.atomic(kept) as temporary:
            shutil.copyfile(model, temporary)
    return digest


def _prune(folder: Path, number: int) -> None:
    """Remove the oldest generations, and the models that no other generation names."""
    for old in [n for n in generations(folder) if n < number][: -(KEEP - 1)]:
        shutil.rmtree(folder / f"{old:06d}", ignore_errors=True)
    kept = [folder / f"{n:06d}" / "index.json" for n in generations(folder)]
    try:
        used = {files.read_json(file).get("model") for file in kept if file.is_file()}
    except UserError:
        return  # a damaged one may use any of the models
    for file in (folder / "models").glob("*.onnx"):
        if file.stem not in used:
            file.unlink()


def _whole(folder: Path, number: int) -> bool:
    try:
        read(folder, number)
    except UserError:
        return False
    return True


def _mend(folder: Path) -> str:
    return f"`whiten-mtd index {folder} --rollback` switches to the newest undamaged generation"


def _damaged(path: Path) -> UserError:
    return UserError(
        f"{path}: missing or damaged; go back to the previous generation "
        f"(`whiten-mtd index {path.parent.parent} --rollback`) or make the index again"
    )
