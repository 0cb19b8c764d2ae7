"""The pairs alone, without any teacher: InfoNCE, the honest baseline."""

import torch
from torch import Tensor
from torch.nn import functional as F

NEEDS = ("temperature",)
ALIGNED = False


def loss(anchor: Tensor, positive: Tensor, *, temperature: float) -> Tensor:
    """`info_nce` of the student's similarities."""
    return info_nce(anchor @ positive.T, temperature)


def info_nce(sims: Tensor, temperature: float) -> Tensor:
    """Cross-entropy of (N, N) cosines in both directions: the positive against the other N - 1."""
    label = torch.arange(len(sims), device=sims.device)
    logits = sims / temperature
    return F.cross_entropy(logits, label) + F.cross_entropy(logits.T, label)
