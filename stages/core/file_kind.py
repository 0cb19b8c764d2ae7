"""What a file is by its content, where that is not what its name says: pointers, pages, archives.

The common ways in which a download is not the file that was meant, each with its remedy.
"""

import tarfile
import zipfile
from pathlib import Path

from .errors import UserError

BEGIN = 512  # bytes that are looked at
PACKED = {  # first bytes of a packed file, and what unpacks it
    b"\x1f\x8b": ("gzip", "tar xzf (or gunzip)"), b"BZh": ("bzip2", "tar xjf (or bunzip2)"),
    b"\xfd7zXZ\x00": ("xz", "tar xJf (or unxz)"), b"\x28\xb5\x2f\xfd": ("zstd", "unzstd"),
    b"7z\xbc\xaf\x27\x1c": ("7z", "7z x"), b"Rar!": ("rar", "unrar x"),
}  # fmt: skip
OTHERS = {  # first bytes of what other programs write
    b"\x89HDF": "HDF5, as Keras writes it", b"GGUF": "GGUF", b"\x93NUMPY": "an array of numpy",
}  # fmt: skip
SLACK, TIMES = 16 << 20, 4  # a zip may hold 16 MiB more than four times its own length


def mistaken(path: Path) -> str | None:
    """What `path` is instead of a binary file of its own, with the remedy; None where neither."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        begin = file.read(BEGIN)
    if size == 0:
        return "is empty; download it again"
    if begin.startswith(b"version https://git-lfs"):
        return "is a Git LFS pointer, not the file itself; `git lfs pull` in its repository gets it"
    for magic, (name, command) in PACKED.items():
        if begin.startswith(magic):
            return f"is packed ({name}); unpack it by `{command}` and give the file inside"
    for magic, name in OTHERS.items():
        if begin.startswith(magic):
            return f"is {name}, not of torch; give the weights as .safetensors or by torch.save"
    if begin.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"<"):
        return "is a web page; download the file itself"
    if begin[257:262] == b"ustar":
        return _tar(path)
    if begin.isascii() and begin.decode().replace("\n", " ").replace("\r", " ").isprintable():
        return f"is a text ({' '.join(begin.decode().split())[:60]!r}); download the file itself"
    return None


def refuse_swollen(path: Path) -> None:
    """Raise UserError where a zip holds far more than its length lets one expect.

    What torch writes is not packed at all; a few megabytes that unpack to gigabytes are a mistake
    or an attack.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            inside = sum(member.file_size for member in archive.infolist())
    except (
        zipfile.BadZipFile,
        NotImplementedError,
        OSError,
        ValueError,
    ):  # its reader says what is wrong with it
        return
    if inside > TIMES * path.stat().st_size + SLACK:
        raise UserError(
            f"{path}: unpacks to {inside >> 20} MiB from {path.stat().st_size >> 10} KiB; weights "
            "do not pack so well, so it is not unpacked; save it again by torch.save"
        )


def _tar(path: Path) -> str:
    try:
        with tarfile.open(path) as archive:
            old = {"pickle", "storages", "tensors"} <= set(archive.getnames())
    except (tarfile.TarError, OSError, ValueError):
        old = False
    if old:
        return (
            "is a file of torch 0.1 (a tar); where you trust it, read it by "
            "`torch.load(..., weights_only=False)` and write it again by `torch.save`"
        )
    return "is a tar archive; unpack it by `tar xf` and give the file inside"
