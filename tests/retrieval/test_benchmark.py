"""A set among distractors: ranked as if they had been in it, in blocks; others' files refused."""

from pathlib import Path

import numpy as np
import pytest

from stages.core import files, store
from stages.core.errors import UserError
from stages.retrieval import rank
from stages.retrieval.benchmark import Benchmark
from stages.retrieval.scoring_rules import ScoringRules, differences, warning

N, EXTRA, DIM = 30, 50, 8
RNG = np.random.default_rng(0)


def open_file(path: Path) -> store.Stored:
    return store.Stored(path, "descriptors")


def a_set(folder: Path, name: str, n: int, queries: int = 0) -> str:
    ids = np.array([f"{name} {i}" for i in range(n)])
    box = np.full((n, 4), np.nan, np.float32)
    box[:queries] = [0, 0, 9, 9]
    role = np.array(["query"] * queries + ["database" if queries else "distractor"] * (n - queries))
    arrays = {"image_id": ids, "path": ids, "role": role, "box": box}
    store.write(folder / f"{name}.h5", "evaluation", arrays, root="/r", images="0")
    if queries:
        answers = [
            {"image_id": ids[q], "easy": [ids[3 + q]], "hard": [ids[9]], "junk": [ids[12 + q]]}
            for q in range(queries)
        ]
        values = {"format": "", "protocol": "revisitop", "queries": answers}
        files.write_text(folder / f"{name}.json", files.to_json(values))
    return store.Stored(folder / f"{name}.h5", "evaluation").digest


def described(folder: Path, name: str, rows: np.ndarray, digest: str, **about: str) -> None:
    about = {"weights": "w", "scales": "1", "image_px": "64", "set": digest, **about}
    ids = np.array([str(i) for i in range(len(rows))])
    store.write(
        folder / f"{name}.h5", "descriptors", {"descriptor": rows, "image_id": ids}, **about
    )


@pytest.fixture
def world(tmp_path: Path) -> tuple[Benchmark, np.ndarray, Path]:
    digests = {n: a_set(tmp_path, n, *c) for n, c in {"ox": (N, 2), "far": (EXTRA,)}.items()}
    rows = np.eye(DIM, dtype=np.float16)[RNG.integers(0, DIM, N + EXTRA)]  # few values: many ties
    described(tmp_path / "m", "ox", rows[:N], digests["ox"])
    described(tmp_path / "m", "far", rows[N:], digests["far"])
    return Benchmark.read(tmp_path, "ox"), rows, tmp_path


def test_distractors_count_as_if_they_were_in_the_set(world, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    plain, rows, folder = world
    joined = plain.among(folder, "far")
    assert (plain.name, plain.count) == ("ox", N - 2)
    assert (joined.name, joined.count) == ("ox+far", N - 2 + EXTRA)
    monkeypatch.setattr(rank, "BLOCK_ROWS", 7)
    for benchmark, end in ((plain, N), (joined, N + EXTRA)):
        m = benchmark.described(folder / "m", open_file)
        found = benchmark.ranks(m.query, m.database)
        for q, ranks in enumerate(found):
            sims = rows[2:end].astype(np.float32) @ rows[q].astype(np.float32)
            order = np.lexsort((np.arange(len(sims)), -sims))
            for kind, wanted in benchmark.truth.queries[q].lists.items():
                assert ranks[kind].tolist() == [int(np.flatnonzero(order == w)[0]) for w in wanted]


def test_rules_differ_by_the_distractors_alone(world) -> None:  # type: ignore[no-untyped-def]
    plain, _, folder = world
    joined = plain.among(folder, "far")
    here, there = (p.rules(p.described(folder / "m", open_file)) for p in (plain, joined))
    assert (here.crop, here.image_px, here.scales, here.dtype) == (
        "cut to boxes",
        "64",
        "1",
        "float16",
    )
    assert differences(here, there) == [
        f"database: {N - 2} here, {N - 2 + EXTRA} there", f"distractors: 0 here, {EXTRA} there",
    ]  # fmt: skip
    assert "do not compare these scores" in str(warning("x", here, there))
    assert warning("x", here, here) is None and here.digest != there.digest
    assert here.ground_truth == there.ground_truth
    changed = plain.rules(plain.described(folder / "m", open_file), whitening="pca of sfm")
    assert differences(here, changed) == ["whitening: none here, pca of sfm there"]
    assert isinstance(changed, ScoringRules)


def test_descriptors_of_other_settings_are_refused(world) -> None:  # type: ignore[no-untyped-def]
    plain, rows, folder = world
    joined = plain.among(folder, "far")
    digest = store.Stored(folder / "far.h5", "evaluation").digest
    for about in ({"scales": "1 0.5"}, {"weights": "others"}, {"image_px": "1024"}):
        described(folder / "m", "far", rows[N:], digest, **about)
        with pytest.raises(UserError, match=r"far\.h5: described otherwise than .*ox\.h5"):
            joined.described(folder / "m", open_file)
    described(folder / "m", "far", np.eye(4, dtype=np.float16)[np.zeros(EXTRA, int)], digest)
    with pytest.raises(UserError, match="described otherwise"):
        joined.described(folder / "m", open_file)
    described(folder / "m", "far", rows[N:], "another")
    with pytest.raises(UserError, match="describes other images than set far"):
        joined.described(folder / "m", open_file)


def test_the_sample_for_plots_counts_each_verdict_once(world) -> None:  # type: ignore[no-untyped-def]
    plain, _, folder = world
    joined = plain.among(folder, "far")
    rows, verdict = joined.sample(10_000)
    assert rows.tolist() == list(range(joined.count))
    assert (verdict == 1).sum(1).tolist() == [2, 2] and (verdict == -1).sum(1).tolist() == [1, 1]
    rows, verdict = joined.sample(5)
    assert len(rows) < joined.count and (verdict == 1).sum() == 4  # no positive is lost
    drawn = (verdict >= 0).any(0).sum()
    assert (verdict == 0).sum() <= 2 * drawn
