"""What `bench` measures of the project it stands in."""

from pathlib import Path

import pytest

from stages.tools.cost import bench


def test_a_project_that_never_ran_has_no_row_of_nothing_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert bench.no_op(tmp_path, 1) is None
    assert "`dvc repro` first" in capsys.readouterr().err
