"""What people look at after a run: bars, distributions, a sheet of queries. PNG by matplotlib."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ..core import files
from ..images import reading, rendering

GREEN, RED, GREY, BLUE = "#1f8a5b", "#c8453a", "#9aa5b1", "#33658a"
COLOURS = {"student": GREEN, "asymmetric": GREEN, "ensemble": BLUE, "fused": BLUE}
THUMB_PX = 112


def bars(path: Path, scores: dict[str, Any], title: str) -> None:
    """mAP of every model by difficulty; teachers raw and whitened."""
    rows: list[tuple[str, dict[str, Any], str]] = []
    for model, of_model in scores.items():
        if "raw" in of_model:
            rows += [
                (f"{model}, raw", of_model["raw"], GREY),
                (f"{model}, whitened", of_model["whitened"], BLUE),
            ]
        else:
            rows.append((model, of_model, COLOURS.get(model, GREY)))
    difficulties = list(scores["student"])
    figure = Figure(
        figsize=(3.4 * len(difficulties) + 1.2, 0.32 * len(rows) + 1.1), layout="constrained"
    )
    axes = figure.subplots(1, len(difficulties), sharey=True, squeeze=False)[0]
    axes[0].invert_yaxis()
    for axis, difficulty in zip(axes, difficulties, strict=True):
        values = [of_row.get(difficulty, {}).get("map", 0.0) for _, of_row, _ in rows]
        drawn = axis.barh(range(len(rows)), values, color=[c for _, _, c in rows])
        axis.bar_label(drawn, fmt="%.1f", padding=2, fontsize=8)
        axis.set_yticks(range(len(rows)), [label for label, _, _ in rows], fontsize=8)
        axis.set_title(f"{title}: {difficulty}", fontsize=9)
        axis.set_xlim(0, 100)
        axis.spines[["top", "right"]].set_visible(False)
        axis.set_xlabel("mAP (%)", fontsize=8)
    _save(figure, path)


def distributions(
    path: Path, sims: dict[str, tuple[np.ndarray, np.ndarray]], positive: np.ndarray
) -> None:
    """Similarities of positives and negatives of each teacher, before and after whitening.

    `sims`: teacher -> two (q, n) matrices; `positive` (q, n): 1 positive, 0 negative, -1 junk.
    """
    figure = Figure(figsize=(8, 1.7 * len(sims) + 0.5), layout="constrained")
    axes = np.atleast_2d(figure.subplots(len(sims), 2, squeeze=False))
    for row, (teacher, pair) in zip(axes, sims.items(), strict=True):
        for axis, values, when in zip(row, pair, ("raw", "whitened"), strict=True):
            low, high = np.quantile(values[positive >= 0], [0.0005, 0.9999])
            bins = np.linspace(low, high, 60)
            for kind, colour, label in ((0, GREY, "negatives"), (1, GREEN, "positives")):
                axis.hist(
                    values[positive == kind],
                    bins,
                    density=True,
                    color=colour,
                    alpha=0.65,
                    label=label,
                )
            axis.set_title(f"{teacher}, {when}", fontsize=9)
            axis.set_yticks([])
            axis.spines[["top", "right", "left"]].set_visible(False)
    axes[0, 0].legend(fontsize=8, frameon=False)
    for axis in axes[-1]:
        axis.set_xlabel("cosine similarity", fontsize=8)
    _save(figure, path)


def sheet(path: Path, rows: Sequence[Sequence[tuple[Any, ...]]]) -> None:
    """Each row: a query, then its first results framed green (right) or red (wrong).

    Entries are (file, box or None, verdict: None for the query).
    """
    width = max(len(r) for r in rows)
    figure = Figure(figsize=(width * 1.15, len(rows) * 1.15 + 0.3), layout="constrained")
    axes = figure.subplots(len(rows), width, squeeze=False)
    for axis_row, row in zip(axes, rows, strict=True):
        for axis in axis_row:
            axis.axis("off")
        for axis, (file, box, verdict) in zip(axis_row, row, strict=False):
            axis.imshow(_square(rendering.plain(reading.read(file), box, THUMB_PX)))
            colour = BLUE if verdict is None else GREEN if verdict else RED
            axis.add_patch(
                Rectangle((0, 0), THUMB_PX - 1, THUMB_PX - 1, fill=False, color=colour, linewidth=4)
            )
    axes[0, 0].set_title("query", fontsize=9, color=BLUE)
    if width > 1:
        axes[0, 1].set_title("best results first", fontsize=9, loc="left")
    _save(figure, path)


def _square(pixels: np.ndarray) -> np.ndarray:
    """Pixels centred on a white square of THUMB_PX."""
    out = np.full((THUMB_PX, THUMB_PX, 3), 255, dtype=np.uint8)
    h, w = pixels.shape[:2]
    top, left = (THUMB_PX - h) // 2, (THUMB_PX - w) // 2
    out[top : top + h, left : left + w] = pixels[:THUMB_PX, :THUMB_PX]
    return out


def _save(figure: Figure, path: Path) -> None:
    # No library version in the file: equal inputs give equal bytes.
    with files.atomic(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110, metadata={"Software": None})
