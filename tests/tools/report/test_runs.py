"""A run's files read back: names of any kind, and a damaged table as one line."""

import json

import pytest

from stages.core import files
from stages.core.errors import UserError
from stages.tools.report import runs

RULES = json.dumps({
    "s": {
        "student": {
            "rules": "revisitop", "crop": "boxes", "image_px": "40", "scales": "1",
            "whitening": "none", "dtype": "float16", "ground_truth": "d", "database": 4,
            "distractors": 0,
        }
    }
})  # fmt: skip
HEAD = ("set", "model", "difficulty", "query", "ap")
ODD = ["a, b.jpg", 'say "cheese".jpg', "größe 1/ü.jpg", "plain.jpg"]


def a_run(**changed: str) -> runs.Run:
    """A run of one set whose files are `changed` by the last part of their names."""
    files = {
        "metrics": json.dumps({"s": {"student": {"easy": {"map": 50.0}}}}), "models": json.dumps({"s": {"student": {"dim": 4}}}), "scoring_rules": RULES,
        "queries": ",".join(HEAD), "history": "step,loss\n1,0.5\n2,\n", "config": "{}",
        "params": "student: x",
    } | changed  # fmt: skip
    return runs.Run.read("r", lambda path: files[path.split("/")[-1].split(".")[0]].encode())


def test_what_evaluate_wrote_is_read_back_whatever_an_image_is_called() -> None:
    rows = [("s", "a, whitened", "easy", name, f"{n:.4f}") for n, name in enumerate(ODD)]
    found = a_run(queries=files.to_csv([HEAD, *rows]))
    assert found.queries == {("s", "a, whitened", "easy"): {n: i for i, n in enumerate(ODD)}}
    assert found.history == [{"step": 1, "loss": 0.5}, {"step": 2}]


def test_an_old_runs_rows_have_todays_names_in_every_file() -> None:
    old = {m: {"easy": {"map": n}} for n, m in enumerate(("student", "fused", "earlier"))}
    about = {m: {"dim": n + 1} for n, m in enumerate(old)}
    row = ("s", "fused", "easy", "q", "50.0")
    run = a_run(
        metrics=json.dumps({"s": old}), models=json.dumps({"s": about}),
        queries=files.to_csv([HEAD, row]),
    )  # fmt: skip
    today = ("student", "ensemble", "old_model")
    assert run.metrics == {"s": dict(zip(today, old.values(), strict=True))}
    assert run.models == {"s": dict(zip(today, about.values(), strict=True))}
    assert run.queries == {("s", "ensemble", "easy"): {"q": 50.0}}
    new = {m: {"easy": {"map": n}} for n, m in enumerate(("student", "ensemble", "fused"))}
    run = a_run(metrics=json.dumps({"s": new}), queries=files.to_csv([HEAD, row]))
    assert run.metrics == {"s": new} and list(run.queries) == [("s", "fused", "easy")]


@pytest.mark.parametrize(
    "table", ["set,model,query,ap\ns,m,q,1\n", f"{','.join(HEAD)}\ns,m,d,q,x\n",
              f"{','.join(HEAD)}\ns,m\n", f'{",".join(HEAD)}\n"s,m\n'],
)  # fmt: skip
def test_a_damaged_table_is_one_line(table: str) -> None:
    with pytest.raises(UserError, match=r"r: data/results/queries.csv: not a table") as error:
        a_run(queries=table)
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match=r"history.csv: not a table"):
        a_run(history="step,loss\n1,x\n")
