"""AP-GeM: published layout, `norm_features`, and the way through `whiten-mtd convert`."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from stages import teachers
from stages.core import console
from stages.core.errors import UserError
from stages.teachers import ap_gem
from stages.tools.setup import convert

State = dict[str, Tensor]


def unit(x: Tensor) -> Tensor:
    return x / x.norm(dim=1, keepdim=True)


def published(last: Tensor, head: State, p: Tensor | float, norm_features: bool) -> Tensor:
    pooled = last.clamp(min=1e-6).pow(p).mean((2, 3)).pow(1 / p)
    pooled = unit(pooled) if norm_features else pooled
    return unit(pooled @ head["module.fc.weight"].T + head["module.fc.bias"])


def settings(path: Path, **more: object) -> dict[str, object]:
    return {"kind": "ap_gem", "weights": str(path), "image_px": 64, **more}


def test_published_descriptor(
    checkpoint: Path, pixels: Tensor, maps: Callable, r101: nn.Module, heads: dict[str, State],
    close: Callable,
) -> None:  # fmt: skip
    last, head = maps(r101, pixels)[1], heads["ap_gem"]
    plain = published(last, head, head["module.adpool.p"], norm_features=False)
    normed = published(last, head, head["module.adpool.p"], norm_features=True)
    assert not close(plain, normed)  # the layer's bias makes the difference
    assert close(teachers.load("ap_gem", settings(checkpoint))(pixels), plain)
    as_reference = settings(checkpoint, norm_features=True, gem_p=3)
    expected = published(last, head, 3.0, norm_features=True)
    assert close(teachers.load("ap_gem", as_reference)(pixels), expected)


def with_pca(state: State, monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """The official container: an old scikit-learn's PCA pickled beside the weights."""
    module = ModuleType("sklearn.decomposition.pca")
    module.PCA = type("PCA", (), {"__module__": module.__name__})
    for name in ("sklearn", "sklearn.decomposition"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    fitted = module.PCA()
    rng = np.random.default_rng(0)
    fitted.mean_, fitted.components_ = rng.normal(size=8), rng.normal(size=(4, 8))
    fitted.explained_variance_ = np.float32([4, 3, 2, 1])
    options = {"arch": "resnet101_rmac", "out_dim": 2048, "norm_features": True, "gemp": 3}
    return {"state_dict": state, "model_options": options, "pca": {"Landmarks_clean": fitted}}


def test_the_original_with_its_pca_goes_through_convert(
    official: Callable[[str], State], save: Callable[..., Path], pixels: Tensor, maps: Callable,
    r101: nn.Module, heads: dict[str, State], close: Callable, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    with monkeypatch.context() as patch:
        container = with_pca(official("ap_gem"), patch)
        original = save(container, "LM18.pt", _use_new_zipfile_serialization=False)
    with pytest.raises(UserError, match=r"sklearn\.decomposition\.pca\.PCA.*whiten-mtd convert"):
        teachers.load("ap_gem", settings(original))
    out = tmp_path / "ap_gem.safetensors"
    assert console.run(convert.app, [str(original), str(out)]) == 0
    assert not [m for m in sys.modules if m.split(".")[0] == "sklearn"]
    net = teachers.load("ap_gem", settings(out))
    out.unlink()
    head = heads["ap_gem"]
    p = head["module.adpool.p"]
    assert close(net(pixels), published(maps(r101, pixels)[1], head, p, norm_features=True))


def test_a_centre_bias_is_refused(save: Callable[..., Path]) -> None:
    path = save(
        {"state_dict": {"fc.bias": torch.ones(2)}, "model_options": {"center_bias": 0.5}},
        "biased.pt",
    )
    with pytest.raises(UserError, match="center_bias 0.5"):
        teachers.load("ap_gem", settings(path))


def test_options_that_are_no_json(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    save_file({"w": torch.ones(1)}, path, {"model_options": "{half"})
    with pytest.raises(UserError, match="model_options are no JSON"):
        teachers.load("ap_gem", settings(path))


def test_every_key_is_used(official: Callable[[str], State]) -> None:
    named = ap_gem.rename({k.removeprefix("module."): v for k, v in official("ap_gem").items()})
    assert len(named) == 627
    assert {k for k in named if not k.startswith("backbone.")} == {"p", "fc.weight", "fc.bias"}
