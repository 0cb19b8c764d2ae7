"""Find the images of an index that are most similar to a query image. No torch is needed.

    whiten-mtd search my-index query.jpg
    whiten-mtd search my-index queries/ --json
    whiten-mtd search my-index query.jpg --html results.html

A query is an image, a folder or list of images, or a descriptor file.
"""

from pathlib import Path
from typing import Any

import numpy as np
import typer

from ...core import console, files
from ...core.errors import UserError
from ...images import listing, own
from ...retrieval.onnx_student import identity_of, refuse_other
from .. import pages
from . import answers, matches
from . import generations as indexes
from .generations import Index

app = console.app()
PAGE_QUERIES = 200  # a page contains every thumbnail of its results


@app.command()
def main(
    index: Path,
    queries: list[Path],
    top: int = typer.Option(10, min=1, max=1000, help="Results per query."),
    model: Path = typer.Option(None, help="An exported student, if the index contains none."),
    json: bool = typer.Option(False, "--json", help="Print JSON."),
    html: Path = typer.Option(None, help="Write a page with images, readable offline."),
) -> None:
    """Search INDEX for QUERIES."""
    if html is not None:
        refuse_page(html)
    opened = indexes.read(index)
    names, rows, left_out = described(opened, queries, model)
    results = [
        {"query": name, **answer}
        for name, answer in zip(names, answers.answers(opened, rows, top), strict=True)
    ]
    calibration = opened.about.get("calibration")
    about = {
        "index": str(index), "generation": opened.generation, "images": len(opened),
        **matches.about(calibration),
    }  # fmt: skip
    if means := matches.words(calibration):
        console.say(means)
    if html is not None:
        files.write_text(html, page(opened, results))
        console.say(f"{html}: {len(results)} queries")
    if json:
        said = {**about, "answers": results, "left_out": left_out}
        console.result(files.to_json(said).rstrip())
    elif html is None or not results:
        console.result(as_text(results, about))


def refuse_page(html: Path) -> None:
    """Raise UserError where the page cannot be written, or would destroy something else."""
    if html.is_dir() or any(p.is_file() for p in html.parents):
        raise UserError(f"--html {html}: cannot be written; give a file such as results.html")
    if any(indexes.is_index(folder) for folder in html.resolve().parents):
        raise UserError(f"--html {html}: lies within an index; give a place outside it")
    pages.is_page(html)


def described(
    index: Index, queries: list[Path], model: Path | None
) -> tuple[list[str], Any, list[str]]:
    """(names, (q, dim) rows, a line on each that cannot be read) of all queries.

    Raises UserError where none can be read.
    """
    names: list[str] = []
    left_out: list[str] = []
    rows: list[np.ndarray] = []
    net = None
    for query in queries:
        if answers.is_descriptors(query):
            stored, query_rows, ids = answers.ready(query, index.about["dim"])
            refuse_other(index.student, identity_of(stored), str(index.folder), str(query))
            names += ids
            rows.append(query_rows)
            continue
        net = net or answers.student_of(index, model)
        # A single file is an image, whatever its suffix, unless it is a list.
        single = query.is_file() and query.suffix.lower() != ".txt"
        root, paths = (query.parent, [query.name]) if single else listing.listed(query)
        query_rows, kept, errors = net.images([root / p for p in paths])
        left_out += errors
        names += [str(root / paths[i]) for i in kept]
        rows.append(query_rows)
    if left_out and not names:
        raise UserError(left_out[0])
    own.tell_left_out(left_out, len(left_out) + len(names), "queries")
    return names, np.concatenate(rows), left_out


def as_text(results: list[dict[str, Any]], about: dict[str, Any]) -> str:
    """Rank, score, match (= or, where many are wrong, ?) and path of every result, by query."""
    lines = []
    match = "   match" if about["reliable"] else "   perhaps a match"
    for answer in results:
        verdict = {None: "", True: match, False: "   no match"}[
            answer["match"] if about["usable"] else None
        ]
        lines.append(f"{console.clean(answer['query'])}{verdict}")
        for rank, r in enumerate(answer["results"], 1):
            mark = ("=" if about["reliable"] else "?") if r["match"] and about["usable"] else " "
            path = console.clean(r["path"])
            lines.append(f"{rank:5} {r['score']:8.4f} {mark} {path}")
    return "\n".join(lines)


def page(index: Index, results: list[dict[str, Any]]) -> str:
    """A self-contained page: each query and its results as thumbnails."""
    if len(results) > PAGE_QUERIES:
        raise UserError(f"--html: {len(results)} queries; a page takes {PAGE_QUERIES} at most")
    shown = [
        {
            **answer,
            "image": _large(answer["query"]),
            "results": [{**r, "image": _large(r["file"])} for r in answer["results"]],
        }
        for answer in results
    ]
    calibration = index.about.get("calibration")
    return pages.render(
        "search.html", answers=shown, index=str(index.folder), generation=index.generation,
        images=len(index), calibration=calibration,
        means=matches.words(calibration), **matches.about(calibration),
    )  # fmt: skip


def _large(file: str) -> str | None:
    return pages.image(Path(file), px=pages.LARGE_PX)


if __name__ == "__main__":
    console.main(app)
