"""`from whiten_mtd import ...`: lazy, documented, held to what the stages do."""

import hashlib
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from project import ROOT, installed, run

import stages
from stages import (
    UserError,
    apply_whitening,
    average_precision,
    fit_whitening,
    fuse_similarities,
    load_index,
    load_student,
)
from stages.distill import fusion, learned_whitening
from stages.distill.learned_whitening import within_all

RNG = np.random.default_rng(0)
X = RNG.standard_normal((200, 6)) @ RNG.standard_normal((6, 6)) + 3


def test_the_examples_do_what_they_say(tmp_path: Path) -> None:
    code = (
        "import doctest, sys, whiten_mtd._interface as m; r = doctest.testmod(m); "
        "print(r.attempted, 'torch' in sys.modules, 'faiss' in sys.modules); sys.exit(r.failed)"
    )
    path = installed(tmp_path / "site")
    done = run(sys.executable, "-c", code, cwd=tmp_path, PYTHONPATH=path)
    attempted, torch, faiss = done.stdout.split()
    assert int(attempted) >= 12 and (torch, faiss) == ("False", "False")


def test_the_package_is_light_and_no_name_hides_a_module(tmp_path: Path) -> None:
    taken = {p.stem for p in (ROOT / "stages").iterdir() if p.name != "__init__.py"}
    assert not set(stages.INTERFACE) & taken
    assert set(stages.INTERFACE) <= set(dir(stages))
    code = (
        "import sys, whiten_mtd; assert 'numpy' not in sys.modules; "
        "from whiten_mtd import *; from whiten_mtd import load_student, train, whiten; "
        "assert train.app and whiten.app and average_precision([0]) == 1; "
        "assert not {'torch', 'faiss', 'onnxruntime'} & set(sys.modules)"
    )
    run(sys.executable, "-c", code, cwd=tmp_path, PYTHONPATH=installed(tmp_path / "site"))
    with pytest.raises(AttributeError, match="no attribute 'load_students'"):
        stages.load_students  # noqa: B018


def test_pca_whitening_makes_dimensions_alike() -> None:
    y = (X - X.mean(0)) @ fit_whitening(X).projection.T
    np.testing.assert_allclose(np.cov(y.T, bias=True), np.eye(6), atol=1e-9)
    rotated = fit_whitening(X, exponent=0.0).projection
    np.testing.assert_allclose(rotated @ rotated.T, np.eye(6), atol=1e-9)


def test_learned_whitening_is_that_of_the_stage() -> None:
    """Against the covariance of all pairs of a group, by loops."""
    group = np.repeat(np.arange(-1, 39), 5)
    fitted = fit_whitening(X, group, shrinkage=0.0, floor=0.0)
    outer, pairs = np.zeros((6, 6)), 0
    for g in range(39):
        rows = X[group == g]
        for i in range(5):
            for j in range(i):
                outer += np.outer(rows[i] - rows[j], rows[i] - rows[j])
                pairs += 1
    white = fitted.projection @ (outer / (2 * pairs)) @ fitted.projection.T
    np.testing.assert_allclose(white, np.eye(6), atol=1e-8)
    shuffled = RNG.permutation(200)
    again = fit_whitening(X[shuffled], group[shuffled], shrinkage=0.0, floor=0.0)
    np.testing.assert_allclose(again.projection, fitted.projection, atol=1e-8)
    assert within_all is learned_whitening.within_all


def test_applied_rows_are_unit_and_one_row_is_taken() -> None:
    fitted = fit_whitening(X, dim=3)
    y = apply_whitening(fitted, X)
    assert y.shape == (200, 3) and y.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(y, axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(apply_whitening(fitted, X[7]), y[7:8], atol=1e-6)


@pytest.mark.parametrize("name", fusion.STRATEGIES)
def test_fusion_is_that_of_the_stage_and_leaves_its_input(name: str) -> None:
    sims = RNG.random((3, 4, 4))
    before = sims.copy()
    fused = fuse_similarities(sims, name, seed=5)
    np.testing.assert_array_equal(sims, before)
    np.testing.assert_array_equal(
        fused, fusion.STRATEGIES[name](sims.copy(), np.random.default_rng(5))
    )


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: fit_whitening(X, dim=7), "dim is 7"),
        (lambda: fit_whitening(X * np.nan), "NaN"),
        (lambda: fit_whitening(np.array([["a"]])), "numbers"),
        (lambda: fit_whitening(X, np.zeros(3, int)), "200 whole numbers"),
        (lambda: fit_whitening(X, np.arange(200)), "no group has two rows"),
        (lambda: apply_whitening(fit_whitening(X), X[:, :3]), "3 dimensions"),
        (lambda: fuse_similarities(X[None, :2, :2], "maxmim"), "did you mean 'maxmin'"),
        (lambda: fuse_similarities(X), "must be"),
        (lambda: average_precision([]), "no rank"),
        (lambda: average_precision([1, 1]), "once"),
        (lambda: average_precision([1], junk=[1]), "once"),
        (lambda: load_index("nowhere"), "no such index"),
        (lambda: load_student("nowhere"), "config.json"),
        (lambda: load_student("hf://nobody"), "hf://OWNER/NAME"),
        (lambda: load_student("hf://a//b"), "hf://OWNER/NAME"),
        (lambda: load_student("hf://..a/b c"), "not an address"),
    ],
)
def test_bad_input_is_one_line(call, words: str, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UserError, match=words) as error:
        call()
    assert "\n" not in str(error.value)


HUB = """
import sys, torch
from whiten_mtd import UserError, load_student
x = torch.rand(2, 3, 40, 40, generator=torch.Generator().manual_seed(0))
try:
    a, b = load_student(sys.argv[1])(x), load_student(sys.argv[2])(x)
    assert torch.equal(a, b)
    print("same")
except UserError as error:
    print(error)
"""


def cached(folder: Path, hub: Path, commit: str) -> None:
    """A student as the hub's client keeps it once it was fetched from `someone/student`."""
    place = hub / "models--someone--student"
    snapshot = place / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (place / "refs").mkdir()
    (place / "refs/main").write_text(commit)
    for name in ("config.json", "model.safetensors"):
        blob = place / "blobs" / hashlib.sha256((folder / name).read_bytes()).hexdigest()
        blob.parent.mkdir(exist_ok=True)
        shutil.copy(folder / name, blob)
        (snapshot / name).symlink_to(blob)


def saved_student(folder: Path) -> Path:
    from stages.distill import student

    made = student.create(
        "test_resnet", dim=8, image_px=40, pool="auto", gem_p=3.0, source="random", seed=0
    )
    student.save(made, folder, "A card.\n")
    return folder


@pytest.mark.long
def test_a_student_of_the_hub_comes_out_of_its_cache(tmp_path: Path) -> None:
    folder, commit = saved_student(tmp_path / "student"), 40 * "a"
    cached(folder, tmp_path / "hub", commit)
    path = installed(tmp_path / "site")

    def asked(address: str) -> str:
        done = run(
            sys.executable, "-c", HUB, address, str(folder), cwd=tmp_path, PYTHONPATH=path,
            HF_HUB_CACHE=str(tmp_path / "hub"), HF_HUB_OFFLINE="1",
        )  # fmt: skip
        return done.stdout.strip()

    assert asked("hf://someone/student") == "same"
    assert asked(f"hf://someone/student@{commit}") == "same"
    assert asked("hf://someone/other") == (
        "hf://someone/other: neither in the hub's cache nor to be had (HF_HUB_OFFLINE is set)"
    )
    weights = tmp_path / "hub/models--someone--student/snapshots" / commit / "model.safetensors"
    weights.unlink()
    weights.write_bytes(b"cut off")
    assert "not the weights that config.json describes" in asked("hf://someone/student")


SEARCH = """
import json, sys
import numpy as np
from whiten_mtd import load_index
index = load_index("my-index")
assert "torch" not in sys.modules
by_image = index.search([sys.argv[1]], top=3)
by_row = index.search(2.5 * index.describe([sys.argv[1]])[0], top=3)
print(json.dumps([len(index), by_image, by_row]))
"""


@pytest.mark.long
def test_an_index_is_searched_without_torch(world: Path) -> None:
    tool = (sys.executable, "-m", "stages")
    run(*tool, "export", "models/student", "exported", cwd=world)
    images = "data/prepared/images"
    run(*tool, "index", images, "my-index", "--model", "exported", cwd=world)
    (world / "whiten_mtd").symlink_to("stages")
    query = str(sorted((world / images).rglob("*.jpg"))[0])
    done = run(sys.executable, "-c", SEARCH, query, cwd=world, PYTHONPATH=".")
    count, by_image, by_row = json.loads(done.stdout)
    told = json.loads(
        run(*tool, "search", "my-index", query, "--top", "3", "--json", cwd=world).stdout
    )
    assert by_image == by_row == [told["answers"][0]["results"]] and count == told["images"]
    assert by_image[0][0]["score"] == pytest.approx(1, abs=1e-3)
