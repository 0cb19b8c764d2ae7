"""params.yaml: every mistake is named, with the nearest known name, one line each."""

from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import Field
from ruamel.yaml import YAML

from stages.core import params
from stages.core.errors import UserError

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
        params.teachers(params.read(whole(path, **changes)), path)
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
    values = params.read(ROOT / "params.yaml")
    assert sorted(values) == sorted(params.KEYS)
    assert params.teachers(values, ROOT / "params.yaml") == values["teachers"]


def test_top_level_unknown_and_missing_together(tmp_path: Path) -> None:
    path = whole(tmp_path / "p.yaml", fuse=None, ensembel=["a"])
    with pytest.raises(UserError) as error:
        params.read(path)
    assert str(error.value).splitlines() == [
        f"{path}: unknown key 'ensembel' (did you mean 'ensemble'?)",
        f"{path}: missing key 'fuse'",
    ]


@pytest.mark.parametrize(
    "content",
    [b"a: [1, 2", b"a: 1\na: 2\n", b"- 1\n- 2\n", b"", b"just text", b"a: \xff\xfe\n", b"\0\1\2"],
)
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
    assert params.read(path)["student"] == "off"


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
    path = whole(tmp_path / "p.yaml")
    assert params.teacher(path, "lite0")["model"] == "tf_efficientnet_lite0"
    with pytest.raises(UserError, match=r"no teacher 'lit0' \(did you mean 'lite0'\?\)"):
        params.teacher(path, "lit0")
