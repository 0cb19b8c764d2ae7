"""What code a stage runs, as digests: what `code.json` of a project says and DVC tracks by key.

A checkout's dvc.yaml names the files of the code that each stage loads; `pipeline.yaml` beside this
file is a copy of it. A project of one's own (`whiten-mtd init`) has no such files: there DVC tracks

    stages     stage -> digest of the files that it loads, by kind of teacher where it loads one
    datasets, losses, protocols    plug-in -> digest of its files
    files      file -> digest, so that `whiten-mtd upgrade` can say what changed; not tracked
"""

import ast
import hashlib
import os
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from . import files, params
from .errors import UserError

HERE = Path(__file__).parent.parent  # the package, `stages` or `whiten_mtd`
PIPELINE = Path(__file__).with_name("pipeline.yaml")
CODE = Path("code.json")
DEP = re.compile(r"\s+- stages/(\S+)$")  # a line of dvc.yaml that names a file of the code
STAGE = re.compile(r"  (\w+):$")
KIND = "teachers/${item.kind}.py"
SHOWN = 3  # files that a line names


@cache
def dependencies() -> dict[str, list[str]]:
    """Stage of dvc.yaml -> the files and folders of code that it names, relative to the package."""
    found: dict[str, list[str]] = {}
    stage = ""
    for line in PIPELINE.read_text("utf-8").splitlines():
        if named := STAGE.match(line):
            stage = named[1]
        elif dep := DEP.match(line):
            found.setdefault(stage, []).append(dep[1])
    return found


def code() -> dict[str, Any]:
    """What code.json holds of the code that is installed."""
    stages: dict[str, Any] = {}
    groups: dict[str, Any] = {}
    for stage, deps in dependencies().items():
        if KIND in deps:
            stages[stage] = {kind: _digest(stage_files(stage, kind)) for kind in kinds()}
        else:
            stages[stage] = _digest(stage_files(stage))
        for folder in folders(stage):
            groups[Path(folder).name] = {p: _digest(plugin_files(folder, p)) for p in _in(folder)}
    used = {f for names in everything().values() for f in names}
    return {"stages": stages, **groups, "files": {f: of_file(f) for f in sorted(used)}}


def everything() -> dict[str, list[str]]:
    """Stage -> all the files that any of its kinds and plug-ins loads."""
    found = {}
    for stage, deps in dependencies().items():
        of = [stage_files(stage, k) for k in (kinds() if KIND in deps else [""])]
        of += [plugin_files(folder, p) for folder in folders(stage) for p in _in(folder)]
        found[stage] = sorted({f for names in of for f in names})
    return found


def folders(stage: str) -> list[str]:
    """The folders of plug-ins that a stage depends on as a whole."""
    return [d for d in dependencies().get(stage, ()) if (HERE / d).is_dir()]


def keys(stage: str, kind: str = "") -> list[str]:
    """The keys of code.json that a stage of dvc.yaml tracks."""
    own = f"stages.{stage}.{kind}" if kind else f"stages.{stage}"
    return [own, *(Path(folder).name for folder in folders(stage))]


def kinds() -> list[str]:
    """The kinds of teachers."""
    return _in("teachers")


def stage_files(stage: str, kind: str = "") -> list[str]:
    """The files that a stage loads for a `kind` of teacher, without those of plug-in folders.

    Of what teachers share only what this kind imports; of a folder what no plug-in alone imports.
    """
    deps = dependencies()[stage]
    found = [d for d in deps if d != KIND and (HERE / d).is_file()]
    for folder in folders(stage):
        of_plugins = {f for name in _in(folder) for f in plugin_files(folder, name)}
        found += [f for f in _files_of(folder) if f not in of_plugins]
    if kind:
        elsewhere = set().union(*(reached(f"teachers/{k}.py") for k in kinds() if k != kind))
        own = reached(f"teachers/{kind}.py") | reached(file_of(stage))
        found = [f for f in found if f in own or f not in elsewhere]
        found.append(f"teachers/{kind}.py")
    return sorted(set(found))


def file_of(stage: str) -> str:
    """The file of a stage of dvc.yaml: that of describe_student is describe.py."""
    return next(d for d in dependencies()[stage] if "/" not in d)


def plugin_files(folder: str, name: str) -> list[str]:
    """The files of a folder that its plug-in `name` loads, `__init__` not among them."""
    own = reached(f"{folder}/{name}.py") & set(_files_of(folder))
    return sorted(own - {f"{folder}/__init__.py"})


def reached(file: str) -> set[str]:
    """`file` and all files of the package that its imports lead to, lazy ones among them."""
    found, todo = {file}, [file]
    while todo:
        for other in _imports(todo.pop()) - found:
            found.add(other)
            todo.append(other)
    return found


def note(stage: str, path: Path = CODE) -> str:
    """A line where the code that runs `stage` is not what the project's code.json says.

    Empty where there is no such file, as in a checkout. `stage` is a name as DVC gives it.
    """
    if not path.is_file():
        return ""
    try:
        said = files.read_json(path)
        changed = [f for f, digest in said["files"].items() if of_file(f) != digest]
        differs = changed and _differs(said, stage.rsplit(":", 1)[-1])
    except (UserError, KeyError, TypeError, AttributeError):
        return f"warning: {path} cannot be read; `whiten-mtd upgrade` writes it anew"
    if not differs:
        return ""
    return (
        f"warning: other code than {path} says ({some(changed)}), so DVC takes this result for one "
        "of that code; `whiten-mtd upgrade` first"
    )


def some(names: list[str]) -> str:
    """The first few of many names."""
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def _differs(said: dict[str, Any], name: str) -> bool:
    stage, _, item = name.partition("@")
    if stage not in dependencies():
        return False
    kind = params.read(Path("params.yaml")).kind(item) if KIND in dependencies()[stage] else ""
    now = code()
    return any(at(said, key) != at(now, key) for key in keys(stage, kind))


def at(values: Any, key: str) -> Any:
    """The value of a dotted key of code.json; None where there is none."""
    for part in key.split("."):
        values = values.get(part) if isinstance(values, dict) else None
    return values


def _in(folder: str) -> list[str]:
    """Names of the plug-ins of a folder."""
    return sorted(p.stem for p in (HERE / folder).glob("*.py") if not p.stem.startswith("_"))


@cache
def _files_of(folder: str) -> tuple[str, ...]:
    return tuple(sorted(p.relative_to(HERE).as_posix() for p in (HERE / folder).rglob("*.py")))


@cache
def _imports(file: str) -> set[str]:
    """Files of the package that one of them imports by name."""
    here = Path(file).parts
    found = set()
    for node in ast.walk(ast.parse((HERE / file).read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = [*here[: len(here) - node.level], *(node.module or "").split(".")]
            place = "/".join(part for part in base if part)
            names = [place, *(f"{place}/{alias.name}".lstrip("/") for alias in node.names)]
            for name in names:
                found |= {f for f in (f"{name}.py", f"{name}/__init__.py") if (HERE / f).is_file()}
    return found


@cache
def of_file(file: str) -> str:
    """Digest of a file's text; "" where there is none. Ends of lines are not part of it."""
    path = os.path.join(HERE, file)
    if not os.path.isfile(path):
        return ""
    text = Path(path).read_bytes().replace(b"\r\n", b"\n")
    return hashlib.blake2b(text, digest_size=8).hexdigest()


def _digest(names: Iterable[str]) -> str:
    return files.digest_of({name: of_file(name) for name in names})
