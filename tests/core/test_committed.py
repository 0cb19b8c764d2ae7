"""What an experiment left in params.yaml is seen; what it set itself is not."""

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from project import ENVIRONMENT, ROOT, run

from stages.core import committed

VALUES = "train:\n  epochs: 12\n  lr: 0.1\nensemble:\n- lite0\n- lite1\nnote: null\n"
STAGE = """
import sys; sys.path.insert(0, {root!r}); sys.argv = ["stage"]
from stages.core import console
app = console.app()
@app.command()
def main() -> None:
    open("out", "w").write(open("params.yaml").read())
console.main(app)
"""


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A committed params.yaml in the working folder."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("DVC_EXP_NAME", raising=False)
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(VALUES)
    for command in ("init -q", "add params.yaml", "commit -qm settings"):
        subprocess.run(["git", *command.split()], check=True)
    return tmp_path


def write(old: str, new: str) -> None:
    Path("params.yaml").write_text(VALUES.replace(old, new))


def test_what_differs_is_named(repository: Path) -> None:
    assert committed.note() == ""
    write("epochs: 12", "epochs: 0")
    assert committed.note() == "this run: train.epochs=0 (committed: 12)"
    write("- lite1\nnote: null", "extra: {a: true}")
    assert committed.note() == (
        "this run: ensemble=[lite0] (committed: [lite0,lite1]), note=nothing (committed: null), "
        "extra.a=true (committed: nothing)"
    )


def test_another_form_of_the_same_values_is_silent(repository: Path) -> None:
    Path("params.yaml").write_text(
        "# mine\ntrain: {lr: 1.0e-1, epochs: 12}\nensemble: [lite0, lite1]\nnote:\n"
    )
    assert committed.note() == ""


def test_a_long_list_is_cut(repository: Path) -> None:
    Path("params.yaml").write_text(VALUES + "".join(f"k{i}: {i}\n" for i in range(11)))
    assert committed.note().endswith(", 3 more")


@pytest.mark.parametrize("spoil", ["no commit", "not tracked", "no git", "no file", "no yaml"])
def test_silent_where_nothing_can_be_known(
    repository: Path, spoil: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write("epochs: 12", "epochs: 0")
    if spoil == "no commit":
        subprocess.run(["git", "update-ref", "-d", "HEAD"], check=True)
    elif spoil == "not tracked":
        subprocess.run(["git", "rm", "-q", "--cached", "params.yaml"], check=True)
        subprocess.run(["git", "commit", "-qm", "none"], check=True)
    elif spoil == "no git":
        monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    elif spoil == "no file":
        Path("params.yaml").unlink()
    else:
        Path("params.yaml").write_text("{{{")
    assert committed.note() == ""


@pytest.mark.parametrize(
    ("words", "keys"),
    [
        ("-S train.epochs=0", {"train.epochs"}),
        ("--set-param train.lr=0.1 -S +teachers.r50={kind:x}", {"train.lr", "teachers.r50"}),
        ("--set-param=~train.lr -Sparams.yaml:a.b=c:d", {"train.lr", "a.b"}),
        ("--temp -n name", set()),
    ],
)
def test_keys_of_a_command_line(words: str, keys: set[str]) -> None:
    assert committed.overridden(["dvc", "exp", "run", *words.split()]) == keys


KEYS = st.text("abc", min_size=1, max_size=2)
TREES = st.recursive(st.integers(), lambda x: st.dictionaries(KEYS, x, min_size=1), max_leaves=6)


@given(st.dictionaries(KEYS, TREES, min_size=1))
def test_flat_keeps_every_value(values: dict[str, object]) -> None:
    for key, value in committed.flat(values).items():
        at: object = values
        for part in key.split("."):
            assert isinstance(at, dict)
            at = at[part]
        assert at == value


def test_experiments_of_dvc(repository: Path) -> None:
    """A plain run, one after an experiment, one inside one, and one in a copy."""
    Path("stage.py").write_text(STAGE.format(root=str(ROOT)))
    Path("dvc.yaml").write_text(
        "stages:\n  s:\n    cmd: python stage.py\n    deps: [stage.py]\n"
        "    params: [train, ensemble]\n    outs: [out]\n"
    )
    Path(".gitignore").write_text("/out\n/.scratch\n")
    os.environ.pop("DVC_ROOT", None)
    run("dvc", "init", "-q", cwd=repository)
    for command in ("add -A", "commit -qm pipeline"):
        subprocess.run(["git", *command.split()], check=True)

    def said(*words: str) -> list[str]:
        done = run("dvc", *words, cwd=repository)
        return [x for x in (done.stdout + done.stderr).splitlines() if x.startswith("this run")]

    assert said("repro") == []
    assert said("exp", "run", "-S", "train.epochs=0") == []  # what it asked for is no news
    left = ["this run: train.epochs=0 (committed: 12)"]
    assert said("repro", "--force") == left
    assert said("exp", "run", "-S", "train.lr=0.5") == left
    both = ["this run: train.epochs=0 (committed: 12), train.lr=0.5 (committed: 0.1)"]
    assert said("exp", "run", "--temp", "-S", "ensemble=[lite0]") == both  # a copy has it too
    assert said("repro", "--force") == both  # and the copy left nothing of its own
