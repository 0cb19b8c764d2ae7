"""What a person downloads: whether it is in its place and whole, and where it is published."""

import re
from collections.abc import Iterator
from pathlib import Path

from ...core import files, params, plugins, store
from ...core.errors import UserError
from ..check_params import Finding


def weights_file(name: str, source: Path, sha256: str | None, published: str) -> Finding:
    """Whether a teacher's checkpoint is in its place, and has the digest that is known of it."""
    if not source.is_file():
        missing = f"teacher {name}: {source} is missing. Published: {published}"
        return False, missing + how_made(source)
    in_name = re.search(r"-([0-9a-f]{7,})$", source.stem)
    if sha256 is None and in_name is None:
        return True, f"teacher {name}: {source}, not checked: no `sha256:` is given"
    digest = files.digest_of_file(source, "sha256")
    if sha256 is not None:
        good = digest == sha256
        verdict = "sha256 as given" if good else f"sha256 is {digest}, not {sha256}: half a file?"
        return good, f"teacher {name}: {source}, {verdict}"
    assert in_name is not None
    good = digest.startswith(in_name[1])
    verdict = "as its name says" if good else f"its name says {in_name[1]}: another or half a file?"
    return good, f"teacher {name}: {source}, sha256 {digest[:12]}, {verdict}"


def how_made(source: Path) -> str:
    """How a .safetensors file is made of a published one that holds pickled objects."""
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


def datasets(given: params.Parameters) -> Iterator[Finding]:
    """The images of the training set and of every evaluation set."""
    used = {given.training_set: [""]}
    for name, entry in given.evaluation.items():
        used.setdefault(entry.dataset, []).append(name)
    for name, sets in used.items():
        try:
            settings = given.dataset(name)
            module = plugins.load(f"{params.PACKAGE}.datasets", name)
        except UserError as error:
            yield from ((False, line) for line in str(error).splitlines())
            continue
        if not hasattr(module, "status"):
            yield None, f"dataset {name}: checked by prepare"
            continue
        for one in sets:
            try:
                yield True, f"dataset {name}: {module.status(settings, one)}"
            except UserError as error:
                published = getattr(module, "PUBLISHED", "")
                source = f". Published: {published}" if published else ""
                yield False, f"dataset {name}: {error}{source}"
