"""The optimiser and its learning rate: Adam, half a cosine over the run."""

import math

import torch

from .student import Student


def adam(
    student: Student, lr: float, backbone_scale: float, weight_decay: float
) -> torch.optim.Adam:
    """Adam on the head at `lr` and on the backbone at `backbone_scale` times that."""
    head = [] if student.head is None else list(student.head.parameters())
    groups = [
        {"params": head, "scale": 1.0},
        {"params": list(student.backbone.parameters()), "scale": backbone_scale},
    ]
    return torch.optim.Adam(groups, lr=lr, weight_decay=weight_decay)


def set_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give every group of `optimizer` its share of the learning rate `lr`."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["scale"]


def rate(step: int, steps: int, first: float, last: float) -> float:
    """Learning rate before `step` of `steps`: half a cosine from `first` to `last`."""
    return last + (first - last) * 0.5 * (1 + math.cos(math.pi * step / max(steps, 1)))
