"""Which database images are right for which query, checked once when it is read."""

from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from ..core.errors import UserError
from . import protocols
from .protocols import Protocol


@dataclass(frozen=True)
class Query:
    """A query and its ground truth: rows of the database by list of the protocol."""

    image_id: str
    lists: dict[str, np.ndarray]


@dataclass(frozen=True)
class GroundTruth:
    """The ground truth of a set (`<set>.json`), as rows of the database."""

    protocol: Protocol
    queries: tuple[Query, ...]

    @classmethod
    def parse(cls, values: Any, database: np.ndarray, where: str) -> "GroundTruth":
        """Resolve a ground-truth map against the ids of the `database`, in its order.

        Raises UserError for an unknown protocol, a missing list, an id that is no text or number,
        that is not in the database or in two lists of a query, a query that is listed twice, and
        one that is right for itself.
        """
        name = values.get("protocol") if isinstance(values, dict) else None
        if (
            not isinstance(name, str)
            or name not in protocols.names()
            or not isinstance(values.get("queries"), list)
        ):
            raise UserError(
                f"{where}: not a ground truth: expected a map with a list of queries and a "
                f"protocol, one of {', '.join(protocols.names())}"
            )
        protocol = protocols.load(name)
        row = {str(image): i for i, image in enumerate(database)}
        queries = tuple(_query(q, protocol, row, where) for q in values["queries"])
        seen: set[str] = set()
        for image_id in (q.image_id for q in queries):
            if image_id in seen:
                raise UserError(f"{where}: query {image_id} is listed twice; remove one")
            seen.add(image_id)
        return cls(protocol, queries)

    @property
    def lists(self) -> list[dict[str, np.ndarray]]:
        """Of each query: rows of the database by list."""
        return [q.lists for q in self.queries]

    @property
    def positives(self) -> list[np.ndarray]:
        """Of each query: rows that are right at some difficulty."""
        return [self.protocol.positive(q.lists) for q in self.queries]

    @property
    def junk(self) -> list[np.ndarray]:
        """Of each query: rows that never count."""
        return [self.protocol.junk(q.lists) for q in self.queries]


def _query(values: dict[str, Any], protocol: Protocol, row: dict[str, int], where: str) -> Query:
    if not isinstance(values, dict) or "image_id" not in values:
        raise UserError(f"{where}: a query has no image_id")
    image_id, lists = str(values["image_id"]), {}
    _refuse_odd_id(values["image_id"], f"{where}: the id of a query")
    for name in protocol.lists:
        ids = values.get(name)
        if not isinstance(ids, list):
            raise UserError(f"{where}: query {image_id} has no list {name!r}")
        for one in ids:
            _refuse_odd_id(one, f"{where}: query {image_id}: an id of {name!r}")
        if missing := [str(i) for i in ids if str(i) not in row]:
            raise UserError(
                f"{where}: query {image_id}: {len(missing)} ids of {name!r} are not in the "
                f"database, the first: {missing[0]}"
            )
        lists[name] = np.array(sorted({row[str(i)] for i in ids}), dtype=np.int64)
    for one, other in combinations(lists, 2):
        if both := {str(i) for i in values[one]} & {str(i) for i in values[other]}:
            raise UserError(
                f"{where}: query {image_id}: {min(both)} is in {one!r} and in {other!r}; "
                "keep it in one of them"
            )
    if any(str(i) == image_id for i in values_of_positives(values, protocol)):
        raise UserError(
            f"{where}: query {image_id} is among its own positives, and would find itself; list it "
            "as junk, or leave it out"
        )
    return Query(image_id, lists)


def values_of_positives(values: dict[str, Any], protocol: Protocol) -> list[Any]:
    """The ids that are right for a query at some difficulty."""
    names = {n for d in protocol.difficulties.values() for n in d.positive}
    return [i for name in sorted(names) for i in values[name]]


def _refuse_odd_id(value: Any, where: str) -> None:
    """Raise UserError unless an id is a text or a whole number."""
    if not isinstance(value, str | int) or isinstance(value, bool):
        raise UserError(f"{where} is {str(value)[:40]!r}; an id is a text or a whole number")
