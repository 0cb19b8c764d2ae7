"""Search equals brute force; generations switch, go back, and refuse what is damaged."""

from pathlib import Path

import numpy as np
import pytest

from stages.core import files, store
from stages.core.errors import UserError
from stages.tools.search import faiss_index
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
    with indexes.writing(folder):
        return indexes.write(folder, index, columns(ids), about)


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
    assert indexes.rollback(folder) == 6 and len(indexes.read(folder)) == 16
    assert write(folder, unit(30)) == 8  # a number is never used twice
    for _ in range(3):
        indexes.rollback(folder)
    assert indexes.current(folder) == 5
    indexes.rollback(folder)
    with pytest.raises(UserError, match="no undamaged generation before"):
        indexes.rollback(folder)


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
    assert indexes.rollback(folder) == 1 and len(indexes.read(folder)) == 10


def failing(folder: Path) -> None:
    """Begin to write an index and fail."""
    with pytest.raises(ZeroDivisionError), indexes.writing(folder):
        raise ZeroDivisionError


def test_a_failure_leaves_what_a_person_made(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    failing(theirs)
    assert list(theirs.iterdir()) == []  # also no lock
    for name in (".lock", "letter.txt"):
        (theirs / name).write_text("mine")
    for _ in range(2):
        with pytest.raises(UserError, match="not an index"), indexes.writing(theirs):
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
    with pytest.raises(UserError, match="CURRENT: .*--rollback"), indexes.writing(folder):
        pass
    assert indexes.generations(folder) == [1, 2, 3]
    with indexes.writing(folder, mending=True):
        assert indexes.rollback(folder) == 2  # the newest that is whole
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
    with indexes.writing(folder):
        indexes.write(folder, old.index, columns(ids), old.about)
    new = indexes.read(folder)
    assert new.about["images"] == 6 and "pictures" not in new.about
    assert sorted(f.name for f in (folder / "000002").iterdir()) == [
        "images.h5", "index.faiss", "index.json",
    ]  # fmt: skip


def test_folders_of_years_are_no_generations(tmp_path: Path) -> None:
    (tmp_path / "2019").mkdir()
    assert indexes.generations(tmp_path) == []
    with pytest.raises(UserError, match="not an index"), indexes.writing(tmp_path):
        pass


def test_what_is_no_index_and_who_else_writes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such index"):
        indexes.read(tmp_path / "absent")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a").touch()
    with pytest.raises(UserError, match="not an index"), indexes.writing(tmp_path / "other"):
        pass
    with indexes.writing(tmp_path / "i"):
        with pytest.raises(UserError, match="another process"), indexes.writing(tmp_path / "i"):
            pass
    write(tmp_path / "i", unit(4))
    with pytest.raises(UserError, match="of another student"):
        indexes.read(tmp_path / "i").search(unit(1, dim=4), 1)
