"""What code a stage runs: by kind of teacher and by plug-in, and a line where it is another."""

import json
import sys
from pathlib import Path

import pytest
from project import ROOT, installed, run, write_params
from ruamel.yaml import YAML

from stages.core import stage_code

ASK = "from whiten_mtd.core import stage_code as s; import json; print(json.dumps(s.code()))"


def code_of(path: str) -> dict:  # type: ignore[type-arg]
    done = run(sys.executable, "-c", ASK, cwd=Path(path), PYTHONPATH=path)
    return json.loads(done.stdout)


def differing(a: dict, b: dict, prefix: str = "") -> set[str]:  # type: ignore[type-arg]
    """Dotted keys whose values differ."""
    found = set()
    for key in {*a, *b}:
        if isinstance(a.get(key), dict) and isinstance(b.get(key), dict):
            found |= differing(a[key], b[key], f"{prefix}{key}.")
        elif a.get(key) != b.get(key):
            found.add(prefix + key)
    return found


@pytest.mark.parametrize(
    ("file", "keys"),
    [
        ("distill/losses/relation.py", {"losses.relation"}),
        ("datasets/csv.py", {"datasets.csv"}),
        ("datasets/_demo/clips.py", {"datasets.demo_video"}),
        ("retrieval/protocols/svd.py", {"protocols.svd"}),
        ("teachers/gem.py", {"stages.extract.gem", "stages.describe.gem"}),
        ("whiten.py", {"stages.whiten"}),
        ("tools/search/search.py", set()),
        ("core/console.py", set()),
    ],
)
def test_a_change_moves_the_keys_that_it_concerns(
    file: str, keys: set[str], tmp_path: Path
) -> None:
    before = code_of(installed(tmp_path / "a", copied=True))
    path = installed(tmp_path / "b", copied=True)
    with (Path(path) / "whiten_mtd" / file).open("a") as f:
        f.write("\n# changed\n")
    assert differing(before, code_of(path)) == keys | ({f"files.{file}"} if keys else set())


def test_ends_of_lines_are_not_code(tmp_path: Path) -> None:
    path = installed(tmp_path / "a", copied=True)
    before = code_of(path)
    file = Path(path) / "whiten_mtd/whiten.py"
    file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
    assert code_of(path) == before


def test_only_the_kinds_that_load_a_shared_file_name_it() -> None:
    assert "teachers/_resnet.py" in stage_code.stage_files("extract", "gem")
    assert "teachers/_resnet.py" not in stage_code.stage_files("extract", "any_timm")
    assert "nets/onnx_file.py" in stage_code.stage_files("describe", "exported")
    assert "nets/onnx_file.py" not in stage_code.stage_files("describe", "gem")


def test_every_file_that_dvc_yaml_names_is_in_some_digest() -> None:
    named = set()
    for entry in YAML(typ="safe").load((ROOT / "dvc.yaml").read_text("utf-8"))["stages"].values():
        deps = entry.get("do", entry).get("deps", [])
        named |= {d.removeprefix("stages/") for d in deps if d.startswith("stages/")}
    named.remove(stage_code.KIND)
    for folder in [n for n in named if (ROOT / "stages" / n).is_dir()]:
        named.remove(folder)
        found = (ROOT / "stages" / folder).rglob("*.py")
        named |= {f.relative_to(ROOT / "stages").as_posix() for f in found}
    named |= {f"teachers/{kind}.py" for kind in stage_code.kinds()}
    assert named == set(stage_code.code()["files"])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with code.json of the code that is here."""
    monkeypatch.chdir(tmp_path)
    write_params(tmp_path / "params.yaml")
    (tmp_path / "code.json").write_text(json.dumps(stage_code.code()))
    return tmp_path


def told(folder: Path, stage: str, *places: str) -> str:
    """The line for `stage` once the values at `places` of code.json are of other code."""
    said = stage_code.code()
    for place in places:
        *parents, last = place.split("|")
        values = said
        for parent in parents:
            values = values[parent]
        values[last] = "other"
    (folder / "code.json").write_text(json.dumps(said))
    return stage_code.note(stage)


def test_a_stage_of_other_code_says_so_in_a_line(folder: Path) -> None:
    assert told(folder, "dvc.yaml:whiten@a") == ""
    line = told(folder, "dvc.yaml:whiten@a", "files|whiten.py", "stages|whiten")
    assert line.startswith("warning: other code than code.json says (whiten.py)")
    assert "whiten-mtd upgrade" in line and "\n" not in line
    assert told(folder, "fuse", "files|whiten.py", "stages|whiten") == ""  # not its own code
    assert told(folder, "look", "files|whiten.py", "stages|whiten") == ""  # runs every time
    of_kind = ("files|nets/backbone.py", "stages|extract|any_timm")
    assert "nets/backbone.py" in told(folder, "extract@a", *of_kind)
    assert told(folder, "extract@a", "files|teachers/gem.py", "stages|extract|gem") == ""
    assert told(folder, "train", "files|distill/losses/relation.py", "losses|relation")


def test_without_the_file_and_with_an_odd_one(folder: Path) -> None:
    (folder / "code.json").write_text("[]")
    assert "cannot be read" in stage_code.note("whiten@a")
    (folder / "code.json").unlink()
    assert stage_code.note("whiten@a") == ""
