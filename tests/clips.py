"""Real video files for tests, whole and broken."""

from pathlib import Path
from typing import Any

import av
import numpy as np


def write(path: Path, count: int, rate: Any = 4, codec: str = "libx264", **options: str) -> Path:
    """A video whose frame n, up to 45, is a plain grey of 20 + 5 n."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options=options) as container:
        stream: Any = container.add_stream(codec, rate=rate, options={"crf": "1"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for n in range(count):
            grey = np.full((48, 64, 3), 20 + 5 * (n % 46), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grey, "rgb24")))
        container.mux(stream.encode())
    return path


def audio(path: Path) -> Path:
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("aac", rate=16000, layout="mono")
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        sound.sample_rate = 16000
        container.mux(stream.encode(sound))
        container.mux(stream.encode())
    return path


def broken(folder: Path) -> dict[str, str]:
    """Broken files of every kind: name -> a word of what is said."""
    write(folder / "whole.mp4", 40)
    raw = (folder / "whole.mp4").read_bytes()
    (folder / "half.mp4").write_bytes(raw[: len(raw) // 2])
    quick = write(folder / "quick.mp4", 200, movflags="faststart").read_bytes()
    (folder / "tail.mp4").write_bytes(quick[: len(quick) * 2 // 3])  # index first: it opens
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "text.mp4").write_text("404 not found")
    audio(folder / "sound.mp4")
    with av.open(str(folder / "none.mp4"), "w") as container:
        stream: Any = container.add_stream("libx264", rate=4)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.start_encoding()
    (folder / "odd.mp4").write_bytes(raw.replace(b"avc1", b"zzzz"))
    (folder / "quick.mp4").unlink()
    return {
        "half": "cannot be decoded", "tail": "c", "empty": "cannot be decoded",
        "text": "cannot be decoded", "sound": "audio only", "none": "no stream",
        "odd": "no decoder",
    }  # fmt: skip
