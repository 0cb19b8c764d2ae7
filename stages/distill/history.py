"""What training wrote down, step by step: as a table and as an image."""

import csv
import io
from pathlib import Path
from typing import Any

from ..core import files


def write(path: Path, history: list[dict[str, Any]]) -> None:
    """One row a step: step, epoch, lr, loss, and what was measured there."""
    columns = ["step", "epoch", "lr", "loss", "held_out_loss", "validation_map"]
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, restval="", lineterminator="\n")
    writer.writeheader()
    for row in history:
        writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()})
    files.write_text(path, buffer.getvalue())


def draw(path: Path, history: list[dict[str, Any]], best: int) -> None:
    """Loss by step, and retrieval on the validation groups where it was measured."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    left = figure.subplots()
    loss = [(h["step"], h["loss"]) for h in history if "loss" in h]
    left.plot(*zip(*loss, strict=True), color="#9aa5b1", linewidth=1, label="loss")
    left.set_xlabel("step")
    left.set_ylabel("loss")
    seen = [(h["step"], h["validation_map"]) for h in history if "validation_map" in h]
    if seen:
        right = left.twinx()
        right.plot(*zip(*seen, strict=True), "o-", color="#1f6f54", markersize=4)
        right.axvline(best, color="#1f6f54", linewidth=1, linestyle=":")
        right.set_ylabel("mAP on validation groups (%)", color="#1f6f54")
    with files.atomic(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110, metadata={"Software": None})
