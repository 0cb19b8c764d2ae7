"""A new loss, protocol, teacher kind and dataset are one new file each, and nothing else."""

import json
import sys
from pathlib import Path

from project import checkout, run, write_params
from ruamel.yaml import YAML

NEW = {
    "distill/losses/near.py": '''
"""Half the squared distance of a pair."""
NEEDS = ()
ALIGNED = False


def loss(anchor, positive):
    return ((anchor - positive) ** 2).sum(-1).mean() / 2
''',
    "retrieval/protocols/nearest.py": '''
"""The share of queries whose first result is right."""
from . import Difficulty, Protocol


def first(ranks):
    return float(ranks[0] == 0)


def scores(ranks):
    hits = [first(r) for r in ranks if len(r)]
    return {"map": 100 * sum(hits) / len(hits)} if hits else {}


PROTOCOL = Protocol(
    lists=("same", "other"),
    difficulties={"first": Difficulty(("same",), (), first, scores)},
    main="first",
    masked=True,
)
''',
    "teachers/colours.py": '''
"""The mean colours of the quarters of an image."""
from typing import Literal

import torch
from torch import nn

from ..core import params


class Settings(params.Teacher):
    kind: Literal["colours"]
    image_px: int


class Colours(nn.Module):
    dim = 12

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(12))

    def forward(self, x):
        return self.scale * nn.functional.adaptive_avg_pool2d(x, 2).flatten(1)


def load(settings, where):
    return Colours()
''',
    "datasets/tiles.py": '''
"""Images of two colours: a group is a pair of colours."""
import numpy as np
from PIL import Image
from pydantic import BaseModel

from . import Evaluation, Training


class Settings(BaseModel):
    groups: int


def draw(folder, groups, first):
    ids, group = [], []
    for g in range(groups):
        colours = np.random.default_rng(first + g).integers(30, 220, (2, 3))
        for n in range(3):
            pixels = np.zeros((40, 40 + 4 * n, 3), np.uint8)
            pixels[:20], pixels[20:] = colours + n
            ids.append(f"{first + g}-{n}.png")
            Image.fromarray(pixels).save(folder / ids[-1])
            group.append(g)
    return ids, np.array(group, np.int32)


def training(settings, images):
    ids, group = draw(images, settings.groups, 0)
    return Training(images, ids, ids, group)


def evaluation(settings, images, name=""):
    ids, group = draw(images, 4, 1000)
    queries = [
        {"image_id": i, "same": [j for j in ids if j[:4] == i[:4] and j != i], "other": []}
        for i in ids if i.endswith("-0.png")
    ]
    asked = {q["image_id"] for q in queries}
    role = ["query" if i in asked else "database" for i in ids]
    box = np.full((len(ids), 4), np.nan, np.float32)
    return Evaluation(images, ids, ids, role, box, "nearest", queries)
''',
}
CHANGES = {
    "teachers": {"c": {"kind": "colours", "image_px": 32}},
    "ensemble": ["c"],
    "evaluation": {"tiles": {"dataset": "tiles"}},
    "datasets": {"tiles": {"groups": 12}},
    "prepare.dataset": "tiles",
    "whiten.dim": 8, "fuse.dim": 8,
    "train.loss": "near", "train.head": "ridge",
}  # fmt: skip
COMMANDS = """
prepare data/prepared
extract c data/prepared/train.h5 data/features/c.h5
whiten c data/prepared/train.h5 data/features/c.h5 models/whitening/c.h5 data/whitened/c.h5
fuse data/prepared/train.h5 data/whitened data/targets models/whitening/fused.h5
train data/prepared/train.h5 data/targets models/student models/untrained
describe c data/prepared/evaluation data/described/c
describe models/student data/prepared/evaluation data/described/student
describe models/untrained data/prepared/evaluation data/described/untrained
evaluate data/prepared/evaluation data/described models/whitening data/results
tools.check.score data/described/c/tiles.h5 data/described/c/tiles.h5 \
data/prepared/evaluation/tiles.json
"""
ALL = """
import importlib, sys
from stages.core import console
for line in sys.stdin.read().strip().splitlines():
    name, *arguments = line.split()
    module = importlib.import_module(f"stages.{name}")
    assert console.run(module.app, arguments) == 0, line
"""


def test_one_new_file_each(tmp_path: Path) -> None:
    checkout(tmp_path)
    for path, text in NEW.items():
        (tmp_path / "stages" / path).write_text(text.lstrip())
    write_params(tmp_path / "params.yaml", **CHANGES)
    (tmp_path / "commands").write_text(COMMANDS)
    done = run("sh", "-c", f"'{sys.executable}' -c '{ALL}' < commands", cwd=tmp_path)
    scores = json.loads((tmp_path / "data/results/metrics.json").read_text())["tiles"]
    assert scores["c"]["raw"] == {"first": {"map": 100}}  # colours are all there is to tell
    assert set(scores) - {"trained"} == {
        "student",
        "untrained",
        "c",
        "ensemble",
    }  # `near` does not align
    config = json.loads((tmp_path / "models/student/config.json").read_text())
    assert config["loss"] == {"near": 1} and config["aligned"] is False
    rules = json.loads((tmp_path / "data/results/scoring_rules.json").read_text())["tiles"]
    assert rules["student"]["rules"] == "nearest"
    assert "nearest, chamfer" in done.stdout  # score: what is masked is compared as videos are
    status = run("git", "status", "--short", "-uall", "stages", "dvc.yaml", cwd=tmp_path).stdout
    assert sorted(status.split()[1::2]) == sorted(f"stages/{path}" for path in NEW)


def test_dvc_sees_a_new_file() -> None:
    """Training depends on the folder of losses, evaluation on that of protocols."""
    root = Path(__file__).parent.parent
    stages = YAML(typ="safe").load((root / "dvc.yaml").read_text("utf-8"))["stages"]
    assert "stages/distill/losses" in stages["train"]["deps"]
    assert "stages/retrieval/protocols" in stages["evaluate"]["deps"]
    assert "stages/datasets" in stages["prepare"]["deps"]
    for name in ("extract", "describe"):
        assert "stages/teachers/${item.kind}.py" in stages[name]["do"]["deps"]
