"""What the student learns from: relations between pairs, prototypes, or the pairs alone.

N pairs a batch; `anchor` and `positive` (N, D) are the student's L2-normalised descriptors.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def relation(sims: Tensor, target: Tensor, temperature: float) -> Tensor:
    """KL from the fused target to the student's similarities, over rows plus over columns.

    `sims`, `target` (N, N) cosines; both softened by `temperature`; each direction averaged over
    its N rows (Whiten-MTD, equation of the paper's code with s = t).
    """
    return _kl(sims, target, temperature) + _kl(sims.T, target.T, temperature)


def contrastive(sims: Tensor, temperature: float) -> Tensor:
    """InfoNCE in both directions: the positive against the other N - 1 of the batch."""
    label = torch.arange(len(sims), device=sims.device)
    logits = sims / temperature
    return F.cross_entropy(logits, label) + F.cross_entropy(logits.T, label)


def prototype(descriptor: Tensor, target: Tensor) -> Tensor:
    """1 - cosine to the prototype of each view, averaged: (M, D) both, unit rows."""
    return 1 - (descriptor * target).sum(-1).mean()


def _kl(sims: Tensor, target: Tensor, temperature: float) -> Tensor:
    log_student = F.log_softmax(sims / temperature, dim=-1)
    log_teacher = F.log_softmax(target / temperature, dim=-1)
    return F.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True)
