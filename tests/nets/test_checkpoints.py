"""Files of weights of any origin: nothing in them runs, wrappings come off, the rest is a line."""

import hashlib
import io
import pickle
import tarfile
import zipfile
from pathlib import Path

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from stages.core.errors import UserError
from stages.nets import checkpoints

torch.set_num_threads(1)


@pytest.fixture
def net() -> torch.nn.Module:
    torch.manual_seed(0)
    return timm.create_model("test_resnet", num_classes=0)


def refusal(path: Path, sha256: str | None = None) -> str:
    with pytest.raises(UserError) as error:
        checkpoints.from_file(path, sha256)
    line = str(error.value)
    assert "\n" not in line and str(path) in line
    return line


def written(path: Path, net: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The weights of `net`, saved to `path` in the form that its name says."""
    state = {k: v.contiguous() for k, v in net.state_dict().items()}
    if path.suffix == ".pth":
        torch.save(state, path)
    else:
        save_file(state, path)
    return state


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_a_file_gives_back_its_tensors(tmp_path: Path, net: torch.nn.Module, suffix: str) -> None:
    path = tmp_path / f"w.{suffix}"
    state = written(path, net)
    found = checkpoints.from_file(path)
    assert set(found) == set(state) and all(torch.equal(found[k], state[k]) for k in state)


@pytest.mark.parametrize("key", ["state_dict", "model_state", "model"])
def test_a_checkpoint_is_unwrapped_and_the_rest_kept_beside(tmp_path: Path, key: str) -> None:
    torch.save({key: {"w": torch.ones(2)}, "epoch": 3}, tmp_path / "w.pth")
    state, beside = checkpoints.read(tmp_path / "w.pth")
    assert list(state) == ["w"] and beside == {"epoch": 3}


def test_the_sha256_is_checked_before_the_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    torch.save({"w": torch.ones(2)}, path)
    right = hashlib.sha256(path.read_bytes()).hexdigest()
    assert torch.equal(checkpoints.from_file(path, right)["w"], torch.ones(2))
    path.write_bytes(b"no weights")
    assert f"not {right}" in refusal(path, right)


@pytest.mark.parametrize("suffix", ["safetensors", "pth", "pth.tar"])
@pytest.mark.parametrize("content", [b"", b"abc", b"<html>not found</html>" * 50, b"\xff" * 200])
def test_what_is_no_weights_file_is_one_line(tmp_path: Path, suffix: str, content: bytes) -> None:
    (tmp_path / f"w.{suffix}").write_bytes(content)
    told = refusal(tmp_path / f"w.{suffix}")
    assert ("it is a web page" in told) == content.startswith(b"<")


def test_keys_that_are_no_names(tmp_path: Path) -> None:
    torch.save({"state_dict": {0: torch.ones(2), "w": torch.ones(2)}}, tmp_path / "w.pth")
    assert "not a checkpoint: 0 is no name" in refusal(tmp_path / "w.pth")


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_half_a_weights_file_is_one_line(tmp_path: Path, net: torch.nn.Module, suffix: str) -> None:
    path = tmp_path / f"w.{suffix}"
    written(path, net)
    whole = path.read_bytes()
    for share in (0.01, 0.5, 0.99):
        path.write_bytes(whole[: int(len(whole) * share)])
        refusal(path)


def test_missing_folders_and_lists_are_one_line(tmp_path: Path) -> None:
    assert "no such weights file" in refusal(tmp_path / "none.pth")
    (tmp_path / "f.pth").mkdir()
    assert "is a folder" in refusal(tmp_path / "f.pth")
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


def saved(folder: Path, tree: object) -> Path:
    torch.save(tree, folder / "w.pth")
    return folder / "w.pth"


STATE = {"conv1.weight": torch.ones(2, 3), "fc.bias": torch.zeros(2)}


@pytest.mark.parametrize(
    "key", ["model_state_dict", "net", "network", "state_dict_ema", "model_ema", "my_very_own"]
)
def test_a_lone_map_of_weights_is_unwrapped(tmp_path: Path, key: str) -> None:
    optimizer = {"state": {0: {"exp_avg": torch.ones(9)}}, "param_groups": [{"lr": 0.1}]}
    tree = {"epoch": 3, key: STATE, "optimizer": optimizer, "best": torch.tensor(0.5)}
    state, beside = checkpoints.read(saved(tmp_path, tree))
    assert list(state) == list(STATE) and set(beside) == set(tree) - {key}


def test_maps_within_maps(tmp_path: Path) -> None:
    state, beside = checkpoints.read(saved(tmp_path, {"model": {"state_dict": STATE, "n": 1}}))
    assert list(state) == list(STATE) and beside == {"n": 1}


@pytest.mark.parametrize("other", ["state_dict_ema", "model_ema", "teacher", "pool"])
def test_of_two_maps_it_is_said_which_is_taken(
    tmp_path: Path, other: str, capsys: pytest.CaptureFixture[str]
) -> None:
    twice = {k: v + 1 for k, v in STATE.items()}
    state, _ = checkpoints.read(saved(tmp_path, {other: twice, "state_dict": STATE}))
    assert torch.equal(state["conv1.weight"], STATE["conv1.weight"])
    said = capsys.readouterr().err
    assert f"{tmp_path / 'w.pth'}: several maps of weights ({other}, state_dict)" in said
    assert "`state_dict` is taken" in said


def test_two_maps_without_a_usual_name_are_refused(tmp_path: Path) -> None:
    told = refusal(saved(tmp_path, {"trunk": STATE, "neck": STATE}))
    assert "several maps of weights (trunk, neck)" in told


def test_weights_with_a_map_beside_them_stay_as_they_are(tmp_path: Path) -> None:
    tree = {**STATE, "pca": {"mean": torch.ones(2)}}
    assert set(checkpoints.read(saved(tmp_path, tree))[0]) == set(tree)


@given(
    wrappers=st.lists(st.sampled_from(checkpoints.WRAPPERS), max_size=4),
    head=st.sampled_from(["fc.weight", "head.bias", "loss.weight"]),
    head_within=st.integers(0, 4),
)
@settings(deadline=None)
def test_any_wrapping_comes_off_and_loses_nothing(
    wrappers: list[str], head: str, head_within: int
) -> None:
    own = {"conv1.weight": torch.ones(1), "layer1.0.bias": torch.zeros(1)}
    prefix, outer = "".join(wrappers), "".join(wrappers[:head_within])
    wrapped = {prefix + k: v for k, v in own.items()} | {outer + head: torch.ones(2)}
    state, taken = checkpoints.bare(wrapped, own)
    assert taken == prefix
    assert set(state) == {*own, head}
    assert all(state[k] is v for k, v in own.items())


@given(
    names=st.lists(
        st.text("abc.", min_size=1, max_size=6) | st.sampled_from(checkpoints.WRAPPERS),
        min_size=1, max_size=6, unique=True,
    )
)  # fmt: skip
@settings(deadline=None)
def test_whatever_the_names_no_weight_is_lost(names: list[str]) -> None:
    state = {name: torch.full((1,), i) for i, name in enumerate(names)}
    for own in (None, {"a": 0}):
        found, prefix = checkpoints.bare(state, own)
        assert sorted(int(v) for v in found.values()) == list(range(len(names)))
        assert any(name.startswith(prefix) for name in names)


def test_student_and_teacher_side_by_side_are_left_for_the_person(net: torch.nn.Module) -> None:
    own = net.state_dict()
    both = {f"{who}.{k}": v for who in ("student", "teacher") for k, v in own.items()}
    assert checkpoints.bare(both, own) == (both, "")


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_pointers_and_packed_files_are_named(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"w.{suffix}"
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 46827520\n")
    assert "git lfs pull" in refusal(path)
    torch.save(STATE, tmp_path / "in.pth")
    with tarfile.open(path, "w:gz") as archive:
        archive.add(tmp_path / "in.pth", "in.pth")
    assert "tar xzf" in refusal(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(tmp_path / "in.pth", "in.pth")
    assert "none of torch.save; unpack it" in refusal(path)


def test_the_format_is_seen_by_content_not_by_name(tmp_path: Path) -> None:
    save_file(STATE, tmp_path / "w.pth")
    torch.save(STATE, tmp_path / "w.safetensors")
    for name in ("w.pth", "w.safetensors"):
        assert set(checkpoints.from_file(tmp_path / name)) == set(STATE)


def test_a_torchscript_file_is_no_weights(tmp_path: Path) -> None:
    torch.jit.script(torch.nn.Linear(2, 2)).save(tmp_path / "w.pt")
    assert "TorchScript program; a teacher of kind exported runs it" in refusal(tmp_path / "w.pt")


def test_a_file_of_torch_0_1(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "w.pth", "w") as archive:
        for name in ("sys_info", "pickle", "tensors", "storages"):
            archive.addfile(tarfile.TarInfo(name), io.BytesIO())
    assert "a file of torch 0.1" in refusal(tmp_path / "w.pth")


def test_a_packed_checkpoint_that_swells_is_not_read(tmp_path: Path) -> None:
    source, path = saved(tmp_path, {"w": torch.zeros(16 << 20)}), tmp_path / "small.pth"
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
    assert "unpacks to 64 MiB" in refusal(path)


def test_a_sha256_may_be_written_in_capitals(tmp_path: Path) -> None:
    path = saved(tmp_path, STATE)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert set(checkpoints.from_file(path, f" {digest.upper()}\n")) == set(STATE)
