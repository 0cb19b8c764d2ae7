"""Revisited Oxford and Paris from files in the official formats, none of them trusted."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.core import params
from stages.core.errors import UserError
from stages.datasets import revisitop
from stages.retrieval import ground_truth

ROOT = Path(__file__).parents[2]
DATABASE = [f"all_souls_{n:06d}" for n in range(6)]
GND = [
    {"bbx": [1.5, 2, 30.25, 20], "easy": [0, 1], "hard": [2], "junk": [5]},
    {"bbx": [0, 0, 10, 10], "easy": [], "hard": [3], "junk": []},
]


def truth(**changes) -> dict:
    return {"imlist": list(DATABASE), "qimlist": ["q_1", "q_2"], "gnd": GND, **changes}


def tree(root: Path, known: object, name: str = "roxford5k") -> Path:
    folder = root / name / "jpg"
    folder.mkdir(parents=True, exist_ok=True)
    for image in [*DATABASE, "q_1", "q_2"]:
        Image.new("RGB", (40, 30)).save(folder / f"{image}.jpg")
    (root / name / f"gnd_{name}.pkl").write_bytes(pickle.dumps(known, protocol=2))
    return root


def read(root: Path, name: str = "roxford5k", crop: bool = True) -> revisitop.Evaluation:
    values = {"root": str(root), "crop_queries": crop}
    settings = params.check(values, revisitop.Settings, "datasets.revisitop")
    return revisitop.evaluation(settings, root, name)


def refusal(root: Path, name: str = "roxford5k") -> str:
    with pytest.raises(UserError) as error:
        read(root, name)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_queries_levels_and_boxes(tmp_path):
    found = read(tree(tmp_path, truth()))
    assert found.image_id == ["q_1", "q_2", *DATABASE]
    assert found.role == ["query"] * 2 + ["database"] * 6
    assert found.path[0] == "jpg/q_1.jpg" and (found.root / found.path[0]).is_file()
    assert found.box[0].tolist() == [1.5, 2, 30.25, 20]
    assert np.isnan(found.box[2:]).all() and not np.isnan(found.box[:2]).any()
    first = {"image_id": "q_1", "easy": DATABASE[:2], "hard": [DATABASE[2]], "junk": [DATABASE[5]]}
    assert found.queries[0] == first
    assert found.queries[1]["easy"] == [] and found.protocol == "revisitop"
    values = {"protocol": found.protocol, "queries": found.queries}
    answers = ground_truth.GroundTruth.parse(values, np.array(DATABASE), "here").queries[0].lists
    assert {k: v.tolist() for k, v in answers.items()} == {"easy": [0, 1], "hard": [2], "junk": [5]}


def test_without_the_crop_as_the_reference_does(tmp_path):
    found = read(tree(tmp_path, truth(), "rparis6k"), "rparis6k", crop=False)
    assert np.isnan(found.box).all()
    assert "not as the protocol says" in found.notes[0]


def test_distractors_from_the_list_truncated_ones_counted(tmp_path):
    names = ["0ab/a.jpg", "0ab/b b.jpeg", "1cd/c.jpg"]
    for name in names:
        path = tmp_path / "revisitop1m" / "jpg" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:-500])
    with open(path.parents[1] / names[0], "ab") as file:
        file.write(b"\0" * 9000)  # what a camera puts behind the image does no harm
    (tmp_path / "revisitop1m" / "revisitop1m.txt").write_text("\n".join(names) + "\n")
    found = read(tmp_path, "revisitop1m")
    assert found.image_id == names[:2] and found.path[0] == "jpg/0ab/a.jpg"
    assert set(found.role) == {"distractor"} and found.queries is None
    assert np.isnan(found.box).all() and found.box.shape == (2, 4)
    assert found.notes == ["1 of 3 left out, truncated: 1cd/c.jpg"]


def test_missing_images_are_counted_and_named(tmp_path):
    tree(tmp_path, truth())
    for name in DATABASE[:5]:
        (tmp_path / "roxford5k" / "jpg" / f"{name}.jpg").unlink()
    told = refusal(tmp_path)
    assert "5 of 8 images are missing: jpg/all_souls_000000.jpg" in told
    assert "and 2 more" in told


def test_truncated_images_are_counted_and_named(tmp_path):
    """Before hours of teachers end in one of them."""
    tree(tmp_path, truth())
    for name in ("q_1", DATABASE[3]):
        file = tmp_path / "roxford5k" / "jpg" / f"{name}.jpg"
        file.write_bytes(file.read_bytes()[:-60])
    told = refusal(tmp_path)
    assert "2 of 8 images are truncated: jpg/q_1.jpg, jpg/all_souls_000003.jpg" in told


class Malicious:
    def __reduce__(self):
        return os.mkdir, (os.environ["PAYLOAD"],)


def test_a_pickle_that_names_code_is_refused_and_nothing_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("PAYLOAD", str(tmp_path / "ran"))
    for known in (Malicious(), truth(gnd=[*GND[:1], Malicious()])):
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            path = tree(tmp_path, None) / "roxford5k" / "gnd_roxford5k.pkl"
            path.write_bytes(pickle.dumps(known, protocol))
            told = refusal(tmp_path)
            assert "refused: it names code" in told and "mkdir" in told
    tree(tmp_path, truth(imlist=np.array(DATABASE)))
    assert "refused: it names code" in refusal(tmp_path)
    assert not (tmp_path / "ran").exists()
    pickle.loads(pickle.dumps(Malicious()))  # the payload does work where it is let
    assert (tmp_path / "ran").exists()


def without(key: str) -> dict:
    return {k: v for k, v in GND[0].items() if k != key}


@pytest.mark.parametrize(
    ("known", "told"),
    [
        ([1, 2], "no ground truth with imlist"),
        ({"imlist": [], "gnd": []}, "no ground truth with imlist"),
        (truth(imlist=[1, 2]), "should be lists of names"),
        (truth(gnd=GND[:1]), "2 queries, but 1 entries in gnd"),
        (truth(qimlist=["q_1", DATABASE[0]]), "1 names occur twice"),
        (truth(gnd=[without("easy"), GND[1]]), "query q_1: expected bbx, easy"),
        (truth(gnd=[GND[0], {**GND[1], "hard": [6]}]), "query q_2: hard has row 6"),
        (truth(gnd=[GND[0], {**GND[1], "junk": ["a"]}]), "junk is not a list of rows"),
        (truth(gnd=[{**GND[0], "junk": [1]}, GND[1]]), "query q_1: row 1 of imlist is in easy and"),
        (truth(gnd=[{**GND[0], "bbx": [1, 2, 3]}, GND[1]]), "bbx is not four numbers"),
        (truth(gnd=[{**GND[0], "bbx": [9, 2, 3, 4]}, GND[1]]), "is not left, top, right"),
    ],
)
def test_a_wrong_ground_truth_says_where(tmp_path, known, told):
    line = refusal(tree(tmp_path, known))
    assert told in line and "gnd_roxford5k.pkl" in line


def test_broken_files_and_wrong_folders(tmp_path):
    path = tree(tmp_path, truth()) / "roxford5k" / "gnd_roxford5k.pkl"
    whole = path.read_bytes()
    for content in (b"", whole[: len(whole) // 2], b"<html>not found</html>", b"}b.", b"\x8e" * 99):
        path.write_bytes(content)
        assert "not a pickle" in refusal(tmp_path)
    assert "did you mean 'roxford5k'?" in refusal(tmp_path, "roxford")
    assert "no such folder" in refusal(tmp_path / "absent")
    (tmp_path / "revisitop1m").mkdir()
    listed = tmp_path / "revisitop1m" / "revisitop1m.txt"
    for content, told in ((b"", "empty"), (b"a.jpg\na.jpg", "twice"), (b"\xff\xfe", "UTF-16")):
        listed.write_bytes(content)
        assert told in refusal(tmp_path, "revisitop1m")
    listed.write_bytes(b"a.jpg\n")
    assert "1 of 1 images are missing: jpg/a.jpg" in refusal(tmp_path, "revisitop1m")


@pytest.mark.parametrize(
    "raw",
    [
        b"\x80\x04]r\xff\xff\xff\x1f.",  # place 536,870,911 of the unpickler's table: 4 GB
        b"\x80\x04]r\xff\xff\xff\xff.", b"]p4294967295\n.", b"\x80\x04]q\xff.",
        b"\x80\x05\x96" + (1 << 33).to_bytes(8, "little") + b".",  # a bytearray of 8 GB
        b"\x80\x04\x8e" + (1 << 33).to_bytes(8, "little") + b".",
        b"\x80\x04\x95" + (1 << 40).to_bytes(8, "little") + b".",
    ],
)  # fmt: skip
def test_a_pickle_that_claims_memory_gets_none(tmp_path, raw):
    path = tmp_path / "gnd_x.pkl"
    path.write_bytes(raw)
    code = f"""
import resource, sys
from pathlib import Path
from stages.core.errors import UserError
from stages.datasets import revisitop
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    revisitop.ground_truth(Path({str(path)!r}))
except UserError as error:
    assert "\\n" not in str(error) and "MemoryError" not in str(error), error
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 50_000, done.stdout  # kilobytes


def test_rows_over_and_over_are_refused(tmp_path):
    rows = list(range(6)) * 500
    gnd = [{"bbx": [0, 0, 9, 9], "easy": rows, "hard": [], "junk": []}] * 50
    asked = [f"q{i}" for i in range(50)]
    with pytest.raises(UserError, match="the same rows over and over"):
        read(tree(tmp_path, truth(qimlist=asked, gnd=gnd)))
