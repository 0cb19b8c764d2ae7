"""A searchable index: a folder of numbered generations and a pointer that switches atomically.

    my-index/CURRENT              the number of the generation in use
    my-index/000001/              index.faiss, images.h5 (id, path, root), index.json
    my-index/models/DIGEST.onnx   the exported student, where one was given

A generation never changes once it is written. `index.json` holds the digests of the other files,
its own, and the identity of the student; nothing is read before its digest was checked, since faiss
reads many a damaged file without a word.
"""

import os
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
PARTS = ("index.faiss", "images.h5")
OLD_IMAGES = "pictures.h5"  # of indexes of 0.1


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
        """Where the image of a row lies (or lay)."""
        return Path(self.about["roots"][self.root[row]]) / str(self.path[row])

    def files(self) -> list[str]:
        """The place of every image: what makes it the same one when it is added again."""
        return [str(self.file(row)) for row in range(len(self))]

    @property
    def student(self) -> dict[str, Any]:
        """The identity of the student; {} for descriptors of an origin that does not say."""
        return self.about["student"]

    def model(self) -> Path | None:
        """The exported student that lies in the index, if any."""
        digest = self.about["model"]
        return self.folder / "models" / f"{digest}.onnx" if digest else None

    def search(self, query: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """(q, dim) unit rows to (scores, rows), both (q, k), best first; row -1: none found."""
        query = np.ascontiguousarray(query, dtype=np.float32)
        if query.shape[1] != self.about["dim"]:
            raise UserError(
                f"{self.folder}: holds {self.about['dim']} dimensions, the query has "
                f"{query.shape[1]}: of another student"
            )
        scores, found = self.index.search(query, min(k, len(self)))
        rows = np.where(found < 0, -1, np.searchsorted(self.ids, found))
        return scores, rows


def current(folder: Path) -> int:
    """The number of the generation in use. Raises UserError where there is no index."""
    file = folder / "CURRENT"
    try:
        text = file.read_text("utf-8", "replace").strip()
    except FileNotFoundError:
        if generations(folder):
            raise UserError(f"{file}: missing; {_mend(folder)}") from None
        raise UserError(f"{folder}: no index there; `whiten-mtd index` makes one") from None
    except (NotADirectoryError, IsADirectoryError):
        raise UserError(f"{folder}: not the folder of an index") from None
    if not (text.isascii() and text.isdecimal()):
        raise UserError(f"{file}: no number of a generation: {text[:20]!r}; {_mend(folder)}")
    return int(text)


def generations(folder: Path) -> list[int]:
    """The numbers of the generations that are there, ascending; none where there is no folder."""
    names = [f.name for f in folder.iterdir() if f.is_dir()] if folder.is_dir() else []
    found = [int(name) for name in names if name.isascii() and name.isdecimal()]
    return sorted(n for n in found if f"{n:06d}" in names)


def read(folder: Path, generation: int | None = None) -> Index:
    """One generation, the current one by default, checked. Raises UserError."""
    number = current(folder) if generation is None else generation
    place = folder / f"{number:06d}"
    try:
        about = files.read_json(place / "index.json")
    except UserError:
        raise _damaged(place / "index.json") from None
    if not isinstance(about, dict) or about.get("format") != store.file_format("index"):
        raise UserError(f"{place / 'index.json'}: not of an index; {_mend(folder)}")
    if about.get("digest") != files.digest_of({k: v for k, v in about.items() if k != "digest"}):
        raise _damaged(place / "index.json")
    for name, digest in about["files"].items():
        if not (place / name).is_file() or files.digest_of_file(place / name) != digest:
            raise _damaged(place / name)
    images = images_of(place)
    index = faiss.read_index(str(place / "index.faiss"))
    found = Index(folder, number, about, index, np.asarray(images["id"]),
                  np.asarray(images["root"]), images["path"], images["image_id"])  # fmt: skip
    if (model := found.model()) is not None and (
        not model.is_file() or files.digest_of_file(model) != about["model"]
    ):
        raise _damaged(model)
    return found


def images_of(place: Path) -> store.Stored:
    """The images of the generation in `place`: id, root, path, image_id, bytes, a row each."""
    if (place / OLD_IMAGES).is_file():
        return store.Stored(place / OLD_IMAGES, "pictures")
    return store.Stored(place / "images.h5", "images")


def write(
    folder: Path, index: Any, images: dict[str, np.ndarray], about: dict[str, Any],
    model: Path | None = None,
) -> int:  # fmt: skip
    """Write a new generation and point to it; returns its number. Call it in `writing`."""
    there = generations(folder)
    number = (there[-1] if there else 0) + 1
    place, scratch = folder / f"{number:06d}", folder / f".{number:06d}.{os.getpid()}.tmp"
    scratch.mkdir()
    try:
        faiss.write_index(index, str(scratch / "index.faiss"))
        store.write(scratch / "images.h5", "images", images)
        about = {k: v for k, v in about.items() if k != "digest"}
        about |= {"format": store.file_format("index"), "images": len(images["id"])}
        about["files"] = {name: files.digest_of_file(scratch / name) for name in PARTS}
        about["model"] = _keep_model(folder, model) if model is not None else about.get("model")
        files.write_text(
            scratch / "index.json", files.to_json({**about, "digest": files.digest_of(about)})
        )
        os.replace(scratch, place)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    point(folder, number)
    _prune(folder, number)
    return number


def point(folder: Path, number: int) -> None:
    """Switch to a generation."""
    files.write_text(folder / "CURRENT", f"{number:06d}\n")


def rollback(folder: Path) -> int:
    """Switch to the newest whole generation before the current one, and return its number.

    Before none in particular where CURRENT is lost or damaged. Raises UserError without any.
    """
    there = generations(folder)
    try:
        now = current(folder)
    except UserError:
        if not there:
            raise
        now = there[-1] + 1
    for number in [n for n in reversed(there) if n < now]:
        if _whole(folder, number):
            point(folder, number)
            return number
    raise UserError(f"{folder}: no generation before {now} that is whole; make the index again")


@contextmanager
def writing(folder: Path, mending: bool = False) -> Iterator[None]:
    """Hold the index, or a new or empty folder, for writing; `mending`: also one without CURRENT.

    Where nothing came of it the folder goes again, but only if it was made here: what a person
    made is theirs. Raises UserError where another process holds it, or it holds other things.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: a file; an index is a folder")
    lock, made = folder / ".lock", not folder.exists()
    if not lock.exists():
        _refuse_others(folder)
    folder.mkdir(parents=True, exist_ok=True)
    locked_before = lock.exists()
    refusal = f"{folder}: another process is writing this index; wait until it is done"
    with runtime.locked(lock, refusal):
        try:
            _refuse_others(folder)  # whoever held the lock may have written since
            if generations(folder) and not mending:
                current(folder)
            yield
        finally:
            if not (folder / "CURRENT").exists():  # nothing came of it
                if made:
                    shutil.rmtree(folder)
                elif not locked_before:
                    lock.unlink(missing_ok=True)


def _refuse_others(folder: Path) -> None:
    """Raise UserError where a folder is neither an index, nor what is left of one, nor empty."""
    there = {f.name for f in folder.iterdir()} if folder.is_dir() else set()
    if there - {".lock"} and "CURRENT" not in there and not generations(folder):
        raise UserError(f"{folder}: holds other things; give a new folder for the index")


def _keep_model(folder: Path, model: Path) -> str:
    digest = files.digest_of_file(model)
    kept = folder / "models" / f"{digest}.onnx"
    if not kept.is_file():
        with files.atomic(kept) as temporary:
            shutil.copyfile(model, temporary)
    return digest


def _prune(folder: Path, number: int) -> None:
    """Remove the oldest generations, and models that none of the others names."""
    for old in [n for n in generations(folder) if n < number][: -(KEEP - 1)]:
        shutil.rmtree(folder / f"{old:06d}", ignore_errors=True)
    kept = [folder / f"{n:06d}" / "index.json" for n in generations(folder)]
    try:
        named = {files.read_json(file).get("model") for file in kept if file.is_file()}
    except UserError:
        return  # a damaged one may name any of the models
    for file in (folder / "models").glob("*.onnx"):
        if file.stem not in named:
            file.unlink()


def _whole(folder: Path, number: int) -> bool:
    try:
        read(folder, number)
    except UserError:
        return False
    return True


def _mend(folder: Path) -> str:
    return f"`whiten-mtd index {folder} --rollback` goes to the newest that is whole"


def _damaged(path: Path) -> UserError:
    return UserError(
        f"{path}: missing, altered or truncated; go back to the generation before "
        f"(`whiten-mtd index {path.parent.parent} --rollback`) or make the index again"
    )
