"""DOLG: the global branch, and its fusion with the local part, projected at every position."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stages import teachers
from stages.core.errors import UserError
from stages.teachers import dolg

State = dict[str, Tensor]


def branch(last: Tensor, head: State, p: Tensor | float) -> Tensor:
    pooled = last.clamp(min=1e-6).pow(p).mean((2, 3)).pow(1 / p)
    return pooled @ head["fc_t.weight"].T + head["fc_t.bias"]


def fused(third: Tensor, whole: Tensor, head: State) -> Tensor:
    """The published order of operations: project every position, then average."""
    w = {k.removeprefix("localmodel."): v for k, v in head.items() if k.startswith("localmodel.")}
    z = F.conv2d(third, w["conv1.weight"], w["conv1.bias"])
    norm = (w["bn.running_mean"], w["bn.running_var"], w["bn.weight"], w["bn.bias"])
    z = F.batch_norm(z, *norm, eps=1e-5)
    score = F.conv2d(z.relu(), w["conv2.weight"], w["conv2.bias"])
    score = torch.logaddexp(score, torch.zeros(()))  # softplus
    local = score * z / z.norm(dim=1, keepdim=True)
    along = torch.einsum("bchw,bc->bhw", local, whole) / (whole * whole).sum(1)[:, None, None]
    rest = local - along[:, None] * whole[:, :, None, None]
    return torch.cat([whole, rest.mean((2, 3))], 1) @ head["fc.weight"].T + head["fc.bias"]


def settings(path: Path, **more: object) -> dict[str, object]:
    return {"kind": "dolg", "weights": str(path), "image_px": 64, **more}


def test_published_descriptors(
    checkpoint: Path, pixels: Tensor, maps: Callable, r101: nn.Module, heads: dict[str, State],
    close: Callable,
) -> None:  # fmt: skip
    head = heads["dolg"]
    third, last = maps(r101, pixels, bgr=True)
    whole = branch(last, head, head["pool_g.p"])
    net = teachers.load("dolg", settings(checkpoint))
    assert net.dim == 1024 and close(net(pixels), whole)
    net = teachers.load("dolg", settings(checkpoint, output="fused"))
    expected = fused(third, whole, head)
    assert net.dim == 512 and close(net(pixels), expected)
    # The local part matters: without it the fused descriptor is another.
    empty = torch.cat([whole, torch.zeros_like(whole)], 1) @ head["fc.weight"].T + head["fc.bias"]
    assert not close(expected, empty, tolerance=1e-3)


def test_the_exponent_under_the_reference_s_name(
    save: Callable[..., Path], official: Callable[[str], State], pixels: Tensor, maps: Callable,
    r101: nn.Module, heads: dict[str, State], close: Callable,
) -> None:  # fmt: skip
    state = official("dolg")
    p = state.pop("pool_g.p")
    last = maps(r101, pixels, bgr=True)[1]
    path = save({"model_state": state | {"pool1.p": p}}, "pool1.pyth")
    assert close(teachers.load("dolg", settings(path))(pixels), branch(last, heads["dolg"], p))
    path = save({"model_state": state}, "fixed.pyth")
    with pytest.raises(UserError, match="no exponent of GeM"):
        teachers.load("dolg", settings(path))
    net = teachers.load("dolg", settings(path, gem_p=3))
    assert close(net(pixels), branch(last, heads["dolg"], 3.0))


def test_the_multi_atrous_block_is_refused(save: Callable[..., Path]) -> None:
    path = save({"model_state": {"localmodel.aspp.aspp.0.weight": torch.zeros(1)}}, "aspp.pyth")
    with pytest.raises(UserError, match=r"multi-atrous.*set here\.output to global"):
        teachers.load("dolg", settings(path, output="fused"), "here")


def test_keys(official: Callable[[str], State]) -> None:
    state = official("dolg")
    assert len(state) == 640  # 638 of the network, 2 of the classifier
    named = dolg.rename(state)
    assert len([k for k in named if not k.startswith(dolg.CLASSIFIER)]) == 638
    unused = dolg.CLASSIFIER + dolg.FUSED_ONLY
    assert len([k for k in named if not k.startswith(unused)]) == 627
