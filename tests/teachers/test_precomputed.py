"""Ready descriptors: by id, in the order asked; what is missing or no number is named."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from stages import teachers
from stages.core.errors import UserError

RNG = np.random.default_rng(0)
ROWS = RNG.standard_normal((6, 4)).astype(np.float32)
IDS = [f"ü{i}" for i in range(6)]


def write(path: Path, ids: list[str], rows: np.ndarray) -> str:
    """A descriptor file as anyone would write it."""
    with h5py.File(path, "w") as f:
        f.attrs["format"] = "whiten-mtd/descriptors/1"
        f["descriptor"] = rows
        f["image_id"] = np.array([i.encode() for i in ids])
    return str(path)


def rows(files: list[str], ids: list[str], **more: object):  # type: ignore[no-untyped-def]
    settings = {"kind": "precomputed", "descriptors": files, **more}
    return teachers.rows("precomputed", settings, "params.yaml: teachers.x", np.array(ids))


def test_rows_by_id_from_several_files(tmp_path: Path) -> None:
    files = [
        write(tmp_path / "a.h5", IDS[:4], ROWS[:4]),
        write(tmp_path / "b.h5", IDS[4:], ROWS[4:]),
    ]
    asked = [5, 0, 3, 4, 0]
    ready = rows(files, [IDS[i] for i in asked])
    assert (len(ready), ready.dim) == (5, 4)
    unit = ROWS / np.linalg.norm(ROWS, axis=1, keepdims=True)
    assert np.allclose(ready[:], unit[asked], atol=1e-3) and ready[:].dtype == np.float16
    assert np.array_equal(ready[np.array([2, 2, 1])], ready[:][[2, 2, 1]])
    assert ready.digest != rows([files[0]], IDS[:2]).digest


def test_it_is_no_network(tmp_path: Path) -> None:
    assert not teachers.has_network("precomputed") and teachers.has_network("gem")
    with pytest.raises(UserError, match="ready descriptors and no network to run"):
        teachers.load("precomputed", {"kind": "precomputed"}, "here")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_row_that_is_no_number_names_its_image(tmp_path: Path, value: float) -> None:
    broken = ROWS.copy()
    broken[2, 1] = value
    with pytest.raises(UserError, match=r"a.h5: .* NaN or infinity, the first: row 2 \(ü2\);"):
        rows([write(tmp_path / "a.h5", IDS, broken)], IDS[::-1])


def test_what_is_wrong_is_said(tmp_path: Path) -> None:
    a = write(tmp_path / "a.h5", IDS[:4], ROWS[:4])
    wide = write(tmp_path / "wide.h5", IDS[4:], np.ones((2, 5), np.float32))
    short = write(tmp_path / "short.h5", IDS[:3], ROWS[:4])
    cases = [
        ([a], IDS, f"2 of 6 images are in none of {a}, the first: ü4"),
        ([a, a], IDS[:4], "4 ids occur twice, the first: ü0"),
        ([a, wide], IDS, "of different models"),
        ([short], IDS[:3], "different lengths: 4 rows, 3 ids"),
        ([str(tmp_path / "absent.h5")], IDS, "no such file"),
        ([], IDS, "descriptors"),
    ]
    for files, ids, told in cases:
        with pytest.raises(UserError) as caught:
            rows(files, ids)
        assert told in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(UserError, match="did you mean 'descriptors'"):
        rows([a], IDS, descriptor=[])
