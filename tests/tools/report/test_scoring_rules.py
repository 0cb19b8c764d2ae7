"""Scores of different scoring rules, side by side: each tool that compares says so."""

from dataclasses import replace
from pathlib import Path

import pytest

from stages.core import console, files
from stages.retrieval import scoring_rules
from stages.retrieval.scoring_rules import ScoringRules
from stages.tools.report import compare, results

HERE = ScoringRules("revisitop", "cut to boxes", "64", "1", "none", "float16", "aaaa", 20, 0)
THERE = replace(HERE, crop="whole", scales="1 0.5")
SCORES = {"easy": {"map": 50.0}, "hard": {"map": 20.0}}


def folder(path: Path, rules: ScoringRules, by: float = 0.0) -> Path:
    scores = {d: {"map": s["map"] + by} for d, s in SCORES.items()}
    files.write_text(path / "metrics.json", files.to_json({"ox": {"student": scores}}))
    about = {"ox": {"student": {"dim": 4, "init": "random"}}}
    files.write_text(path / "models.json", files.to_json(about))
    rules_text = files.to_json(scoring_rules.as_map({"ox": {"student": rules}}))
    files.write_text(path / "scoring_rules.json", rules_text)
    return path


@pytest.mark.parametrize("rules", [HERE, THERE])
def test_results_against_an_earlier_run(
    rules: ScoringRules, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    now, then = folder(tmp_path / "now", HERE, by=3), folder(tmp_path / "then", rules)
    assert console.run(results.app, ["--results", str(now), "--against", str(then)]) == 0
    said = capsys.readouterr()
    assert "easy 53.0 (+3.0), hard 23.0 (+3.0)" in said.out
    assert f"ox: revisitop, 20 images searched [{HERE.digest}]" in said.out
    assert HERE.of_model() not in said.out  # only by an option: one line a set
    warned = "warning: ox, student: made by different " in said.err
    assert warned == (rules is THERE)
    arguments = ["--results", str(now), "--against", str(then), "--rules"]
    assert console.run(results.app, arguments) == 0
    said = capsys.readouterr()
    assert HERE.of_model() in said.out and HERE.digest in said.out
    warned = "warning: ox, student: made by different " in said.err
    assert warned == (rules is THERE)
    if warned:
        assert "crop: cut to boxes here, whole there; scales: 1 here, 1 0.5 there" in said.err


def test_compare_warns_once_for_each_set_and_model() -> None:
    def run(rules: ScoringRules) -> compare.Run:
        return compare.Run("a run", {}, {}, {}, [], {}, {}, rules={"ox": {"student": rules}})

    same = {"a": [run(HERE), run(HERE)], "b": [run(HERE)]}
    assert list(compare.mixed(same, ["student", "asymmetric"])) == []
    (told,) = compare.mixed(same | {"c": [run(THERE), run(THERE)]}, ["student"])
    assert told.startswith("warning: ox, student, a and c: made by different ")


def test_a_file_that_holds_no_scoring_rules(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    now = folder(tmp_path / "now", HERE)
    for text in (
        "[]",
        '{"ox": {"student": {"crop": "whole"}}}',
        '{"ox": 3}',
        '{"ox": {"student": 3}}',
    ):
        (now / "scoring_rules.json").write_text(text)
        assert console.run(results.app, ["--results", str(now)]) == 2
        assert "scoring rules" in capsys.readouterr().err
