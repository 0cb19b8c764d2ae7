"""A preset is a whole file of parameters, or says what differs from another; comments stay."""

import re
from pathlib import Path
from typing import Any

import pytest
from project import ROOT
from ruamel.yaml import YAML

from stages.core import console, params
from stages.tools.setup import preset as presets

OVERLAYS = [name for name in presets.names() if name != "demo"]


def given(name: str) -> params.Parameters:
    return params.of(params.parse(presets.text(name).encode(), name), Path(name))


def flat(values: Any, prefix: str = "") -> dict[str, Any]:
    """Dotted key -> value, down to what is no map."""
    if not isinstance(values, dict):
        return {prefix: values}
    pairs = ((f"{prefix}.{key}" if prefix else str(key), value) for key, value in values.items())
    return {k: v for key, value in pairs for k, v in flat(value, key).items()}


def overlaid(text: str, key: str, lines: str) -> str:
    """`text` with `key` set by an overlay of these lines."""
    own = f"of: demo\nset:\n{lines}".splitlines()
    overlay = YAML().load("\n".join(own))
    return presets.replaced(text, key, own, presets.span(own, overlay["set"], key))


@pytest.mark.parametrize("name", presets.names())
def test_every_preset_passes_the_whole_check(name: str) -> None:
    presets.check(presets.text(name), name)


def test_the_file_in_the_checkout_is_the_demos() -> None:
    assert presets.text("demo") == (ROOT / "params.yaml").read_text("utf-8")


def test_one_preset_is_a_whole_list_and_the_others_say_what_differs() -> None:
    folder = ROOT / "stages/presets"
    assert [f.stem for f in folder.glob("*.yaml") if "patience:" in f.read_text("utf-8")] == [
        "demo"
    ]
    for name in OVERLAYS:
        overlay = YAML(typ="safe").load((folder / f"{name}.yaml").read_text("utf-8"))
        base = flat(given(overlay["of"]).values)
        text = (folder / f"{name}.yaml").read_text("utf-8").splitlines()
        for key, value in overlay["set"].items():
            line = next(n for n, x in enumerate(text) if x.startswith(f"  {key}:"))
            other_comment = text[line - 1].lstrip().startswith("#")
            assert base.get(key) != value or other_comment, f"{name}: {key} is {overlay['of']}'s"


@pytest.mark.parametrize("name", OVERLAYS)
def test_an_overlay_changes_what_it_names_and_nothing_else(name: str) -> None:
    overlay = YAML(typ="safe").load((ROOT / f"stages/presets/{name}.yaml").read_text("utf-8"))
    before, after = given(overlay["of"]).values, given(name).values
    for dotted, value in overlay["set"].items():
        *parents, key = dotted.split(".")
        old, new = before, after
        for parent in parents:
            old, new = old[parent], new[parent]
        assert new[key] == value, dotted
        old[key] = value
    assert after == before
    assert list(flat(after)) == list(flat(before))  # the order of keys too


@pytest.mark.parametrize("name", presets.names())
def test_every_knob_has_a_comment(name: str) -> None:
    """Over each key of each section: one comment serves it and the keys right below it."""
    lines = presets.text(name).splitlines()
    for number, line in enumerate(lines):
        if re.match(r"[a-z]+:$", line) and line[:-1] not in ("ensemble", "teachers", "evaluation"):
            below = lines[number + 1]
            assert below.startswith("  #") or lines[number + 2].startswith("    #"), line
        if re.match(r"[a-z]+:", line):
            assert line[0].isspace() or lines[number - 1] == "" or lines[number - 1][0] == "#", line


def test_the_landmark_presets_are_the_papers() -> None:
    for name, epochs, ensemble in (
        ("gem_apgem_solar", 200, ["gem", "ap_gem", "solar"]),
        ("delg_dolg", 3000, ["dolg", "delg"]),
    ):
        p = given(name)
        assert (p.student, p.ensemble) == ("resnet18", ensemble)
        train, fuse = p.values["train"], p.values["fuse"]
        assert (train["epochs"], train["view_px"], train["lr"]) == (epochs, 512, 1e-3)
        assert (fuse["batch"], fuse["dim"], p.values["whiten"]["dim"]) == (256, 512, 512)
        assert fuse["strategy"] == "maxmin" and fuse["epochs"] == p.values["prepare"]["epochs"]
        assert fuse["epochs"] < epochs  # training uses the targets again
        assert all(t["image_px"] == 512 and t["gem_p"] == 3 for t in p.values["teachers"].values())
        assert set(p.evaluation) == {"roxford5k", "rparis6k"}


BASE = """\
# Heading.

# What a is.
a: 1

# What b is.
b:
- x
- y

c:
  # What c.one is.
  one: {p: 1}
  # What c.two is.
  two:
    # What c.two.deep is.
    deep: 1

  # What c.three is, and four.
  three: 3
  four: 4
"""


@pytest.mark.parametrize(
    ("key", "lines", "old", "new"),
    [
        ("a", "  a: 2", "a: 1", "a: 2"),
        ("a", "  # New.\n  a: 2", "# What a is.\na: 1", "# New.\na: 2"),
        ("b", "  b:\n  - z", "b:\n- x\n- y", "b:\n- z"),
        ("c.one", "  c.one: {q: 2}\n  a: 7", "one: {p: 1}", "one: {q: 2}"),
        ("c.two", "  c.two: 5\n  # Of the next.\n  a: 7",
         "two:\n    # What c.two.deep is.\n    deep: 1", "two: 5"),
        ("c.one", "  c.one:\n    # Its own.\n    r: 1", "one: {p: 1}",
         "one:\n    # Its own.\n    r: 1"),
        ("c.three", "  # Other.\n  c.three: 0", "# What c.three is, and four.\n  three: 3",
         "# Other.\n  three: 0"),
        ("c.four", "  # Its own.\n  c.four: 5", "  four: 4", "  # Its own.\n  four: 5"),
        ("c.two.deep", "  c.two.deep: [1,\n    2]", "deep: 1", "deep: [1,\n      2]"),
    ],
)  # fmt: skip
def test_a_value_and_its_comment_are_replaced_in_place(
    key: str, lines: str, old: str, new: str
) -> None:
    assert BASE.count(old) == 1
    assert overlaid(BASE, key, lines) == BASE.replace(old, new)


@pytest.mark.parametrize("key", ["z", "c.z", "c.two.z"])
def test_a_key_that_is_not_there_is_no_place_for_an_overlay(key: str) -> None:
    with pytest.raises(KeyError):
        overlaid(BASE, key, f"  {key}: 1")


def test_a_file_that_differs_is_replaced_only_by_force(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert console.run(presets.app, ["folder"]) == 0
    assert Path("params.yaml").read_text("utf-8") == presets.text("folder")
    assert console.run(presets.app, ["folder"]) == 0  # the same again
    assert console.run(presets.app, ["svd"]) == 2
    assert "exists and differs" in capsys.readouterr().err
    assert Path("params.yaml").read_text("utf-8") == presets.text("folder")
    assert console.run(presets.app, ["svd", "--force"]) == 0
    assert params.read(Path("params.yaml")).training_set == "svd"


def test_only_the_demos_start_a_student_from_random_weights() -> None:
    """Elsewhere a student of random weights would be taken for one of the paper's."""
    for name in presets.names():
        values = YAML(typ="safe").load(presets.text(name))
        random = values["train"]["without_weights"] == "random"
        assert random == name.startswith("demo"), name
