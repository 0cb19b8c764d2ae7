"""The student without torch says what torch says; what is no student is one line."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import tiny_onnx
import torch
from torch.nn import functional as F

from stages.core import files, store
from stages.core.errors import UserError
from stages.images import listing
from stages.nets import embed
from stages.nets.embed import as_input
from stages.retrieval import onnx_student


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (7, 5), (33, 64)])
@pytest.mark.parametrize("scale", [0.5, 0.7071067811865476, 1.3])
def test_resize_is_torchs(shape: tuple[int, int], scale: float) -> None:
    x = np.random.default_rng(0).random((2, 3, *shape), dtype=np.float32)
    size = tuple(max(round(n * scale), 1) for n in shape)
    wanted = F.interpolate(torch.from_numpy(x), size, mode="bilinear", align_corners=False)
    np.testing.assert_allclose(onnx_student.resized(x, scale), wanted, atol=1e-5)


def test_several_scales_as_torch_sums_them(tmp_path: Path) -> None:
    file = tiny_onnx.student(tmp_path / "model.onnx")
    net = onnx_student.Exported.read(tmp_path)
    weights = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(file).graph.initializer}
    mix = torch.from_numpy(weights["mix"].copy())

    class Same(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return F.normalize((x - 0.5).mean((-2, -1)) @ mix, dim=-1)

    for batch in (1, 33):
        pixels = np.random.default_rng(batch).integers(0, 256, (batch, 31, 45, 3), dtype=np.uint8)
        x = as_input(torch.from_numpy(pixels), torch.device("cpu"))
        wanted = embed.describe(Same(), x, tiny_onnx.SCALES)
        np.testing.assert_allclose(net.describe(pixels), wanted, atol=1e-5)


def test_images_of_all_shapes_in_order_and_the_bad_ones_named(tmp_path: Path) -> None:
    tiny_onnx.student(tmp_path / "model.onnx")
    net = onnx_student.Exported.read(tmp_path)
    root, names = listing.listed(tiny_onnx.images(tmp_path / "p"))
    files = [root / n for n in names]
    (root / "bad.png").write_bytes(b"no image")
    whole = (root / names[3]).read_bytes()
    (root / "half.png").write_bytes(whole[: len(whole) // 2])
    asked = [files[0], root / "bad.png", *files[1:], root / "half.png"]
    rows, kept, errors = net.images(asked, batch=4)
    assert [asked[i] for i in kept] == files and len(errors) == 2
    assert "bad.png" in errors[0] and "half.png" in errors[1]
    for row, file in zip(rows, files, strict=True):
        np.testing.assert_allclose(row, net.image(file), atol=1e-6)
        np.testing.assert_allclose(row, net.image(Path("x"), file.read_bytes()), atol=1e-6)


def test_what_is_no_exported_student_is_one_line(tmp_path: Path) -> None:
    file = tiny_onnx.student(tmp_path / "model.onnx")
    whole = file.read_bytes()
    plain = onnx.load(file)
    del plain.metadata_props[:]
    onnx.save(plain, tmp_path / "plain.onnx")
    (tmp_path / "half.onnx").write_bytes(whole[: len(whole) // 2])
    for name, word in (
        ("absent.onnx", "no such file"), ("half.onnx", "cannot be read as ONNX"),
        ("plain.onnx", "not a student"),
    ):  # fmt: skip
        with pytest.raises(UserError) as error:
            onnx_student.Exported.read(tmp_path / name)
        assert word in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "px, scales, wanted",
    [
        (64, "1 0.5", (64, [1.0, 0.5])), ("native", "1", (None, [1.0])),
        ("unknown", "unknown", ("unknown", "unknown")), ("64 and 48", "1", ("64 and 48", [1.0])),
    ],
)  # fmt: skip
def test_identity_of_a_descriptor_file(tmp_path: Path, px, scales, wanted) -> None:  # type: ignore[no-untyped-def]
    rows = {"descriptor": np.eye(2, dtype=np.float16), "image_id": np.array(["a", "b"])}
    store.write(tmp_path / "a.h5", "descriptors", rows, weights="w", image_px=px, scales=scales)
    found = onnx_student.identity_of(store.Stored(tmp_path / "a.h5", "descriptors"))
    assert found == {"weights": "w", "dim": 2, "image_px": wanted[0], "scales": wanted[1]}


def with_metadata(folder: Path, text: str | None = None, **changes: object) -> Path:
    """A student with other metadata."""
    path = tiny_onnx.student(folder / "model.onnx")
    model = onnx.load(path)
    about = json.loads(model.metadata_props[0].value) | changes
    model.metadata_props[0].value = json.dumps(about) if text is None else text
    onnx.save(model, path)
    return path


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("dim", -1), ("dim", 0), ("dim", True), ("dim", 9), ("dim", "8"), ("image_px", 0),
        ("image_px", -48), ("image_px", 1e9), ("image_px", "native"), ("scales", []),
        ("scales", "1 0.7"), ("scales", ["1"]), ("scales", [0]), ("scales", [float("nan")]),
        ("scales", [1e9]), ("scales", [True]), ("weights", ""), ("weights", None), ("model", 3),
        ("mean", [0.5]), ("mean", "0.5"), ("std", [0.1, 0.0, 0.1]),
    ],
)  # fmt: skip
def test_odd_metadata_are_one_line(tmp_path: Path, key: str, value: object) -> None:
    path = with_metadata(tmp_path, **{key: value})
    with pytest.raises(UserError, match=f"^{path}: .*(its metadata say|numbers an image)") as error:
        onnx_student.Exported.read(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["{", "[1]", '"a"', "null", "[" * 100_000, "NaN"])
def test_metadata_that_are_no_map_are_one_line(tmp_path: Path, text: str) -> None:
    path = with_metadata(tmp_path, text)
    with pytest.raises(UserError, match="its metadata are no JSON|not a student") as error:
        onnx_student.Exported.read(path)
    assert "\n" not in str(error.value)


def test_metadata_that_are_no_text_are_one_line(tmp_path: Path) -> None:
    path = tiny_onnx.student(tmp_path / "model.onnx")
    data = path.read_bytes()
    path.write_bytes(data.replace(b'"model": "tiny"', b'"model": "ti\xff\xfe"'))
    with pytest.raises(UserError, match=f"^{path}") as error:
        onnx_student.Exported.read(path)
    assert "\n" not in str(error.value)


def test_an_exported_folder_is_checked_by_its_digests(tmp_path: Path) -> None:
    path = tiny_onnx.student(tmp_path / "model.onnx")
    card = tmp_path / "exported.json"
    files.write_text(card, files.to_json({"files": {"model.onnx": files.digest_of_file(path)}}))
    onnx_student.Exported.read(tmp_path)
    tiny_onnx.student(path, seed=1)  # a sound student, but another one
    for asked in (tmp_path, path):
        with pytest.raises(UserError, match=r"model\.onnx: damaged, or of another export"):
            onnx_student.Exported.read(asked)
    for odd in ("{", "[]", "{}", '{"files": {}}', '{"files": {"model.onnx": 3}}'):
        card.write_text(odd)
        with pytest.raises(UserError, match=r"exported\.json") as error:
            onnx_student.Exported.read(path)
        assert "\n" not in str(error.value)


def test_a_program_of_something_else_is_one_line(tmp_path: Path) -> None:
    path = tiny_onnx.student(tmp_path / "model.onnx")
    model = onnx.load(path)
    model.graph.input.append(
        onnx.helper.make_tensor_value_info("text", onnx.TensorProto.FLOAT, ["b"])
    )
    onnx.save(model, path)
    with pytest.raises(UserError, match="takes no images"):
        onnx_student.Exported.read(path)


def test_weights_of_nan_are_one_line(tmp_path: Path) -> None:
    path = tiny_onnx.student(tmp_path / "model.onnx")
    model = onnx.load(path)
    mix = np.full((3, 8), np.nan, np.float32)
    model.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(mix, "mix"))
    onnx.save(model, path)
    net = onnx_student.Exported.read(path)
    with pytest.raises(UserError, match="NaN, infinity or all zeros"):
        net.describe(np.zeros((1, 8, 8, 3), np.uint8))
