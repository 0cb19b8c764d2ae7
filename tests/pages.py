"""README and docs as text: their command blocks, their commands, their figures and footnotes."""

import datetime
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from project import ROOT
from ruamel.yaml import YAML

# Every page with commands, CONTRIBUTING among them; figures are held to on all but the changelog.
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.S | re.M)
BLOCK = re.compile(r"(?:<!-- (run|not run: [^>]*\w[^>]*) -->\n)?```(\w*)\n(.*?)^```$", re.S | re.M)
COMMAND = re.compile(r"`((?:whiten-mtd|dvc|make) [^`]+)`")
NUMBER = r"\d[\d,]*(?:\.\d+)?(?:e-\d+)?"
# What counts as a measured figure: a decimal, a power of ten, or a number with one of these units.
UNITS = r"%|mAP|points?|s|seconds|min|minutes|h|hours|ms|milliseconds|[KMGT]i?B|megabytes|million"
FIGURE = re.compile(
    rf"(?<![\w.,-])(?:(\d[\d,]*\.\d+(?:e-\d+)?|\d+e-\d+)|({NUMBER})\s(?:{UNITS}))(?!\w)"
)
NOT_MEASURED = re.compile(r"Python 3\.\d+|\([^()]*20\d\d\)|about 30 seconds")


@dataclass(frozen=True)
class Block:
    """A fenced block: what its comment says ("" where there is none), its language, its text."""

    mark: str
    language: str
    text: str

    def lines(self) -> list[str]:
        """Its commands, without remarks."""
        found = (line.split(" #")[0].strip() for line in self.text.splitlines())
        return [line for line in found if line and not line.startswith("#")]


def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    return [Block(*(g or "" for g in m.groups())) for m in BLOCK.finditer(page.read_text("utf-8"))]


def commands() -> list[str]:
    """Every command of every page: lines of blocks, code in sentences, and those of the figures."""
    found = {
        line for page in PAGES for b in blocks(page) if b.language == "bash" for line in b.lines()
    }
    return sorted(found | set(in_sentences()) | {f["command"] for f in figures().values()})


def in_sentences() -> list[str]:
    """Commands between backticks in running text."""
    return [
        " ".join(command.split())
        for page in PAGES
        for command in COMMAND.findall(FENCE.sub("", page.read_text("utf-8")))
    ]


def words_of(command: str) -> list[str]:
    """A command's words; without `time` and the variables that are set before it."""
    words = shlex.split(command)
    while words[0] == "time" or re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words = words[1:]
    return words


def figures() -> dict[str, Any]:
    """docs/figures.yaml: name -> command, date, machine (in words), values."""
    found = YAML(typ="safe").load((ROOT / "docs/figures.yaml").read_text("utf-8"))
    return {
        name: {**entry, "machine": found["machines"][entry["machine"]]}
        for name, entry in found["figures"].items()
    }


def numbers(text: str) -> set[float]:
    """All numbers in a text."""
    return {float(x.replace(",", "")) for x in re.findall(NUMBER, text)}


def footnote(name: str) -> str:
    """The line that says where the figure `name` is from."""
    entry = figures()[name]
    assert isinstance(entry["date"], datetime.date)
    day = f"{entry['date'].day} {entry['date']:%B %Y}"
    return f"[^{name}]: `{entry['command']}`, {day}, {entry['machine']}."


def paragraphs(page: Path) -> Iterator[str]:
    """Pieces of a page that cite together: a paragraph or an item, with what it introduces.

    A table or an output belongs to the paragraph above it; commands and footnotes are left out.
    """
    text = re.sub(r"<!--.*?-->", "", page.read_text("utf-8"), flags=re.S)
    text = re.sub(r"^\[\^[\w-]+\]: .*$", "", text, flags=re.M)
    text = BLOCK.sub(lambda m: m[3].replace("\n\n", "\n") if m[2] == "text" else "", text)
    pieces: list[str] = []
    for piece in re.split(r"\n\s*\n|\n(?=[*-] |\d+\. )", text):
        if pieces and (
            piece.startswith("|") or piece.startswith("\n|") or "mAP in percent " in piece
        ):
            pieces[-1] += "\n" + piece
        else:
            pieces.append(piece)
    yield from pieces


def measured(paragraph: str) -> set[float]:
    """The figures of a paragraph: numbers that only a run can give. Code does not count."""
    text = NOT_MEASURED.sub("", re.sub(r"`[^`]*`", "", paragraph))
    text = re.sub(r"\[\^[\w-]+\]", "", text)
    return {float((a or b).replace(",", "")) for a, b in FIGURE.findall(text)}


def cited(paragraph: str) -> set[str]:
    """Names of the footnotes that a paragraph cites."""
    return set(re.findall(r"\[\^([\w-]+)\]", paragraph))
