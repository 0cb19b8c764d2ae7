"""A folder as a person left it: what counts, what is passed over and named."""

import os
import sys
from pathlib import Path

import pytest

from stages.core.errors import UserError
from stages.images.listing import listed, listed_videos, walked
from stages.images.reading import SUFFIXES


def test_links_are_followed_and_what_is_left_out_is_named(tmp_path: Path) -> None:
    root = tmp_path / "mine"
    for name in (
        "b/ä 1.JPG", "a.png", ".thumbs/a.png", "__MACOSX/a.png", "b/._x.png", "b/.DS_Store",
        "notes.md", "elsewhere/c.png",
    ):  # fmt: skip
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    (root / "elsewhere").rename(tmp_path / "elsewhere")
    (root / "link").symlink_to(tmp_path / "elsewhere")
    (root / "b/up").symlink_to(root)
    assert walked(root, SUFFIXES) == (
        ["a.png", "b/ä 1.JPG", "link/c.png"],
        [
            "1 files left out, not images by their suffix: .md",
            "4 left out, hidden or made by a machine: .thumbs, __MACOSX, b/.DS_Store and 1 more",
        ],
    )


@pytest.mark.skipif(sys.platform != "linux", reason="file names that are no text")
def test_a_name_that_is_no_text_is_left_out(tmp_path: Path) -> None:
    open(os.fsencode(tmp_path) + b"/\xff.png", "w").close()
    found, (line,) = walked(tmp_path, SUFFIXES)
    assert found == [] and line == "1 images left out, their names are not UTF-8: ?.png"


def test_images_of_a_folder_a_list_and_a_file(tmp_path: Path) -> None:
    for name in ("b/ä 1.JPG", "a.heic", ".hidden.png", "b/._x.png", "notes.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert listed(tmp_path) == (tmp_path, ["a.heic", "b/ä 1.JPG"])
    (tmp_path / "list.txt").write_text("b/ä 1.JPG\n\n", "utf-8")
    assert listed(tmp_path / "list.txt") == (tmp_path, ["b/ä 1.JPG"])
    assert listed(tmp_path / "a.heic") == (tmp_path, ["a.heic"])
    (tmp_path / "none").mkdir()
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    for name, word in (
        ("none", "no images in it"),
        ("absent", "no such file or folder"),
        ("binary", "UTF-8"),
    ):
        with pytest.raises(UserError, match=word):
            listed(tmp_path / name)


def test_videos_of_a_folder_a_list_and_a_file(tmp_path: Path) -> None:
    for name in ("b.mp4", "in/a.MOV", "c.txt", "d.jpg", "._b.mp4", "in/.a.mp4", ".old/a.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"\xff\xfe")
    assert listed_videos(tmp_path) == (tmp_path, ["b.mp4", "in/a.MOV"])
    assert listed_videos(tmp_path / "b.mp4") == (tmp_path, ["b.mp4"])
    assert listed_videos(tmp_path / "d.jpg")[1] == []
    (tmp_path / "list.txt").write_text("b.mp4\n\nin/a.MOV\n")
    assert listed_videos(tmp_path / "list.txt") == (tmp_path, ["b.mp4", "in/a.MOV"])
    (tmp_path / "list.txt").write_text("d.jpg\n")
    assert listed_videos(tmp_path / "list.txt")[1] == []
    (tmp_path / "list.txt").write_text("b.mp4\nd.jpg\n")
    with pytest.raises(UserError, match=r"list.txt: names videos and d.jpg.*one after the other"):
        listed_videos(tmp_path / "list.txt")


def test_pipes_devices_links_to_nothing_and_closed_folders_are_named(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "folder.jpg/b.JPG").touch()
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "absent")
    (tmp_path / "self.jpg").symlink_to("self.jpg")
    (tmp_path / "null.jpg").symlink_to("/dev/null")
    found, (line,) = walked(tmp_path, SUFFIXES)
    assert found == ["a.jpg", "folder.jpg/b.JPG"]
    assert line.startswith(
        "4 left out, not files (pipes, devices, links to nothing): gone.jpg, null"
    )
    (tmp_path / "shut").mkdir(mode=0)
    if not os.access(tmp_path / "shut", os.R_OK):  # the administrator reads everything
        assert "1 folders left out, they may not be read: shut" in walked(tmp_path, SUFFIXES)[1]


def test_videos_are_walked_as_images_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "mine"
    seen = ["a.MTS", "b.m2ts", "c.wmv", "d.ogv", "e.3g2", "f.asf", "g.VOB", "in/plain.mp4"]
    for name in (*seen, ".trash/deleted.mp4", "__MACOSX/x.mp4", "in/.Trashes/y.mp4", "notes.pdf"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/l.mov").touch()
    (root / "linked").symlink_to("../elsewhere")
    os.mkfifo(root / "pipe.mp4")
    assert listed_videos(root) == (root, sorted([*seen, "linked/l.mov"]))
    said = capsys.readouterr().err
    for words in (
        "not videos by their suffix: .pdf",
        "3 left out, hidden",
        "1 left out, not files",
    ):
        assert words in said
    (tmp_path / "only").mkdir()
    (tmp_path / "only/linked").symlink_to("../elsewhere")
    assert listed_videos(tmp_path / "only")[1] == ["linked/l.mov"]
