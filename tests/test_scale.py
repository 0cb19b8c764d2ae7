"""GLDv2's own size through prepare, whiten and fuse: minutes, and under 4 GiB at their peaks."""

import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from project import ROOT
from ruamel.yaml import YAML

from stages.core import store
from stages.images.sets import TrainSet

IMAGES, LANDMARKS, LARGEST = 1_580_470, 81_313, 10_247
DIM, PEAK_GIB, MINUTES = 2048, 4.0, 30
pytestmark = pytest.mark.scale


def group_sizes() -> np.ndarray:
    """Sizes of GLDv2-clean's groups: their number, sum and largest, the rest log-normal."""
    rng = np.random.default_rng(0)
    sizes = np.clip(np.exp(rng.normal(2.1, 1.25, LANDMARKS)).astype(int), 2, LARGEST)
    sizes[0] = LARGEST
    while (rest := IMAGES - sizes.sum()) != 0:
        rows = 1 + rng.permutation(LANDMARKS - 1)[: min(abs(rest), LANDMARKS - 1)]
        sizes[rows] = np.clip(sizes[rows] + np.sign(rest), 2, LARGEST)
    return sizes


def tree(root: Path) -> None:
    """train_clean.csv and an empty file for each image: nothing here is decoded."""
    ids = (f"{(i * 0x9E3779B97F4A7C15) % 2**64:016x}" for i in range(IMAGES))
    for n in range(16**3):
        (root / "train" / "/".join(f"{n:03x}")).mkdir(parents=True)
    with (root / "train_clean.csv").open("w") as table:
        table.write("landmark_id,images\n")
        for landmark, size in enumerate(group_sizes().tolist()):
            names = [next(ids) for _ in range(size)]
            for name in names:
                (root / f"train/{name[0]}/{name[1]}/{name[2]}/{name}.jpg").touch()
            table.write(f"{landmark},{' '.join(names)}\n")


def params(folder: Path, **changes: object) -> None:
    values = YAML(typ="safe").load((ROOT / "params.yaml").read_text("utf-8"))
    values["teachers"] = {
        n: {"kind": "any_timm", "model": "resnet18", "image_px": 512} for n in "ab"
    }
    values["ensemble"] = ["a", "b"]
    values["evaluation"] = {}
    values["datasets"] = {"gldv2": {"root": str(folder / "gldv2"), "least": 2}}
    values["prepare"] |= {"dataset": "gldv2", "epochs": 200, "validation_share": 0.001, **changes}
    values["whiten"] |= {"dim": 512}
    values["fuse"] |= {"batch": 256, "epochs": 1, "dim": 512}
    with (folder / "params.yaml").open("w") as f:
        YAML(typ="safe").dump(values, f)


def run(folder: Path, *arguments: str) -> None:
    """A stage by itself; prints its time and peak, and holds both to the bounds."""
    code = (
        "import resource, runpy, sys\nsys.argv = sys.argv[1:]\n"
        "try:\n    runpy.run_module('stages.' + sys.argv[0], run_name='__main__')\n"
        "except SystemExit as end:\n    assert not end.code\n"
        "print('PEAK', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments, "--params", str(folder / "params.yaml")],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    peak = int(done.stdout.split("PEAK")[1]) / 2**20
    minutes = (time.monotonic() - start) / 60
    print(f"\n{arguments[0]}: {minutes:.1f} min, peak {peak:.2f} GiB\n{done.stderr[-600:]}")
    assert peak < PEAK_GIB and minutes < MINUTES


def features(file: Path, views: TrainSet) -> None:
    """Unit rows of a low-rank cloud, one a stored view."""
    rng = np.random.default_rng(0)
    mix = rng.standard_normal((256, DIM), dtype=np.float32)
    with store.create(file, "features", train=views.digest) as writer:
        writer.dataset("descriptor", (len(views.view_image), DIM), np.float16)
        for start in range(0, len(views.view_image), 1 << 14):
            n = min(1 << 14, len(views.view_image) - start)
            x = rng.standard_normal((n, 256), dtype=np.float32) @ mix
            x += rng.standard_normal((1, DIM), dtype=np.float32)
            writer.append("descriptor", x / np.linalg.norm(x, axis=1, keepdims=True))


def test_a_million_and_a_half_images(tmp_path: Path) -> None:
    if shutil.disk_usage(tmp_path).free < 24 * 2**30:
        pytest.skip("needs 24 GiB of disk")
    tree(tmp_path / "gldv2")
    params(tmp_path, views=8)
    run(tmp_path, "prepare", str(tmp_path / "many"))
    many = TrainSet.read(tmp_path / "many/train.h5")
    print(f"{len(many.image_id)} images, {len(many.view_image)} views at most 8 an image")
    shutil.rmtree(tmp_path / "many")
    params(tmp_path, views=1)
    prepared = tmp_path / "prepared"
    run(tmp_path, "prepare", str(prepared))
    views = TrainSet.read(prepared / "train.h5")
    assert len(views.view_image) == len(views.image_id) > 1_570_000
    features(tmp_path / "features.h5", views)
    white = tmp_path / "whitened"
    run(
        tmp_path, "whiten", "a", str(prepared / "train.h5"), str(tmp_path / "features.h5"),
        str(tmp_path / "a.h5"), str(white / "a.h5"),
    )  # fmt: skip
    (tmp_path / "features.h5").unlink()
    (white / "b.h5").hardlink_to(white / "a.h5")
    out = tmp_path / "targets"
    run(tmp_path, "fuse", str(prepared / "train.h5"), str(white), str(out), str(tmp_path / "f.h5"))
    shards = store.Stored(out / "epoch-0000.h5", "targets")["target"].shape
    assert shards == ((LANDMARKS - len(left_out(views))) // 256, 256, 256)
    for folder in ("gldv2", "prepared", "whitened", "targets"):
        shutil.rmtree(tmp_path / folder)


def left_out(views: TrainSet) -> set[int]:
    """Landmarks that were set aside."""
    return set(range(LANDMARKS)) - set(np.unique(views.group).tolist())
