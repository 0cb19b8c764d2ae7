"""What a match means is measured, stored, shown, and decides what is green."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_onnx
from hypothesis import given
from hypothesis import strategies as st

from stages.core import console, files
from stages.datasets import Evaluation
from stages.prepare import write_evaluation
from stages.retrieval.onnx_student import Exported
from stages.tools.search import calibrate, changes, index, live_index, matches, search
from stages.tools.search import generations as indexes
from stages.tools.search.matches import Labelled, Results


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An index of images of their own, and validation groups of others."""
    monkeypatch.chdir(tmp_path)
    tiny_onnx.student(tmp_path / "exported/model.onnx")
    tiny_onnx.images(Path("mine"), groups=6, seed=1)
    tiny_onnx.images(Path("held"), groups=24, each=4, seed=2)
    validation(Path("held"), lambda folder: folder)
    assert console.run(index.app, ["mine", "i", "--model", "exported"]) == 0
    return tmp_path


def validation(root: Path, group_of: Any) -> None:
    """`validation.h5`: every image asks for the others that `group_of(folder)` puts with it."""
    paths = sorted(f.relative_to(root).as_posix() for f in root.rglob("*.png"))
    group = [group_of(p.split("/")[0]) for p in paths]
    queries = []
    for p, own in zip(paths, group, strict=True):
        others = [o for o, g in zip(paths, group, strict=True) if g == own and o != p]
        queries.append({"image_id": p, "positive": others, "junk": [p]})
    box = np.full((len(paths), 4), np.nan, np.float32)
    made = Evaluation(
        root, paths, paths, ["database"] * len(paths), box, "positives", queries, [], None
    )
    write_evaluation(Path(), "validation", made)


def do(*arguments: str) -> int:
    return console.run(calibrate.app, ["i", "--images", "validation.h5", *arguments])


def searched(capsys: pytest.CaptureFixture[str]) -> tuple[dict[str, Any], str]:
    capsys.readouterr()
    assert console.run(search.app, ["i", "mine/größe 0/bild 0.png", "--json"]) == 0
    said = capsys.readouterr()
    return json.loads(said.out), said.err


def green(tmp: Path) -> bool:
    assert console.run(search.app, ["i", "mine/größe 0/bild 0.png", "--html", "p.html"]) == 0
    return 'class="match"' in (tmp / "p.html").read_text("utf-8")


def test_precision_stands_beside_the_threshold_and_is_true(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert do("--rate", "0.02") == 0
    line = capsys.readouterr().out.splitlines()[0]
    stored = indexes.read(Path("i")).about["calibration"]
    assert f"; on the validation groups {100 * stored['precision']:.0f} % of the matches" in line
    # The same by searching one index of all of it, as a person would count.
    net = Exported.read(Path("exported"))
    known = calibrate.labelled(Path("validation.h5"), net)
    assert console.run(index.app, ["mine", "held", "all", "--model", "exported"]) == 0
    scores, rows = indexes.read(Path("all")).search(known.rows, 11)
    names = [f.split("/")[-3:-1] for f in indexes.read(Path("all")).files()]
    own = [f.split("/")[-3:-1] for f in known.files]
    all_files = indexes.read(Path("all")).files()
    counted = right = 0
    for i, (s, r) in enumerate(zip(scores, rows, strict=True)):
        found = [(x, y) for x, y in zip(s, r, strict=True) if all_files[y] != known.files[i]][:10]
        hits = [y for x, y in found if x >= stored["threshold"]]
        counted, right = counted + len(hits), right + sum(names[y] == own[i] for y in hits)
    assert stored["precision"] == pytest.approx(right / counted, abs=0.02)


def test_green_only_from_a_precision_of_0_8(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert do("--rate", "0.2") == 0
    assert "matches are shown green from a precision of 0.8 on" in capsys.readouterr().err
    found, said = searched(capsys)
    assert found["precision"] < 0.8 and found["reliable"] is False
    assert found["answers"][0]["match"] is True and "of the matches" in said
    assert not green(place)
    assert console.run(search.app, ["i", "mine/größe 0/bild 0.png"]) == 0
    out = capsys.readouterr().out
    assert "perhaps a match" in out and " ? " in out and " = " not in out
    assert do("--precision", "0.8") == 0
    found, _ = searched(capsys)
    assert found["precision"] >= 0.8 and found["reliable"] is True and green(place)
    assert 0 < found["recall"] < 1


def test_labels_that_no_descriptor_follows_have_no_usable_threshold(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Images of one look under many names: what the trial's weak students were like."""
    for n, file in enumerate(sorted(Path("held").rglob("*.png"))):
        target = Path("mixed") / str(n % 24) / f"{n:03d}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.read_bytes())
    validation(Path("mixed"), lambda folder: folder)
    assert do("--rate", "0.05") == 0
    assert "no threshold is usable" in capsys.readouterr().out
    found, said = searched(capsys)
    assert found["usable"] is False and found["reliable"] is False
    assert "no threshold is usable" in said and not green(place)
    assert "match</b>" not in (place / "p.html").read_text("utf-8")
    assert console.run(search.app, ["i", "mine/größe 0/bild 0.png"]) == 0
    assert "match" not in capsys.readouterr().out
    before = indexes.read(Path("i")).generation
    assert do("--precision", "0.8") == 2
    assert "nothing was changed" in capsys.readouterr().err
    assert indexes.read(Path("i")).generation == before


def test_an_index_of_an_earlier_version_asks_for_a_new_calibration(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert do("--precision", "0.9") == 0
    opened = indexes.read(Path("i"))
    old = {k: opened.about["calibration"][k] for k in ("threshold", "rate", "per", "groups")}
    with changes.writing(Path("i")):
        about = {**opened.about, "calibration": old}
        changes.write(Path("i"), opened.index, indexes.images_of(opened), about)
    found, said = searched(capsys)
    assert "run `whiten-mtd calibrate` again" in said
    assert found["precision"] is None and found["reliable"] is False and not green(place)
    assert found["answers"][0]["match"] is True  # by its threshold, as it was


def test_the_server_says_what_a_match_means(place: Path) -> None:
    from starlette.testclient import TestClient

    from stages.tools.search import front, http_server

    assert do("--rate", "0.2") == 0
    service = live_index.Service(Path("i"), None, live_index.Limits(10**7, 10**7, 10.0))
    hosts = front.Hosts("testserver", "127.0.0.1")
    client = TestClient(http_server.application(service, hosts))
    page = client.get("/").text
    assert "% of the matches among the first 10 results were right" in page
    image = Path("mine/größe 0/bild 0.png").read_bytes()
    answer = client.post("/search", content=image).json()
    assert answer["reliable"] is False and 0 < answer["precision"] < 0.8


def test_images_of_the_index_that_are_known_count_once(place: Path) -> None:
    """Searched for in an index of themselves, the validation images find nothing new."""
    net = Exported.read(Path("exported"))
    known = calibrate.labelled(Path("validation.h5"), net)
    assert console.run(index.app, ["held", "own", "--model", "exported"]) == 0
    (place / "empty").mkdir()
    few = tiny_onnx.images(place / "few", groups=1, each=1, seed=9)
    assert console.run(index.app, [str(few), "one", "--model", "exported"]) == 0
    own = matches.first_results(indexes.read(Path("own")), known)
    other = matches.first_results(indexes.read(Path("one")), known)
    assert own.findable == other.findable == 24 * 4 * 3
    assert abs(own.right.sum() - other.right.sum()) <= 24 * 4


def test_frames_of_a_known_video_are_no_wrong_results() -> None:
    rows = np.eye(4, dtype=np.float32)
    source = np.array([0, 0, 1, 1])
    names = ["v/a/0.jpg", "v/a/5.jpg", "v/b/0.jpg", "v/b/5.jpg"]
    known = Labelled(rows, np.zeros(4, int), source, names)
    assert known.among(["v/a/3.jpg", "v/c/0.jpg"]).tolist() == [True, False]
    single = Labelled(rows, np.zeros(4, int), np.arange(4), names)
    assert single.among(["v/a/3.jpg", "v/a/0.jpg"]).tolist() == [False, True]


@given(
    st.lists(st.tuples(st.integers(0, 9), st.booleans()), min_size=1, max_size=40),
    st.floats(0.05, 1),
)
def test_a_threshold_of_a_precision_has_it(results: list[tuple[int, bool]], wanted: float) -> None:
    results.sort(key=lambda r: -r[0])
    score = np.array([r[0] for r in results], np.float32)
    right = np.array([r[1] for r in results])
    made = Results(score, right, max(int(right.sum()), 1))
    threshold = made.reaching(wanted)
    possible = [
        (made.at(float(t))["precision"], made.at(float(t))["recall"]) for t in np.unique(score)
    ]
    good = [r for p, r in possible if p >= wanted - 1e-4 and r >= matches.LEAST_RECALL]  # type: ignore[operator]
    if threshold is None:
        assert not [r for p, r in possible if p >= wanted + 1e-4 and r >= matches.LEAST_RECALL]  # type: ignore[operator]
    else:
        found = made.at(threshold)
        assert found["precision"] >= wanted - 1e-4 and found["recall"] >= max(good) - 1e-4  # type: ignore[operator]
    assert made.best() == pytest.approx(
        max(p for p, r in possible if r >= 0.05) if any(r >= 0.05 for _, r in possible) else 0,
        abs=1e-4,
    )  # type: ignore[type-var,operator]


def test_files_are_read_back_as_written(place: Path) -> None:
    assert do("--rate", "0.05") == 0
    opened = indexes.read(Path("i"))
    stored = files.read_json(Path("i") / f"{opened.generation:06d}" / "index.json")["calibration"]
    assert {"precision", "recall", "usable", "best_precision"} <= set(stored)
