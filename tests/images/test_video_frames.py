"""Real video files: frames by time, and every kind of broken file named."""

import os
import shutil
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.stream
import numpy as np
import pytest
from clips import audio, broken, write
from PIL import Image

from stages.core.errors import UserError
from stages.images import video_frames


def greys(path: Path, **settings: Any) -> list[int]:
    """Numbers of the frames that come out."""
    return [round((np.asarray(f).mean() - 20) / 5) for f in video_frames.frames(path, **settings)]


@pytest.mark.parametrize(
    ("count", "rate", "fps", "wanted"),
    [
        (17, 4, 1, [0, 4, 8, 12, 16]),
        (1, 4, 1, [0]),
        (9, 4, 2, [0, 2, 4, 6, 8]),
        (6, 4, 9, [0, 1, 2, 3, 4, 5]),  # more than there are: all of them
        (30, Fraction(30000, 1001), 10, [0, 3, 6, 9, 12, 15, 18, 21, 24, 27]),
        (5, Fraction(1, 2), 1, [0, 1, 2, 3, 4]),  # slower than one a second
    ],
)
def test_one_frame_a_second_by_time(
    tmp_path: Path, count: int, rate: Any, fps: float, wanted: list[int]
) -> None:
    found = greys(write(tmp_path / "a.mp4", count, rate), fps=fps)
    assert len(found) == len(wanted) and np.abs(np.subtract(found, wanted)).max() <= 1


@pytest.mark.parametrize(
    ("suffix", "codec"), [(".avi", "mpeg4"), (".mkv", "libx264"), (".webm", "libvpx-vp9")]
)
def test_other_containers_and_codecs(tmp_path: Path, suffix: str, codec: str) -> None:
    assert len(greys(write(tmp_path / f"a{suffix}", 9, 4, codec))) == 3


def test_frames_become_a_folder_that_is_whole(tmp_path: Path) -> None:
    path, folder = write(tmp_path / "a.mp4", 13), tmp_path / "frames/a"
    assert video_frames.extract(path, folder, px=32) == 4
    assert sorted(f.name for f in folder.iterdir()) == [f"{i:04d}.jpg" for i in range(4)]
    assert Image.open(folder / "0003.jpg").size == (32, 24)
    path.unlink()
    assert video_frames.extract(path, folder) == 4  # there already: not decoded again
    assert video_frames.extract(path, folder, most=2) == 2
    assert [f.name for f in (tmp_path / "frames").iterdir()] == ["a"]


def test_no_more_than_asked_for(tmp_path: Path) -> None:
    assert video_frames.extract(write(tmp_path / "a.mp4", 33), tmp_path / "a", most=3) == 3
    assert len(list((tmp_path / "a").iterdir())) == 3


def test_a_turned_video_is_upright(tmp_path: Path) -> None:
    """The display matrix of a telephone's video, written into the track header."""
    raw = bytearray(write(tmp_path / "a.mp4", 5).read_bytes())
    track = raw.index(b"tkhd") + 4 + 40
    matrix = [0, 1 << 16, 0, -(1 << 16), 0, 0, 48 << 16, 0, 1 << 30]  # a quarter, clockwise
    raw[track : track + 36] = b"".join(v.to_bytes(4, "big", signed=True) for v in matrix)
    (tmp_path / "b.mp4").write_bytes(raw)
    assert next(video_frames.frames(tmp_path / "b.mp4")).size == (48, 64)


def test_a_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    """With its index in front a cut file opens, and decodes to the cut."""
    raw = write(tmp_path / "a.mp4", 200, movflags="faststart").read_bytes()
    start = raw.index(b"mdat")
    for cut in np.linspace(start + 200, len(raw) * 0.75, 12).astype(int):
        (tmp_path / "b.mp4").write_bytes(raw[:cut])
        with pytest.raises(UserError, match="b.mp4: (cannot be decoded|cut off|no images)"):
            list(video_frames.frames(tmp_path / "b.mp4"))
    assert len(greys(tmp_path / "a.mp4")) == 50


def test_what_is_broken_is_named_and_leaves_nothing(tmp_path: Path) -> None:
    for name, word in broken(tmp_path).items():
        with pytest.raises(UserError) as error:
            video_frames.extract(tmp_path / f"{name}.mp4", tmp_path / "frames" / name)
        said = str(error.value)
        assert f"{name}.mp4" in said and word in said and "\n" not in said, said
    assert not list((tmp_path / "frames").iterdir())
    with pytest.raises(UserError, match="no such video"):
        video_frames.extract(tmp_path / "absent.mp4", tmp_path / "frames/absent")


def test_leftovers_and_files_in_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, frames = write(tmp_path / "a.mp4", 9), tmp_path / "frames"
    monkeypatch.setattr(os, "getpid", lambda: 7)  # a process of the same number was killed here
    old, new = frames / ".a.7.tmp", frames / ".b.tmp"
    old.mkdir(parents=True)
    new.mkdir()
    os.utime(old, (0, 0))
    assert video_frames.extract(path, frames / "a") == 3
    video_frames.forget_unfinished(frames)
    assert not old.exists() and new.is_dir()
    (frames / "c").write_bytes(b"")
    for folder, said in ((frames / "c", "c: a file"), (frames / "c/d", "c: no folder")):
        with pytest.raises(UserError, match=said):
            video_frames.extract(path, folder)


def test_count_and_gaps(tmp_path: Path) -> None:
    for i in range(5):
        Image.new("RGB", (4, 4)).save(tmp_path / f"{i:04d}.jpg")
    assert video_frames.count(tmp_path) == 5 and video_frames.count(tmp_path, 3) == 3
    (tmp_path / "0002.jpg").unlink()
    with pytest.raises(UserError, match="0002.jpg"):
        video_frames.count(tmp_path)
    shutil.rmtree(tmp_path)
    tmp_path.mkdir()
    with pytest.raises(UserError, match="no frames"):
        video_frames.count(tmp_path)


def streams(path: Path, *shapes: tuple[int, int], default: int, ratio: str = "1") -> Path:
    """A video of several streams, of pixels of an odd shape; stream `default` is the player's."""
    with av.open(str(path), "w") as container:
        made = []
        for number, (width, height) in enumerate(shapes):
            stream: Any = container.add_stream("libx264", rate=4)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            stream.codec_context.sample_aspect_ratio = Fraction(ratio)
            is_default = av.stream.Disposition.default if number == default else 0
            stream.disposition = is_default
            made.append(stream)
        for _ in range(8):
            for stream, (width, height) in zip(made, shapes, strict=True):
                grey = np.full((height, width, 3), 90, np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(grey, "rgb24")))
        for stream in made:
            container.mux(stream.encode())
    return path


@pytest.mark.parametrize("default", [0, 1])
def test_of_several_streams_the_players_is_shown(tmp_path: Path, default: int) -> None:
    shapes = ((64, 48), (48, 32))
    path = streams(tmp_path / "a.mkv", *shapes, default=default)
    assert next(video_frames.frames(path)).size == shapes[default]


@pytest.mark.parametrize(("ratio", "size"), [("4/3", (85, 48)), ("1/2", (64, 96)), ("1", (64, 48))])
def test_pixels_that_are_no_squares_are_stretched(tmp_path: Path, ratio: str, size: Any) -> None:
    path = streams(tmp_path / "a.mp4", (64, 48), default=0, ratio=ratio)
    assert next(video_frames.frames(path)).size == size


def test_a_cover_picture_is_no_video(tmp_path: Path) -> None:
    """First in the file, as music programs put it; and alone beside sound."""
    film, cover = write(tmp_path / "film.mp4", 9), tmp_path / "cover.png"
    Image.new("RGB", (20, 20), "red").save(cover)
    for name, source in (("both.mp4", film), ("sound.mp4", audio(tmp_path / "a.mp4"))):
        with av.open(str(tmp_path / name), "w") as out, av.open(str(cover)) as picture:
            art = out.add_stream_from_template(picture.streams.video[0])
            art.disposition = av.stream.Disposition.attached_pic
            with av.open(str(source)) as played:
                stream = out.add_stream_from_template(played.streams[0])
                packets = [(art, next(picture.demux(video=0)))]
                packets += [(stream, p) for p in played.demux() if p.dts is not None]
                for to, packet in packets:
                    packet.stream = to
                    out.mux(packet)
    assert next(video_frames.frames(tmp_path / "both.mp4")).size == (64, 48)
    with pytest.raises(UserError, match="sound.mp4: no images in it"):
        next(video_frames.frames(tmp_path / "sound.mp4"))


def test_a_pipe_is_no_video(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.mp4")
    with pytest.raises(UserError, match="a.mp4: not a file"):
        next(video_frames.frames(tmp_path / "a.mp4"))
