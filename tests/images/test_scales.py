"""How a model sees a whole image: one value for all, or a map with `default`."""

from pathlib import Path

import pytest

from stages.core.errors import UserError
from stages.images.scales import check_names, how_of

WHERE = Path("p.yaml")


def test_one_value_serves_every_model() -> None:
    how = how_of([1.0, 0.5], None, "gem", 1024, WHERE)
    assert how.scales == [1.0, 0.5] and how.px == 1024  # null: the model's own
    assert how_of([1.0], 300, "gem", 1024, WHERE).px == 300
    assert how_of([1.0], "native", "gem", 1024, WHERE).px is None


def test_a_map_serves_each_model_and_its_default_the_others() -> None:
    scales = {"gem": [1.0, 0.5], "default": [1.0]}
    assert how_of(scales, {"delg": 800, "default": None}, "gem", 512, WHERE).scales == [1.0, 0.5]
    assert how_of(scales, {"delg": 800, "default": None}, "delg", 512, WHERE).px == 800
    assert how_of(scales, {"delg": 800, "default": None}, "other", 512, WHERE).px == 512
    with pytest.raises(UserError, match="neither solar nor default"):
        how_of({"gem": [1.0]}, None, "solar", 512, WHERE)


def test_a_model_that_there_is_not_is_named_with_the_nearest() -> None:
    check_names([[1.0], {"gem": 1, "default": 2}, None], ["gem"], WHERE)
    with pytest.raises(UserError, match="no model 'gen'.*'gem'"):
        check_names([{"gen": 1}], ["gem"], WHERE)
