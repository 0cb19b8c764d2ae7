"""Lists as people's programs write them; names as they lie on the disk."""

import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from stages.core.errors import UserError
from stages.datasets import csv, gldv2, revisitop
from stages.datasets._svd_lists import read_ids, read_labels
from stages.images import lists
from stages.images.listing import listed, listed_videos

MARK = b"\xef\xbb\xbf"
COMPOSED, DECOMPOSED = (
    unicodedata.normalize(form, "caf\u00e9 \u00fc.jpg") for form in ("NFC", "NFD")
)
ODD = [
    "a.jpg",
    " lead.jpg",
    "trail.jpg ",
    "ls\u2028sep.jpg",
    "nel\u0085.jpg",
    "vt\x0b.jpg",
    "#1.jpg",
]


def images(folder: Path, *names: str) -> Path:
    for seed, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(seed).integers(0, 256, (8, 9, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name, "JPEG")
    return folder


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", [b"", MARK])
def test_marks_line_ends_and_odd_names(tmp_path: Path, mark: bytes, end: str) -> None:
    images(tmp_path, *ODD)
    content = mark + end.join([*ODD, "", "   "]).encode()
    (tmp_path / "list.txt").write_bytes(content)
    assert listed(tmp_path / "list.txt") == (tmp_path, ODD)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "latin-1"])
def test_another_encoding_is_one_line(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "list.txt").write_bytes(f"{COMPOSED}\n".encode(encoding))
    with pytest.raises(UserError, match="list.txt: .*UTF-8"):
        listed(tmp_path / "list.txt")


def test_letters_composed_otherwise_spaces_and_backslashes(tmp_path: Path) -> None:
    images(tmp_path, f"u\u0308ber/{DECOMPOSED}", "sub/b.jpg")
    written = [f"\u00fcber/{COMPOSED}", "sub\\b.jpg", " sub/b.jpg\t", "absent.jpg"]
    on_disk = [f"u\u0308ber/{DECOMPOSED}", "sub/b.jpg", "sub/b.jpg", "absent.jpg"]
    assert lists.resolved(tmp_path, written) == on_disk


def test_quotes_around_a_name(tmp_path: Path) -> None:
    images(tmp_path, "a,b.jpg", "'c'", 'd"e.jpg', "sub/b.jpg")
    written = ['"a,b.jpg"', "'c'", '"d""e.jpg"', ' "sub\\b.jpg" ', '"absent.jpg"']
    on_disk = ["a,b.jpg", "'c'", 'd"e.jpg', "sub/b.jpg", '"absent.jpg"']
    assert lists.resolved(tmp_path, written) == on_disk
    (tmp_path / "videos.txt").write_text('"v.mp4"\n')
    (tmp_path / "v.mp4").touch()
    assert listed_videos(tmp_path / "videos.txt") == (tmp_path, ["v.mp4"])


def test_an_image_named_twice_counts_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of two rows of one id no other command would take either."""
    images(tmp_path, "a.jpg", "b.jpg")
    (tmp_path / "list.txt").write_text("a.jpg\nb.jpg\n a.jpg\na.jpg\n")
    assert listed(tmp_path / "list.txt") == (tmp_path, ["a.jpg", "b.jpg"])
    assert "2 lines name an image again, which counts once: a.jpg" in capsys.readouterr().err


def test_of_two_compositions_each_is_itself_and_none_is_guessed(tmp_path: Path) -> None:
    e_twice = ["e\u0301\u0323.jpg", "e\u0323\u0301.jpg", "\u1eb9\u0301.jpg"]  # of one appearance
    images(tmp_path, *e_twice[:2])
    assert lists.resolved(tmp_path, e_twice) == e_twice


def test_every_dataset_reads_lists_so(tmp_path: Path) -> None:
    images(tmp_path / "jpg", DECOMPOSED, "b.jpg")
    (tmp_path / "r.txt").write_bytes(MARK + f"{COMPOSED}\r\nb.jpg\r\n".encode())
    assert revisitop._list(tmp_path / "r.txt") == [DECOMPOSED, "b.jpg"]
    (tmp_path / "ids").write_bytes(MARK + b"12.mp4\r\n34\r\n")
    assert read_ids(tmp_path / "ids") == ["12", "34"]
    (tmp_path / "labels").write_bytes(MARK + b"12 34 1\r\n")
    assert read_labels(tmp_path / "labels") == {"12": {"34": True}}
    (tmp_path / "exclude").write_bytes(MARK + b"7 # a remark\r\n0123456789abcdef\r\n")
    assert gldv2.excluded(str(tmp_path / "exclude")) == ({7}, {"0123456789abcdef"})
    table = f"path,group,split\r\njpg/{COMPOSED},a,train\r\njpg/b.jpg,b,train\r\n"
    (tmp_path / "t.csv").write_bytes(MARK + table.encode())
    found = csv.training(csv.Settings(file=str(tmp_path / "t.csv")), tmp_path)
    assert found.path == [f"jpg/{DECOMPOSED}", "jpg/b.jpg"]


def test_a_table_keeps_the_spaces_of_names(tmp_path: Path) -> None:
    images(tmp_path, " a.jpg", "b.jpg")
    (tmp_path / "t.csv").write_text("path,group,split\n a.jpg, x ,train\nb.jpg,y, train\n")
    assert csv.training(csv.Settings(file=str(tmp_path / "t.csv")), tmp_path).path == [
        " a.jpg",
        "b.jpg",
    ]


def test_a_list_of_videos_is_read_so(tmp_path: Path) -> None:
    (tmp_path / " v.MTS").touch()
    (tmp_path / "videos.txt").write_bytes(MARK + b"a.mp4\r\n v.MTS\r\n")
    assert listed_videos(tmp_path / "videos.txt") == (tmp_path, ["a.mp4", " v.MTS"])


LINE = st.text(
    st.characters(exclude_characters="\n\r\0\ufeff", exclude_categories=["Cs"]), min_size=1
)


@settings(max_examples=100, deadline=None)
@given(names=st.lists(LINE, max_size=6), mark=st.booleans(), end=st.sampled_from(["\n", "\r\n"]))
def test_what_was_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, names, mark, end
) -> None:
    file = tmp_path_factory.mktemp("lists") / "list"
    file.write_bytes((MARK if mark else b"") + end.join(names).encode())
    assert [line for _, line in lists.read_lines(file)] == [n for n in names if n.strip()]
