"""What a GPU must compute as the CPU does; run by `make gpu-check` where there is one."""

import numpy as np
import pytest
import torch

from stages.core import runtime
from stages.distill import losses
from stages.distill.student import Student
from stages.nets import embed
from stages.nets.backbone import Backbone

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here"),
]


def pixels(count: int = 6, px: int = 64) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (count, px, px, 3), dtype=np.uint8)


def described(net: torch.nn.Module, precision: str = "float32") -> np.ndarray:
    jobs = [pixels()]
    found = embed.descriptors(net, lambda x: x, jobs, precision=precision, processes=0)
    return np.concatenate([rows for _, rows in found])


@pytest.mark.parametrize(("precision", "least"), [("float32", 0.9999), ("bfloat16", 0.99)])
def test_descriptors_are_those_of_the_cpu(precision: str, least: float) -> None:
    torch.manual_seed(0)
    net = Backbone("resnet18").eval()
    on_cpu = described(embed.ready(net, torch.device("cpu")))
    on_gpu = described(embed.ready(net, torch.device("cuda")), precision)
    assert (on_cpu * on_gpu).sum(1).min() > least and np.isfinite(on_gpu).all()


def test_the_stages_choose_the_gpu() -> None:
    assert runtime.device().type == "cuda"


def test_a_training_step_goes_down_on_the_gpu() -> None:
    torch.manual_seed(0)
    student = Student("resnet18", dim=16, image_px=64)
    embed.ready(student, torch.device("cuda"))
    objective = losses.Objective({"contrastive": 1.0}, {"contrastive": 0.1})
    x = embed.as_input(torch.from_numpy(pixels(8)), torch.device("cuda"))
    optimizer = torch.optim.Adam(student.parameters(), lr=1e-3)
    seen = []
    for _ in range(8):
        loss = objective(student(x), student(x.flip(-1)), {})
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seen.append(float(loss))
    assert np.isfinite(seen).all() and seen[-1] < seen[0]
