"""ONNX files: damaged, in two pieces, or none at all, each is a line; sound ones run."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import tiny_onnx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from stages.core.errors import UserError
from stages.nets import onnx_file

CPU = ["CPUExecutionProvider"]


def model(path: Path) -> bytes:
    return tiny_onnx.student(path / "model.onnx").read_bytes()


def external(tensor: TensorProto) -> None:
    """Have `tensor` say that its numbers are in the file w.bin."""
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "w.bin"
    tensor.ClearField("raw_data")


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as error:
        onnx_file.session(path, CPU)
    assert "\n" not in str(error.value) and str(path) in str(error.value)
    return str(error.value)


def test_a_sealed_file_is_the_same_model(tmp_path: Path) -> None:
    data = model(tmp_path)
    path = tmp_path / "sealed.onnx"
    path.write_bytes(onnx_file.sealed(data))
    onnx.checker.check_model(onnx.load(path))
    about = onnx_file.session(path, CPU).get_modelmeta().custom_metadata_map
    assert "whiten_mtd" in about
    assert onnx_file.seal_of(path.read_bytes()) == about[onnx_file.SEAL.decode()]
    assert onnx_file.seal_of(data) is None
    onnx_file.session(tmp_path / "model.onnx", CPU)  # of an older export: without a seal


@given(place=st.integers(0, 10**6), bit=st.integers(0, 7))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_bit_that_changed_is_always_noticed(tmp_path: Path, place: int, bit: int) -> None:
    data = bytearray(onnx_file.sealed(model(tmp_path)))
    before = len(data) - len(onnx_file.seal("0" * onnx_file.DIGEST))
    data[place % before] ^= 1 << bit
    (tmp_path / "b.onnx").write_bytes(data)
    assert "damaged" in refusal(tmp_path / "b.onnx")


def test_weights_in_another_file_are_found_wherever_they_are(tmp_path: Path) -> None:
    data = model(tmp_path)
    assert not onnx_file.has_external_data(data)
    first = onnx.load_from_string(data)
    external(first.graph.initializer[0])
    second = onnx.load_from_string(data)  # in an attribute of a node, in a graph of a node
    value = helper.make_tensor("v", TensorProto.FLOAT, [1], [1.0])
    external(value)
    inner = helper.make_graph([helper.make_node("Constant", [], ["o"], value=value)], "g", [], [])
    second.graph.node.append(helper.make_node("If", ["c"], ["o2"], then_branch=inner))
    third = onnx.load_from_string(data)
    made = helper.make_function(
        "own", "f", [], ["o"], [helper.make_node("Constant", [], ["o"], value=value)],
        [helper.make_opsetid("", 17)],
    )  # fmt: skip
    third.functions.append(made)
    for number, one in enumerate((first, second, third)):
        path = tmp_path / f"{number}.onnx"
        path.write_bytes(one.SerializeToString())
        assert "keeps its weights in another file" in refusal(path)


def test_what_cannot_be_looked_through_is_not_opened(tmp_path: Path) -> None:
    """A field that protocol buffers skip must not hide what comes after it."""
    one = onnx.load_from_string(model(tmp_path))
    external(one.graph.initializer[0])
    (tmp_path / "a.onnx").write_bytes(b"\xa3\x06\xa4\x06" + one.SerializeToString())  # a group
    assert "cannot be read as ONNX" in refusal(tmp_path / "a.onnx")


@pytest.mark.parametrize("content", [b"\xff" * 99, b"\x08", b"<html>", b""])
def test_what_is_no_onnx(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.onnx").write_bytes(content)
    refusal(tmp_path / "a.onnx")


def test_an_error_of_a_run_is_one_line(tmp_path: Path) -> None:
    session = onnx_file.session(tiny_onnx.student(tmp_path / "model.onnx"), CPU)
    with pytest.raises(
        UserError, match=r"^here: does not take images of shape \(1, 4, 8, 8\)"
    ) as e:
        onnx_file.run(session, {"image": np.zeros((1, 4, 8, 8), np.float32)}, "here")
    assert "\n" not in str(e.value)
