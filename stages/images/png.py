"""What Pillow does not tell of a PNG: its chunks; the file without its long texts."""

import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np

SIGNATURE = b"\x89PNG\r\n\x1a\n"
TEXTS = (b"tEXt", b"zTXt", b"iTXt")
LONG = 1 << 16  # bytes of texts that are kept, all together
MOST_PROFILE = 1 << 24  # bytes of a colour profile


def chunks(file: Any) -> Iterator[tuple[bytes, int, int]]:
    """(name, where its content begins, its length) of each chunk of an open PNG; none of others."""
    file.seek(0)
    if file.read(8) != SIGNATURE:
        return
    while len(head := file.read(8)) == 8:
        length, name = struct.unpack(">I4s", head)
        start = file.tell()
        yield name, start, length
        file.seek(start + length + 4)


def depth(file: Any) -> int:
    """Bits of a sample of an open PNG; 8 of other files."""
    file.seek(0)
    head = file.read(25)
    return head[24] if head[:8] == SIGNATURE and len(head) == 25 else 8


def small_chunks(file: Any, names: tuple[bytes, ...] = (b"sBIT",)) -> dict[bytes, bytes]:
    """Contents of the chunks `names` that come before the pixels."""
    contents: dict[bytes, bytes] = {}
    for name, start, length in chunks(file):
        if name == b"IDAT":
            break
        if name in names and length < LONG:
            file.seek(start)
            contents[name] = file.read(length)
    return contents


def has_long_metadata(file: Any) -> bool:
    """Whether an open PNG has texts or a profile that Pillow may refuse for their length."""
    texts = 0
    for name, start, length in chunks(file):
        if name == b"IDAT":  # thousands of them in a large image; texts behind them are rare
            continue
        if name in (*TEXTS, b"iCCP"):
            file.seek(start)
            texts += length if length >= LONG else _length_of_text(name, file.read(length))
        if texts >= LONG:
            return True
    return False


def without_texts(file: Any) -> tuple[bytes, bytes | None]:
    """(the PNG without its colour profile and long texts, the profile or None): Pillow refuses
    those of more than a megabyte, though the pixels are fine.
    """
    kept, profile, texts = [SIGNATURE], None, 0
    for name, start, length in chunks(file):
        if name == b"iCCP":
            file.seek(start)
            profile = _profile(file.read(length))
            continue
        if name in TEXTS:
            file.seek(start)
            texts += LONG if length >= LONG else _length_of_text(name, file.read(length))
            if length >= LONG or texts >= LONG:
                continue
        file.seek(start - 8)
        kept.append(file.read(length + 12))
    return b"".join(kept), profile


def replicated(upper: np.ndarray, count: int) -> np.ndarray:
    """(h, w) samples of `count` bits, more than 8, to 16 by repeating their first bits."""
    return (upper << (16 - count)) | (upper >> (2 * count - 16))


def _length_of_text(name: bytes, content: bytes) -> int:
    """Bytes of a text or profile once it is inflated, LONG at most."""
    body = content[content.find(b"\0") + 1 :]
    if name in (b"zTXt", b"iCCP"):
        return len(_inflated(body[1:], LONG))
    if name == b"iTXt" and body[:1] == b"\1":  # its languages come first; nobody reads these here
        return LONG
    return len(body)


def _profile(content: bytes) -> bytes | None:
    profile = _inflated(content[content.find(b"\0") + 2 :], MOST_PROFILE + 1)
    return profile if 0 < len(profile) <= MOST_PROFILE else None


def _inflated(data: bytes, most: int) -> bytes:
    """Up to `most` bytes of what `data` holds; b"" where it is broken."""
    try:
        return zlib.decompressobj().decompress(data, most)
    except zlib.error:
        return b""
