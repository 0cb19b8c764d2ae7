"""Trees in the shapes of GLDv2, ROxford, RParis and R1M, official files, through the whole DAG."""

import json
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from project import checkout, run, write_params
from teachers.conftest import generate, reference, sequential

from stages.core import store

LANDMARKS, DATABASE, QUERIES, DISTRACTORS = 12, 9, 3, 12
pytestmark = pytest.mark.long


def image(path: Path, seed: int, size: tuple[int, int] = (72, 56)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    small = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    Image.fromarray(small).resize(size, Image.Resampling.BICUBIC).save(path, quality=90)


def gldv2(root: Path) -> list[str]:
    lines, ids = ["landmark_id,images"], []
    for landmark in range(LANDMARKS):
        names = [f"{landmark * 50 + i:x}".rjust(3, "0") + "0" * 13 for i in range(2 + landmark % 3)]
        for i, name in enumerate(names):
            image(root / f"train/{name[0]}/{name[1]}/{name[2]}/{name}.jpg", 10 * landmark + i)
        lines.append(f"{landmark + 7},{' '.join(names)}")
        ids += names
    (root / "meta").mkdir()
    (root / "meta/train_clean.csv").write_text("\n".join(lines) + "\n")
    return ids


def asked(root: Path, name: str, seed: int) -> list[str]:
    """Queries with and without easy positives, with empty junk, of several shapes."""
    database = [f"{name}_{i:06d}" for i in range(DATABASE)]
    queries = [f"{name}_q{i}" for i in range(QUERIES)]
    for i, one in enumerate(database + queries):
        image(root / name / f"jpg/{one}.jpg", seed + i, (72, 56) if i % 2 else (50, 80))
    gnd = [
        {"bbx": [3.5, 4, 40.25, 44], "easy": [0, 1], "hard": [2], "junk": [3]},
        {"bbx": [0, 0, 30, 30], "easy": [], "hard": [4, 5], "junk": []},
        {"bbx": [5, 5, 45, 50], "easy": [6], "hard": [], "junk": [7, 8]},
    ]
    known = {"imlist": database, "qimlist": queries, "gnd": gnd}
    (root / name / f"gnd_{name}.pkl").write_bytes(pickle.dumps(known, protocol=2))
    return queries + database


def distractors(root: Path) -> list[str]:
    """The last of them truncated, as some of the million are."""
    names = [f"{i:03x}/{i:03x}f{i}.jpg" for i in range(DISTRACTORS)]
    for i, name in enumerate(names):
        image(root / "revisitop1m/jpg" / name, 900 + i)
    path = root / "revisitop1m/jpg" / names[-1]
    path.write_bytes(path.read_bytes()[:-300])
    (root / "revisitop1m/revisitop1m.txt").write_text("\n".join(names) + "\n")
    return names[:-1]


def gem_file(path: Path) -> None:
    """The container and the keys of the published GeM, with generated weights."""
    state = {sequential(k): v for k, v in reference("resnet101", seed=1).state_dict().items()}
    head = generate({"whiten.weight": (2048, 2048), "whiten.bias": (2048,)}, 11)
    meta = {"pooling": "gem", "whitening": True, "outputdim": 2048}
    torch.save({"meta": meta, "state_dict": {**state, **head, "pool.p": torch.tensor([2.6])}}, path)


@pytest.fixture(scope="module")
def landmarks(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str]:
    """(project, downloads, what `dvc repro` said)."""
    base = tmp_path_factory.mktemp("landmarks")
    files = base / "downloads"
    ids = gldv2(files / "gldv2")
    root = files / "revisitop"
    for seed, name in ((300, "roxford5k"), (600, "rparis6k")):
        ids += asked(root, name, seed)
    ids += distractors(root)
    gem_file(files / "gl18-tl-resnet101-gem-w.pth")
    rows = np.random.default_rng(0).standard_normal((len(ids), 24)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    arrays = {"descriptor": rows, "image_id": np.array(ids)}
    store.write(files / "ready.h5", "descriptors", arrays)
    folder = checkout(base / "project")
    one: dict[str, Any] = {"dataset": "revisitop", "distractors": "revisitop1m"}
    write_params(
        folder / "params.yaml",
        ensemble=["gem", "ready"],
        teachers={
            "gem": {"kind": "gem", "weights": str(files / "gl18-tl-resnet101-gem-w.pth"), "image_px": 64},
            "ready": {"kind": "precomputed", "descriptors": [str(files / "ready.h5")]},
        },
        evaluation={"roxford5k": one, "rparis6k": one, "revisitop1m": {"dataset": "revisitop"}},
        datasets={
            "gldv2": {"root": str(files / "gldv2"), "least": 2, "exclude": [7]},
            "revisitop": {"root": str(root), "crop_queries": True},
        },
        **{
            "prepare.dataset": "gldv2", "whiten.dim": 12, "train.loss": "prototype", "train.head": "ridge",
            "describe.scales": {"default": [1.0, 0.5], "gem": [1.0]},
            "describe.image_px": {"default": None, "gem": "native"},
        },
    )  # fmt: skip
    run("git", "commit", "-qam", "landmarks", cwd=folder)
    said = ""
    for target in (["fuse"], ["train"], []):  # a busy machine needs longer than one run may take
        done = run("dvc", "repro", *target, cwd=folder, DVC_SITE_CACHE_DIR=str(base / "site"))
        said += done.stdout + done.stderr
    return folder, files, said


def tool(folder: Path, *arguments: str) -> str:
    return run(sys.executable, "-m", "stages", *arguments, cwd=folder).stdout


def test_scores_with_and_without_distractors(landmarks) -> None:  # type: ignore[no-untyped-def]
    folder, _, said = landmarks
    assert "1 of 12 left out, truncated: 00b/00bf11.jpg" in said
    assert "1 landmarks excluded as asked" in said
    assert "crops and flips have none of their own" in said
    table = json.loads((folder / "data/results/metrics.json").read_text())
    sets = ["roxford5k", "rparis6k"]
    assert set(table) == {*sets, *(f"{s}+revisitop1m" for s in sets)}
    for name in sets:
        models = {"student", "untrained", "gem", "ready", "ensemble", "fused", "asymmetric"}
        assert set(table[name]) == models
        for model in models - {"gem", "ready"}:
            for level in ("easy", "medium", "hard"):
                among = table[f"{name}+revisitop1m"][model][level]["map"]
                assert 0 < among <= table[name][model][level]["map"]
    described = sorted(p.name for p in (folder / "data/described/gem").iterdir())
    assert described == ["revisitop1m.h5", "roxford5k.h5", "rparis6k.h5"]  # the million once


def test_protocols_say_what_was_done(landmarks) -> None:  # type: ignore[no-untyped-def]
    folder, _, said = landmarks
    rules = json.loads((folder / "data/results/scoring_rules.json").read_text())
    among = rules["roxford5k+revisitop1m"]
    assert among["student"]["distractors"] == 11 and among["student"]["database"] == DATABASE + 11
    assert among["gem raw"]["image_px"] == "native" and among["gem raw"]["scales"] == "1"
    assert among["student"]["scales"] == "1 0.5" and among["student"]["image_px"] == "40"
    assert among["gem whitened"]["whitening"].startswith("pca to 12 of training views ")
    assert among["ready raw"]["image_px"] == "unknown"
    assert {r["crop"] for r in among.values()} == {"cut to boxes"}
    assert "roxford5k+revisitop1m: revisitop, queries cut to boxes, 20 images searched" in said
    truths = {r["ground_truth"] for s in rules.values() for r in s.values()}
    assert len(truths) == 2


def test_score_reads_the_official_pickle(landmarks) -> None:  # type: ignore[no-untyped-def]
    folder, files, _ = landmarks
    table = json.loads((folder / "data/results/metrics.json").read_text())
    rules = json.loads((folder / "data/results/scoring_rules.json").read_text())
    pkl = str(files / "revisitop/rparis6k/gnd_rparis6k.pkl")
    one = "data/described/student/rparis6k.h5"
    for more, name in (
        ([], "rparis6k"),
        (["--distractors", "data/described/student/revisitop1m.h5"], "rparis6k+revisitop1m"),
    ):
        found = json.loads(tool(folder, "score", one, one, pkl, "--json", *more))
        assert found.pop("scoring_rules") == rules[name]["student"]
        assert found == table[name]["student"]


def test_tools_and_a_second_run(landmarks) -> None:  # type: ignore[no-untyped-def]
    folder, _, _ = landmarks
    assert run("dvc", "repro", cwd=folder).stdout.count("Running stage") == 1  # look
    assert "ready: ready descriptors, no network to run" in tool(folder, "verify")
    told = tool(folder, "doctor")
    assert "12 landmarks, 36 images listed" in told
    assert "3 queries, 9 images, all there" in told
    assert "roxford5k+revisitop1m" in tool(folder, "results", "--against", "data/results")
