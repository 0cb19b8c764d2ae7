"""The video world: real files, the same always, near-duplicates that are near and others not."""

import av
import numpy as np
import pytest
from PIL import Image

from stages.datasets import demo_video
from stages.datasets._demo import clips
from stages.images import video_frames

SMALL = demo_video.Settings(
    seed=3, width_px=48, fps=4, seconds=3, sources=2, copies=2, queries=2, positives=2, negatives=1,
    unlabelled=2, difficulty=0.6,
)  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("world")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WHITEN_MTD_WORKERS", "0")
        return folder, demo_video.training(SMALL, folder), demo_video.evaluation(SMALL, folder)


def test_training_groups_are_sources_with_their_copies(world) -> None:
    _, training, _ = world
    assert training.group.tolist() == [0, 0, 0, 1, 1, 1]
    assert training.frames.min() >= 1 and training.frames.max() <= 3


def test_the_ground_truth(world) -> None:
    _, _, e = world
    assert e.role.count("query") == 2 and e.role.count("distractor") == 2
    for query in e.queries:
        base = query["image_id"].removesuffix("-source")
        assert query["positive"] == [f"{base}-copy-0", f"{base}-copy-1"]
        assert query["negative"] == [f"{base}-other-0"]
        assert set(query["positive"] + query["negative"]) <= set(e.image_id)


def test_the_files_are_videos_of_the_size_asked_for(world) -> None:
    folder, training, e = world
    codecs = set()
    for name in [*training.image_id, *e.image_id]:
        with av.open(str(folder / f"videos/{name}.mp4")) as container:
            stream = container.streams.video[0]
            codecs.add(stream.codec_context.name)
            assert (stream.width, stream.height) == (48, 64)
    assert codecs == {"h264", "mpeg4"}
    for name, path, frames in zip(e.image_id, e.path, e.frames.tolist(), strict=True):
        assert video_frames.count(folder / path) == frames, name
    assert not list(folder.rglob("*.tmp"))


def test_same_settings_same_bytes_and_a_larger_world_keeps_the_smaller(
    world, tmp_path, monkeypatch
) -> None:
    monkeypatch.setenv("WHITEN_MTD_WORKERS", "2")
    folder, *_ = world
    more = {"sources": 17, "copies": 2, "queries": 2, "unlabelled": 3}
    demo_video.training(SMALL.model_copy(update=more), tmp_path)
    for file in (folder / "videos").glob("train-*"):
        assert (tmp_path / "videos" / file.name).read_bytes() == file.read_bytes()


def test_a_copy_shows_what_its_source_shows(world) -> None:
    """Without edits the frames are those of the source, up to the encoder; another take's not."""
    folder, _, _ = world
    source = clips.source(3, "query", 0, (48, 64), 3)
    other = clips.source(3, "query", 0, (48, 64), 3, take=1)
    shown = np.asarray(Image.open(folder / "frames/query-00000-source/0000.jpg"), dtype=float)
    assert np.abs(np.asarray(source.frame(0), dtype=float) - shown).mean() < 12
    assert np.abs(np.asarray(other.frame(0), dtype=float) - shown).mean() > 20


def test_difficulty_zero_leaves_a_copy_near() -> None:
    clip = clips.source(0, "query", 1, (48, 64), 3)
    for difficulty, low, high in ((0.0, 0, 60), (1.0, 20, 200)):
        change = []
        for n in range(8):
            edit = clips.edit(0, f"copy-{n}", difficulty)
            frame = clip.frame(edit.part[0] * clip.seconds)
            made = np.asarray(clips._edited(frame.copy(), edit), dtype=float)
            change.append(np.abs(made - np.asarray(frame, dtype=float)).mean())
        assert low <= np.mean(change) <= high
