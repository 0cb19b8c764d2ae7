"""The folder of losses: what they declare, their weighted sum, gradients by differences."""

from pathlib import Path

import pytest
import torch
from by_loops import unit
from torch import Tensor

from stages.core.errors import UserError
from stages.distill import losses
from stages.distill.losses import Objective, contrastive, prototype, relation


def test_gradients_numerically_with_respect_to_descriptors() -> None:
    x, y = (2 * unit(0)).requires_grad_(), (0.5 * unit(1)).requires_grad_()
    target, proto = unit(2) @ unit(3).T, unit(4)

    def cosine(a: Tensor, b: Tensor) -> Tensor:
        return (a / a.norm(dim=1, keepdim=True)) @ (b / b.norm(dim=1, keepdim=True)).T

    functions = (
        lambda a, b: relation.divergence(cosine(a, b), target, 0.2),
        lambda a, b: contrastive.info_nce(cosine(a, b), 0.2),
        lambda a, b: prototype.distance(a / a.norm(dim=1, keepdim=True), proto) + 0 * b.sum(),
    )
    for function in functions:
        assert torch.autograd.gradcheck(function, (x, y))


def test_the_objective_is_the_weighted_sum_in_single_precision() -> None:
    a, b = unit(0), unit(1)
    target, proto = unit(2) @ unit(3).T, torch.stack([unit(4), unit(5)])
    objective = Objective(
        {"relation": 0.5, "prototype": 2.0, "contrastive": 0.25},
        {"relation": 0.1, "contrastive": 0.3},
    )
    expected = (
        0.5 * relation.divergence(a @ b.T, target, 0.1)
        + 2.0 * (prototype.distance(a, proto[0]) + prototype.distance(b, proto[1])) / 2
        + 0.25 * contrastive.info_nce(a @ b.T, 0.3)
    )
    given = {"target": target.float(), "prototype": proto.float()}
    found = objective(a.float(), b.float(), given)
    assert float(found) == pytest.approx(float(expected), rel=1e-5)
    assert objective(a.bfloat16(), b.bfloat16(), given).dtype == torch.float32
    assert objective.needs == set(given)


def test_one_temperature_serves_all_losses() -> None:
    a, b = unit(0).float(), unit(1).float()
    given = {"target": (unit(2) @ unit(3).T).float()}
    weights = {"relation": 1.0, "contrastive": 1.0}
    one, each = Objective(weights, 0.2), Objective(weights, {"relation": 0.2, "contrastive": 0.2})
    assert float(one(a, b, given)) == float(each(a, b, given))
    assert float(one(a, b, given)) != float(Objective(weights, 0.3)(a, b, given))


@pytest.mark.parametrize(
    ("weights", "needs", "aligned"),
    [
        ({"relation": 1.0}, {"target"}, False),
        ({"contrastive": 1.0}, set(), False),
        ({"prototype": 1.0}, {"prototype"}, True),
        ({"relation": 1.0, "prototype": 0.1}, {"target", "prototype"}, True),
        ({"contrastive": 1.0, "prototype": 0.0}, set(), False),
    ],
)
def test_what_an_objective_needs(weights: dict[str, float], needs: set[str], aligned: bool) -> None:
    objective = Objective(weights)
    assert objective.needs == needs
    assert objective.aligned is aligned
    assert objective.weights == {n: w for n, w in weights.items() if w}


def test_a_temperature_is_asked_for_where_a_loss_needs_one() -> None:
    weights = {"relation": 1.0, "prototype": 1.0}
    with pytest.raises(UserError, match=r"train\.temperature: no entry for loss 'relation'"):
        Objective(weights, {"prototype": 1.0})
    Objective(weights, {"relation": 0.1})  # prototype needs none


def test_the_folder_is_the_list_of_losses() -> None:
    assert losses.names() == ["contrastive", "prototype", "relation"]
    with pytest.raises(UserError, match="no 'relations' in losses .did you mean 'relation'"):
        losses.load("relations")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ALIGNED = False\nloss = sum\n", r"amiss_0\.py: has no NEEDS; every loss has one"),
        ("NEEDS = ('targets',)\nALIGNED = False\nloss = sum\n", r"NEEDS names 'targets': choose"),
    ],
)
def test_an_incomplete_loss_is_refused(
    text: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"amiss_{int('NEEDS' in text)}"
    (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.setattr(losses, "__path__", [*losses.__path__, str(tmp_path)])
    with pytest.raises(UserError, match=message):
        losses.load(name)
    assert name in losses.names()
