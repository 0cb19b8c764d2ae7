"""A table of one's own images: `path,group,split[,query]`, a line an image.

`path` is relative to the root; `group` is any text, the same for images that show the same, empty
for none; `split` is train or evaluation; `query` is 1 for the queries. Without that column the
first image of each evaluation group is its query.
"""

import csv
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from ..core.errors import UserError
from ..core.plugins import nearest
from . import Counts, Evaluation, NotThere, Training, Watched, _images

COLUMNS = ("path", "group", "split")
OPTIONAL = "query"
SPLITS = ("train", "evaluation")
YES, NO = ("1", "true", "yes"), ("", "0", "false", "no")


class Settings(BaseModel):
    """The table, and the folder that its paths are relative to."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    file: str = Field(description="the table, UTF-8, with a line of column names")
    root: str | None = Field(default=None, description="folder of the paths; null: the table's")


@dataclass(frozen=True)
class Row:
    """One line of the table; `query` is None where the table does not say."""

    path: str
    group: str
    split: str
    query: bool | None


@dataclass(frozen=True)
class Table:
    """The lines whose images can be read, and notes on the others."""

    root: Path
    rows: list[Row]
    skipped: list[str]
    same: list[list[str]]

    def of(self, split: str) -> list[Row]:
        """The lines of one split, in the order of the table."""
        return [row for row in self.rows if row.split == split]


def training(settings: Settings, images: Path) -> Training:
    """The lines with split train."""
    table = read_table(settings)
    rows = table.of("train")
    number = _images.group_numbers(row.group for row in rows if row.group)
    items = len(number) + sum(not row.group for row in rows)
    if items < 2:
        raise UserError(
            f"{settings.file}: {len(rows)} images of split train, of {items} groups; training "
            f"needs two groups at least"
        )
    path = [row.path for row in rows]
    both = sorted(set(number) & {row.group for row in table.of("evaluation")})
    notes = [f"{len(both)} groups are in both splits: {_images.named(both)}"] if both else []
    return Training(
        root=table.root,
        image_id=list(path),
        path=path,
        group=np.array([number.get(row.group, -1) for row in rows], dtype=np.int32),
        notes=[*table.skipped, *notes, *_images.note_copies(table.same, path)],
    )


def evaluation(settings: Settings, images: Path, name: str) -> Evaluation:
    """The lines with split evaluation; a group without a query is made of distractors."""
    table = read_table(settings)
    rows = _with_queries(table.of("evaluation"))
    in_database = Counter(row.group for row in rows if row.group and not row.query)
    # a query whose positives cannot be read is no query, but still an image to be mistaken for one
    groups = {row.group for row in rows if row.query and in_database[row.group]}
    if not groups:
        raise UserError(
            f"evaluation.{name}: {settings.file}: no query with another image of its group in "
            f"split evaluation"
        )
    path = [row.path for row in rows]
    lost = [row.path for row in rows if row.query and row.group not in groups]
    notes = _images.note_copies(table.same, path)
    if lost:
        first = _images.named(lost)
        notes.append(f"{len(lost)} queries have no positives and become distractors: {first}")
    return Evaluation(
        root=table.root,
        image_id=list(path),
        path=path,
        role=[_role(row, groups) for row in rows],
        box=np.full((len(path), 4), np.nan, dtype=np.float32),
        protocol="positives",
        queries=_queries(rows, groups),
        notes=notes,
    )


def count_training(settings: Settings) -> Counts:
    """The lines with split train."""
    _, root, rows = _listed(settings)
    trained = [row for row in rows if row.split == "train"]
    number = _images.group_numbers(row.group for row in trained if row.group)
    group = np.array([number.get(row.group, -1) for row in trained], dtype=np.int32)
    return Counts(len(trained), group, files=_images.sample(root, [row.path for row in trained]))


def count_evaluation(settings: Settings, name: str) -> Counts:
    """The lines with split evaluation."""
    _, root, rows = _listed(settings)
    paths = [row.path for row in rows if row.split == "evaluation"]
    return Counts(len(paths), files=_images.sample(root, paths))


def status(settings: Settings, name: str) -> str:
    """What is in place, in a line; nothing is decoded. Raises UserError as `read_table` does."""
    file, root, rows = _listed(settings)
    split = Counter(row.split for row in rows)
    return f"{file}: {', '.join(f'{split[s]} images of split {s}' for s in SPLITS)}, all there"


def watched(settings: Settings, name: str) -> Watched:
    """The table and the images that it names."""
    file, root = _places(settings)
    paths = _images.as_there(root, [row.path for row in read_rows(file)])
    return [(file.parent, [file.name]), (root, paths)]


def _listed(settings: Settings) -> tuple[Path, Path, list[Row]]:
    """(the table, the folder of its paths, its lines), every path that of a file."""
    file, root = _places(settings)
    rows = list(read_rows(file))
    paths = _images.as_there(root, [row.path for row in rows])
    rows = [replace(row, path=path) for row, path in zip(rows, paths, strict=True)]
    if len(set(paths)) < len(paths):
        twice = [path for path, n in Counter(paths).items() if n > 1]
        raise UserError(f"{file}: {len(twice)} paths occur twice: {_images.named(twice)}")
    _images.refuse_missing(root, paths, f"correct the paths in {file}, or datasets.csv.root")
    return file, root, rows


def _places(settings: Settings) -> tuple[Path, Path]:
    """(the table, the folder of its paths)."""
    file = Path(settings.file).expanduser()
    if not file.is_file():
        raise NotThere(f"datasets.csv.file: {settings.file}: no such file")
    if settings.root is None:
        return file, file.parent
    return file, _images.folder_at(settings.root, "datasets.csv.root")


def read_table(settings: Settings) -> Table:
    """Read the table and look at its images. Raises UserError for a bad line, a missing image
    or one that is in both splits.
    """
    file, root, rows = _listed(settings)
    good, skipped = _images.readable(root, [row.path for row in rows])
    kept = set(good)
    if not kept:
        raise UserError(f"{file}: no images ({'; '.join(skipped) or 'the table is empty'})")
    table = Table(
        root, [row for row in rows if row.path in kept], skipped, _images.copies(root, good)
    )
    learned, scored = ([row.path for row in table.of(split)] for split in SPLITS)
    _images.refuse_shared(root, table.same, learned, scored)
    return table


def read_rows(file: Path) -> Iterator[Row]:
    """The lines of the table, checked. Raises UserError with the number of the line."""
    try:
        with open(file, encoding="utf-8-sig", newline="") as opened:
            lines = csv.DictReader(opened, strict=True)
            _check_columns(lines.fieldnames or (), file)
            for values in lines:
                where = f"{file}: line {lines.line_num}"
                if None in values or None in values.values():
                    raise UserError(f"{where}: not {len(lines.fieldnames or ())} fields")
                path = values.get("path", "")  # names may begin and end with spaces
                yield _row({k: v.strip() for k, v in values.items()} | {"path": path}, where)
    except (csv.Error, UnicodeDecodeError) as error:
        raise UserError(f"{file}: not a table in UTF-8 ({error})") from None


def _check_columns(names: Sequence[str], file: Path) -> None:
    known = (*COLUMNS, OPTIONAL)
    if odd := [name for name in names if name not in known]:
        raise UserError(
            f"{file}: unknown column {odd[0]!r}{nearest(odd[0], known)}; "
            f"expected {','.join(COLUMNS)}[,{OPTIONAL}]"
        )
    if twice := [name for name in known if list(names).count(name) > 1]:
        raise UserError(f"{file}: column {twice[0]!r} occurs twice; keep one")
    if lost := [name for name in COLUMNS if name not in names]:
        raise UserError(f"{file}: no column {lost[0]!r}; expected {','.join(COLUMNS)}[,{OPTIONAL}]")


def _row(values: dict[str, str], where: str) -> Row:
    split, query = values["split"], values.get(OPTIONAL)
    if split not in SPLITS:
        raise UserError(f"{where}: split {split!r}{nearest(split, SPLITS)}; train or evaluation")
    if not values["path"].strip():
        raise UserError(f"{where}: no path")
    if query is not None and query.lower() not in YES + NO:
        raise UserError(f"{where}: query {query!r}; 1 or 0")
    is_query = None if query is None else query.lower() in YES
    if is_query and (split == "train" or not values["group"]):
        raise UserError(f"{where}: a query is of split evaluation and has a group")
    path = PurePosixPath(values["path"]).as_posix()
    return Row(path, values["group"], split, is_query)


def _with_queries(rows: list[Row]) -> list[Row]:
    """The rows with `query` decided: what the table says, else the first of each group."""
    met: set[str] = {""}
    out = []
    for row in rows:
        first = row.group not in met
        met.add(row.group)
        out.append(replace(row, query=first) if row.query is None else row)
    return out


def _role(row: Row, groups: set[str]) -> str:
    if row.group not in groups:
        return "distractor"
    return "query" if row.query else "database"


def _queries(rows: list[Row], groups: set[str]) -> list[dict[str, object]]:
    """Each query with the images of its group that are no queries."""
    members: dict[str, list[str]] = {group: [] for group in groups}
    for row in rows:
        if row.group in groups and not row.query:
            members[row.group].append(row.path)
    return [
        {"image_id": row.path, "positive": list(members[row.group]), "junk": []}
        for row in rows
        if row.query and row.group in groups
    ]
