"""Damaged files of every kind that is opened: one line that says so, or the content is sound.

Never a traceback, a crash or a hang. Files carry digests where they are ours, so that hardly any
damage passes; images, tables and checkpoints of other programs have none, and must give values of
the right form.
"""

import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trial import MUTATIONS, count, noted

from stages.core import files, params, runtime, store
from stages.core.errors import UserError
from stages.datasets import csv
from stages.distill import whitening
from stages.images import reading
from stages.images.sets import EvaluationSet, TrainSet
from stages.nets import weights
from stages.retrieval.ground_truth import GroundTruth
from stages.retrieval.onnx_student import Exported
from stages.tools import check_params
from stages.tools.setup import convert

pytestmark = pytest.mark.faults
SECONDS = 60  # that no reader of a file of this size takes
TOKEN = re.compile(rb'"[^"\n]*"|-?\d+(?:\.\d+)?|true|false|null|[A-Za-z_]+')
ODD = [
    b"NaN", b"-1", b"1e999", b"null", b"[]", b"{}", b'""', b'"\\u0000"', b"true", b"9" * 40,
    b"\xff\xfe", b"[" * 3000, b"\xef\xbb\xbf", b"&a", b"*a", b"!!python/name:os.system",
]  # fmt: skip


def stored(kind: str) -> Callable[[Path], Any]:
    """A reader of all arrays of a file of ours."""

    def read(path: Path) -> Any:
        file = store.Stored(path, kind)
        return {name: np.array(file[name]) for name in file._places}, file.attributes

    return read


def parameters(path: Path) -> None:
    """Every section of params.yaml, as `doctor` checks it."""
    list(check_params.forms(params.read(path)))


def truth(path: Path) -> None:
    """The ground truth of a set."""
    database = np.array([f"{i}.jpg" for i in range(5)])
    GroundTruth.parse(files.read_json(path), database, str(path))


def image(path: Path) -> None:
    """An image's pixels, and the shape that was said before they were read."""
    assert reading.shape(path)
    assert np.asarray(reading.read(path)).ndim == 3


def table(path: Path) -> None:
    """A table of images."""
    for row in csv.read_rows(path):
        assert row is not None


def tensors(path: Path) -> None:
    """Weights by name."""
    assert all(isinstance(name, str) for name in weights.from_file(path))


def checkpoint(path: Path) -> None:
    """What `convert` takes out of an old checkpoint."""
    assert all(isinstance(v, np.ndarray) for v in convert.read(path)[0].values())


def program(path: Path) -> None:
    """Descriptors of an exported student."""
    rows = Exported.read(path).describe(np.zeros((1, 40, 40, 3), np.uint8))
    assert rows.shape[0] == 1


def piece(path: Path) -> None:
    """A finished piece of long work."""
    runtime.Parts(path.parent).load(path.stem)


TABLE = "path,group,split,query\na.jpg,1,train,\nb.jpg,1,train,\nc.jpg,2,evaluation,yes\n"
TRUTH = {
    "format": "whiten-mtd/ground-truth/1", "protocol": "positives",
    "queries": [
        {"image_id": f"q{i}.jpg", "positive": [f"{i}.jpg"], "junk": [f"{i + 1}.jpg"]} for i in range(4)
    ],
}  # fmt: skip
KINDS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "HDF5: training set": ("data/prepared/train.h5", TrainSet.read),
    "HDF5: evaluation set": ("data/prepared/evaluation/demo.h5", EvaluationSet.read),
    "HDF5: descriptors": ("data/described/a/demo.h5", stored("descriptors")),
    "HDF5: features": ("data/features/a.h5", stored("features")),
    "HDF5: whitening": ("models/whitening/a.h5", whitening.read),
    "HDF5: targets": ("data/targets/epoch-0000.h5", stored("targets")),
    "JSON: ground truth": ("truth.json", truth),
    "YAML: params": ("params.yaml", parameters),
    "CSV: table of images": ("table.csv", table),
    "image: PNG": ("more/0.png", image),
    "image: JPEG": ("one.jpg", image),
    "safetensors": ("models/student/model.safetensors", tensors),
    "checkpoint of torch": ("old.pt", checkpoint),
    "ONNX": ("exported/model.onnx", program),
    "piece of long work": ("piece.npy", piece),
}


@st.composite
def damages(draw: st.DrawFn) -> list[tuple[str, float, float, bytes]]:
    """Up to three changes: (what, where, how much, bytes)."""
    names = st.sampled_from(["flip", "cut", "drop", "insert", "repeat", "zero", "token", "token"])
    change = st.tuples(
        names, st.floats(0, 1), st.floats(0, 1),
        st.one_of(st.sampled_from(ODD), st.binary(min_size=1, max_size=8)),
    )  # fmt: skip
    return draw(st.lists(change, min_size=1, max_size=3))


def damaged(data: bytes, changes: list[tuple[str, float, float, bytes]]) -> bytes:
    """`data` with each change in turn."""
    for what, where, much, value in changes:
        at = min(int(where * len(data)), max(len(data) - 1, 0))
        end = at + 1 + int(much * min(len(data) - at, 200))
        if what == "flip":
            data = data[:at] + value + data[at + len(value) :]
        elif what == "cut":
            data = data[:at]
        elif what == "drop":
            data = data[:at] + data[end:]
        elif what == "insert":
            data = data[:at] + value + data[at:]
        elif what == "repeat":
            data = data[:end] + data[at:end] * 3 + data[end:]
        elif what == "zero":
            data = data[:at] + bytes(end - at) + data[end:]
        elif found := TOKEN.search(data, at):
            data = data[: found.start()] + value + data[found.end() :]
    return data


@contextmanager
def within(seconds: int) -> Iterator[None]:
    """Raise TimeoutError where the block takes longer."""

    def late(*_: object) -> None:
        raise TimeoutError(f"not done within {seconds} seconds")

    old = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, old)


@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_one_line_or_does_no_harm(
    kind: str, finished: Path, tmp_path: Path, record_property: Any
) -> None:
    name, read = KINDS[kind]
    whole = _example(name, finished)
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    came = noted(record_property, 2, list(KINDS).index(kind), f"{kind}, damaged")

    @settings(
        max_examples=max(MUTATIONS // len(KINDS), 5), deadline=None, derandomize=True,
        database=None, suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(damages())
    def one(changes: list[tuple[str, float, float, bytes]]) -> None:
        path.write_bytes(damaged(whole, changes))
        try:
            with within(SECONDS):
                read(path)
            count(came, "sound")
        except UserError as error:
            assert str(error).strip() and "Traceback" not in str(error)  # of params a line a key
            count(came, "refused in words")

    path.write_bytes(whole)
    read(path)  # undamaged it is read
    one()


def _example(name: str, finished: Path) -> bytes:
    """A whole file of the kind."""
    if name == "table.csv":
        return TABLE.encode()
    if name == "truth.json":
        return files.to_json(TRUTH).encode()
    if name == "one.jpg":
        first = min((finished / "data/prepared/images").rglob("*.jpg"))
        return first.read_bytes()
    if name == "piece.npy":
        return _piece()
    return (finished / name).read_bytes()


def _piece() -> bytes:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        runtime.Parts(Path(folder)).save("piece", np.arange(60.0).reshape(20, 3))
        return Path(folder, "piece.npy").read_bytes()
