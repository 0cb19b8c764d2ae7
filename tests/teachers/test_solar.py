"""SOLAR against its attention written out: softmax(F^T G / sqrt(m)) H^T."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stages import teachers
from stages.teachers import solar

State = dict[str, Tensor]


def attention(x: Tensor, head: State, block: str) -> Tensor:
    """One block, the whole matrix of positions held."""
    w = {k.removeprefix(f"features.{block}."): v for k, v in head.items() if f".{block}." in k}

    def normed(part: str) -> Tensor:
        y = F.conv2d(x, w[f"{part}.0.weight"], w[f"{part}.0.bias"])
        mean, var = w[f"{part}.1.running_mean"], w[f"{part}.1.running_var"]
        y = F.batch_norm(y, mean, var, w[f"{part}.1.weight"], w[f"{part}.1.bias"], eps=1e-5)
        return F.relu(y).flatten(2)

    f, g, h = normed("f"), normed("g"), F.conv2d(x, w["h.weight"], w["h.bias"]).flatten(2)
    a = torch.softmax(torch.einsum("bmi,bmj->bij", f, g) / f.shape[1] ** 0.5, dim=-1)
    z = torch.einsum("bij,bmj->bmi", a, h).reshape(len(x), -1, *x.shape[2:])
    return x + F.conv2d(z, w["v.weight"], w["v.bias"])


def unit(x: Tensor) -> Tensor:
    return x / (x.norm(dim=1, keepdim=True) + 1e-6)


@torch.inference_mode()
def published(third: Tensor, layer4: nn.Module, head: State, p: Tensor | float) -> Tensor:
    x = attention(layer4(attention(third, head, "soa4")), head, "soa5")
    assert (x < 0).any()  # so that the clamp matters
    pooled = unit(x.clamp(min=1e-6).pow(p).mean((2, 3)).pow(1 / p))
    return unit(pooled @ head["whiten.weight"].T + head["whiten.bias"])


def settings(path: Path, **more: object) -> dict[str, object]:
    return {"kind": "solar", "weights": str(path), "image_px": 64, **more}


def test_published_descriptor(
    checkpoint: Path, pixels: Tensor, maps: Callable, r101: nn.Module, heads: dict[str, State],
    close: Callable,
) -> None:  # fmt: skip
    third, head = maps(r101, pixels)[0], heads["solar"]
    assert third.shape == (2, 1024, 4, 4)
    learned = published(third, r101.layer4, head, head["pool.p"])
    assert close(teachers.load("solar", settings(checkpoint))(pixels), learned)
    fixed = published(third, r101.layer4, head, 3.0)
    assert not close(fixed, learned)
    assert close(teachers.load("solar", settings(checkpoint, gem_p=3))(pixels), fixed)


def test_every_key_is_used(official: Callable[[str], State]) -> None:
    named = solar.rename(official("solar"))
    assert len(named) == 663
    assert sum(k.startswith("backbone.") for k in named) == 624
    assert sum(k.startswith("soa4.") for k in named) == 18
    assert sum(k.startswith("soa5.") for k in named) == 18
    assert set(named) == set(solar.Solar().state_dict())
