"""Stored views back to pixels: one function, whoever asks, and it is crop, resize, flip."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.core.errors import UserError
from stages.images import augmentation, reading, rendering, sets
from stages.images import views as views_module
from stages.images.replay import Replay

RNG = np.random.default_rng(0)
SHAPES = [(40, 60), (33, 17), (24, 24)]  # height, width
VIEWS = [  # image, x, y, width, height, flip
    (0, 0, 0, 1, 1, 0), (0, 0.25, 0.1, 0.5, 0.8, 1), (0, 0.3, 0.4, 0.7, 0.6, 0),
    (1, 0.1, 0.2, 0.9, 0.5, 1), (2, 0, 0, 1, 1, 1), (2, 0.5, 0.5, 0.5, 0.5, 0),
]  # fmt: skip


@pytest.fixture(scope="module")
def views(tmp_path_factory: pytest.TempPathFactory) -> sets.TrainSet:
    root = tmp_path_factory.mktemp("images")
    for i, (h, w) in enumerate(SHAPES):
        Image.fromarray(RNG.integers(0, 256, (h, w, 3), dtype=np.uint8)).save(root / f"{i}.png")
    table = np.array(VIEWS)
    names = np.array([f"{i}.png" for i in range(3)])
    return sets.TrainSet(
        root, names, names, np.full(3, -1, np.int32), table[:, 0].astype(np.int32),
        table[:, 1:].astype(np.float32), ("x", "y", "width", "height", "flip"), "",
    )  # fmt: skip


def pixels(views: sets.TrainSet, image: int) -> np.ndarray:
    return np.asarray(Image.open(views.file(image)))


def test_teacher_and_student_see_the_same_bytes(views: sets.TrainSet) -> None:
    for px in (16, 31):
        shown = Replay(views, px).images((0, 3))
        assert shown.shape == (6, px, px, 3) and shown.dtype == np.uint8
        order = RNG.permutation(6)
        assert np.array_equal(Replay(views, px, 1 << 20).rows(order), shown[order])
    assert np.array_equal(Replay(views, 16).images((1, 2)), Replay(views, 16).rows([3]))
    assert Replay(views, 16).images((1, 1)).shape == (0, 16, 16, 3)


@pytest.mark.parametrize("budget", [0, 1, 3 * 40 * 60, 3 * 40 * 60 + 3 * 24 * 24, 1 << 20])
def test_the_cache_changes_nothing_but_time(views: sets.TrainSet, budget: int) -> None:
    order = [0, 3, 4, 1, 5, 2, 3, 0, 0, 4]
    replay = Replay(views, 16, budget)
    found = [replay.rows([r])[0] for r in order]
    assert np.array_equal(found, Replay(views, 16).images((0, 3))[order])
    kept = sum(i.width * i.height * 3 for i in replay._cache.values())
    assert kept <= budget


def test_a_kept_image_is_not_decoded_again(tmp_path: Path, views: sets.TrainSet) -> None:
    Image.open(views.file(0)).save(tmp_path / "0.png")
    lone = sets.TrainSet(
        tmp_path, views.image_id[:1], views.path[:1], views.group[:1], views.view_image[:3],
        views.view[:3], views.columns, "",
    )  # fmt: skip
    kept, other = Replay(lone, 16, 1 << 20), Replay(lone, 16)
    first = kept.rows([0])
    (tmp_path / "0.png").unlink()
    assert np.array_equal(kept.rows([0]), first)
    with pytest.raises(UserError):
        other.rows([0])


def test_a_broken_image_says_how_to_leave_it_out(views: sets.TrainSet, tmp_path: Path) -> None:
    (tmp_path / "0.png").write_bytes(views.file(0).read_bytes()[:-99])
    broken = replace(views, root=tmp_path, image_id=np.array(["an id", "1", "2"]))
    for read in (lambda r: r.images((0, 1)), lambda r: r.rows([0])):
        with pytest.raises(UserError, match="0.png.*its id an id in.*`exclude`") as error:
            read(Replay(broken, 16))
        assert "\n" not in str(error.value)


def test_a_whole_square_image_at_its_own_size_is_itself_or_its_mirror(
    views: sets.TrainSet,
) -> None:
    whole = Image.fromarray(pixels(views, 2))
    view = {"x": 0, "y": 0, "width": 1, "height": 1, "flip": 0}
    assert np.array_equal(rendering.render(whole, view, 24), pixels(views, 2))
    assert np.array_equal(
        rendering.render(whole, {**view, "flip": 1}, 24), pixels(views, 2)[:, ::-1]
    )
    assert np.array_equal(Replay(views, 24).rows([4])[0], pixels(views, 2)[:, ::-1])


def test_a_box_at_its_own_size_is_a_slice(views: sets.TrainSet) -> None:
    """x and y from the left and the top, width along the second axis."""
    source = pixels(views, 0)  # 40 high, 60 wide
    view = {"x": 10 / 60, "y": 5 / 40, "width": 20 / 60, "height": 20 / 40, "flip": 0}
    found = rendering.render(Image.fromarray(source), view, 20)
    assert np.array_equal(found, source[5:25, 10:30])


def test_only_the_pixels_of_the_box_count(views: sets.TrainSet) -> None:
    """A crop, then an antialiased resize: what lies outside the box does not leak in."""
    for row, (image, x, y, w, h, flip) in enumerate(VIEWS):
        source = pixels(views, image)
        height, width = source.shape[:2]
        box = [round(v) for v in (x * width, y * height, (x + w) * width, (y + h) * height)]
        cut = Image.fromarray(np.ascontiguousarray(source[box[1] : box[3], box[0] : box[2]]))
        wanted = np.asarray(cut.resize((16, 16), Image.Resampling.BILINEAR))
        wanted = wanted[:, ::-1] if flip else wanted
        assert np.array_equal(Replay(views, 16).rows([row])[0], wanted), row


def test_shrinking_averages_blocks_as_area_does() -> None:
    """Antialiased: a fine chessboard becomes grey, not black or white."""
    board = np.indices((64, 64)).sum(0) % 2 * np.uint8(255)
    image = Image.fromarray(np.repeat(board[..., None], 3, 2).astype(np.uint8))
    view = {"x": 0, "y": 0, "width": 1, "height": 1, "flip": 0}
    found = rendering.render(image, view, 16).astype(int)
    assert np.abs(found[1:-1, 1:-1] - 127.5).max() < 12


@pytest.mark.parametrize(
    ("box", "wanted"),
    [
        ((0.5, 1.5, 2.5, 3.5), (0, 2, 2, 4)),  # halves to even, as Python and numpy
        ((0.4999, 0, 9.5001, 8), (0, 0, 10, 8)),
        ((-3, -0.4, 99, 8.2), (0, 0, 10, 8)),
        ((9.9, 7.9, 10, 8), (9, 7, 10, 8)),  # never empty, never outside
        ((4.2, 4.2, 4.3, 4.3), (4, 4, 5, 5)),
        ((12, 12, 20, 20), (9, 7, 10, 8)),
        ((5, 5, 3, 3), (5, 5, 6, 6)),
    ],
)
def test_boxes_round_to_whole_pixels_inside(
    box: tuple[float, ...], wanted: tuple[int, ...]
) -> None:
    assert rendering.whole_pixels(box, 10, 8) == wanted


def test_rounding_is_done_in_float64() -> None:
    """In float32 this edge would fall on the half and round down."""
    assert np.float32(2.5 + 1e-9) == 2.5
    assert rendering.whole_pixels((2.5 + 1e-9, 0, 9, 8), 10, 8) == (3, 0, 9, 8)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> sets.TrainSet:
    """Two videos of 3 and 2 frames with their views, as `prepare` stores them."""
    root = tmp_path_factory.mktemp("videos")
    for i, frames in enumerate((3, 2)):
        (root / f"v{i}").mkdir()
        for k in range(frames):
            small = RNG.integers(0, 256, (6, 8, 3), dtype=np.uint8)
            Image.fromarray(small).resize((64, 48)).save(root / f"v{i}/{k:04d}.jpg", quality=95)
    names = np.array(["v0", "v1"])
    view_image, view = views_module.draw_all(1, ["v0", "v1"], np.array([6, 4]), np.array([3, 2]))
    return sets.TrainSet(
        root, names, names, np.full(2, -1, np.int32), view_image, view,
        views_module.VIDEO_COLUMNS, "",
    )  # fmt: skip


def test_frames_are_replayed_alike_in_any_order(video: sets.TrainSet) -> None:
    for px in (16, 31):
        shown = Replay(video, px).images((0, 2))
        assert shown.shape == (10, px, px, 3)
        order = RNG.permutation(10)
        for budget in (0, 64 * 48 * 3, 1 << 20):
            assert np.array_equal(Replay(video, px, budget).rows(order), shown[order])
    assert video.file(1, 1) == video.root / "v1/0001.jpg"


def test_a_view_of_a_video_is_its_frame_cropped_then_changed(video: sets.TrainSet) -> None:
    for row in range(10):
        values = dict(zip(video.columns, video.view[row].astype(float).tolist(), strict=True))
        frame = reading.read(video.root / f"v{row // 6}" / f"{int(values['frame']):04d}.jpg")
        wanted = augmentation.apply(rendering.render(frame, values, 32), values)
        assert np.array_equal(Replay(video, 32).rows([row])[0], wanted)


def test_a_frame_is_decoded_once_for_its_pair(
    video: sets.TrainSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, decoded = reading.read, []
    monkeypatch.setattr(reading, "read", lambda p: decoded.append(p) or read(p))
    Replay(video, 16).images((0, 2))
    assert len(decoded) <= 5
