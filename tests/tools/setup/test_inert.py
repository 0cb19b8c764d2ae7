"""Stand-ins for whatever a pickle names: nothing is imported, no tensor leaves its storage."""

import io
import sys
from pathlib import Path

import numpy as np
import pytest

from stages.tools.setup import inert


def test_names_are_not_imported(tmp_path: Path) -> None:
    proof = tmp_path / "trap.py"
    proof.write_text("raise SystemExit('imported')")
    code = b"\x80\x02}q\x00(X\x01\x00\x00\x00acos\nsystem\nX\x01\x00\x00\x00bctrap\nthing\n)\x81u."
    tree = inert.Plain(99).of(inert.Reader(io.BytesIO(code), {}).load())
    assert tree["a"].name == "os.system" and tree["b"].name == "trap.thing"
    assert "trap" not in sys.modules


def test_a_tensor_stays_within_its_storage() -> None:
    made = inert.Inert(inert.Storage(np.dtype("f4"), "0", 4, bytes(16)), 0, (2, 2), (2, 1))
    assert inert.MAKERS["torch._utils._rebuild_tensor_v2"](made).shape == (2, 2)
    huge = (0, (1 << 40,), (0,))  # one number, a terabyte of times
    for offset, shape, strides in (
        (1, (2, 2), (2, 1)), (0, (5,), (1,)), (-1, (2,), (1,)), (3, (2,), (-1,)), huge,
    ):  # fmt: skip
        made = inert.Inert(made.args[0], offset, shape, strides)
        with pytest.raises(ValueError, match="fit its storage"):
            inert.MAKERS["torch._utils._rebuild_tensor_v2"](made)
