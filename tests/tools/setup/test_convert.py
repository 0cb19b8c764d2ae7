"""Tensors out of a pickle without running it."""

import json
import os
import pickle
import resource
import sys
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from stages.core import console
from stages.tools.setup import convert


def run(source: Path, out: Path) -> int:
    return console.run(convert.app, [str(source), str(out)])


def metadata(path: Path) -> dict[str, str]:
    with safe_open(path, framework="pt") as file:
        return file.metadata()


def state() -> dict[str, torch.Tensor]:
    """Every dtype and stride that a checkpoint may have."""
    g = torch.Generator().manual_seed(0)
    block = torch.randn(6, 4, generator=g)
    return {
        "whole": block, "turned": block.t(), "part": block[2:5, 1:3], "scalar": torch.tensor(2.5),
        "empty": torch.zeros(0, 3), "half": block.half(), "double": block.double(),
        "count": torch.tensor(7), "bool": block > 0, "byte": torch.arange(5, dtype=torch.uint8),
        "parameter": torch.nn.Parameter(block[0]),
    }  # fmt: skip


@pytest.fixture
def sklearn(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module of scikit-learn's name, there to be pickled from and gone before reading."""
    module = ModuleType("sklearn.decomposition.pca")
    module.PCA = type("PCA", (), {"__module__": module.__name__})
    monkeypatch.setitem(sys.modules, "sklearn", ModuleType("sklearn"))
    monkeypatch.setitem(sys.modules, "sklearn.decomposition", ModuleType("sklearn.decomposition"))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    yield module, monkeypatch.undo


class Payload:
    """Unpickled the ordinary way, it makes a folder."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.proof),)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("key", ["state_dict", "model_state", "model", None])
def test_tensors_are_torchs_own(zipped: bool, key: str | None, tmp_path: Path) -> None:
    source, out = tmp_path / "in.pt", tmp_path / "out.safetensors"
    value = state() if key is None else {key: state(), "epoch": 3}
    torch.save(value, source, _use_new_zipfile_serialization=zipped)
    assert run(source, out) == 0
    found, expected = load_file(out), torch.load(source, weights_only=True)
    expected = expected if key is None else expected[key]
    assert set(found) == set(expected)
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype and torch.equal(found[name], tensor.detach()), name


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("protocol", [2, 4])
def test_options_and_pca(zipped: bool, protocol: int, sklearn: Any, tmp_path: Path) -> None:
    module, forget = sklearn
    pca, rng = module.PCA(), np.random.default_rng(0)
    pca.mean_, pca.components_ = rng.normal(size=6), np.asfortranarray(rng.normal(size=(2, 6)))
    pca.explained_variance_ = np.array([2.0, 1.0], dtype=">f4")
    pca.noise_variance_, pca.whiten, pca.n_components = np.float64(0.5), True, None
    options = {"arch": "resnet101_rmac", "norm_features": True, "gemp": 3, "odd": pca}
    source, out = tmp_path / "in.pt", tmp_path / "out.safetensors"
    torch.save(
        {
            "state_dict": state(), "model_options": options, "pca": {"Landmarks_clean": pca},
            "preprocess": {"mean": (0.4, 0.5, 0.6)}, "optimizer": {"lr": 1},
        },
        source, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped,
    )  # fmt: skip
    expected = {k: getattr(pca, f"{k}_") for k in ("mean", "components", "explained_variance")}
    forget()
    assert run(source, out) == 0
    assert "sklearn" not in sys.modules
    found = load_file(out)
    for name, value in expected.items():
        assert np.array_equal(found[f"pca.Landmarks_clean.{name}"].numpy(), value), name
    assert len(found) == len(state()) + 3
    kept = {k: json.loads(v) for k, v in metadata(out).items()}
    assert kept["model_options"] == options | {"odd": None}
    assert kept["preprocess"] == {"mean": [0.4, 0.5, 0.6]}


@pytest.mark.parametrize("zipped", [True, False])
def test_nothing_in_the_pickle_runs(
    zipped: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    proof, source, out = tmp_path / "proof", tmp_path / "in.pt", tmp_path / "out.safetensors"
    pickle.loads(pickle.dumps(Payload(proof)))
    assert proof.is_dir()  # the payload works where it is let
    proof.rmdir()
    value = {"state_dict": state() | {"x": Payload(proof)}, "pca": {"a": Payload(proof)}}
    torch.save(value, source, _use_new_zipfile_serialization=zipped)
    assert run(source, out) == 0
    assert not proof.exists()
    assert set(load_file(out)) == set(state())
    assert "left out: pca" in capsys.readouterr().err


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("share", [0.0, 0.4, 0.97])
def test_half_a_file(
    zipped: bool, share: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = tmp_path / "in.pt", tmp_path / "out.safetensors"
    torch.save(
        {"state_dict": {"a": torch.ones(4096)}}, source, _use_new_zipfile_serialization=zipped
    )
    source.write_bytes(source.read_bytes()[: int(source.stat().st_size * share)])
    assert run(source, out) == 2
    line = capsys.readouterr().err
    expected = "cannot be read" if share else "not a checkpoint: it is empty"
    assert line.startswith(f"error: {source}: {expected}") and line.count("\n") == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.pt"]


def test_other_mistakes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, out = tmp_path / "in.pt", tmp_path / "out.safetensors"
    assert run(source, out) == 2
    assert "no such checkpoint" in capsys.readouterr().err
    assert run(source, tmp_path / "out.pt") == 2
    assert "must end in .safetensors" in capsys.readouterr().err
    torch.save({"epoch": 3, "names": ["a"]}, source)
    assert run(source, out) == 2
    assert "no tensors in it, only epoch, names" in capsys.readouterr().err
    torch.save([torch.ones(1)], source)
    assert run(source, out) == 2
    assert "a list, not a map of weights" in capsys.readouterr().err
    torch.save({"a": torch.ones(2, dtype=torch.bfloat16)}, source)
    assert run(source, out) == 2
    assert "BFloat16" in capsys.readouterr().err


def test_keys_that_are_no_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"state_dict": {0: torch.ones(2)}}, tmp_path / "w.pth")
    assert run(tmp_path / "w.pth", tmp_path / "w.safetensors") == 2
    assert "not a checkpoint: 0 is no name" in capsys.readouterr().err
    assert not (tmp_path / "w.safetensors").exists()


def refused(source: Path, word: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`source` is refused in a line, and in little memory."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert run(source, source.with_suffix(".safetensors")) == 2
    line = capsys.readouterr().err
    assert word in line and line.count("\n") == 1, line
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 512 << 10  # KiB
    assert not source.with_suffix(".safetensors").exists()


def test_a_zip_that_swells_is_not_unpacked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, packed = tmp_path / "whole.pt", tmp_path / "packed.pt"
    torch.save({"a": torch.zeros(256 << 20, dtype=torch.uint8)[:4]}, whole)
    with zipfile.ZipFile(whole) as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
        for member in old.infolist():
            with old.open(member) as source, new.open(member.filename, "w") as target:
                while block := source.read(1 << 20):
                    target.write(block)
    assert packed.stat().st_size < 1 << 20
    refused(packed, "unpacks to 256 MiB", capsys)


def zipped(folder: Path, pickled: bytes, **storages: bytes) -> Path:
    """A file of torch.save's layout with a pickle of one's own."""
    path = folder / "made.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("made/data.pkl", pickled)
        for key, data in storages.items():
            archive.writestr(f"made/data/{key}", data)
    return path


@pytest.mark.parametrize(
    ("pickled", "word"),
    [
        (b"\x80\x02Nr\xff\xff\xff\x7f.", "claims a memo of 2147483647 entries"),
        (b"\x80\x02Np4000000000\n.", "claims a memo of 4000000000 entries"),
        (b"\x80\x02" + b"N0" * 600_000 + b"N.", "a pickle of more than 1000000 steps"),
        (b"\x80\x02" + b"".join(b"ca%d\nb\n0" % i for i in range(2000)) + b"N.",
         "names more than 1000 classes"),
    ],
)  # fmt: skip
def test_a_pickle_takes_no_more_than_it_needs(
    tmp_path: Path, pickled: bytes, word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    refused(zipped(tmp_path, pickled), word, capsys)


def test_one_array_named_a_thousand_times_is_made_once(tmp_path: Path) -> None:
    array = np.ones(4096, np.float32)
    doubled: list[Any] = [array]
    for _ in range(40):  # 2 ** 40 ways to it
        doubled = [doubled, doubled]
    torch.save({"state_dict": {"a": torch.ones(2)}, "other": doubled}, tmp_path / "in.pt")
    assert run(tmp_path / "in.pt", tmp_path / "out.safetensors") == 0
    assert set(load_file(tmp_path / "out.safetensors")) == {"a"}


def test_many_tensors_of_one_storage_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    block = torch.zeros(1 << 20)
    torch.save({f"t{i}": block[i:] for i in range(500)}, tmp_path / "in.pt")  # 2 GB of 4 MB
    refused(tmp_path / "in.pt", "of the same numbers many tensors", capsys)


def test_options_without_end_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    doubled: list[Any] = [1]
    for _ in range(40):
        doubled = [doubled, doubled]
    value = {"state_dict": {"a": torch.ones(2)}, "model_options": doubled}
    torch.save(value, tmp_path / "in.pt")
    refused(tmp_path / "in.pt", "options of more than 100000 values", capsys)
