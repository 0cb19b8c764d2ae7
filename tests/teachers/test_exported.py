"""Exported files as teachers: the same network by three runtimes, and files that are none."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from stages import teachers
from stages.core.errors import UserError
from stages.nets.weights import digest_of_state

MEAN, STD = [0.5, 0.4, 0.3], [0.2, 0.3, 0.4]


class Small(nn.Module):
    """(B, 3, H, W) to (B, 5)."""

    def __init__(self) -> None:
        super().__init__()
        g = torch.Generator().manual_seed(3)
        self.weight = nn.Parameter(torch.randn(5, 3, 3, 3, generator=g))

    def forward(self, x: Tensor) -> Tensor:
        return torch.conv2d(x, self.weight).relu().mean((2, 3))


def expected(x: Tensor, bgr: bool = False) -> Tensor:
    x = (x - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    return Small()(x[:, [2, 1, 0]] if bgr else x).detach()


def script(path: Path) -> None:
    torch.jit.script(Small().eval()).save(path)


def program(path: Path) -> None:
    free = torch.export.Dim.AUTO
    shapes = ({0: free, 2: free, 3: free},)
    found = torch.export.export(Small().eval(), (torch.zeros(2, 3, 32, 32),), dynamic_shapes=shapes)
    torch.export.save(found, path)


def onnx(path: Path, batch: str | int = "b") -> None:
    """The same graph node by node."""
    onnx = pytest.importorskip("onnx")
    make, kind = onnx.helper, onnx.TensorProto.FLOAT
    graph = make.make_graph(
        [
            make.make_node("Conv", ["x", "w"], ["c"]),
            make.make_node("Relu", ["c"], ["r"]),
            make.make_node("GlobalAveragePool", ["r"], ["a"]),
            make.make_node("Flatten", ["a"], ["y"]),
        ],
        "small",
        [make.make_tensor_value_info("x", kind, [batch, 3, "h", "w"])],
        [make.make_tensor_value_info("y", kind, [batch, 5])],
        [onnx.numpy_helper.from_array(Small().weight.detach().numpy(), "w")],
    )
    model = make.make_model(graph, opset_imports=[make.make_opsetid("", 13)], ir_version=8)
    path.write_bytes(model.SerializeToString())


def settings(path: Path, **more: object) -> dict[str, object]:
    own = {"kind": "exported", "weights": str(path), "image_px": 32, "mean": MEAN, "std": STD}
    if path.suffix != ".onnx" and path.is_file():
        own["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    return own | more


@pytest.mark.parametrize(
    ("name", "write"), [("a.pt", script), ("a.ts", script), ("a.pt2", program), ("a.onnx", onnx)]
)
def test_same_descriptor_by_every_runtime(
    name: str, write: Callable[[Path], None], tmp_path: Path, close: Callable
) -> None:
    path = tmp_path / name
    write(path)
    net = teachers.load("exported", settings(path))
    assert net.dim == 5 and not net.training
    assert str(next(net.parameters()).device) == "cpu"  # stages ask where a network is
    for shape in ((2, 3, 32, 32), (1, 3, 40, 56)):  # any batch, any image
        x = torch.rand(shape, generator=torch.Generator().manual_seed(0))
        assert close(net(x), expected(x), 1e-5)
    net = teachers.load("exported", settings(path, bgr=True))
    assert close(net(x), expected(x, bgr=True), 1e-5)
    assert not close(net(x), expected(x), 1e-2)


def test_digest_is_of_the_whole_file(tmp_path: Path) -> None:
    digests = []
    for batch in ("b", "n"):  # the same weights in a graph that differs by a name
        onnx(tmp_path / "a.onnx", batch)
        digests.append(digest_of_state(teachers.load("exported", settings(tmp_path / "a.onnx"))))
    assert digests[0] != digests[1]


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="choose from .pt, .ts, .pt2, .onnx"):
        teachers.load("exported", settings(tmp_path / "a.pth"))
    with pytest.raises(UserError, match="no such weights file"):
        teachers.load("exported", settings(tmp_path / "a.pt"))
    for name in ("a.pt", "a.pt2", "a.onnx"):
        (tmp_path / name).write_bytes(b"\xffhalf a file")
        with pytest.raises(UserError, match=f"cannot be read as {name[1:]}|as ONNX") as caught:
            teachers.load("exported", settings(tmp_path / name))
        assert "\n" not in str(caught.value)
        with pytest.raises(UserError, match="sha256 is"):
            teachers.load("exported", settings(tmp_path / name, sha256="00"))
    torch.save({"weight": torch.ones(1)}, tmp_path / "a.pt")  # weights without a program
    with pytest.raises(UserError, match="cannot be read as .pt"):
        teachers.load("exported", settings(tmp_path / "a.pt"))


@pytest.mark.parametrize(
    ("name", "write"), [("a.pt", script), ("a.ts", script), ("a.pt2", program)]
)
def test_a_program_that_may_do_anything_needs_a_digest(
    name: str, write: Callable[[Path], None], tmp_path: Path
) -> None:
    write(tmp_path / name)
    with pytest.raises(UserError, match=r"here\.sha256: missing.*doctor"):
        teachers.load("exported", settings(tmp_path / name, sha256=None), "here")


def test_torchscript_without_a_digest_runs_nothing(tmp_path: Path) -> None:
    """TorchScript reads and writes files by itself: from_file maps a file and may write to it."""
    victim = tmp_path / "victim"
    victim.write_bytes(bytes(64))
    code = f"""
def forward(self, x: Tensor) -> Tensor:
    return x.mean((2, 3)) + torch.from_file({str(victim)!r}, True, 16).fill_(1.0)[0]
"""
    made = torch.jit.ScriptModule()
    made.define(code)
    made.save(str(tmp_path / "a.pt"))
    with pytest.raises(UserError, match="sha256: missing"):
        teachers.load("exported", settings(tmp_path / "a.pt", sha256=None))
    assert victim.read_bytes() == bytes(64)
    teachers.load("exported", settings(tmp_path / "a.pt"))  # trusted: it does what it does
    assert victim.read_bytes() != bytes(64)


def test_an_onnx_that_reads_another_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    onnx_api = pytest.importorskip("onnx")
    onnx(tmp_path / "a.onnx")
    model = onnx_api.load(tmp_path / "a.onnx")
    onnx_api.save(
        model, tmp_path / "b.onnx", save_as_external_data=True, location="w.bin", size_threshold=0,
        convert_attribute=True,
    )  # fmt: skip
    monkeypatch.chdir(tmp_path)  # where onnxruntime would look
    with pytest.raises(UserError, match="keeps its weights in another file"):
        teachers.load("exported", settings(tmp_path / "b.onnx"))


@pytest.mark.parametrize("name", ["a.pt", "a.pt2", "a.onnx"])
def test_a_pointer_is_named(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 4\n")
    with pytest.raises(UserError, match="git lfs pull"):
        teachers.load("exported", settings(path))


@pytest.mark.parametrize("std", [[0.2, 0.0, 0.4], [0.2, -1.0, 0.4]])
def test_a_deviation_of_zero_is_refused(tmp_path: Path, std: list[float]) -> None:
    onnx(tmp_path / "a.onnx")
    with pytest.raises(UserError, match="std"):
        teachers.load("exported", settings(tmp_path / "a.onnx", std=std))


def test_a_fixed_batch_and_a_map_are_refused(tmp_path: Path) -> None:
    onnx(tmp_path / "fixed.onnx", batch=1)
    with pytest.raises(UserError, match=r"does not take images of shape \(2, 3, 32, 32\)"):
        teachers.load("exported", settings(tmp_path / "fixed.onnx"))
    torch.jit.script(nn.Conv2d(3, 4, 3)).save(tmp_path / "map.pt")
    with pytest.raises(UserError, match=r"gives shape \(2, 4, 30, 30\)"):
        teachers.load("exported", settings(tmp_path / "map.pt"))
