"""How much there is to see: as datasets count it, and as prepare wrote it, for videos too."""

import json
from pathlib import Path

import pytest
from project import changed
from ruamel.yaml import YAML
from test_video_demo import CHANGES

from stages import prepare
from stages.core import console, params
from stages.datasets import demo_video
from stages.tools.cost import plan, world
from stages.tools.setup import preset


@pytest.fixture
def project_of_videos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> params.Parameters:
    """The tiny video project, nothing prepared yet; its parameters."""
    monkeypatch.setenv("WHITEN_MTD_WORKERS", "0")
    monkeypatch.chdir(tmp_path)
    yaml = YAML(typ="safe")
    yaml.dump(changed(yaml.load(preset.text("demo_video")), CHANGES), Path("params.yaml"))
    return params.read(Path("params.yaml"))


def forbidden(*_: object) -> None:
    raise AssertionError("plan makes nothing")


def test_videos_before_and_after_prepare(
    project_of_videos: params.Parameters, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, where, prepared = project_of_videos, Path("params.yaml"), Path("data/prepared")
    with monkeypatch.context() as patch:
        for function in ("training", "evaluation", "_encode", "_make"):
            patch.setattr(demo_video, function, forbidden)
        before = world.counted(given, prepared)
    assert list(Path().iterdir()) == [where]
    prepared.mkdir(parents=True)
    assert console.run(prepare.app, [str(prepared)]) == 0
    after = world.counted(given, prepared)
    assert before.videos and after.videos and after.noun == "videos"
    assert after.evaluation == before.evaluation == 3 * (1 + 2 + 1) + 5
    assert before.images + before.validation == after.images + after.validation == 20
    for what in ("images", "views", "groups", "described"):
        assert getattr(before, what) == pytest.approx(getattr(after, what), rel=0.3), what
    assert after.described > after.evaluation and after.measured > after.validation
    assert not before.files and all(f.is_file() for f in after.files)
    assert before.made_bytes > 0 and before.made and not after.made
    weight = sum(f.stat().st_size for f in (prepared / "images").rglob("*.*"))
    assert after.made_bytes == weight and before.pixels(1.0) == after.pixels(1.0) == 48 * 64


def test_plan_of_videos_speaks_of_frames(
    project_of_videos: params.Parameters, capsys: pytest.CaptureFixture[str]
) -> None:
    assert console.run(plan.app, ["--no-time"]) == 0
    said = capsys.readouterr().out
    assert "training videos in" in said and "17 evaluation videos of" in said
    assert console.run(plan.app, ["--no-time", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    n = found["counts"]["described"]
    assert found["disk"]["evaluation descriptors"] > 2 * n * 16 and found["memory"]


@pytest.mark.parametrize("name", ["svd", "gem_apgem_solar", "delg_dolg", "folder"])
def test_what_is_missing_is_said_in_a_line(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert console.run(preset.app, [name]) == 0
    capsys.readouterr()
    assert console.run(plan.app, ["--no-time"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and "no such folder" in lines[0] and "--images N" in lines[0]
