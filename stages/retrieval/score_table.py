"""Scores by model as labelled rows, and as a table for a terminal."""

from typing import Any

from ..core import console

OLD_ROWS = {"fused": "ensemble", "earlier": "old_model", "compatible": "new_on_old"}


def renamed(table: dict[str, Any], where: str = "") -> dict[str, Any]:
    """`{set: {model: x}}` of a run of 0.1 under the names of today, with a line on `where`."""
    if all("ensemble" in models or "fused" not in models for models in table.values()):
        return table
    if where:
        console.say(f"{where}: of an old run, whose row `fused` is `ensemble` today")
    return {s: {OLD_ROWS.get(m, m): x for m, x in of.items()} for s, of in table.items()}


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
