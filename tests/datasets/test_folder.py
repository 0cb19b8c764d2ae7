"""A folder of one's own images: split by instance, and what cannot be used is said."""

import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.core import params
from stages.core.errors import UserError
from stages.datasets import _images, folder
from stages.images import reading
from stages.retrieval import ground_truth


def image(path: Path, seed: int) -> Path:
    """A small image that differs with the seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (8, 10, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    return path


def tree(root: Path, instances: int = 10) -> Path:
    for n in range(instances):
        for k in range(2 + n % 3):
            image(root / f"thing {n}" / f"{k}.png", 10 * n + k)
    return root


def settings(root: Path, **changes) -> folder.Settings:
    values = {"root": str(root), "seed": 0, "evaluation_share": 0.3, "queries": 1, **changes}
    return params.check(values, folder.Settings, "datasets.folder")


def both(root: Path, **changes) -> tuple[folder.Training, folder.Evaluation]:
    s = settings(root, **changes)
    return folder.training(s, root), folder.evaluation(s, root, "mine")


def refusal(root: Path, function=folder.training, **changes) -> str:
    with pytest.raises(UserError) as error:
        arguments = (root,) if function is folder.training else (root, "mine")
        function(settings(root, **changes), *arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_split_by_folder(tmp_path):
    tree(tmp_path)
    image(tmp_path / "alone" / "x.png", 1000)
    image(tmp_path / "loose.png", 1001)
    training, evaluation = both(tmp_path)
    files = {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*.png")}
    assert set(training.path) | set(evaluation.path) == files
    assert set(training.path).isdisjoint(evaluation.path)
    assert training.image_id == training.path and evaluation.image_id == evaluation.path
    assert {p.split("/")[0] for p in training.path}.isdisjoint(
        p.split("/")[0] for p in evaluation.path
    )
    asked = [p for p, role in zip(evaluation.path, evaluation.role, strict=True) if role == "query"]
    assert len(asked) == 3  # of ten folders
    alone = evaluation.path.index("alone/x.png")
    assert evaluation.role[alone] == "distractor"
    assert training.group[training.path.index("loose.png")] == -1
    groups = dict(zip(training.path, training.group.tolist(), strict=True))
    for a, one in groups.items():
        same = [p for p, other in groups.items() if other == one and one >= 0]
        assert all(p.split("/")[0] == a.split("/")[0] for p in same)
    assert np.isnan(evaluation.box).all() and evaluation.protocol == "positives"
    database = np.array([p for p in evaluation.path if p not in asked])
    values = {"protocol": evaluation.protocol, "queries": evaluation.queries}
    truth = ground_truth.GroundTruth.parse(values, database, "here")
    for query in truth.queries:
        found = {database[i].split("/")[0] for i in query.lists["positive"]}
        assert found == {query.image_id.split("/")[0]} and not len(query.lists["junk"])


def test_queries_per_instance_leave_one_to_find(tmp_path):
    _, evaluation = both(tree(tmp_path), queries=3, evaluation_share=0.8)
    for query in evaluation.queries:
        assert query["positive"] and query["image_id"] not in query["positive"]
    assert len(evaluation.queries) > 8


def test_seeded_and_stable_as_folders_are_added(tmp_path):
    tree(tmp_path, 40)
    first = both(tmp_path)
    again = both(tmp_path)
    assert first[0].path == again[0].path and first[1].queries == again[1].queries
    assert both(tmp_path, seed=1)[1].path != first[1].path
    tree(tmp_path, 41)
    training, evaluation = both(tmp_path)
    number = dict(zip(training.path, training.group.tolist(), strict=True))
    old = dict(zip(first[0].path, first[0].group.tolist(), strict=True))
    moved = [p for p in old if p in number and number[p] != old[p]]
    assert not moved and len(set(evaluation.path) - set(first[1].path)) <= 4


def test_without_evaluation_everything_is_trained_on(tmp_path):
    tree(tmp_path, 4)
    image(tmp_path / "alone" / "x.png", 1000)
    found = folder.training(settings(tmp_path, evaluation_share=0), tmp_path)
    assert len(found.path) == len(list(tmp_path.rglob("*.png")))
    assert "evaluation_share is 0" in refusal(tmp_path, folder.evaluation, evaluation_share=0)


def test_unlabelled_images_alone(tmp_path):
    for n in range(3):
        image(tmp_path / f"{n}.png", n)
    found = folder.training(settings(tmp_path), tmp_path)
    assert found.group.tolist() == [-1, -1, -1]
    assert "no sub-folder of two or more" in refusal(tmp_path, folder.evaluation)


def test_names_of_all_kinds_and_nested_folders(tmp_path):
    names = ["größe/Ö 1.png", "größe/sub dir/2.PNG", "東京/塔.jpeg", "東京/塔 (2).webp", "ok/ .png"]
    for n, name in enumerate(names):
        image(tmp_path / name, n)
    found = folder.training(settings(tmp_path, evaluation_share=0), tmp_path)
    assert found.path == sorted(names)
    assert len(set(found.group.tolist())) == 3


def test_what_is_left_out_is_counted(tmp_path):
    tree(tmp_path)
    (tmp_path / "thing 0" / "broken.jpg").write_bytes(b"nonsense")
    half = image(tmp_path / "thing 0" / "half.jpg", 99)
    half.write_bytes(half.read_bytes()[:-40])
    (tmp_path / "thing 1" / "notes.txt").write_text("x")
    (tmp_path / ".hidden").mkdir()
    image(tmp_path / ".hidden" / "a.png", 5)
    (tmp_path / "thing 1" / "back").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "thing 2" / "a.heic").write_bytes(b"x")
    training, _ = both(tmp_path)
    text = "\n".join(training.notes)
    broken = "thing 0/broken.jpg, thing 0/half.jpg, thing 2/a.heic"
    assert f"3 files left out, broken or not images: {broken}" in text
    assert "1 files left out, not images by their suffix: .txt" in text
    assert "3 instances and 0 single images are kept for evaluation" in text
    assert not any("hidden" in p or "back" in p for p in training.path)


def test_heic_without_its_reader_is_a_note(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    reading.heif.cache_clear()
    tree(tmp_path)
    (tmp_path / "thing 2" / "a.heic").write_bytes(b"x")
    training, _ = both(tmp_path)
    assert any("pip install pillow-heif" in note for note in training.notes)
    reading.heif.cache_clear()


@pytest.mark.skipif(sys.platform != "linux", reason="file names that are no text")
def test_a_name_that_is_no_text_is_a_note(tmp_path):
    tree(tmp_path)
    shutil.copy(tmp_path / "thing 0" / "0.png", os.fsencode(tmp_path) + b"/thing 1/\xff.png")
    training, _ = both(tmp_path)
    assert any("not UTF-8: thing 1/?.png" in note for note in training.notes)


def test_too_many_pixels_are_told_from_broken(tmp_path, monkeypatch):
    tree(tmp_path)
    image(tmp_path / "thing 1" / "wide.png", 7)
    Image.new("L", (4000, 600)).save(tmp_path / "thing 1" / "wide.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1_000_000)
    training, _ = both(tmp_path)
    line = "1 images left out, of more than 2 million pixels (scaled down they can be read): "
    assert f"{line}thing 1/wide.png" in training.notes
    assert not any("broken" in note for note in training.notes)


def test_copies_are_reported_and_refused_across_the_split(tmp_path):
    tree(tmp_path)
    training, evaluation = both(tmp_path)
    kept = training.path[0]
    shutil.copy(tmp_path / kept, tmp_path / kept.replace("/", "/copy of "))
    assert any("1 images are copies" in note for note in both(tmp_path)[0].notes)
    shutil.copy(tmp_path / kept, (tmp_path / evaluation.path[0]).with_name("stolen.png"))
    for function in (folder.training, folder.evaluation):
        told = refusal(tmp_path, function)
        assert "both in training and in evaluation" in told
        assert kept.split("/")[0] in told and "stolen.png" in told


def test_too_little_is_one_line(tmp_path):
    assert "no such folder" in refusal(tmp_path / "absent")
    assert "the folder is empty" in refusal(tmp_path)
    (tmp_path / "a.txt").write_text("x")
    (tmp_path / "b.jpg").write_text("x")
    assert "no images (1 files left out, not images by" in refusal(tmp_path)
    for n in range(4):
        image(tmp_path / "one" / f"{n}.png", n)
    told = refusal(tmp_path)
    assert "0 instances left to train on, 1 for evaluation" in told
    assert "evaluation_share" in refusal(tmp_path, evaluation_share=1.0)


def test_group_numbers_never_collide():
    names = [f"group {n}" for n in range(100_000)]
    number = _images.group_numbers(names)
    assert len(set(number.values())) == len(names) and max(number.values()) < 2**30


def test_the_end_of_a_thumbnail_is_not_the_end_of_the_image(tmp_path: Path) -> None:
    """A small JPEG cut off: the marker that ends its thumbnail lies among its last bytes."""
    file = image(tmp_path / "a.jpg", 0)
    thumbnail = file.read_bytes()
    image(file, 1)
    raw = file.read_bytes()
    header = b"\xff\xe1" + (len(thumbnail) + 8).to_bytes(2, "big") + b"Thumb\0" + thumbnail
    raw = raw[:2] + header + raw[2:]
    for content, whole in ((raw, True), (raw[:-40], False), (raw + b"\0" * 9, True),
                           (raw + b"\0" * 9000, True), (raw[:-40] + b"\0" * 9, False)):  # fmt: skip
        file.write_bytes(content)
        assert _images.is_whole(file) == whole, len(content)
