"""Google Landmarks v2, its clean training part: 1.58 million images of 81,313 landmarks.

Weyand et al. 2020 (arXiv 2004.01804); the clean part after Yokoo et al. 2020 (arXiv 2003.11211).
Expects `train/a/b/c/<id>.jpg` (a, b, c: the first letters of the id) and `train_clean.csv`
(`landmark_id,images`, the ids separated by spaces) in the root or its folder `meta`.
"""

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from ..core.errors import UserError
from ..images import lists
from . import Counts, Training, Watched
from ._images import folder_at, refuse_missing, sample

PUBLISHED = (
    "github.com/cvdfoundation/google-landmark (s3.amazonaws.com/google-landmark: "
    "train/images_000.tar to 499, about 1 GB each, and metadata/train_clean.csv)"
)
WHOLE = (81_313, 1_580_470)  # landmarks and images of the published list
LOOKED_AT = 1000  # images that `status` looks for
LIST = "train_clean.csv"
COLUMNS = ["landmark_id", "images"]
MOST_ID = 2**31 - 1  # groups are int32
# The largest landmark has 10,247 images, 174 kB of ids in one field; the module allows 131 kB.
FIELD_BYTES = 1 << 26


class Settings(BaseModel):
    """Where the images are and which landmarks to learn from."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    root: str = Field(description="folder with train/ and train_clean.csv (or meta/ with it)")
    least: int = Field(ge=1, description="landmarks of fewer images are left out")
    exclude: list[int | str] | str | None = Field(
        default=None,
        description="ids of landmarks, and of images (in quotes), or a file with one a line",
    )


def training(settings: Settings, images: Path) -> Training:
    """The landmarks of the list; the group of an image is its landmark id.

    The images themselves are not looked for: whoever takes their digest does so.
    """
    root = folder_at(settings.root, "datasets.gldv2.root")
    table = _list(root)
    if not (root / "train").is_dir():
        raise UserError(f"{root}: no folder train; expected {root}/train/a/b/c/<id>.jpg")
    exclude, left_out = excluded(settings.exclude)
    image_id: list[str] = []
    landmarks: list[int] = []
    sizes: list[int] = []
    small: list[int] = []
    met: set[int | str] = set()
    for landmark, listed in rows(table):
        ids = [i for i in listed if i not in left_out] if left_out else listed
        met.update(left_out.intersection(listed))
        if landmark in exclude:
            met.add(landmark)
        elif len(ids) < settings.least:
            small.append(len(ids))
        else:
            image_id += ids
            landmarks.append(landmark)
            sizes.append(len(ids))
    return Training(
        root=root,
        image_id=image_id,
        path=[_path(i) for i in image_id],
        group=np.repeat(np.array(landmarks, dtype=np.int32), sizes),
        notes=_notes(settings.least, small, exclude, left_out, met),
    )


def count_training(settings: Settings) -> Counts:
    """The landmarks of the list, whose images are not looked for."""
    listed = training(settings, Path())
    files = sample(listed.root, listed.path)
    return Counts(len(listed.image_id), listed.group, files=files, notes=listed.notes)


def watched(settings: Settings, name: str) -> Watched:
    """The list, the images that it names, the file of ids to exclude."""
    root = folder_at(settings.root, "datasets.gldv2.root")
    table = _list(root)
    seen = [(table.parent, [table.name]), (root, [_path(i) for _, ids in rows(table) for i in ids])]
    if isinstance(settings.exclude, str):
        exclude = Path(settings.exclude).expanduser()
        seen.append((exclude.parent, [exclude.name]))
    return seen


def status(settings: Settings, name: str) -> str:
    """What is in place, in a line: the list, and some images of it. Raises UserError."""
    root = folder_at(settings.root, "datasets.gldv2.root")
    landmarks = [ids for _, ids in rows(_list(root))]
    ids = [i for of_landmark in landmarks for i in of_landmark]
    groups, count = len(landmarks), len(ids)
    some = ids[:: max(len(ids) // LOOKED_AT, 1)]
    refuse_missing(root, [_path(i) for i in some], "of a sample; unpack all of the archives")
    odd = "" if (groups, count) == WHOLE else f" (the published list has {WHOLE[0]} and {WHOLE[1]})"
    return f"{root}: {groups} landmarks, {count} images listed{odd}; {len(some)} looked for, there"


def _path(image_id: str) -> str:
    return f"train/{image_id[0]}/{image_id[1]}/{image_id[2]}/{image_id}.jpg"


def rows(table: Path) -> Iterator[tuple[int, list[str]]]:
    """(landmark id, image ids) of every line. Raises UserError with the number of a bad line."""
    before = csv.field_size_limit(FIELD_BYTES)
    seen: set[int] = set()
    try:
        with open(table, encoding="utf-8-sig", newline="") as file:
            lines = csv.reader(file)
            if next(lines, None) != COLUMNS:
                raise UserError(f"{table}: its first line is not {','.join(COLUMNS)}")
            for fields in lines:
                landmark, ids = _row(fields, f"{table}: line {lines.line_num}")
                if landmark in seen:
                    raise UserError(
                        f"{table}: line {lines.line_num}: landmark {landmark} for a second time"
                    )
                seen.add(landmark)
                yield landmark, ids
    except (csv.Error, UnicodeDecodeError) as error:
        raise UserError(f"{table}: not a table ({error}); download it again") from None
    finally:
        csv.field_size_limit(before)


def excluded(exclude: list[int | str] | str | None) -> tuple[set[int], set[str]]:
    """(landmarks, images) to leave out; in a file one id a line, `#` starts a remark.

    There up to ten digits are a landmark's id; an image's has sixteen, which may be digits too.
    """
    if not isinstance(exclude, str):
        ids = exclude or []
        return {i for i in ids if isinstance(i, int)}, {i for i in ids if isinstance(i, str)}
    path = Path(exclude).expanduser()
    try:
        numbered = [(n, line.split("#")[0].strip()) for n, line in lists.read_lines(path)]
    except UserError as error:
        raise UserError(f"datasets.gldv2.exclude: {error}; one id a line") from None
    lines = [line for _, line in numbered]
    for number, line in numbered:
        if line and not (line.isascii() and line.isalnum()):
            raise UserError(f"{path}: line {number}: {line!r} is no id of a landmark or an image")
    landmarks = {line for line in lines if line.isdigit() and len(line) <= len(str(MOST_ID))}
    return {int(line) for line in landmarks}, {*filter(None, lines)} - landmarks


def _list(root: Path) -> Path:
    for path in (root / LIST, root / "meta" / LIST):
        if path.is_file():
            return path
    raise UserError(f"{root}: no {LIST}, nor meta/{LIST}; it is published with the images")


def _row(fields: list[str], where: str) -> tuple[int, list[str]]:
    if len(fields) != 2 or not (fields[0].isascii() and fields[0].isdigit()):
        raise UserError(f"{where}: expected a landmark id and the ids of its images")
    ids = fields[1].split()
    if int(fields[0]) > MOST_ID:
        raise UserError(f"{where}: landmark {fields[0]} is above {MOST_ID}")
    # an id becomes a path: letters and digits alone, three at least for its folders
    if not "".join(ids).isalnum() or min(map(len, ids)) < 3:
        raise UserError(f"{where}: landmark {fields[0]}: not image ids: {fields[1][:40]!r}")
    return int(fields[0]), ids


def _notes(
    least: int, small: list[int], landmarks: set[int], images: set[str], met: set[int | str]
) -> list[str]:
    """What was left out; `met`: the ids of either kind that the list has."""
    notes = []
    if small:
        notes.append(
            f"{len(small)} landmarks of fewer than {least} images left out ({sum(small)} images)"
        )
    for kind, ids in (("landmarks", landmarks), ("images", images)):
        if ids:
            absent = len(ids) - len(met.intersection(ids))
            odd = f"; {absent} further ids to exclude are not in the list" if absent else ""
            notes.append(f"{len(ids) - absent} {kind} excluded as asked{odd}")
    return notes
