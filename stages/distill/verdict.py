"""What training brought, in words."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from .shipping import Choice, Score


def lines(choice: "Choice", groups: int, steps: int) -> Iterator[str]:
    """What training brought and what is shipped, in a few lines."""
    shipped, trained = choice.shipped, choice.trained
    if steps == 0:
        score = f" ({plain(shipped.score)} mAP on the validation groups)" if shipped.score else ""
        yield (
            "0 steps ran: train.epochs is 0, so nothing was trained and "
            f"{shipped.described()} is the student{score}"
        )
        return
    if shipped.score is None:
        reason = "no validation groups to choose by"
        yield f"{trained.step} steps; shipped: {shipped.described()}; {reason}"
        return
    for c in sorted(choice.compared, key=lambda c: (c.step, c.share or 0)):
        yield f"  {c.described()}: {plain(c.score)} mAP on the validation groups"
    if trained is not shipped and trained.score is not None:
        gain, error = trained.score.gain_over(shipped.score)
        yield (
            f"training did not help beyond doubt: {trained.described()} gains "
            f"{gain:+.1f} +- {error:.1f} over {shipped.described()}; {groups} groups are few, or "
            "train.lr is high: more images or a lower rate may change that"
        )
    yield f"shipped: {shipped.described()}, {plain(shipped.score)} mAP on the validation groups"


def plain(score: "Score | None") -> str:
    """79.7 +- 2.1; without the error where one group cannot tell it."""
    assert score is not None  # without a probe nothing is compared
    error = f" +- {score.error:.1f}" if np.isfinite(score.error) else ""
    return f"{score.map:.1f}{error}"
