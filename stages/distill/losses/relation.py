"""The paper's loss: similarities between the pairs of a batch, as the ensemble has them."""

from torch import Tensor
from torch.nn import functional as F

NEEDS = ("target", "temperature")
ALIGNED = False  # only similarities are learned, in whatever frame


def loss(anchor: Tensor, positive: Tensor, *, target: Tensor, temperature: float) -> Tensor:
    """`divergence` of the student's similarities from the fused target."""
    return divergence(anchor @ positive.T, target, temperature)


def divergence(sims: Tensor, target: Tensor, temperature: float) -> Tensor:
    """KL from the fused target to the student's similarities, over rows plus over columns.

    `sims`, `target` (N, N) cosines; both softened by `temperature`; each direction averaged over
    its N rows (Whiten-MTD, equation of the paper's code with s = t).
    """
    return _kl(sims, target, temperature) + _kl(sims.T, target.T, temperature)


def _kl(sims: Tensor, target: Tensor, temperature: float) -> Tensor:
    log_student = F.log_softmax(sims / temperature, dim=-1)
    log_teacher = F.log_softmax(target / temperature, dim=-1)
    return F.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True)
