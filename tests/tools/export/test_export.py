"""An exported student says what torch says, and its folder is all that anyone needs."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import tiny_onnx
import torch
from project import ROOT, run, write_params
from ruamel.yaml import YAML
from timm.layers import Conv2dSame

from stages import load_student
from stages.core import console, files, params
from stages.core.errors import UserError
from stages.distill import student as students
from stages.images import listing, reading
from stages.images.scales import how_of
from stages.retrieval import onnx_student
from stages.tools.export import export, model_card, programs
from stages.tools.setup import preset as presets


@pytest.mark.parametrize(
    "k, s, d", [(3, 2, 1), (5, 2, 1), (3, 1, 1), (1, 2, 1), (3, 2, 2), (2, 3, 1), (7, 4, 1)]
)
def test_padding_by_whole_numbers_is_timms(k: int, s: int, d: int) -> None:
    torch.manual_seed(0)
    net = torch.nn.Sequential(Conv2dSame(3, 4, k, stride=s, dilation=d))
    made = programs.exportable(net)
    assert type(made[0]) is not Conv2dSame and type(net[0]) is Conv2dSame
    for h, w in [(n, 31 - n) for n in range(8, 20)] + [(1, 1), (1, 7)]:
        if k < s and (h < k or w < k):
            continue
        x = torch.rand(2, 3, h, w)
        assert torch.equal(made(x), net(x)), (h, w)


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a random student `models/student`, images and params.yaml."""
    monkeypatch.chdir(tmp_path)
    net = students.create(
        "test_efficientnet", dim=16, image_px=40, pool="gem", gem_p=3.0, source="random", seed=0
    )
    students.save(net, tmp_path / "models/student", "", loss="relation")
    tiny_onnx.images(tmp_path / "images")
    write_params(tmp_path / "params.yaml")
    return tmp_path


@pytest.mark.parametrize(
    "scales, image_px, wanted",
    [
        ([1.0], None, ([1.0], 40)), ([1.0], 64, ([1.0], 64)),
        ([1.0, 0.5], "native", ([1.0, 0.5], None)),
        ({"a": [1.0], "default": [1.0, 0.5]}, {"student": "native", "a": 32}, ([1.0, 0.5], None)),
        ({"student": [0.5], "default": [1.0]}, {"default": None}, ([0.5], 40)),
    ],
)  # fmt: skip
def test_images_are_taken_as_describe_took_them(
    small: Path, monkeypatch: pytest.MonkeyPatch, scales, image_px, wanted
) -> None:  # type: ignore[no-untyped-def]
    told = []

    def write(net, about, folder, names):  # type: ignore[no-untyped-def]
        told.append(about)
        raise UserError("enough")

    monkeypatch.setattr(programs, "write", write)
    write_params(
        small / "params.yaml", **{"describe.scales": scales, "describe.image_px": image_px}
    )
    assert console.run(export.app, ["models/student", "out", "--images", "images"]) == 2
    assert (told[0]["scales"], told[0]["image_px"]) == wanted


def test_every_preset_can_be_exported() -> None:
    for name in presets.names():
        values = YAML(typ="safe").load(presets.text(name))["describe"]
        keys = export.Describe.model_fields
        p = params.check({k: values[k] for k in keys}, export.Describe, name)
        assert how_of(p.scales, p.image_px, "student", 40, Path(name)).scales


def test_scores_among_distractors_have_a_place_on_the_card(tmp_path: Path) -> None:
    student = {"weights": "w", "scales": "1", "dim": 4}
    results, truth = tmp_path / "data/results", tmp_path / "data/prepared/evaluation/ox.json"
    scores = {"student": {"easy": {"map": 50.0}}, "untrained": {}}
    files.write_text(results / "metrics.json", files.to_json({"ox": scores, "ox+many": scores}))
    models = {name: {"student": student} for name in ("ox", "ox+many")}
    files.write_text(results / "models.json", files.to_json(models))
    files.write_text(truth, files.to_json({"protocol": "revisitop", "queries": [1, 2]}))
    rows = model_card._scores(tmp_path, "w")
    assert [(r["set"], r["queries"], r["map"]) for r in rows] == [
        ("ox", 2, 50.0),
        ("ox+many", 2, 50.0),
    ]


def test_the_exported_folder_loads_and_says_what_the_student_said(small: Path) -> None:
    write_params(small / "params.yaml", **{"describe.image_px": "native", "describe.scales": [1.0]})
    assert console.run(export.app, ["models/student", "out", "--images", "images"]) == 0
    assert "`image_px` is null" in (small / "out/README.md").read_text()
    root, names = listing.listed(small / "images")
    pixels = np.asarray(reading.read(root / names[0]))
    x = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255
    with torch.inference_mode():
        wanted = load_student("models/student")(x)
        assert torch.equal(load_student("out")(x), wanted)
    net = onnx_student.Exported.read(small / "out")
    assert net.identity()["image_px"] is None
    rows, kept, errors = net.images([root / n for n in names])  # in their own size
    assert len(kept) == len(names) and not errors
    np.testing.assert_allclose(rows[0], wanted[0], atol=1e-4)


FULL = """
import resource, signal, sys
from stages.core import console
from stages.tools.export import export
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), int(sys.argv[1])))
sys.exit(console.run(export.app, ["models/student", sys.argv[2], "--images", "images"]))
"""


@pytest.mark.parametrize("out", ["out", "out.onnx", "out.pt2"])
def test_a_disk_that_takes_no_more_is_one_line(small: Path, out: str) -> None:
    """A limit of a file's length is what a full disk is: a write that fails in its middle."""
    done = run(
        sys.executable, "-c", FULL, "20000", out, cwd=small, check=False, PYTHONPATH=str(ROOT)
    )
    assert done.returncode == 2, done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert "cannot be written to" in last and "nothing is left there" in last
    assert "Traceback" not in done.stderr
    assert {f.name for f in small.iterdir()} == {"models", "images", "params.yaml"}


def test_a_damaged_export_is_refused_also_alone(small: Path) -> None:
    assert console.run(export.app, ["models/student", "s.onnx", "--images", "images"]) == 0
    data = bytearray((small / "s.onnx").read_bytes())
    for place in range(len(data) // 3, len(data) - 200, len(data) // 7):
        data[place] ^= 16
        (small / "b.onnx").write_bytes(data)
        with pytest.raises(UserError, match=r"b\.onnx: damaged"):
            onnx_student.Exported.read(small / "b.onnx")
        data[place] ^= 16
    assert onnx_student.Exported.read(small / "s.onnx").about["dim"] == 16


@pytest.mark.long
def test_export_index_search_on_a_finished_run(world: Path) -> None:
    settings = YAML(typ="safe").load((world / "params.yaml").read_text())
    settings["teachers"]["a"]["license"] = "MIT"
    with (world / "params.yaml").open("w") as f:
        YAML(typ="safe").dump(settings, f)
    done = tool("export", "models/student", "exported", cwd=world)
    assert done.stdout.count("largest difference from torch") == 2
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
                 "revisitop", f"| {scores['medium']['map']:.1f} |", "test_efficientnet, 16 dimensions"):  # fmt: skip
        assert said in card, card
    # What describe stored is what the exported student says: same scales, same pixels.
    code = "import sys, whiten_mtd; print(whiten_mtd.load_student(sys.argv[1]).dim)"
    assert run(sys.executable, "-c", code, "exported", cwd=world).stdout == "16\n"
    tool("index", "data/described/student/demo.h5", "mine", "--model", "exported", cwd=world)
    net = onnx_student.Exported.read(world / "exported")
    from stages.core.store import Stored

    stored = Stored(world / "data/described/student/demo.h5", "descriptors")
    files = [world / stored.text("root") / p for p in stored["path"]]
    rows, kept, errors = net.images(files)
    box_free = [
        i for i, p in enumerate(stored["path"]) if "query" not in p
    ]  # some queries have a box
    assert not errors and kept == list(range(len(files)))
    np.testing.assert_allclose(rows[box_free], stored["descriptor"][box_free], atol=2e-3)
    held = ("--images", "data/prepared/evaluation/demo.h5")  # validation is of one group here
    said = tool("calibrate", "mine", "--rate", "0.1", *held, cwd=world).stdout
    assert "threshold" in said
    found = json.loads(tool("search", "mine", str(files[-1]), "--json", cwd=world).stdout)
    assert found["answers"][0]["results"][0]["file"] == str(files[-1].resolve())


@pytest.mark.long
def test_export_refuses(world: Path) -> None:
    shutil.rmtree(world / "data/prepared")
    for arguments, word in (
        (("models/student", "out"), "no images to compare on"),
        (("models/absent", "out"), "config.json"),
        (("models/student", "out.txt"), "ends in .onnx or .pt2"),
        (("models/student", "out", "--images", "absent"), "no such file or folder"),
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
