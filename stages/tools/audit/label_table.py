"""A training set's labels as a table of dataset `csv`, with corrections."""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from ...core import files
from ...core.errors import UserError
from ...core.params import Parameters
from ...images.sets import EvaluationSet, TrainSet
from ...retrieval.ground_truth import GroundTruth

Line = list[str]  # path, group, split and, where the table had it, query


@dataclass(frozen=True)
class Table:
    """The lines to write; `names` (n,) the label of each training image, by its row."""

    root: Path
    columns: Line
    lines: list[Line]
    names: list[str]
    paths: list[str]

    @classmethod
    def read(cls, given: Parameters, views: TrainSet, prepared: Path) -> "Table":
        """Of dataset csv its own table, else the images of the training and validation groups."""
        paths = [str(p) for p in views.path]
        if given.training_set == "csv":
            root, columns, lines = _own_table(given)
            group = {line[0]: line[1] for line in lines}
            names = [group.get(p, "") for p in paths]
            return cls(root, columns, lines, names, paths)
        names = _names(paths, views.group)
        lines = [[p, g, "train"] for p, g in zip(paths, names, strict=True)]
        return cls(
            views.root, ["path", "group", "split"], lines + _validation(prepared), names, paths
        )

    def label(self, row: int) -> str:
        """The name of the group of a training image."""
        return self.names[row] or "no group"

    def corrected(self, moves: list[tuple[np.ndarray, int | None]]) -> tuple[str, int]:
        """(the table as CSV, images whose group changed); `moves`: rows, and a row whose group
        they join, or None for a group of their own (a single image gets none)."""
        new: dict[str, str] = {}
        taken = set(self.names)
        for rows, target in moves:
            if target is not None:
                name = new.get(self.paths[target], self.names[target])
            else:
                name = _free(self.names[int(rows[0])], taken) if len(rows) > 1 else ""
            taken.add(name)
            new |= {self.paths[int(r)]: name for r in rows}
        lines = [[path, new.get(path, group), *rest] for path, group, *rest in self.lines]
        return files.to_csv([self.columns, *lines]), len(new)


def _own_table(given: Parameters) -> tuple[Path, Line, list[Line]]:
    from ... import datasets

    module, settings = datasets.load("csv", "training", given)
    table = module.read_table(settings)
    asks = any(row.query is not None for row in table.rows)
    lines = [[r.path, r.group, r.split, *([str(int(r.query))] if asks else [])] for r in table.rows]
    return table.root, ["path", "group", "split", *(["query"] if asks else [])], lines


def _names(paths: list[str], group: np.ndarray) -> list[str]:
    """The folder of a group where it has one of its own, else its number; empty for none."""
    folders: dict[int, set[str]] = {}
    groups: dict[str, set[int]] = {}
    for path, g in zip(paths, group.tolist(), strict=True):
        folder = PurePosixPath(path).parent.as_posix()
        folders.setdefault(g, set()).add(folder)
        groups.setdefault(folder, set()).add(g)
    own = {
        g: next(iter(f))
        for g, f in folders.items()
        if len(f) == 1 and "." not in f and all(len(groups[x]) == 1 for x in f)
    }
    return ["" if g < 0 else own.get(g, f"group {g}") for g in group.tolist()]


def _validation(prepared: Path) -> list[Line]:
    """The images of the validation groups, as training images again, by their folders."""
    if not (prepared / "validation.h5").is_file():
        return []
    validation = EvaluationSet.read(prepared / "validation.h5")
    where = prepared / "validation.json"
    truth = files.read_json(where)
    protocol = GroundTruth.parse(truth, validation.image_id, str(where)).protocol
    if "positive" not in protocol.lists:
        raise UserError(f"{where}: of protocol {protocol.name}, not of validation groups")
    number: dict[str, int] = {}
    for query in truth["queries"]:
        mine = len(number)
        for image_id in (query["image_id"], *query["positive"]):
            number.setdefault(str(image_id), number.get(str(query["image_id"]), mine))
    group = np.array([number.get(str(i), -1) for i in validation.image_id], dtype=np.int64)
    paths = [str(p) for p in validation.path]
    names = [n.replace("group ", "validation group ") for n in _names(paths, group)]
    return [[p, n, "train"] for p, n in zip(paths, names, strict=True)]


def _free(name: str, taken: set[str]) -> str:
    number = 2
    while f"{name} ({number})" in taken:
        number += 1
    return f"{name} ({number})"
