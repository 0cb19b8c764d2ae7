"""Under which rules a score was made, so that numbers of different rules are not set side by side.

`evaluate` stores them with the scores; `results`, `score` and `compare` print and check them.
"""

from collections.abc import Iterable
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core import files
from ..core.errors import UserError
from .score_table import renamed

if TYPE_CHECKING:  # describe asks for the crop alone, and must not depend on protocols
    from ..images.sets import EvaluationSet
    from .ground_truth import GroundTruth

Map = dict[str, Any]
FILE, OLD_FILE = "scoring_rules.json", "protocol.json"  # of a folder of results; OLD_FILE: 0.1
UNKNOWN = "unknown"  # of descriptors of another origin, which need not say


@dataclass(frozen=True)
class ScoringRules:
    """The rules of one score; equal ones may be compared."""

    rules: str  # the protocol; of videos also their similarity, after a comma
    crop: str  # of a query's image: cut to boxes, or whole
    image_px: str  # long side that images were described at, at most
    scales: str  # of an image, whose descriptors were summed
    whitening: str  # none, or what it was fitted on
    dtype: str  # of the stored descriptors
    ground_truth: str  # digest of the lists of ids
    database: int  # images searched, the distractors among them
    distractors: int
    ties: str = "the database's order"

    @property
    def protocol(self) -> str:
        """The name of the protocol."""
        return self.rules.partition(",")[0]

    @property
    def digest(self) -> str:
        """Twelve letters that are the same for the same rules."""
        return files.digest_of(asdict(self))[:12]

    def text(self) -> str:
        """The rules for people: what the set decides, then what the descriptors do."""
        return f"{self.of_set()}; {self.of_model()}"

    def of_set(self) -> str:
        """What is the same for all models of a set."""
        return (
            f"{self.rules}, queries {self.crop}, {self.database} images searched "
            f"({self.distractors} distractors), ground truth {self.ground_truth[:8]}, "
            f"ties by {self.ties}"
        )

    def of_model(self) -> str:
        """What may differ from model to model, and the digest of all."""
        whitened = "not whitened" if self.whitening == "none" else self.whitening
        return (
            f"at most {self.image_px} px, scales {self.scales}, {whitened}, {self.dtype} "
            f"[{self.digest}]"
        )


FIELDS = fields(ScoringRules)


def of_descriptors(about: Map, dtype: Any) -> Map:
    """The fields that a descriptor file's attributes and type decide; whitening none."""
    px = about.get("image_px", UNKNOWN)
    return {
        "image_px": str(px), "scales": str(about.get("scales", UNKNOWN)),
        "whitening": str(about.get("whitening", "none")), "dtype": str(np.dtype(dtype)),
    }  # fmt: skip


def rules_of(truth: "GroundTruth", similarity: str | None) -> str:
    """The field `rules`. `similarity`: of videos, how they are compared; None of images."""
    name = truth.protocol.name
    return name if similarity is None else f"{name}, {similarity}"


def crop_of(images: "EvaluationSet", query: np.ndarray) -> str:
    """How the queries, rows `query`, are cut: all of them to a box, some, or whole images."""
    boxed = ~np.isnan(images.box[query]).any(1)
    if not boxed.any():
        return "whole"
    return "cut to boxes" if boxed.all() else "some cut to boxes"


def digest_of_truth(truth: "GroundTruth", database: np.ndarray) -> str:
    """Digest of the lists by id, whatever file they came from. `database`: ids by row."""
    queries = [
        [q.image_id, {k: sorted(database[rows].tolist()) for k, rows in q.lists.items()}]
        for q in truth.queries
    ]
    return files.digest_of([truth.protocol.name, queries])


def as_map(rules: dict[str, dict[str, ScoringRules]]) -> Map:
    """{set: {model: rules}} as JSON holds it."""
    return {s: {m: asdict(r) for m, r in models.items()} for s, models in rules.items()}


def from_map(values: Any, where: str) -> ScoringRules:
    """The rules of one score from JSON. Raises UserError where they are none of ours."""
    kinds = {f.name: int if f.name in ("database", "distractors") else str for f in FIELDS}
    needed = {f.name for f in FIELDS if f.default is MISSING}
    if (
        not isinstance(values, dict)
        or not needed <= set(values) <= set(kinds)
        or any(type(value) is not kinds[name] for name, value in values.items())
    ):
        raise UserError(f"{where}: holds no scoring rules of ours; score again")
    return ScoringRules(**values)


def read(results: Path) -> dict[str, dict[str, ScoringRules]]:
    """{set: {model: rules}} of a folder of results that `evaluate` wrote."""
    old = results / OLD_FILE
    path = old if old.is_file() and not (results / FILE).is_file() else results / FILE
    return parse(files.read_json(path), str(path))


def parse(values: Any, where: str) -> dict[str, dict[str, ScoringRules]]:
    """{set: {model: rules}} of JSON, rows of old runs under the names of today."""
    if not isinstance(values, dict) or not all(isinstance(m, dict) for m in values.values()):
        raise UserError(f"{where}: holds no scoring rules; evaluate again")
    return {
        s: {m: from_map(r, f"{where}: {s}, {m}") for m, r in models.items()}
        for s, models in renamed(values).items()
    }


def differences(here: ScoringRules, there: ScoringRules) -> list[str]:
    """`field: this here, that there` of every field that differs."""
    a, b = asdict(here), asdict(there)
    return [f"{k}: {a[k]} here, {b[k]} there" for k in a if a[k] != b[k]]


def warning(label: str, here: ScoringRules, there: ScoringRules) -> str | None:
    """A line that says why two scores must not be compared; None where they may."""
    if not (fields := differences(here, there)):
        return None
    return (
        f"warning: {label}: made by different scoring rules, do not compare these scores "
        f"({'; '.join(fields)})"
    )


def lines(name: str, models: dict[str, ScoringRules]) -> list[str]:
    """The scoring rules of a set's models for people, models of the same rules in one line."""
    by_set: dict[str, dict[str, list[str]]] = {}
    for model, rules in models.items():
        by_set.setdefault(rules.of_set(), {}).setdefault(rules.of_model(), []).append(model)
    return [
        line
        for of_set, own in by_set.items()
        for line in (f"{name}: {of_set}", *(f"  {', '.join(m)}: {of}" for of, m in own.items()))
    ]


def merged(values: Iterable[str]) -> str:
    """One text of the different ones, for a score that several descriptor files make."""
    return " and ".join(dict.fromkeys(values))
