"""Barlow Twins: the full file and the backbone's give the same descriptors."""

from collections.abc import Callable
from pathlib import Path

from torch import Tensor, nn

from stages import teachers
from stages.nets.weights import digest_of_state
from stages.teachers import barlow_twins

State = dict[str, Tensor]


def settings(path: Path, **more: object) -> dict[str, object]:
    return {"kind": "barlow_twins", "weights": str(path), "image_px": 64, **more}


def test_published_descriptor(
    checkpoint: Path, save: Callable[..., Path], pixels: Tensor, maps: Callable, r50: nn.Module,
    close: Callable,
) -> None:  # fmt: skip
    expected = maps(r50, pixels)[1].mean((2, 3))
    full = teachers.load("barlow_twins", settings(checkpoint))
    assert full.dim == 2048 and close(full(pixels), expected)
    digest = digest_of_state(full)
    counted = {k: v for k, v in r50.state_dict().items() if not k.endswith("_tracked")}
    for state in (r50.state_dict(), counted):  # old files may lack the batch counters
        flat = teachers.load("barlow_twins", settings(save(state, "resnet50.pth")))
        assert close(flat(pixels), expected)
    flat = teachers.load("barlow_twins", settings(save(r50.state_dict(), "resnet50.pth")))
    assert digest_of_state(flat) == digest


def test_keys(official: Callable[[str], State]) -> None:
    state = {k.removeprefix("module."): v for k, v in official("barlow_twins").items()}
    named = barlow_twins.rename(state)
    used = [k for k in named if not k.startswith(barlow_twins.UNUSED)]
    assert len(used) == 318 and all(k.startswith("backbone.") for k in used)
    assert len(named) == 318 + 3 + 10 + 3  # backbone, projector's layers and norms, last norm
