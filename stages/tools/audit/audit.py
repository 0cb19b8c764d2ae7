"""Let the whitened teachers vote on the labels: suspect pairs to look at, and a corrected CSV.

    whiten-mtd audit OUT

A pair of images of different groups that all teachers call the same, or of one group that all call
different, is a suspect. Suspects are gathered to cases (a part that does not belong to its group;
two groups that look like one), strongest first. Writes `audit.html`, `suspects.csv` (every pair)
and `corrected.csv` (`path,group,split`, the clear cases applied) into OUT. Votes are advice:
near-twins deceive teachers too, so look at the images before you train on it. The teachers are
measured on the labels first; where none reaches 40 mAP nothing is said without `--anyway`. Of
videos the stored frames are compared and middle ones are shown; their paths are those of the
folders of frames.
"""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import typer

from ...core import console, files, params
from ...core.errors import UserError
from ...distill import batches
from ...distill.targets import read_whitened
from ...images.sets import TrainSet
from .. import pages
from . import clear, label_table, votes

app = console.app()
SHOWN = 6  # images of each side of a case on the page


@dataclass(frozen=True)
class Case:
    """One suspicion: `kind` part (the left rows do not belong to the right ones, of one group) or
    same (left and right, two groups, look like one); `share` of their pairs that all vote so."""

    kind: str
    left: np.ndarray
    right: np.ndarray
    share: float
    sure: bool  # strong enough for the corrected CSV


@dataclass(frozen=True)
class Votes:
    """What the teachers say: cases, strongest first, and (p, 2) suspect pairs by kind."""

    cases: list[Case]
    different: np.ndarray
    same: np.ndarray


@app.command()
def main(
    out: Path = typer.Argument(Path("audit"), help="Folder for the page and the tables."),
    teacher: list[str] = typer.Option([], help="Who votes; the ensemble by default."),
    neighbours: float = typer.Option(
        5.0, min=0.01, help="Same: as close as this many images of other groups are, on average."
    ),
    different: float = typer.Option(
        0.8, min=0.01, max=0.999, help="Different: as far as this share of pairs across groups."
    ),
    listed: float = typer.Option(0.5, min=0, max=1, help="Share of pairs that makes a case."),
    apply: float = typer.Option(0.6, min=0, max=1, help="Share at which it corrects the CSV."),
    anyway: bool = typer.Option(False, "--anyway", help="Vote although no teacher is good."),
    shown: int = typer.Option(100, min=0, help="Cases on the page."),
    seed: int = typer.Option(0, min=0, help="Seed of the pairs that the bounds come from."),
    train: Path = typer.Option(Path("data/prepared/train.h5")),
    whitened: Path = typer.Option(Path("data/whitened")),
    params_file: Path = params.OPTION,
    json: bool = typer.Option(False, "--json", help="Print JSON."),
) -> None:
    """Vote on every pair of training images; write a page and a corrected CSV."""
    if out.exists() and not out.is_dir():
        raise UserError(f"{out}: a folder is needed, and this is a file")
    given = params.read(params_file)
    names = voters(given, teacher)
    views = TrainSet.read(train)
    if len(np.unique(views.group[views.group >= 0])) < 2:
        raise UserError(f"{train}: fewer than two groups; there are no labels to vote on")
    rows = [read(whitened / f"{name}.h5", views) for name in names]
    measured = {
        name: clear.leave_one_out(own, views.group, seed)
        for name, own in zip(names, rows, strict=True)
    }
    if not anyway:
        clear.refuse_weak(measured)
    limit = votes.bounds(rows, views.group, neighbours=neighbours, different=different, seed=seed)
    verdicts = vote(rows, views.group, limit, listed=listed, apply=apply)
    table = label_table.Table.read(given, views, train.parent)
    corrected, changes = table.corrected(moves(verdicts, views.group))
    write_pairs(out / "suspects.csv", verdicts, rows, names, table)
    files.write_text(out / "corrected.csv", corrected)
    summary = {
        "noun": "video" if views.videos else "image",
        "images": len(views.group), "groups": len(np.unique(views.group[views.group >= 0])),
        "cases": len(verdicts.cases), "sure": sum(c.sure for c in verdicts.cases),
        "parts": sum(c.kind == "part" for c in verdicts.cases), "changed_images": changes,
        "teachers_map": {name: round(value, 2) for name, value in measured.items()},
        "pairs_different": len(verdicts.different), "pairs_same": len(verdicts.same),
    }  # fmt: skip
    pages.write(
        out / "audit.html", "audit.html", summary=summary, teachers=names,
        cases=[describe(c, rows, views, table) for c in verdicts.cases[:shown]],
        bounds=list(zip(names, limit.same, limit.different, strict=True)),
        neighbours=neighbours, different=different, listed=listed, apply=apply,
    )  # fmt: skip
    console.result(files.to_json(summary).rstrip() if json else as_text(summary, out, table))


def as_text(n: dict[str, Any], out: Path, table: "label_table.Table") -> str:
    """What the teachers say, and where it is written."""
    noun = n["noun"]
    use = "" if noun == "image" else " (dataset csv reads images, not these folders of frames)"
    return (
        f"{clear.in_words(n['teachers_map'])}\n"
        f"{n['images']} {noun}s of {n['groups']} groups: {n['pairs_different']} pairs of one "
        f"group that all teachers call different, {n['pairs_same']} pairs of two groups that all "
        f"call the same; {n['parts']} parts that do not belong, {n['cases'] - n['parts']} pairs of "
        f"groups that look like one\n{out}/audit.html, {out}/suspects.csv\n"
        f"{out}/corrected.csv: {n['changed_images']} {noun}s relabelled by the {n['sure']} "
        f"clear cases; its paths are relative to {table.root}{use}"
    )


def voters(given: params.Parameters, chosen: list[str]) -> list[str]:
    """The teachers that vote. Raises UserError for a name that is none."""
    for name in chosen:
        given.kind(name)
    return chosen or given.ensemble


def read(path: Path, views: TrainSet) -> np.ndarray:
    """(n, d) float16: one row an image, of a teacher's whitened views."""
    return votes.of_images(read_whitened(path, views)["descriptor"], views.spans())


def vote(
    rows: list[np.ndarray], group: np.ndarray, limit: votes.Bounds, *, listed: float, apply: float
) -> Votes:
    """All suspect pairs, and the cases that they make."""
    cases, apart, kept, pairs_within = [], [], 0, 0
    members, fit = _members(group), clear.Fit(rows, group)
    for number, own in members.items():
        different, same = votes.within(rows, own, limit)
        kept, pairs_within = kept + int(same.sum()), pairs_within + len(own) * (len(own) - 1)
        apart.append(own[np.argwhere(np.triu(different))])
        part = votes.odd_part(number, own, different)
        if part is not None and part.share >= listed:
            sure = part.share >= apply and fit.part_is_clear(part.rows, part.rest)
            cases.append(Case("part", part.rows, part.rest, part.share, sure))
    blocks = votes.same_pairs(rows, group, limit)
    total = -(-len(group) // votes.BLOCK_ROWS)
    across = np.concatenate([*console.progress(blocks, total=total, label="comparing groups")])
    # How often pairs that belong together are called the same: what two halves of a group reach.
    typical = kept / max(pairs_within, 1)
    cases += same_cases(across, group, listed * typical, apply, fit)
    cases.sort(key=lambda c: -c.share if c.kind == "part" else -c.share / max(typical, 1e-9))
    return Votes(cases, np.concatenate([np.zeros((0, 2), np.int64), *apart]), across)


def same_cases(
    across: np.ndarray, group: np.ndarray, listed: float, apply: float, fit: clear.Fit
) -> list[Case]:
    """Pairs of groups (or of images without one) of whose pairs enough are called the same."""
    unit = batches.units(group)
    order = np.argsort(unit, kind="stable")
    start = np.searchsorted(unit[order], np.arange(unit.max() + 2))
    keys, counts = np.unique(np.sort(unit[across], axis=1), axis=0, return_counts=True)
    cases = []
    for (a, b), count in zip(keys, counts, strict=True):
        left, right = order[start[a] : start[a + 1]], order[start[b] : start[b + 1]]
        share = count / (len(left) * len(right))
        if share >= max(listed, 1e-9) and (count > 1 or len(left) * len(right) == 1):
            small, big = sorted((left, right), key=len)
            sure = bool(share >= apply) and fit.same_is_clear(small, big)
            cases.append(Case("same", small, big, float(share), sure))
    return cases


def moves(verdicts: Votes, group: np.ndarray) -> list[tuple[np.ndarray, int | None]]:
    """(images, row of an image whose group they join, or None: a group of their own)."""
    out: list[tuple[np.ndarray, int | None]] = []
    touched: set[int] = set()
    for case in verdicts.cases:
        if not case.sure or touched & {int(r) for r in (*case.left, *case.right)}:
            continue
        if case.kind == "same":
            out.append((case.left, int(case.right[0])))
        else:
            out.append((case.left, home(case, verdicts.same, group)))
        touched |= {int(r) for r in case.left}
    return out


def home(case: Case, across: np.ndarray, group: np.ndarray) -> int | None:
    """An image of the group that at least half of a part's pairs are called the same with."""
    in_part = np.isin(across, case.left)
    others = np.concatenate([across[in_part[:, 0], 1], across[in_part[:, 1], 0]])
    numbers, counts = np.unique(group[others], return_counts=True)
    for i in np.argsort(-counts, kind="stable"):
        own = np.flatnonzero(group == numbers[i])
        if numbers[i] >= 0 and counts[i] >= 0.5 * len(case.left) * len(own):
            return int(own[0])
    return None


def describe(
    case: Case, rows: list[np.ndarray], views: TrainSet, table: "label_table.Table"
) -> dict[str, Any]:
    """A case for the page: what it says, its images, each teacher's mean similarity."""
    a, b = np.repeat(case.left, len(case.right)), np.tile(case.right, len(case.left))
    return {
        "kind": case.kind, "sure": case.sure, "share": case.share, "pairs": len(a),
        "group": table.label(int(case.right[0])), "other": table.label(int(case.left[0])),
        "similarity": [float(votes.of_pairs(t, a, b).mean()) for t in rows],
        "left": [_shot(views, int(r)) for r in case.left[:SHOWN]],
        "right": [_shot(views, int(r)) for r in case.right[:SHOWN]],
        "more": [max(len(case.left) - SHOWN, 0), max(len(case.right) - SHOWN, 0)],
    }  # fmt: skip


def write_pairs(
    path: Path,
    verdicts: Votes,
    rows: list[np.ndarray],
    names: list[str],
    table: "label_table.Table",
) -> None:
    """suspects.csv: verdict, both paths and groups, each teacher's similarity."""
    lines = [["verdict", "path", "group", "other_path", "other_group", *names]]
    for verdict, suspects in (("different", verdicts.different), ("same", verdicts.same)):
        sims = [votes.of_pairs(t, suspects[:, 0], suspects[:, 1]) for t in rows]
        for (a, b), *values in zip(suspects.tolist(), *sims, strict=True):
            pair = [table.paths[a], table.names[a], table.paths[b], table.names[b]]
            lines.append([verdict, *pair, *(f"{v:.4f}" for v in values)])
    files.write_text(path, files.to_csv(lines))


def _members(group: np.ndarray) -> dict[int, np.ndarray]:
    """Rows of each group of two images or more."""
    order = np.argsort(group, kind="stable")
    cuts = np.flatnonzero(np.diff(group[order])) + 1
    parts = {int(group[p[0]]): p for p in np.split(order, cuts)}
    return {g: p for g, p in parts.items() if g >= 0 and len(p) > 1}


def _shot(views: TrainSet, row: int) -> dict[str, Any]:
    name = str(views.path[row])
    return {
        "uri": pages.image(views.thumbnail(row)),
        "name": name,
        "note": PurePosixPath(name).name,
    }


if __name__ == "__main__":
    console.main(app)
