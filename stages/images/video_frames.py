"""Videos to frames by PyAV: a folder of JPEGs for each video, made whole or not at all."""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from PIL import Image

from ..core import parallel
from ..core.errors import UserError
from .rendering import fitted

SUFFIXES = {
    ".mp4", ".m4v", ".mov", ".qt", ".webm", ".mkv", ".avi", ".divx", ".flv", ".f4v", ".ts", ".mts",
    ".m2ts", ".m2t", ".mpg", ".mpeg", ".mpe", ".m1v", ".m2v", ".vob", ".dv", ".3gp", ".3g2", ".wmv",
    ".asf", ".ogv", ".ogm", ".mxf", ".rm", ".rmvb", ".y4m",
}  # fmt: skip
FPS = 1.0  # frames a second that are kept, as the benchmark's baselines do
MOST = 60  # frames of a video that count, the first ones
JPEG_QUALITY = 90
LOST_SHARE = 0.2  # of the stated duration without an image at the end: the file was cut off
LOST_SECONDS = 2.0
SQUARE = 0.01  # from 1, of a pixel's width by its height, that is not worth a resize
ODDEST = 4.0  # beyond it a stated shape of pixels is a mistake
UNFINISHED = ".tmp"  # how the name of a folder ends that is being filled
STALE_SECONDS = 3600.0  # no video takes so long: whoever filled it is gone


def frames(path: Path, fps: float = FPS) -> Iterator[Image.Image]:
    """The frames of a video at 0, 1 / fps, 2 / fps ... seconds (the first at or after), upright.

    Raises UserError, with the reason, for a file that cannot be decoded to its end.
    """
    import av

    if path.exists() and not path.is_file():
        raise UserError(f"{path}: not a file, but a folder, pipe or device; leave it out")
    try:
        with av.open(str(path)) as container:
            stream: Any = container.streams.best("video")  # what a player shows of several
            if stream is None:
                raise UserError(f"{path}: no images in it ({_kinds(container)})")
            if stream.disposition & av.stream.Disposition.attached_pic:
                raise UserError(f"{path}: no images in it (sound with a cover picture)")
            yield from _frames(path, container, stream, fps)
    except FileNotFoundError:
        raise UserError(f"{path}: no such video") from None
    except (av.FFmpegError, OSError, ValueError, LookupError, RuntimeError) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise UserError(f"{path}: cannot be decoded ({reason})") from None


def extract(
    path: Path, folder: Path, *, fps: float = FPS, most: int = MOST, px: int | None = None
) -> int:
    """Write a video's first frames, long side at most `px`, to `folder`; how many. UserError.

    The folder appears when all its frames are in it; where it exists nothing is decoded.
    """
    if folder.is_dir():
        return count(folder, most)
    with _unfinished(folder) as scratch:
        temporary = Path(scratch, folder.name)
        temporary.mkdir()
        number = -1
        for number, frame in enumerate(islice(frames(path, fps), most)):
            size = fitted(frame.width, frame.height, px)
            small = frame if size == frame.size else frame.resize(size, Image.Resampling.BILINEAR)
            small.save(temporary / f"{number:04d}.jpg", "JPEG", quality=JPEG_QUALITY)
        if number < 0:
            raise UserError(f"{path}: no images in it")
        os.replace(temporary, folder)
        return number + 1


def forget_unfinished(folder: Path) -> None:
    """Remove what decoding that was ended by force left in `folder`; nothing that is at work."""
    for left in folder.glob(f".*{UNFINISHED}"):
        if left.is_dir() and time.time() - left.stat().st_mtime > STALE_SECONDS:
            shutil.rmtree(left, ignore_errors=True)


def _unfinished(folder: Path) -> "tempfile.TemporaryDirectory[str]":
    """A folder beside `folder`, to be filled and moved there."""
    if folder.exists():
        raise UserError(f"{folder}: a file, where a folder of frames would be made; remove it")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise UserError(f"{folder.parent}: no folder can be made there; remove it") from None
    return tempfile.TemporaryDirectory(UNFINISHED, f".{folder.name}.", folder.parent)


def extract_all(root: Path, paths: list[str], folder: Path) -> list[int | str]:
    """Frames of each video to `folder/000000` and so on: how many, or what is wrong with it."""
    tasks = [(root / path, folder / f"{row:06d}") for row, path in enumerate(paths)]
    return list(parallel.each(_extract_one, tasks, "decoding", least=4, crashed=_crashed))


def _extract_one(task: tuple[Path, Path]) -> int | str:
    try:
        return extract(*task)
    except UserError as error:
        return str(error)


def _crashed(task: tuple[Path, Path]) -> int | str:
    return f"{task[0]}: its decoder crashes on it"


def count(folder: Path, most: int = MOST) -> int:
    """Frames `0000.jpg`, `0001.jpg` ... of a folder, `most` at most. UserError for none or gaps."""
    names = {f for f in os.listdir(folder) if f.endswith(".jpg")}
    number = min(len(names), most)
    if not number:
        raise UserError(f"{folder}: no frames in it")
    if absent := [f for f in (f"{i:04d}.jpg" for i in range(number)) if f not in names]:
        raise UserError(
            f"{folder}: no frame {absent[0]}; they are numbered from 0000.jpg on without a gap"
        )
    return number


def _frames(path: Path, c: Any, s: Any, fps: float) -> Iterator[Image.Image]:
    if s.codec_context is None:
        raise UserError(f"{path}: no decoder for its images")
    s.thread_type, s.codec_context.thread_count = "NONE", 1  # videos are decoded side by side
    wanted, begin, last, index = 0, None, 0.0, 0
    rate = float(s.average_rate or s.guessed_rate or 25)
    pixel = float(s.sample_aspect_ratio or s.codec_context.sample_aspect_ratio or 1)
    pixel = pixel if 1 / ODDEST < pixel < ODDEST else 1.0
    for frame in c.decode(s):
        time = index / rate if frame.pts is None else float(frame.pts * frame.time_base)
        begin = time if begin is None else begin
        index, last = index + 1, time - begin
        if last * fps + 1e-6 >= wanted:
            wanted = int(last * fps + 1e-6) + 1
            yield _shown(frame, pixel)
    stated = float(s.duration * s.time_base) if s.duration and s.time_base else 0.0
    lost = stated - last - 1 / rate
    if lost > LOST_SECONDS and lost > LOST_SHARE * stated:
        raise UserError(f"{path}: cut off after {last:.0f} of {stated:.0f} seconds")


def _shown(frame: Any, pixel: float) -> Image.Image:
    """A frame as a player shows it: `pixel`, the width of a pixel by its height; then upright."""
    image: Image.Image = frame.to_image()
    if abs(pixel - 1) > SQUARE:
        width, height = image.width * max(pixel, 1), image.height / min(pixel, 1)
        image = image.resize((round(width), round(height)), Image.Resampling.BILINEAR)
    return image.rotate(frame.rotation, expand=True) if frame.rotation else image


def _kinds(container: Any) -> str:
    return " and ".join(sorted({f"{s.type} only" for s in container.streams})) or "no stream"
