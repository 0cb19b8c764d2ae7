"""What is in a checkpoint's pickle, with nothing imported or called: stand-ins, then arrays.

`tree` reads the pickle with a stand-in for every name in it; `Plain` makes arrays of the stand-ins
for tensors and arrays, and leaves the others as they are.
"""

import math
import pickle
import pickletools
import re
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

MOST_NAMES = 1000  # classes that a pickle may name
MOST_CODES = 1_000_000  # steps of a pickle; a ResNet-101 with its optimiser has 80,000
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C  # first of the pickles of a file of torch before 1.6
DTYPES = {
    "Double": "f8", "Float": "f4", "Half": "f2", "Long": "i8", "Int": "i4", "Short": "i2",
    "Char": "i1", "Byte": "u1", "Bool": "?",
}  # fmt: skip


class TooMuch(ValueError):
    """A file that claims or makes more than files of weights do."""


class Inert:
    """What a name in the pickle becomes: keeps its arguments, state and items, does nothing."""

    name = ""
    args: tuple[Any, ...]
    state: Any
    items: dict[Any, Any]
    values: list[Any]

    def __new__(cls, *args: Any, **kwargs: Any) -> "Inert":
        self = super().__new__(cls)
        self.args, self.state, self.items, self.values = args, None, {}, []
        return self

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: the arguments are kept by __new__."""

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        self.items[key] = value

    def append(self, value: Any) -> None:
        """What the pickle appends to a list-like object or adds to a set-like one."""
        self.values.append(value)

    add = append


@dataclass
class Storage:
    """A block of numbers of a tensor: a dtype, a key, and its bytes once they are read."""

    dtype: np.dtype
    key: str
    count: int
    data: bytes = b""


class Reader(pickle.Unpickler):
    """An unpickler that resolves no name: each is a new class of stand-ins."""

    def __init__(self, file: BinaryIO, storages: dict[str, Storage]) -> None:
        super().__init__(file, encoding="latin1")  # bytes of Python 2 survive, names are ASCII
        self.storages = storages
        self.stand_ins: dict[str, type] = {}

    def find_class(self, module: str, name: str) -> type:
        """A stand-in for `module.name`; nothing is imported."""
        full = f"{module}.{name}"
        if full not in self.stand_ins and len(self.stand_ins) >= MOST_NAMES:
            raise TooMuch(f"names more than {MOST_NAMES} classes")
        return self.stand_ins.setdefault(full, type("Inert", (Inert,), {"name": full}))

    def persistent_load(self, pid: Any) -> Storage:
        """The storage that `pid` speaks of, to be filled when the file has been read."""
        tag, kind, key, _, count = pid[:5]
        dtype = DTYPES.get(kind.name.removeprefix("torch.").removesuffix("Storage"))
        if tag != "storage" or dtype is None or any(v is not None for v in pid[5:]):
            raise ValueError(f"a storage of kind {kind.name}")
        return self.storages.setdefault(key, Storage(np.dtype(dtype), key, int(count)))


def tree(path: Path) -> Any:
    """The object of a file of torch.save, as stand-ins. Raises TooMuch, or whatever a damaged
    pickle leads to."""
    with open(path, "rb") as file:
        return _zip(file) if zipfile.is_zipfile(file) else _legacy(file)


def _zip(file: BinaryIO) -> Any:
    """The object of a file of torch 1.6 or later; its storages are members of the archive."""
    storages: dict[str, Storage] = {}
    with zipfile.ZipFile(file) as archive:
        name = next(n for n in archive.namelist() if re.fullmatch(r"[^/]+/data\.pkl", n))
        folder = name.removesuffix("data.pkl")
        if f"{folder}byteorder" in archive.namelist():
            _little(archive.read(f"{folder}byteorder") == b"little")
        with archive.open(name) as pickled:
            tree = _unpickled(pickled, storages)  # type: ignore[arg-type]
        for storage in storages.values():
            storage.data = archive.read(f"{folder}data/{storage.key}")
    return tree


def _legacy(file: BinaryIO) -> Any:
    """The object of an older file: five pickles in a row, then the storages' bytes."""
    file.seek(0)
    storages: dict[str, Storage] = {}
    magic, _, system, tree, keys = (_unpickled(file, storages) for _ in range(5))
    if magic != LEGACY_MAGIC:
        raise ValueError("not a file of torch.save")
    _little(system["little_endian"])
    for key in keys:
        count = int.from_bytes(file.read(8), "little")
        storages[key].data = file.read(count * storages[key].dtype.itemsize)
    return tree


def _unpickled(file: BinaryIO, storages: dict[str, Storage]) -> Any:
    """The next pickle's object, after a look at all that it will do.

    A few bytes may claim a memo of billions of entries, for which the unpickler takes the memory
    at once: a memo cannot have more entries than the pickle has bytes.
    """
    start = file.tell()
    for count, (code, argument, place) in enumerate(pickletools.genops(file)):
        if count > MOST_CODES:
            raise TooMuch(f"has a pickle of more than {MOST_CODES} steps")
        is_put = code.name in ("PUT", "BINPUT", "LONG_BINPUT")
        if is_put and int(argument or 0) > (place or 0) - start + 1:
            raise TooMuch(f"claims a memo of {argument} entries")
    file.seek(start)
    return Reader(file, storages).load()


def _little(is_little: bool) -> None:
    if not is_little:
        raise ValueError("of a big-endian machine")


class Plain:
    """Makes tensors and arrays of their stand-ins, each once, and ordered maps plain ones.

    `most`: bytes that all of them may have; a small pickle can name the same numbers many times.
    """

    def __init__(self, most: int) -> None:
        self.left = most
        self.made: dict[int, Any] = {}

    def of(self, value: Any) -> Any:
        """`value` made plain. Raises TooMuch."""
        if isinstance(value, (dict, list, tuple, Inert)):
            if id(value) not in self.made:  # `value` is alive as long as the tree is
                self.made[id(value)] = self._new(value)
            return self.made[id(value)]
        return value

    def _new(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {k: self.of(v) for k, v in value.items()}
        if isinstance(value, (list, tuple)):
            return type(value)(self.of(v) for v in value)
        if value.name == "collections.OrderedDict":
            return {k: self.of(v) for k, v in value.items.items()}
        if value.name == "torch._utils._rebuild_parameter":
            return self.of(value.args[0])
        if value.name not in MAKERS:
            self._inside(value)
            return value
        made = MAKERS[value.name](value)
        self.left -= getattr(made, "nbytes", 0)
        if self.left < 0:
            raise TooMuch("makes of the same numbers many tensors, far more than it holds")
        return made

    def _inside(self, value: Inert) -> None:
        """The state of an object that is none of ours, whose arrays may be asked for."""
        if isinstance(value.state, dict):
            value.state = {k: self.of(v) for k, v in value.state.items()}


def _tensor(made: Inert) -> np.ndarray:
    """torch's rebuilding: (storage, offset, shape, strides), within the storage's bounds."""
    storage, offset, shape, strides = made.args[:4]
    flat = np.frombuffer(storage.data, storage.dtype)
    count = math.prod(shape)
    last = offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True)) if count else 0
    if min((offset, *shape, *strides)) < 0 or count > len(flat) or last >= max(len(flat), 1):
        raise ValueError("a tensor that does not fit its storage")
    steps = [s * flat.itemsize for s in strides]
    return np.lib.stride_tricks.as_strided(flat[offset:], shape, steps, writeable=False).copy()


def _array(made: Inert) -> np.ndarray:
    """numpy's rebuilding: state (version, shape, dtype, Fortran order, bytes); numbers only."""
    _, shape, dtype, fortran, data = made.state
    order, kind = dtype.state[1], dtype.args[0]
    if not re.fullmatch(r"[fiub][1248]", kind) or order not in ("<", ">", "|", "="):
        return made  # type: ignore[return-value]  # an array of objects: not for us
    data = data.args[0].encode("latin1") if isinstance(data, Inert) else data
    data = data.encode("latin1") if isinstance(data, str) else data
    flat = np.frombuffer(data, np.dtype(kind).newbyteorder(order))
    return flat.reshape(shape, order="F" if fortran else "C").astype(np.dtype(kind), order="C")


MAKERS: dict[str, Callable[[Inert], Any]] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "numpy.core.multiarray._reconstruct": _array,
    "numpy._core.multiarray._reconstruct": _array,
}
