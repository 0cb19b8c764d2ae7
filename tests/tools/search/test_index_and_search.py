"""index, search and calibrate as a person uses them: changes, refusals, pages, thresholds."""

import html.parser
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import spoiled
import tiny_onnx
from PIL import Image
from project import ROOT, run

from stages.core import console, store
from stages.datasets import Evaluation, _images
from stages.prepare import write_evaluation
from stages.tools.search import calibrate, changes, index, search
from stages.tools.search import generations as indexes


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a student and images, and an index of them."""
    monkeypatch.chdir(tmp_path)
    tiny_onnx.student(tmp_path / "exported/model.onnx")
    tiny_onnx.images(tmp_path / "my images")
    assert do(index, "my images", "mine", "--model", "exported") == 0
    return tmp_path


def do(tool, *arguments: str) -> int:  # type: ignore[no-untyped-def]
    return console.run(tool.app, list(arguments))


def refused(capsys, tool, *arguments: str) -> str:  # type: ignore[no-untyped-def]
    capsys.readouterr()
    assert do(tool, *arguments) == 2
    said = [x for x in capsys.readouterr().err.splitlines() if not x.startswith("left out: ")]
    assert len(said) == 1 and said[0].startswith("error: "), said
    return said[0]


def answers(capsys, *arguments: str) -> dict:  # type: ignore[no-untyped-def, type-arg]
    capsys.readouterr()
    assert do(search, *arguments, "--json") == 0
    return json.loads(capsys.readouterr().out)


QUERY = "my images/größe 2/bild 1.png"


def test_a_image_finds_itself_and_its_like(place: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    found = answers(capsys, "mine", QUERY, "--top", "3")["answers"][0]
    assert found["match"] is None  # not calibrated
    assert found["results"][0]["path"] == "größe 2/bild 1.png"
    assert found["results"][0]["score"] == pytest.approx(1, abs=1e-3)
    assert {r["path"].split("/")[0] for r in found["results"]} == {"größe 2"}
    assert do(search, "mine", QUERY) == 0
    assert "größe 2/bild 1.png" in capsys.readouterr().out.splitlines()[1]
    many = answers(capsys, "mine", "my images", "--top", "1")["answers"]
    assert [a["results"][0]["file"].endswith(a["query"]) for a in many] == [True] * 18


def test_add_describes_only_what_is_new_and_remove_takes_out(
    place: Path, capsys, monkeypatch: pytest.MonkeyPatch  # type: ignore[no-untyped-def]
) -> None:  # fmt: skip
    described = []
    real = index.Exported.images
    monkeypatch.setattr(
        index.Exported,
        "images",
        lambda self, files: (described.extend(files), real(self, files))[1],
    )
    tiny_onnx.images(place / "my images", groups=8)  # two folders more, same bytes
    changed = place / QUERY
    changed.write_bytes((place / "my images/größe 0/bild 0.png").read_bytes())
    before = indexes.read(Path("mine"))
    assert do(index, "my images", "mine", "--add") == 0
    assert sorted(f.parent.name for f in described) == [
        "größe 2",
        *["größe 6"] * 3,
        *["größe 7"] * 3,
    ]
    after = indexes.read(Path("mine"))
    assert len(after) == 24 and len(set(after.files())) == 24
    kept = np.isin(after.ids, before.ids)
    np.testing.assert_array_equal(
        after.ids[kept], np.delete(before.ids, before.path.tolist().index("größe 2/bild 1.png"))
    )
    top = answers(capsys, "mine", QUERY, "--top", "2")["answers"][0]["results"]
    assert {r["path"] for r in top} == {"größe 2/bild 1.png", "größe 0/bild 0.png"}
    assert do(index, "my images", "mine", "--add") == 0
    assert indexes.current(Path("mine")) == 2  # nothing new: no generation
    assert do(index, "mine", "--remove", "größe 0/*", "--remove", str(changed)) == 0
    left = indexes.read(Path("mine"))
    assert len(left) == 20 and "größe 0" not in {p.split("/")[0] for p in left.path}
    assert do(index, "mine", "--rollback") == 0
    assert len(indexes.read(Path("mine"))) == 24
    assert "no image matches 'absent*'" in refused(capsys, index, "mine", "--remove", "absent*")
    assert "remove all" in refused(capsys, index, "mine", "--remove", "*")


def test_images_that_are_gone_are_named(place: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    """Until they are removed they are found; a renamed image would be there twice, in silence."""
    (place / QUERY).rename(place / "my images/größe 2/renamed.png")
    capsys.readouterr()
    assert do(index, "my images", "mine", "--add") == 0
    said = capsys.readouterr().err
    assert "1 images of the index are no longer there" in said and "bild 1.png" in said
    assert do(index, "mine", "--remove", "größe 2/bild 1.png") == 0
    capsys.readouterr()
    assert do(index, "my images", "mine", "--add") == 0
    assert "no longer there" not in capsys.readouterr().err


def test_descriptor_files_and_another_student(place: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    rows = np.eye(4, 8, dtype=np.float16)
    names = np.array([f"{i}.jpg" for i in range(4)])
    arrays = {"descriptor": rows, "image_id": names, "path": names}
    same = {"weights": f"{0:032x}", "image_px": 48, "scales": "1 0.707107", "root": "my images"}
    store.write(Path("a.h5"), "descriptors", arrays, **same)
    store.write(Path("b.h5"), "descriptors", arrays, **{**same, "weights": f"{1:032x}"})
    store.write(Path("c.h5"), "descriptors", arrays, **{**same, "scales": "1"})
    assert do(index, "a.h5", "mine", "--add") == 0
    assert len(indexes.read(Path("mine"))) == 22
    assert (
        answers(capsys, "mine", "a.h5", "--top", "1")["answers"][3]["results"][0]["path"] == "3.jpg"
    )
    for file, word in (("b.h5", "weights"), ("c.h5", "scales")):
        said = refused(capsys, index, file, "mine", "--add")
        assert "another student" in said and word in said and file in said
        assert "another student" in refused(capsys, search, "mine", file)
        assert "another student" in refused(capsys, index, file, "new", "--model", "exported")
    tiny_onnx.student(Path("other.onnx"), seed=1)
    assert "another student" in refused(capsys, search, "mine", QUERY, "--model", "other.onnx")
    assert do(index, "a.h5", "bare", "--compress", "sq8") == 0
    assert "--model" in refused(capsys, search, "bare", QUERY)
    assert do(search, "bare", QUERY, "--model", "exported") == 0


def test_bad_input_is_one_line(place: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    Path("empty").mkdir()
    Path("rubbish").mkdir()
    Path("rubbish/a.jpg").write_bytes(b"no image")
    for arguments, word in (
        (("empty", "new", "--model", "exported"), "no images in it"),
        (("rubbish", "new", "--model", "exported"), "none of its 1 images can be read"),
        (("my images", "new"), "--model"), (("absent", "new", "--model", "exported"), "no such file or folder"),
        (("my images", "new", "--model", "exported", "--compress", "zip"), "choose from"),
        (("my images", "new", "--model", "exported", "--compress", "ivfpq"), "too few"),
        (("mine",), "give sources"), (("mine", "--rollback"), "no undamaged generation before"),
        (("absent.h5", "new"), "no such file"), (("my images", "absent", "--add"), "no such index"),
        (("my images", "rubbish", "--model", "exported"), "not an index"),
    ):  # fmt: skip
        assert word in refused(capsys, index, *arguments), arguments
        assert not Path("new").exists() and not Path("absent").exists()
    for query, word in (
        ("rubbish/a.jpg", "cannot be read as an image"),
        ("absent.jpg", "absent.jpg"),
        ("empty", "no images in it"),
    ):
        assert word in refused(capsys, search, "mine", query)
    file = Path("mine/000001/index.faiss")
    file.write_bytes(file.read_bytes()[:-7])
    assert "damaged" in refused(capsys, search, "mine", QUERY)


def test_a_command_that_fails_takes_nothing_away(place: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    Path("theirs").mkdir()
    assert "contains no index" in refused(capsys, calibrate, "theirs")
    assert "contains no index" in refused(capsys, index, "theirs", "--rollback")
    assert list(Path("theirs").iterdir()) == []
    Path("mine/CURRENT").unlink()
    for arguments in (("my images", "mine"), ("my images", "mine", "--add")):
        said = refused(capsys, index, *arguments, "--model", "exported")
        assert "CURRENT: missing" in said and "--rollback" in said
    assert "--rollback" in refused(capsys, calibrate, "mine")
    assert do(index, "mine", "--rollback") == 0
    assert len(indexes.read(Path("mine"))) == 18


def test_descriptors_that_do_not_say_whose_they_are(place: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    def file(name: str, rows: np.ndarray, **more: np.ndarray) -> str:
        ids = np.array([f"{name}{i}" for i in range(len(rows))], dtype=str)
        spoiled.write(Path(name), "descriptors", {"descriptor": rows, "image_id": ids, **more})
        return name

    eye = np.eye(4, 8, dtype=np.float32)
    good, wide = file("good.h5", eye), file("wide.h5", np.eye(4, 9, dtype=np.float32))
    film = file("film.h5", eye, start=np.array([0, 2, 4]))
    nan, none = file("nan.h5", eye * np.nan), file("none.h5", eye[:0])
    flat = file("flat.h5", np.ones(4, np.float32))
    assert do(index, good, "bare") == 0
    for odd, word in (
        (wide, "9 dimensions, not 8"), (film, "one descriptor per image"),
        (nan, "4 of 4 rows have NaN or infinity, the first: row 0 (nan.h50), row 1"),
        (none, "holds no descriptors"), (flat, "'descriptor' has the shape (4,), not 2 axes"),
    ):  # fmt: skip
        for tool, arguments in (
            (index, (odd, "bare", "--add")), (index, (good, odd, "new")), (search, ("bare", odd)),
            (search, ("bare", good, odd)),
        ):  # fmt: skip
            said = refused(capsys, tool, *arguments)
            assert word in said and odd in said
    assert not Path("new").exists()
    assert len(answers(capsys, "bare", good)["answers"]) == 4


def test_brackets_in_a_name_and_what_goes_together(place: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    odd = Path("my images/größe 1/a [1].png")
    odd.write_bytes(Path(QUERY).read_bytes())
    assert do(index, "my images", "c", "--model", "exported", "--compress", "sq8") == 0
    assert "recall" in indexes.read(Path("c")).about
    capsys.readouterr()
    assert do(index, "c", "--remove", "größe 1/a [1].png") == 0
    assert "recall" not in capsys.readouterr().err  # it was of other images
    left = indexes.read(Path("c"))
    assert len(left) == 18 and "größe 1/a [1].png" not in left.path
    assert do(index, "my images", "c", "--add") == 0
    assert "recall" not in indexes.read(Path("c")).about
    assert "give sources" in refused(capsys, index, "c", "--remove", "größe 1/*", "--add")
    for page in (".", "my images", f"{QUERY}/found.html"):
        assert "cannot be written" in refused(capsys, search, "mine", QUERY, "--html", page)


def test_an_index_sees_what_prepare_sees(place: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    mine = Path("my images")
    image = (place / QUERY).read_bytes()
    for folder in (".thumbs", "__MACOSX"):
        (mine / folder).mkdir()
        (mine / folder / "a.png").write_bytes(image)
    Path("elsewhere").mkdir()
    Path("elsewhere/b.png").write_bytes(image)
    (mine / "link").symlink_to(place / "elsewhere")
    with open(os.fsencode(mine) + b"/\xff.png", "wb") as file:
        file.write(image)
    capsys.readouterr()
    assert do(index, "my images", "mine", "--add") == 0
    said = capsys.readouterr().err
    assert "hidden or made by a machine: .thumbs, __MACOSX" in said and "not UTF-8: ?.png" in said
    paths, _ = _images.below(mine)
    assert sorted(indexes.read(Path("mine")).path) == paths and "link/b.png" in paths


class Page(html.parser.HTMLParser):
    """What a page holds: images, references to elsewhere, its text."""

    def __init__(self) -> None:
        super().__init__()
        self.images: list[str] = []
        self.elsewhere: list[str] = []
        self.text = ""

    def handle_starttag(self, tag, attrs) -> None:  # type: ignore[no-untyped-def]
        for key, value in attrs:
            if key == "src" and tag == "img":
                self.images.append(value)
            if key in ("src", "href") and not value.startswith("data:"):
                self.elsewhere.append(value)

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_is_self_contained_and_escapes(place: Path) -> None:
    odd = Path("my images/größe 2/<script>alert(1)<")
    odd.mkdir()
    (place / QUERY).rename(odd / "x.png")
    assert do(index, "my images", "mine", "--add") == 0
    assert do(search, "mine", str(odd / "x.png"), "--top", "5", "--html", "found.html") == 0
    text = Path("found.html").read_text("utf-8")
    assert "<script" not in text
    page = Page()
    page.feed(text)
    assert len(page.images) == 5 and not page.elsewhere  # the query, and one of five is gone
    assert "<script>alert(1)</x.png" in page.text and "image not found" in page.text


def evaluation(folder: Path, images: Path, name: str) -> Path:
    """A set of labelled images as `prepare` writes it."""
    paths = sorted(f.relative_to(images).as_posix() for f in images.rglob("*.png"))
    queries = [
        {"image_id": p, "positive": [q for q in paths if q.split("/")[0] == p.split("/")[0] and q != p], "junk": [p]}
        for p in paths
    ]  # fmt: skip
    box = np.full((len(paths), 4), np.nan, np.float32)
    write_evaluation(
        folder,
        name,
        Evaluation(images, paths, paths, ["database"] * len(paths), box, "positives", queries),
    )
    return folder / f"{name}.h5"


@pytest.mark.parametrize("kind", ["flat", "sq8"])
def test_a_rate_of_one_percent_holds_on_other_groups(place: Path, capsys, kind: str) -> None:  # type: ignore[no-untyped-def]
    held = evaluation(place / "sets", tiny_onnx.images(place / "held", 60, 2, seed=5), "held")
    other = evaluation(place / "sets", tiny_onnx.images(place / "other", 60, 2, seed=6), "other")
    assert do(index, "my images", "c", "--model", "exported", "--compress", kind) == 0
    capsys.readouterr()
    assert do(calibrate, "c", "--images", str(held), "--measure", str(other)) == 0
    lines = capsys.readouterr().out.splitlines()
    own, measured = (float(line.split("images: ")[1].split(" %")[0]) for line in lines[1:3])
    assert own <= 1.0 and 0.5 <= measured <= 2.0, lines
    found = answers(capsys, "c", QUERY, "--top", "18")
    results = found["answers"][0]["results"]
    assert found["threshold"] == indexes.read(Path("c")).about["calibration"]["threshold"]
    assert [r["match"] for r in results] == [
        r["score"] >= found["threshold"] - 1e-6 for r in results
    ]
    assert found["answers"][0]["match"] is True and not results[-1]["match"]
    assert do(index, "my images/größe 1", "c", "--add") == 0  # the threshold stays
    assert "calibration" in indexes.read(Path("c")).about
    assert "cannot tell a rate" in refused(
        capsys, calibrate, "c", "--images", str(held), "--rate", "1e-6"
    )
    assert do(calibrate, "c", "--images", str(held), "--per", "search", "--rate", "0.05") == 0


def test_threshold_is_the_lowest_that_keeps_the_rate() -> None:
    scores = np.random.default_rng(0).random(200, dtype=np.float32)
    threshold = calibrate.threshold_at(scores, 0.01)
    assert (scores >= threshold).sum() == 2  # compared in float32, as search does
    assert (scores >= np.nextafter(np.float32(threshold), np.float32(0))).sum() == 3


def test_all_of_searching_runs_without_torch(place: Path) -> None:
    held = evaluation(place / "sets", tiny_onnx.images(place / "held", 8, 2, seed=5), "held")
    heavy = ("torch", "timm", "torchvision", "matplotlib", "dvc", "onnx")
    code = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
sys.modules.update(dict.fromkeys({heavy!r}))  # an import of any of them fails
from pathlib import Path
from stages.core import console
from stages.tools.search import calibrate, index, live_index, search, serve
for tool, *arguments in (
    (index, "held", "new", "--model", "exported"), (index, "my images", "new", "--add"),
    (index, "new", "--remove", "größe 0/*"), (calibrate, "new", "--images", {str(held)!r}, "--rate", "0.1"),
    (search, "new", {QUERY!r}, "--html", "x.html"),
):
    assert console.run(tool.app, arguments) == 0, arguments
service = live_index.Service(Path("new"), None, live_index.Limits(10**6, 10**6, 1.0))
answer = service.search(service.now, "a", Path({QUERY!r}).read_bytes(), 1)
assert answer["results"][0]["path"] == {QUERY.removeprefix("my images/")!r}, answer
"""
    run(sys.executable, "-c", code, cwd=place)


def test_broken_queries_are_left_out_named_and_counted(place: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    folder = place / "asked"
    tiny_onnx.images(folder, groups=1)
    for i in range(3):
        (folder / f"broken {i}.jpg").write_bytes(b"\xff\xd8\xff nothing")
    os.mkfifo(folder / "pipe.jpg")
    for _ in range(2):
        capsys.readouterr()
        assert do(search, "mine", "asked", "--json") == 0
        out, err = capsys.readouterr()
        said = json.loads(out)
        assert len(said["answers"]) == 3 and len(said["left_out"]) == 3
        assert "3 of 6 queries left out" in err and "pipe.jpg" in err
        assert all(f"broken {i}.jpg" in err for i in range(3))
    assert do(index, "asked", "asked-index", "--model", "exported") == 0
    assert "3 of 6 images left out" in capsys.readouterr().err
    assert len(indexes.read(Path("asked-index"))) == 3
    assert "broken 0.jpg" in refused(capsys, search, "mine", "asked/broken 0.jpg")


def test_a_list_with_a_mark_finds_its_first_image(place: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    names = [str(f.relative_to(place)) for f in sorted((place / "my images").rglob("*.png"))[:2]]
    (place / "list.txt").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(names).encode())
    assert do(index, "list.txt", "listed", "--model", "exported") == 0
    assert len(indexes.read(Path("listed"))) == 2
    assert len(answers(capsys, "mine", "list.txt")["answers"]) == 2


STEERING = "a\x1b[2J\n\x9b\u202eb.png"  # clears a terminal, begins a line, turns the rest around


def test_names_do_not_steer_a_terminal(place: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    odd = place / "my images/größe 2" / STEERING
    (place / QUERY).rename(odd)
    (place / "my images" / f"broken{STEERING}").write_bytes(b"no image")
    capsys.readouterr()
    assert do(index, "my images", "mine", "--add") == 0
    assert do(search, "mine", str(odd), "--top", "2") == 0
    said = capsys.readouterr()
    assert not {"\x1b", "\x9b", "\u202e"} & set(said.out + said.err)
    assert len(said.out.splitlines()) == 3 and r"a\u001b[2J\u000a\u009b\u202eb.png" in said.out
    found = answers(capsys, "mine", str(odd), "--top", "2")["answers"][0]  # JSON keeps the names
    assert found["query"] == str(odd) and STEERING in found["results"][0]["path"]
    assert "\x1b" not in refused_text(capsys, search, "mine", f"absent{STEERING}")
    assert "\x1b" not in refused_text(capsys, index, "mine", "--remove", STEERING + "x")


def test_a_name_with_an_end_of_line_stays_in_its_line(place: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    (place / "my images" / "two\nlines.png").write_bytes(b"no image")
    (place / "my images" / "no\nimage.doc").write_bytes(b"")
    capsys.readouterr()
    assert do(index, "my images", "mine", "--add") == 0
    said = capsys.readouterr().err.splitlines()
    assert [x for x in said if r"two\u000alines.png: cannot be read" in x]
    assert not [x for x in said if x.startswith(("lines", "image"))]
    assert r"absent\u000afile" in refused(capsys, search, "mine", "absent\nfile")


def refused_text(capsys, tool, *arguments: str) -> str:  # type: ignore[no-untyped-def]
    capsys.readouterr()
    assert do(tool, *arguments) == 2
    return capsys.readouterr().err


def test_a_page_destroys_nothing_else(place: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    Path("to index").symlink_to("mine")
    Path("theirs.html").write_bytes(Path(QUERY).read_bytes())
    Path("mine/CURRENT").touch()
    before = {f: f.read_bytes() for f in Path(".").rglob("*") if f.is_file()}
    for page, word in (
        ("mine/CURRENT", "within an index"), ("mine/found.html", "within an index"),
        ("mine/000001/images.h5", "within an index"), ("mine/models/../found.html", "within an index"),
        ("to index/000001/a.html", "within an index"), ("mine/new/found.html", "within an index"),
        (QUERY, "ends in .html"), ("exported/model.onnx", "ends in .html"), ("found", "ends in .html"),
        ("theirs.html", "no page"),
    ):  # fmt: skip
        assert word in refused(capsys, search, "mine", QUERY, "--html", page), page
    assert {f: f.read_bytes() for f in Path(".").rglob("*") if f.is_file()} == before
    for _ in range(2):  # over a page of before
        assert do(search, "mine", QUERY, "--html", "found.html") == 0


def bmp(seed: int, file: Path) -> None:
    """An image whose length in bytes is that of every other one."""
    pixels = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((80, 60)).save(file)


def test_another_image_of_the_same_length_is_seen(place: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    (place / "same").mkdir()
    for i in range(5):
        bmp(i, place / f"same/{i}.bmp")
    assert do(index, "same", "bmps", "--model", "exported") == 0
    bmp(100, place / "asked.bmp")
    bmp(100, place / "same/3.bmp")
    os.utime(place / "same/1.bmp", (1, 1))  # another time, the same content
    assert do(index, "same", "bmps", "--add") == 0
    assert "1 added, 1 of them replaced" in capsys.readouterr().err
    best = answers(capsys, "bmps", "asked.bmp", "--top", "1")["answers"][0]["results"][0]
    assert best["path"] == "3.bmp" and best["score"] == pytest.approx(1, abs=1e-3)
    assert do(index, "same", "bmps", "--add") == 0
    assert indexes.current(Path("bmps")) == 2  # nothing new


def test_an_index_without_contents_is_read_and_learns_them(place: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    """Of 0.1: a file counts as the one described where its length is the same and it is older."""
    (place / "same").mkdir()
    for i in range(3):
        bmp(i, place / f"same/{i}.bmp")
    assert do(index, "same", "bmps", "--model", "exported") == 0
    old = indexes.read(Path("bmps"))
    columns = {k: v for k, v in indexes.images_of(old).items() if k != "content"}
    with changes.writing(Path("bmps")):
        changes.write(Path("bmps"), old.index, columns, old.about)
    (place / "bmps" / indexes.SEEN).unlink(missing_ok=True)
    assert do(index, "same", "bmps", "--add") == 0
    assert indexes.current(Path("bmps")) == 2  # nothing new
    bmp(100, place / "same/2.bmp")
    assert do(index, "same", "bmps", "--add") == 0
    assert "1 added, 1 of them replaced" in capsys.readouterr().err
