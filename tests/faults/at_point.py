"""Run a command of the project, and end it by a signal at its N-th change to the folder.

    python at_point.py COUNT POINT SIGNAL MODULE [ARGUMENTS]

Changes are what Python reports to its audit hooks: files opened for writing, renamed and removed,
folders made and removed, all of them below the working folder. POINT 0 ends nothing; COUNT is a
file that then gets the number of changes.
"""

import atexit
import os
import runpy
import signal
import sys
from pathlib import Path
from typing import Any

CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "open"}
WRITING = os.O_WRONLY | os.O_RDWR


def main() -> None:
    count, point, number, module, *arguments = sys.argv[1:]
    home, done = os.getcwd() + os.sep, 0

    def hook(event: str, given: tuple[Any, ...]) -> None:
        nonlocal done
        if event not in CHANGES or not isinstance(given[0], (str, bytes, os.PathLike)):
            return
        if event == "open" and not (given[2] or 0) & WRITING:
            return
        if os.path.abspath(os.fsdecode(given[0])).startswith(home):
            done += 1
            if done == int(point):
                os.kill(os.getpid(), int(number))

    # As a terminal starts a command, whatever started the tests.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    atexit.register(lambda: Path(count).write_text(str(done)))
    sys.path[0], sys.argv = home, [module, *arguments]
    sys.addaudithook(hook)
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
