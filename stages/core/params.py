"""`params.yaml`, the only home of defaults: read once a process, each part into a strict class."""

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import typer
from pydantic import BaseModel, ConfigDict, ValidationError
from ruamel.yaml import YAML, YAMLError

from . import plugins
from .errors import UserError
from .plugins import nearest

# The top-level keys of params.yaml; a test holds this list against the file itself.
KEYS = (
    "student", "ensemble", "teachers", "evaluation", "datasets", "prepare", "extract", "whiten",
    "fuse", "train", "describe", "evaluate", "compare",
)  # fmt: skip
S = TypeVar("S", bound=BaseModel)
# Students inside a student's folder, and in its descriptions:
MOST_VALUES = 100_000  # in a file; a few lines of aliases can stand for billions
OLD_MODEL = "old_model"  # the model that it must match
TRAINED = "trained"  # what training made, where another one is shipped
# Names that the pipeline itself gives to models.
RESERVED = (
    "student", "untrained", "ensemble", "fused", "asymmetric", OLD_MODEL, "new_on_old", TRAINED,
)  # fmt: skip
PACKAGE = __package__.rsplit(".", 1)[0]


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


class Teacher(Section):
    """What each entry of `teachers` has; every kind adds its own settings."""

    kind: str  # a file of stages/teachers
    image_px: int  # side of a training view, long side of a whole image
    license: str | None = None  # of the weights, for the student's card


class EvaluationEntry(Section):
    """One entry of `evaluation`: which dataset provides the set, and what it is searched among."""

    dataset: str
    distractors: str | None = None  # another set, without queries, joined to the database


Given = dict[str, Any] | Teacher  # settings of a teacher: its map as it is written, or typed


class TrainingSet(Section):
    """Of section `prepare`, what other commands look at."""

    dataset: str


@dataclass(frozen=True)
class Parameters:
    """One file of parameters. Its names are checked; each section is typed by who uses it."""

    path: Path
    student: str  # an alias or a timm name
    ensemble: list[str]
    kinds: dict[str, str]  # of each teacher
    evaluation: dict[str, EvaluationEntry]
    values: dict[str, Any]  # all of it as it is written, to compare files and to look names up

    def section(self, name: str, into: type[S]) -> S:
        """The section `name` as `into`; every error of the section at once."""
        return check(self.values[name], into, self.place(name))

    def part(self, name: str, into: type[S]) -> S:
        """Of the section `name` only what `into` knows; another command needs the rest."""
        values = self.values[name]
        if isinstance(values, dict):
            values = {key: values[key] for key in into.model_fields if key in values}
        return check(values, into, self.place(name))

    @property
    def training_set(self) -> str:
        """The dataset to train on."""
        return self.part("prepare", TrainingSet).dataset

    def kind(self, teacher: str) -> str:
        """The kind of a teacher. Raises UserError naming the teachers there are."""
        if teacher not in self.kinds:
            raise UserError(f"{self.path}: no teacher {_choice(teacher, self.kinds)}")
        return self.kinds[teacher]

    def teacher(self, name: str) -> Teacher:
        """The settings of one teacher, in the class of its kind (which imports the kind)."""
        kind, where = self.kind(name), self.place(f"teachers.{name}")
        try:
            module = plugins.load(f"{PACKAGE}.teachers", kind)
        except UserError as error:
            raise UserError(f"{where}: {error}") from None
        return check(self.values["teachers"][name], module.Settings, where)

    def dataset(self, name: str) -> Section:
        """The settings of one dataset, in its own class."""
        where = self.place(f"datasets.{name}")
        try:
            module = plugins.load(f"{PACKAGE}.datasets", name)
        except UserError as error:
            raise UserError(f"{where}: {error}") from None
        if name not in self.values["datasets"]:
            raise UserError(f"{where}: missing; its settings are needed")
        return check(self.values["datasets"][name], module.Settings, where)

    def place(self, key: str) -> str:
        """`file: key`, as messages name a place."""
        return f"{self.path}: {key}"


def read(path: Path) -> Parameters:
    """A file of parameters, its top-level keys and all names in it checked."""
    try:
        text = Path(path).read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; `whiten-mtd preset demo` writes one") from None
    return of(parse(text, str(path)), Path(path))


def parse(text: bytes, where: str) -> dict[str, Any]:
    """YAML 1.2 as plain maps, lists and finite numbers."""
    try:
        values = YAML(typ="safe").load(text.decode("utf-8"))
        inside = list(islice(_inside(values), MOST_VALUES + 1))
    except (YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{where}: not YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise UserError(f"{where}: nested too deep, or an alias within what it names") from None
    if len(inside) > MOST_VALUES:
        raise UserError(f"{where}: more than {MOST_VALUES} values; aliases of aliases?")
    if not isinstance(values, dict):
        raise UserError(f"{where}: not a map of sections")
    if lines := [
        f"{where}: {key}: {number} is not allowed; write a finite number"
        for key, number in inside
        if isinstance(number, float) and not math.isfinite(number)
    ]:
        raise UserError(*lines)
    return values


def of(values: dict[str, Any], path: Path) -> Parameters:
    """Plain `values` as parameters; a UserError has a line for each thing that is wrong."""
    lines = [f"{path}: unknown key {k!r}{nearest(str(k), KEYS)}" for k in values if k not in KEYS]
    lines += [f"{path}: missing key {k!r}" for k in KEYS if k not in values]
    if lines:
        raise UserError(*lines)
    student, datasets = values["student"], values["datasets"]
    lines += [*_wrong_teachers(values, path), *_wrong_sets(values["evaluation"], path)]
    if not isinstance(student, str):
        lines.append(f"{path}: student: expected a timm name or an alias, found {student!r}")
    if not isinstance(datasets, dict):
        lines.append(f"{path}: datasets: expected a map, found {datasets!r}; {{}} is none")
    if lines:
        raise UserError(*lines)
    return Parameters(
        path, student, list(values["ensemble"]),
        {name: entry["kind"] for name, entry in values["teachers"].items()},
        {str(n): EvaluationEntry.model_validate(e) for n, e in values["evaluation"].items()},
        values,
    )  # fmt: skip


def check(values: Any, into: type[S], where: str) -> S:
    """`values`, a map or typed already, as `into`; a UserError has one line for each mistake."""
    if isinstance(values, into):
        return values
    if not isinstance(values, dict):
        raise UserError(f"{where}: expected a map of settings, found {values!r}")
    try:
        return into.model_validate(values)
    except ValidationError as error:
        lines: dict[str, list[str]] = {}  # of the types that one value may have, one line
        for e in error.errors():
            key = _key(e, values)
            lines.setdefault(f"{where}.{key}" if key else where, []).append(_message(e, into))
        raise UserError(*(f"{k}: {' or '.join(m)}" for k, m in lines.items())) from None


def _wrong_teachers(values: dict[str, Any], path: Path) -> Iterator[str]:
    """A line for each wrong name in the map `teachers` and the list `ensemble`."""
    table, ensemble = values["teachers"], values["ensemble"]
    if not isinstance(table, dict) or not table:
        yield f"{path}: teachers: expected a map of at least one name -> settings"
        return
    names = ensemble if isinstance(ensemble, list) else []
    if not names or len({str(n) for n in names}) < len(names):
        yield f"{path}: ensemble: expected a list of different teacher names"
        return
    for name, settings in table.items():
        if name in RESERVED or not str(name).isidentifier():
            yield (
                f"{path}: teachers.{name}: a name has letters, digits and _, and is none of "
                f"{', '.join(RESERVED)}"
            )
        if not isinstance(settings, dict) or not isinstance(settings.get("kind"), str):
            yield f"{path}: teachers.{name}: expected a map of settings with a kind"
    for name in names:
        if not isinstance(name, str) or name not in table:
            yield f"{path}: ensemble: no teacher {_choice(name, map(str, table))}"


def _wrong_sets(table: Any, path: Path) -> Iterator[str]:
    """A line for each mistake in the map `evaluation`."""
    if not isinstance(table, dict):
        yield f"{path}: evaluation: expected a map, found {table!r}; {{}} is none"
        return
    for name, entry in table.items():
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", str(name)):
            yield f"{path}: evaluation: {name!r} cannot name a file; letters, digits, _.-"
        try:
            other = check(entry, EvaluationEntry, f"{path}: evaluation.{name}").distractors
        except UserError as error:
            yield str(error)
            continue
        if other is not None and other not in table:
            yield (
                f"{path}: evaluation.{name}.distractors: no set {other!r}"
                f"{nearest(other, map(str, table))}; list it under evaluation too"
            )


def _choice(name: Any, known: Any) -> str:
    names = list(known)
    return f"{name!r}{nearest(str(name), names)}: choose from {', '.join(names)}"


def _inside(values: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted key, value) of everything anywhere in `values`."""
    yield key, values
    if isinstance(values, list):
        values = dict(enumerate(values))
    for name, value in values.items() if isinstance(values, dict) else ():
        yield from _inside(value, f"{key}.{name}" if key else str(name))


def _is_place(part: Any, values: Any) -> bool:
    return isinstance(values, list) and isinstance(part, int) and part < len(values)


def _key(error: Any, values: Any) -> str:
    """Dotted place of an error, without the type that pydantic tried there."""
    if error["type"] == "missing":
        return ".".join(str(part) for part in error["loc"])
    place = []
    for part in error["loc"]:
        if not (part in values if isinstance(values, dict) else _is_place(part, values)):
            break
        values = values[part]
        place.append(str(part))
    return ".".join(place)


def _message(error: Any, into: type[BaseModel]) -> str:
    if error["type"] == "extra_forbidden":
        key = str(error["loc"][-1])
        if RENAMED.get(key) in into.model_fields:
            return f"is now called {RENAMED[key]!r} (CHANGELOG.md)"
        return f"unknown key{nearest(key, into.model_fields)}"
    if error["type"] == "missing":
        return "missing"
    return f"{error['msg'].removeprefix('Value error, ')}, found {error['input']!r}"
