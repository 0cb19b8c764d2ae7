"""An exported student without torch: ONNX Runtime, the same preprocessing, the same scales."""

import json
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..core import console, files, store
from ..core.errors import UserError
from ..images import reading, rendering
from ..nets import onnx_file

METADATA = "whiten_mtd"  # the key of the ONNX file's metadata that holds ours, as JSON
IDENTITY = ("weights", "dim", "image_px", "scales")  # what makes two descriptors comparable


@dataclass(frozen=True)
class Exported:
    """An ONNX student: `about` is what its metadata say of it and of the images it takes."""

    path: Path
    about: dict[str, Any]
    session: Any

    @classmethod
    def read(cls, path: Path) -> "Exported":
        """The student of an ONNX file, or of a folder that `export` wrote. Raises UserError."""
        file = path / "model.onnx" if path.is_dir() else path
        if not file.is_file():
            raise UserError(f"{file}: no such file; `whiten-mtd export STUDENT {path}` writes one")
        check_digest(file)
        session = onnx_file.session(file, ["CPUExecutionProvider"])
        return cls(file, metadata(session, file), session)

    def identity(self) -> dict[str, Any]:
        """What descriptors must share to be compared: weights, size and scales."""
        scales = [float(f"{s:.6g}") for s in self.about["scales"]]  # as descriptor files say them
        return {**{key: self.about[key] for key in IDENTITY}, "scales": scales}

    def describe(self, pixels: np.ndarray) -> np.ndarray:
        """(B, H, W, 3) uint8 to (B, dim) float32 unit rows: each scale's, their sum, L2."""
        x = np.ascontiguousarray(pixels.transpose(0, 3, 1, 2), dtype=np.float32) / np.float32(255)
        name = self.session.get_inputs()[0].name
        total = np.zeros((len(x), self.about["dim"]), np.float32)
        for scale in self.about["scales"]:
            inputs = {name: x if scale == 1 else resized(x, scale)}
            rows = onnx_file.run(self.session, inputs, str(self.path))[0]
            if rows.shape != total.shape:
                raise UserError(f"{self.path}: gives shape {rows.shape}, not {total.shape}")
            total += rows
        if not (np.isfinite(total).all() and total.any(1).all()):
            raise UserError(
                f"{self.path}: gives descriptors that are NaN, infinity or all zeros; export a "
                "sound student"
            )
        return total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-12)

    def image(self, path: Path, data: bytes | None = None) -> np.ndarray:
        """(dim,) of one image, whole. Raises UserError where it cannot be read."""
        image = reading.read(path, data)
        return self.describe(rendering.plain(image, None, self.about["image_px"])[None])[0]

    def images(
        self, files: Sequence[Path], batch: int = 32
    ) -> tuple[np.ndarray, list[int], list[str]]:
        """(rows, which of `files` they are of, a line on each that cannot be read)."""
        px, errors = self.about["image_px"], {}
        most = 1 if px is None else batch  # images as they are may fill the memory

        def attempt(i: int, read: bool) -> Any:
            try:
                if read:
                    return rendering.plain(reading.read(files[i]), None, px)
                return rendering.plain_shape(*reading.shape(files[i]), None, px)
            except UserError as error:
                errors[i] = str(error)
                return None

        with ThreadPoolExecutor(4) as pool:
            shapes = list(pool.map(lambda i: attempt(i, False), range(len(files))))
            kept = [i for i, shape in enumerate(shapes) if shape is not None]
            batches = rendering.batches_by_shape([shapes[i] for i in kept], most)
            rows = np.zeros((len(files), self.about["dim"]), np.float32)
            for part in console.progress(batches, total=len(batches), label="describing"):
                chosen = [kept[j] for j in part]
                pixels = list(pool.map(lambda i: attempt(i, True), chosen))
                good = [(i, p) for i, p in zip(chosen, pixels, strict=True) if p is not None]
                if good:
                    rows[[i for i, _ in good]] = self.describe(np.stack([p for _, p in good]))
        kept = [i for i in kept if i not in errors]
        return rows[kept], kept, [errors[i] for i in sorted(errors)]


def check_digest(file: Path) -> None:
    """Raise UserError where `exported.json` beside `file` has another digest of it."""
    card = file.parent / "exported.json"
    if file.name != "model.onnx" or not card.is_file():
        return
    said = files.read_json(card)
    digests = said.get("files") if isinstance(said, dict) else None
    if not isinstance(digests, dict) or not isinstance(digests.get(file.name), str):
        raise UserError(f"{card}: has no digest of {file.name}; export again")
    if files.digest_of_file(file) != digests[file.name]:
        raise UserError(
            f"{file}: damaged, or of another export: not the file that {card.name} beside it "
            "describes; copy the folder or export again"
        )


def metadata(session: Any, file: Path) -> dict[str, Any]:
    """What the metadata of an ONNX file say of the student. Raises UserError where they are odd."""
    try:
        text = session.get_modelmeta().custom_metadata_map.get(METADATA)
        about = json.loads(text) if text else None
    except (ValueError, RecursionError) as error:  # no UTF-8, no JSON
        raise UserError(f"{file}: its metadata are no JSON ({error}); export again") from None
    if not isinstance(about, dict) or about.get("format") != store.file_format("exported"):
        raise UserError(f"{file}: not a student that `whiten-mtd export` wrote")
    for key, (what, sound) in SOUND.items():
        if key not in about and key not in OPTIONAL:
            raise UserError(f"{file}: its metadata lack {key}; export again")
        if key in about and not sound(about[key]):
            raise UserError(
                f"{file}: its metadata say {key} {_short(about[key])}, not {what}; export again"
            )
    _check_program(session, file, about["dim"])
    return about


def _check_program(session: Any, file: Path, dim: int) -> None:
    """Raise UserError where the program is not one of images to `dim` numbers."""
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if len(inputs) != 1 or len(inputs[0].shape) != 4 or inputs[0].type != "tensor(float)":
        raise UserError(f"{file}: takes no images (B, 3, H, W) of float32; export again")
    wide = outputs[0].shape[-1] if outputs and outputs[0].shape else None
    if isinstance(wide, int) and wide != dim:
        raise UserError(f"{file}: gives {wide} numbers an image, its metadata say {dim}")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_whole(value: Any, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _are_numbers(value: Any, count: range, least: float) -> bool:
    """Whether `value` is a list of so many numbers above `least`."""
    return (
        isinstance(value, list)
        and len(value) in count
        and all(_is_number(v) and v > least for v in value)
    )


SOUND: dict[str, tuple[str, Callable[[Any], bool]]] = {  # key -> what it is, and whether it is
    "weights": ("a digest", lambda v: isinstance(v, str) and v != ""),
    "model": ("a name", lambda v: isinstance(v, str) and v != ""),
    "dim": ("a number of dimensions", lambda v: _is_whole(v, 1, 1 << 20)),
    # null: images as they are
    "image_px": ("pixels of a side", lambda v: v is None or _is_whole(v, 1, 1 << 16)),
    "scales": (
        "positive numbers, up to 16",
        lambda v: _are_numbers(v, range(1, 33), 0) and max(v) <= 16,
    ),
    # Of other programs: ours have both inside the network.
    "mean": ("three numbers", lambda v: _are_numbers(v, range(3, 4), -math.inf)),
    "std": ("three positive numbers", lambda v: _are_numbers(v, range(3, 4), 0)),
}
OPTIONAL = ("mean", "std")


def resized(x: np.ndarray, scale: float) -> np.ndarray:
    """(B, 3, H, W) float32 scaled bilinearly, pixel centres aligned, without anti-aliasing.

    What torch's `interpolate(..., mode="bilinear", align_corners=False)` gives.
    """
    for axis in (2, 3):
        n = x.shape[axis]
        size = max(round(n * scale), 1)
        middle = np.arange(size, dtype=np.float32) + np.float32(0.5)  # float32, as torch reckons
        at = np.maximum(middle * np.float32(n / size) - np.float32(0.5), 0)
        low = at.astype(np.int64)
        high = np.minimum(low + 1, n - 1)
        share = (at - low).astype(np.float32).reshape((-1, 1) if axis == 2 else (-1,))
        x = x.take(low, axis) * (1 - share) + x.take(high, axis) * share
    return x


def refuse_other(mine: dict[str, Any], other: dict[str, Any], here: str, there: str) -> None:
    """Raise UserError where two students are not the same one, seen the same way."""
    for key in IDENTITY:
        if mine.get(key) != other.get(key):
            raise UserError(
                f"{there}: of another student than {here} ({key} {_short(other.get(key))}, not "
                f"{_short(mine.get(key))}); use the same one, or make a new index"
            )


def identity_of(described: store.Stored) -> dict[str, Any]:
    """The identity of the student that wrote a descriptor file; {} where it does not say."""
    a = described.attributes
    if "weights" not in a:
        return {}
    dim = int(described["descriptor"].shape[1])
    px, scales = str(a.get("image_px", 0)), str(a.get("scales", "1"))
    return {
        "weights": str(a["weights"]), "dim": dim,
        "image_px": None if px == "native" else int(px) if px.isdecimal() else px,
        "scales": _numbers(scales),
    }  # fmt: skip


def _numbers(text: str) -> list[float] | str:
    """`1 0.7` as numbers; the text itself where it says none, as of descriptors from elsewhere."""
    try:
        return [float(s) for s in text.split()]
    except ValueError:
        return text


def _short(value: Any) -> str:
    return f"{value[:8]}..." if isinstance(value, str) and len(value) > 12 else str(value)
