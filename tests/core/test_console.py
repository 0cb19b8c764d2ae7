"""Time to go is that of the stage, and is not promised before it can be told."""

import pickle
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from project import ROOT

from stages.core import console
from stages.core.errors import UserError


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that only moves when work says so."""
    now = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    return now


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().err.splitlines()


def work(clock: list[float], seconds: list[float]) -> Iterator[float]:
    for each in seconds:
        clock[0] += each
        yield each


def run(clock: list[float], seconds: list[float], **how: object) -> None:
    for _ in console.progress(work(clock, seconds), label="train", every=0, **how):  # type: ignore[arg-type]
        pass


def test_no_promise_before_a_few_steps(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    """The first step, which warms up, took 27 of its 30 seconds once, and never again."""
    run(clock, [30.0, *[1.0] * 143], total=144)
    said = lines(capsys)
    assert said[:4] == [f"train: {i} of 144" for i in range(1, 5)]
    assert said[4] == "train: 5 of 144, 139 s to go"
    assert said[-1] == "train: 144 of 144, 0 s to go"


def test_time_to_go_is_that_of_all_parts(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    whole = console.Whole(100)
    whole.skip(20)  # a part that an earlier run finished
    for _ in range(2):
        run(clock, [2.0] * 10, whole=whole, weigh=lambda item: 4)
    said = lines(capsys)
    assert said[0] == "train: 24 of 100" and said[4] == "train: 40 of 100, 30 s to go"
    assert said[10] == "train: 64 of 100, 18 s to go"  # of the stage, not of its second part
    assert said[-1] == "train: 100 of 100, 0 s to go"


def test_a_resumed_training_goes_on_counting(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    run(clock, [1.0] * 10, whole=console.Whole(144, 100))
    assert lines(capsys)[-1] == "train: 110 of 144, 34 s to go"


def test_a_part_of_something_uncounted_says_so(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    run(clock, [1.0] * 10, total=20, part=True)
    assert lines(capsys)[-1] == "train: 10 of 20, 10 s to go in this part of the stage"


def test_without_a_total_there_is_no_estimate(
    clock: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    run(clock, [1.0] * 10)
    assert not [x for x in lines(capsys) if re.search("to go| of ", x)]


def test_a_bar_on_a_terminal_counts_the_same(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(console.sys.stderr, "isatty", lambda: True)
    whole = console.Whole(30, 10)
    assert [*console.progress(range(5), label="views", whole=whole, weigh=lambda i: 4)] == [
        0, 1, 2, 3, 4,
    ]  # fmt: skip
    assert whole.done == 30 and "views" in capsys.readouterr().err


def test_a_name_cannot_end_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    console.say("a\nb\tc.jpg: no such image", "the second line")
    assert lines(capsys) == [r"a\u000ab\u0009c.jpg: no such image", "the second line"]


def test_mistakes_have_a_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    app = console.app()

    @app.command()
    def main() -> None:
        raise UserError("params.yaml: a\nb is unknown", "params.yaml: c is missing")

    assert console.run(app, []) == 2
    first, second = lines(capsys)
    assert first == r"error: params.yaml: a\u000ab is unknown"
    assert second == "error: params.yaml: c is missing"


def test_a_mistake_travels_between_processes() -> None:
    error = pickle.loads(pickle.dumps(UserError("a", "b")))
    assert error.lines == ("a", "b") and str(error) == "a\nb"


def test_whoever_stops_reading_the_result_stops_no_work(tmp_path: Path) -> None:
    program = (
        "from stages.core import console\n"
        "for _ in range(20000): console.result('a line')\n"
        f"open({str(tmp_path / 'done')!r}, 'w').close()\n"
    )
    command = f'"{sys.executable}" -c "$0" | head -1; exit ${{PIPESTATUS[0]}}'
    done = subprocess.run(["bash", "-c", command, program], capture_output=True, cwd=ROOT)
    assert done.returncode == 0 and not done.stderr, done.stderr
    assert done.stdout == b"a line\n" and (tmp_path / "done").exists()
