"""The command line: one app a command, errors as one line each, progress on stderr."""

import errno
import json
import os
import signal
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import Any, TypeVar

import typer

from . import machine
from .errors import UserError

T = TypeVar("T")
INTERRUPTED = 130
TIMES = "times"  # in the scratch folder: how long each stage of dvc.yaml took
# Typer carries its own copy of click; its public errors all derive from this one.
UsageError: Any = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")
EXTRAS = {  # a missing module -> the extra of the package that brings it
    "torch": "train", "torchvision": "train", "timm": "train", "safetensors": "train",
    "dvc": "train", "matplotlib": "train", "av": "video", "onnx": "export", "onnxscript": "export",
}  # fmt: skip


def app(**settings: Any) -> typer.Typer:
    """A Typer app without shell completion and without rich tracebacks."""
    return typer.Typer(
        add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None, **settings
    )


def say(text: str) -> None:
    """A line for people, on stderr."""
    print(text, file=sys.stderr, flush=True)


def result(text: str) -> None:
    """A line of the result, on stdout."""
    print(text, flush=True)


def progress(
    items: Iterable[T], *, total: int | None = None, label: str = "", every: float = 10.0
) -> Iterator[T]:
    """Hand `items` on, with a bar on a terminal and a line every `every` seconds elsewhere."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import track

        yield from track(items, label, total=total, console=Console(stderr=True), transient=True)
        return
    start = last = time.monotonic()
    for i, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if now - last >= every:
            rest = f", {(now - start) / i * (total - i):.0f} s to go" if total else ""
            say(f"{label}: {i}{f' of {total}' if total else ''}{rest}")
            last = now


def run(command: typer.Typer, arguments: list[str] | None = None, name: str | None = None) -> int:
    """Run an app; returns the exit code: 0 done, 1 ours, 2 the user's mistake, 130 interrupted."""
    try:
        code = command(args=arguments, prog_name=name, standalone_mode=False)
        if code == INTERRUPTED:  # Typer makes a code of an interrupt
            raise KeyboardInterrupt
        return code if isinstance(code, int) else 0
    except UserError as error:
        say("\n".join(f"error: {line}" for line in str(error).splitlines()))
        return 2
    except UsageError as error:
        error.show()
        return 2
    except (KeyboardInterrupt, typer.Abort):
        say("interrupted; the same command goes on where it was")
        return INTERRUPTED
    except ModuleNotFoundError as error:
        extra = EXTRAS.get((error.name or "").split(".")[0])
        if extra is None:
            raise
        say(f"error: this command needs {error.name}: pip install 'whiten-mtd[{extra}]'")
        return 2
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
            raise
        where, why = error.filename or "output", os.strerror(error.errno)
        say(f"error: {where}: {why}; nothing half-written is left")
        return 2


def main(command: typer.Typer) -> None:
    """Run an app as a program."""
    # SIGTERM ends a stage as an interrupt does, so that its work is left resumable.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    start = time.time()
    code = run(command)
    if code == 0 and (stage := os.environ.get("DVC_STAGE")):
        keep_time(stage, start)
    sys.exit(code)


def keep_time(stage: str, start: float) -> None:
    """Note how long a stage of dvc.yaml took here, for `report`; no result depends on it."""
    root = machine.scratch() / TIMES
    line = {"seconds": round(time.time() - start, 2), "ended": round(time.time())}
    try:
        root.mkdir(parents=True, exist_ok=True)
        (root / f"{stage.rsplit(':', 1)[-1]}.json").write_text(json.dumps(line), "utf-8")
    except OSError:  # a full disk or a read-only one is no reason to fail a finished stage
        pass
