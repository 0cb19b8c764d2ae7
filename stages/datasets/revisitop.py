"""Revisited Oxford and Paris, and the million distractors: Radenovic et al. 2018, 1803.11285.

The name of the set in section `evaluation` is the name of its folder below the root:

    <root>/roxford5k/gnd_roxford5k.pkl     <root>/roxford5k/jpg/<name>.jpg
    <root>/rparis6k/gnd_rparis6k.pkl       <root>/rparis6k/jpg/<name>.jpg
    <root>/revisitop1m/revisitop1m.txt     <root>/revisitop1m/jpg/<line of the list>

A folder with a ground truth has queries; one with a list alone is a set of distractors.
"""

import io
import math
import pickle
import pickletools
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from ..core.console import progress
from ..core.errors import UserError
from ..core.plugins import nearest
from ..images import lists
from . import Counts, Evaluation, Watched
from ._images import as_there, folder_at, is_whole, named, refuse_missing, sample

PUBLISHED = (
    "cmp.felk.cvut.cz/revisitop (gnd_*.pkl; the million distractors with their list), "
    "robots.ox.ac.uk/~vgg/data (oxbuild_images-v1.tgz, paris_1-v1.tgz, paris_2-v1.tgz)"
)
WHOLE = {"roxford5k": (70, 4993), "rparis6k": (70, 6322)}  # queries and database, as published
LOOKED_AT = 1000  # distractors that `status` looks for
LEVELS = ("easy", "hard", "junk")
Map = dict[str, Any]


class Settings(BaseModel):
    """Where the sets are, and how much of a query's image counts."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    root: str = Field(description="folder that holds roxford5k/, rparis6k/ and revisitop1m/")
    crop_queries: bool = Field(description="cut queries to their box, as the protocol says")


@dataclass(frozen=True)
class Source:
    """One set as it lies on the disk: its folder, the file that lists it, its images' paths.

    `known`: the ground truth, whose queries come first in `paths`; None for distractors.
    """

    folder: Path
    file: Path
    paths: list[str]
    known: Map | None


def source(settings: Settings, name: str) -> Source:
    """The set `name` with its lists read; no image is looked at. Raises UserError."""
    root = folder_at(settings.root, "datasets.revisitop.root")
    folder = root / name
    truth, listed = folder / f"gnd_{name}.pkl", folder / f"{name}.txt"
    if truth.is_file():
        known = ground_truth(truth)
        names = known["qimlist"] + known["imlist"]
        return Source(folder, truth, [f"jpg/{n}.jpg" for n in names], known)
    if listed.is_file():
        return Source(folder, listed, [f"jpg/{n}" for n in _list(listed)], None)
    folders = sorted(f.name for f in root.iterdir() if f.is_dir())
    raise UserError(
        f"evaluation.{name}: neither {truth} nor {listed}{nearest(name, folders)}; "
        f"the folders of {root}: {', '.join(folders) or 'none'}"
    )


def evaluation(settings: Settings, images: Path, name: str) -> Evaluation:
    """The set `name`: queries and database, or distractors."""
    of = source(settings, name)
    if of.known is None:
        return _distractors(of)
    return _benchmark(of, of.known, settings.crop_queries)


def watched(settings: Settings, name: str) -> Watched:
    """The ground truth or list of the set `name`, and its images."""
    of = source(settings, name)
    return [(of.folder, [of.file.name, *of.paths])]


def status(settings: Settings, name: str) -> str:
    """What is in place of the set `name`, in a line; nothing is decoded. Raises UserError."""
    of = source(settings, name)
    if of.known is None:
        some = of.paths[:: max(len(of.paths) // LOOKED_AT, 1)]
        refuse_missing(of.folder, some, "of a sample; unpack all of the archives")
        return f"{of.folder}: {len(of.paths)} distractors listed; {len(some)} looked for, there"
    refuse_missing(of.folder, of.paths, f"unpack them into {of.folder}/jpg, without sub-folders")
    counts = (len(of.known["qimlist"]), len(of.known["imlist"]))
    whole = WHOLE.get(name, counts)
    odd = "" if counts == whole else f" (the published set has {whole[0]} and {whole[1]})"
    return f"{of.folder}: {counts[0]} queries, {counts[1]} images, all there{odd}"


def count_evaluation(settings: Settings, name: str) -> Counts:
    """Queries and database of the set `name`, or its distractors, as they are listed."""
    of = source(settings, name)
    return Counts(len(of.paths), files=sample(of.folder, of.paths))


def _benchmark(of: Source, known: Map, crop: bool) -> Evaluation:
    """Queries first, then the database, as the ground truth lists them."""
    query, database = known["qimlist"], known["imlist"]
    refuse_missing(of.folder, of.paths, f"unpack them into {of.folder}/jpg, without sub-folders")
    good = set(_whole(of.folder, of.paths))
    if cut := [p for p in of.paths if p not in good]:
        raise UserError(
            f"{of.folder}: {len(cut)} of {len(of.paths)} images are truncated: {named(cut)}; "
            "unpack the archives again"
        )
    box = np.full((len(of.paths), 4), np.nan, dtype=np.float32)
    if crop:
        box[: len(query)] = [entry["bbx"] for entry in known["gnd"]]
    whole = "cut to their boxes" if crop else "whole images, not as the protocol says"
    return Evaluation(
        root=of.folder,
        image_id=query + database,
        path=of.paths,
        role=["query"] * len(query) + ["database"] * len(database),
        box=box,
        protocol="revisitop",
        queries=queries_by_id(known),
        notes=[f"queries: {whole}"],
    )


def _distractors(of: Source) -> Evaluation:
    """The images of the list; those whose files end too soon are left out and counted."""
    refuse_missing(of.folder, of.paths, f"unpack them into {of.folder}/jpg")
    whole = _whole(of.folder, of.paths)
    notes = []
    if len(whole) < len(of.paths):
        kept = set(whole)
        cut = [p.removeprefix("jpg/") for p in of.paths if p not in kept]
        notes.append(f"{len(cut)} of {len(of.paths)} left out, truncated: {named(cut)}")
    return Evaluation(
        root=of.folder,
        image_id=[p.removeprefix("jpg/") for p in whole],
        path=whole,
        role=["distractor"] * len(whole),
        box=np.full((len(whole), 4), np.nan, dtype=np.float32),
        protocol="revisitop",
        queries=None,
        notes=notes,
    )


def _whole(folder: Path, names: list[str]) -> list[str]:
    """Those of `names` whose files do not end too soon."""
    looked = progress(names, total=len(names), label=f"{folder}: looking at images", part=True)
    return [name for name in looked if is_whole(folder / name)]


def _list(listed: Path) -> list[str]:
    """The lines of a list of distractors. Raises UserError where it is none."""
    try:
        lines = [line for _, line in lists.read_lines(listed)]
    except UserError as error:
        raise UserError(f"{error}; expected the path of an image a line") from None
    names = as_there(listed.parent / "jpg", lines)
    if not names:
        raise UserError(f"{listed}: empty; expected the path of an image a line")
    if len(set(names)) < len(names):
        raise UserError(f"{listed}: {len(names) - len(set(names))} lines occur twice")
    return names


def _check_claims(raw: bytes) -> None:
    """Raise UserError for a pickle that wants more memory than its bytes can fill.

    Nothing is built: a place in the unpickler's table is reserved by its number, and a bytearray
    by its length, whatever comes after.
    """
    for opcode, argument, _ in pickletools.genops(raw):
        if opcode.name == "BYTEARRAY8" or (
            opcode.name in ("PUT", "BINPUT", "LONG_BINPUT")
            and not 0 <= int(argument or 0) <= len(raw)
        ):
            raise UserError(f"it claims more than its {len(raw)} bytes hold")


class _NothingGlobal(pickle.Unpickler):
    """Lists, maps, numbers and text alone: a pickle that names code could run it."""

    def find_class(self, module: str, name: str) -> Any:
        raise UserError(f"it names code ({module}.{name}), which a ground truth never does")


def ground_truth(path: Path) -> Map:
    """An official `gnd_<name>.pkl`: `imlist`, `qimlist`, and for each query in `gnd` its `bbx`
    and `easy`, `hard`, `junk` as rows of `imlist`. Everything checked; raises UserError.
    """
    try:
        raw = path.read_bytes()
        _check_claims(raw)
        known = _NothingGlobal(io.BytesIO(raw)).load()
    except UserError as error:
        raise UserError(f"{path}: refused: {error}; download it again") from None
    except Exception as error:  # of broken bytes it raises whatever their nonsense leads to
        raise UserError(f"{path}: not a pickle ({error}); download it again") from None
    if not isinstance(known, dict) or not {"imlist", "qimlist", "gnd"} <= set(known):
        raise UserError(f"{path}: no ground truth with imlist, qimlist and gnd")
    database, query, gnd = known["imlist"], known["qimlist"], known["gnd"]
    if not (_names(database) and _names(query) and isinstance(gnd, list)):
        raise UserError(f"{path}: imlist and qimlist should be lists of names, gnd a list of maps")
    if len(query) != len(gnd):
        raise UserError(f"{path}: {len(query)} queries, but {len(gnd)} entries in gnd")
    names = query + database
    if twice := len(names) - len(set(names)):
        raise UserError(f"{path}: {twice} names occur twice in qimlist and imlist")
    values = [v for entry in gnd if isinstance(entry, dict) for v in entry.values()]
    lists = [v for v in values if isinstance(v, list)]
    if sum(map(len, lists)) > len(raw):
        raise UserError(f"{path}: the same rows over and over; download it again")
    for name, entry in zip(query, gnd, strict=True):
        _check_query(entry, len(database), f"{path}: query {name}")
    return known


def queries_by_id(known: Map) -> list[Map]:
    """The queries of an official ground truth with their lists by id, as ours have them."""
    database = known["imlist"]
    return [
        {"image_id": name, **{level: [database[i] for i in entry[level]] for level in LEVELS}}
        for name, entry in zip(known["qimlist"], known["gnd"], strict=True)
    ]


def _names(values: Any) -> bool:
    return isinstance(values, list) and bool(values) and all(isinstance(v, str) for v in values)


def _check_query(entry: Any, images: int, where: str) -> None:
    if not isinstance(entry, dict) or not {"bbx", *LEVELS} <= set(entry):
        raise UserError(f"{where}: expected bbx, {', '.join(LEVELS)}; is it the revisited set?")
    for level in LEVELS:
        rows = entry[level]
        if not isinstance(rows, list) or not all(type(row) is int for row in rows):
            raise UserError(f"{where}: {level} is not a list of rows of imlist")
        if odd := [row for row in rows if not 0 <= row < images]:
            raise UserError(f"{where}: {level} has row {odd[0]}, but imlist has {images} images")
    for level, other in combinations(LEVELS, 2):
        if both := set(entry[level]) & set(entry[other]):
            raise UserError(f"{where}: row {min(both)} of imlist is in {level} and in {other}")
    box = entry["bbx"]
    numbers = isinstance(box, list | tuple) and all(isinstance(v, int | float) for v in box)
    if not (numbers and len(box) == 4 and all(map(math.isfinite, box))):
        raise UserError(f"{where}: bbx is not four numbers")
    if box[0] >= box[2] or box[1] >= box[3]:
        raise UserError(f"{where}: bbx {list(box)} is not left, top, right, bottom")
