"""MoCo v3: the base encoder of the published file, averaged."""

from collections.abc import Callable
from pathlib import Path

from torch import Tensor, nn

from stages import teachers
from stages.teachers import moco_v3

State = dict[str, Tensor]


def settings(path: Path, **more: object) -> dict[str, object]:
    return {"kind": "moco_v3", "weights": str(path), "image_px": 64, **more}


def test_published_descriptor(
    checkpoint: Path, pixels: Tensor, maps: Callable, r50: nn.Module, close: Callable
) -> None:
    last = maps(r50, pixels)[1]
    net = teachers.load("moco_v3", settings(checkpoint))
    assert net.dim == 2048 and close(net(pixels), last.mean((2, 3)))
    cubic = last.clamp(min=1e-6).pow(3).mean((2, 3)).pow(1 / 3)
    assert close(teachers.load("moco_v3", settings(checkpoint, gem_p=3))(pixels), cubic)


def test_keys(official: Callable[[str], State]) -> None:
    state = {k.removeprefix("module."): v for k, v in official("moco_v3").items()}
    named = moco_v3.rename(state)
    used = [k for k in named if not k.startswith(moco_v3.UNUSED)]
    assert len(used) == 318 and all(k.startswith("backbone.") for k in used)
    assert len(named) == 318 + 10 + 328 + 7  # encoder, its projector, both again, predictor
