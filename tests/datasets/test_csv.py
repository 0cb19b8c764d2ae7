"""A table of one's own images: every line used or refused by its number."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from project import parameters

from stages import datasets
from stages.core import params
from stages.core.errors import UserError

GIVEN = parameters(datasets={"csv": {"file": "x"}})
csv = datasets.load("csv", "training", GIVEN)[0]
HEAD = "path,group,split,query"
ROWS = [
    "a/1.png,tower,train,", "a/2.png,tower,train,0", "b.png,,train,",
    "e/1.png,gate,evaluation,1", "e/2.png,gate,evaluation,0", "e/3.png,gate,evaluation,no",
    "e/ö 4.png,,evaluation,", "e/5.png,well,evaluation,0",
]  # fmt: skip


def write(root: Path, rows: list[str], head: str = HEAD, images: bool = True) -> Path:
    for n, row in enumerate(rows if images else ()):
        path = root / row.split(",")[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(n).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(noise).save(path)
    (root / "list.csv").write_text("\n".join([head, *rows]) + "\n", encoding="utf-8")
    return root


def settings(here: Path, /, **changes) -> object:
    values = {"file": str(here / "list.csv"), "root": None, **changes}
    return params.check(values, csv.Settings, "datasets.csv")


def refusal(here: Path, /, **changes) -> str:
    with pytest.raises(UserError) as error:
        csv.training(settings(here, **changes), here)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_both_splits(tmp_path):
    s = settings(write(tmp_path, ROWS))
    training, evaluation = csv.training(s, tmp_path), csv.evaluation(s, tmp_path, "mine")
    assert training.image_id == training.path == ["a/1.png", "a/2.png", "b.png"]
    one, two, none = training.group.tolist()
    assert one == two >= 0 and none == -1
    assert evaluation.role == ["query", "database", "database", "distractor", "distractor"]
    wanted = {"image_id": "e/1.png", "positive": ["e/2.png", "e/3.png"], "junk": []}
    assert evaluation.queries == [wanted]
    assert evaluation.root == tmp_path and evaluation.protocol == "positives"
    assert "e/ö 4.png" in evaluation.image_id and np.isnan(evaluation.box).all()


def test_without_the_column_the_first_of_a_group_asks(tmp_path):
    rows = [row.rsplit(",", 1)[0] for row in ROWS]
    s = settings(write(tmp_path, rows, "path,group,split"))
    evaluation = csv.evaluation(s, tmp_path, "mine")
    assert [q["image_id"] for q in evaluation.queries] == ["e/1.png"]
    assert evaluation.role[-1] == "distractor"  # the only one of its group has nothing to find


def test_a_query_whose_answers_cannot_be_read_is_noted(tmp_path):
    rows = [*ROWS, "f/1.png,arch,evaluation,1", "f/2.png,arch,evaluation,0"]
    s = settings(write(tmp_path, rows))
    (tmp_path / "f/2.png").write_bytes(b"nonsense")
    training, evaluation = csv.training(s, tmp_path), csv.evaluation(s, tmp_path, "mine")
    assert "1 files left out, broken or not images: f/2.png" in training.notes
    assert evaluation.notes == ["1 queries have no positives and become distractors: f/1.png"]
    assert len(evaluation.queries) == 1


def test_root_of_its_own_and_a_table_from_a_spreadsheet(tmp_path):
    write(tmp_path / "images", ROWS)
    text = (tmp_path / "images" / "list.csv").read_text(encoding="utf-8")
    table = tmp_path / "t.csv"
    table.write_text("\ufeff" + text.replace("\n", "\r\n"), encoding="utf-8", newline="")
    s = settings(tmp_path, file=str(table), root=str(tmp_path / "images"))
    assert len(csv.training(s, tmp_path).path) == 3


def test_copies_across_the_splits_are_refused(tmp_path):
    write(tmp_path, ROWS)
    shutil.copy(tmp_path / "b.png", tmp_path / "a/2.png")
    notes = csv.training(settings(tmp_path), tmp_path).notes
    assert notes == ["1 images are copies of others, all kept; the first: a/2.png = b.png"]
    shutil.copy(tmp_path / "b.png", tmp_path / "e/2.png")
    told = refusal(tmp_path)
    assert "a/2.png (training) is e/2.png (evaluation)" in told


def test_a_group_in_both_splits_is_noted(tmp_path):
    write(tmp_path, [*ROWS, "g.png,tower,evaluation,0"])
    assert "1 groups are in both splits: tower" in csv.training(settings(tmp_path), tmp_path).notes


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("b.png,x,training,", "line 3: split 'training' (did you mean 'train'?)"),
        ("b.png,x,train,1", "line 3: a query is of split evaluation"),
        ("b.png,,evaluation,1", "line 3: a query is of split evaluation and has a group"),
        ("b.png,x,evaluation,maybe", "line 3: query 'maybe'"),
        ("b.png,x,train", "line 3: not 4 fields"),
        ("b.png,x,train,0,9", "line 3: not 4 fields"),
        (",x,train,0", "line 3: no path"),
        ("./a/1.png,x,train,0", "1 paths occur twice: a/1.png"),
        ("absent.png,x,train,0", "1 of 2 images are missing: absent.png"),
        ('"b.png,x,train,0', "not a table"),
    ],
)
def test_bad_lines(tmp_path, row, told):
    write(tmp_path, ROWS)
    write(tmp_path, [ROWS[0], row], images=False)
    assert told in refusal(tmp_path)


def test_bad_tables(tmp_path):
    assert "no such file" in refusal(tmp_path)
    write(tmp_path, ROWS, "path,grup,split,query")
    assert "unknown column 'grup' (did you mean 'group'?)" in refusal(tmp_path)
    write(tmp_path, [], "path,group")
    assert "no column 'split'" in refusal(tmp_path)
    write(tmp_path, [])
    assert "the table is empty" in refusal(tmp_path)
    (tmp_path / "list.csv").write_bytes(b"path,group,split\n\xff\xfe,a,train\n")
    assert "not a table in UTF-8" in refusal(tmp_path)
    write(tmp_path, ROWS[3:])
    assert "0 images of split train" in refusal(tmp_path)
    assert "no such folder" in refusal(tmp_path, root=str(tmp_path / "absent"))
    write(tmp_path, ROWS[:3])
    with pytest.raises(UserError, match="no query with another image"):
        csv.evaluation(settings(tmp_path), tmp_path, "mine")


def test_the_name_hides_the_standard_library_from_nobody():
    code = "import stages.datasets.csv as ours, csv; assert ours.csv is csv and csv.DictReader"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


@pytest.mark.parametrize("column", ["path", "group", "split"])
def test_a_column_twice_is_refused(tmp_path, column):
    here = write(tmp_path, [f"{row},x" for row in ROWS], f"{HEAD},{column}")
    assert f"column {column!r} occurs twice; keep one" in refusal(here)
