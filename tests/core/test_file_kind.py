"""Downloads that are not the file that was meant are named, with the remedy."""

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
from pathlib import Path

import pytest
import torch

from stages.core import file_kind
from stages.core.errors import UserError

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64 + b"\nsize 4682\n"


def tar_of(*names: str) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for name in names:
            archive.addfile(tarfile.TarInfo(name), io.BytesIO())
    return made.getvalue()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "is empty"),
        (POINTER, "git lfs pull"),
        (b"\n\xef\xbb\xbf <!DOCTYPE html>"[1:], "is a web page"),
        (b"<?xml version='1.0'?><Error>AccessDenied</Error>", "is a web page"),
        (gzip.compress(b"weights", mtime=0), "gunzip"),
        (bz2.compress(b"weights"), "bunzip2"),
        (lzma.compress(b"weights"), "unxz"),
        (tar_of("sys_info", "pickle", "storages", "tensors"), "torch 0.1"),
        (tar_of("net.pth"), "tar xf"),
        (b"\x89HDF\r\n\x1a\n" + bytes(99), "is HDF5, as Keras writes it, not of torch"),
        (b"GGUF\3\0\0\0", "is GGUF"),
        (b"\x93NUMPY\1\0", "an array of numpy"),
        (b"Access to model x is restricted.\nPlease log in.", "is a text ('Access to model x"),
    ],
)
def test_what_a_file_is_instead(tmp_path: Path, content: bytes, told: str) -> None:
    (tmp_path / "w").write_bytes(content)
    assert told in str(file_kind.mistaken(tmp_path / "w"))


@pytest.mark.parametrize("zipped", [True, False])
def test_weights_are_what_they_are(tmp_path: Path, zipped: bool) -> None:
    torch.save({"w": torch.ones(3)}, tmp_path / "w", _use_new_zipfile_serialization=zipped)
    assert file_kind.mistaken(tmp_path / "w") is None
    file_kind.refuse_swollen(tmp_path / "w")


def test_a_zip_that_swells_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("w/data/0", bytes(64 << 20))
    assert path.stat().st_size < 1 << 20
    with pytest.raises(UserError, match="unpacks to 64 MiB from"):
        file_kind.refuse_swollen(path)


def test_a_zip_of_a_later_version_is_left_to_its_reader(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"")
    data = path.read_bytes()
    at = data.index(b"PK\x01\x02") + 6  # the version that its table of contents asks for
    path.write_bytes(data[:at] + b"\xff" + data[at + 1 :])
    with pytest.raises(NotImplementedError):
        zipfile.ZipFile(path)
    file_kind.refuse_swollen(path)
