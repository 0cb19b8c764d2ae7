"""The report's plots, as SVG in a data URI: sharp at any size, no script, no font to load."""

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from .. import pages

GREEN, RED, GREY, BLUE, AMBER = "#1f8a5b", "#c8453a", "#9aa5b1", "#33658a", "#b7791f"
COLOURS = (BLUE, AMBER, "#7b4b94", "#4f9da6", "#a4572a", "#6b7a8f", "#b5477f", "#5a7d2a")
COSTS = (
    ("ms", "milliseconds per image"), ("parameters", "parameters, millions"),
    ("bytes", "bytes per image in the index"),
)  # fmt: skip


@dataclass(frozen=True)
class Point:
    """A model of the trade-off plot: its mAP in percent, its costs (None: unknown), its role."""

    label: str
    map: float
    ms: float | None
    parameters: float | None  # millions
    bytes: float
    role: str  # student, teacher, ensemble, untrained, experiment


STYLE = {
    "student": (GREEN, "o", 90), "experiment": (GREEN, "D", 45), "teacher": (BLUE, "s", 48),
    "ensemble": (AMBER, "P", 75), "untrained": (GREY, "o", 48),
}  # fmt: skip


def tradeoff(points: list[Point], title: str) -> str:
    """mAP against each cost, in one row; costs on a log scale."""
    figure = Figure(figsize=(11, 3.5), layout="constrained")
    axes = figure.subplots(1, len(COSTS), sharey=True)
    low, high = min(p.map for p in points), max(p.map for p in points)
    margin = max(0.12 * (high - low), 1.0)
    for axis, (field, name) in zip(axes, COSTS, strict=True):
        measured = [p for p in points if getattr(p, field)]
        axis.set_xlabel(name)
        axis.set_ylim(low - margin, high + margin)
        _plain(axis)
        axis.grid(color="#eef1f4")
        if not measured:
            axis.text(0.5, 0.5, "not measured", ha="center", color=GREY, transform=axis.transAxes)
            axis.set_xticks([])
            continue
        costs = np.array([float(getattr(p, field)) for p in measured])
        axis.set_xscale("log")
        span = costs.max() / costs.min()
        axis.set_xlim(costs.min() / 1.2 / span**0.06, costs.max() * 1.3 * span**0.35)
        ticks = _ticks(costs.min(), costs.max())
        axis.set_xticks(ticks, [f"{t:g}" for t in ticks])
        axis.minorticks_off()
        heights = _apart([p.map for p in measured], 0.062 * (high - low + 2 * margin))
        for p, cost, height in zip(measured, costs, heights, strict=True):
            colour, marker, area = STYLE[p.role]
            axis.scatter(cost, p.map, area, colour, marker=marker, zorder=3, linewidths=0)
            axis.annotate(
                p.label, (cost, p.map), (cost * 1.13, height), color=colour, fontsize=8.5,
                va="center", weight="bold" if p.role == "student" else "normal",
                arrowprops={"arrowstyle": "-", "color": "#ccd3da", "lw": 0.6},
            )  # fmt: skip
    axes[0].set_ylabel(f"mAP (%), {title}")
    return _svg(figure)


def curves(runs: list[tuple[str, list[dict[str, float]], int]]) -> str:
    """Loss by step, and retrieval on the validation groups from step 0 on; `runs`: name, history,
    the step whose weights are kept."""
    figure = Figure(figsize=(11, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    alone = len(runs) == 1
    for (name, history, best), colour in zip(runs, _colours(len(runs)), strict=True):
        _line(left, history, "loss", colour, "training loss" if alone else name)
        _line(left, history, "held_out_loss", RED if alone else colour, "validation loss" * alone)
        scores = _line(right, history, "validation_map", colour, name, "o-")
        if best in scores:
            right.plot(best, scores[best], "o", ms=11, mfc="none", mec=colour, mew=1.5)
    left.set_ylabel("loss")
    right.set_ylabel("mAP on the validation groups (%)")
    if not right.lines:
        right.text(0.5, 0.5, "no validation groups", ha="center", color=GREY,
                   transform=right.transAxes)  # fmt: skip
    for axis in (left, right):
        axis.set_xlabel("step")
        _plain(axis)
        axis.grid(color="#eef1f4")
    if not alone or len(left.lines) > 1:
        left.legend(fontsize=8, frameon=False)
    return _svg(figure)


def winners(teachers: list[str], highest: np.ndarray, lowest: np.ndarray) -> str:
    """Two bars of shares: which teacher is the max on positives, which the min on negatives."""
    figure = Figure(figsize=(9, 1.9), layout="constrained")
    axis = figure.subplots()
    start = np.zeros(2)
    colours = _cycle(len(teachers))
    for teacher, colour, *shares in zip(teachers, colours, highest, lowest, strict=True):
        values = 100 * np.array(shares)
        drawn = axis.barh([0, 1], values, left=start, color=colour, label=teacher, height=0.62)
        labels = [f"{v:.0f} %" if v >= 4 else "" for v in values]
        axis.bar_label(drawn, labels, label_type="center", color="white", fontsize=9)
        start += values
    axis.set_yticks([0, 1], ["highest on positives (max)", "lowest on negatives (min)"])
    axis.invert_yaxis()
    axis.set_xlim(0, 100)
    axis.set_xticks([])
    axis.spines[:].set_visible(False)
    axis.tick_params(length=0)
    axis.legend(ncols=min(len(teachers), 6), fontsize=9, frameon=False, loc="upper center",
                bbox_to_anchor=(0.5, -0.02))  # fmt: skip
    return _svg(figure)


def _line(
    axis: Any, history: list[dict[str, float]], key: str, colour: str, label: str, form: str = "-"
) -> dict[int, float]:
    """Draw the recorded values of `key`; returns them by step."""
    values = {int(h["step"]): h[key] for h in history if key in h and "step" in h}
    if values:
        axis.plot(list(values), list(values.values()), form, color=colour, lw=1.4, ms=4,
                  label=label or None)  # fmt: skip
    return values


def _apart(values: list[float], least: float) -> list[float]:
    """Heights for labels near `values`, at least `least` apart, in the same order."""
    order = np.argsort(values)
    heights = np.array(values, dtype=float)[order]
    for _ in range(200):  # push close neighbours apart until none is too close
        close = np.flatnonzero(np.diff(heights) < least * 0.999)
        if not len(close):
            break
        for i in close:
            push = (least - (heights[i + 1] - heights[i])) / 2
            heights[i], heights[i + 1] = heights[i] - push, heights[i + 1] + push
    out = np.empty(len(heights))
    out[order] = heights
    return [float(v) for v in out]


def _ticks(low: float, high: float) -> list[float]:
    """Round values of a log axis from `low` to `high`: 1, 2, 5 times powers of ten."""
    powers = range(int(np.floor(np.log10(low))) - 1, int(np.ceil(np.log10(high))) + 1)
    steps = (1, 3) if high / low > 100 else (1, 2, 5)
    ticks = [s * 10.0**p for p in powers for s in steps]
    inside = [t for t in ticks if low / 1.5 <= t <= high * 1.6]
    return inside or [float(f"{low:.1g}")]


def _colours(count: int) -> list[str]:
    return [GREEN, *_cycle(count - 1)]


def _cycle(count: int) -> list[str]:
    return [COLOURS[i % len(COLOURS)] for i in range(count)]


def _plain(axis: Any) -> None:
    axis.spines[["top", "right"]].set_visible(False)
    axis.tick_params(labelsize=8.5)
    axis.set_axisbelow(True)


def _svg(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return pages.data_uri(buffer.getvalue(), "image/svg+xml")
