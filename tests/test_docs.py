"""README and docs: commands known and run as written, figures with their source, a site offline.

A block of commands has a line above it: `<!-- run -->` (it is executed here, in the finished tiny
world) or `<!-- not run: the reason -->`. A measured figure cites a footnote of docs/figures.yaml.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pages
import pytest
import typer
from project import ENVIRONMENT, ROOT, run

from stages.__main__ import MODULES
from stages.core import params
from stages.tools import check_params

COMMANDS = pages.commands()
WITH_FIGURES = [p for p in pages.PAGES if p.name not in ("changelog.md", "cases.md")]
README = ROOT / "README.md"
RUN = [p for p in pages.PAGES[1:] if any(b.mark == "run" for b in pages.blocks(p))]


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def of(word: str) -> list[str]:
    return [c for c in COMMANDS if pages.words_of(c)[0] == word]


@pytest.mark.parametrize("page", pages.PAGES, ids=name_of)
def test_every_block_of_commands_says_whether_it_is_run(page: Path) -> None:
    unmarked = [
        b.text for b in pages.blocks(page) if b.language in ("bash", "python") and not b.mark
    ]
    assert unmarked == []
    marked = len(re.findall(r"^<!-- (?:run|not run: )", page.read_text("utf-8"), re.M))
    assert marked == sum(bool(b.mark) for b in pages.blocks(page)), "a mark without a block"


@pytest.mark.parametrize("command", of("whiten-mtd"))
def test_the_command_and_its_options_exist(command: str) -> None:
    name, *arguments = pages.words_of(command)[1:]
    if name == "--help":
        return
    assert name in MODULES
    app = typer.main.get_command(import_module(f"stages.{MODULES[name]}").app)
    if arguments or command not in pages.in_sentences():  # a mere name in a sentence
        app.make_context(name, arguments)


@pytest.mark.parametrize("command", [c for c in of("dvc") if " -S " in c])
def test_overrides_are_keys_of_params(command: str, tmp_path: Path) -> None:
    from dvc.utils.hydra import apply_overrides, get_hydra_sweeps

    words = shlex.split(command.split("&&")[0])
    overrides = [words[i + 1] for i, word in enumerate(words) if word == "-S"]
    for sweep in get_hydra_sweeps({"p.yaml": overrides}):
        shutil.copy(ROOT / "params.yaml", tmp_path / "p.yaml")
        apply_overrides(tmp_path / "p.yaml", sweep["p.yaml"])
        wrong = [
            what
            for good, what in check_params.forms(params.read(tmp_path / "p.yaml"))
            if good is False
        ]
        assert wrong == [], wrong


@pytest.mark.parametrize("command", of("make"))
def test_the_target_exists(command: str) -> None:
    targets = re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text("utf-8"), re.M)
    words = pages.words_of(command)[1:]
    assert words[0] in targets or (ROOT / words[0]).is_file()


def test_every_other_line_is_one_that_anybody_knows() -> None:
    known = {"whiten-mtd", "dvc", "make", "git", "source", "pip", "du", "python", "cd"}
    assert {pages.words_of(c)[0] for c in COMMANDS} <= known


@pytest.mark.parametrize("page", WITH_FIGURES, ids=name_of)
def test_every_figure_has_its_command_and_date(page: Path) -> None:
    figures = pages.figures()
    for paragraph in pages.paragraphs(page):
        allowed = {
            number
            for name in pages.cited(paragraph)
            for value in figures[name]["values"]
            for number in pages.numbers(str(value))
        }
        without = pages.measured(paragraph) - allowed
        assert not without, f"no footnote of this paragraph gives {sorted(without)}:\n{paragraph}"


def test_a_figure_without_a_source_is_seen() -> None:
    seen = pages.measured("It takes 3 min, 1.5 GB, 1,234.5 units and 2e-6; 8 points; 99 %.")
    assert seen == {3, 1.5, 1234.5, 2e-6, 8, 99}
    assert (
        pages.measured("Python 3.11, `0.5`, 224 pixels, 2 cores, five seeds (AAAI 2024)") == set()
    )


@pytest.mark.parametrize("page", WITH_FIGURES, ids=name_of)
def test_footnotes_say_what_the_list_says(page: Path) -> None:
    text = page.read_text("utf-8")
    names = {n for paragraph in pages.paragraphs(page) for n in pages.cited(paragraph)}
    written = sorted(re.findall(r"^\[\^[\w-]+\]: .*$", text, re.M))
    assert written == sorted(pages.footnote(n) for n in names)


def test_every_value_of_the_list_is_used() -> None:
    used: dict[str, set[float]] = {name: set() for name in pages.figures()}
    for page in WITH_FIGURES:
        for paragraph in pages.paragraphs(page):
            for name in pages.cited(paragraph):
                used[name] |= pages.numbers(re.sub(r"`[^`]*`", "", paragraph))
    for name, entry in pages.figures().items():
        left = {x for v in entry["values"] for x in pages.numbers(str(v))} - used[name]
        assert not left, f"figures.yaml: {name}: in no text: {sorted(left)}"


@pytest.mark.parametrize("page", pages.PAGES, ids=name_of)
def test_links_lead_to_files(page: Path) -> None:
    text = pages.FENCE.sub("", page.read_text("utf-8"))
    for link in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        assert link.startswith("http") or (page.parent / link).is_file(), link


OLD_WORDS = r"pictures?|trunks?|licences?|gallery|asks|lonely"  # glossary.md has the new ones


@pytest.mark.parametrize("page", pages.PAGES, ids=name_of)
def test_words_are_those_of_the_glossary(page: Path) -> None:
    assert re.findall(rf"\b(?:{OLD_WORDS})\b", page.read_text("utf-8"), re.I) == []


def test_readme_is_a_page() -> None:
    assert len(README.read_text("utf-8").splitlines()) <= 150


def test_every_variable_of_the_machine_is_in_the_table() -> None:
    table = set(
        re.findall(r"^\| `(WHITEN_MTD_\w+)`", (ROOT / "docs/knobs.md").read_text("utf-8"), re.M)
    )
    code = "\n".join(f.read_text("utf-8") for f in (ROOT / "stages").rglob("*.py"))
    assert table == set(re.findall(r"WHITEN_MTD_[A-Z_]*[A-Z]", code))


def test_files_of_the_table_are_written(project: Path) -> None:
    table = (
        (ROOT / "docs/files.md").read_text("utf-8").split("| file | holds |")[1].split("\n\n")[0]
    )
    names = re.findall(r"^\| `([^`]+)`", table, re.M)
    assert len(names) >= 10
    for name in names:
        pattern = name.replace("<teacher>", "a").replace("<model>", "student")
        pattern = pattern.replace("<set>", "demo").replace("<frame>", "raw")
        assert (project / pattern).exists(), name


def test_site_is_whole_and_asks_nothing_of_the_network(tmp_path: Path) -> None:
    """`make docs`: no dead link or anchor, and no page that loads anything from elsewhere."""
    run("mkdocs", "build", "--strict", "--quiet", "-d", str(tmp_path / "site"), cwd=ROOT)
    built = sorted((tmp_path / "site").rglob("*.html"))
    assert len(built) >= len(list((ROOT / "docs").glob("*.md")))
    for page in built:
        html = page.read_text("utf-8")
        loaded = re.findall(
            r"<(?:link|script|img|iframe)[^>]*?(?:href|src)=[\"']?([^\"' >]+)", html
        )
        assert loaded and not [x for x in loaded if x.startswith(("http:", "https:", "//"))], page
        assert "[^" not in re.sub(r"<code.*?</code>", "", html, flags=re.S), (
            f"{page}: a dead footnote"
        )


@pytest.fixture
def reader(world: Path) -> Path:
    """The finished tiny world as a reader of the pages has it: images, queries, commands."""
    run("git", "init", "-q", cwd=world)
    shutil.copytree(world / "data/prepared/images", world / "my/images")
    images = sorted((world / "my/images").rglob("*.jpg"))
    shutil.copy(images[0], world / "query.jpg")
    for folder in ("queries", "more/other"):
        (world / folder).mkdir(parents=True)
        for image in images[1:3]:
            shutil.copy(image, world / folder)
    # The tiny world has a single validation group, which tells `calibrate` nothing.
    prepared = world / "data/prepared"
    shutil.copy(prepared / "evaluation/demo.h5", prepared / "validation.h5")
    truth = json.loads((prepared / "evaluation/demo.json").read_text("utf-8"))
    truth["protocol"] = "positives"
    for query in truth["queries"]:
        query["positive"] = query.pop("easy") + query.pop("hard")
    (prepared / "validation.json").write_text(json.dumps(truth), "utf-8")
    command = world / "bin/whiten-mtd"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m stages "$@"\n')
    command.chmod(0o755)
    (world / "whiten_mtd").symlink_to("stages")  # the name under which the package is installed
    return world


def executed(folder: Path, block: pages.Block) -> str:
    """Run a block as it is written; what it printed."""
    program = (
        [sys.executable, "-c"] if block.language == "python" else ["bash", "-euo", "pipefail", "-c"]
    )
    path = (
        f"{folder / 'bin'}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    )
    done = subprocess.run(
        [*program, block.text], cwd=folder, env={**os.environ, **ENVIRONMENT, "PATH": path, "PYTHONPATH": "."},
        capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, f"{block.text}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.mark.long
@pytest.mark.parametrize("page", RUN, ids=name_of)
def test_blocks_marked_run_do_what_they_say(page: Path, reader: Path) -> None:
    for block in pages.blocks(page):
        if block.mark == "run":
            executed(reader, block)


@pytest.mark.long
def test_the_walk_of_the_readme_finds_the_query_itself(reader: Path) -> None:
    for block in pages.blocks(README):
        if block.mark == "run":
            executed(reader, block)
    assert (reader / "report.html").is_file()
    ask = pages.Block("run", "bash", "whiten-mtd search my-index query.jpg --json")
    best = json.loads(executed(reader, ask))["answers"][0]["results"][0]
    assert (reader / best["file"]).read_bytes() == (reader / "query.jpg").read_bytes()
    assert best["score"] == pytest.approx(1, abs=1e-3)
