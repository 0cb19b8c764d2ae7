"""Write params.yaml from a ready set of parameters.

    whiten-mtd preset demo

`presets/demo.yaml` is the full list. Every other preset is an overlay: the preset it starts from
(`of`) and what differs (`set`: dotted key -> value). A value of `set` replaces the whole value of
that key, a map too; a comment above it replaces the comment there. What the overlay does not name
keeps its text, comments included.
"""

import re
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import typer
from ruamel.yaml import YAML

from ...core import console, files, params
from ...core.errors import UserError
from ...core.plugins import nearest
from ..check_params import forms

app = console.app()
FOLDER = resources.files(f"{params.PACKAGE}.presets")
COMMENT = re.compile(r"\s*#")
HEADING = re.compile(r"\A(#.*\n)*")  # the comment at the top of a preset


@app.command()
def main(
    name: str,
    out: Path = typer.Option(Path("params.yaml"), help="Where to write."),
    force: bool = typer.Option(False, "--force", help="Replace a file that differs."),
) -> None:
    """Write the preset NAME as params.yaml."""
    known = names()
    if name not in known:
        raise UserError(f"no preset {name!r}{nearest(name, known)}: choose from {', '.join(known)}")
    written = text(name)
    check(written, name)
    if out.exists() and out.read_text("utf-8") != written and not force:
        raise UserError(f"{out}: exists and differs; keep a copy and add --force to replace it")
    files.write_text(out, written)
    console.say(f"{out}: preset {name}")


def names() -> list[str]:
    """The presets there are."""
    return sorted(f.name[:-5] for f in FOLDER.iterdir() if f.name.endswith(".yaml"))


def check(written: str, name: str) -> None:
    """Raise UserError where a section, teacher or dataset of a preset is wrong."""
    given = params.of(params.parse(written.encode(), name), Path(f"{name}.yaml"))
    try:
        wrong = [line for good, line in forms(given) if good is False]
    except ModuleNotFoundError:  # without torch the teachers' settings cannot be checked
        return
    if wrong:
        raise UserError(*wrong)


def text(name: str) -> str:
    """The whole file of parameters that the preset `name` stands for, comments included."""
    own = (FOLDER / f"{name}.yaml").read_text("utf-8")
    overlay = YAML().load(own)  # a round trip: it knows the line of every key
    if "of" not in overlay:
        return own
    heading = HEADING.match(own)
    assert heading is not None
    whole = HEADING.sub(lambda _: heading[0], text(overlay["of"]))
    lines = own.splitlines()
    for key in overlay["set"]:
        whole = replaced(whole, key, lines, span(lines, overlay["set"], key))
    return whole


class Span(NamedTuple):
    """Lines of a key: its comment is lines[comment:first], key and value are lines[first:end]."""

    comment: int
    first: int
    end: int


def span(lines: list[str], parent: Any, key: str) -> Span:
    """Where `key` of the map `parent` stands in `lines`, the text that it was loaded from."""
    first, column = parent.lc.key(key)
    comment = first
    while comment > 0 and COMMENT.match(lines[comment - 1]):
        comment -= 1
    end = last = first + 1
    for last, line in _below(lines, first, column):
        if not COMMENT.match(line):
            end = last + 1
    return Span(comment, first, end)


def _below(lines: list[str], first: int, column: int) -> Iterator[tuple[int, str]]:
    """(number, line) of what belongs to the key in line `first`, up to the next key beside it."""
    for number in range(first + 1, len(lines)):
        line = lines[number]
        indent = len(line) - len(line.lstrip())
        is_next = indent < column or (indent == column and not line.lstrip().startswith("- "))
        if line.strip() and not COMMENT.match(line) and is_next:
            return
        if line.strip():
            yield number, line


def replaced(whole: str, key: str, lines: list[str], own: Span) -> str:
    """`whole` with the value of the dotted `key`, and its comment if it has one, out of `lines`."""
    *parents, last = key.split(".")
    parent = YAML().load(whole)
    for name in parents:
        parent = parent[name]
    if last not in parent:
        raise KeyError(key)
    old = whole.splitlines()
    place = span(old, parent, last)
    shift = 2 * len(parents) - _indent(lines[own.first])
    value = [_shifted(line, shift) for line in lines[own.first : own.end]]
    value[0] = value[0].replace(f"{key}:", f"{last}:", 1)
    comment = [_shifted(line, shift) for line in lines[own.comment : own.first]]
    kept = old[place.comment : place.first]
    new = [*old[: place.comment], *(comment or kept), *value, *old[place.end :]]
    return "\n".join(new) + "\n"


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _shifted(line: str, by: int) -> str:
    """`line` further right (or left) by so many spaces."""
    return " " * (_indent(line) + by) + line.lstrip() if line.strip() else line


if __name__ == "__main__":
    console.main(app)
