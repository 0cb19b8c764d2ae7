"""What training wrote down: a table that any program reads, a plot that is an image."""

import csv
from pathlib import Path

from PIL import Image

from stages.distill import history

STEPS = [
    {"step": 0, "validation_map": 50.25},
    {"step": 1, "epoch": 0, "lr": 0.001, "loss": 2.0},
    {"step": 2, "epoch": 0, "lr": 1e-6, "loss": 1.0 / 3.0, "validation_map": 61.0},
]


def test_a_row_a_step_and_nothing_where_nothing_was_measured(tmp_path: Path) -> None:
    history.write(tmp_path / "history.csv", STEPS)
    with open(tmp_path / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [r["step"] for r in rows] == ["0", "1", "2"]
    assert rows[0]["loss"] == "" and rows[0]["validation_map"] == "50.25"
    assert rows[2]["loss"] == "0.333333" and rows[2]["lr"] == "1e-06"


def test_the_plot_is_an_image_and_the_same_bytes_again(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        history.draw(tmp_path / name, STEPS, shipped=2)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    with Image.open(tmp_path / "a.png") as image:
        assert image.width > 500 and len(image.convert("RGB").getcolors(1 << 20)) > 10
