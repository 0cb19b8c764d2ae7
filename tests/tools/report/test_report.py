"""The page of a run: what it says is what the files say, and it asks nothing of anyone."""

import base64
import json
import re
import shutil
from pathlib import Path

import chromium
import h5py
import pytest
from project import run

from stages.core import console
from stages.tools.report import report, results, runs, table


def made(
    world: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str, speed: bool = False
) -> tuple[int, Path]:
    """(exit code, page) of `report` run in `world`."""
    monkeypatch.chdir(world)
    page = world / "out" / "page.html"
    flags = [] if speed else ["--no-speed"]
    return console.run(report.app, [str(page), *flags, *arguments]), page


@pytest.fixture(scope="module")
def finished(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the finished project with its page, for tests that change neither."""
    folder = tmp_path_factory.mktemp("report") / "world"
    shutil.copytree(project, folder, ignore=shutil.ignore_patterns(".git", ".dvc", "cache"))
    with pytest.MonkeyPatch.context() as patch:
        assert made(folder, patch, speed=True)[0] == 0
    return folder


@pytest.fixture
def page(finished: Path) -> Path:
    return finished / "out" / "page.html"


def text_of(html: str) -> str:
    """What a reader sees, spaces folded."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", html.split("</style>")[1]))


def test_page_says_what_the_files_say(page: Path, finished: Path) -> None:
    html = page.read_text("utf-8")
    seen = text_of(html)
    scores = json.loads((finished / "data/results/metrics.json").read_text())["demo"]
    for model, entry in scores.items():
        states = {f"{model} {k}": v for k, v in entry.items()} if "raw" in entry else {model: entry}
        for label, values in states.items():
            for difficulty in ("easy", "hard"):
                assert re.search(rf"{label} .*?{values[difficulty]['map']:.1f}", seen), label
    kept = json.loads((finished / "data/speed.json").read_text())
    measured = [m for machine in kept.values() for m in machine.values()]
    assert all(m["ms"] > 0 and m["parameters"] > 1000 for m in measured)
    assert "Strategy maxmin" in seen and "Counted on 4 of the 4 stored batches" in seen
    assert "a stage without one" not in seen and "No stage has one" not in seen
    assert (
        len(re.findall(r"\d positives? in the database", seen)) == 4
    )  # four queries, best and worst of them


def test_bytes_are_those_of_the_stored_rows(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(finished)
    own = runs.workspace(Path("params.yaml"))
    dims = {t: h5py.File(f"models/whitening/{t}.h5")["projection"].shape[0] for t in "ab"}
    dims["fused"] = h5py.File("models/whitening/fused.h5")["projection"].shape[0]
    found = {
        m: table.cost(own, "demo", m, {})["bytes"] for m in ("a whitened", "ensemble", "fused")
    }
    assert found == {
        "a whitened": 2 * dims["a"], "ensemble": 2 * (dims["a"] + dims["b"]), "fused": 2 * dims["fused"],
    }  # fmt: skip


def test_second_page_takes_the_stored_speed(
    finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (finished / "data/speed.json").read_bytes()
    capsys.readouterr()
    assert made(finished, monkeypatch, speed=True)[0] == 0
    assert "timing" not in capsys.readouterr().err
    assert (finished / "data/speed.json").read_bytes() == before
    assert console.run(results.app, []) == 0
    assert re.search(r"demo medium: student .* mAP .* MB .* ms; untrained", capsys.readouterr().out)


def test_page_is_self_contained(page: Path) -> None:
    html = page.read_text("utf-8")
    addresses = re.findall(r"""(?:src|href|url|action)\s*[=(]\s*["']?([^"')\s>]+)""", html)
    assert addresses and all(a.startswith(("data:", "#")) for a in addresses)
    assert "<script" not in html and "@import" not in html
    for kind, content in re.findall(r'src="data:(image/[a-z+]+);base64,([^"]+)"', html):
        head = base64.b64decode(content)[:16]
        wanted = {"image/jpeg": b"\xff\xd8", "image/png": b"\x89PNG", "image/svg+xml": b"<?xml"}
        assert head.startswith(wanted[kind])


@chromium.needed
def test_page_in_a_browser(page: Path, tmp_path: Path) -> None:
    # 4 queries with up to 8 results each, three charts, the distributions
    assert chromium.check_page(page, tmp_path) >= 4 + 4 * 3 + 4


def test_what_a_name_holds_is_text_on_the_page(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "c.csv"
    table.write_text(
        "set,recipe,model,runs,setting,medium,medium_spread,medium_low,medium_high\n"
        "demo,<script>alert(1)</script>,student,2,x=1,51.26,0.5,40,60\n"
    )
    code, page = made(finished, monkeypatch, "--comparison", str(table))
    html = page.read_text("utf-8")
    assert code == 0 and "<script" not in html
    assert "&lt;script&gt;alert(1)" in html and "51.3 ± 0.5" in html


def test_missing_parts_are_said_and_the_rest_is_shown(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(world / "data/whitened")
    shutil.rmtree(world / "data/described")
    shutil.rmtree(world / ".scratch")
    (world / "data/speed.json").unlink(missing_ok=True)
    (world / "data/results/plots/demo/similarities.png").unlink()
    code, page = made(world, monkeypatch)
    seen = text_of(page.read_text("utf-8"))
    assert code == 0
    assert "Not shown: data/whitened/a.h5: no such file" in seen
    assert "Not shown: data/described/student/demo.h5: no such file" in seen
    assert "No stage has one" in seen and "not measured here" in seen
    assert "similarities.png is missing" in seen


def test_an_image_that_cannot_be_read_leaves_its_place(
    world: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for file in (world / "data/prepared/images/evaluation").rglob("query_0.jpg"):
        file.write_bytes(b"no image")
    code, page = made(world, monkeypatch)
    assert code == 0 and page.read_text("utf-8").count("image cannot be read") == 4


@pytest.mark.parametrize(
    ("spoil", "arguments", "words"),
    [
        (None, ["more.html"], "experiments come after --exp"),
        ("data/results/metrics.json", [], "metrics.json is missing; run `dvc repro`"),
        ("models/student/history.csv", [], "history.csv is missing"),
        ("params.yaml", [], "params.yaml: no such file"),
    ],
)
def test_bad_input_is_one_line(
    finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    spoil: str | None, arguments: list[str], words: str,
) -> None:  # fmt: skip
    kept = finished / (spoil or "params.yaml")
    away = kept.rename(kept.with_suffix(".away")) if spoil else kept
    code, _ = made(finished, monkeypatch, *arguments)
    away.rename(kept)
    said = capsys.readouterr().err.splitlines()
    assert code == 2 and len(said) == 1 and words in said[0]


@pytest.mark.parametrize("name", ["page.txt", "page", "."])
def test_a_page_ends_in_html(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert console.run(report.app, [str(tmp_path / name)]) == 2
    assert "ends in .html" in capsys.readouterr().err


def test_damaged_comparison_is_refused(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    table = tmp_path / "c.csv"
    table.write_text("recipe,medium,medium_spread,medium_low,medium_high\nx,1,y,2,3\n")
    code, _ = made(finished, monkeypatch, "--comparison", str(table))
    assert code == 2 and "run compare again" in capsys.readouterr().err


def test_experiments_by_name(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(project)
    page = tmp_path / "page.html"
    head = run("git", "rev-parse", "HEAD", cwd=project).stdout.strip()
    code = console.run(report.app, [str(page), "--no-speed", "--exp", "main", head])
    seen = text_of(page.read_text("utf-8"))
    assert code == 0 and seen.count("No setting differs.") == 2
    assert seen.count("+0.0 mAP medium against this run") == 2
    assert console.run(report.app, [str(page), "--exp", "nobody"]) == 2
    assert "no experiment 'nobody'" in capsys.readouterr().err


def test_runs_that_cannot_be_compared_are_told_apart(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(finished)
    here = runs.workspace(Path("params.yaml"))

    def other(path: str) -> bytes:
        content = Path(path).read_bytes()
        if path == "params.yaml":
            return content.replace(b"strategy: maxmin", b"strategy: mean")
        return (
            content.replace(b"0.707107", b"0.5") if path.endswith("scoring_rules.json") else content
        )

    there = runs.Run.read("there", other)
    assert runs.differences(there, here) == [("fuse.strategy", "maxmin", "mean")]
    assert here.fingerprint("demo") != there.fingerprint("demo")
    assert runs.gain(there, here, "demo", "medium") is None
    assert runs.gain(here, here, "demo", "medium") == (0, 0, 0)
