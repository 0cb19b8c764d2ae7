"""What the tests of losses share: unit rows, and softmax as loops."""

import math

import torch
from torch import Tensor

torch.set_num_threads(1)
N, D = 5, 4
Matrix = list[list[float]]


def unit(seed: int, rows: int = N) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, D, generator=g, dtype=torch.float64)
    return x / x.norm(dim=1, keepdim=True)


def softmax(row: list[float], t: float) -> list[float]:
    top = max(row)
    e = [math.exp((v - top) / t) for v in row]
    return [v / sum(e) for v in e]


def transposed(m: Matrix) -> Matrix:
    return [list(column) for column in zip(*m, strict=True)]
