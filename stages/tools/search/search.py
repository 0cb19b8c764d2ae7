"""Find the images of an index that show what an image shows. No torch is needed.

    whiten-mtd search my-index query.jpg
    whiten-mtd search my-index queries/ --json
    whiten-mtd search my-index query.jpg --html found.html

A query is an image, a folder or list of images, or a descriptor file.
"""

from pathlib import Path
from typing import Any

import numpy as np
import typer

from ...core import console, files
from ...core.errors import UserError
from ...images import listing
from ...retrieval.onnx_student import identity_of, refuse_other
from .. import pages
from . import answers
from . import generations as indexes
from .generations import Index

app = console.app()
PAGE_QUERIES = 200  # a page holds every thumbnail of its results


@app.command()
def main(
    index: Path,
    queries: list[Path],
    top: int = typer.Option(10, min=1, max=1000, help="Results of each query."),
    model: Path = typer.Option(None, help="An exported student, where the index has none in it."),
    json: bool = typer.Option(False, "--json", help="Print JSON."),
    html: Path = typer.Option(None, help="Write a page with images, readable offline."),
) -> None:
    """Search INDEX for QUERIES."""
    if html is not None and (html.is_dir() or any(p.is_file() for p in html.parents)):
        raise UserError(f"--html {html}: no place for a file; give one like found.html")
    found = indexes.read(index)
    paths, rows = described(found, queries, model)
    said = [
        {"query": str(file), **answer}
        for file, answer in zip(paths, answers.answers(found, rows, top), strict=True)
    ]
    about = {
        "index": str(index), "generation": found.generation, "images": len(found),
        "threshold": (found.about.get("calibration") or {}).get("threshold"),
    }  # fmt: skip
    if html is not None:
        files.write_text(html, page(found, said))
        console.say(f"{html}: {len(said)} queries")
    if json:
        console.result(files.to_json({**about, "answers": said}).rstrip())
    elif html is None or not said:
        console.result(as_text(said))


def described(found: Index, queries: list[Path], model: Path | None) -> tuple[list[str], Any]:
    """(names, (q, dim) rows) of all queries. Raises UserError where one cannot be read."""
    names: list[str] = []
    rows: list[np.ndarray] = []
    net = None
    for query in queries:
        if query.suffix == ".h5":
            stored, own, ids = answers.ready(query, found.about["dim"])
            refuse_other(found.student, identity_of(stored), str(found.folder), str(query))
            names += ids
            rows.append(own)
            continue
        net = net or answers.student_of(found, model)
        # A single file is an image whatever it is called, unless it is a list.
        single = query.is_file() and query.suffix.lower() != ".txt"
        root, paths = (query.parent, [query.name]) if single else listing.listed(query)
        own, kept, errors = net.images([root / p for p in paths])
        if errors:
            raise UserError(errors[0])
        names += [str(root / paths[i]) for i in kept]
        rows.append(own)
    return names, np.concatenate(rows)


def as_text(said: list[dict[str, Any]]) -> str:
    """Rank, score, match and path of every result, a block a query."""
    lines = []
    for answer in said:
        verdict = {None: "", True: "   match", False: "   no match"}[answer["match"]]
        lines.append(f"{answer['query']}{verdict}")
        for rank, r in enumerate(answer["results"], 1):
            mark = "=" if r["match"] else " "
            lines.append(f"{rank:5} {r['score']:8.4f} {mark} {r['path']}")
    return "\n".join(lines)


def page(found: Index, said: list[dict[str, Any]]) -> str:
    """A self-contained page: each query and its results as thumbnails."""
    if len(said) > PAGE_QUERIES:
        raise UserError(f"--html: {len(said)} queries are too many for a page; {PAGE_QUERIES} fit")
    shown = [
        {
            **answer,
            "image": _large(answer["query"]),
            "results": [{**r, "image": _large(r["file"])} for r in answer["results"]],
        }
        for answer in said
    ]
    return pages.render(
        "search.html", answers=shown, index=str(found.folder), generation=found.generation,
        images=len(found), calibration=found.about.get("calibration"),
    )  # fmt: skip


def _large(file: str) -> str | None:
    return pages.image(Path(file), px=pages.LARGE_PX)


if __name__ == "__main__":
    console.main(app)
