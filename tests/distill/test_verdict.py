"""What training brought, line by line, for every way that it may end."""

import numpy as np

from stages.distill import verdict
from stages.distill.shipping import START, TRAINED, Candidate, Choice
from stages.retrieval.validation import Score


def candidate(kind: str, step: int, *ap: float) -> Candidate:
    score = Score(np.array(ap), np.arange(len(ap))) if ap else None
    return Candidate(kind, {}, score, step)


def told(shipped: Candidate, trained: Candidate, steps: int = 8) -> list[str]:
    compared = list({c.step: c for c in (shipped, trained)}.values())
    return list(verdict.lines(Choice(shipped, trained, compared), 2, steps))


def test_what_training_made_is_shipped() -> None:
    start, best = candidate(START, 0, 10.0, 30.0), candidate(TRAINED, 8, 60.0, 80.0)
    lines = list(verdict.lines(Choice(best, best, [best, start]), 2, 8))
    assert lines == [
        "  the start: 20.0 +- 10.0 mAP on the validation groups",
        "  the weights after step 8: 70.0 +- 10.0 mAP on the validation groups",
        "shipped: the weights after step 8, 70.0 +- 10.0 mAP on the validation groups",
    ]


def test_training_that_did_not_help_is_said_with_its_gain() -> None:
    start, best = candidate(START, 0, 40.0, 60.0), candidate(TRAINED, 4, 39.0, 63.0)
    lines = told(start, best)
    assert lines[2].startswith(
        "training did not help beyond doubt: the weights after step 4 gains +1.0 +- 2.0 over the "
        "start; 2 groups are few"
    )
    assert lines[3] == "shipped: the start, 50.0 +- 10.0 mAP on the validation groups"


def test_one_group_has_no_error() -> None:
    start = candidate(START, 0, 40.0)
    assert told(start, start)[-1] == "shipped: the start, 40.0 mAP on the validation groups"


def test_nothing_to_choose_by() -> None:
    last = candidate(TRAINED, 8)
    assert told(last, last) == [
        "8 steps; shipped: the weights after step 8; no validation groups to choose by"
    ]


def test_no_steps() -> None:
    for start, score in ((candidate(START, 0, 40.0), " (40.0 mAP on the validation groups)"),
                         (candidate(START, 0), "")):  # fmt: skip
        lines = told(start, start, steps=0)
        assert lines == [
            "0 steps ran: train.epochs is 0, so nothing was trained and the start is the student"
            + score
        ]
