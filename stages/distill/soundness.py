"""Whether training is still sound: a loss or a validation that is not finite ends it."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor


class Diverged(Exception):
    """Training gave what is no number. `step`: after which step it was seen; `what`, and the rate.

    Not a mistake of ours: the loop goes back to the best sound weights and says so.
    """

    def __init__(self, what: str, step: int, lr: float) -> None:
        super().__init__(f"training has diverged: {what} at step {step} (learning rate {lr:g})")
        self.step = step


def refuse_losses(values: Sequence[float], first_step: int, rates: Sequence[float]) -> None:
    """Raise Diverged for the first of `values`, losses of steps from `first_step` on, that is not
    finite."""
    for i, value in enumerate(values):
        if not math.isfinite(value):
            raise Diverged(f"the loss is {value}", first_step + i, rates[i])


def refuse_score(what: str, value: float, step: int, lr: float) -> None:
    """Raise Diverged where a measure of the validation is not finite."""
    if not math.isfinite(value):
        raise Diverged(f"the {what} is {value}", step, lr)


def finite(state: Mapping[str, Tensor]) -> bool:
    """Whether all weights are finite."""
    return all(bool(torch.isfinite(v).all()) for v in state.values() if v.is_floating_point())
