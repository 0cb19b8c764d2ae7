"""What training wrote down, step by step: as a table and as an image."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..core import files

GREEN = "#1f6f54"  # of what is measured on the validation groups


def write(path: Path, history: list[dict[str, Any]]) -> None:
    """One row a step: step, epoch, lr, loss, and what was measured there."""
    columns = ["step", "epoch", "lr", "loss", "held_out_loss", "validation_map", "validation_error"]
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, restval="", lineterminator="\n")
    writer.writeheader()
    for row in history:
        writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()})
    files.write_text(path, buffer.getvalue())


def draw(
    path: Path,
    history: list[dict[str, Any]],
    shipped: int,
    shares: Sequence[dict[str, float]] = (),
) -> None:
    """Loss by step, and retrieval on the validation groups where it was measured.

    `shipped`: a line at this step. `shares`: validation by share of the way from the start to the
    last weights, drawn beside.
    """
    from matplotlib.figure import Figure

    columns = 2 if len(shares) > 2 else 1
    figure = Figure(figsize=(3 + 4 * columns, 4), layout="constrained")
    axes = figure.subplots(1, columns, squeeze=False)[0]
    left = axes[0]
    loss = [(h["step"], h["loss"]) for h in history if "loss" in h]
    left.plot(*zip(*loss, strict=True), color="#9aa5b1", linewidth=1, label="loss")
    left.set_xlabel("step")
    left.set_ylabel("loss")
    seen = [h for h in history if "validation_map" in h]
    if seen:
        right = left.twinx()
        steps, maps = [h["step"] for h in seen], [h["validation_map"] for h in seen]
        right.errorbar(
            steps, maps, [h.get("validation_error", 0) for h in seen], fmt="o-", color=GREEN,
            markersize=4, linewidth=1, capsize=2,
        )  # fmt: skip
        right.axvline(shipped, color=GREEN, linewidth=1, linestyle=":")
        right.set_ylabel("mAP on validation groups (%)", color=GREEN)
    if columns == 2:
        way = [c["share"] for c in shares]
        axes[1].errorbar(
            way, [c["map"] for c in shares], [c["error"] for c in shares], fmt="o-", color=GREEN,
            markersize=4, linewidth=1, capsize=2,
        )  # fmt: skip
        axes[1].set_xlabel("share of the way from the start to the last weights")
        axes[1].set_ylabel("mAP on validation groups (%)")
    with files.atomic(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110, metadata={"Software": None})
