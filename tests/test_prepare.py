"""The stage `prepare` on a folder of small images: its files, its split, what it refuses."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from ruamel.yaml import YAML

from stages import prepare
from stages.core import console, files, store
from stages.distill import batches
from stages.images.sets import EvaluationSet, TrainSet
from stages.retrieval.ground_truth import GroundTruth
from stages.tools.setup import preset as presets

ROOT = Path(__file__).parents[1]
PREPARE = {
    "dataset": "folder", "seed": 0, "views": 4, "epochs": 3, "validation_share": 0.3,
    "labelled_share": 1.0, "validation_images": 20,
}  # fmt: skip
FOLDER = {"root": "images", "seed": 0, "evaluation_share": 0.25, "queries": 1}


def image(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (8, 10, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


class World:
    """A folder of 20 instances of 2 to 4 images and two loose ones, and what was prepared."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.out = folder, folder / "out"
        for k in range(20):
            for i in range(2 + k % 3):
                image(folder / f"images/größe {k:02d}/{i}.png", 10 * k + i)
        for i in range(2):
            image(folder / f"images/loose {i}.png", 1000 + i)

    def run(self, evaluation: Any = None, **changes: Any) -> int:
        values = YAML(typ="safe").load((ROOT / "params.yaml").read_text("utf-8"))
        settings = {k: changes.pop(k, v) for k, v in FOLDER.items() if k != "seed"}
        root = str(self.folder / settings.pop("root"))
        values["datasets"] = {"folder": {**settings, "root": root, "seed": 0}}
        values["evaluation"] = {"own": {"dataset": "folder"}} if evaluation is None else evaluation
        values["fuse"]["batch"] = changes.pop("batch", 4)
        values["prepare"] = {k: v for k, v in {**PREPARE, **changes}.items() if v is not None}
        with (self.folder / "params.yaml").open("w") as f:
            YAML(typ="safe").dump(values, f)
        arguments = [str(self.out), "--params", str(self.folder / "params.yaml")]
        return console.run(prepare.app, arguments)

    def train(self) -> TrainSet:
        return TrainSet.read(self.out / "train.h5")

    def outputs(self) -> dict[str, str]:
        written = [p for p in self.out.rglob("*") if p.is_file()]
        return {str(p): files.digest_of_file(p) for p in written}


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_every_image_has_its_group_and_its_views(world: World) -> None:
    assert world.run() == 0
    t = world.train()
    assert t.columns == ("x", "y", "width", "height", "flip")
    assert t.group.dtype == np.int32 and t.view_image.dtype == np.int32
    folders = np.array([p.rsplit("/", 1)[0] if "/" in p else "" for p in t.path.tolist()])
    for i in range(len(folders)):
        if not folders[i]:
            assert t.group[i] == -1
        else:
            assert np.array_equal(t.group == t.group[i], folders == folders[i])
    counts = np.diff(t.spans())
    for i, count in enumerate(counts.tolist()):
        size = 1 if t.group[i] < 0 else int((t.group == t.group[i]).sum())
        wanted = min(-(-2 * 3 // size), 4)  # 2 epochs / size uses, 4 at most
        assert count == max(wanted, 2 if size == 1 else 1)
    assert all((t.root / p).is_file() for p in t.path.tolist())
    x, y, w, h, flip = t.view.T
    assert x.min() >= 0 and (x + w).max() <= 1 + 1e-6 and (y + h).max() <= 1 + 1e-6
    assert set(flip.tolist()) <= {0, 1}


def test_training_validation_and_evaluation_share_no_group(world: World) -> None:
    assert world.run() == 0
    t = world.train()
    v = EvaluationSet.read(world.out / "validation.h5")
    e = EvaluationSet.read(world.out / "evaluation/own.h5")
    sets = [{p.rsplit("/", 1)[0] for p in s.path.tolist() if "/" in p} for s in (t, v, e)]
    assert not (sets[0] & sets[1]) and not (sets[0] & sets[2]) and not (sets[1] & sets[2])
    assert len(sets[0] | sets[1] | sets[2]) == 20
    assert len(sets[1]) >= 1 and len(sets[2]) == 5
    truth = json.loads((world.out / "validation.json").read_text("utf-8"))
    parsed = GroundTruth.parse(truth, v.image_id, "validation")
    names = [p.rsplit("/", 1)[0] for p in v.path.tolist()]
    row = {i: k for k, i in enumerate(v.image_id.tolist())}
    assert len(parsed.queries) == len(v.image_id)
    for q in parsed.queries:
        mine = row[q.image_id]
        others = [k for k in range(len(names)) if names[k] == names[mine] and k != mine]
        assert q.lists["positive"].tolist() == others
        assert q.lists["junk"].tolist() == [mine]
    own = json.loads((world.out / "evaluation/own.json").read_text("utf-8"))
    database = e.image_id[e.role != "query"]
    assert len(GroundTruth.parse(own, database, "own").queries) == 5


def test_same_parameters_same_bytes_and_the_seed_moves_the_views(world: World) -> None:
    assert world.run() == 0
    first = world.outputs()
    assert world.run() == 0
    assert world.outputs() == first
    old = world.train().view
    assert world.run(validation_share=0.0) == 0
    still = world.train().view
    assert world.run(validation_share=0.0, seed=1) == 0
    assert world.train().view.shape == still.shape
    assert not np.array_equal(world.train().view, still)
    assert {v.tobytes() for v in old} < {v.tobytes() for v in still}  # the choice moves no view


def test_nothing_set_aside_is_an_empty_set_of_text(world: World) -> None:
    assert world.run(validation_share=0.0) == 0
    v = store.Stored(world.out / "validation.h5", "evaluation")
    for name in ("image_id", "path", "role"):
        assert len(v[name]) == 0 and v[name].dtype.kind == "U", name
    assert json.loads((world.out / "validation.json").read_text())["queries"] == []


def test_what_later_stages_will_miss_is_said(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    said = []
    for batch, share in ((3, 0.3), (500, 0.3), (3, 0.001), (3, 0.0)):
        assert world.run(validation_share=share, batch=batch) == 0
        said.append(capsys.readouterr().err)
    groups = len(np.unique(batches.units(world.train().group)))
    assert ["fuse.batch is 500" in text for text in said] == [False, True, False, False]
    assert ["no validation groups" in text for text in said] == [False, False, True, False]
    assert world.run(validation_share=0.0, batch=groups) == 0
    assert "fuse.batch" not in capsys.readouterr().err
    assert world.run(validation_share=0.0, batch=groups + 1) == 0
    assert f"there are {groups} training groups" in capsys.readouterr().err


def test_a_larger_share_only_adds_validation_groups(world: World) -> None:
    chosen = []
    for share in (0.1, 0.3, 0.5):
        assert world.run(validation_share=share) == 0
        chosen.append(set(EvaluationSet.read(world.out / "validation.h5").path.tolist()))
    assert chosen[0] <= chosen[1] <= chosen[2] and len(chosen[0]) < len(chosen[2])


def test_images_without_their_label_stay(world: World) -> None:
    assert world.run(validation_share=0.0) == 0
    whole = world.train()
    assert world.run(validation_share=0.0, labelled_share=0.5) == 0
    half = world.train()
    assert np.array_equal(half.path, whole.path)
    kept = half.group >= 0
    assert 0 < kept.sum() < (whole.group >= 0).sum()
    assert np.array_equal(half.group[kept], whole.group[kept])
    for group in set(whole.group[kept].tolist()):  # a group keeps its label whole
        assert kept[whole.group == group].all()
    assert world.run(validation_share=0.0, labelled_share=0.0) == 0
    assert (world.train().group == -1).all()


def refusal(world: World, capsys: pytest.CaptureFixture[str], **changes: Any) -> str:
    """Exit 2, one line, and no output touched."""
    before = world.outputs()
    capsys.readouterr()
    assert world.run(**changes) == 2
    text = capsys.readouterr().err
    assert text.splitlines()[-1:] == [x for x in text.splitlines() if x.startswith("error: ")], text
    assert world.outputs() == before
    return text.splitlines()[-1]


def test_names_that_are_not_known(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert "did you mean 'folder'?" in refusal(world, capsys, dataset="foldr")
    assert "datasets.demo: missing" in refusal(world, capsys, dataset="demo")
    entry = {"own": {"dataset": "folder", "extra": 1}}
    assert "evaluation.own.extra: unknown key" in refusal(world, capsys, evaluation=entry)
    assert "evaluation" in refusal(world, capsys, evaluation=["own"])


@pytest.mark.parametrize("name", ["../escape", "a/b", "", "validation\n"])
def test_a_set_whose_name_is_no_file_name(
    world: World, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    refusal(world, capsys, evaluation={name: {"dataset": "folder"}})
    assert not (world.folder / "escape.h5").exists() and not (world.out / "escape.h5").exists()


@pytest.mark.parametrize(
    ("key", "value"),
    [("views", 0), ("epochs", 0), ("validation_share", 0.6), ("validation_share", -0.1),
     ("labelled_share", 1.1), ("seed", -1), ("dataset", None), ("seed", 1.5)],
)  # fmt: skip
def test_impossible_knobs(
    world: World, capsys: pytest.CaptureFixture[str], key: str, value: Any
) -> None:
    assert f"prepare.{key}" in refusal(world, capsys, **{key: value})


def test_images_that_are_not_there(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert "nowhere" in refusal(world, capsys, root="nowhere")
    (world.folder / "empty").mkdir()
    assert "empty" in refusal(world, capsys, root="empty")


def test_nothing_is_replaced_where_an_evaluation_set_fails(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    """The training files and the sets belong together: a late mistake leaves the old ones."""
    assert world.run() == 0
    sets = {"own": {"dataset": "folder"}, "other": {"dataset": "demo"}}
    assert "datasets.demo" in refusal(world, capsys, evaluation=sets, seed=1)


def test_all_groups_set_aside_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two groups, both drawn for validation by an unlucky seed: nothing would be left."""
    for k in range(2):
        for i in range(2):
            image(tmp_path / f"images/{k}/{i}.png", 10 * k + i)
    world = object.__new__(World)
    world.folder, world.out = tmp_path, tmp_path / "out"
    both = []
    for seed in range(40):
        code = world.run(evaluation={}, evaluation_share=0.0, validation_share=0.5, seed=seed)
        if code == 0:
            both.append(len(world.train().image_id))
    assert both and min(both) > 0  # where it says yes, there is something to train on


def test_a_pair_of_a_video_is_one_frame_by_both_recipes(tmp_path: Path) -> None:
    """Videos end to end: an odd limit of views is raised, lone videos pair their views in turn."""
    (tmp_path / "lists").mkdir()
    names = [f"v{k}" for k in range(12)]
    for k, name in enumerate(names):
        for n in range(1 + k % 5):
            image(tmp_path / f"frames/{name}/{n:04d}.jpg", 10 * k + n)
    lines = [f"{names[k]} {names[k + 1]} 1" for k in range(0, 8, 2)]
    (tmp_path / "lists/train_groundtruth").write_text("\n".join(lines))
    (tmp_path / "lists/test_groundtruth").write_text("v8 v9 1\nv8 v10 0")
    (tmp_path / "lists/unlabeled-data-id").write_text("v11.mp4\n")
    values = YAML(typ="safe").load(presets.text("svd"))
    values["datasets"]["svd"] |= {
        "metadata": str(tmp_path / "lists"), "frames": str(tmp_path / "frames"), "videos": None,
    }  # fmt: skip
    values["prepare"] |= {"views": 3, "validation_share": 0.0}
    with (tmp_path / "params.yaml").open("w") as f:
        YAML(typ="safe").dump(values, f)
    arguments = [str(tmp_path / "out"), "--params", str(tmp_path / "params.yaml")]
    assert console.run(prepare.app, arguments) == 0
    t = TrainSet.read(tmp_path / "out/train.h5")
    assert (t.group == -1).all() and np.diff(t.spans()).tolist() == [4] * 8
    frames, role = (t.view[:, t.columns.index(n)] for n in ("frame", "role"))
    for anchor, positive in batches.plan(t.group, t.spans(), batch=4, epochs=5, seed=0):
        assert np.array_equal(t.view_image[anchor], t.view_image[positive])
        assert np.array_equal(frames[anchor], frames[positive])
        assert (role[anchor] == 0).all() and (role[positive] == 1).all()
    assert all(t.file(*t.source(row)).is_file() for row in range(len(t.view)))
    e = EvaluationSet.read(tmp_path / "out/evaluation/svd.h5")
    assert e.start is not None and np.diff(e.start).tolist() == [4, 5, 1, 2]
    assert e.file(4).parts[-2:] == ("v9", "0000.jpg") and e.thumbnail(1).name == "0002.jpg"
    assert e.role.tolist() == ["query", "database", "database", "distractor"]
    GroundTruth.parse(
        json.loads((tmp_path / "out/evaluation/svd.json").read_text()), e.image_id[1:], "svd"
    )


def test_of_a_large_group_set_aside_some_images_are_measured(world: World) -> None:
    assert world.run(validation_share=0.5) == 0
    whole = EvaluationSet.read(world.out / "validation.h5").path.tolist()
    assert world.run(validation_share=0.5, validation_images=2) == 0
    some = EvaluationSet.read(world.out / "validation.h5").path.tolist()
    sizes = {Path(p).parent: [Path(q).parent for q in some].count(Path(p).parent) for p in whole}
    assert set(some) < set(whole) and set(sizes.values()) == {2}  # no group is lost
    assert not set(world.train().path.tolist()) & set(whole)  # the others stay unseen
    truth = json.loads((world.out / "validation.json").read_text("utf-8"))["queries"]
    assert [len(q["positive"]) for q in truth] == [1] * len(some)


def test_distractors_must_be_a_set_without_queries(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    sets: dict[str, Any] = {"own": {"dataset": "folder", "distractors": "orn"}}
    assert "no set 'orn' (did you mean 'own'?)" in refusal(world, capsys, evaluation=sets)
    sets["own"]["distractors"] = "own"
    assert "has queries of its own" in refusal(world, capsys, evaluation=sets)
    sets["own"]["distractors"] = 3
    assert "evaluation.own.distractors" in refusal(world, capsys, evaluation=sets)
