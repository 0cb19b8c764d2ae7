"""What a training run remembers: a row of history a step, what was measured, the best weights."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from . import soundness
from .averaging import State


@dataclass
class Best:
    """The best weights so far, by a score that is better when higher."""

    score: float
    step: int
    state: State


class Record:
    """`history`: a map a step; `aps`: average precisions at the start, the last and best step."""

    def __init__(self) -> None:
        self.history: list[dict[str, Any]] = []
        self.best: Best | None = None
        self.aps: dict[int, np.ndarray] = {}
        self._unread: list[Tensor] = []  # losses of the last steps, still on the device

    def add_step(self, step: int, epoch: int, lr: float, loss: Tensor) -> None:
        """One step more; its loss is read later, by `flush`."""
        self.history.append({"step": step, "epoch": epoch, "lr": lr})
        self._unread.append(loss)

    def flush(self, at_least: int = 1) -> None:
        """Read the losses that wait, where there are `at_least` so many: one wait for the device,
        not one a step. Raises Diverged for one that is not finite."""
        if len(self._unread) < at_least:
            return
        rows = [h for h in self.history if "lr" in h][-len(self._unread) :]
        values = torch.stack(self._unread).tolist()
        for row, value in zip(rows, values, strict=True):
            if math.isfinite(value):
                row["loss"] = value
        self._unread = []
        soundness.refuse_losses(values, rows[0]["step"], [row["lr"] for row in rows])

    def add_measure(
        self,
        entry: dict[str, Any],
        score: float | None,
        ap: np.ndarray | None,
        weights: Callable[[], State],
    ) -> None:
        """What was measured at step `entry["step"]`; `weights` are kept where `score` is best."""
        step = entry["step"]
        if ap is not None:
            self.aps[step] = ap
        if self.history and self.history[-1]["step"] == step:
            self.history[-1].update(entry)
        elif len(entry) > 1:
            self.history.append(entry)
        if score is not None and (self.best is None or score > self.best.score):
            self.best = Best(score, step, weights())
        kept = (0, step, -1 if self.best is None else self.best.step)
        self.aps = {step: ap for step, ap in self.aps.items() if step in kept}

    def go_back(self) -> Best | None:
        """Forget the losses that were not read and the steps without a number; give the best."""
        self._unread = []
        self.history = [h for h in self.history if "loss" in h or "validation_map" in h]
        return self.best

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps of it."""
        return {
            "history": self.history,
            "best": None if self.best is None else vars(self.best),
            "aps": {step: torch.from_numpy(ap) for step, ap in self.aps.items()},
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Be as it was when `state` was taken."""
        self.history = state["history"]
        self.best = None if state["best"] is None else Best(**state["best"])
        self.aps = {step: ap.numpy() for step, ap in state["aps"].items()}
