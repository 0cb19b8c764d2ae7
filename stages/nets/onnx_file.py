"""ONNX files opened with care: whole, in one piece, and nothing beside them read. Without torch.

A seal is what `export` puts at the end of a file: the digest of all bytes before it, as one more
entry of the metadata (parts of a protocol buffer may be joined by writing one after the other).
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..core import file_kind
from ..core.errors import UserError

SEAL = b"whiten_mtd_seal"  # key of the metadata entry that ends a file
DIGEST = 32  # hexadecimal digits
# Fields of onnx.proto: where tensors are, from the model down. Message -> field -> its message.
FIELDS: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "function": {7: "node", 11: "attribute"},
    "training": {1: "graph", 2: "graph"},
}
EXTERNAL_DATA, DATA_LOCATION = 13, 14  # fields of a tensor
DEEP = 64  # graphs within graphs


def session(path: Path, providers: list[str]) -> Any:
    """An onnxruntime session of a file. Raises UserError where it is damaged or not whole."""
    import onnxruntime

    if wrong := file_kind.mistaken(path):
        raise UserError(f"{path}: no ONNX: it {wrong}")
    data = path.read_bytes()
    if (said := seal_of(data)) is not None and said != _digest(data[: -len(seal(said))]):
        raise UserError(f"{path}: damaged: not the bytes that were exported; copy or export again")
    try:
        external = has_external_data(data)
    except (IndexError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as ONNX ({error}): half a file?") from None
    if external:
        raise UserError(
            f"{path}: keeps its weights in another file, which is not read; save it in one piece: "
            "onnx.save(onnx.load(FILE), OUT)"
        )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what it has to say is in the error, as one line
    try:
        return onnxruntime.InferenceSession(data, options, providers=providers)
    except Exception as error:  # the runtime has kinds of its own
        raise UserError(f"{path}: cannot be read as ONNX ({line_of(error)})") from None


def run(session: Any, inputs: dict[str, Any], where: str) -> list[Any]:
    """What the session gives. Raises UserError, one line, where it fails."""
    try:
        return session.run(None, inputs)
    except Exception as error:  # the runtime has kinds of its own
        shapes = ", ".join(str(tuple(x.shape)) for x in inputs.values())
        raise UserError(
            f"{where}: does not take images of shape {shapes} ({line_of(error)})"
        ) from None


def line_of(error: Exception) -> str:
    """The first line of an error that says something, shortened."""
    line = next((x for x in str(error).splitlines() if x.strip()), type(error).__name__)
    return line.strip()[:150]


def seal(digest: str) -> bytes:
    """The entry of the metadata that ends a file: ModelProto.metadata_props (14), key and value."""
    entry = b"\x0a" + bytes([len(SEAL)]) + SEAL + b"\x12" + bytes([DIGEST]) + digest.encode()
    return b"\x72" + bytes([len(entry)]) + entry


def sealed(model: bytes) -> bytes:
    """`model` with its seal."""
    return model + seal(_digest(model))


def seal_of(data: bytes) -> str | None:
    """The digest that the seal at the end of `data` says, None where there is no seal."""
    empty = seal("0" * DIGEST)
    end = data[-len(empty) :]
    if end[:-DIGEST] != empty[:-DIGEST]:
        return None
    return end[-DIGEST:].decode("latin-1")


def has_external_data(data: bytes) -> bool:
    """Whether any tensor of a model says that its numbers are in another file.

    Raises ValueError or IndexError where `data` is no ONNX that can be looked through.
    """
    return _external(memoryview(data), "model", 0)


def _external(data: memoryview, message: str, depth: int) -> bool:
    if depth > DEEP:
        raise ValueError("graphs too deep in each other")
    for field, value in _fields(data):
        if message == "tensor":
            if field == EXTERNAL_DATA or (field == DATA_LOCATION and value not in (0, None)):
                return True
        elif (
            isinstance(value, memoryview)
            and field in FIELDS[message]
            and _external(value, FIELDS[message][field], depth + 1)
        ):
            return True
    return False


def _fields(data: memoryview) -> Iterator[tuple[int, memoryview | int | None]]:
    """(number, value) of each field of a message: bytes, a whole number, or None."""
    place = 0
    while place < len(data):
        tag, place = _varint(data, place)
        kind = tag & 7
        value: memoryview | int | None = None
        if kind == 0:
            value, place = _varint(data, place)
        elif kind == 2:
            length, place = _varint(data, place)
            if place + length > len(data):
                raise ValueError("not whole")
            value, place = data[place : place + length], place + length
        elif kind in (1, 5):
            place += 8 if kind == 1 else 4
        else:
            raise ValueError(f"a field of kind {kind}")
        yield tag >> 3, value


def _varint(data: memoryview, place: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = data[place]
        place += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number, place
        shift += 7
        if shift > 63:
            raise ValueError("a number of more than 64 bits")


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=DIGEST // 2).hexdigest()
