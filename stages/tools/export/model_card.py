"""The model card of an exported student, from the files of its run."""

import platform
from pathlib import Path
from typing import Any

from ...core import files
from ...core.errors import UserError
from ...core.params import Parameters, Teacher
from ...images.sets import TrainSet
from ...retrieval import score_table
from .. import pages


def card(
    folder: Path, about: dict[str, Any], speed: dict[str, Any], given: Parameters, busy: str
) -> str:
    """Origin of the student, its scores with their protocol, bytes, speed, licenses.

    Only from the files of the run beside `given.path`, and scores only where they are of exactly
    these weights. `busy`: what the milliseconds are worth where the machine had other work.
    """
    base = given.path.parent
    config = files.read_json(folder / "config.json")
    return pages.render(
        "card.md", about=about, config=config, speed=speed,
        teachers=[_teacher(n, given.teacher(n)) for n in given.ensemble],
        images=_images(base / "data/prepared/train.h5"), dataset=given.training_set,
        scores=_scores(base, about["weights"]), machine=_machine(), busy=busy,
        files=[(f.name, f.stat().st_size) for f in sorted(folder.iterdir())],
    )  # fmt: skip


def _teacher(name: str, settings: Teacher) -> dict[str, str]:
    return {
        "name": name, "kind": settings.kind, "model": getattr(settings, "model", ""),
        "license": settings.license or f"not stated in teachers.{name}",
    }  # fmt: skip


def _images(train: Path) -> dict[str, int] | None:
    """How many images and groups it was trained on; None where the list is missing."""
    try:
        views = TrainSet.read(train)
    except UserError:
        return None
    return {
        "images": len(views.image_id), "views": len(views.view_image),
        "groups": len(set(views.group[views.group >= 0].tolist())),
    }  # fmt: skip


def _scores(base: Path, weights: str) -> list[dict[str, Any]]:
    """Rows of set, protocol, difficulty and mAP of these weights, and of the untrained student."""
    results = base / "data/results"
    try:
        metrics, models = (
            files.read_json(results / f"{n}.json") for n in ("metrics", "models")
        )  # fmt: skip
        metrics = score_table.checked(metrics, str(results / "metrics.json"))
        models = score_table.checked_models(models, metrics, str(results / "models.json"))
    except UserError:
        return []
    rows = []
    for name, scores in metrics.items():
        student = models.get(name, {}).get("student", {})
        if student.get("weights") != weights:
            continue
        query_set = name.partition("+")[0]  # a+b: set a among the distractors b
        truth = files.read_json(base / f"data/prepared/evaluation/{query_set}.json")
        for level, own in scores["student"].items():
            untrained = scores["untrained"].get(level, {})
            rows.append({
                "set": name, "protocol": truth["protocol"], "level": level, "map": own["map"],
                "recall": own.get("recall@1"), "untrained": untrained.get("map"),
                "queries": len(truth["queries"]), "scales": student.get("scales", "1"),
            })  # fmt: skip
    return rows


def _machine() -> str:
    name = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
        names = [ln.split(":", 1)[1].strip() for ln in lines if ln.startswith("model name")]
        return f"{names[0]}, {len(names)} cores" if names else name
    except OSError:
        return name
