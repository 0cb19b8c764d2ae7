"""params.yaml: every mistake is named, with the nearest known name, one line each."""

import re
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import Field
from ruamel.yaml import YAML

from stages.core import params
from stages.core.errors import UserError
from stages.teachers import any_timm

ROOT = Path(__file__).parents[2]


class Example(params.Section):
    strategy: Literal["maxmin", "mean"]
    batch: int = Field(ge=2)
    floor: float
    name: str


GOOD: dict[str, Any] = {"strategy": "mean", "batch": 4, "floor": 0.5, "name": "x"}


def lines(values: Any) -> list[str]:
    with pytest.raises(UserError) as error:
        params.check(values, Example, "p.yaml: fuse")
    return str(error.value).splitlines()


def whole(path: Path, **changes: Any) -> Path:
    """The project's params.yaml with top-level `changes`; None takes a key out."""
    values = YAML(typ="safe").load((ROOT / "params.yaml").read_text("utf-8"))
    values = {k: v for k, v in {**values, **changes}.items() if v is not None}
    with path.open("w") as f:
        YAML(typ="safe").dump(values, f)
    return path


def table_error(path: Path, **changes: Any) -> str:
    with pytest.raises(UserError) as error:
        params.read(whole(path, **changes))
    return str(error.value)


def test_good_values_pass_unchanged() -> None:
    assert params.check(GOOD, Example, "x").model_dump() == GOOD


def test_an_unknown_key_names_itself_and_the_nearest() -> None:
    assert lines({**GOOD, "bacth": 4}) == [
        "p.yaml: fuse.bacth: unknown key (did you mean 'batch'?)"
    ]
    assert lines({**GOOD, "zzz": 4}) == ["p.yaml: fuse.zzz: unknown key"]


def test_several_errors_one_line_each() -> None:
    found = lines({"strategy": "max", "batch": 1, "nam": "x", "floor": 0.1})
    assert len(found) == 4
    for part in ("fuse.strategy: ", "fuse.batch: ", "fuse.name: missing", "fuse.nam: unknown key"):
        assert sum(part in line for line in found) == 1, part
    assert all(line.startswith("p.yaml: fuse.") for line in found)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("batch", "4"),
        ("batch", 4.0),
        ("batch", True),
        ("floor", "0.5"),
        ("name", 3),
        ("name", None),
    ],
)
def test_types_are_not_coerced(key: str, value: Any) -> None:
    (line,) = lines({**GOOD, key: value})
    assert f"fuse.{key}: " in line and repr(value) in line


def test_a_whole_number_may_stand_for_a_float() -> None:
    assert params.check({**GOOD, "floor": 1}, Example, "x").floor == 1.0


@pytest.mark.parametrize("values", [None, [], "x", 3])
def test_a_section_that_is_no_map(values: Any) -> None:
    (line,) = lines(values)
    assert "expected a map" in line and "p.yaml: fuse" in line


def test_frozen() -> None:
    section = params.check(GOOD, Example, "x")
    with pytest.raises(Exception, match="frozen"):
        section.batch = 5  # type: ignore[misc]


def test_the_projects_own_file_reads_and_its_keys_are_the_known_ones() -> None:
    given = params.read(ROOT / "params.yaml")
    assert sorted(given.values) == sorted(params.KEYS)
    assert given.kinds == {name: t["kind"] for name, t in given.values["teachers"].items()}
    assert set(given.ensemble) <= set(given.kinds) and set(given.evaluation) == {"demo"}


def test_top_level_unknown_and_missing_together(tmp_path: Path) -> None:
    path = whole(tmp_path / "p.yaml", fuse=None, ensembel=["a"])
    with pytest.raises(UserError) as error:
        params.read(path)
    assert str(error.value).splitlines() == [
        f"{path}: unknown key 'ensembel' (did you mean 'ensemble'?)",
        f"{path}: missing key 'fuse'",
    ]


# Ten lines that stand for 10^9 values.
BILLIONS = b"a0: &a0 [1,1,1,1,1,1,1,1,1,1]\n" + b"".join(
    b"a%d: &a%d [%s]\n" % (i, i, b",".join([b"*a%d" % (i - 1)] * 10)) for i in range(1, 9)
)


@pytest.mark.parametrize(
    "content",
    [
        b"a: [1, 2", b"a: 1\na: 2\n", b"- 1\n- 2\n", b"", b"just text", b"a: \xff\xfe\n", b"\0\1\2",
        b"a: &a [*a]\n", b"a: &a {b: *a}\n", b"a: " + b"[" * 3000 + b"]" * 3000 + b"\n", BILLIONS,
    ],
)  # fmt: skip
def test_what_is_no_yaml_map_is_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "p.yaml"
    path.write_bytes(content)
    with pytest.raises(UserError) as error:
        params.read(path)
    assert "\n" not in str(error.value) and str(path) in str(error.value)


def test_a_missing_file_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file.*preset"):
        params.read(tmp_path / "p.yaml")


def test_yaml_1_2_so_that_on_and_off_stay_words(tmp_path: Path) -> None:
    path = whole(tmp_path / "p.yaml", student="off")
    text = path.read_text().replace("student: 'off'", "student: off")
    path.write_text(text)
    assert params.read(path).student == "off"


def test_ensemble_of_an_unknown_teacher(tmp_path: Path) -> None:
    line = table_error(tmp_path / "p.yaml", ensemble=["lite0", "lite00"])
    assert "no teacher 'lite00' (did you mean 'lite0'?)" in line and "lite1" in line


@pytest.mark.parametrize("ensemble", [[], "lite0", ["lite0", "lite0"], {"lite0": 1}])
def test_ensemble_must_be_a_list_of_different_names(tmp_path: Path, ensemble: Any) -> None:
    assert "ensemble: expected a list" in table_error(tmp_path / "p.yaml", ensemble=ensemble)


@pytest.mark.parametrize("ensemble", [[["lite0"]], [{"lite0": 1}]])
def test_ensemble_of_things_that_are_no_names(tmp_path: Path, ensemble: Any) -> None:
    assert "ensemble" in table_error(tmp_path / "p.yaml", ensemble=ensemble)


@pytest.mark.parametrize("name", ["student", "untrained", "fused", "a-b", "a/b", "..", "1a"])
def test_reserved_and_odd_teacher_names(tmp_path: Path, name: str) -> None:
    path = tmp_path / "p.yaml"
    entry = {"kind": "any_timm"}
    line = table_error(path, teachers={name: entry, "ok": entry}, ensemble=["ok"])
    assert f"teachers.{name}" in line and "\n" not in line


def test_teacher_names_that_are_numbers(tmp_path: Path) -> None:
    entry = {"kind": "any_timm"}
    line = table_error(tmp_path / "p.yaml", teachers={1: entry}, ensemble=[2])
    assert "teachers.1" in line


@pytest.mark.parametrize("entry", [{}, {"model": "x"}, {"kind": 3}, "any_timm", None])
def test_a_teacher_needs_a_kind(tmp_path: Path, entry: Any) -> None:
    line = table_error(tmp_path / "p.yaml", teachers={"a": entry}, ensemble=["a"])
    assert "teachers.a: expected a map of settings with a kind" in line


def test_no_teachers_at_all(tmp_path: Path) -> None:
    assert "teachers: expected a map" in table_error(tmp_path / "p.yaml", teachers={})


def test_settings_of_one_teacher(tmp_path: Path) -> None:
    given = params.read(whole(tmp_path / "p.yaml"))
    settings = given.teacher("lite0")
    assert isinstance(settings, params.Teacher) and type(settings) is any_timm.Settings
    assert (settings.kind, settings.model) == ("any_timm", "tf_efficientnet_lite0")
    for read in (given.teacher, given.kind):
        with pytest.raises(UserError, match=r"no teacher 'lit0' \(did you mean 'lite0'\?\)"):
            read("lit0")


def test_a_teacher_is_typed_by_its_kind(tmp_path: Path) -> None:
    entry = {"kind": "any_timm", "model": "x", "image_px": 64, "gem": 3.0}
    path = whole(
        tmp_path / "p.yaml", teachers={"a": entry, "b": {"kind": "any_tim"}}, ensemble=["a"]
    )
    given = params.read(path)
    with pytest.raises(UserError) as error:
        given.teacher("a")
    assert str(error.value) == f"{path}: teachers.a.gem: unknown key (did you mean 'gem_p'?)"
    with pytest.raises(UserError, match=r"teachers.b: no 'any_tim' .*did you mean 'any_timm'"):
        given.teacher("b")


def test_settings_of_one_dataset(tmp_path: Path) -> None:
    path = whole(tmp_path / "p.yaml", datasets={"csv": {"file": "x", "rot": None}})
    given = params.read(path)
    with pytest.raises(UserError) as error:
        given.dataset("csv")
    assert f"{path}: datasets.csv.rot: unknown key (did you mean 'root'?)" in str(error.value)
    with pytest.raises(UserError, match="datasets.folder: missing; its settings are needed"):
        given.dataset("folder")
    with pytest.raises(UserError, match=r"datasets.folde: no 'folde' .*did you mean 'folder'"):
        given.dataset("folde")
    assert params.read(whole(path, datasets={"csv": {"file": "x"}})).dataset("csv").file == "x"


def test_a_section_and_a_part_of_one(tmp_path: Path) -> None:
    class Batch(params.Section):
        batch: int

    given = params.read(whole(tmp_path / "p.yaml"))
    assert given.part("fuse", Batch).batch == given.values["fuse"]["batch"]
    with pytest.raises(UserError, match="p.yaml: fuse.strategy: unknown key"):
        given.section("fuse", Batch)
    assert given.training_set == "demo"
    for odd in ({"bacth": 4}, [], None, 3):
        path = whole(tmp_path / "p.yaml")
        given = params.of({**params.read(path).values, "fuse": odd}, path)
        with pytest.raises(UserError, match="p.yaml: fuse"):
            given.part("fuse", Batch)


def test_typed_settings_pass_as_they_are() -> None:
    typed = params.check(GOOD, Example, "x")
    assert params.check(typed, Example, "x") is typed


class New(params.Section):
    images: int
    license: str | None = None


@pytest.mark.parametrize(("old", "new"), [("pictures", "images"), ("licence", "license")])
def test_an_old_key_is_refused_with_its_new_name(old: str, new: str) -> None:
    with pytest.raises(UserError) as error:
        params.check({"images": 1, old: 1}, New, "p.yaml: demo")
    assert str(error.value) == f"p.yaml: demo.{old}: is now called {new!r} (CHANGELOG.md)"


def test_every_renamed_key_is_in_use_under_its_new_name() -> None:
    text = (ROOT / "params.yaml").read_text("utf-8")
    for old, new in params.RENAMED.items():
        assert not re.search(rf"\b{old}: ", text) and re.search(rf"\b{new}: ", text), new


@pytest.mark.parametrize("number", [".inf", "-.inf", ".nan", "1.0e999"])
def test_what_is_no_finite_number_is_refused_anywhere(tmp_path: Path, number: str) -> None:
    text = (ROOT / "params.yaml").read_text("utf-8")
    for old, key in (
        ("  lr: 0.002", "train.lr"), ("  - 0.7071067811865476", "describe.scales.1"),
        ("    twins: 0.2", "datasets.demo.twins"),
    ):  # fmt: skip
        assert old in text
        path = tmp_path / "p.yaml"
        path.write_text(text.replace(old, re.sub(r"[0-9.]+$", number, old), 1))
        with pytest.raises(UserError) as error:
            params.read(path)
        (line,) = str(error.value).splitlines()
        assert line.startswith(f"{path}: {key}: ") and "write a finite number" in line


@pytest.mark.parametrize(
    ("evaluation", "words"),
    [
        (None, "evaluation: expected a map"),
        ([], "evaluation: expected a map"),
        ({"a/b": {"dataset": "demo"}}, "'a/b' cannot name a file"),
        (
            {"a": {"datasett": "demo"}},
            "evaluation.a.datasett: unknown key (did you mean 'dataset'?)",
        ),
        ({"a": "demo"}, "evaluation.a: expected a map"),
        ({"abc": {"dataset": "demo", "distractors": "abd"}}, "no set 'abd' (did you mean 'abc'?)"),
    ],
)
def test_evaluation_sets_and_their_distractors(evaluation: Any, words: str) -> None:
    values = {**params.read(ROOT / "params.yaml").values, "evaluation": evaluation}
    with pytest.raises(UserError) as error:
        params.of(values, Path("p.yaml"))
    assert words in str(error.value)


def test_all_wrong_names_at_once() -> None:
    values = params.read(ROOT / "params.yaml").values
    with pytest.raises(UserError) as error:
        params.of({**values, "ensemble": ["x"], "student": 3, "datasets": None}, Path("p.yaml"))
    assert [line.split(":")[1] for line in str(error.value).splitlines()] == [
        " ensemble", " student", " datasets",
    ]  # fmt: skip


class Either(params.Section):
    scales: list[float] | dict[str, list[float]]


@pytest.mark.parametrize("odd", [["x"], [[1.0]], [None], {"a": ["x"]}, {"a": 1}, 3, [], [{}]])
def test_a_wrong_value_of_two_forms_is_named(odd: Any) -> None:
    try:
        params.check({"scales": odd}, Either, "params.yaml: describe")
    except UserError as error:
        assert "describe.scales" in str(error)
    else:
        assert odd == []
