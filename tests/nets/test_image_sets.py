"""A whole set through one network: every row at its place, parts that are kept, broken images."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from stages.core import console
from stages.core.errors import UserError
from stages.core.runtime import Parts
from stages.images import own
from stages.images.scales import How
from stages.images.sets import EvaluationSet
from stages.nets import image_sets

COUNT = 9


class Mean(nn.Module):
    """The mean colour; it counts the images that it sees."""

    seen = 0

    def forward(self, x: Tensor) -> Tensor:
        self.seen += len(x)
        return x.mean((-2, -1))


class Stops(Mean):
    """Ends like a person who interrupts, after four images."""

    def forward(self, x: Tensor) -> Tensor:
        if self.seen >= 4:
            raise KeyboardInterrupt
        return super().forward(x)


@pytest.fixture
def images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EvaluationSet:
    """Images of one colour each, of two shapes in turn."""
    monkeypatch.setenv("WHITEN_MTD_WORKERS", "0")
    monkeypatch.setattr(image_sets, "PART_IMAGES", 2)  # parts of two batches
    (tmp_path / "mine").mkdir()
    for i in range(COUNT):
        colour = (25 * i, 200 - 20 * i, 40)
        Image.new("RGB", (20, 30) if i % 2 else (30, 20), colour).save(tmp_path / f"mine/{i}.png")
    return own.own_images(tmp_path / "mine")


def described(net: nn.Module, images: EvaluationSet, folder: Path) -> np.ndarray:
    folder.mkdir(exist_ok=True)
    return np.asarray(
        image_sets.describe(
            net, images, How([1.0], 24), 2, "float32", Parts(folder), "mean", console.Whole(None)
        )
    )


def expected(rows: range) -> np.ndarray:
    colour = np.array([(25 * i, 200 - 20 * i, 40) for i in rows], dtype=np.float64)
    return colour / np.linalg.norm(colour, axis=1, keepdims=True)


def test_every_image_has_its_row_whatever_its_shape(images: EvaluationSet, tmp_path: Path) -> None:
    rows = described(Mean(), images, tmp_path / "parts")
    assert rows.dtype == np.float16 and rows.shape == (COUNT, 3)
    np.testing.assert_allclose(rows, expected(range(COUNT)), atol=1e-3)


def test_finished_parts_are_not_described_again(images: EvaluationSet, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        described(Stops(), images, tmp_path / "parts")
    assert Parts(tmp_path / "parts").has("000000")
    net = Mean()
    rows = described(net, images, tmp_path / "parts")
    assert net.seen == COUNT - 4
    np.testing.assert_array_equal(rows, described(Mean(), images, tmp_path / "other"))


def test_ones_own_broken_images_are_rows_of_nan(images: EvaluationSet, tmp_path: Path) -> None:
    raw = images.file(3).read_bytes()
    at = raw.index(b"IDAT") + 6  # header and end are whole: seen when it is decoded
    images.file(3).write_bytes(raw[:at] + bytes(4) + raw[at + 4 :])
    images.file(5).write_bytes(b"")
    rows = described(Mean(), images, tmp_path / "parts")
    assert np.flatnonzero(np.isnan(rows).any(axis=1)).tolist() == [3, 5]
    good = [i for i in range(COUNT) if i not in (3, 5)]
    np.testing.assert_allclose(rows[good], expected(range(COUNT))[good], atol=1e-3)
    with pytest.raises(UserError, match=r"5\.png"):  # of a set that prepare made: an error
        described(Mean(), replace(images, own=False), tmp_path / "other")


def test_numbers_that_are_none_are_refused(images: EvaluationSet, tmp_path: Path) -> None:
    class Odd(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.mean((-2, -1)) * torch.nan

    with pytest.raises(UserError, match=r"NaN or infinity.*describe\.precision"):
        described(Odd(), images, tmp_path / "parts")


def test_a_set_of_none_says_so(images: EvaluationSet, tmp_path: Path) -> None:
    none = np.zeros(COUNT, bool)
    with pytest.raises(UserError, match="no images to describe"):
        described(Mean(), replace(own.only(images, none), own=False), tmp_path / "parts")
