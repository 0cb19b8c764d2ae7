"""The student's first weights: of its own network, all of them, or a line."""

from pathlib import Path

import pytest
import timm
import torch
from huggingface_hub import constants
from project import parameters

from stages import train
from stages.core.errors import UserError
from stages.distill import student
from stages.nets import hub

torch.set_num_threads(1)


def made(source: str, model: str = "resnet18") -> student.Student:
    return student.create(model, dim=8, image_px=64, pool="auto", gem_p=3.0, source=source, seed=0)


@pytest.mark.parametrize("other", ["resnet34", "resnet50"])
def test_weights_of_another_network_are_refused(tmp_path: Path, other: str) -> None:
    """A ResNet-34 has every weight of a ResNet-18, and whole blocks more."""
    torch.save(timm.create_model(other).state_dict(), tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"w\.pth: does not fit the network: .*unexpected"):
        made(str(tmp_path / "w.pth"))


@pytest.mark.parametrize("prefix", ["", "module.", "model.", "_orig_mod.", "module.backbone."])
def test_a_wrapped_file_of_its_own_network_is_taken(tmp_path: Path, prefix: str) -> None:
    state = timm.create_model("resnet18").state_dict()
    wrapped = {"net": {prefix + k: v for k, v in state.items()}, "acc": 0.5}
    torch.save(wrapped, tmp_path / "w.pth")
    net = made(str(tmp_path / "w.pth"))
    assert net.config["init"] == "file:w.pth"
    found = net.backbone.net.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in found.items())


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


@pytest.mark.usefixtures("offline")
def test_without_weights_it_stops_or_says_that_it_is_random(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(hub.Missing):
        made("pretrained")
    changes = {"train.weights": "pretrained", "train.without_weights": "stop"}
    p = parameters(**changes).section("train", train.Params)
    with pytest.raises(UserError, match="no weights for resnet18.tv_in1k: .*without_weights"):
        train.first_student("resnet18", p, dim=8)
    p = p.model_copy(update={"without_weights": "random"})
    net = train.first_student("resnet18", p, dim=8)
    assert net.config["init"] == "random"
    assert "warning: no weights for resnet18.tv_in1k" in capsys.readouterr().err
    assert all(
        torch.equal(a, b)
        for a, b in zip(net.parameters(), made("random").parameters(), strict=True)
    )


def test_a_size_that_it_cannot_take_is_said_before_training() -> None:
    p = parameters(**{"train.view_px": 100, "train.image_px": 128})
    with pytest.raises(UserError, match=r"^train\.view_px: hrnet_w18_small does not take 100"):
        train.first_student("hrnet_w18_small", p.section("train", train.Params), dim=8)
