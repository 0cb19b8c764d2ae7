"""Stored files: whole, checked, same inputs same bytes; damage is one line, never a crash."""

import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from hypothesis.extra import numpy as arrays_of

from stages.core import files, hdf5, seen_files, store
from stages.core.errors import UserError

ROOT = Path(__file__).parents[2]
RNG = np.random.default_rng(0)
ARRAYS: dict[str, np.ndarray] = {
    "name": np.array(["a", "Schloß Neuschwanstein", "東京タワー", "", "\U0001f3f0"]),
    "half": RNG.standard_normal((5, 4)).astype(np.float16),
    "single": RNG.standard_normal((3, 2)).astype(np.float32),
    "double": RNG.standard_normal((2, 3, 2)),
    "whole": np.array([-1, 0, 2**31 - 1], np.int32),
    "empty": np.zeros((0, 7), np.float32),
}


def make(path: Path, **attributes: Any) -> Path:
    store.write(path, "features", ARRAYS, **(attributes or {"teacher": "gem", "dim": 4}))
    return path


def refusal(path: Path, kind: str = "features") -> str:
    """The one line that a file is refused with; it names the file."""
    with pytest.raises(UserError) as error:
        store.Stored(path, kind)
    line = str(error.value)
    assert "\n" not in line and str(path) in line
    return line


def blake(path: Path) -> str:
    return hashlib.blake2b(path.read_bytes()).hexdigest()


def test_round_trip_of_every_type_and_of_non_ascii_text(tmp_path: Path) -> None:
    found = store.Stored(make(tmp_path / "a.h5"), "features")
    for name, wanted in ARRAYS.items():
        assert name in found
        assert found[name].shape == wanted.shape
        assert np.array_equal(found[name], wanted), name
        assert wanted.dtype.kind == "U" or found[name].dtype == wanted.dtype
    assert found.attributes["teacher"] == "gem" and found.attributes["dim"] == 4
    assert found.attributes["format"] == "whiten-mtd/features/1"
    assert found.text("dim") == "4"


def test_no_strings_at_all_and_only_empty_ones(tmp_path: Path) -> None:
    for i, values in enumerate((np.array([], dtype="U1"), np.array(["", ""]))):
        store.write(tmp_path / f"{i}.h5", "features", {"name": values})
        found = store.Stored(tmp_path / f"{i}.h5", "features")["name"]
        assert found.dtype.kind == "U" and found.tolist() == values.tolist()


def test_big_arrays_are_read_only_memory_maps(tmp_path: Path) -> None:
    half = store.Stored(make(tmp_path / "a.h5"), "features")["half"]
    assert isinstance(half, np.memmap)
    with pytest.raises(ValueError):
        half[0, 0] = 1


def test_plain_contiguous_fixed_length_and_sorted_for_any_other_reader(tmp_path: Path) -> None:
    make(tmp_path / "a.h5", zebra="z", alpha="a", middle=1.5)
    with h5py.File(tmp_path / "a.h5") as f:
        assert list(f.attrs) == sorted(f.attrs)
        assert {"alpha", "digest", "format", "middle", "zebra"} <= set(f.attrs)
        for name in ARRAYS:
            assert f[name].chunks is None and f[name].compression is None
        text = h5py.check_string_dtype(f["name"].dtype)
        assert text.encoding == "utf-8" and text.length == len("東京タワー".encode()) + 7
        assert f["name"].asstr()[:].tolist() == ARRAYS["name"].tolist()


def test_attributes_of_text_have_a_fixed_length(tmp_path: Path) -> None:
    make(tmp_path / "a.h5", root="/images/Ansichten größer")
    with h5py.File(tmp_path / "a.h5") as f:
        for key in f.attrs:
            text = h5py.check_string_dtype(f.attrs.get_id(key).dtype)
            assert text is None or text.length is not None, f"{key} is variable-length"
    found = store.Stored(tmp_path / "a.h5", "features")
    assert found.attributes["root"] == "/images/Ansichten größer"


def test_same_inputs_same_bytes_a_second_later(tmp_path: Path) -> None:
    make(tmp_path / "a.h5", b=1, a="x")
    time.sleep(1.1)
    make(tmp_path / "b.h5", a="x", b=1)
    assert blake(tmp_path / "a.h5") == blake(tmp_path / "b.h5")


def test_digest_depends_on_names_shapes_types_and_bytes(tmp_path: Path) -> None:
    base = np.arange(6, dtype=np.int32)
    variants = {
        "base": {"x": base}, "name": {"y": base}, "shape": {"x": base.reshape(2, 3)},
        "type": {"x": base.view(np.float32)}, "value": {"x": base + 1},
    }  # fmt: skip
    digests = set()
    for name, arrays in variants.items():
        store.write(tmp_path / f"{name}.h5", "features", arrays)
        digests.add(store.Stored(tmp_path / f"{name}.h5", "features").digest)
    assert len(digests) == len(variants)


def test_an_exception_leaves_nothing_and_an_old_file_untouched(tmp_path: Path) -> None:
    old = make(tmp_path / "old.h5")
    before = blake(old)
    for path in (old, tmp_path / "new" / "new.h5"):
        with pytest.raises(ZeroDivisionError):
            with store.create(path, "features") as writer:
                writer.array("x", np.arange(3))
                raise ZeroDivisionError
    assert blake(old) == before
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == ["old.h5"]


def test_half_the_rows_is_an_error_and_no_file(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="3 of 5"):
        with store.create(tmp_path / "a.h5", "features") as writer:
            writer.dataset("x", (5, 2), np.float32)
            writer.append("x", np.zeros((3, 2)))
    assert list(tmp_path.iterdir()) == []


def test_streamed_rows_are_the_bytes_of_a_whole_write(tmp_path: Path) -> None:
    rows = RNG.standard_normal((23, 3))
    store.write(tmp_path / "whole.h5", "features", {"x": rows.astype(np.float16)}, k=1)
    with store.create(tmp_path / "stream.h5", "features", k=1) as writer:
        writer.dataset("x", rows.shape, np.float16)
        for start, end in ((0, 1), (1, 1), (1, 20), (20, 23)):
            writer.append("x", rows[start:end])
    assert blake(tmp_path / "whole.h5") == blake(tmp_path / "stream.h5")


def test_rows_that_are_not_in_memory_order_are_written_as_they_read(tmp_path: Path) -> None:
    rows = np.asfortranarray(RNG.standard_normal((4, 6)))[::-1, ::2]
    store.write(tmp_path / "a.h5", "features", {"x": rows})
    assert np.array_equal(store.Stored(tmp_path / "a.h5", "features")["x"], rows)


def test_every_changed_byte_of_the_payload_is_noticed(tmp_path: Path) -> None:
    path = make(tmp_path / "a.h5")
    whole = path.read_bytes()
    with h5py.File(path) as f:
        places = [(f[n].id.get_offset(), f[n].id.get_storage_size()) for n in ARRAYS if f[n].size]
    for offset, size in places:
        for at in {offset, offset + size // 2, offset + size - 1}:
            changed = bytearray(whole)
            changed[at] ^= 1
            path.write_bytes(changed)
            assert "digest" in refusal(path)


def test_an_altered_attribute_is_noticed(tmp_path: Path) -> None:
    path = make(tmp_path / "a.h5", root="/data/images")
    with h5py.File(path, "r+") as f:
        f.attrs.modify("root", np.bytes_(b"/data/imageZ"))
    refusal(path)


def test_any_truncation_is_one_line(tmp_path: Path) -> None:
    whole = make(tmp_path / "a.h5").read_bytes()
    path = tmp_path / "cut.h5"
    for length in [0, 1, 7, 8, *range(9, len(whole), 61), len(whole) - 1]:
        path.write_bytes(whole[:length])
        refusal(path)


def test_a_file_cut_behind_the_librarys_back_does_not_kill(tmp_path: Path) -> None:
    """The length in the header is made to fit the cut, so that HDF5 itself sees nothing."""
    path = tmp_path / "a.h5"
    store.write(path, "features", {"x": np.arange(1 << 16, dtype=np.int64)})
    whole = path.read_bytes()
    cut = bytearray(whole[: len(whole) // 2])
    end = len(whole).to_bytes(8, "little")
    assert end in cut[:128]
    path.write_bytes(cut.replace(end, len(cut).to_bytes(8, "little"), 1))
    code = (
        "import sys; from pathlib import Path; from stages.core import store, errors\n"
        "try: store.Stored(Path(sys.argv[1]), 'features')\n"
        "except errors.UserError as e: print('REFUSED', e)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, path], cwd=ROOT, capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0 and done.stdout.startswith("REFUSED"), done


def test_missing_wrong_kind_and_not_hdf5(tmp_path: Path) -> None:
    assert "no such file" in refusal(tmp_path / "none.h5")
    assert "whiten-mtd/whitened/1" in refusal(make(tmp_path / "a.h5"), "whitened")
    (tmp_path / "text.h5").write_text("not a file of ours" * 100)
    refusal(tmp_path / "text.h5")
    (tmp_path / "folder.h5").mkdir()
    refusal(tmp_path / "folder.h5")
    with h5py.File(tmp_path / "other.h5", "w") as f:
        f["x"] = np.arange(3)
    assert "is needed" in refusal(tmp_path / "other.h5")


def test_a_missing_dataset_or_attribute_is_one_line(tmp_path: Path) -> None:
    found = store.Stored(make(tmp_path / "a.h5"), "features")
    with pytest.raises(UserError, match="no dataset 'nothing'"):
        found["nothing"]
    with pytest.raises(UserError, match="no attribute 'nothing'"):
        found.text("nothing")
    assert "nothing" not in found


def odd(path: Path, kind: str) -> None:  # noqa: C901
    """A file of the right format whose dataset x is not plain data."""
    other = path.parent / "other.h5"
    with h5py.File(other, "w") as f:
        f["x"] = np.arange(4)
    (path.parent / "raw").write_bytes(np.arange(4).tobytes())
    with h5py.File(path, "w") as f:
        f.attrs["format"], f.attrs["digest"] = "whiten-mtd/features/1", "0"
        if kind == "external link":
            f["x"] = h5py.ExternalLink(str(other), "x")
        elif kind == "soft link":
            f["y"] = np.arange(4)
            f["x"] = h5py.SoftLink("/y")
        elif kind == "external storage":
            f.create_dataset("x", (4,), np.int64, external=[(str(path.parent / "raw"), 0, 32)])
        elif kind == "virtual":
            layout = h5py.VirtualLayout((4,), np.int64)
            layout[:] = h5py.VirtualSource(str(other), "x", (4,))
            f.create_virtual_dataset("x", layout)
        elif kind == "gzip":
            f.create_dataset("x", data=np.arange(4), chunks=(2,), compression="gzip")
        elif kind == "chunked":
            f.create_dataset("x", data=np.arange(4), chunks=(2,))
        elif kind == "variable-length text":
            f.create_dataset("x", data=["a", "b"], dtype=h5py.string_dtype())
        elif kind == "compound":
            f["x"] = np.zeros(4, [("a", "i4"), ("b", "f4")])
        elif kind == "group":
            f.create_group("x")
        elif kind == "dangling":
            f["x"] = h5py.SoftLink("/nowhere")


@pytest.mark.parametrize(
    "kind",
    [
        "external link", "soft link", "dangling", "external storage", "virtual", "gzip", "chunked",
        "variable-length text", "compound", "group",
    ],
)  # fmt: skip
def test_what_is_not_plain_data_is_refused(tmp_path: Path, kind: str) -> None:
    odd(tmp_path / "a.h5", kind)
    line = refusal(tmp_path / "a.h5")
    assert "'x'" in line and "digest" not in line


MUTATE = """
import json, sys
from pathlib import Path
import numpy as np
from stages.core import store
from stages.core.errors import UserError

path, seed, rounds = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
whole = path.read_bytes()
wanted = store.Stored(path, "features")
arrays = {n: np.array(wanted[n]) for n in json.loads(sys.argv[4])}
rng = np.random.default_rng(seed)
for i in range(rounds):
    changed = bytearray(whole)
    at = int(rng.integers(len(whole)))
    changed[at] = (changed[at] + int(rng.integers(1, 256))) % 256
    mutated = path.with_name("mutated.h5")
    mutated.write_bytes(changed)
    print("AT", at, flush=True)
    try:
        found = store.Stored(mutated, "features")
        same = all(n in found and np.array_equal(found[n], a) for n, a in arrays.items())
        for key, value in wanted.attributes.items():
            if found.attributes.get(key) != value:
                print("WRONG", at, key, repr(found.attributes.get(key)), flush=True)
        if not same:
            print("WRONG", at, "arrays", flush=True)
    except UserError:
        pass
    except Exception as error:
        print("CRASH", at, type(error).__name__, str(error)[:100].replace(chr(10), " "), flush=True)
print("DONE", flush=True)
"""


def test_random_byte_mutations_are_refused_or_change_nothing(tmp_path: Path) -> None:
    path = make(tmp_path / "a.h5", columns="x y width height flip", root="/data/images", epochs=3)
    command = [sys.executable, "-c", MUTATE, path, "0", "250", json.dumps(list(ARRAYS))]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    except subprocess.TimeoutExpired as hang:
        last = (hang.stdout or b"").decode().splitlines()[-1:]
        raise AssertionError(f"hung reading a file with one byte changed: {last}") from None
    odd_lines = [x for x in done.stdout.splitlines() if x.startswith(("WRONG", "CRASH"))]
    assert done.returncode == 0 and done.stdout.endswith("DONE\n"), (done.returncode, done.stderr)
    assert odd_lines == []


def test_small_text_files(tmp_path: Path) -> None:
    files.write_text(tmp_path / "a.json", files.to_json({"ü": 1, "a": [1, 2]}))
    assert (tmp_path / "a.json").read_text("utf-8") == '{\n "a": [\n  1,\n  2\n ],\n "ü": 1\n}\n'
    assert files.read_json(tmp_path / "a.json") == {"a": [1, 2], "ü": 1}
    (tmp_path / "b.json").write_text("{")
    with pytest.raises(UserError, match="not JSON"):
        files.read_json(tmp_path / "b.json")
    with pytest.raises(UserError, match="no such file"):
        files.read_json(tmp_path / "c.json")


def test_digests_of_values_and_files(tmp_path: Path) -> None:
    assert files.digest_of({"a": 1, "b": 2}) == files.digest_of({"b": 2, "a": 1})
    assert files.digest_of({"a": 1}) != files.digest_of({"a": "1"})
    (tmp_path / "a").write_bytes(b"abc")
    assert files.digest_of_file(tmp_path / "a", "sha256") == hashlib.sha256(b"abc").hexdigest()
    wanted = hashlib.blake2b(b"abc", digest_size=16).hexdigest()
    assert files.digest_of_file(tmp_path / "a") == wanted


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 2 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=2M", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("a small disk cannot be mounted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_said_before_anything_is_written(small_disk: Path) -> None:
    # HDF5 that meets a full disk while it writes takes the whole process down with it.
    big = np.zeros((1000, 1000), np.float16)
    for _ in range(2):
        with pytest.raises(OSError) as caught:
            store.write(small_disk / "x.h5", "features", {"descriptor": big})
        assert caught.value.errno == errno.ENOSPC and caught.value.filename == str(small_disk)
        assert list(small_disk.iterdir()) == []
    (small_disk / "filler").write_bytes(bytes(1_500_000))
    with pytest.raises(OSError):
        store.write(small_disk / "x.h5", "features", {"descriptor": big[:1]})
    assert [f.name for f in small_disk.iterdir()] == ["filler"]


@given(
    values=arrays_of.arrays(
        some.sampled_from([np.float16, np.float32, np.float64, np.int32, np.int64, np.uint8]),
        arrays_of.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=5),
    ),
    names=some.lists(some.text(some.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=9)),
    note=some.text(some.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=9),
)  # fmt: skip
@settings(deadline=None, max_examples=60)
def test_any_arrays_and_texts_come_back_as_written(
    tmp_path_factory: pytest.TempPathFactory, values: np.ndarray, names: list[str], note: str
) -> None:
    file = tmp_path_factory.mktemp("stored") / "a.h5"
    store.write(file, "train", {"x": values, "name": np.array(names, dtype=str)}, note=note)
    stored = store.Stored(file, "train")
    assert stored["x"].tobytes() == values.tobytes() and stored["x"].dtype == values.dtype
    assert stored["name"].tolist() == names and stored.text("note") == note


def test_a_file_is_hashed_once_where_it_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only in a project (a scratch folder is there); a change of one byte is met though the file's
    length and its time of change are those of before."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(seen_files, "SETTLED_NS", -(10**12))  # what changed now counts as settled
    hashed = []
    real = hdf5.hash
    monkeypatch.setattr(hdf5, "hash", lambda *a: (hashed.append(a[0]), real(*a))[1])
    path = make(tmp_path / "f.h5")

    def is_hashed() -> bool:
        hashed.clear()
        assert store.Stored(path, "features").digest
        return bool(hashed)

    assert is_hashed() and is_hashed()
    (tmp_path / ".scratch").mkdir()
    assert is_hashed() and not is_hashed()
    seen_files.forget_checked()
    assert is_hashed() and not is_hashed()
    with pytest.raises(UserError, match="is needed"):  # of another kind, hashed or not
        store.Stored(path, "whitened")
    times, content = path.stat(), bytearray(path.read_bytes())
    content[content.index(ARRAYS["single"].tobytes())] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(UserError, match="altered or damaged"):
        store.Stored(path, "features")
    make(path)
    assert is_hashed()
