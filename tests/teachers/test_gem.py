"""GeM from its published layout and from the converted one, against the formula."""

from collections.abc import Callable
from pathlib import Path

import pytest
from torch import Tensor, nn

from stages import teachers
from stages.core.errors import UserError
from stages.teachers import gem

State = dict[str, Tensor]


def unit(x: Tensor) -> Tensor:
    return x / (x.norm(dim=1, keepdim=True) + 1e-6)


def published(last: Tensor, head: State, p: Tensor | float) -> Tensor:
    """GeM, L2, whitening layer, L2, as the authors write them."""
    pooled = unit(last.clamp(min=1e-6).pow(p).mean((2, 3)).pow(1 / p))
    return unit(pooled @ head["whiten.weight"].T + head["whiten.bias"])


def settings(path: Path, **more: object) -> dict[str, object]:
    return {"kind": "gem", "weights": str(path), "image_px": 64, **more}


@pytest.fixture(scope="module")
def converted(save: Callable[..., Path], r101: nn.Module, heads: dict[str, State]) -> Path:
    head = heads["gem"]
    state = r101.state_dict() | {"fc.weight": head["whiten.weight"], "fc.bias": head["whiten.bias"]}
    return save({"state_dict": state, "meta": {}}, "converted.pt")


def test_published_descriptor(
    checkpoint: Path, pixels: Tensor, maps: Callable, r101: nn.Module, heads: dict[str, State],
    close: Callable,
) -> None:  # fmt: skip
    net = teachers.load("gem", settings(checkpoint))
    expected = published(maps(r101, pixels)[1], heads["gem"], heads["gem"]["pool.p"])
    assert close(net(pixels), expected)
    assert net.dim == 2048
    assert not net.training and not any(q.requires_grad for q in net.parameters())
    # The comparison is worth something: the images differ, and so do the exponents.
    assert not close(expected[:1], expected[1:], tolerance=1e-2)
    assert not close(published(maps(r101, pixels)[1], heads["gem"], 3.0), expected)


def test_exponent_three_repeats_the_reference(
    checkpoint: Path, converted: Path, pixels: Tensor, maps: Callable, r101: nn.Module,
    heads: dict[str, State], close: Callable,
) -> None:  # fmt: skip
    expected = published(maps(r101, pixels)[1], heads["gem"], 3.0)
    for path in (checkpoint, converted):
        net = teachers.load("gem", settings(path, gem_p=3))
        assert close(net(pixels), expected)


def test_a_file_without_exponent_asks_for_one(converted: Path) -> None:
    with pytest.raises(UserError, match=r"no exponent of GeM; set here\.gem_p"):
        teachers.load("gem", settings(converted), "here")


def test_every_key_is_used(official: Callable[[str], State]) -> None:
    state = official("gem")
    named = gem.rename(state)
    assert len(state) == len(named) == 627
    assert sum(k.startswith("backbone.") for k in named) == 624
    assert {k for k in named if not k.startswith("backbone.")} == {"p", "fc.weight", "fc.bias"}
    assert named["backbone.layer3.22.conv2.weight"] is state["features.6.22.conv2.weight"]
