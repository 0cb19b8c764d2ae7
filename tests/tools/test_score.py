"""Ground truths of any origin that cannot be scored: one line, what and where."""

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.core import console, store
from stages.tools import score

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
        ([ONE, ONE], "query q is there twice"),
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
