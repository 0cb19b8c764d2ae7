"""DELG's global descriptor: pycls' names, BGR images, no L2 before the linear layer."""

from collections.abc import Callable
from pathlib import Path

from torch import Tensor, nn

from stages import teachers
from stages.teachers import delg

State = dict[str, Tensor]


def published(last: Tensor, head: State, p: Tensor | float) -> Tensor:
    pooled = last.clamp(min=1e-6).pow(p).mean((2, 3)).pow(1 / p)
    return pooled @ head["globalmodel.head.fc.weight"].T + head["globalmodel.head.fc.bias"]


def settings(path: Path, **more: object) -> dict[str, object]:
    return {"kind": "delg", "weights": str(path), "image_px": 64, **more}


def test_published_descriptor(
    checkpoint: Path, pixels: Tensor, maps: Callable, r101: nn.Module, heads: dict[str, State],
    close: Callable,
) -> None:  # fmt: skip
    head = heads["delg"]
    p = head["globalmodel.head.pool.p"]
    last = maps(r101, pixels, bgr=True)[1]
    net = teachers.load("delg", settings(checkpoint))
    assert net.dim == 512
    assert close(net(pixels), published(last, head, p))
    assert not close(net(pixels), published(maps(r101, pixels)[1], head, p))  # RGB is not the same
    fixed = teachers.load("delg", settings(checkpoint, gem_p=3))
    assert close(fixed(pixels), published(last, head, 3.0))


def test_keys(official: Callable[[str], State]) -> None:
    state = official("delg")
    assert sum(k.startswith("globalmodel.") for k in state) == 627
    named = delg.rename(state)
    used = [k for k in named if not k.startswith(delg.UNUSED)]
    assert len(used) == 627 and sum(k.startswith("backbone.") for k in used) == 624
    assert len(named) - len(used) == 13
