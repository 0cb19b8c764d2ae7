"""What files hold: read once, again where length or times differ, and the content decides."""

import os
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.core import seen_files
from stages.core.seen_files import NONE, Contents


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of two files that last changed an hour ago, and a scratch folder."""
    monkeypatch.setenv("WHITEN_MTD_SCRATCH", str(tmp_path / "scratch"))
    monkeypatch.setattr(seen_files, "SETTLED_NS", -(10**12))  # what changed now counts as settled
    (tmp_path / "files").mkdir()
    for name in "ab":
        (tmp_path / "files" / name).write_bytes(name.encode() * 9)
    return tmp_path / "files"


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that are read from now on."""
    names: list[str] = []
    real = seen_files._content
    monkeypatch.setattr(
        seen_files, "_content", lambda path: (names.append(Path(path).name), real(path))[1]
    )
    return names


def digests(place: Path, *names: str) -> list[str]:
    found = Contents(place)
    out = found.digests(names)
    found.save()
    return out


def test_what_did_not_change_is_read_once(place: Path, read: list[str]) -> None:
    first = digests(place, "a", "b")
    assert len(set(first)) == 2 and read == ["a", "b"]
    assert digests(place, "b", "a") == first[::-1] and read == ["a", "b"]
    os.utime(place / "a", (1, 1))
    assert digests(place, "a", "b") == first and read == ["a", "b", "a"]  # its content decides
    (place / "b").write_bytes(b"B" * 9)
    assert digests(place, "a", "b")[1] != first[1] and read == ["a", "b", "a", "b"]


def test_a_change_that_keeps_length_and_time_is_seen(place: Path) -> None:
    """`cp -p`, `touch -r`: the time of change of the entry itself cannot be set."""
    before = digests(place, "a")
    about = (place / "a").stat()
    (place / "a").write_bytes(b"c" * 9)
    os.utime(place / "a", ns=(about.st_atime_ns, about.st_mtime_ns))
    assert digests(place, "a") != before
    (place / "other").write_bytes(b"d" * 9)
    os.utime(place / "other", ns=(about.st_atime_ns, about.st_mtime_ns))
    os.replace(place / "other", place / "a")
    assert len({*before, *digests(place, "a")}) == 2


def test_what_changed_just_now_is_not_trusted(
    place: Path, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seen_files, "SETTLED_NS", 2 * 10**9)
    (place / "a").write_bytes(b"x" * 9)  # could change again within a tick of the clock
    digests(place, "a")
    digests(place, "a")
    assert read == ["a", "a"]


def test_what_is_no_file_has_no_digest(place: Path) -> None:
    os.mkfifo(place / "pipe")
    (place / "folder").mkdir()
    (place / "gone").symlink_to("absent")
    names = ["pipe", "folder", "gone", "absent", "a\0b"]
    assert digests(place, *names) == [NONE] * 5 and digests(place) == []


def test_a_lost_or_damaged_shortcut_costs_a_reading(place: Path, read: list[str]) -> None:
    first = digests(place, "a", "b")
    (kept,) = (place.parent / "scratch/contents").iterdir()
    whole = kept.read_bytes()
    for content in (b"", whole[:-5], b"nonsense", whole[:128] + os.urandom(len(whole) - 128)):
        kept.write_bytes(content)
        assert digests(place, "a", "b") == first
    kept.unlink()
    assert digests(place, "a", "b") == first and len(read) == 12
    kept.unlink()
    kept.mkdir()  # cannot be written: no error
    assert digests(place, "a", "b") == first


def test_no_time_is_stored_where_content_is(place: Path) -> None:
    before = seen_files.digest_of_all(place, ["a", "b"])
    time.sleep(0.01)
    for name in "ab":
        (place / name).write_bytes((place / name).read_bytes())
    assert seen_files.digest_of_all(place, ["a", "b"]) == before
    assert seen_files.digest_of_all(place, ["b", "a"]) != before
    assert seen_files.digest_of_all(place, ["a"]) != before


ACTIONS = st.tuples(
    st.sampled_from("abc"), st.sampled_from([b"1", b"2", b"11", None]), st.booleans()
)


@settings(max_examples=40, deadline=None)
@given(actions=st.lists(ACTIONS, max_size=8))
def test_after_any_changes_the_shortcut_says_what_a_reading_says(
    tmp_path_factory: pytest.TempPathFactory, actions: list[tuple[str, bytes | None, bool]]
) -> None:
    folder = tmp_path_factory.mktemp("changes")
    root = folder / "root"
    root.mkdir()
    names = ["a", "b", "c"]
    for name, content, same_time in actions:
        file = root / name
        if content is None:
            file.unlink(missing_ok=True)
        else:
            file.write_bytes(content)
            if same_time:
                os.utime(file, (5, 5))
        kept = Contents(root, folder / "kept.npy")
        found = kept.digests(names)
        kept.save()
        assert found == Contents(root, folder / "none.npy").digests(names)
