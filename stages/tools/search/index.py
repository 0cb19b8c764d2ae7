"""Make a searchable index of images or descriptors; add, remove, roll back.

    whiten-mtd index my/images my-index --model exported
    whiten-mtd index mine.h5 my-index --model exported --compress sq8
    whiten-mtd index more/images my-index --add
    whiten-mtd index my-index --remove 'old/*'
    whiten-mtd index my-index --rollback

A source is a folder of images, a list of them or a descriptor file. Every change is a new
generation; a search that runs meanwhile uses the old one or the new one, never a mixture.
"""

import os
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np
import typer

from ...core import console, contents
from ...core.errors import UserError
from ...core.seen_files import Contents
from ...images import listing
from ...images.own import tell_left_out
from ...retrieval.onnx_student import Exported, identity_of, refuse_other
from . import answers, changes, faiss_index
from . import generations as indexes
from .generations import Index

app = console.app()


@dataclass(frozen=True)
class Source:
    """Described images of one source: `rows` (n, dim) float32 of unit length, from float16."""

    name: str
    root: Path
    rows: np.ndarray
    path: list[str]
    image_id: list[str]
    identity: dict[str, Any]
    content: list[str]  # digest of each file that was described; empty: not known

    def files(self) -> list[str]:
        """The file of each image."""
        return [str(self.root / p) for p in self.path]


@app.command()
def main(
    paths: list[Path] = typer.Argument(..., metavar="[SOURCE]... INDEX"),
    model: Path = typer.Option(None, help="An exported student; it is kept in the index."),
    add: bool = typer.Option(False, "--add", help="Add to the index; describe new images only."),
    remove: list[str] = typer.Option([], help="Remove images: a path, or a pattern with *."),
    rollback: bool = typer.Option(False, "--rollback", help="Go back to the previous generation."),
    compress: str = typer.Option("flat", help="flat (exact), sq8 or ivfpq (smaller)."),
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
        if not (rollback and indexes.generations(folder)):  # rollback also mends a lost CURRENT
            indexes.current(folder)  # before a folder is made
        if compress != "flat":
            raise UserError("--compress is for new indexes only; an existing index keeps its kind")
    with changes.writing(folder, mending=rollback):
        if rollback:
            number = changes.rollback(folder)
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
    seen = Contents(Path("/"), folder / indexes.SEEN)
    parts = [read_source(source, net, {}, seen) for source in sources]
    if net is not None:
        parts_of_one(parts, net.identity(), str(net.path), net.about["dim"])
    parts_of_one(parts, parts[0].identity, parts[0].name, parts[0].rows.shape[1])
    rows, images, roots = joined(parts, [], 0)
    vectors, about = faiss_index.make(rows, images["id"], kind)
    about |= {"student": parts[0].identity, "roots": roots, "next_id": len(rows)}
    number = changes.write(folder, vectors, images, about, net.path if net else None)
    seen.save()
    tell(folder, number)


def put_in(folder: Path, sources: list[Path], model: Path | None) -> None:
    """A generation with more images; the images that are unchanged keep their descriptors."""
    index = indexes.read(folder)
    to_describe = [s for s in sources if not answers.is_descriptors(s)]
    net = answers.student_of(index, model) if to_describe or model is not None else None
    seen = Contents(Path("/"), folder / indexes.SEEN)
    known = dict(zip(index.files(), contents_of(index, seen), strict=True))
    parts = [read_source(source, net, known, seen) for source in sources]
    parts_of_one(parts, index.student, str(folder), index.about["dim"])
    tell_gone(folder, index, [source for source in sources if source.is_dir()])
    rows, images, roots = joined(parts, list(index.about["roots"]), index.about["next_id"])
    if not len(rows):
        seen.save()
        console.say(f"{folder}: nothing new, still generation {index.generation}")
        return
    added = set(f for part in parts for f in part.files())
    keep = np.array([f not in added for f in index.files()], dtype=bool)
    if not keep.all():
        index.index.remove_ids(index.ids[~keep])
    index.index.add_with_ids(rows, images["id"])
    old = indexes.images_of(index)
    merged = {
        k: np.concatenate([np.asarray(old[k])[keep], np.asarray(v)]) for k, v in images.items()
    }
    about = {**_changed(index.about), "roots": roots, "next_id": index.about["next_id"] + len(rows)}
    kept_model = net.path if net is not None and model is not None else None
    number = changes.write(folder, index.index, merged, about, kept_model)
    seen.save()
    if (index.about.get("calibration") or {}).get("per") == "search":
        console.say("the threshold was calibrated for fewer images in the index: calibrate again")
    tell(folder, number, f"{len(rows)} added, {int((~keep).sum())} of them replaced; ")


def tell_gone(folder: Path, index: Index, sources: list[Path]) -> None:
    """Say which images of the index are no longer in the folders that it is added to from."""
    roots = tuple(f"{source.resolve()}{os.sep}" for source in sources)
    gone = [f for f in index.files() if f.startswith(roots) and not os.path.exists(f)]
    if gone:
        console.say(
            f"{folder}: {len(gone)} images of the index are no longer there "
            f"({listing.named(gone)}); `whiten-mtd index {folder} --remove PATH` takes them out"
        )


def take_out(folder: Path, patterns: list[str]) -> None:
    """A generation without some images."""
    index = indexes.read(folder)
    names = list(zip(index.path.tolist(), index.files(), strict=True))
    removed = np.zeros(len(index), dtype=bool)
    for pattern in patterns:
        hit = np.array([any(_is_of(n, pattern) for n in both) for both in names], dtype=bool)
        if not hit.any():
            raise UserError(
                f"{folder}: no image matches {pattern!r}; paths look like {index.path[0]}"
            )
        removed |= hit
    if removed.all():
        raise UserError(f"{folder}: this would remove all {len(index)} images; delete it instead")
    index.index.remove_ids(index.ids[removed])
    kept = {k: np.asarray(v)[~removed] for k, v in indexes.images_of(index).items()}
    number = changes.write(folder, index.index, kept, _changed(index.about))
    tell(folder, number, f"{int(removed.sum())} removed; ")


def contents_of(index: Index, seen: Contents) -> list[str]:
    """The digest of what each image of an index was when it was described, "" for not known.

    Of generations that say nothing of contents (old ones, images that came as descriptors) a file
    counts as the one that was described where its length is the same and it is older than they.
    """
    images = indexes.images_of(index)
    written = (index.folder / f"{index.generation:06d}" / "index.json").stat().st_mtime_ns
    stored = images["content"].tolist()
    files, lengths = index.files(), images["bytes"].tolist()
    trusted = [
        i for i, file in enumerate(files)
        if not stored[i] and _length(Path(file)) == lengths[i] >= 0
        and Path(file).stat().st_mtime_ns < written
    ]  # fmt: skip
    digests = seen.digests([files[i].lstrip("/") for i in trusted], "reading images")
    for i, digest in zip(trusted, digests, strict=True):
        stored[i] = digest
    return stored


def read_source(
    source: Path, net: Exported | None, known: dict[str, str], seen: Contents
) -> Source:
    """A descriptor file, or images to describe, less those of `known` (file: its content)."""
    if answers.is_descriptors(source):
        stored, rows, names = answers.ready(source)
        paths = [str(p) for p in stored["path"]] if "path" in stored else names
        if len(paths) != len(rows):
            raise UserError(f"{source}: its datasets have different lengths; describe again")
        root = Path(str(stored.attributes.get("root", "."))).resolve()
        unknown = [""] * len(paths)
        return Source(str(source), root, rows, paths, names, identity_of(stored), unknown)
    if net is None:
        raise UserError(
            f"{source}: a student is needed to describe images: --model EXPORTED "
            "(`whiten-mtd export models/student exported` writes it), or give a descriptor file"
        )
    root, paths = listing.listed(source)
    root = root.resolve()
    now = seen.digests([str(root / p).lstrip("/") for p in paths], "reading images")
    content = {p: d for p, d in zip(paths, now, strict=True) if known.get(str(root / p), "") != d}
    new = list(content)
    rows, kept, errors = net.images([root / p for p in new])
    if not kept and not known:
        first = f"; {errors[0]}" if errors else ""
        raise UserError(f"{source}: none of its {len(paths)} images can be read{first}")
    tell_left_out(errors, len(new), "images")
    new = [new[i] for i in kept]
    kept_rows = contents.unit(rows.astype(np.float16))  # as a descriptor file has them
    described = [content[p] for p in new]
    return Source(str(source), root, kept_rows, new, new, net.identity(), described)


def parts_of_one(parts: list[Source], identity: dict[str, Any], whose: str, dim: int) -> None:
    """Raise UserError where a source is of another student, or does not have `dim` dimensions."""
    for part in parts:
        refuse_other(identity, part.identity, whose, part.name)
        answers.refuse_width(part.name, part.rows, dim)


def joined(
    parts: list[Source], roots: list[str], first_id: int
) -> tuple[np.ndarray, dict[str, np.ndarray], list[str]]:
    """(rows, the images' columns, all roots) of all sources; each file once."""
    met: set[str] = set()
    rows: list[np.ndarray] = []
    columns: list[tuple[Any, ...]] = []
    for part in parts:
        if (root := part.root.as_posix()) not in roots:
            roots = [*roots, root]
        for i, file in enumerate(part.files()):
            if file not in met:
                met.add(file)
                rows.append(part.rows[i])
                own = (part.path[i], part.image_id[i], _length(Path(file)), part.content[i])
                columns.append((roots.index(root), *own))
    ids = np.arange(first_id, first_id + len(rows), dtype=np.int64)
    root_of, path, image_id, length, content = zip(*columns, strict=True) if columns else ((),) * 5
    images: dict[str, np.ndarray] = {
        "id": ids, "root": np.array(root_of, np.int32), "path": np.array(path, str),
        "image_id": np.array(image_id, str), "bytes": np.array(length, np.int64),
        "content": np.array(content, str),
    }  # fmt: skip
    dim = parts[0].rows.shape[1]
    return np.array(rows, np.float32).reshape(len(rows), dim), images, roots


def tell(folder: Path, number: int, change: str = "") -> None:
    """Print one line about a new generation."""
    index = indexes.read(folder)
    size = (folder / f"{number:06d}" / "index.faiss").stat().st_size
    text = f"{folder}: generation {number}, {change}{len(index)} images, {index.about['kind']}, "
    text += f"{size / max(len(index), 1):.0f} bytes per image"
    if recall := index.about.get("recall"):
        text += f", recall@{faiss_index.EXACT_K} against exact search {recall:.1f} %"
    if index.about["model"] is None:
        text += "; it contains no student: search needs --model"
    console.say(text)


def _is_of(name: str, pattern: str) -> bool:
    return name == pattern or fnmatchcase(name, pattern)  # a name may contain brackets


def _changed(about: dict[str, Any]) -> dict[str, Any]:
    """`about` of an index whose images change: without the recall, which was of the old ones."""
    return {key: value for key, value in about.items() if key != "recall"}


def _length(file: Path) -> int:
    return file.stat().st_size if file.is_file() else -1


if __name__ == "__main__":
    console.main(app)
