"""An exported student says what torch says, and its folder is all that anyone needs."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from project import ROOT, run
from ruamel.yaml import YAML
from timm.layers import Conv2dSame

from stages.retrieval import exported
from stages.tools import _programs


@pytest.mark.parametrize(
    "k, s, d", [(3, 2, 1), (5, 2, 1), (3, 1, 1), (1, 2, 1), (3, 2, 2), (2, 3, 1), (7, 4, 1)]
)
def test_padding_by_whole_numbers_is_timms(k: int, s: int, d: int) -> None:
    torch.manual_seed(0)
    net = torch.nn.Sequential(Conv2dSame(3, 4, k, stride=s, dilation=d))
    made = _programs.exportable(net)
    assert type(made[0]) is not Conv2dSame and type(net[0]) is Conv2dSame
    for h, w in [(n, 31 - n) for n in range(8, 20)] + [(1, 1), (1, 7)]:
        if k < s and (h < k or w < k):
            continue
        x = torch.rand(2, 3, h, w)
        assert torch.equal(made(x), net(x)), (h, w)


@pytest.mark.long
def test_export_index_search_on_a_finished_run(world: Path) -> None:
    settings = YAML(typ="safe").load((world / "params.yaml").read_text())
    settings["teachers"]["a"]["licence"] = "MIT"
    with (world / "params.yaml").open("w") as f:
        YAML(typ="safe").dump(settings, f)
    done = tool("export", "models/student", "exported", cwd=world)
    assert done.stdout.count("largest difference to torch") == 2
    names = {f.name for f in (world / "exported").iterdir()}
    assert names == {
        "README.md",
        "config.json",
        "exported.json",
        "model.onnx",
        "model.pt2",
        "model.safetensors",
    }
    onnx.checker.check_model(onnx.load(world / "exported/model.onnx"))
    card = (world / "exported/README.md").read_text()
    scores = json.loads((world / "data/results/metrics.json").read_text())["demo"]["student"]
    for said in ("| a | any_timm test_efficientnet | MIT |", "| b | any_timm test_resnet | not stated",
                 "revisitop", f"| {scores['medium']['map']:.1f} |", "test_efficientnet, 16 numbers"):  # fmt: skip
        assert said in card, card
    # What describe stored is what the exported student says: same scales, same pixels.
    code = "import sys, whiten_mtd; print(whiten_mtd.load_student(sys.argv[1]).dim)"
    assert run(sys.executable, "-c", code, "exported", cwd=world).stdout == "16\n"
    tool("index", "data/described/student/demo.h5", "mine", "--model", "exported", cwd=world)
    net = exported.Exported.read(world / "exported")
    from stages.core.store import Stored

    stored = Stored(world / "data/described/student/demo.h5", "descriptors")
    files = [world / stored.text("root") / p for p in stored["path"]]
    rows, kept, errors = net.pictures(files)
    box_free = [
        i for i, p in enumerate(stored["path"]) if "query" not in p
    ]  # some queries have a box
    assert not errors and kept == list(range(len(files)))
    np.testing.assert_allclose(rows[box_free], stored["descriptor"][box_free], atol=2e-3)
    held = ("--pictures", "data/prepared/evaluation/demo.h5")  # validation is of one group here
    said = tool("calibrate", "mine", "--rate", "0.1", *held, cwd=world).stdout
    assert "threshold" in said
    found = json.loads(tool("search", "mine", str(files[-1]), "--json", cwd=world).stdout)
    assert found["answers"][0]["results"][0]["file"] == str(files[-1].resolve())


@pytest.mark.long
def test_export_refuses(world: Path) -> None:
    shutil.rmtree(world / "data/prepared")
    for arguments, word in (
        (("models/student", "out"), "no pictures to compare on"),
        (("models/absent", "out"), "config.json"),
        (("models/student", "out.txt"), "ends in .onnx or .pt2"),
        (("models/student", "out", "--pictures", "absent"), "neither a folder"),
    ):
        done = tool("export", *arguments, cwd=world, check=False)
        assert done.returncode == 2 and word in done.stderr and "Traceback" not in done.stderr
    assert not (world / "out").exists() and not list(world.glob(".export-*"))


def tool(*arguments: str, cwd: Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    return run(
        sys.executable,
        "-m",
        "stages",
        *arguments,
        cwd=cwd,
        check=check,
        PYTHONPATH=str(ROOT / "tests"),
    )
