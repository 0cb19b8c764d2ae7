"""The command line: every stage and tool, in pipeline order; imported only when it is called."""

import ast
import sys
from importlib import import_module
from pathlib import Path

from . import __version__
from .core import console, machine
from .core.plugins import nearest

HERE = Path(__file__).parent
STAGES = ("look", "prepare", "extract", "whiten", "fuse", "train", "describe", "evaluate")
TOOLS = {  # command -> its slice of tools
    "results": "report", "report": "report", "compare": "report",
    "export": "export", "index": "search", "search": "search", "serve": "search",
    "calibrate": "search", "score": "check", "verify": "check", "audit": "audit",
    "plan": "cost", "bench": "cost", "init": "setup", "upgrade": "setup", "doctor": "setup",
    "convert": "setup", "preset": "setup",
}  # fmt: skip
MODULES = {s: s for s in STAGES} | {t: f"tools.{part}.{t}" for t, part in TOOLS.items()}


def usage() -> str:
    """Every command with the first line of its file's docstring."""
    lines = ["usage: whiten-mtd COMMAND [ARGUMENTS]   (COMMAND --help says more)", ""]
    for title, commands in (("pipeline", STAGES), ("tools", TOOLS)):
        lines.append(f"{title}:")
        for command in commands:
            file = HERE / f"{MODULES[command].replace('.', '/')}.py"
            doc = ast.get_docstring(ast.parse(file.read_text("utf-8"))) or ""
            lines.append(f"  {command:10} {doc.splitlines()[0]}")
    return "\n".join(lines)


def main() -> None:
    """Run the command that the first argument names."""
    if Path(sys.argv[0]).name != "__main__.py":  # of `python -m` the package has looked already
        machine.spin_briefly()
    name, rest = (sys.argv[1], sys.argv[2:]) if len(sys.argv) > 1 else ("--help", [])
    if name in ("--help", "-h", "help"):
        console.result(usage())
    elif name in ("--version", "-V"):
        console.result(f"whiten-mtd {__version__}")
    elif name in MODULES:
        try:
            command = import_module(f"{__package__}.{MODULES[name]}").app
        except ModuleNotFoundError as error:
            if line := console.lacking(error):
                console.say(line)
                sys.exit(2)
            raise
        sys.argv = [f"whiten-mtd {name}", *rest]
        console.main(command)
    else:
        choices = ", ".join(MODULES)
        console.say(f"error: no command {name!r}{nearest(name, MODULES)}: choose from {choices}")
        sys.exit(2)


if __name__ == "__main__":
    main()
