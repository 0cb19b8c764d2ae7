"""What files promise of their rows: finite, of unit length, unique; kept when written and read."""

from pathlib import Path

import numpy as np
import pytest
import spoiled
from hypothesis import given
from hypothesis import strategies as some
from hypothesis.extra import numpy as arrays_of

from stages.core import contents, store
from stages.core.errors import UserError

RNG = np.random.default_rng(0)
IDS = np.array([f"é{i}" for i in range(6)])


def unit(n: int = 6, d: int = 4) -> np.ndarray:
    return contents.unit(RNG.standard_normal((n, d)))


def arrays(kind: str) -> dict[str, np.ndarray]:
    """A good file of each kind that has numbers."""
    whole = np.arange(6, dtype=np.int32)
    targets = {"anchor": whole[None], "positive": whole[None], "target": np.ones((1, 6, 6), "f2")}
    return {
        "features": {"descriptor": unit()}, "whitened": {"descriptor": unit()},
        "whitening": {"mean": np.ones(4), "projection": np.eye(4), "eigenvalue": np.ones(4)},
        "targets": targets, "prototypes": {"prototype": unit(), "view_prototype": whole},
        "descriptors": {"descriptor": unit(), "image_id": IDS},
        "train": {
            "image_id": IDS, "path": IDS, "group": whole, "view_image": whole,
            "view": np.ones((6, 5), "f4"),
        },
    }[kind]  # fmt: skip


PLACES = [
    (kind, name)
    for kind, content in contents.KINDS.items()
    for name, c in content.items()
    if c.rows
]


@pytest.mark.parametrize(("kind", "name"), PLACES)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_no_kind_of_file_holds_what_is_no_number(
    tmp_path: Path, kind: str, name: str, value: float
) -> None:
    good, path = arrays(kind), tmp_path / "x.h5"
    store.write(path, kind, good)
    store.Stored(path, kind)
    bad = good[name].copy()
    bad.reshape(len(bad), -1)[-1, 0] = value
    with pytest.raises(UserError, match=f"{name}: 1 of {len(bad)} rows have NaN or infinity"):
        store.write(path, kind, {**good, name: bad})
    assert np.isfinite(store.Stored(path, kind)[name]).all()  # the old file stays
    spoiled.write(path, kind, {**good, name: bad})
    with pytest.raises(UserError, match=rf"{path}: {name}: 1 of .* first: row {len(bad) - 1}"):
        store.Stored(path, kind)


@pytest.mark.parametrize("kind", ["features", "whitened", "prototypes", "descriptors"])
@pytest.mark.parametrize(("factor", "what"), [(0, "all zeros"), (1.01, "not of unit length")])
def test_rows_of_ours_are_of_unit_length(
    tmp_path: Path, kind: str, factor: float, what: str
) -> None:
    good, path = arrays(kind), tmp_path / "x.h5"
    name = "prototype" if kind == "prototypes" else "descriptor"
    bad = good[name].copy()
    bad[[1, 4]] *= factor
    with pytest.raises(UserError, match=f"2 of 6 rows are {what}"):
        store.write(path, kind, {**good, name: bad})
    spoiled.write(path, kind, {**good, name: bad})
    with pytest.raises(UserError, match=f"2 of 6 rows are {what}, the first: row 1"):
        store.Stored(path, kind)


def test_the_longest_float16_rows_are_of_unit_length() -> None:
    for d in (1, 2, 3, 512, 4096):
        check = contents.Check("unit")
        check(unit(3000, d).astype(np.float16))
        assert check.unit and check.line() == ""


def test_blocks_are_counted_through(tmp_path: Path) -> None:
    rows = unit(5000, 8)
    rows[4321] = np.nan
    check = contents.Check("unit")
    for first in range(0, 5000, 700):
        check(rows[first : first + 700])
    assert check.line() == "1 of 5000 rows have NaN or infinity, the first: 4321"


def numbers(kind: str) -> some.SearchStrategy[np.ndarray]:
    shape = some.tuples(some.integers(0, 5), some.integers(1, 4))
    return arrays_of.arrays(np.dtype(kind), shape)


@given(some.one_of([numbers(t) for t in ("f2", "f4", "f8", ">f4", "i1", "u2", "i8")]))
def test_unit_rows_are_unit_or_zero_whatever_the_numbers(rows: np.ndarray) -> None:
    check = contents.Check("unit")
    check(rows)
    if "have NaN" in check.line():
        return
    made = contents.unit(rows)
    length = np.linalg.norm(made.astype(np.float64), axis=1)
    zero = ~rows.any(1)
    assert made.dtype == np.float32 and (length[zero] == 0).all()
    assert np.abs(length[~zero] - 1).max(initial=0) < 1e-3


@pytest.mark.parametrize("kind", list(contents.KINDS))
def test_a_dataset_of_another_form_is_one_line(tmp_path: Path, kind: str) -> None:
    for name, content in contents.KINDS[kind].items():
        shape = (2,) * (content.axes + 1)
        odd = {"axes": np.ones(shape, "f4")}
        other = "f" if "S" in content.types else "S"
        odd["type"] = np.ones((2,) * content.axes, other + ("4" if other == "f" else "3"))
        for values in odd.values():
            path = spoiled.write(tmp_path / "x.h5", kind, {name: values})
            with pytest.raises(UserError) as error:
                store.Stored(path, kind)
            assert str(path) in str(error.value) and repr(name) in str(error.value)
            assert "\n" not in str(error.value)


def test_texts_that_are_not_utf_8(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    ids = np.array([b"a", b"b", b"\xff"])
    store.write(path, "descriptors", {"descriptor": unit(3), "image_id": ids})
    with pytest.raises(UserError, match="'image_id' is not UTF-8"):
        store.Stored(path, "descriptors")["image_id"]


def test_an_id_twice_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.h5"
    store.write(path, "descriptors", {"descriptor": unit(4), "image_id": IDS[[0, 1, 0, 1]]})
    with pytest.raises(UserError, match="2 ids occur twice, the first: é0"):
        store.Stored(path, "descriptors").ids()
