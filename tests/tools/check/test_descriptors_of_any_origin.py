"""Descriptor files of any origin by command: cosines of what is stored, or one line that names it."""

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from stages.core import console
from stages.tools.check import score
from stages.tools.search import index, search

N, DIM = 40, 16
RNG = np.random.default_rng(0)
ROWS = RNG.standard_normal((N, DIM)).astype(np.float32)
IDS = np.array([f"im{i:02d}" for i in range(N)])
LENGTHS = RNG.uniform(0.1, 30, (N, 1)).astype(np.float32)
NEAR = np.argsort(-(ROWS / np.linalg.norm(ROWS, axis=1, keepdims=True)) @ ROWS[0])[1:3]
ONE = {"image_id": "im00", "positive": [str(IDS[i]) for i in sorted(NEAR)], "junk": []}
APP: dict[str, Any] = {"score": score.app, "index": index.app, "search": search.app}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    truth("gt.json", ONE)
    return tmp_path


def truth(name: str, *queries: Any) -> None:
    Path(name).write_text(json.dumps({"protocol": "positives", "queries": queries}))


def file(name: str, rows: Any, ids: Any = IDS, **how: Any) -> str:
    with h5py.File(name, "w") as f:
        f.create_dataset("descriptor", data=rows, **how)
        f["image_id"] = np.asarray(ids, "S") if np.asarray(ids).dtype.kind == "U" else ids
    return name


def do(capsys: pytest.CaptureFixture[str], command: str, *arguments: str) -> tuple[int, str, str]:
    capsys.readouterr()
    code = console.run(APP[command], list(arguments))
    said = capsys.readouterr()
    return code, said.out, said.err


def scores(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    code, out, err = do(capsys, "score", *arguments, "--json")
    assert code == 0, err
    return json.loads(out)["all"]


KINDS_OF_ROWS = {
    "long": ROWS * LENGTHS, "huge": ROWS.astype("f8") * 1e200, "tiny": ROWS * np.float32(1e-25),
    "half": (ROWS * 10).astype("f2"), "double": ROWS.astype(">f8"),
    "whole": np.rint(ROWS / np.abs(ROWS).max() * 127).astype("i1"),
}  # fmt: skip


@pytest.mark.parametrize("kind", list(KINDS_OF_ROWS))
@pytest.mark.parametrize("how", [{}, {"compression": "gzip", "chunks": (7, 5)}])
def test_lengths_and_types_do_not_count(
    here: Path, capsys: pytest.CaptureFixture[str], kind: str, how: dict[str, Any]
) -> None:
    rows = KINDS_OF_ROWS[kind]
    plain, odd = file("plain.h5", ROWS), file("odd.h5", rows, **how)
    assert scores(capsys, plain, odd, "gt.json")["map"] == 100
    assert do(capsys, "index", odd, "ix")[0] == 0
    exact = rows.astype("f8") / np.abs(rows.astype("f8")).max(1, keepdims=True)
    exact /= np.linalg.norm(exact, axis=1, keepdims=True)
    code, out, _ = do(capsys, "search", "ix", file("q.h5", rows[:3], IDS[:3]), "--json")
    assert code == 0
    for answer, cosine in zip(json.loads(out)["answers"], exact[:3] @ exact.T, strict=True):
        order = np.argsort(-cosine)[:10]
        assert [r["path"] for r in answer["results"]] == IDS[order].tolist()
        found = [r["score"] for r in answer["results"]]
        assert np.allclose(found, cosine[order], atol=1e-5) and len(set(found)) == 10


def broken(rows: slice | int, value: float) -> np.ndarray:
    out = ROWS.copy()
    out[rows] = value
    return out


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (broken(5, np.nan), "1 of 40 rows have NaN or infinity, the first: row 5 (im05)"),
        (broken(0, np.nan), "1 of 40 rows have NaN or infinity, the first: row 0 (im00)"),
        (broken(20, -np.inf), "1 of 40 rows have NaN or infinity, the first: row 20 (im20)"),
        (broken(slice(None), np.nan), "40 of 40 rows have NaN or infinity"),
        (broken(slice(7, 9), 0), "2 of 40 rows are all zeros, the first: row 7 (im07), row 8"),
    ],
)
@pytest.mark.parametrize("command", ["query", "database", "distractors", "index", "search"])
def test_rows_that_are_no_numbers_are_refused_everywhere(
    here: Path, capsys: pytest.CaptureFixture[str], rows: np.ndarray, told: str, command: str
) -> None:
    good, bad = file("good.h5", ROWS), file("bad.h5", rows)
    assert do(capsys, "index", good, "ix")[0] == 0
    arguments = {
        "query": ["score", bad, good, "gt.json"], "database": ["score", good, bad, "gt.json"],
        "distractors": ["score", good, good, "gt.json", "--distractors", bad],
        "index": ["index", bad, "new"], "search": ["search", "ix", bad],
    }[command]  # fmt: skip
    code, _, err = do(capsys, *arguments)
    assert code == 2 and told in err and "bad.h5" in err and err.count("\n") == 1
    assert not Path("new").exists()


@pytest.mark.parametrize("command", ["query", "database", "index", "search"])
def test_an_id_twice_is_refused(
    here: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    good, bad = file("good.h5", ROWS), file("bad.h5", ROWS, np.r_[IDS[:-1], IDS[:1]])
    assert do(capsys, "index", good, "ix")[0] == 0
    arguments = {
        "query": ["score", bad, good, "gt.json"], "database": ["score", good, bad, "gt.json"],
        "index": ["index", bad, "new"], "search": ["search", "ix", bad],
    }[command]  # fmt: skip
    code, _, err = do(capsys, *arguments)
    assert code == 2 and "1 ids occur twice, the first: im00" in err and err.count("\n") == 1


def test_ids_that_are_numbers(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    numbered = file("n.h5", ROWS, np.arange(N))
    truth("n.json", {"image_id": 0, "positive": [int(i) for i in NEAR], "junk": ["3"]})
    assert scores(capsys, numbered, numbered, "n.json")["map"] == 100


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ({**ONE, "positive": ["im00", "im01"]}, "query im00 is among its own positives"),
        ({**ONE, "positive": ["nowhere", "im01"]}, "1 ids of 'positive' are not in the database"),
        ({**ONE, "positive": [None]}, "'None'; an id is a text or a whole number"),
        ({**ONE, "positive": [["im01"]]}, "an id is a text or a whole number"),
        ({**ONE, "positive": [1.5]}, "'1.5'; an id is a text or a whole number"),
        ({**ONE, "positive": [True]}, "an id is a text or a whole number"),
        ({**ONE, "positive": "im01"}, "has no list 'positive'"),
        ({**ONE, "positive": {"im01": 1}}, "has no list 'positive'"),
        ({"image_id": "im00", "positive": ["im01"]}, "has no list 'junk'"),
        ({**ONE, "image_id": {}}, "an id is a text or a whole number"),
        ({**ONE, "image_id": "im99"}, "1 queries are not in it, the first: im99"),
        ({**ONE, "positive": []}, "no query has a positive"),
    ],
)
def test_ground_truths_of_ones_own(
    here: Path, capsys: pytest.CaptureFixture[str], query: Any, told: str
) -> None:
    truth("own.json", query)
    good = file("good.h5", ROWS)
    code, _, err = do(capsys, "score", good, good, "own.json")
    assert code == 2 and told in err and err.count("\n") == 1
