"""Make a searchable index of images or descriptors; add, remove, go back.

    whiten-mtd index my/images my-index --model exported
    whiten-mtd index mine.h5 my-index --model exported --compress sq8
    whiten-mtd index more/images my-index --add
    whiten-mtd index my-index --remove 'old/*'
    whiten-mtd index my-index --rollback

A source is a folder of images, a list of them or a descriptor file. Every change is a new
generation; searches that run meanwhile see the old one or the new one, never half of one.
"""

from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import typer

from ...core import console
from ...core.errors import UserError
from ...images import listing
from ...retrieval.onnx_student import Exported, identity_of, refuse_other
from . import answers, faiss_index
from . import generations as indexes
from .generations import Index

app = console.app()


@dataclass(frozen=True)
class Source:
    """Described images of one origin: `rows` (n, dim) float32 as float16 keeps them."""

    name: str
    root: Path
    rows: np.ndarray
    path: list[str]
    image_id: list[str]
    identity: dict[str, Any]

    def files(self) -> list[str]:
        """The place of each image."""
        return [str(self.root / p) for p in self.path]


@app.command()
def main(
    paths: list[Path] = typer.Argument(..., metavar="[SOURCE]... INDEX"),
    model: Path = typer.Option(None, help="What `export` wrote; kept in the index."),
    add: bool = typer.Option(False, "--add", help="Add to the index, describing what is new only."),
    remove: list[str] = typer.Option([], help="Take out images: a path, or a pattern with *."),
    rollback: bool = typer.Option(False, "--rollback", help="Back to the generation before."),
    compress: str = typer.Option("flat", help="flat (exact), sq8 or ivfpq; recall is printed."),
) -> None:
    """Make an index of SOURCE, or change it."""
    *sources, folder = paths
    if compress not in faiss_index.KINDS:
        raise UserError(f"--compress {compress}: choose from {', '.join(faiss_index.KINDS)}")
    if bool(rollback or remove) == bool(sources) or sum(map(bool, (rollback, remove, add))) > 1:
        raise UserError(
            "give sources and an index (with --add to add to it), or an index alone with --remove "
            "or --rollback"
        )
    if not sources or add:
        if not (rollback and indexes.generations(folder)):  # which mends a lost CURRENT
            indexes.current(folder)  # before a folder is made
        if compress != "flat":
            raise UserError("--compress goes with a new index; an old one keeps its kind")
    with indexes.writing(folder, mending=rollback):
        if rollback:
            number = indexes.rollback(folder)
            console.say(f"{folder}: back to generation {number}")
        elif remove:
            take_out(folder, remove)
        elif add:
            put_in(folder, sources, model)
        else:
            make(folder, sources, model, compress)


def make(folder: Path, sources: list[Path], model: Path | None, kind: str) -> None:
    """A new index of all sources."""
    net = Exported.read(model) if model is not None else None
    parts = [read_source(source, net, {}) for source in sources]
    if net is not None:
        parts_of_one(parts, net.identity(), str(net.path), net.about["dim"])
    parts_of_one(parts, parts[0].identity, parts[0].name, parts[0].rows.shape[1])
    rows, images, roots = joined(parts, [], 0)
    index, about = faiss_index.make(rows, images["id"], kind)
    about |= {"student": parts[0].identity, "roots": roots, "next_id": len(rows)}
    number = indexes.write(folder, index, images, about, net.path if net else None)
    tell(folder, number)


def put_in(folder: Path, sources: list[Path], model: Path | None) -> None:
    """A generation with more images; those that are there stay as they are described."""
    found = indexes.read(folder)
    wants_net = [s for s in sources if s.suffix != ".h5"]
    net = answers.student_of(found, model) if wants_net or model is not None else None
    lengths = dict(zip(found.files(), images_of(found)["bytes"].tolist(), strict=True))
    parts = [read_source(source, net, lengths) for source in sources]
    parts_of_one(parts, found.student, str(folder), found.about["dim"])
    rows, images, roots = joined(parts, list(found.about["roots"]), found.about["next_id"])
    if not len(rows):
        console.say(f"{folder}: nothing new; generation {found.generation} stays")
        return
    again = set(f for part in parts for f in part.files())
    keep = np.array([f not in again for f in found.files()], dtype=bool)
    if not keep.all():
        found.index.remove_ids(found.ids[~keep])
    found.index.add_with_ids(rows, images["id"])
    old = images_of(found)
    merged = {
        k: np.concatenate([np.asarray(old[k])[keep], np.asarray(v)]) for k, v in images.items()
    }
    about = {**_changed(found.about), "roots": roots, "next_id": found.about["next_id"] + len(rows)}
    kept_model = net.path if net is not None and model is not None else None
    number = indexes.write(folder, found.index, merged, about, kept_model)
    if (found.about.get("calibration") or {}).get("per") == "search":
        console.say("the threshold was calibrated for searches of fewer images: calibrate again")
    tell(folder, number, f"{len(rows)} added, {int((~keep).sum())} of them anew; ")


def take_out(folder: Path, patterns: list[str]) -> None:
    """A generation without some images."""
    found = indexes.read(folder)
    names = list(zip(found.path.tolist(), found.files(), strict=True))
    gone = np.zeros(len(found), dtype=bool)
    for pattern in patterns:
        hit = np.array([any(_is_of(n, pattern) for n in both) for both in names], dtype=bool)
        if not hit.any():
            raise UserError(f"{folder}: no image {pattern!r}, for example: {found.path[0]}")
        gone |= hit
    if gone.all():
        raise UserError(f"{folder}: that would remove all {len(found)} images; delete the folder")
    found.index.remove_ids(found.ids[gone])
    kept = {k: np.asarray(v)[~gone] for k, v in images_of(found).items()}
    number = indexes.write(folder, found.index, kept, _changed(found.about))
    tell(folder, number, f"{int(gone.sum())} removed; ")


def read_source(source: Path, net: Exported | None, lengths: dict[str, int]) -> Source:
    """A descriptor file, or images described now; those of `lengths` (place: bytes) are known."""
    if source.suffix == ".h5":
        stored, rows, names = answers.ready(source)
        paths = [str(p) for p in stored["path"]] if "path" in stored else names
        if len(paths) != len(rows):
            raise UserError(f"{source}: its datasets have different lengths; describe again")
        root = Path(str(stored.attributes.get("root", "."))).resolve()
        return Source(str(source), root, rows, paths, names, identity_of(stored))
    if net is None:
        raise UserError(
            f"{source}: images need a student to describe them: --model EXPORTED "
            "(`whiten-mtd export models/student exported`), or a descriptor file"
        )
    root, found = listing.listed(source)
    root = root.resolve()
    new = [p for p in found if lengths.get(str(root / p), -2) != _length(root / p)]
    rows, kept, errors = net.images([root / p for p in new])
    for line in errors[:5]:
        console.say(f"left out: {line}")
    if len(errors) > 5:
        console.say(f"left out: {len(errors) - 5} more")
    if not kept and not lengths:
        raise UserError(f"{source}: none of its {len(found)} images can be read")
    new = [new[i] for i in kept]
    return Source(str(source), root, rows.astype(np.float16).astype(np.float32), new, new,
                  net.identity())  # fmt: skip


def parts_of_one(parts: list[Source], identity: dict[str, Any], whose: str, dim: int) -> None:
    """Raise UserError where a source is of another student, or of other than `dim` numbers."""
    for part in parts:
        refuse_other(identity, part.identity, whose, part.name)
        answers.refuse_width(part.name, part.rows, dim)


def joined(
    parts: list[Source], roots: list[str], first_id: int
) -> tuple[np.ndarray, dict[str, np.ndarray], list[str]]:
    """(rows, the images' columns, all roots) of all sources; what is twice counts once."""
    met: set[str] = set()
    rows, columns = [], []
    for part in parts:
        if (root := part.root.as_posix()) not in roots:
            roots = [*roots, root]
        for i, file in enumerate(part.files()):
            if file not in met:
                met.add(file)
                rows.append(part.rows[i])
                columns.append(
                    (roots.index(root), part.path[i], part.image_id[i], _length(Path(file)))
                )
    ids = np.arange(first_id, first_id + len(rows), dtype=np.int64)
    root_of, path, image_id, length = zip(*columns, strict=True) if columns else ((),) * 4
    images: dict[str, np.ndarray] = {
        "id": ids, "root": np.array(root_of, np.int32), "path": np.array(path, str),
        "image_id": np.array(image_id, str), "bytes": np.array(length, np.int64),
    }  # fmt: skip
    dim = parts[0].rows.shape[1]
    return np.array(rows, np.float32).reshape(len(rows), dim), images, roots


def images_of(found: Index) -> dict[str, np.ndarray]:
    """The columns of a generation's images."""
    file = indexes.images_of(found.folder / f"{found.generation:06d}")
    return {name: file[name] for name in ("id", "root", "path", "image_id", "bytes")}


def tell(folder: Path, number: int, what: str = "") -> None:
    """One line on a generation just written."""
    found = indexes.read(folder)
    size = (folder / f"{number:06d}" / "index.faiss").stat().st_size
    text = f"{folder}: generation {number}, {what}{len(found)} images, {found.about['kind']}, "
    text += f"{size / max(len(found), 1):.0f} bytes an image"
    if recall := found.about.get("recall"):
        text += f", recall@{faiss_index.EXACT_K} against exact {recall:.1f} %"
    if found.about["model"] is None:
        text += "; no student in it: search needs --model"
    console.say(text)


def _is_of(name: str, pattern: str) -> bool:
    return name == pattern or fnmatchcase(name, pattern)  # a name may hold brackets of its own


def _changed(about: dict[str, Any]) -> dict[str, Any]:
    """What stays true of an index whose images change: not its recall, which was of the old."""
    return {key: value for key, value in about.items() if key != "recall"}


def _length(file: Path) -> int:
    return file.stat().st_size if file.is_file() else -1


if __name__ == "__main__":
    console.main(app)
