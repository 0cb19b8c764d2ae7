"""Search equals brute force; generations switch, go back, and refuse what is damaged."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from project import ROOT

from stages.core import files, store
from stages.core.errors import UserError
from stages.tools.search import changes, faiss_index
from stages.tools.search import generations as indexes


def unit(n: int, dim: int = 16, seed: int = 0) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(n, dim)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def columns(ids: np.ndarray) -> dict[str, np.ndarray]:
    names = np.array([f"{i}.jpg" for i in ids])
    zeros = np.zeros(len(ids), np.int32)
    return {"id": ids, "root": zeros, "path": names, "image_id": names, "bytes": ids}


def write(folder: Path, rows: np.ndarray, kind: str = "flat") -> int:
    ids = np.arange(len(rows), dtype=np.int64) * 3 + 1
    index, about = faiss_index.make(rows, ids, kind)
    about |= {"student": {}, "roots": ["/images"], "next_id": 10**6}
    with changes.writing(folder):
        return changes.write(folder, index, columns(ids), about)


def test_flat_is_brute_force(tmp_path: Path) -> None:
    rows, query = unit(500), unit(40, seed=1)
    write(tmp_path / "i", rows)
    scores, found = indexes.read(tmp_path / "i").search(query, 10)
    sims = query @ rows.T
    np.testing.assert_array_equal(found, np.argsort(-sims, axis=1)[:, :10])
    np.testing.assert_allclose(scores, np.sort(sims, axis=1)[:, ::-1][:, :10], atol=1e-6)
    assert indexes.read(tmp_path / "i").file(2) == Path("/images/7.jpg")


@pytest.mark.parametrize("kind", ["sq8", "ivfpq"])
def test_a_compressed_index_states_its_recall_and_forgets_what_is_removed(kind: str) -> None:
    rows = unit(2600)
    ids = np.arange(len(rows), dtype=np.int64) * 3 + 1
    index, about = faiss_index.make(rows, ids, kind)
    exact = ids[np.argsort(-(rows[:50] @ rows.T), axis=1)[:, :10]]
    own = np.mean(
        [len(set(a) & set(b)) for a, b in zip(exact, index.search(rows[:50], 10)[1], strict=True)]
    )
    assert about["recall"] == pytest.approx(10 * own, abs=5)
    assert about["recall"] > (95 if kind == "sq8" else 30)
    gone = ids[100:900]
    index.remove_ids(gone)
    first = index.search(np.concatenate([rows[:100], rows[900:]]), 1)[1][:, 0]
    kept = np.concatenate([ids[:100], ids[900:]])
    assert (first == kept).mean() > 0.95 and not np.isin(first, gone).any()
    index.add_with_ids(rows[100:110], np.arange(10, dtype=np.int64) + 10**5)
    assert (index.search(rows[100:110], 1)[1][:, 0] >= 10**5).mean() > 0.8
    seen = faiss_index.seen(index, rows[:5])
    np.testing.assert_allclose((seen * rows[:5]).sum(1), 1, atol=0.02 if kind == "sq8" else 0.5)


def test_too_few_for_a_codebook() -> None:
    with pytest.raises(UserError, match="too few for ivfpq"):
        faiss_index.make(unit(100), np.arange(100), "ivfpq")


def test_generations_and_rollback(tmp_path: Path) -> None:
    folder = tmp_path / "i"
    for n in range(1, 8):
        assert write(folder, unit(10 + n)) == n
    assert indexes.generations(folder) == [3, 4, 5, 6, 7]
    assert len(indexes.read(folder)) == 17
    assert changes.rollback(folder) == 6 and len(indexes.read(folder)) == 16
    assert write(folder, unit(30)) == 8  # a number is never used twice
    for _ in range(3):
        changes.rollback(folder)
    assert indexes.current(folder) == 5
    changes.rollback(folder)
    with pytest.raises(UserError, match="no undamaged generation before"):
        changes.rollback(folder)


@pytest.mark.parametrize("name", ["index.faiss", "images.h5", "index.json"])
@pytest.mark.parametrize("fault", ["cut", "changed", "absent"])
def test_damage_is_one_line(tmp_path: Path, name: str, fault: str) -> None:
    folder = tmp_path / "i"
    write(folder, unit(10))
    write(folder, unit(12))
    file = folder / "000002" / name
    whole = bytearray(file.read_bytes())
    if fault == "cut":
        file.write_bytes(whole[: len(whole) // 2])
    elif fault == "changed":
        place = whole.index(b'"dim": 16') + 8 if name == "index.json" else len(whole) // 2
        whole[place] ^= 1
        file.write_bytes(whole)
    else:
        file.unlink()
    with pytest.raises(UserError) as error:
        indexes.read(folder)
    assert name in str(error.value) and "\n" not in str(error.value)
    assert changes.rollback(folder) == 1 and len(indexes.read(folder)) == 10


def failing(folder: Path) -> None:
    """Begin to write an index and fail."""
    with pytest.raises(ZeroDivisionError), changes.writing(folder):
        raise ZeroDivisionError


def test_a_failure_leaves_what_a_person_made(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    failing(theirs)
    assert list(theirs.iterdir()) == []  # also no lock
    for name in (".lock", "letter.txt"):
        (theirs / name).write_text("mine")
    for _ in range(2):
        with pytest.raises(UserError, match="not an index"), changes.writing(theirs):
            pass
    assert {f.name: f.read_text() for f in theirs.iterdir()} == {
        ".lock": "mine", "letter.txt": "mine",
    }  # fmt: skip
    failing(tmp_path / "new")
    assert not (tmp_path / "new").exists()
    write(tmp_path / "i", unit(4))
    failing(tmp_path / "i")
    assert len(indexes.read(tmp_path / "i")) == 4


@pytest.mark.parametrize("text", [None, "", "rubbish", "\xff", "²"])
def test_a_lost_or_damaged_pointer_costs_nothing_and_says_how_to_mend(
    tmp_path: Path, text: str | None
) -> None:
    folder, pointer = tmp_path / "i", tmp_path / "i/CURRENT"
    for n in (4, 5, 6):
        write(folder, unit(n))
    (folder / "000003/index.json").write_text("{")
    with pytest.raises(UserError, match="index.json.*--rollback"):
        indexes.read(folder)
    pointer.unlink() if text is None else pointer.write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match="CURRENT: .*--rollback"):
        indexes.read(folder)
    with pytest.raises(UserError, match="CURRENT: .*--rollback"), changes.writing(folder):
        pass
    assert indexes.generations(folder) == [1, 2, 3]
    with changes.writing(folder, mending=True):
        assert changes.rollback(folder) == 2  # the newest that is whole
    assert len(indexes.read(folder)) == 5
    assert write(folder, unit(7)) == 4  # beside a damaged one
    assert len(indexes.read(folder)) == 7


def test_an_index_of_old_names_opens_and_is_written_under_new_ones(tmp_path: Path) -> None:
    folder, rows = tmp_path / "i", unit(6)
    write(folder, rows)
    place = folder / "000001"
    (place / "images.h5").unlink()
    ids = np.arange(len(rows), dtype=np.int64) * 3 + 1
    store.write(place / "pictures.h5", "pictures", columns(ids))
    about = files.read_json(place / "index.json")
    del about["digest"], about["files"]["images.h5"]
    about["pictures"] = about.pop("images")
    about["files"]["pictures.h5"] = files.digest_of_file(place / "pictures.h5")
    text = files.to_json({**about, "digest": files.digest_of(about)})
    (place / "index.json").write_text(text)
    old = indexes.read(folder)
    assert old.path.tolist() == [f"{i}.jpg" for i in ids]
    assert old.search(rows[2:3], 1)[1].tolist() == [[2]]
    with changes.writing(folder):
        changes.write(folder, old.index, columns(ids), old.about)
    new = indexes.read(folder)
    assert new.about["images"] == 6 and "pictures" not in new.about
    assert sorted(f.name for f in (folder / "000002").iterdir()) == [
        "images.h5", "index.faiss", "index.json",
    ]  # fmt: skip


def test_folders_of_years_are_no_generations(tmp_path: Path) -> None:
    (tmp_path / "2019").mkdir()
    assert indexes.generations(tmp_path) == []
    with pytest.raises(UserError, match="not an index"), changes.writing(tmp_path):
        pass


def test_what_is_no_index_and_who_else_writes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such index"):
        indexes.read(tmp_path / "absent")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a").touch()
    with pytest.raises(UserError, match="not an index"), changes.writing(tmp_path / "other"):
        pass
    with changes.writing(tmp_path / "i"):
        with pytest.raises(UserError, match="another process"), changes.writing(tmp_path / "i"):
            pass
    write(tmp_path / "i", unit(4))
    with pytest.raises(UserError, match="of another student"):
        indexes.read(tmp_path / "i").search(unit(1, dim=4), 1)


DRIVER = """
import os, signal, sys
import shutil
import subprocess
import sys
from pathlib import Path
sys.path[:0] = [{root!r}, {root!r} + "/tests", {tests!r}]
import test_generations as t
from stages.tools.search import changes, faiss_index
folder, model, at = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
seen = 0
def point(name):
    global seen
    seen += 1
    if seen == at:
        os.kill(os.getpid(), signal.SIGKILL)
def stopping(owner, name):
    real = getattr(owner, name)
    def call(*a, **k):
        point(name)
        try:
            return real(*a, **k)
        finally:
            point(name)
    setattr(owner, name, call)
for owner, names in ((os, ("mkdir", "replace", "fsync", "unlink", "rmdir")),
                     (changes.faiss, ("write_index",)), (changes.store, ("write",)),
                     (changes.files, ("write_text",)), (changes.shutil, ("copyfile", "rmtree"))):
    for name in names:
        stopping(owner, name)
t.write_with(folder, model, int(sys.argv[4]))
print("points", seen)
"""


def write_with(folder: Path, model: Path, rows: int) -> int:
    """Write a generation of `rows` rows that keeps `model`."""
    ids = np.arange(rows, dtype=np.int64) * 3 + 1
    index, about = faiss_index.make(unit(rows), ids, "flat")
    about |= {"student": {}, "roots": ["/images"], "next_id": 10**6}
    with changes.writing(folder):
        return changes.write(folder, index, columns(ids), about, model)


def killed_at(at: int, folder: Path, model: Path, rows: int) -> str:
    """Write a generation in a process that ends at its `at`th fault point; what it printed."""
    code = DRIVER.format(root=str(ROOT), tests=str(Path(__file__).parent))
    command = [sys.executable, "-c", code, str(folder), str(model), str(at), str(rows)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode in (0, -9), done.stderr
    return done.stdout


@pytest.mark.long
@pytest.mark.parametrize("earlier", [0, 1, 5])
def test_killed_at_any_point_the_pointer_is_whole_and_the_next_write_succeeds(
    tmp_path: Path, earlier: int
) -> None:
    model = tmp_path / "m.onnx"
    model.write_bytes(b"model")
    start = tmp_path / "start"
    for n in range(earlier):
        write_with(start, model, 10 + n)
    count = int(killed_at(0, copied(start, tmp_path / "whole"), model, 30).split()[1])
    assert count > 20
    for at in range(1, count + 1):
        folder = copied(start, tmp_path / f"{at}")
        assert not killed_at(at, folder, model, 30)
        if earlier:  # a search meanwhile sees the old one or the new one
            assert len(indexes.read(folder)) in (9 + earlier, 30), at
        assert write_with(folder, model, 31) in (earlier + 1, earlier + 2), at
        assert len(indexes.read(folder)) == 31
        left = {f.name for f in folder.rglob("*") if ".tmp" in f.name or f.name == changes.FIRST}
        assert not left, (at, left)


def copied(start: Path, folder: Path) -> Path:
    if start.exists():
        shutil.copytree(start, folder)
    return folder


@pytest.mark.parametrize("models", [False, True])
def test_what_a_killed_first_index_left_is_no_obstacle(tmp_path: Path, models: bool) -> None:
    folder = tmp_path / "i"
    left = folder / ".000001.999999.tmp"
    left.mkdir(parents=True)
    (left / "index.faiss").write_bytes(b"half")
    (folder / ".lock").touch()
    if models:
        (folder / "models").mkdir()
        (folder / "models/.0a.onnx.999999.tmp").write_bytes(b"half")
    assert write(folder, unit(5)) == 1 and len(indexes.read(folder)) == 5
    assert not list(folder.rglob("*.tmp"))


def test_a_first_generation_without_a_pointer_is_taken_or_made_again(tmp_path: Path) -> None:
    for damaged in (False, True):
        folder = tmp_path / str(damaged)
        write(folder, unit(5))
        (folder / "CURRENT").unlink()
        (folder / changes.FIRST).touch()  # as its writer leaves it, killed between the two
        if damaged:
            (folder / "000001/images.h5").write_bytes(b"half")
        assert write(folder, unit(6)) == (1 if damaged else 2)
        assert len(indexes.read(folder)) == 6


def test_files_of_others_are_not_taken_for_leftovers(tmp_path: Path) -> None:
    for name in ("models/mine.onnx", "a.tmp", ".000001.x.tmp", ".cache.12.tmp"):
        folder = tmp_path / name.replace("/", "_")
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text("mine")
        with pytest.raises(UserError, match="not an index"):
            write(folder, unit(4))
        assert (folder / name).read_text() == "mine"
