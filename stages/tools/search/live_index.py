"""The generation that a server answers from, its counters, and what clients may send."""

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool

from ...core import console
from ...core.errors import UserError
from ...images import reading
from ...retrieval.onnx_student import Exported
from . import answers
from . import generations as indexes
from .generations import Index

AT_WORK = 2  # images decoded and described at a time; the others wait
BUCKETS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)  # seconds, of the histogram of searches


class Refusal(Exception):
    """An answer that is an error of the client: HTTP status and one line."""

    def __init__(self, status: int, line: str) -> None:
        super().__init__(line)
        self.status = status


@dataclass(frozen=True)
class Limits:
    """What a client may send: bytes, pixels of an image, seconds to send in."""

    bytes: int
    pixels: int
    seconds: float


@dataclass(frozen=True)
class Loaded:
    """One generation and the student that describes its queries."""

    index: Index
    net: Exported


@dataclass
class Counts:
    """What /metrics tells."""

    answers: Counter[tuple[str, int]] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=lambda: [0.0, 0.0])  # sum, count
    buckets: Counter[float] = field(default_factory=Counter)
    switches: int = 0
    failed_switches: int = 0

    def searched(self, seconds: float) -> None:
        """Count a search that was answered."""
        self.seconds[0] += seconds
        self.seconds[1] += 1
        self.buckets.update(b for b in BUCKETS if seconds <= b)

    def as_text(self, loaded: Loaded) -> str:
        """In Prometheus' text format."""
        name = "whiten_mtd"
        lines = [
            f"# TYPE {name}_images gauge", f"{name}_images {len(loaded.index)}",
            f"# TYPE {name}_generation gauge", f"{name}_generation {loaded.index.generation}",
            f"# TYPE {name}_switches_total counter", f"{name}_switches_total {self.switches}",
            f"# TYPE {name}_failed_switches_total counter",
            f"{name}_failed_switches_total {self.failed_switches}",
            f"# TYPE {name}_requests_total counter",
        ]  # fmt: skip
        for (path, status), count in sorted(self.answers.items()):
            lines.append(f'{name}_requests_total{{path="{path}",status="{status}"}} {count}')
        lines.append(f"# TYPE {name}_search_seconds histogram")
        total, count = self.seconds[0], int(self.seconds[1])
        for bound in BUCKETS:
            lines.append(f'{name}_search_seconds_bucket{{le="{bound}"}} {self.buckets[bound]}')
        lines.append(f'{name}_search_seconds_bucket{{le="+Inf"}} {count}')
        lines += [f"{name}_search_seconds_sum {total:.6f}", f"{name}_search_seconds_count {count}"]
        return "\n".join(lines) + "\n"


class Service:
    """The generation in use, replaced as a whole when the index points to another one."""

    def __init__(self, folder: Path, model: Path | None, limits: Limits) -> None:
        self.folder, self.model, self.limits = folder, model, limits
        self.now = Loaded(*answers.open_index(folder, model))
        self.counts = Counts()
        self.places = asyncio.Semaphore(AT_WORK)
        self._switching = asyncio.Lock()
        self._bad = 0  # a generation that could not be read, not tried again

    async def latest(self) -> Loaded:
        """What is loaded, after a look whether the index has moved on."""
        try:
            number = indexes.current(self.folder)
        except (UserError, OSError):
            return self.now  # the folder is gone or damaged: what is loaded still answers
        if number in (self.now.index.generation, self._bad) or self._switching.locked():
            return self.now
        async with self._switching:
            try:
                self.now = await run_in_threadpool(self._load)
                self.counts.switches += 1
                console.say(f"{self.folder}: now generation {self.now.index.generation}")
            except Exception as error:  # whatever is wrong with it, the old one goes on answering
                self._bad = number
                self.counts.failed_switches += 1
                console.say(f"generation {number} cannot be used, the old one stays: {error}")
        return self.now

    def _load(self) -> Loaded:
        return Loaded(*answers.open_index(self.folder, self.model))

    def search(self, loaded: Loaded, name: str, data: bytes, top: int) -> dict[str, Any]:
        """The answer to an uploaded image. Raises Refusal."""
        try:
            width, height = reading.shape(Path(name), data)
            if width * height > self.limits.pixels:
                most = self.limits.pixels / 1e6
                raise Refusal(413, f"{name}: {width} x {height}; at most {most:g} million pixels")
            row = loaded.net.image(Path(name), data)
        except UserError as error:
            raise Refusal(400, str(error)) from None
        answer = answers.answers(loaded.index, row[None], top)[0]
        for result in answer["results"]:
            del result["file"]  # where it lies on this machine is no client's business
        return answer
