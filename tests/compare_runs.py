"""Do two finished runs hold the same numbers? For a change that must change none.

    python tests/compare_runs.py OLD NEW

OLD and NEW are project folders after `dvc repro`. Arrays of every HDF5 file under data/ and models/
must be equal to the byte, tensors of every student too, and every number of metrics.json. Files,
keys, attributes and tensors that were renamed are known by the tables below; nothing else is
accepted. Prints one line a difference; exits 1 where there is any.
"""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from safetensors.numpy import load_file

# Names of 0.1 -> names of today.
FILES = {"data/results/protocol.json": "data/results/scoring_rules.json"}
ROWS = {"fused": "ensemble", "earlier": "old_model", "compatible": "new_on_old"}
NEW_ROWS = {"fused"}  # a row beside the old ones: the ensemble in the student's frame
ATTRIBUTES = {"pictures": "images", "compatible": "backward_compatible"}
# Digests of the images that prepare met: by names and lengths once, by content today.
OLD_DIGEST, DIGEST = "images", "contents"
LOOKED = "data/looked/"  # what the stage `look` writes; 0.1 has no such stage
TENSOR = re.compile(r"^trunk\.")
# Attributes that follow from the code's own names, or from those of parameters.
PROVENANCE = re.compile(r"digest|^(weights|settings|extract|whiten|fuse|train|whitened|features)$")


def differences(old: Path, new: Path) -> Iterator[str]:
    """A line on each difference of two project folders."""
    for folder in ("data", "models"):
        before = {p.relative_to(old).as_posix() for p in (old / folder).rglob("*") if p.is_file()}
        now = {p.relative_to(new).as_posix() for p in (new / folder).rglob("*") if p.is_file()}
        before = {FILES.get(name, name): name for name in before}  # type: ignore[assignment]
        yield from (f"{name}: only in {old}" for name in sorted(set(before) - now))
        added = sorted(now - set(before))
        if not any(name.startswith(LOOKED) for name in before):
            added = [name for name in added if not name.startswith(LOOKED)]
        yield from (f"{name}: only in {new}" for name in added)
        for name in sorted(now & set(before)):
            yield from compared(old / before[name], new / name, name)  # type: ignore[index]


def compared(old: Path, new: Path, name: str) -> Iterator[str]:
    """Differences of one file."""
    if name.endswith(".h5"):
        yield from arrays(old, new, name)
    elif name.endswith(".safetensors"):
        yield from tensors(old, new, name)
    elif name == "data/results/metrics.json":
        yield from scores(old, new, name)
    elif name.endswith((".jpg", ".csv")) or name.startswith("data/prepared"):
        yield from [f"{name}: other bytes"] * (text_of(old, name) != text_of(new, name))


def text_of(path: Path, name: str) -> Any:
    """Bytes of a file; of the tables of scores the rows under today's names, sorted."""
    if name.endswith("queries.csv"):
        rows = [line.split(",") for line in path.read_text("utf-8").splitlines()]
        is_old = not any(r[1] == "ensemble" for r in rows)
        if is_old:
            rows = [[r[0], ROWS.get(r[1], r[1]), *r[2:]] for r in rows]
        return sorted(r for r in rows if r[1] not in NEW_ROWS)
    return path.read_bytes()


def arrays(old: Path, new: Path, name: str) -> Iterator[str]:
    """Datasets to the byte, attributes but for what follows from names."""
    with h5py.File(old) as a, h5py.File(new) as b:
        if set(a) != set(b):
            yield f"{name}: datasets {sorted(a)} and {sorted(b)}"
        for key in sorted(set(a) & set(b)):
            x, y = a[key][()], b[key][()]
            if x.dtype != y.dtype or x.shape != y.shape or x.tobytes() != y.tobytes():
                yield f"{name}: {key} differs"
        here = {ATTRIBUTES.get(k, k): v for k, v in a.attrs.items()}
        there = dict(b.attrs.items())
        if OLD_DIGEST in here and DIGEST in there and not (DIGEST in here or OLD_DIGEST in there):
            del here[OLD_DIGEST], there[DIGEST]
        for key in sorted(here.keys() | there.keys()):
            if key == "root" or PROVENANCE.search(key):
                continue
            if key not in here or key not in there or np.any(here[key] != there[key]):
                yield f"{name}: attribute {key}: {here.get(key)} and {there.get(key)}"


def tensors(old: Path, new: Path, name: str) -> Iterator[str]:
    """Weights by name, to the byte."""
    a = {TENSOR.sub("backbone.", k): v for k, v in load_file(old).items()}
    b = load_file(new)
    if set(a) != set(b):
        yield f"{name}: other tensors: {sorted(set(a) ^ set(b))[:3]}"
    for key in sorted(set(a) & set(b)):
        if a[key].tobytes() != b[key].tobytes():
            yield f"{name}: {key} differs by {float(np.abs(a[key] - b[key]).max()):.3g}"


def scores(old: Path, new: Path, name: str) -> Iterator[str]:
    """Every number of metrics.json under today's names."""
    a, b = (json.loads(p.read_text("utf-8")) for p in (old, new))
    for data in sorted(set(a) | set(b)):
        here, there = a.get(data, {}), b.get(data, {})
        if "ensemble" not in here:
            here = {ROWS.get(k, k): v for k, v in here.items()}
        for row in sorted(set(here) | set(there)):
            if row not in here and row in NEW_ROWS:
                continue
            if here.get(row) != there.get(row):
                yield f"{name}: {data}, {row}: {here.get(row)} and {there.get(row)}"


if __name__ == "__main__":
    found = list(differences(Path(sys.argv[1]), Path(sys.argv[2])))
    print("\n".join(found) or "equal")
    sys.exit(bool(found))
