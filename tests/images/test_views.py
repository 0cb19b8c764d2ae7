"""Views: drawn from the documented distributions, inside the image, by (seed, id, number)."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from stages.images import views

DRAWN = np.array([views.draw(7, f"image {i}", i % 3) for i in range(6000)], dtype=np.float64)
X, Y, WIDTH, HEIGHT, FLIP = DRAWN.T


def test_columns_as_the_contract_names_them() -> None:
    assert views.COLUMNS == ("x", "y", "width", "height", "flip")
    assert views.draw(0, "a", 0).dtype == np.float32


def test_every_box_lies_inside_the_image() -> None:
    eps = 1e-6  # of float32
    assert X.min() >= 0 and Y.min() >= 0 and WIDTH.min() > 0 and HEIGHT.min() > 0
    assert (X + WIDTH).max() <= 1 + eps and (Y + HEIGHT).max() <= 1 + eps


def test_area_is_uniform_from_four_tenths_to_one() -> None:
    area = np.sort(WIDTH * HEIGHT)
    assert area[0] >= 0.4 - 1e-6 and area[-1] <= 1 + 1e-6
    wanted = 0.4 + 0.6 * (np.arange(len(area)) + 0.5) / len(area)
    # Kolmogorov-Smirnov: 1.63 / sqrt(n) is the 1 % bound.
    assert np.abs(area - wanted).max() / 0.6 < 1.63 / len(area) ** 0.5


def test_aspect_is_symmetric_between_its_bounds_and_fills_them() -> None:
    aspect = WIDTH / HEIGHT
    assert 3 / 4 - 1e-5 <= aspect.min() < 0.76 and 1.32 < aspect.max() <= 4 / 3 + 1e-5
    log = np.log(aspect)
    assert abs(log.mean()) < 4 * log.std() / len(log) ** 0.5
    small = WIDTH * HEIGHT < 0.7  # all aspects fit inside: log-uniform, so this spread
    assert log[small].std() == pytest.approx(2 * np.log(4 / 3) / 12**0.5, rel=0.04)


def test_place_is_uniform_in_what_is_left() -> None:
    for start, size in ((X, WIDTH), (Y, HEIGHT)):
        share = (start / np.maximum(1 - size, 1e-9))[size < 0.95]
        assert share.mean() == pytest.approx(0.5, abs=0.02)
        assert share.std() == pytest.approx(12**-0.5, abs=0.01)


def test_half_are_flipped_and_flips_are_whole() -> None:
    assert set(FLIP) == {0, 1}
    assert FLIP.mean() == pytest.approx(0.5, abs=0.03)


def test_columns_are_independent() -> None:
    left = np.array([X / np.maximum(1 - WIDTH, 1e-9), Y / np.maximum(1 - HEIGHT, 1e-9), FLIP])
    correlation = np.corrcoef(np.vstack([left, WIDTH * HEIGHT]))
    assert np.abs(correlation - np.eye(4)).max() < 0.06


def test_a_pure_function_of_seed_id_and_number() -> None:
    first = views.draw(3, "größe/1.jpg", 2)
    np.random.default_rng(0).random(100)
    assert np.array_equal(views.draw(3, "größe/1.jpg", 2), first)
    for other in ((4, "größe/1.jpg", 2), (3, "größe/2.jpg", 2), (3, "größe/1.jpg", 3)):
        assert not np.array_equal(views.draw(*other), first)


def test_ids_that_look_like_numbers_are_not_confused() -> None:
    texts = [(1, "2/3", 4), (1, "3", 42), (14, "2/3", 1), (1, "4/2/3", 4), (1, "3", 4)]
    assert len({views.draw(*t).tobytes() for t in texts}) == len(texts)


def test_more_images_or_another_order_change_no_view() -> None:
    image, view = views.draw_all(0, ["a", "b", "c"], np.array([2, 1, 3]))
    assert image.tolist() == [0, 0, 1, 2, 2, 2] and image.dtype == np.int32
    assert view.shape == (6, 5) and view.dtype == np.float32
    again = views.draw_all(0, ["c", "x", "b"], np.array([2, 2, 1]))[1]
    assert np.array_equal(again[:2], view[3:5]) and np.array_equal(again[4], view[2])


def test_expected_counts_by_hand() -> None:
    group = np.array([0, 0, 0, 0, 1, 1, -1, -1, 2])
    # 2 E / g uses an image, rounded up: E = 5: 10 / 4 -> 3, 10 / 2 -> 5, alone 10.
    assert views.expected_counts(group, epochs=5, most=100).tolist() == [3] * 4 + [5] * 2 + [10] * 3
    assert views.expected_counts(group, epochs=5, most=4).tolist() == [3] * 4 + [4] * 5
    # An image that is a pair by itself needs two views, whatever the limit.
    assert views.expected_counts(group, epochs=1, most=1).tolist() == [1] * 6 + [2] * 3


def test_group_sizes() -> None:
    assert views.group_sizes(np.array([5, -1, 5, 2, -1])).tolist() == [2, 1, 2, 1, 1]


VIDEO = np.array([views.draw_video(7, f"video {i}", k, 9) for i in range(2000) for k in range(4)])
V = dict(zip(views.VIDEO_COLUMNS, VIDEO.astype(np.float64).T, strict=True))


def test_a_pair_of_views_shows_one_frame_by_two_recipes() -> None:
    frame, role = V["frame"].reshape(-1, 2), V["role"].reshape(-1, 2)
    assert (frame[:, 0] == frame[:, 1]).all() and (role == [0, 1]).all()
    assert set(V["frame"]) == set(range(9))
    assert np.bincount(frame[:, 0].astype(int)).min() > 350  # of 4000, all alike
    pairs = VIDEO.reshape(-1, 2, VIDEO.shape[1])
    assert (pairs[:, 0, :4] != pairs[:, 1, :4]).all(1).mean() > 0.99  # the crops differ
    first, second = frame[::2, 0], frame[1::2, 0]  # of one video
    assert (first == second).mean() == pytest.approx(1 / 9, abs=0.03)


def test_the_crop_of_a_video_is_that_of_a_image() -> None:
    assert np.array_equal(views.draw_video(3, "a", 1, 5)[:5], views.draw(3, "a", 1))
    assert views.draw_video(3, "a", 1, 1)[5] == 0  # one frame


def test_colours_are_drawn_as_the_paper_says() -> None:
    still = (V["brightness"] == 1) & (V["contrast"] == 1) & (V["saturation"] == 1) & (V["hue"] == 0)
    assert still.mean() == pytest.approx(0.2, abs=0.02)
    for name, (low, high) in {
        "brightness": (0.6, 1.4), "contrast": (0.6, 1.4), "saturation": (0.8, 1.2),
        "hue": (-0.1, 0.1),
    }.items():  # fmt: skip
        values = V[name][~still]
        assert low - 1e-6 <= values.min() < low + 0.01 and high - 0.01 < values.max() <= high + 1e-6
        assert values.std() == pytest.approx((high - low) / 12**0.5, rel=0.05)
    assert V["grey"].mean() == pytest.approx(0.2, abs=0.02)
    assert set(V["order"]) == set(range(24))


def test_blur_and_solarisation_differ_by_role() -> None:
    one, two = V["role"] == 0, V["role"] == 1
    assert (V["blur"][one] > 0).all()
    assert (V["blur"][two] > 0).mean() == pytest.approx(0.1, abs=0.02)
    sigma = 224 * V["blur"][one]
    assert 0.1 - 1e-6 <= sigma.min() < 0.11 and 1.99 < sigma.max() <= 2 + 1e-6
    assert not V["solarise"][one].any()
    assert V["solarise"][two].mean() == pytest.approx(0.2, abs=0.02)


def test_the_values_of_a_video_are_independent() -> None:
    moved = V["brightness"] != 1
    names = (
        "x",
        "flip",
        "frame",
        "role",
        "brightness",
        "contrast",
        "saturation",
        "hue",
        "order",
        "grey",
    )
    correlation = np.corrcoef([V[n][moved] for n in names])
    assert np.abs(correlation - np.eye(len(names))).max() < 0.06


def test_all_views_of_videos() -> None:
    image, view = views.draw_all(0, ["a", "b"], np.array([2, 4]), np.array([3, 8]))
    assert image.tolist() == [0, 0, 1, 1, 1, 1] and view.shape == (6, 15)
    assert np.array_equal(view[5], views.draw_video(0, "b", 3, 8))


@given(seed=some.integers(0, 2**31), name=some.text(max_size=20), number=some.integers(0, 999))
def test_every_view_lies_in_its_image_whatever_its_name(seed: int, name: str, number: int) -> None:
    x, y, width, height, flip = views.draw(seed, name, number).astype(np.float64)
    assert 0 <= x <= x + width <= 1 + 1e-6 and 0 <= y <= y + height <= 1 + 1e-6
    assert 0.4 - 1e-6 <= width * height <= 1 + 1e-6 and flip in (0, 1)
    assert 3 / 4 - 1e-5 <= width / height <= 4 / 3 + 1e-5
    again = views.draw_all(seed, ["other", name], np.array([1, number % 7 + 1]))[1]
    assert np.array_equal(again[1], views.draw(seed, name, 0))  # alone or among others
