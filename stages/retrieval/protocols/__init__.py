"""By which rules a ranking is scored: one file a protocol, `protocols/x.py` is the protocol `x`
that a ground truth names.

Each file has one `PROTOCOL`: the lists of ids of a query, the difficulties made of them, how they
are scored. Ranks are 0-based positions in the whole database, junk still in it; those of a query
come by list.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...core import plugins
from ...core.errors import UserError
from .. import metrics

Array = np.ndarray
Ranks = dict[str, Array]  # of one query, by list


@dataclass(frozen=True)
class Difficulty:
    """Which lists are right and which are taken out of the ranking before it is scored.

    `average_precision` takes the sorted ranks of a query's positives without junk, and gives 0 to
    1; `scores` takes those of all queries and gives means in percent, `map` among them, or an empty
    map where no query has a positive.
    """

    positive: tuple[str, ...]
    ignored: tuple[str, ...] = ()
    average_precision: Callable[[Array], float] = metrics.average_precision
    scores: Callable[[Sequence[Array]], dict[str, float]] = metrics.scores


@dataclass(frozen=True)
class Protocol:
    """The rules of a benchmark. `name`, that of its file, is given by `load`, which checks them.

    `masked`: what is labelled for other queries only is no candidate of a query.
    """

    lists: tuple[str, ...]  # of ids, that a query has in the ground truth; each may be empty
    difficulties: dict[str, Difficulty]  # easiest first
    main: str  # the difficulty that headlines use
    masked: bool = False
    name: str = ""

    def check(self) -> None:
        """Raises UserError where lists or difficulties do not fit each other."""
        if self.main not in self.difficulties:
            raise UserError(f"protocol {self.name}: no difficulty {self.main!r}, its main one")
        for difficulty, d in self.difficulties.items():
            used = (*d.positive, *d.ignored)
            if not d.positive or len(set(used)) < len(used) or not set(used) <= set(self.lists):
                raise UserError(
                    f"protocol {self.name}: difficulty {difficulty} must name lists of "
                    f"{', '.join(self.lists)}, at least one as positive, and none twice"
                )

    def headline(self, scored: Iterable[str]) -> str:
        """The difficulty that headlines use, of those that were `scored` (at least one)."""
        names = set(scored)
        return self.main if self.main in names else next(d for d in self.difficulties if d in names)

    def positive(self, lists: Ranks) -> Array:
        """What is right at some difficulty, of the rows (or ranks) of a query's lists."""
        names = {n for d in self.difficulties.values() for n in d.positive}
        return _joined([lists[n] for n in self.lists if n in names])

    def junk(self, lists: Ranks) -> Array:
        """What is taken out at every difficulty, of the rows (or ranks) of a query's lists."""
        ignored = [set(d.ignored) for d in self.difficulties.values()]
        return _joined([lists[n] for n in self.lists if all(n in i for i in ignored)])

    def of_difficulty(self, ranks: Sequence[Ranks], difficulty: str) -> list[Array]:
        """Sorted ranks of the positives of each query at one difficulty, junk taken out."""
        d = self.difficulties[difficulty]
        return [
            metrics.without_junk(
                _joined([query[n] for n in d.positive]), _joined([query[n] for n in d.ignored])
            )
            for query in ranks
        ]

    def all_scores(self, ranks: Sequence[Ranks]) -> dict[str, dict[str, float]]:
        """Scores in percent of every difficulty at which a query has a positive."""
        scored = {
            name: d.scores(self.of_difficulty(ranks, name)) for name, d in self.difficulties.items()
        }
        for name, scores in scored.items():
            if above := [k for k, v in scores.items() if not 0 <= v <= 100]:
                raise UserError(
                    f"protocol {self.name}: {above[0]} of {name} is {scores[above[0]]}, "
                    "not between 0 and 100 percent"
                )
        return {name: scores for name, scores in scored.items() if scores}

    def per_query(self, ranks: Sequence[Ranks]) -> dict[str, list[float]]:
        """AP of each query in percent by difficulty; nan where a query has no positive."""
        return {
            name: [
                100 * d.average_precision(r) if len(r) else float("nan")
                for r in self.of_difficulty(ranks, name)
            ]
            for name, d in self.difficulties.items()
        }


def names() -> list[str]:
    """The protocols that there are."""
    return plugins.names(__name__)


def load(name: str) -> Protocol:
    """The protocol `name`. Raises UserError for an unknown one and for one that does not add up."""
    module = plugins.load(__name__, name)
    if not isinstance(getattr(module, "PROTOCOL", None), Protocol):
        raise UserError(f"{module.__file__}: has no PROTOCOL; every protocol has one")
    protocol = replace(module.PROTOCOL, name=name)
    protocol.check()
    return protocol


def in_order(difficulties: Iterable[str]) -> list[str]:
    """Easiest first, as the protocols have them; unknown ones last."""
    known = [d for name in names() for d in load(name).difficulties]
    return sorted(difficulties, key=lambda d: known.index(d) if d in known else len(known))


def _joined(parts: list[Array]) -> Array:
    return np.concatenate([*parts, np.zeros(0, np.int64)])
