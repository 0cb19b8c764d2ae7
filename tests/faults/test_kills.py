"""Commands that are ended at any moment: nothing half-written, the same result the next time."""

import random
from pathlib import Path

import pytest
from trial import COMMANDS, KILLS, SIGNALS, Command, Trial, count, noted

pytestmark = pytest.mark.faults
SHARES = sum(c.share for c in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: c.name)
def test_ended_at_any_moment(
    command: Command, finished: Path, tmp_path: Path, record_property: pytest.FixtureRequest
) -> None:
    trial = Trial(command, finished, tmp_path)
    draw = random.Random(command.name)
    kills = max(round(KILLS * command.share / SHARES), 2 if command.share >= 1 else 1)
    what = f"`{command.name}` ended by signals"
    came = noted(record_property, 0, COMMANDS.index(command), what)
    # Every second one at a change of a file, spread over all of them; the others at any time.
    at_points = max(kills // 2, 1)
    for turn in range(kills):
        number = SIGNALS[turn % len(SIGNALS)]
        trial.restore()
        if turn < at_points:
            point = 1 + (turn * trial.points + draw.randrange(trial.points)) // at_points
            ended = trial.run(min(point, trial.points), number)
        else:
            ended = trial.run(number=number, after=draw.random() * trial.seconds)
        count(came, trial.check_ended(ended, number))
        trial.check_again()
