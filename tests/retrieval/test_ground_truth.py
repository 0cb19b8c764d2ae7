"""A ground truth by id becomes rows of the database, or one line on what is wrong."""

from typing import Any

import numpy as np
import pytest

from stages.core.errors import UserError
from stages.retrieval.ground_truth import GroundTruth


def truth(protocol: str = "positives", **query: Any) -> dict[str, Any]:
    return {"protocol": protocol, "queries": [query]}


DATABASE = np.array(["d0", "d1", "d2", "d3"])


def test_lists_become_rows_of_the_database() -> None:
    values = truth("revisitop", image_id="q", easy=["d3", "d1", "d3"], hard=[], junk=["d0"])
    (query,) = GroundTruth.parse(values, DATABASE, "w").queries
    assert query.image_id == "q"
    assert {k: v.tolist() for k, v in query.lists.items()} == {
        "easy": [1, 3], "hard": [], "junk": [0],
    }  # fmt: skip


@pytest.mark.parametrize(
    "values",
    [
        None,
        [],
        {"protocol": "positives"},
        {"protocol": "positives", "queries": {}},
        truth("nonsense", image_id="q", positive=[], junk=[]),
        truth(positive=[], junk=[]),
        truth(image_id="q", positive=["d0"]),
        truth(image_id="q", positive="d0", junk=[]),
        truth(image_id="q", positive=["d0", "d9"], junk=[]),
        {"protocol": "positives", "queries": ["q"]},
    ],
)
def test_ground_truth_that_cannot_be_resolved(values: Any) -> None:
    with pytest.raises(UserError, match="^where: ") as error:
        GroundTruth.parse(values, DATABASE, "where")
    assert "\n" not in str(error.value)
