"""The prototype of each view: where the ensemble puts its group, in one frame for both."""

import torch
from torch import Tensor

NEEDS = ("prototype",)
ALIGNED = True  # descriptors are drawn to fused embeddings


def loss(anchor: Tensor, positive: Tensor, *, prototype: Tensor) -> Tensor:
    """`distance` of both descriptors of each pair from their prototypes."""
    return distance(torch.stack([anchor, positive]), prototype)


def distance(descriptor: Tensor, prototype: Tensor) -> Tensor:
    """1 - cosine, averaged over all rows: (..., D) both, unit rows."""
    return 1 - (descriptor * prototype).sum(-1).mean()
