"""Scores by model as rows for people; rows of old runs under the names of today."""

import pytest

from stages.retrieval import score_table

EASY = {"easy": {"map": 12.34}, "medium": {"map": 5.0}, "hard": {"map": 1.0}}


def test_teachers_are_two_rows_and_others_one() -> None:
    rows = score_table.flat({"student": EASY, "gem": {"raw": 1, "whitened": 2}})
    assert rows == {"student": EASY, "gem raw": 1, "gem whitened": 2}


def test_a_table_for_a_terminal() -> None:
    text = score_table.as_text({"demo": {"student": EASY, "gem": {"raw": EASY, "whitened": {}}}})
    lines = text.splitlines()
    assert lines[0].split() == ["demo,", "mAP", "in", "percent", "easy", "medium", "hard"]
    assert lines[1].split() == ["student", "12.3", "5.0", "1.0"]
    assert lines[3].split() == ["gem", "whitened", "-", "-", "-"]


def test_an_old_run_is_read_under_todays_names_with_a_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    old = {"demo": {"student": 1, "fused": 2, "earlier": 3, "compatible": 4}}
    new = {"demo": {"student": 1, "ensemble": 2, "old_model": 3, "new_on_old": 4}}
    assert score_table.renamed(old, "there") == new
    assert "there: of an old run" in capsys.readouterr().err
    assert score_table.renamed(new, "there") is new
    both = {"demo": {"ensemble": 2, "fused": 5}}
    assert score_table.renamed(both, "there") is both
    assert capsys.readouterr().err == ""
