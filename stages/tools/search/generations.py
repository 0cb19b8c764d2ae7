"""A searchable index: a folder of numbered generations, and a file that names the current one.

    my-index/CURRENT              the number of the generation in use
    my-index/000001/              index.faiss, images.h5 (id, path, root), index.json
    my-index/models/DIGEST.onnx   the exported student, where one was given

A generation never changes once it is written; `changes.py` writes the next one. `index.json` holds
the digests of the other files, its own, and the identity of the student. Digests are checked before
anything is read, because faiss reads many damaged files without an error.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from ...core import files, store
from ...core.errors import UserError

SEEN = ".seen.npy"  # contents of images by their times of change; a shortcut, no part of the index
NEEDED: dict[str, Any] = {  # of index.json, and its type
    "files": dict, "roots": list, "dim": int, "kind": str, "student": dict, "next_id": int,
    "model": (str, type(None)),
}  # fmt: skip
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
    images = _stored(place)
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


def images_of(index: Index) -> dict[str, np.ndarray]:
    """The columns of a generation's images: id, root, path, image_id, bytes, content.

    `content`: digest of the file that was described, empty where that is not known.
    """
    stored = _stored(index.folder / f"{index.generation:06d}")
    columns = {name: stored[name] for name in ("id", "root", "path", "image_id", "bytes")}
    unknown = np.array([""] * len(index), dtype=str)
    content = stored["content"] if "content" in stored else unknown  # noqa: SIM401 (no map)
    return {**columns, "content": content}


def _stored(place: Path) -> store.Stored:
    """The file of the images of the generation in the folder `place`."""
    if (place / OLD_IMAGES).is_file():
        return store.Stored(place / OLD_IMAGES, OLD_COUNT)
    return store.Stored(place / "images.h5", "images")


def _mend(folder: Path) -> str:
    return f"`whiten-mtd index {folder} --rollback` switches to the newest undamaged generation"


def _damaged(path: Path) -> UserError:
    return UserError(
        f"{path}: missing or damaged; go back to the previous generation "
        f"(`whiten-mtd index {path.parent.parent} --rollback`) or make the index again"
    )
