"""The demo world: the same bytes always, and a ground truth that can be asked for."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.datasets import demo

SMALL = demo.Settings(
    seed=3, image_px=96, groups=8, images=2, evaluation_groups=6, evaluation_images=4,
    queries=2, distractors=10, twins=0.5, difficulty=0.5,
)  # fmt: skip


def draw(folder: Path, settings: demo.Settings = SMALL) -> dict[str, bytes]:
    """Both parts of the world, drawn; the bytes of every image by its path."""
    paths = demo.training(settings, folder).path + demo.evaluation(settings, folder).path
    return {path: (folder / path).read_bytes() for path in paths}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, demo.Training, demo.Evaluation]:
    folder = tmp_path_factory.mktemp("world")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WHITEN_MTD_WORKERS", "0")
        return folder, demo.training(SMALL, folder), demo.evaluation(SMALL, folder)


def test_workers_do_not_change_a_byte(world, tmp_path, monkeypatch):
    monkeypatch.setenv("WHITEN_MTD_WORKERS", "2")
    folder, *_ = world
    pooled = draw(tmp_path, SMALL.model_copy(update={"groups": 16}))
    files = {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*.jpg")}
    assert all(pooled[path] == content for path, content in files.items())
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_larger_world_keeps_the_smaller_one(world, tmp_path, monkeypatch):
    monkeypatch.setenv("WHITEN_MTD_WORKERS", "0")
    folder, training, evaluation = world
    more = {"groups": 10, "images": 3, "evaluation_groups": 7, "evaluation_images": 5,
            "queries": 3, "distractors": 11}  # fmt: skip
    larger = draw(tmp_path, SMALL.model_copy(update=more))
    for path in training.path + evaluation.path:
        assert larger[path] == (folder / path).read_bytes(), path


def test_seed_and_difficulty_change_the_images(world, tmp_path, monkeypatch):
    monkeypatch.setenv("WHITEN_MTD_WORKERS", "0")
    folder, training, _ = world
    for n, change in enumerate(({"seed": 4}, {"difficulty": 0.1})):
        demo.training(SMALL.model_copy(update=change), tmp_path / str(n))
        path = training.path[0]
        assert (tmp_path / str(n) / path).read_bytes() != (folder / path).read_bytes()


def test_identities_are_disjoint(world):
    _, training, evaluation = world
    assert not set(training.image_id) & set(evaluation.image_id)
    families = [demo.facade(SMALL.seed, family, n, SMALL.twins).tobytes()
                for family in ("train", "evaluation", "distractor") for n in range(10)]  # fmt: skip
    assert len(set(families)) == len(families)


def test_training_groups(world):
    folder, training, _ = world
    assert training.root == folder
    assert training.group.dtype == np.int32
    assert np.bincount(training.group).tolist() == [2] * 8
    for path, group in zip(training.path, training.group, strict=True):
        assert int(path.split("/")[1]) == group
        with Image.open(folder / path) as image:
            assert image.format == "JPEG" and max(image.size) == 96


def test_every_query_has_easy_and_hard_answers(world):
    *_, evaluation = world
    assert evaluation.protocol == "revisitop"
    role = dict(zip(evaluation.image_id, evaluation.role, strict=True))
    assert len(role) == len(evaluation.image_id)
    assert len(evaluation.queries) == 12
    for query in evaluation.queries:
        assert role[query["image_id"]] == "query"
        assert query["easy"] and query["hard"]
        answers = query["easy"] + query["hard"] + query["junk"]
        assert len(set(answers)) == len(answers) == 4
        assert all(role[answer] == "database" for answer in answers)
        building = query["image_id"].rsplit("/", 1)[0]
        assert all(answer.rsplit("/", 1)[0] == building for answer in answers)


@pytest.mark.parametrize("difficulty", [0.0, 1.0])
def test_extremes_still_have_answers(tmp_path, monkeypatch, difficulty):
    monkeypatch.setenv("WHITEN_MTD_WORKERS", "0")
    settings = SMALL.model_copy(update={"difficulty": difficulty, "distractors": 0})
    evaluation = demo.evaluation(settings, tmp_path)
    assert all(query["easy"] and query["hard"] for query in evaluation.queries)


def test_roles_and_boxes(world):
    folder, _, evaluation = world
    assert evaluation.box.shape == (len(evaluation.path), 4)
    assert evaluation.box.dtype == np.float32
    count = {role: evaluation.role.count(role) for role in set(evaluation.role)}
    assert count == {"query": 12, "database": 24, "distractor": 10}
    boxed = ~np.isnan(evaluation.box).any(1)
    assert boxed.sum() == 6
    for row in np.flatnonzero(boxed):
        assert evaluation.role[row] == "query"
        x0, y0, x1, y1 = evaluation.box[row]
        with Image.open(folder / evaluation.path[row]) as image:
            assert 0 <= x0 < x1 <= image.width and 0 <= y0 < y1 <= image.height
            assert min(x1 - x0, y1 - y0) > 8
