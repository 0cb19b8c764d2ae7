"""What the offline method costs and saves, as formulas: teacher passes, stored bytes.

T teachers, m stored views, batches of B pairs, D dimensions of a whitened teacher; float16.
"""

from dataclasses import dataclass

HALF = 2  # bytes of a float16


@dataclass(frozen=True)
class Passes:
    """Forward passes of a teacher on one view: once and for all here, in every training there."""

    offline: int
    online: int

    @property
    def saved(self) -> int:
        """Passes that the first training needs less; negative where views are hardly used."""
        return self.online - self.offline


def passes(*, teachers: int, views: int, batch: int, steps: int) -> Passes:
    """`steps` batches in all. Online, every step shows both views of each pair to each teacher."""
    return Passes(teachers * views, teachers * 2 * batch * steps)


def uses(*, views: int, batch: int, steps: int) -> float:
    """How often a stored view is trained on, on average."""
    return 2 * batch * steps / max(views, 1)


def break_even(dims: list[int], batch: int) -> float:
    """2TD/B: uses of a view up to which fused shards are the smaller; beyond, stored features.

    A view's whitened features are 2TD bytes, once. A pair's row of a shard is 2B bytes and serves
    two views, so a view costs B bytes each time it is used.
    """
    return HALF * sum(dims) / batch


def feature_bytes(views: int, dims: list[int]) -> int:
    """Descriptors of all views by all teachers."""
    return HALF * views * sum(dims)


def shard_bytes(*, batch: int, steps: int) -> int:
    """Fused targets and the plan of `steps` batches: B x B float16, and 2B int32 rows."""
    return steps * (HALF * batch * batch + 8 * batch)
