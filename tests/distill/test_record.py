"""What a run remembers: losses read late, the best weights, what is kept and what is forgotten."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from stages.distill.averaging import State
from stages.distill.record import Record
from stages.distill.soundness import Diverged


def weights(value: float) -> State:
    return {"w": torch.full((2,), value)}


def run(losses: list[float], record: Record) -> None:
    for step, loss in enumerate(losses, 1):
        record.add_step(step, 0, 0.5 / step, torch.tensor(loss))


def measure(record: Record, step: int, score: float) -> None:
    entry: dict[str, Any] = {"step": step, "validation_map": score}
    record.add_measure(entry, score, np.full(3, score), lambda: weights(score))


def test_losses_are_read_when_enough_wait() -> None:
    record = Record()
    run([3.0, 2.0], record)
    record.flush(at_least=3)
    assert all("loss" not in row for row in record.history)
    record.flush(at_least=2)
    assert [row["loss"] for row in record.history] == [3.0, 2.0]
    record.flush()  # nothing waits: nothing happens
    assert [row["lr"] for row in record.history] == [0.5, 0.25]


def test_a_loss_that_is_no_number_is_named_and_not_written() -> None:
    record = Record()
    run([1.0, math.nan, 1.0], record)
    with pytest.raises(Diverged, match=r"the loss is nan at step 2 \(learning rate 0\.25\)"):
        record.flush()
    assert [row.get("loss") for row in record.history] == [1.0, None, 1.0]


def test_the_best_is_the_highest_and_of_equal_ones_the_first() -> None:
    record = Record()
    for step, score in ((0, 10.0), (2, 30.0), (4, 30.0), (6, 20.0)):
        measure(record, step, score)
    assert record.best is not None and (record.best.step, record.best.score) == (2, 30.0)
    assert torch.equal(record.best.state["w"], weights(30.0)["w"])
    assert sorted(record.aps) == [0, 2, 6]  # start, best, last


def test_a_measure_joins_the_row_of_its_step_or_is_a_row_of_its_own() -> None:
    record = Record()
    measure(record, 0, 1.0)
    run([3.0], record)
    measure(record, 1, 2.0)
    record.add_measure({"step": 1}, None, None, lambda: weights(0))  # nothing measured
    assert [row["step"] for row in record.history] == [0, 1]
    assert record.history[1]["validation_map"] == 2.0 and record.history[1]["lr"] == 0.5


def test_going_back_forgets_what_was_not_read() -> None:
    record = Record()
    measure(record, 0, 10.0)
    run([3.0], record)
    record.flush()
    record.add_step(2, 0, 0.1, torch.tensor(math.nan))
    best = record.go_back()
    assert best is not None and best.step == 0
    assert [row["step"] for row in record.history] == [0, 1]
    record.flush()  # the loss that was no number is gone


def test_a_state_brings_all_of_it_back() -> None:
    record, again = Record(), Record()
    measure(record, 0, 10.0)
    run([3.0], record)
    record.flush()
    again.restore(record.state())
    assert again.history == record.history and again.best == record.best
    np.testing.assert_array_equal(again.aps[0], np.full(3, 10.0))
    empty = Record()
    empty.restore(Record().state())
    assert empty.best is None and empty.aps == {}
