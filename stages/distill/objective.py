"""The student's objective and its schedule: weighted losses, cosine rate."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from . import loss


@dataclass(frozen=True)
class Objective:
    """Weights by loss, and the temperature of each."""

    weights: dict[str, float]
    temperature: dict[str, float]

    def __call__(
        self, anchor: Tensor, positive: Tensor, target: Tensor | None, prototype: Tensor | None
    ) -> Tensor:
        """Weighted sum for a batch of N pairs.

        `anchor`, `positive` (N, D) unit rows; `target` (N, N) fused similarities for relation;
        `prototype` (2, N, D) unit rows for prototype.
        """
        anchor, positive = anchor.float(), positive.float()
        total = anchor.new_zeros(())
        for name, weight in self.weights.items():
            if name == "prototype":
                assert prototype is not None
                value = loss.prototype(torch.stack([anchor, positive]), prototype)
            elif name == "relation":
                assert target is not None
                value = loss.relation(anchor @ positive.T, target, self.temperature[name])
            else:
                value = loss.contrastive(anchor @ positive.T, self.temperature[name])
            total = total + weight * value
        return total

    def needs(self, name: str) -> bool:
        """Whether the loss `name` counts."""
        return self.weights.get(name, 0) > 0


def rate(step: int, steps: int, first: float, last: float) -> float:
    """Learning rate before `step` of `steps`: half a cosine from `first` to `last`."""
    return last + (first - last) * 0.5 * (1 + math.cos(math.pi * step / max(steps, 1)))
