"""Which database images answer which query, checked once when it is read."""

from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from ..core.errors import UserError

# The lists of ids that a query has in each protocol; `negative` and `junk` may be empty.
ANSWERS = {
    "revisitop": ("easy", "hard", "junk"),
    "positives": ("positive", "junk"),
    "svd": ("positive", "negative"),
}


@dataclass(frozen=True)
class Query:
    """One question and what is right: rows of the database by kind of answer."""

    image_id: str
    answers: dict[str, np.ndarray]


@dataclass(frozen=True)
class GroundTruth:
    """Which database images answer which query (`<set>.json`), as rows of the database."""

    protocol: str
    queries: tuple[Query, ...]

    @classmethod
    def parse(cls, values: Any, database: np.ndarray, where: str) -> "GroundTruth":
        """Resolve a ground-truth map against the ids of the `database`, in its order.

        Raises UserError for an unknown protocol, a missing list, an id that is not there or that is
        two kinds of answer, and a query that is there twice.
        """
        protocol = values.get("protocol") if isinstance(values, dict) else None
        if protocol not in ANSWERS or not isinstance(values.get("queries"), list):
            raise UserError(f"{where}: no ground truth with a protocol of {', '.join(ANSWERS)}")
        row = {str(image): i for i, image in enumerate(database)}
        queries = tuple(_query(q, protocol, row, where) for q in values["queries"])
        seen: set[str] = set()
        for name in (q.image_id for q in queries):
            if name in seen:
                raise UserError(f"{where}: query {name} is there twice")
            seen.add(name)
        return cls(protocol, queries)


def _query(values: dict[str, Any], protocol: str, row: dict[str, int], where: str) -> Query:
    if not isinstance(values, dict) or "image_id" not in values:
        raise UserError(f"{where}: a query has no image_id")
    name, answers = str(values["image_id"]), {}
    for kind in ANSWERS[protocol]:
        ids = values.get(kind)
        if not isinstance(ids, list):
            raise UserError(f"{where}: query {name} has no list {kind!r}")
        if missing := [str(i) for i in ids if str(i) not in row]:
            raise UserError(
                f"{where}: query {name}: {len(missing)} ids of {kind!r} are not in the database, "
                f"the first: {missing[0]}"
            )
        answers[kind] = np.array(sorted({row[str(i)] for i in ids}), dtype=np.int64)
    for one, other in combinations(answers, 2):
        if both := {str(i) for i in values[one]} & {str(i) for i in values[other]}:
            raise UserError(
                f"{where}: query {name}: {min(both)} is in {one!r} and in {other!r}; one is wrong"
            )
    return Query(name, answers)
