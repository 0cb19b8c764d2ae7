"""Protocols against the benchmark's own rule, written here once more as slow loops."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.core.errors import UserError
from stages.retrieval import metrics, protocols
from stages.retrieval.protocols import Difficulty, Protocol

Ranking = list[int]
RULES = {
    "revisitop": {
        "easy": (["easy"], ["junk", "hard"]),
        "medium": (["easy", "hard"], ["junk"]),
        "hard": (["hard"], ["junk", "easy"]),
    },
    "positives": {"all": (["positive"], ["junk"])},
}


def official(rankings: list[Ranking], truth: list[dict[str, set[int]]]) -> dict[str, float] | None:
    """compute_map of revisitop, query by query, from whole rankings; plus recall@k.

    `truth`: {"ok", "junk"} as sets of database rows. None where no query has a positive.
    """
    aps, precisions, recalls = [], [], []
    for ranking, gnd in zip(rankings, truth, strict=True):
        if not gnd["ok"]:
            continue
        positions, position = [], 0  # of the positives, 0-based, junk passed over
        for row in ranking:
            if row in gnd["junk"]:
                continue
            if row in gnd["ok"]:
                positions.append(position)
            position += 1
        ap = 0.0
        for j, r in enumerate(positions):
            before = 1.0 if r == 0 else j / r
            ap += (before + (j + 1) / (r + 1)) / (2 * len(positions))
        aps.append(ap)
        one_based = [p + 1 for p in positions]
        row_p, row_r = [], []
        for k in (1, 5, 10):
            depth = min(max(one_based), k)
            row_p.append(sum(p <= depth for p in one_based) / depth)
            row_r.append(float(any(p <= k for p in one_based)))
        precisions.append(row_p)
        recalls.append(row_r)
    if not aps:
        return None
    out = {"map": sum(aps) / len(aps)}
    for i, k in enumerate((1, 5, 10)):
        out[f"mp@{k}"] = sum(p[i] for p in precisions) / len(precisions)
        out[f"recall@{k}"] = sum(r[i] for r in recalls) / len(recalls)
    return {key: 100 * value for key, value in out.items()}


def world(seed: int, protocol: str) -> tuple[list[Ranking], list[dict[str, list[int]]]]:
    """Random rankings of a database and random ground truths by list, some lists empty."""
    rng = np.random.default_rng(seed)
    n, names = (
        int(rng.integers(3, 60)),
        sorted({k for r in RULES[protocol].values() for k in r[0] + r[1]}),
    )
    rankings, lists = [], []
    for _ in range(8):
        rankings.append(rng.permutation(n).tolist())
        rows = rng.permutation(n)
        cut = np.sort(rng.integers(0, min(n, 15) + 1, len(names)))
        parts = np.split(rows[: cut[-1]], cut[:-1])
        lists.append({k: p.tolist() for k, p in zip(names, parts, strict=True)})
    return rankings, lists


def ranks_by(rankings: list[Ranking], lists: list[dict[str, list[int]]]) -> list[dict[str, Any]]:
    """0-based ranks of each list, in the order the rows are listed: what `rank.ranks` gives."""
    return [
        {k: np.array([order.index(i) for i in rows], dtype=np.int64) for k, rows in a.items()}
        for order, a in zip(rankings, lists, strict=True)
    ]


@pytest.mark.parametrize("protocol", ["revisitop", "positives"])
@pytest.mark.parametrize("seed", range(15))
def test_all_scores_are_the_official_ones(seed: int, protocol: str) -> None:
    rankings, lists = world(seed, protocol)
    found = protocols.load(protocol).all_scores(ranks_by(rankings, lists))
    for difficulty, (ok, junk) in RULES[protocol].items():
        truth = [
            {"ok": {i for k in ok for i in a[k]}, "junk": {i for k in junk for i in a[k]}}
            for a in lists
        ]
        expected = official(rankings, truth)
        if expected is None:
            assert difficulty not in found
            continue
        assert set(found[difficulty]) == set(expected)
        for key, value in expected.items():
            assert found[difficulty][key] == pytest.approx(value, abs=5.1e-5), key  # 4 digits kept
        exact = [
            metrics.average_precision(r)
            for r in protocols.load(protocol).of_difficulty(ranks_by(rankings, lists), difficulty)
            if len(r)
        ]
        assert 100 * float(np.mean(exact)) == pytest.approx(expected["map"], abs=1e-6)


def test_queries_without_positives_do_not_count() -> None:
    empty = np.array([], dtype=np.int64)
    query = {"easy": empty, "hard": np.array([0]), "junk": empty}
    other = {"easy": np.array([1]), "hard": empty, "junk": np.array([0])}
    found = protocols.load("revisitop").all_scores([query, other])
    assert found["easy"]["map"] == 100  # the second query alone: its junk is gone
    assert found["hard"]["map"] == 100  # the first alone
    assert found["medium"]["map"] == 100
    assert protocols.load("revisitop").all_scores([query]).keys() == {"medium", "hard"}
    assert metrics.scores([empty]) == {}


def test_per_query_scores_average_to_the_map() -> None:
    rankings, lists = world(3, "revisitop")
    ranks = ranks_by(rankings, lists)
    for difficulty, values in protocols.load("revisitop").per_query(ranks).items():
        assert len(values) == len(ranks)
        counted = [v for v in values if not math.isnan(v)]
        if counted:
            expected = protocols.load("revisitop").all_scores(ranks)[difficulty]["map"]
            assert float(np.mean(counted)) == pytest.approx(expected, abs=1e-4)


def test_the_folder_is_the_list_of_protocols() -> None:
    assert protocols.names() == ["positives", "revisitop", "svd"]
    assert [protocols.load(n).name for n in protocols.names()] == protocols.names()
    with pytest.raises(UserError, match="no 'revisitopp' in protocols .did you mean 'revisitop'"):
        protocols.load("revisitopp")


def test_headlines_are_of_the_main_difficulty_or_the_easiest_that_was_scored() -> None:
    revisitop = protocols.load("revisitop")
    assert revisitop.headline(["hard", "medium", "easy"]) == "medium"
    assert revisitop.headline(["hard", "easy"]) == "easy"
    assert protocols.load("svd").headline(["top-inf", "top-100"]) == "top-100"
    assert protocols.in_order(["top-inf", "x", "hard", "easy", "medium"])[-2:] == ["top-inf", "x"]
    assert protocols.in_order(["hard", "easy", "medium"]) == ["easy", "medium", "hard"]


def test_what_is_right_and_what_never_counts() -> None:
    rows = {
        n: np.array([i]) for i, n in enumerate(("easy", "hard", "junk", "positive", "negative"))
    }
    right = {n: protocols.load(n).positive(rows).tolist() for n in protocols.names()}
    assert right == {"revisitop": [0, 1], "positives": [3], "svd": [3]}
    junk = {n: protocols.load(n).junk(rows).tolist() for n in protocols.names()}
    assert junk == {"revisitop": [2], "positives": [2], "svd": []}


ONE = Protocol(lists=("a", "b"), difficulties={"all": Difficulty(("a",), ("b",))}, main="all")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"main": "easy"}, "no difficulty 'easy', its main one"),
        ({"lists": ("a",)}, "difficulty all must name lists of a, at least one"),
        ({"difficulties": {"all": Difficulty(())}}, "at least one as positive"),
        ({"difficulties": {"all": Difficulty(("a", "a"))}}, "none twice"),  # would score above 100
        ({"difficulties": {"all": Difficulty(("a",), ("a",))}}, "none twice"),
    ],
)
def test_a_protocol_that_does_not_add_up(change: dict[str, Any], message: str) -> None:
    ONE.check()
    with pytest.raises(UserError, match=message):
        replace(ONE, **change).check()


def test_no_score_is_above_100() -> None:
    ranks = [{"a": np.array([0]), "b": np.array([], dtype=np.int64)}]
    assert ONE.all_scores(ranks)["all"]["map"] == 100
    wrong = Difficulty(("a",), ("b",), scores=lambda ranks: {"map": 143.75})
    with pytest.raises(UserError, match="map of all is 143.75, not between 0 and 100"):
        replace(ONE, difficulties={"all": wrong}).all_scores(ranks)


def test_a_file_without_a_protocol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "amiss_empty.py").write_text("LISTS = ()\n")
    monkeypatch.setattr(protocols, "__path__", [*protocols.__path__, str(tmp_path)])
    with pytest.raises(UserError, match=r"amiss_empty\.py: has no PROTOCOL"):
        protocols.load("amiss_empty")
