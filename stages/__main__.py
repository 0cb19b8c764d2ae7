"""All commands behind one door, in pipeline order; each is imported only when it is called."""

import ast
import sys
from importlib import import_module
from pathlib import Path

from . import __version__
from .core import console
from .core.plugins import nearest

HERE = Path(__file__).parent
STAGES = ("prepare", "extract", "whiten", "fuse", "train", "describe", "evaluate")
TOOLS = (
    "results", "report", "export", "index", "search", "serve", "calibrate", "score", "verify",
    "compare", "audit", "plan", "doctor", "bench", "convert", "preset",
)  # fmt: skip


def usage() -> str:
    """Every command with the first line of its file's docstring."""
    lines = ["usage: whiten-mtd COMMAND [ARGUMENTS]   (COMMAND --help says more)", ""]
    for title, folder, commands in (("pipeline", HERE, STAGES), ("tools", HERE / "tools", TOOLS)):
        lines.append(f"{title}:")
        for command in commands:
            doc = ast.get_docstring(ast.parse((folder / f"{command}.py").read_text("utf-8"))) or ""
            lines.append(f"  {command:10} {doc.splitlines()[0]}")
    return "\n".join(lines)


def main() -> None:
    """Run the command that the first argument names."""
    name, rest = (sys.argv[1], sys.argv[2:]) if len(sys.argv) > 1 else ("--help", [])
    if name in ("--help", "-h", "help"):
        console.result(usage())
    elif name in ("--version", "-V"):
        console.result(f"whiten-mtd {__version__}")
    elif name in STAGES or name in TOOLS:
        package = __package__ if name in STAGES else f"{__package__}.tools"
        command = import_module(f"{package}.{name}").app
        sys.argv = [f"whiten-mtd {name}", *rest]
        console.main(command)
    else:
        choices = ", ".join((*STAGES, *TOOLS))
        console.say(
            f"error: no command {name!r}{nearest(name, (*STAGES, *TOOLS))}: choose from {choices}"
        )
        sys.exit(2)


if __name__ == "__main__":
    main()
