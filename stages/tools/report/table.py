"""Teachers against student, one row per model: its scores and the cost of describing an image."""

import importlib.util
from typing import Any

import numpy as np

from ...core import files
from ...retrieval import metrics, score_table
from . import latency
from .runs import Run

Known = dict[str, dict[str, float]]  # digest of a spec -> ms, parameters


def timed(runs: list[Run], speed: bool) -> Known:
    """What each network costs on this machine; what was not yet timed is timed if `speed`."""
    specs = [s for r in runs for d in r.metrics for m in r.models[d] if (s := r.spec(d, m))]
    if speed and importlib.util.find_spec("torch"):
        return latency.measured(specs)
    return latency.known(specs)


def table(run: Run, data: str, costs: Known) -> list[dict[str, Any]]:
    """One row per model: scores, interval of the main mAP, and the cost of an image."""
    difficulty = run.main_difficulty(data)
    rows = []
    order = ["student", "trained", "asymmetric", "new_on_old", "old_model", "untrained"]
    order += [*run.params["teachers"], "ensemble", "fused"]
    shown = {m: run.metrics[data][m] for m in order if m in run.metrics[data]}
    for label, scores in score_table.flat(shown).items():
        aps = np.array([*run.queries.get((data, label, difficulty), {}).values()])
        rows.append(
            {
                "label": label, "scores": scores, "role": role(label),
                "interval": metrics.bootstrap(aps) if len(aps) else None,
                **cost(run, data, label, costs),
            }
        )  # fmt: skip
    return rows


def role(label: str) -> str:
    """How a model is drawn in the trade-off plot; empty: not at all."""
    name, _, state = label.rpartition(" ")
    if name:
        return "teacher" if state == "whitened" else ""
    return label if label in ("student", "untrained", "ensemble") else ""


def cost(run: Run, data: str, label: str, costs: Known) -> dict[str, Any]:
    """ms, parameters (millions), bytes and dim of a model's description of one image."""
    name, _, state = label.rpartition(" ")
    if label in ("ensemble", "fused"):
        parts = [cost(run, data, f"{t} whitened", costs) for t in run.params["ensemble"]]
        total = {
            k: sum(p[k] for p in parts) if all(p[k] for p in parts) else None
            for k in ("ms", "parameters", "dim")
        }
        if label == "fused":
            total["dim"] = int(run.config["dim"])
        return {**total, "bytes": 2 * (total["dim"] or 0), "px": None}
    model = name or ("student" if label in ("asymmetric", "new_on_old") else label)
    about = run.models[data][model]
    spec = run.spec(data, model)
    measured = costs.get(files.digest_of(spec), {}) if spec else {}
    dim = int(about["dim"])
    if state == "whitened" and name:
        dim = whitened_dim(run, data, name, dim)
    elif label == "asymmetric":
        dim = int(run.config["dim"])
    count = measured.get("parameters")
    return {
        "ms": measured.get("ms"), "parameters": count / 1e6 if count else None, "dim": dim,
        "bytes": 2 * dim, "px": about.get("image_px"),
    }  # fmt: skip


def whitened_dim(run: Run, data: str, teacher: str, own: int) -> int:
    """Dimensions of a teacher after whitening; `own`: before."""
    if (dim := run.models[data][teacher].get("whitened_dim")) is not None:
        return int(dim)
    p = run.params["whiten"]  # of an earlier version: never auto
    if p["method"] == "none":
        return own
    return int(p["dim"][teacher] if isinstance(p["dim"], dict) else p["dim"])
