"""Every row of `bench` runs, and what it says of the project and the machine it stands in."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.core import console
from stages.tools.cost import bench, bench_inputs

TINY: dict[str, dict[str, Any]] = {
    "extract": {"model": "test_resnet", "images": 8, "views": 2, "px": 32, "batch": 4},
    "whiten": {"rows": 300, "dim": 16},
    "fuse": {"batch": 4, "steps": 3, "dim": 8},
    "prototypes": {"groups": 6, "images": 3, "dim": 8},
    "train": {"model": "test_resnet", "batch": 4, "px": 32, "steps": 1},
    "online": {"model": "test_resnet", "teacher": "test_resnet", "batch": 4, "px": 32},
    "validation": {"model": "test_resnet", "batch": 4, "px": 32, "images": 8},
    "rank": {"queries": 3, "rows": 500, "dim": 16, "positives": 6, "junk": 2},
    "rank-random": {"queries": 3, "rows": 500, "dim": 16, "positives": 6, "junk": 2},
    "video": {"queries": 2, "videos": 20, "frames": 3, "dim": 8},
}


def test_every_row_has_a_small_run_of_its_own() -> None:
    assert set(TINY) == set(bench.ROWS) - {"no-op"}


@pytest.mark.parametrize("name", TINY)
def test_a_row_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHITEN_MTD_WORKERS", "0")
    monkeypatch.setenv("WHITEN_MTD_DEVICE", "cpu")
    row: Any = bench.ROWS[name](tmp_path, 1, **TINY[name])
    assert row.seconds > 0 and row.bare > 0
    assert row.ratio == row.seconds / row.bare
    assert row.what and row.against and row.goal.startswith("<= ")


def test_rows_follow_each_other_in_one_folder(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("fuse", "prototypes"):
        row = bench.ROWS[name]
        monkeypatch.setitem(bench.ROWS, name, lambda f, t, r=row, n=name: r(f, t, **TINY[n]))
    arguments = ["--only", "fuse", "--only", "prototypes", "--times", "1"]
    assert console.run(bench.app, [*arguments, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [r["what"] for r in told["rows"]] == ["fuse", "fuse, prototypes"]
    assert set(told["machine"]) == {"processor", "cores", "load", "date"}
    assert console.run(bench.app, arguments) == 0
    captured = capsys.readouterr()
    assert captured.out.count("\n| fuse") == 2 and "\nload " in captured.out
    assert "epochs of" not in captured.err  # what the stage says each time it runs


def test_positives_of_a_trained_model_come_early_for_the_most_part() -> None:
    rng = np.random.default_rng(0)
    database = rng.standard_normal((20_000, 64))
    database = (database / np.linalg.norm(database, axis=1, keepdims=True)).astype(np.float16)
    query = database[:4].astype(np.float32)
    query /= np.linalg.norm(query, axis=1, keepdims=True)
    rows = bench_inputs.positives_by_rank(query, database, 50, rng)
    assert len(np.unique(rows)) == 200
    norms = np.linalg.norm(database[rows.ravel()].astype(np.float32), axis=1)
    assert np.abs(norms - 1).max() < 1e-2
    for one, chosen in zip(query, rows, strict=True):
        order = np.argsort(-(database.astype(np.float32) @ one))
        share = np.flatnonzero(np.isin(order, chosen)) / len(order)
        assert np.median(share) < 0.02 and 0.02 < share.max() < 0.35


def test_a_project_that_never_ran_has_no_row_of_nothing_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert bench.no_op(tmp_path, 1) is None
    assert "`dvc repro` first" in capsys.readouterr().err
