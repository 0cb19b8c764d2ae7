"""Results of a run that were changed by hand or by a program: one line, never a traceback."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from stages.core import console, files
from stages.core.errors import UserError
from stages.retrieval import score_table, scoring_rules
from stages.tools.report import results

SCORES = {"all": {"map": 50.0, "mp@1": 60.0, "recall@1": 70.0}}
TABLE = {"s": {"student": SCORES, "untrained": SCORES, "a": {"raw": SCORES, "whitened": SCORES}}}
MODELS = {"s": {m: {"dim": 8, "init": "x"} for m in ("student", "untrained", "a")}}
RULE = {
    "rules": "positives", "crop": "whole", "image_px": "9", "scales": "1", "whitening": "none",
    "dtype": "float16", "ground_truth": "0" * 32, "database": 9, "distractors": 0,
    "ties": "the database's order",
}  # fmt: skip
RULES = {"s": {m: RULE for m in ("student", "untrained", "a raw", "a whitened")}}
ODD = [None, True, "x", -1, 101.5, float("nan"), float("inf"), [], {}, [1], 10**400]


def write(folder: Path, **changed: Any) -> Path:
    folder.mkdir(exist_ok=True)
    whole = {"metrics": TABLE, "models": MODELS, "scoring_rules": RULES}
    for name, values in {**whole, **changed}.items():
        (folder / f"{name}.json").write_text(json.dumps(values))
    return folder


def places(values: Any, at: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    below = [p for k, v in values.items() for p in places(v, (*at, k))] if values and isinstance(values, dict) else []  # fmt: skip
    return [at, *below]


def put(values: Any, at: tuple[str, ...], value: Any) -> Any:
    if not at:
        return value
    return {**values, at[0]: put(values[at[0]], at[1:], value)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write(tmp_path / "results")


def test_whole_results_are_printed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert console.run(results.app, ["--results", str(folder)]) == 0
    assert "50.0" in capsys.readouterr().out


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=some.data())
def test_any_odd_value_is_one_line_or_harmless(
    folder: Path, capsys: pytest.CaptureFixture[str], data: some.DataObject
) -> None:
    name = data.draw(some.sampled_from(["metrics", "models", "scoring_rules"]))
    whole = {"metrics": TABLE, "models": MODELS, "scoring_rules": RULES}[name]
    at = data.draw(some.sampled_from(places(whole)))
    write(folder, **{name: put(whole, at, data.draw(some.sampled_from(ODD)))})
    for arguments in (["--results", str(folder)], ["--results", str(folder), "--json"]):
        capsys.readouterr()
        code = console.run(results.app, arguments)
        said = capsys.readouterr().err
        assert code in (0, 2) and "Traceback" not in said and len(said.splitlines()) <= 2, said
    shutil.rmtree(folder)


@pytest.mark.parametrize("value", [-0.1, 100.1, float("nan"), "50", True, None])
def test_a_score_is_0_to_100(folder: Path, value: Any, capsys: pytest.CaptureFixture[str]) -> None:
    write(folder, metrics=put(TABLE, ("s", "a", "whitened", "all", "map"), value))
    assert console.run(results.app, ["--results", str(folder)]) == 2
    said = capsys.readouterr().err
    assert "s, a whitened, all: map is" in said and "not 0 to 100 percent" in said


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[" * 3000 + "]" * 3000, "nested too deep"), ("{", "not JSON"), ("", "not JSON"),
        ('{"a": 1, "a": 2}', "key 'a' occurs twice"), ('"\\ud800"', "not JSON"),
        ("9" * 5000, "not JSON"), ('{"a": {"b": 1, "b": 1}}', "key 'b' occurs twice"),
    ],
)  # fmt: skip
def test_json_that_is_none(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(UserError, match=told) as error:
        files.read_json(tmp_path / "x.json")
    assert "\n" not in str(error.value) and "x.json" in str(error.value)


def test_json_of_other_programs_may_begin_with_a_mark(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes('{"ü": "😀 \\ud83d\\ude00"}'.encode("utf-8-sig"))
    assert files.read_json(tmp_path / "x.json") == {"ü": "😀 😀"}


def test_rules_of_other_types_are_refused() -> None:
    for key, value in (("database", "9"), ("rules", {}), ("crop", None), ("more", 1)):
        with pytest.raises(UserError, match="holds no scoring rules of ours"):
            scoring_rules.from_map({**RULE, key: value}, "x.json")
    assert score_table.checked(TABLE, "x") == TABLE
