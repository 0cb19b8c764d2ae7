"""Google Landmarks v2: the official list becomes groups, quickly and in little memory."""

import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from stages.core import params
from stages.core.errors import UserError
from stages.datasets import gldv2

LINES = ["7,aaa111 bbb222 ccc333", "12,ddd444", "3,eee555 fff666"]


def tree(root: Path, lines: list[str], below: str = "") -> Path:
    (root / "train").mkdir(parents=True, exist_ok=True)
    (root / below).mkdir(exist_ok=True)
    text = "\n".join(["landmark_id,images", *lines]) + "\n"
    (root / below / "train_clean.csv").write_text(text)
    return root


def train(root: Path, **changes) -> gldv2.Training:
    values = {"root": str(root), "least": 2, "exclude": None, **changes}
    return gldv2.training(params.check(values, gldv2.Settings, "datasets.gldv2"), root)


def refusal(root: Path, **changes) -> str:
    with pytest.raises(UserError) as error:
        train(root, **changes)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("below", ["", "meta"])
def test_landmarks_become_groups(tmp_path, below):
    found = train(tree(tmp_path, LINES, below))
    assert found.image_id == ["aaa111", "bbb222", "ccc333", "eee555", "fff666"]
    assert found.path[1] == "train/b/b/b/bbb222.jpg"
    assert found.group.tolist() == [7, 7, 7, 3, 3] and found.group.dtype == np.int32
    assert found.root == tmp_path
    assert found.notes == ["1 landmarks of fewer than 2 images left out (1 images)"]
    assert 12 in train(tmp_path, least=1).group


def test_exclude_by_list_and_by_file(tmp_path):
    tree(tmp_path, LINES)
    ids = tmp_path / "ids.txt"
    ids.write_text("7  # a tower\n\n# of the test sets\n99\n")
    assert train(tmp_path, exclude=[3]).group.tolist() == [7, 7, 7]
    found = train(tmp_path, exclude=str(ids))
    assert found.group.tolist() == [3, 3]
    assert "1 landmarks excluded as asked; 1 further ids" in found.notes[-1]


def test_exclude_single_images(tmp_path):
    """What to do about a broken one; a landmark that gets too small by it goes too."""
    number = "1234567890123456"  # sixteen digits: an image's
    tree(tmp_path, [*LINES[:2], f"3,eee555 fff666 {number}"])
    found = train(tmp_path, exclude=["bbb222", "eee555", "fff666", 12])
    assert found.image_id == ["aaa111", "ccc333"]
    assert found.notes == [
        "1 landmarks of fewer than 2 images left out (1 images)",
        "1 landmarks excluded as asked",
        "3 images excluded as asked",
    ]
    (tmp_path / "ids.txt").write_text(f"7\n{number}\nabsent\n")
    found = train(tmp_path, exclude=str(tmp_path / "ids.txt"))
    assert found.image_id == ["eee555", "fff666"]
    assert "1 images excluded as asked; 1 further ids" in found.notes[-1]


def test_a_landmark_of_ten_thousand_images(tmp_path):
    """The field of the largest landmark is above the limit of the csv module."""
    ids = " ".join(f"{n:016x}" for n in range(10_247))
    assert len(train(tree(tmp_path, [f"1,{ids}"])).image_id) == 10_247


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (["7;aaa111"], "line 2: expected a landmark id"),
        (["tower,aaa111 bbb222"], "line 2: expected a landmark id"),
        (["1,aaa111 bbb222", "7,../etc passwd"], "line 3: landmark 7: not image ids"),
        (["7,"], "line 2: landmark 7: not image ids"),
        (["7,ab cd"], "not image ids"),
        (["4000000000,aaa bbb"], "above 2147483647"),
        (["7,aaa bbb", "7,ccc ddd"], "line 3: landmark 7 for a second time"),
    ],
)
def test_bad_lines(tmp_path, lines, told):
    assert told in refusal(tree(tmp_path, lines))


def test_bad_folders_and_files(tmp_path):
    assert "no such folder" in refusal(tmp_path / "absent")
    assert "no train_clean.csv" in refusal(tmp_path)
    tree(tmp_path, LINES)
    (tmp_path / "train").rmdir()
    assert "no folder train" in refusal(tmp_path)
    (tmp_path / "train").mkdir()
    (tmp_path / "train_clean.csv").write_text("id,url,landmark_id\n")
    assert "first line" in refusal(tmp_path)
    (tmp_path / "train_clean.csv").write_bytes(b"\x1f\x8b\xff\xff")
    assert "not a table" in refusal(tmp_path)
    tree(tmp_path, LINES)
    assert "No such file" in refusal(tmp_path, exclude=str(tmp_path / "absent.txt"))
    (tmp_path / "ids.txt").write_text("7\na tower\n")
    assert "line 2: 'a tower'" in refusal(tmp_path, exclude=str(tmp_path / "ids.txt"))
    assert "unknown key (did you mean 'least'?)" in refusal(tmp_path, leest=2)


def measure(root: Path) -> None:
    """Read the list of `root`; print rows, groups, seconds and peak memory (GiB)."""
    start = time.perf_counter()
    found = train(root)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    groups = len(np.unique(found.group))
    print(len(found.path), groups, f"{seconds:.1f}", f"{peak:.2f}")


@pytest.mark.long
def test_the_whole_of_it(tmp_path, capsys):
    """1,580,470 generated rows in 81,313 groups, in a process of their own: below 4 GiB."""
    rng = np.random.default_rng(0)
    weights = rng.pareto(1.2, 81_313) + 0.3
    sizes = 2 + rng.multinomial(1_580_470 - 2 * 81_313, weights / weights.sum())
    ids = iter([f"{n * 0x9E3779B97F4A7C15 % 2**64:016x}" for n in range(1_580_470)])
    tree(tmp_path, [f"{g},{' '.join(next(ids) for _ in range(n))}" for g, n in enumerate(sizes)])
    here = Path(__file__)
    code = f"import sys; sys.path[:0] = [{str(here.parents[2])!r}, {str(here.parent)!r}]; "
    code += f"from pathlib import Path; import test_gldv2 as t; t.measure(Path({str(tmp_path)!r}))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    rows, groups, seconds, peak = run.stdout.split()
    with capsys.disabled():
        print(f"\ngldv2: {rows} rows, {groups} groups: {seconds} s, peak {peak} GiB")
    assert (int(rows), int(groups)) == (1_580_470, 81_313)
    assert float(peak) < 4
