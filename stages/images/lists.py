"""Lists of files and ids as people's programs write them: one reader, and names as they lie there.

Notepad puts a mark in front, Excel ends lines in its own way, a Mac decomposes letters, Windows
writes backslashes. A name is taken as it is where such a file is there.
"""

import codecs
import os
import unicodedata
from collections.abc import Iterable
from pathlib import Path

from ..core.errors import UserError

HEAD = 1 << 13  # bytes by which a file that is no text is known
UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def read_lines(path: Path) -> list[tuple[int, str]]:
    """(number from 1, line) of each line of a text in UTF-8 that is not blank. Raises UserError.

    A byte-order mark is no part of the first line; lines end with \\n or \\r\\n and nothing else,
    but for a text whose lines all end with \\r. Spaces at their ends are kept: names may have them.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(HEAD)
            if head.startswith(UTF16):
                raise UserError(f"{path}: a text in UTF-16; save it as UTF-8")
            if b"\0" in head:
                raise UserError(f"{path}: not a text in UTF-8")
            text = (head + file.read()).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{path}: not a text in UTF-8") from None
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or 'cannot be read'}") from None
    old_mac = "\n" not in text and text.rstrip("\r").count("\r") > 0
    lines = (line.removesuffix("\r") for line in text.split("\r" if old_mac else "\n"))
    return [(number, line) for number, line in enumerate(lines, 1) if line.strip()]


def resolved(root: Path, names: Iterable[str]) -> list[str]:
    """Each of `names`, relative to `root`, as the file is called: as it is where there is one.

    Else the file of the same name without the spaces or the quotes around it, with slashes for
    backslashes, or with its letters composed otherwise, where there is exactly one; else as it is.
    """
    files = _Names(root)
    return [files.resolved(name) for name in names]


def unquoted(name: str) -> str:
    """A name without spaces around it, and without the quotes of Explorer's "Copy as path"."""
    name = name.strip()
    if len(name) > 2 and name[0] == name[-1] and name[0] in "\"'":
        return name[1:-1].replace('""', '"')
    return name


class _Names:
    """What lies below `root`, by names with composed letters; a folder is listed once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.inside: dict[str, dict[str, list[str]]] = {}

    def resolved(self, name: str) -> str:
        inner = unquoted(name)
        slashed = name.replace("\\", "/")
        plain = inner.replace("\\", "/")
        for candidate in (name, name.strip(), slashed, slashed.strip(), inner, plain):
            if self._is(candidate):
                return candidate
        for candidate in (name, plain):
            if not os.path.isabs(candidate) and (composed := self._composed_otherwise(candidate)):
                return composed
        return name

    def _is(self, path: str) -> bool:
        try:
            return os.path.lexists(os.path.join(self.root, path))
        except ValueError:  # no name of a file
            return False

    def _composed_otherwise(self, name: str) -> str | None:
        folder = ""
        for part in name.split("/"):
            if not self._is(os.path.join(folder, part)):
                same = self._inside(folder).get(unicodedata.normalize("NFC", part), [])
                if len(same) != 1:
                    return None
                part = same[0]
            folder = os.path.join(folder, part)
        return folder

    def _inside(self, folder: str) -> dict[str, list[str]]:
        if folder not in self.inside:
            by_name = self.inside[folder] = {}
            try:
                names = os.listdir(os.path.join(self.root, folder))
            except OSError:
                names = []
            for name in names:
                by_name.setdefault(unicodedata.normalize("NFC", name), []).append(name)
        return self.inside[folder]
