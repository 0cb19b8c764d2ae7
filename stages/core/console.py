"""The command line: one app a command, errors as one line each, progress on stderr."""

import errno
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import Any, TypeVar

import typer

from . import machine
from .errors import UserError

T = TypeVar("T")
INTERRUPTED = 130
PARENT_SECONDS = 1.0  # between two looks at whether DVC is still there
SYSTEM = {  # what the system says of a disk or a path: for people to mend, no fault of ours
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO,
    errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EMFILE,
}  # fmt: skip
TIMES = "times"  # in the scratch folder: how long each stage of dvc.yaml took
# Typer carries its own copy of click; its public errors all derive from this one.
UsageError: Any = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")
EXTRAS = {  # a missing module -> the extra of the package that brings it
    "torch": "train", "torchvision": "train", "timm": "train", "safetensors": "train",
    "dvc": "train", "matplotlib": "train", "huggingface_hub": "train", "faiss": "search",
    "onnxruntime": "search", "starlette": "serve", "uvicorn": "serve", "prometheus_client": "serve",
    "python_multipart": "serve", "av": "video", "onnx": "export", "onnxscript": "export",
}  # fmt: skip
# Of Unicode: the controls, what turns the direction of text, separators, halves of characters.
CONTROL = {
    code: f"\\u{code:04x}"
    for code in (
        *range(0x20), *range(0x7F, 0xA0), *range(0x2028, 0x202F),
        *range(0x2066, 0x206A), *range(0xD800, 0xE000),
    )
}  # fmt: skip
IN_LINES = {code: text for code, text in CONTROL.items() if chr(code) not in "\n\t"}


def app(**settings: Any) -> typer.Typer:
    """A Typer app without shell completion and without rich tracebacks."""
    return typer.Typer(
        add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None, **settings
    )


def say(*lines: str) -> None:
    """A line for people, or several, on stderr. A name in it cannot end it."""
    print("\n".join(map(clean, lines)), file=sys.stderr, flush=True)


def result(text: str) -> None:
    """Lines of the result, on stdout; where nobody reads them any more the work still goes on."""
    try:
        print(text.translate(IN_LINES), flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def clean(name: str) -> str:
    """A name from outside, for people: what would steer a terminal or the text is spelled out.

    Such as `\\u001b`, which means the same in JSON. `say` does it to every line; `result` to all
    but the ends of lines and tabs, which it cannot tell from its own.
    """
    return name.translate(CONTROL)


class Whole:
    """How far a stage is over all its parts, in units of its own: images, views, steps."""

    least = 4  # steps to time before a promise; the first one, which warms up, is none of them

    def __init__(self, total: int | None, done: int = 0) -> None:
        self.total, self.done = total, done
        self._steps, self._timed_from, self._start = 0, done, time.monotonic()

    def skip(self, units: int) -> None:
        """Count what an earlier run finished, which took no time now."""
        self.done += units
        self._timed_from += units

    def step(self, units: int = 1) -> None:
        """Count one step that was just done."""
        self.done += units
        self._steps += 1
        if self._steps == 1:
            self._timed_from, self._start = self.done, time.monotonic()

    def seconds_to_go(self) -> float | None:
        """None while that cannot be told."""
        timed = self.done - self._timed_from
        if self.total is None or self._steps <= self.least or timed <= 0:
            return None
        return (time.monotonic() - self._start) / timed * max(self.total - self.done, 0)

    def line(self, part: bool) -> str:
        """`12 of 144, 30 s to go`, as much of it as is known."""
        text = f"{self.done}{f' of {self.total}' if self.total else ''}"
        seconds = self.seconds_to_go()
        if seconds is None:
            return text
        return f"{text}, {seconds:.0f} s to go{' in this part of the stage' if part else ''}"


def progress(
    items: Iterable[T],
    *,
    total: int | None = None,
    label: str = "",
    every: float = 10.0,
    whole: Whole | None = None,
    weigh: Callable[[T], int] = lambda item: 1,
    part: bool = False,
) -> Iterator[T]:
    """Hand `items` on, with a bar on a terminal and a line every `every` seconds elsewhere.

    `whole`: the stage that these items are a part of; each counts as `weigh(item)` of its units.
    `part`: they are a part of a stage whose other parts are not counted; the line says so.
    """
    if total is None and isinstance(items, Sized):
        total = len(items)
    whole = whole or Whole(total)
    if sys.stderr.isatty():
        yield from _bar(items, label, whole, weigh)
        return
    last = time.monotonic()
    for item in items:
        yield item
        whole.step(weigh(item))
        if time.monotonic() - last >= every:
            say(f"{label}: {whole.line(part)}")
            last = time.monotonic()


def _bar(items: Iterable[T], label: str, whole: Whole, weigh: Callable[[T], int]) -> Iterator[T]:
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=whole.total, completed=whole.done)
        for item in items:
            yield item
            whole.step(weigh(item))
            bar.update(task, completed=whole.done)


def run(command: typer.Typer, arguments: list[str] | None = None, name: str | None = None) -> int:
    """Run an app; returns the exit code: 0 done, 1 ours, 2 the user's mistake, 130 interrupted."""
    try:
        code = command(args=arguments, prog_name=name, standalone_mode=False)
        if code == INTERRUPTED:  # Typer makes a code of an interrupt
            raise KeyboardInterrupt
        return code if isinstance(code, int) else 0
    except UserError as error:
        say(*(f"error: {line}" for line in error.lines))
        return 2
    except UsageError as error:
        error.show()
        return 2
    except (KeyboardInterrupt, typer.Abort):
        say("interrupted; the same command goes on where it was")
        return INTERRUPTED
    except ModuleNotFoundError as error:
        if line := lacking(error):
            say(line)
            return 2
        raise
    except OSError as error:
        if error.errno not in SYSTEM:
            raise
        where, why = error.filename or "output", os.strerror(error.errno or 0)
        say(f"error: {where}: {why}; nothing half-written is left")
        return 2


def lacking(error: ModuleNotFoundError) -> str:
    """The line on a package that is not installed; empty where no extra brings it."""
    extra = EXTRAS.get((error.name or "").split(".")[0], "")
    return extra and (
        f"error: this command needs {error.name}, which {sys.executable} lacks: activate the "
        f"environment, or pip install 'whiten-mtd[{extra}]'"
    )


def main(command: typer.Typer) -> None:
    """Run an app as a program."""
    # All of them end a stage as an interrupt does, so that its work is left resumable.
    for number in machine.stopping()[1:]:
        signal.signal(number, signal.default_int_handler)
    start, stage = time.time(), os.environ.get("DVC_STAGE")
    if stage:
        threading.Thread(target=stop_without, args=(os.getppid(),), daemon=True).start()
        from . import committed, stage_code  # which a command outside DVC does not need

        for line in filter(None, (committed.note(), stage_code.note(stage))):
            say(line)
    code = run(command)
    if code == 0 and stage:
        keep_time(stage, start)
    sys.exit(code)


def stop_without(parent: int) -> None:
    """Ask this process to stop as soon as `parent`, the DVC that started it, is gone.

    A killed DVC leaves its stage running; the next `dvc repro` would find it at the same job.
    """
    while os.getppid() == parent:
        time.sleep(PARENT_SECONDS)
    os.kill(os.getpid(), signal.SIGTERM)


def keep_time(stage: str, start: float) -> None:
    """Note how long a stage of dvc.yaml took here, for `report`; no result depends on it."""
    root = machine.scratch() / TIMES
    line = {"seconds": round(time.time() - start, 2), "ended": round(time.time())}
    try:
        root.mkdir(parents=True, exist_ok=True)
        (root / f"{stage.rsplit(':', 1)[-1]}.json").write_text(json.dumps(line), "utf-8")
    except OSError:  # a full disk or a read-only one is no reason to fail a finished stage
        pass
