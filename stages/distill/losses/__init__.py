"""What the student learns from: one file a loss, `losses/x.py` is the loss `x` of `train.loss`.

A loss declares
    NEEDS    names of NEEDS below, what it reads beside the student's descriptors
    ALIGNED  whether a student trained by it speaks the ensemble's frame, so that it can search a
             database of fused embeddings
and offers `loss(anchor, positive, *, <each of its NEEDS>) -> Tensor` of a batch of N pairs, where
`anchor` and `positive` (N, D) float32 are the student's L2-normalised descriptors.
"""

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ...core import plugins
from ...core.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

NEEDS = {
    "target": "(N, N) float32 fused similarities, row i of `anchor` against row j of `positive`",
    "prototype": "(2, N, D) float32 unit rows: the prototypes of the anchors, of the positives",
    "temperature": "a positive number, `train.temperature` of this loss",
}


def names() -> list[str]:
    """The losses that there are."""
    return plugins.names(__name__)


def load(name: str) -> ModuleType:
    """The loss `name`. Raises UserError for an unknown one and for an incomplete one."""
    module = plugins.load(__name__, name)
    if missing := [part for part in ("NEEDS", "ALIGNED", "loss") if not hasattr(module, part)]:
        raise UserError(f"{module.__file__}: has no {missing[0]}; every loss has one")
    if unknown := set(module.NEEDS) - set(NEEDS):
        raise UserError(
            f"{module.__file__}: NEEDS names {sorted(unknown)[0]!r}: choose from {', '.join(NEEDS)}"
        )
    return module


@dataclass(frozen=True)
class Term:
    """One loss, its weight, and its temperature where it needs one."""

    weight: float
    needs: frozenset[str]
    aligned: bool
    function: Callable[..., Any]
    temperature: float | None


class Objective:
    """The weighted sum of the losses whose weight is not zero.

    `temperature`: one number for all losses, or one by loss. Raises UserError where it has none for
    a loss that needs it.
    """

    def __init__(
        self, weights: dict[str, float], temperature: float | dict[str, float] = 1.0
    ) -> None:
        self.weights = {name: weight for name, weight in weights.items() if weight > 0}
        self._terms = [_term(name, weight, temperature) for name, weight in self.weights.items()]

    @property
    def needs(self) -> frozenset[str]:
        """What a batch must bring along: of `target` and `prototype` those that a loss reads."""
        return frozenset().union(*(t.needs for t in self._terms)) - {"temperature"}

    @property
    def aligned(self) -> bool:
        """Whether one of the losses draws the student into the ensemble's frame."""
        return any(t.aligned for t in self._terms)

    def __call__(
        self, anchor: "Tensor", positive: "Tensor", given: "dict[str, Tensor]"
    ) -> "Tensor":
        """Weighted sum for a batch of N pairs: `anchor`, `positive` (N, D) unit rows of any
        precision; `given` has what the losses need, in the form that NEEDS says."""
        anchor, positive = anchor.float(), positive.float()
        total = anchor.new_zeros(())
        for term in self._terms:
            values = {"temperature": term.temperature, **given}
            value = term.function(anchor, positive, **{n: values[n] for n in term.needs})
            total = total + term.weight * value
        return total


def _term(name: str, weight: float, temperature: float | dict[str, float]) -> Term:
    module = load(name)
    needs = frozenset(module.NEEDS)
    softness = temperature.get(name) if isinstance(temperature, dict) else temperature
    if softness is None and "temperature" in needs:
        raise UserError(f"train.temperature: no entry for loss {name!r}; add one")
    return Term(weight, needs, module.ALIGNED, module.loss, softness)
