"""Ground truths of any origin that cannot be scored: one line, what and where."""

import csv
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.core import console, store
from stages.tools.check import score

ONE = {"image_id": "q", "easy": ["a"], "hard": [], "junk": ["b"]}


@pytest.mark.parametrize(
    ("queries", "told"),
    [
        ([3], "each a map"),
        (["q"], "each a map"),
        (None, "no list of queries"),
        ([{"easy": ["a"], "hard": [], "junk": []}], "a query has no image_id"),
        ([], "no query has a positive"),
        ([{**ONE, "easy": []}], "no query has a positive"),
        ([{**ONE, "junk": ["b", "a"]}], "query q: a is in 'easy' and in 'junk'"),
        ([ONE, ONE], "query q is listed twice"),
    ],
)
def test_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], queries: Any, told: str
) -> None:
    rows, ids = np.eye(4, dtype=np.float16), np.array(["q", "a", "b", "c"])
    arrays = {"descriptor": rows, "image_id": ids, "path": ids}
    file, truth = tmp_path / "d.h5", tmp_path / "truth.json"
    store.write(file, "descriptors", arrays, set="x")
    arguments = [str(file), str(file), str(truth)]
    truth.write_text(json.dumps({"protocol": "revisitop", "queries": queries}))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert console.run(score.app, arguments) == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and told in said[0] and "truth.json" in said[0]
    truth.write_text(json.dumps({"protocol": "revisitop", "queries": [ONE]}))
    assert console.run(score.app, arguments) == 0


def test_ap_of_each_query_is_a_table_whatever_a_query_is_called(tmp_path: Path) -> None:
    ids = np.array(['a, "b"\n.jpg', "x", "y", "z"])
    arrays = {"descriptor": np.eye(4, dtype=np.float16), "image_id": ids, "path": ids}
    file, truth, table = (tmp_path / n for n in ("d.h5", "truth.json", "ap.csv"))
    store.write(file, "descriptors", arrays, set="x")
    asked = [{**ONE, "image_id": str(i), "easy": ["x", "y"], "junk": []} for i in (ids[0], "z")]
    truth.write_text(json.dumps({"protocol": "revisitop", "queries": asked}))
    arguments = [str(file), str(file), str(truth), "--per-query", str(table)]
    assert console.run(score.app, arguments) == 0
    with open(table, newline="") as opened:
        rows = list(csv.reader(opened))
    assert rows[0] == ["difficulty", "query", "ap"] and {len(r) for r in rows} == {3}
    assert [r[1] for r in rows[1:] if r[0] == "easy"] == [str(ids[0]), "z"]
