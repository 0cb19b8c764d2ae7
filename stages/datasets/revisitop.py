"""Revisited Oxford and Paris, and the million distractors: Radenovic et al. 2018, 1803.11285.

The name of the set in section `evaluation` is the name of its folder below the root:

    <root>/roxford5k/gnd_roxford5k.pkl     <root>/roxford5k/jpg/<name>.jpg
    <root>/rparis6k/gnd_rparis6k.pkl       <root>/rparis6k/jpg/<name>.jpg
    <root>/revisitop1m/revisitop1m.txt     <root>/revisitop1m/jpg/<line of the list>

A folder with a ground truth asks; one with a list alone is a set of distractors.
"""

import io
import math
import pickle
import pickletools
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
    """Where the sets are, and what of a query's image is asked."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    root: str = Field(description="folder that holds roxford5k/, rparis6k/ and revisitop1m/")
    crop_queries: bool = Field(description="cut queries to their box, as the protocol says")


def evaluation(settings: Settings, images: Path, name: str) -> Evaluation:
    """The set `name`: queries and database, or distractors."""
    root = folder_at(settings.root, "datasets.revisitop.root")
    folder = root / name
    truth, listed = folder / f"gnd_{name}.pkl", folder / f"{name}.txt"
    if truth.is_file():
        return _questions(folder, truth, settings.crop_queries)
    if listed.is_file():
        return _distractors(folder, listed)
    folders = sorted(f.name for f in root.iterdir() if f.is_dir())
    raise UserError(
        f"evaluation.{name}: neither {truth} nor {listed}{nearest(name, folders)}; "
        f"the folders of {root}: {', '.join(folders) or 'none'}"
    )


def watched(settings: Settings, name: str) -> Watched:
    """The ground truth or list of the set `name`, and its images."""
    folder = folder_at(settings.root, "datasets.revisitop.root") / name
    truth, listed = folder / f"gnd_{name}.pkl", folder / f"{name}.txt"
    if truth.is_file():
        known = ground_truth(truth)
        return [
            (folder, [truth.name, *(f"jpg/{n}.jpg" for n in known["qimlist"] + known["imlist"])])
        ]
    return [(folder, [listed.name, *(f"jpg/{n}" for n in _list(listed))])]


def status(settings: Settings, name: str) -> str:
    """What is in place of the set `name`, in a line; nothing is decoded. Raises UserError."""
    folder = folder_at(settings.root, "datasets.revisitop.root") / name
    truth, listed = folder / f"gnd_{name}.pkl", folder / f"{name}.txt"
    if truth.is_file():
        known = ground_truth(truth)
        names = [f"jpg/{n}.jpg" for n in known["qimlist"] + known["imlist"]]
        refuse_missing(folder, names, f"unpack them into {folder}/jpg, without sub-folders")
        counts = (len(known["qimlist"]), len(known["imlist"]))
        whole = WHOLE.get(name, counts)
        odd = "" if counts == whole else f" (the published set has {whole[0]} and {whole[1]})"
        return f"{folder}: {counts[0]} queries, {counts[1]} images, all there{odd}"
    if not listed.is_file():
        raise UserError(f"{folder}: neither {truth.name} nor {listed.name}")
    paths = [f"jpg/{n}" for n in _list(listed)]
    some = paths[:: max(len(paths) // LOOKED_AT, 1)]
    refuse_missing(folder, some, "of a sample; unpack all of the archives")
    return f"{folder}: {len(paths)} distractors listed; {len(some)} looked for, there"


def count_evaluation(settings: Settings, name: str) -> Counts:
    """Queries and database of the set `name`, or its distractors, as they are listed."""
    folder = folder_at(settings.root, "datasets.revisitop.root") / name
    truth, listed = folder / f"gnd_{name}.pkl", folder / f"{name}.txt"
    if truth.is_file():
        known = ground_truth(truth)
        paths = [f"jpg/{n}.jpg" for n in known["qimlist"] + known["imlist"]]
    elif listed.is_file():
        paths = [f"jpg/{n}" for n in _list(listed)]
    else:
        raise UserError(f"{folder}: neither {truth.name} nor {listed.name}")
    return Counts(len(paths), files=sample(folder, paths))


def _questions(folder: Path, truth: Path, crop: bool) -> Evaluation:
    """Queries first, then the database, as the ground truth lists them."""
    known = ground_truth(truth)
    database, asked = known["imlist"], known["qimlist"]
    image_id = asked + database
    path = [f"jpg/{name}.jpg" for name in image_id]
    refuse_missing(folder, path, f"unpack them into {folder}/jpg, without sub-folders")
    good = set(_whole(folder, path))
    if cut := [p for p in path if p not in good]:
        raise UserError(
            f"{folder}: {len(cut)} of {len(path)} images are truncated: {named(cut)}; unpack the "
            "archives again"
        )
    box = np.full((len(image_id), 4), np.nan, dtype=np.float32)
    if crop:
        box[: len(asked)] = [one["bbx"] for one in known["gnd"]]
    whole = "cut to their boxes" if crop else "whole images, not as the protocol says"
    return Evaluation(
        root=folder,
        image_id=image_id,
        path=path,
        role=["query"] * len(asked) + ["database"] * len(database),
        box=box,
        protocol="revisitop",
        queries=questions(known),
        notes=[f"queries: {whole}"],
    )


def _distractors(folder: Path, listed: Path) -> Evaluation:
    """The images of the list; those whose files end too soon are left out and counted."""
    names = _list(listed)
    refuse_missing(folder, [f"jpg/{name}" for name in names], f"unpack them into {folder}/jpg")
    whole = _whole(folder / "jpg", names)
    notes = []
    if len(whole) < len(names):
        kept = set(whole)
        cut = [name for name in names if name not in kept]
        notes.append(f"{len(cut)} of {len(names)} left out, truncated: {named(cut)}")
    return Evaluation(
        root=folder,
        image_id=whole,
        path=[f"jpg/{name}" for name in whole],
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
    database, asked, gnd = known["imlist"], known["qimlist"], known["gnd"]
    if not (_names(database) and _names(asked) and isinstance(gnd, list)):
        raise UserError(f"{path}: imlist and qimlist should be lists of names, gnd a list of maps")
    if len(asked) != len(gnd):
        raise UserError(f"{path}: {len(asked)} queries, but answers to {len(gnd)}")
    names = asked + database
    if twice := len(names) - len(set(names)):
        raise UserError(f"{path}: {twice} names occur twice in qimlist and imlist")
    lists = [v for one in gnd if isinstance(one, dict) for v in one.values() if isinstance(v, list)]
    if sum(map(len, lists)) > len(raw):
        raise UserError(f"{path}: the same rows over and over; download it again")
    for name, one in zip(asked, gnd, strict=True):
        _check_query(one, len(database), f"{path}: query {name}")
    return known


def questions(known: Map) -> list[Map]:
    """The queries of an official ground truth with their answers by id, as ours have them."""
    database = known["imlist"]
    return [
        {"image_id": name, **{level: [database[i] for i in one[level]] for level in LEVELS}}
        for name, one in zip(known["qimlist"], known["gnd"], strict=True)
    ]


def _names(values: Any) -> bool:
    return isinstance(values, list) and bool(values) and all(isinstance(v, str) for v in values)


def _check_query(one: Any, images: int, where: str) -> None:
    if not isinstance(one, dict) or not {"bbx", *LEVELS} <= set(one):
        raise UserError(f"{where}: expected bbx, {', '.join(LEVELS)}; is it the revisited set?")
    for level in LEVELS:
        rows = one[level]
        if not isinstance(rows, list) or not all(type(row) is int for row in rows):
            raise UserError(f"{where}: {level} is not a list of rows of imlist")
        if odd := [row for row in rows if not 0 <= row < images]:
            raise UserError(f"{where}: {level} has row {odd[0]}, but imlist has {images} images")
    for level, other in combinations(LEVELS, 2):
        if both := set(one[level]) & set(one[other]):
            raise UserError(f"{where}: row {min(both)} of imlist is in {level} and in {other}")
    box = one["bbx"]
    numbers = isinstance(box, list | tuple) and all(isinstance(v, int | float) for v in box)
    if not (numbers and len(box) == 4 and all(map(math.isfinite, box))):
        raise UserError(f"{where}: bbx is not four numbers")
    if box[0] >= box[2] or box[1] >= box[3]:
        raise UserError(f"{where}: bbx {list(box)} is not left, top, right, bottom")
