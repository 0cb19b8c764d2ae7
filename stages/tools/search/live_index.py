"""The generation that a server uses, its counters, and the limits for clients."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.concurrency import run_in_threadpool

from ...core import console, runtime
from ...core.errors import UserError
from ...images import reading
from ...retrieval.onnx_student import Exported
from . import answers
from . import generations as indexes
from .generations import Index

AT_WORK = 2  # images decoded and described at the same time; others wait
LARGE = 4_000_000  # pixels; of larger images one at a time, so that the memory is bounded
NAME = "whiten_mtd"  # what the names of our metrics begin with
BUCKETS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)  # seconds, of the histogram of searches


class Refusal(Exception):
    """The client's mistake: an HTTP status and one line."""

    def __init__(self, status: int, line: str) -> None:
        super().__init__(line)
        self.status = status


@dataclass(frozen=True)
class Limits:
    """The most that a client may send: bytes, pixels of an image; and in how many seconds."""

    bytes: int
    pixels: int
    seconds: float


@dataclass(frozen=True)
class Loaded:
    """One generation and the student that describes its queries."""

    index: Index
    net: Exported


class Counts:
    """What /metrics shows, in a registry of its own: servers in one process stay apart."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.images = Gauge(f"{NAME}_images", "Images in the index.", registry=registry)
        self.generation = Gauge(
            f"{NAME}_generation", "Generation of the index in use.", registry=registry
        )
        self.requests = Counter(
            f"{NAME}_requests", "Requests answered.", ("path", "status"), registry=registry
        )
        self.search_seconds = Histogram(
            f"{NAME}_search_seconds", "Seconds from a request to its results.", registry=registry,
            buckets=BUCKETS,
        )  # fmt: skip
        self.switches = Counter(
            f"{NAME}_switches", "Switches to another generation.", registry=registry
        )
        self.failed_switches = Counter(
            f"{NAME}_failed_switches", "Generations that could not be read.", registry=registry
        )

    def as_text(self) -> bytes:
        """In Prometheus' text format."""
        return generate_latest(self.registry)


class Service:
    """The generation in use; replaced as a whole when the index switches to another."""

    def __init__(self, folder: Path, model: Path | None, limits: Limits) -> None:
        reading.heif()  # of an upload it is not its name that says what it is
        self.folder, self.model, self.limits = folder, model, limits
        self.now = Loaded(*answers.open_index(folder, model))
        self.counts = Counts()
        self.counts.images.set_function(lambda: len(self.now.index))
        self.counts.generation.set_function(lambda: self.now.index.generation)
        self._slots, self._large = asyncio.Semaphore(AT_WORK), asyncio.Lock()
        self._switching = asyncio.Lock()
        self._bad = 0  # a generation that could not be read: not tried again

    async def latest(self) -> Loaded:
        """The loaded generation, after loading the index's current one if it changed."""
        try:
            number = indexes.current(self.folder)
        except (UserError, OSError):
            return self.now  # the folder is gone or damaged: the loaded one still answers
        if number in (self.now.index.generation, self._bad) or self._switching.locked():
            return self.now
        async with self._switching:
            try:
                self.now = await run_in_threadpool(self._load)
                self.counts.switches.inc()
                console.say(f"{self.folder}: now generation {self.now.index.generation}")
            except Exception as error:  # whatever is wrong, the old one stays
                self._bad = number
                self.counts.failed_switches.inc()
                console.say(f"generation {number} cannot be used, the old one stays: {error}")
        return self.now

    def _load(self) -> Loaded:
        return Loaded(*answers.open_index(self.folder, self.model))

    @asynccontextmanager
    async def room(self, pixels: int) -> AsyncIterator[None]:
        """Wait until an image of so many pixels may be decoded; of a large one nothing is kept."""
        if pixels <= LARGE:
            async with self._slots:
                yield
            return
        async with self._large, self._slots:
            try:
                yield
            finally:
                await run_in_threadpool(runtime.give_back_memory)

    def pixels(self, name: str, data: bytes) -> int:
        """How many pixels an uploaded image has, by its header. Raises Refusal."""
        try:
            width, height = reading.shape(Path(name), data)
        except UserError as error:
            raise _unreadable(error) from None
        if width * height > self.limits.pixels:
            most = self.limits.pixels / 1e6
            raise Refusal(413, f"{name}: {width} x {height}; at most {most:g} million pixels")
        return width * height

    def search(self, loaded: Loaded, name: str, data: bytes, top: int) -> dict[str, Any]:
        """The results for an uploaded image. Raises Refusal."""
        self.pixels(name, data)
        try:
            row = loaded.net.image(Path(name), data)
        except UserError as error:
            raise _unreadable(error) from None
        answer = answers.answers(loaded.index, row[None], top)[0]
        for result in answer["results"]:
            del result["file"]  # clients need not know this machine's folders
        return answer


def _unreadable(error: UserError) -> Refusal:
    return Refusal(400, console.clean(str(error).removesuffix("; leave it out")))
