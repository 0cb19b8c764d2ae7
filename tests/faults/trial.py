"""One command of the project in a copy of the tiny world: ended, looked at, run again."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from project import ENVIRONMENT

from stages.core import files
from stages.core.errors import UserError
from stages.tools.search import generations

KILLS = int(os.environ.get("KILLS") or 40)
MUTATIONS = int(os.environ.get("MUTATIONS") or 500)
AT_POINT = Path(__file__).with_name("at_point.py")
SIGNALS = (signal.SIGKILL, signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
LEFT = re.compile(r"\..*\.tmp|\.export-.*|.*\.\d+\.tmp|\.first")
BESIDE = {".lock", generations.SEEN}  # of an index: no part of its content
JOB = re.compile(r"[a-z]+-[0-9a-f]{32}(\.lock)?")  # unfinished work in the scratch folder
PREPARED = "data/prepared"


@dataclass(frozen=True)
class Command:
    """A command: `line` after `python -m`, and what it makes or changes.

    `fresh`: `outs` are removed before, as DVC does; else it changes what is there. `share`: of the
    kills. `timed`: names of files with times in them, which differ from run to run.
    """

    name: str
    line: str
    outs: tuple[str, ...]
    fresh: bool = True
    share: float = 1.0
    timed: frozenset[str] = field(default=frozenset())
    once: bool = False  # it refuses to do again what is done


TRAIN = f"{PREPARED}/train.h5"
EVALUATION = f"{PREPARED}/evaluation"
COMMANDS = (
    Command("prepare", f"stages.prepare {PREPARED}", (PREPARED,)),
    Command("extract", f"stages.extract a {TRAIN} data/features/a.h5", ("data/features/a.h5",)),
    Command(
        "whiten",
        f"stages.whiten a {TRAIN} data/features/a.h5 models/whitening/a.h5 data/whitened/a.h5",
        ("models/whitening/a.h5", "data/whitened/a.h5"),
    ),
    Command(
        "fuse",
        f"stages.fuse {TRAIN} data/whitened data/targets models/whitening/fused.h5 "
        "--features data/features",
        ("data/targets", "models/whitening/fused.h5", "models/whitening/frames"),
    ),
    Command(
        "train", f"stages.train {TRAIN} data/targets models/student models/untrained",
        ("models/student", "models/untrained"), share=2.0,
    ),
    Command(
        "describe a teacher", f"stages.describe a {EVALUATION} data/described/a",
        ("data/described/a",),
    ),
    Command(
        "describe the student", f"stages.describe models/student {EVALUATION} data/described/student",
        ("data/described/student",),
    ),
    Command(
        "evaluate", f"stages.evaluate {EVALUATION} data/described models/whitening data/results",
        ("data/results",),
    ),
    Command(
        "export", "stages export models/student exported", ("exported",), share=0.5,
        timed=frozenset({"README.md", "model.pt2", "exported.json"}),
    ),
    Command("index", f"stages index {PREPARED}/images index --model exported", ("index",)),
    Command("index --add", "stages index more index --add", ("index",), fresh=False),
    Command("index --remove", "stages index index --remove *0.jpg", ("index",), fresh=False, once=True),
    Command("convert", "stages convert old.pt converted.safetensors", ("converted.safetensors",)),
)  # fmt: skip


@dataclass
class Ended:
    """What a run came to."""

    code: int
    errors: str
    seconds: float


class Trial:
    """A command in a folder of its own, which `restore` takes back to where it was before."""

    def __init__(self, command: Command, world: Path, base: Path) -> None:
        self.command, self.folder, self.base = command, base / "here", base
        shutil.copytree(world, self.folder)
        if command.fresh:
            for out in command.outs:
                _remove(self.folder / out)
        self.before = base / "before"
        for out in command.outs:
            _copy(self.folder / out, self.before / out)
        self.known = self._contents()
        first = self.run()
        assert first.code == 0, first.errors
        self.seconds, self.points = first.seconds, int((base / "count").read_text())
        self.wanted = self.state()
        self.known |= self._contents()

    def restore(self) -> None:
        """Everything as it was before the first run."""
        for out in self.command.outs:
            _remove(self.folder / out)
            _copy(self.before / out, self.folder / out)
        shutil.rmtree(self.folder / ".scratch", ignore_errors=True)

    def run(
        self, point: int = 0, number: int = 0, after: float | None = None, **environment: str
    ) -> Ended:
        """The command; `number` is sent at its change `point`, or `after` seconds."""
        env = {**os.environ, **ENVIRONMENT, "PYTHONPATH": "", "PYTHONDONTWRITEBYTECODE": "1"}
        line = [
            sys.executable, str(AT_POINT), str(self.base / "count"), str(point), str(int(number)),
            *self.command.line.split(),
        ]  # fmt: skip
        start = time.monotonic()
        with subprocess.Popen(
            line, cwd=self.folder, env={**env, **environment}, text=True,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        ) as process:  # fmt: skip
            if after is not None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(after)
                process.send_signal(number)
            _, errors = process.communicate(timeout=600)
        return Ended(process.returncode, errors, time.monotonic() - start)

    def check_ended(self, ended: Ended, number: int) -> str:
        """What a run that got the signal came to: `ended` or `finished`; AssertionError if odd."""
        assert ended.code in (0, 130, -number), (ended.code, ended.errors)
        if ended.code == 130:
            assert "Traceback" not in ended.errors, ended.errors
        for path, digest in self._contents():
            odd = (path, digest) not in self.known and Path(path).name not in self.command.timed
            assert not odd, f"{path} is neither as it was before nor as it should become"
        if (self.folder / "index/CURRENT").exists() and "index" in self.command.outs:
            generations.read(self.folder / "index")  # whole, the old one or the new one
        return "finished" if ended.code == 0 else "ended"

    def check_again(self, **environment: str) -> None:
        """The same command once more brings what an undisturbed run does, and leaves no rest."""
        done = self.command.once and self.state() == self.wanted
        again = self.run(**environment)
        assert again.code == (2 if done else 0), again.errors
        assert "Traceback" not in again.errors, again.errors
        assert self.state() == self.wanted
        rests = self.rests()
        assert rests == [], rests

    def state(self) -> dict[str, str]:
        """Digests of what the command made; of an index its current generation."""
        if "index" not in self.command.outs:
            return dict(self._contents())
        folder = self.folder / "index"
        place = folder / (folder / "CURRENT").read_text().strip()
        try:
            generations.read(folder)
        except UserError as error:
            raise AssertionError(str(error)) from None
        return {f.name: files.digest_of_file(f) for f in sorted(place.iterdir())}

    def rests(self) -> list[str]:
        """Unfinished files and folders, and unfinished work in the scratch folder."""
        found = [str(f) for f in self.folder.rglob("*") if LEFT.fullmatch(f.name)]
        scratch = self.folder / ".scratch"
        return found + [str(f) for f in scratch.glob("*") if JOB.fullmatch(f.name)]

    def _contents(self) -> set[tuple[str, str]]:
        """(path, digest) of every finished file among the outs."""
        found = set()
        for out in (self.folder / o for o in self.command.outs):
            inside = [out] if out.is_file() else sorted(out.rglob("*")) if out.is_dir() else []
            for file in (f for f in inside if f.is_file()):
                path = file.relative_to(self.folder)
                if any(LEFT.fullmatch(part) for part in path.parts) or file.name in BESIDE:
                    continue
                if file.name not in self.command.timed:
                    found.add((str(path), files.digest_of_file(file)))
        return found


def count(came: dict[str, int], what: str) -> None:
    """One more of `what`; a plain map, since only such travel from the processes of the tests."""
    came[what] = came.get(what, 0) + 1


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _copy(source: Path, to: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, to)
    elif source.is_file():
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, to)


def noted(record_property: Any, group: int, order: int, what: str) -> dict[str, int]:
    """What came of the tries of a row of the table at the end, to be counted in."""
    came: dict[str, int] = {}
    for key, value in (("group", group), ("order", order), ("what", what), ("came", came)):
        record_property(key, value)
    return came
