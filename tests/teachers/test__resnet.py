"""Bad checkpoints of the published teachers: another's, half a one, another digest, a program."""

import hashlib
import os
import pickle
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from stages import teachers
from stages.core.errors import UserError
from stages.teachers import _resnet

KINDS = ("gem", "ap_gem", "solar", "delg", "dolg", "moco_v3", "barlow_twins")
State = dict[str, Tensor]


def settings(kind: str, path: Path, **more: object) -> dict[str, object]:
    return {"kind": kind, "weights": str(path), "image_px": 64, **more}


@pytest.mark.parametrize("kind", KINDS)
def test_looks_like(kind: str, official: Callable[[str], State]) -> None:
    keys = [k.removeprefix("module.") for k in official(kind)]
    assert _resnet.looks_like(keys) == kind


def test_looks_like_a_plain_network() -> None:
    assert _resnet.looks_like(["conv1.weight", "fc.weight"]).startswith("gem as Whiten-MTD")
    assert _resnet.looks_like(["conv1.weight"]).startswith("barlow_twins' backbone")
    assert _resnet.looks_like(["blocks.0.attn.qkv.weight"]) == "none of the published teachers'"
    assert _resnet.looks_like([]) == "none of the published teachers'"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("step", [1, 3])
def test_another_teachers_checkpoint(
    kind: str, step: int, official: Callable[[str], State], save: Callable[..., Path],
    containers: dict[str, Callable],
) -> None:  # fmt: skip
    other = KINDS[(KINDS.index(kind) + step) % len(KINDS)]
    state = {k: torch.zeros(()).expand(v.shape) for k, v in official(other).items()}
    path = save(containers[other](state), f"{other}.pth")
    with pytest.raises(UserError) as caught:
        teachers.load(kind, settings(kind, path, gem_p=3))
    line = str(caught.value)
    assert line.startswith(f"{path}: does not fit the network: missing [")
    assert line.endswith(f"its keys look like {other}") and "\n" not in line
    assert re.search(r"\['[\w.]+'", line)  # a key that differs is named


def test_one_weight_too_many_or_too_few(
    official: Callable[[str], State], save: Callable[..., Path]
) -> None:
    state = {k: torch.zeros(()).expand(v.shape) for k, v in official("gem").items()}
    path = save({"state_dict": state | {"pool.q": torch.zeros(1)}}, "more.pth")
    with pytest.raises(UserError, match=r"missing \[\] \(0\), unexpected \['pool\.q'\] \(1\)"):
        teachers.load("gem", settings("gem", path))
    del state["features.7.2.bn3.running_var"]
    path = save({"state_dict": state}, "fewer.pth")
    with pytest.raises(UserError, match=r"missing \['backbone.layer4.2.bn3.running_var'\] \(1\)"):
        teachers.load("gem", settings("gem", path))


def test_two_layouts_at_once() -> None:
    state = {"conv1.weight": torch.zeros(1), "features.0.weight": torch.zeros(1)}
    from stages.teachers import gem

    with pytest.raises(UserError, match=r"two layouts at once: backbone\.conv1\.weight"):
        gem.rename(state)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_half_a_file(suffix: str, share: float, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    path, state = tmp_path / f"half{suffix}", {"conv1.weight": torch.ones(64, 3, 7, 7)}
    torch.save({"state_dict": state}, path) if suffix == ".pth" else save_file(state, path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(
        UserError, match="cannot be read as weights.*half a file|is empty"
    ) as caught:
        teachers.load("gem", settings("gem", path))
    assert "\n" not in str(caught.value)


def test_digest_and_path_are_checked_first(tmp_path: Path) -> None:
    path = tmp_path / "gem.pth"
    with pytest.raises(UserError, match="no such weights file"):
        teachers.load("gem", settings("gem", path))
    path.write_bytes(b"not even a checkpoint")
    digest = hashlib.sha256(b"not even a checkpoint").hexdigest()
    with pytest.raises(UserError, match=f"sha256 is {digest}, not 00"):
        teachers.load("gem", settings("gem", path, sha256="00"))
    with pytest.raises(UserError, match="not a checkpoint: it is a text"):
        teachers.load("gem", settings("gem", path, sha256=digest))


class Payload:
    """Unpickled the ordinary way, it makes a folder."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.proof),)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("zipped", [True, False])
def test_a_program_in_the_pickle_is_not_run(kind: str, zipped: bool, tmp_path: Path) -> None:
    proof = tmp_path / "proof"
    pickle.loads(pickle.dumps(Payload(proof)))
    assert proof.is_dir()  # the payload works where it is let
    proof.rmdir()
    value = {"state_dict": {"conv1.weight": torch.ones(1)}, "pca": Payload(proof)}
    torch.save(value, tmp_path / "evil.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(UserError, match=r"holds \w+\.mkdir.*not executed.*whiten-mtd convert"):
        teachers.load(kind, settings(kind, tmp_path / "evil.pth"))
    assert not proof.exists()


@pytest.mark.parametrize("kind", KINDS)
def test_settings_are_checked(kind: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"here\.gem_q: unknown key \(did you mean 'gem_p'\?\)"):
        teachers.load(kind, settings(kind, tmp_path, gem_q=3), "here")
    with pytest.raises(UserError, match=r"here\.gem_p: .*greater than 0"):
        teachers.load(kind, settings(kind, tmp_path, gem_p=0), "here")
