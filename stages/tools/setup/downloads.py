"""What a person downloads: where it is looked for, whether it is whole, where it is published."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...core import files, params, plugins, store
from ...core.errors import UserError
from ..check_params import Finding


def weights_file(name: str, source: Path, sha256: str | None, published: str) -> Finding:
    """A teacher's checkpoint: there or not, and whether it is the file that a digest is of."""
    if not source.is_file():
        told = f"teacher {name}: {source} is missing. Published: {published}"
        return False, told + how_made(source)
    said = re.search(r"-([0-9a-f]{7,})$", source.stem)
    if sha256 is None and said is None:
        return True, f"teacher {name}: {source}, digest not known; `sha256:` would have it checked"
    found = files.digest_of_file(source, "sha256")
    if sha256 is not None:
        good = found == sha256
        told = "sha256 as given" if good else f"sha256 is {found}, not {sha256}: half a download?"
        return good, f"teacher {name}: {source}, {told}"
    assert said is not None
    agrees = found.startswith(said[1])
    told = "as its name says" if agrees else f"its name says {said[1]}; another or half a file?"
    return agrees, f"teacher {name}: {source}, sha256 {found[:12]}, {told}"


def how_made(source: Path) -> str:
    """How a .safetensors file comes of a published one that holds pickled objects."""
    if source.suffix != ".safetensors":
        return ""
    return f"; `whiten-mtd convert DOWNLOADED {source}` makes this file of it"


def descriptor_files(name: str, files: list[str]) -> Iterator[Finding]:
    """The files of a teacher of ready descriptors."""
    for file in files:
        try:
            rows, dim = store.Stored(Path(file), "descriptors")["descriptor"].shape
            yield True, f"teacher {name}: {file}, {rows} descriptors of {dim} dimensions"
        except (UserError, ValueError) as error:
            yield False, f"teacher {name}: {error}"


def datasets(values: dict[str, Any], where: Path) -> Iterator[Finding]:
    """The images of the training set and of every evaluation set."""
    used = {str(values["prepare"].get("dataset")): [""]} if values["prepare"] else {}
    for name, entry in (values["evaluation"] or {}).items():
        used.setdefault(str(entry.get("dataset")), []).append(str(name))
    package = f"{__package__.rsplit('.', 2)[0]}.datasets"
    for name, sets in used.items():
        try:
            module = plugins.load(package, name)
            place = f"{where}: datasets.{name}"
            settings = params.check(values["datasets"].get(name), module.Settings, place)
        except UserError as error:
            yield from ((False, line) for line in str(error).splitlines())
            continue
        if not hasattr(module, "status"):
            yield None, f"dataset {name}: looked at by prepare"
            continue
        for one in sets:
            try:
                yield True, f"dataset {name}: {module.status(settings, one)}"
            except UserError as error:
                published = getattr(module, "PUBLISHED", "")
                told = f". Published: {published}" if published else ""
                yield False, f"dataset {name}: {error}{told}"
