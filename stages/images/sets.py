"""What the prepared files say, checked once when they are read: images, views, sets."""

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..core import seen_files, store
from ..core.errors import UserError

BY_LENGTH = "length:"  # before a digest of 0.1
ROLES = ("query", "database", "distractor")


def frame_path(folder: str, number: int) -> str:
    """Path of frame `number`, from 0, of the video whose frames lie in `folder`."""
    return f"{folder}/{number:04d}.jpg"


@dataclass(frozen=True)
class TrainSet:
    """The training images and their stored views (`data/prepared/train.h5`).

    n images, m views: `group` (n,) int32, -1 for none; `view_image` (m,) int32, ascending, the
    row of a view's image; `view` (m, k) float32, its columns named by `columns`. Where one of
    them is `frame`, the images are videos: `path` is the folder of a video's frames.
    """

    root: Path
    image_id: np.ndarray
    path: np.ndarray
    group: np.ndarray
    view_image: np.ndarray
    view: np.ndarray
    columns: tuple[str, ...]
    digest: str
    images: str = ""  # digest of the images that prepare met

    @classmethod
    def read(cls, path: Path) -> "TrainSet":
        """Read and check a train file. Raises UserError where its parts do not fit together."""
        f = store.Stored(path, "train")
        n, m = len(f["image_id"]), len(f["view_image"])
        if len(f["path"]) != n or len(f["group"]) != n or len(f["view"]) != m:
            raise UserError(f"{path}: its datasets have different lengths; run prepare again")
        columns = tuple(f.text("columns").split())
        if f["view"].ndim != 2 or f["view"].shape[1] != len(columns):
            raise UserError(f"{path}: view does not have the columns it names; run prepare again")
        views = np.asarray(f["view_image"])
        if m and (views[0] < 0 or views[-1] >= n or (np.diff(views) < 0).any()):
            raise UserError(f"{path}: view_image is not ascending within 0..{n - 1}")
        if (np.asarray(f["group"]) < -1).any():
            raise UserError(f"{path}: group is below -1; run prepare again")
        return cls(
            root=Path(f.text("root")),
            image_id=f["image_id"],
            path=f["path"],
            group=np.asarray(f["group"]),
            view_image=views,
            view=f["view"],
            columns=columns,
            digest=f.digest,
            images=_images_digest(f),
        )

    @property
    def groups(self) -> int:
        """How many groups there are."""
        return len(np.unique(self.group[self.group >= 0]))

    def file(self, image: int, frame: int = -1) -> Path:
        """Path of image `image` (a row), or of frame `frame` of video `image`."""
        path = str(self.path[image])
        return self.root / (path if frame < 0 else frame_path(path, frame))

    @property
    def videos(self) -> bool:
        """Whether the images are videos, of which views show frames."""
        return "frame" in self.columns

    def thumbnail(self, image: int) -> Path:
        """What stands for image `image`: itself, or of a video the middle frame of those shown."""
        if not self.videos:
            return self.file(image)
        first, last = np.searchsorted(self.view_image, (image, image + 1))
        frames = np.sort(self.view[first:last, self.columns.index("frame")])
        return self.file(image, int(frames[len(frames) // 2]))

    def source(self, view: int) -> tuple[int, int]:
        """What view `view` (a row) shows: its image, and the frame of it, -1 for no video."""
        frame = int(self.view[view, self.columns.index("frame")]) if self.videos else -1
        return int(self.view_image[view]), frame

    def check_images(self) -> None:
        """Raise UserError where the images are not those that prepare met, or a view's box is
        not within its image."""
        _refuse_boxes(self.view, self.columns, self.root)
        paths: Iterable[str] = self.path
        if self.videos:
            paths = shown(self.path, self.view_image, self.view[:, self.columns.index("frame")])
        _check_images(self.root, paths, self.images)

    def spans(self) -> np.ndarray:
        """(n + 1,) int64: the views of image i are rows spans[i] to spans[i + 1]."""
        return np.searchsorted(self.view_image, np.arange(len(self.image_id) + 1))


@dataclass(frozen=True)
class EvaluationSet:
    """Images to describe (`<set>.h5`): `role` (n,), `box` (n, 4) float32 pixels or NaN.

    Of a set of videos `start` (n + 1,) int64 counts the frames, one or more each, and `path` is
    the folder of a video's frames; the images to describe are then the frames, in order.
    """

    root: Path
    image_id: np.ndarray
    path: np.ndarray
    role: np.ndarray
    box: np.ndarray
    digest: str
    images: str = ""  # digest of the images that prepare met
    start: np.ndarray | None = None
    own: bool = False  # of one's own images: those that cannot be read have rows of NaN

    @classmethod
    def read(cls, path: Path) -> "EvaluationSet":
        """Read and check an evaluation set. Raises UserError for wrong lengths or roles."""
        f = store.Stored(path, "evaluation")
        n = len(f["image_id"])
        role = f["role"]
        if len(f["path"]) != n or len(role) != n or f["box"].shape != (n, 4):
            raise UserError(f"{path}: its datasets have different lengths; run prepare again")
        if odd := set(role.tolist()) - set(ROLES):
            raise UserError(f"{path}: unknown roles {', '.join(sorted(odd))}")
        box = np.asarray(f["box"])
        _refuse_rectangles(box, path)
        images = _images_digest(f)
        start = checked_start(f["start"], n, f"{path}") if "start" in f else None
        root = Path(f.text("root"))
        return cls(root, f["image_id"], f["path"], role, box, f.digest, images, start)

    @property
    def count(self) -> int:
        """How many images there are to describe: rows, or the frames of all videos."""
        return len(self.image_id) if self.start is None else int(self.start[-1])

    def check_images(self) -> None:
        """Raise UserError where the images are not those that prepare met."""
        frames = None if self.start is None else np.diff(self.start)
        _check_images(self.root, self.path, self.images, frames)

    def file(self, image: int) -> Path:
        """Path of image `image`: of a row, or of a frame counted over all videos."""
        if self.start is None:
            return self.root / str(self.path[image])
        video = int(np.searchsorted(self.start, image, side="right")) - 1
        return self.root / frame_path(str(self.path[video]), image - int(self.start[video]))

    def thumbnail(self, row: int) -> Path:
        """What stands for row `row`: the image, or the middle frame of the video."""
        if self.start is None:
            return self.file(row)
        return self.file(int(self.start[row] + self.start[row + 1]) // 2)

    def rectangle(self, image: int) -> tuple[float, ...] | None:
        """Box x0, y0, x1, y1 in pixels of image `image`, or None for the whole of it."""
        if self.start is not None:
            return None
        box = self.box[image]
        return None if np.isnan(box).any() else tuple(float(v) for v in box)


def _refuse_boxes(view: np.ndarray, columns: tuple[str, ...], root: Path) -> None:
    """Raise UserError for views whose box is not within its image."""
    if tuple(columns[:4]) != ("x", "y", "width", "height"):
        raise UserError(f"{root}: its views have no x y width height first; run prepare again")
    corner, side = view[:, :2], view[:, 2:4]
    wrong = ~((corner >= 0) & (side > 0) & (corner + side <= 1 + 1e-3)).all(1)
    if wrong.any():
        raise UserError(
            f"{root}: {wrong.sum()} views have a box outside their image, the first: view "
            f"{wrong.argmax()}; run prepare again"
        )


def _refuse_rectangles(box: np.ndarray, path: Path) -> None:
    """Raise UserError for boxes that are neither four numbers in order nor four NaN."""
    whole = np.isnan(box).all(1)
    with np.errstate(invalid="ignore"):
        good = np.isfinite(box).all(1) & (box[:, 2:] > box[:, :2]).all(1)
    if (wrong := ~(whole | good)).any():
        raise UserError(
            f"{path}: {wrong.sum()} boxes are not left, top, right, bottom, the first: row "
            f"{wrong.argmax()}; run prepare again"
        )


def _images_digest(f: store.Stored) -> str:
    """Digest of the images that prepare met, by content; of 0.1 by length, as attribute `images`
    or `pictures`."""
    if "contents" in f.attributes:
        return f.text("contents")
    old = str(f.attributes.get("images", f.attributes.get("pictures", "")))
    return old and BY_LENGTH + old


def checked_start(start: np.ndarray, videos: int, where: str) -> np.ndarray:
    """(n + 1,) int64 first frames of `videos` videos; UserError where they cannot be that."""
    start = np.asarray(start)
    counts = start.shape == (videos + 1,) and start.dtype.kind in "iu" and start[0] == 0
    if not counts or (np.diff(start.astype(np.int64)) < 1).any():
        raise UserError(f"{where}: start does not count one frame or more of each video")
    return start.astype(np.int64)


def image_digest(root: Path, paths: Iterable[str], frames: np.ndarray | None = None) -> str:
    """Digest of the names and contents of images. Raises UserError where some are missing.

    Where `frames` (n,) is given `paths` are folders, and the images are so many frames of each.
    What did not change since it was read is not read again (`core/seen_files.py`).
    """
    names = list(paths if frames is None else _frame_paths(paths, frames))
    contents = seen_files.Contents(root)
    digests = contents.digests(names, "reading images")
    contents.save()
    if missing := [n for n, d in zip(names, digests, strict=True) if d == seen_files.NONE]:
        raise UserError(f"{root}: {len(missing)} images are missing, the first: {missing[0]}")
    return seen_files.digest_of_pairs(names, digests)


def _old_image_digest(root: Path, paths: Iterable[str], frames: np.ndarray | None) -> str:
    """Of sets that were prepared by 0.1: names and lengths."""
    hasher = hashlib.blake2b(digest_size=16)
    for path in paths if frames is None else _frame_paths(paths, frames):
        file = os.path.join(root, path)
        length = os.stat(file).st_size if os.path.isfile(file) else -1
        hasher.update(f"{path}\0{length}\n".encode())
    return BY_LENGTH + hasher.hexdigest()


def shown(
    folders: Sequence[str] | np.ndarray, video: np.ndarray, frame: np.ndarray
) -> Iterator[str]:
    """Paths of the frames that views show, each once; `video`, `frame` (m,) by view."""
    pairs = np.unique(np.stack([video, frame.astype(np.int64)], axis=1), axis=0)
    yield from (frame_path(str(folders[i]), k) for i, k in pairs.tolist())


def _frame_paths(folders: Iterable[str], frames: np.ndarray) -> Iterator[str]:
    for folder, count in zip(folders, frames.tolist(), strict=True):
        yield from (frame_path(folder, number) for number in range(count))


def _check_images(
    root: Path, paths: Iterable[str], digest: str, frames: np.ndarray | None = None
) -> None:
    take = _old_image_digest if digest.startswith(BY_LENGTH) else image_digest
    if digest and take(root, paths, frames) != digest:
        raise UserError(
            f"{root}: not the images that prepare met (some have changed); run `dvc repro`, which "
            "prepares again"
        )
