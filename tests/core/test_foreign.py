"""Descriptor files as other programs write them: read as they are meant, or refused in a line."""

import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from stages.core import foreign, store
from stages.core.errors import UserError

N, DIM = 300, 8
RNG = np.random.default_rng(0)
ROWS = RNG.standard_normal((N, DIM)).astype(np.float32)
IDS = [f"ä{i}" for i in range(N)]
FIXED = np.array([i.encode() for i in IDS])


def file(path: Path, rows: Any = ROWS, ids: Any = FIXED, **of_rows: Any) -> Path:
    with h5py.File(path, "w") as f:
        f.create_dataset("descriptor", data=rows, **of_rows)
        f["image_id"] = ids
    return path


def read(path: Path) -> store.Stored:
    return store.Stored(path, "descriptors")


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as error:
        read(path)
    line = str(error.value)
    assert str(path) in line and "\n" not in line
    return line


@pytest.mark.parametrize(
    "how",
    [
        {}, {"chunks": True}, {"compression": "gzip"}, {"compression": "lzf", "shuffle": True},
        {"chunks": (7, 3), "fletcher32": True}, {"maxshape": (None, DIM)},
        {"chunks": (N, DIM), "compression": "gzip", "compression_opts": 9},
    ],
)  # fmt: skip
def test_chunks_and_compression(tmp_path: Path, how: dict[str, Any]) -> None:
    stored = read(file(tmp_path / "a.h5", **how))
    rows = stored["descriptor"]
    assert rows.shape == ROWS.shape and rows.dtype == ROWS.dtype and len(rows) == N
    assert np.array_equal(np.asarray(rows), ROWS) and stored["image_id"].tolist() == IDS
    for index in (slice(3, 9), slice(None), slice(0, 0), 5, np.array([250, 3, 3, 0])):
        assert np.array_equal(rows[index], ROWS[index]), index
    kept = RNG.random(N) < 0.5
    assert np.array_equal(rows[kept], ROWS[kept])
    assert stored.digest == read(file(tmp_path / "plain.h5")).digest and not stored.unit


@pytest.mark.parametrize("dtype", ["<f2", "<f4", ">f4", "<f8", ">f8", "i1", "u1", ">i2", "i8"])
@pytest.mark.parametrize("how", [{}, {"compression": "gzip"}])
def test_types_of_numbers(tmp_path: Path, dtype: str, how: dict[str, Any]) -> None:
    rows = (ROWS * 20).astype(dtype)
    rows[~rows.any(1)] = 1
    stored = read(file(tmp_path / "a.h5", rows, **how))
    assert np.array_equal(np.asarray(stored["descriptor"]), rows)


@pytest.mark.parametrize(
    ("ids", "read_as"),
    [
        (IDS, IDS), (np.array(IDS, dtype=object), IDS), (FIXED, IDS),
        (np.arange(N), [str(i) for i in range(N)]),
        (np.arange(N, dtype=">u2"), [str(i) for i in range(N)]),
    ],
)  # fmt: skip
def test_types_of_ids(tmp_path: Path, ids: Any, read_as: list[str]) -> None:
    assert read(file(tmp_path / "a.h5", ids=ids))["image_id"].tolist() == read_as


def test_what_else_the_file_holds_is_passed_over(tmp_path: Path) -> None:
    path = file(tmp_path / "a.h5")
    with h5py.File(path, "r+") as f:
        f["labels"] = np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f4")])
        f["images"] = h5py.SoftLink("/nowhere")
        f.create_group("meta")["x"] = 1
        f.attrs["classes"], f.attrs["model"] = ["a", "b"], "mine"
        f.attrs["empty"], f.attrs["px"] = h5py.Empty("f4"), 224
        f.attrs["format"] = "whiten-mtd/descriptors/1"
    stored = read(path)
    assert stored.attributes["model"] == "mine" and stored.attributes["px"] == 224
    assert "classes" not in stored.attributes and "labels" not in stored
    with h5py.File(path, "r+") as f:
        f.attrs["format"] = "whiten-mtd/features/1"
    assert "is needed, not whiten-mtd/features/1" in refusal(path)


def change(what: Callable[[h5py.File], None]) -> Callable[[Path], Path]:
    def made(path: Path) -> Path:
        with h5py.File(file(path), "r+") as f:
            what(f)
        return path

    return made


def replaced(name: str, **data: Any) -> Callable[[h5py.File], None]:
    def do(f: h5py.File) -> None:
        del f[name]
        f.create_dataset(name, **data)

    return do


def linked(f: h5py.File) -> None:
    del f["descriptor"]
    f["descriptor"] = h5py.ExternalLink("/etc/passwd", "/x")


def virtual(f: h5py.File) -> None:
    del f["descriptor"]
    layout = h5py.VirtualLayout((N, DIM), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "x", (N, DIM))
    f.create_virtual_dataset("descriptor", layout)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (change(lambda f: f.__delitem__("descriptor")), "no dataset 'descriptor' (it holds image"),
        (change(lambda f: f.__delitem__("image_id")), "no dataset 'image_id'"),
        (change(replaced("descriptor", data=ROWS[0])), "has the shape (8,), not 2 axes"),
        (change(replaced("descriptor", data=1.0)), "has the shape (), not 2 axes"),
        (change(replaced("descriptor", data=ROWS.T)), "8 rows, 300 ids"),
        (change(replaced("descriptor", data=ROWS.astype("S8"))), "has type |S8, not whole"),
        (change(replaced("image_id", data=np.arange(N) / 2)), "type float64, not whole"),
        (change(replaced("descriptor", shape=(1 << 40, DIM), chunks=(1, DIM))), "claims more rows"),
        (change(replaced("descriptor", shape=(1 << 30, DIM), chunks=(1 << 27, DIM))), "claims"),
        (change(linked), "is a link"), (change(virtual), "stored elsewhere"),
        (change(replaced("descriptor", data=ROWS > 0)), "type bool, which is not read; write it"),
        (change(replaced("descriptor", data=ROWS + 0j)), "complex64, which is not read; write it"),
        (change(replaced("descriptor", shape=(N, DIM))), "has no data; write it so"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant_is_one_line(
    tmp_path: Path, make: Callable[[Path], Path], told: str
) -> None:
    assert told in refusal(make(tmp_path / "a.h5"))


def test_it_says_how_to_write_what_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    np.save(path.with_suffix(".npy"), ROWS)
    path.with_suffix(".npy").rename(path)
    with h5py.File(tmp_path / "table.h5", "w") as f:
        f.create_group("df")
    for wrong in (path, tmp_path / "table.h5"):
        how = refusal(wrong).split("write it so: ")[1]
        right = tmp_path / "right.h5"
        with h5py.File(right, "w") as f:
            exec(how, {"f": f, "rows": ROWS, "ids": [f"i{i}" for i in range(N)], "np": np})
        assert np.array_equal(read(right)["descriptor"], ROWS)


@pytest.mark.parametrize("how", [{}, {"compression": "gzip"}])
@pytest.mark.parametrize(("value", "what"), [(np.nan, "NaN or infinity"), (0, "all zeros")])
def test_rows_that_are_no_numbers_are_named(
    tmp_path: Path, how: dict[str, Any], value: float, what: str
) -> None:
    rows = ROWS.copy()
    rows[[7, 100, 200, 299]] = value
    line = refusal(file(tmp_path / "a.h5", rows, ids=IDS, **how))
    assert f"4 of 300 rows {'have' if 'NaN' in what else 'are'} {what}" in line
    assert "first: row 7 (ä7), row 100 (ä100), row 200 (ä200);" in line


def test_a_changed_byte_of_a_loose_text_is_one_line_or_sound(tmp_path: Path) -> None:
    """Without a process of its own some of these would hang or kill this one."""
    whole = file(tmp_path / "a.h5", ROWS[:4], ids=IDS[:4]).read_bytes()
    places = random.Random(1)
    seen = 0
    for place in [2195, 2265, *(places.randrange(len(whole)) for _ in range(6))]:
        changed = bytearray(whole)
        changed[place] ^= places.choice([1, 255])
        (tmp_path / "b.h5").write_bytes(changed)
        began = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-c", OPEN, str(tmp_path / "b.h5")], capture_output=True, timeout=120,
            env={"FOREIGN_SECONDS": "5"}, cwd=Path(__file__).parents[2], check=False,
        )  # fmt: skip
        assert done.returncode == 0, (place, done.stderr[-300:])
        assert time.monotonic() - began < 60
        seen += done.stdout.startswith(b"refused")
    assert seen


OPEN = """
import os, sys
from pathlib import Path
from stages.core import errors, foreign, store
foreign.SECONDS = float(os.environ["FOREIGN_SECONDS"])
try:
    store.Stored(Path(sys.argv[1]), "descriptors")["image_id"]
    print("read")
except errors.UserError as error:
    assert "\\n" not in str(error)
    print("refused", error)
"""


def test_a_hang_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(foreign, "CHILD", "import time; time.sleep(60)")
    monkeypatch.setattr(foreign, "SECONDS", 0.5)
    assert "texts of variable length cannot be read" in refusal(file(tmp_path / "a.h5", ids=IDS))
