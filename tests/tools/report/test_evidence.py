"""Queries of videos on the page: compared as params.yaml says, shown by their middle frames."""

from pathlib import Path

import pytest
from test_evaluate_videos import World

from stages.retrieval.benchmark import Benchmark
from stages.tools import pages
from stages.tools.report import evidence
from stages.tools.report.runs import Run


@pytest.mark.parametrize("similarity", ["chamfer", "mean_pooled"])
def test_videos_are_ranked_by_the_similarity_of_the_run(
    similarity: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from functools import partial

    from stages.core import store

    world = World(tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(evidence, "PREPARED", Path("data"))
    key = ("v", "student", "top-100")
    params = {"evaluate": {"similarity": similarity}}
    run = Run("here", {}, {}, {key: {"q0": 50.0, "q1": 100.0}}, [], {}, params, {})
    sheets = evidence.queries(run, "v", "top-100")
    assert sheets["missing"] == "" and sheets["count"] == 2
    benchmark = Benchmark.read(world.folder / "evaluation", "v", similarity)
    opened = partial(store.Stored, kind="descriptors")
    described = benchmark.described(world.folder / "described/student", opened)
    ranked = benchmark.first_rows(described.query, described.database, evidence.RESULTS)
    for sheet in [*sheets["best"], *sheets["worst"]]:
        number = ["q0", "q1"].index(sheet["name"])
        files = [benchmark.file(int(row)) for row in ranked[number]]
        names = [f"{f.parent.name}/{f.name}" for f in files]
        assert [shot["name"] for shot in sheet["results"]] == names
        middle = {"q0": "q0/0001.jpg", "q1": "q1/0002.jpg"}[sheet["name"]]
        assert sheet["query"]["name"] == middle
        assert sheet["query"]["uri"] == pages.image(world.folder / "frames" / middle)
