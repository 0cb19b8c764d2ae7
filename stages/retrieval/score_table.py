"""Scores by model as labelled rows, and as a table for a terminal."""

from collections.abc import Iterable
from typing import Any

from ..core import console
from ..core.errors import UserError

OLD_ROWS = {"fused": "ensemble", "earlier": "old_model", "compatible": "new_on_old"}


def renamed(table: dict[str, Any], where: str = "") -> dict[str, Any]:
    """`{set: {model: x}}` of a run of 0.1 under the names of today, with a line on `where`."""
    if all("ensemble" in models or "fused" not in models for models in table.values()):
        return table
    if where:
        console.say(f"{where}: of an old run, whose row `fused` is `ensemble` today")
    return {s: {OLD_ROWS.get(m, m): x for m, x in of.items()} for s, of in table.items()}


def checked(table: Any, where: str) -> dict[str, Any]:
    """Scores as `evaluate` writes them: every set has a student, every number is 0 to 100.

    Raises UserError that names the place of what is something else.
    """
    for name, models in _items(table, where):
        if not isinstance(models, dict) or "student" not in models:
            raise UserError(f"{where}: {name}: no scores of a student; evaluate again")
        for label, of_model in _items(models, f"{where}: {name}"):
            parts = ("raw", "whitened")
            teacher = isinstance(of_model, dict) and "raw" in of_model
            for part in parts if teacher else ("",):
                own = of_model.get(part) if part else of_model
                _check_scores(own, f"{where}: {name}, {label} {part}".rstrip())
    return dict(table)


def _check_scores(scores: Any, where: str) -> None:
    """Raise UserError unless `scores` are numbers of 0 to 100 by difficulty, mAP among them."""
    for difficulty, numbers in _items(scores, where):
        for name, value in _items(numbers, f"{where}, {difficulty}"):
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not 0 <= value <= 100:
                raise UserError(
                    f"{where}, {difficulty}: {name} is {value!r}, not 0 to 100 percent; evaluate "
                    "again"
                )
        if "map" not in numbers:
            raise UserError(f"{where}, {difficulty}: no map; evaluate again")


def _items(values: Any, where: str) -> Iterable[tuple[str, Any]]:
    if not isinstance(values, dict):
        raise UserError(f"{where}: {str(values)[:40]!r} is no map; evaluate again")
    return values.items()


def checked_models(models: Any, table: dict[str, Any], where: str) -> dict[str, Any]:
    """What `evaluate` says of each model of each set: a map with its dimensions at least."""
    for name in table:
        known: Any = dict(_items(models, where)).get(name)
        for label, about in _items(known, f"{where}: {name}"):
            dim = dict(_items(about, f"{where}: {name}, {label}")).get("dim")
            if type(dim) is not int or dim < 1:
                raise UserError(f"{where}: {name}, {label}: dim is {dim!r}; evaluate again")
        if "student" not in known:
            raise UserError(f"{where}: {name}: nothing on the student; evaluate again")
    return dict(models)


def flat(by_model: dict[str, Any]) -> dict[str, Any]:
    """`{model: x}` and `{teacher: {raw: x, whitened: y}}` as one map by readable label."""
    return {
        label: value
        for model, entry in by_model.items()
        for label, value in (
            {f"{model} {k}": v for k, v in entry.items()}.items()
            if isinstance(entry, dict) and "raw" in entry
            else [(model, entry)]
        )
    }


def headline(table: dict[str, Any]) -> str:
    """The student's mAP in a line for each set."""
    from . import protocols

    lines = []
    for name, models in table.items():
        scores = models["student"]
        cells = (f"{scores[c]['map']:.1f} {c}" for c in protocols.in_order(scores))
        lines.append(f"{name}: student {', '.join(cells)} (mAP in percent)")
    return "\n".join([*lines, "every model: whiten-mtd results"])


def as_text(table: dict[str, Any]) -> str:
    """mAP of every model as a table for a terminal."""
    from . import protocols  # only what prints a table depends on the protocols

    lines = []
    for name, models in table.items():
        columns = protocols.in_order(models["student"])
        lines.append(
            f"{console.clean(name) + ', mAP in percent':30}" + "".join(f"{c:>9}" for c in columns)
        )
        for label, s in flat(models).items():
            cells = (f"{s[c]['map']:9.1f}" if c in s else f"{'-':>9}" for c in columns)
            lines.append(f"  {console.clean(label):28}" + "".join(cells))
    return "\n".join(lines)
