"""Scores by model as labelled rows, and as a table for a terminal."""

from typing import Any

from .metrics import DIFFICULTIES


def flat(found: dict[str, Any]) -> dict[str, Any]:
    """`{model: x}` and `{teacher: {raw: x, whitened: y}}` as one map by readable label."""
    return {
        label: value
        for model, entry in found.items()
        for label, value in (
            {f"{model} {k}": v for k, v in entry.items()}.items()
            if isinstance(entry, dict) and "raw" in entry
            else [(model, entry)]
        )
    }


def as_text(table: dict[str, Any]) -> str:
    """mAP of every model as a table for a terminal."""
    lines = []
    for name, models in table.items():
        columns = [d for p in DIFFICULTIES.values() for d in p if d in models["student"]]
        lines.append(f"{name + ', mAP in percent':30}" + "".join(f"{c:>9}" for c in columns))
        for label, s in flat(models).items():
            cells = (f"{s[c]['map']:9.1f}" if c in s else f"{'-':>9}" for c in columns)
            lines.append(f"  {label:28}" + "".join(cells))
    return "\n".join(lines)
