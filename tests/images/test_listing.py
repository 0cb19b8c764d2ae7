"""A folder as a person left it: what counts, what is passed over and named."""

import os
import sys
from pathlib import Path

import pytest

from stages.images.listing import walked
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
