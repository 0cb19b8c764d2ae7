"""What params.yaml says otherwise than its last commit: `dvc exp run -S` leaves its values there.

Silent without git, without a commit, and for what the running experiment itself asked for.
"""

import os
import subprocess
from pathlib import Path
from typing import Any

from . import params
from .errors import UserError

SECONDS = 5.0  # git is asked for no longer
SHOWN = 8  # changes that a line names
MISSING = "nothing"  # for a key that one of the two files lacks


def note(path: Path = Path("params.yaml")) -> str:
    """`this run: train.epochs=0 (committed: 12)`, or nothing where no value differs."""
    changes = changed(path)
    if not changes:
        return ""
    shown = [f"{key}={_text(new)} (committed: {_text(old)})" for key, new, old in changes]
    more = f", {len(shown) - SHOWN} more" if len(shown) > SHOWN else ""
    return f"this run: {', '.join(shown[:SHOWN])}{more}"


def changed(path: Path) -> list[tuple[str, Any, Any]]:
    """(dotted key, value in `path`, committed value) of what no `-S` of this experiment set."""
    now, committed = _values(path), _committed(path)
    if now is None or committed is None or now == committed:
        return []
    new, old = flat(now), flat(committed)
    keys = [k for k in dict.fromkeys((*old, *new)) if new.get(k, MISSING) != old.get(k, MISSING)]
    own = _own(path, new)
    return [(k, new.get(k, MISSING), old.get(k, MISSING)) for k in keys if not own(k)]


def flat(values: Any, prefix: str = "") -> dict[str, Any]:
    """Maps in maps as one, by dotted key."""
    if not isinstance(values, dict) or not values:
        return {prefix: values}
    return {
        k: v
        for key, value in values.items()
        for k, v in flat(value, f"{prefix}.{key}" if prefix else str(key)).items()
    }


def overridden(command: list[str]) -> set[str]:
    """Dotted keys that `-S` and `--set-param` of a `dvc exp run` command line name."""
    keys = set()
    for word, following in zip(command, [*command[1:], ""], strict=True):
        if word in ("-S", "--set-param"):
            keys.add(following)
        elif word.startswith("--set-param="):
            keys.add(word.partition("=")[2])
        elif word.startswith("-S"):
            keys.add(word[2:])
    # `file:+key=value` with all that may be left out
    return {k.partition("=")[0].rpartition(":")[2].lstrip("+~") for k in keys}


def _own(path: Path, new: dict[str, Any]) -> Any:
    """A test whether the running experiment set a key itself; what cannot be known was its own."""
    if "DVC_EXP_NAME" not in os.environ:
        return lambda key: False
    parent = Path(os.environ.get("DVC_ROOT", ".")) / path
    if parent.resolve() != path.resolve():  # a copy: what stays in the project's own file is left
        left = flat(_values(parent) or {})
        return lambda key: key not in left or left[key] != new.get(key, MISSING)
    command = _dvc_command()
    if command is None:
        return lambda key: True
    asked = overridden(command)
    return lambda key: any(key == a or key.startswith(f"{a}.") for a in asked)


def _dvc_command() -> list[str] | None:
    """The command line of the `dvc exp run` above this process; None where none can be read."""
    process = os.getppid()
    try:
        while process > 1:
            folder = Path("/proc") / str(process)
            words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
            if "exp" in words and "run" in words[words.index("exp") :]:
                return words
            process = int((folder / "stat").read_text("utf-8").rpartition(")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        pass
    return None


def _values(path: Path) -> dict[str, Any] | None:
    try:
        return params.parse(path.read_bytes(), str(path))
    except (OSError, UserError):
        return None


def _committed(path: Path) -> dict[str, Any] | None:
    """The file as the last commit has it; None where there is none."""
    try:
        shown = subprocess.run(
            ["git", "show", f"HEAD:./{path.name}"], cwd=path.parent, capture_output=True,
            timeout=SECONDS, check=True,
        )  # fmt: skip
        return params.parse(shown.stdout, f"HEAD:{path}")
    except (OSError, subprocess.SubprocessError, UserError):
        return None


def _text(value: Any) -> str:
    """As params.yaml and `-S` write it."""
    if isinstance(value, list):
        return f"[{','.join(map(_text, value))}]"
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)
