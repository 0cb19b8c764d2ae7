"""`params.yaml`, the only home of defaults: one section into one strict, frozen class."""

from pathlib import Path
from typing import Any, TypeVar

import typer
from pydantic import BaseModel, ConfigDict, ValidationError
from ruamel.yaml import YAML, YAMLError

from .errors import UserError
from .plugins import nearest

# The top-level keys of params.yaml; a test holds this list against the file itself.
KEYS = (
    "student", "ensemble", "teachers", "evaluation", "datasets", "prepare", "extract", "whiten",
    "fuse", "train", "describe", "evaluate", "compare",
)  # fmt: skip
S = TypeVar("S", bound=BaseModel)
OLD_MODEL = "old_model"  # in a student's folder and its descriptions: the model it must match
# Names that the pipeline itself gives to models.
RESERVED = (
    "student", "untrained", "ensemble", "fused", "asymmetric", OLD_MODEL, "new_on_old",
)  # fmt: skip


# Keys of 0.1 that have another name now: refused, with the new one.
RENAMED = {
    "pictures": "images", "evaluation_pictures": "evaluation_images",
    "validation_pictures": "validation_images", "trunk_lr_scale": "backbone_lr_scale",
    "licence": "license",
}  # fmt: skip

# The option that every stage takes, so that dvc.yaml need not name it.
OPTION: Path = typer.Option(Path("params.yaml"), "--params", help="The file of parameters.")


class Section(BaseModel):
    """A map of `params.yaml`: every key required, unknown keys refused, types not coerced."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


def read(path: Path) -> dict[str, Any]:
    """All of `params.yaml` (YAML 1.2) as plain maps, lists and numbers; top-level keys checked."""
    try:
        values = YAML(typ="safe").load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; `whiten-mtd preset demo` writes one") from None
    except (YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: not a map of sections")
    lines = [f"{path}: unknown key {k!r}{nearest(str(k), KEYS)}" for k in values if k not in KEYS]
    lines += [f"{path}: missing key {k!r}" for k in KEYS if k not in values]
    if lines:
        raise UserError("\n".join(lines))
    return values


def section(path: Path, name: str, into: type[S]) -> S:
    """The section `name` of `path` as `into`; every error of the section at once."""
    return check(read(path)[name], into, f"{path}: {name}")


def check(values: Any, into: type[S], where: str) -> S:
    """`values` as `into`, or a UserError with one line for each thing that is wrong with them."""
    if not isinstance(values, dict):
        raise UserError(f"{where}: expected a map of settings, found {values!r}")
    try:
        return into.model_validate(values)
    except ValidationError as error:
        lines: dict[str, list[str]] = {}  # of the types that one value may have, one line
        for e in error.errors():
            key = _key(e, values)
            lines.setdefault(f"{where}.{key}" if key else where, []).append(_message(e, into))
        raise UserError("\n".join(f"{k}: {' or '.join(m)}" for k, m in lines.items())) from None


def teachers(values: dict[str, Any], path: Path) -> dict[str, dict[str, Any]]:
    """The map `teachers`, its names and the list `ensemble` checked."""
    table, ensemble = values["teachers"], values["ensemble"]
    lines = []
    if not isinstance(table, dict) or not table:
        raise UserError(f"{path}: teachers: expected a map of at least one name -> settings")
    names = ensemble if isinstance(ensemble, list) else []
    if not names or len({str(n) for n in names}) < len(names):
        raise UserError(f"{path}: ensemble: expected a list of different teacher names")
    for name, settings in table.items():
        if name in RESERVED or not str(name).isidentifier():
            lines.append(
                f"{path}: teachers.{name}: a name has letters, digits and _, and is none of "
                f"{', '.join(RESERVED)}"
            )
        if not isinstance(settings, dict) or not isinstance(settings.get("kind"), str):
            lines.append(f"{path}: teachers.{name}: expected a map of settings with a kind")
    lines += [
        f"{path}: ensemble: no teacher {name!r}{nearest(str(name), map(str, table))}: "
        f"choose from {', '.join(map(str, table))}"
        for name in names
        if not isinstance(name, str) or name not in table
    ]
    if lines:
        raise UserError("\n".join(lines))
    return table


def teacher(path: Path, name: str) -> dict[str, Any]:
    """The settings of one teacher. Raises UserError naming the teachers there are."""
    table = teachers(read(path), path)
    if name not in table:
        raise UserError(
            f"{path}: no teacher {name!r}{nearest(name, table)}: choose from {', '.join(table)}"
        )
    return table[name]


def _key(error: Any, values: Any) -> str:
    """Dotted place of an error, without the type that pydantic tried there."""
    if error["type"] == "missing":
        return ".".join(str(part) for part in error["loc"])
    found = []
    for part in error["loc"]:
        if not isinstance(values, dict | list) or (isinstance(values, dict) and part not in values):
            break
        values = values[part]
        found.append(str(part))
    return ".".join(found)


def _message(error: Any, into: type[BaseModel]) -> str:
    if error["type"] == "extra_forbidden":
        key = str(error["loc"][-1])
        if RENAMED.get(key) in into.model_fields:
            return f"is now called {RENAMED[key]!r} (CHANGELOG.md)"
        return f"unknown key{nearest(key, into.model_fields)}"
    if error["type"] == "missing":
        return "missing"
    return f"{error['msg'].removeprefix('Value error, ')}, found {error['input']!r}"
