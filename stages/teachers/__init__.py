"""Who knows: frozen networks, one file a kind. A file `teachers/x.py` is the kind `x`.

A kind offers `Settings`, a class of its map in params.yaml (from `core.params.Teacher`), and
`load(settings, where) -> nn.Module`: called on float32 RGB (B, 3, H, W) in [0, 1]
it gives raw descriptors (B, dim). Mean, std and channel order are the module's own business.
A kind without a network offers `rows(settings, where, image_ids)` instead: an object with `dim` and
`digest` that gives the unit descriptors of those images, a slice or some rows at a time.
"""

from typing import TYPE_CHECKING, Any

from ..core import plugins
from ..core.errors import UserError
from ..core.params import Given

if TYPE_CHECKING:
    from torch import nn


def load(kind: str, settings: Given, where: str = "teachers") -> "nn.Module":
    """The teacher of `kind`, frozen, in eval mode. `settings`: its map in params.yaml."""
    module = plugins.load(__name__, kind)
    if not hasattr(module, "load"):
        raise UserError(f"{where}: kind {kind} has ready descriptors and no network to run")
    net = module.load(settings, where).eval()
    for parameter in net.parameters():
        parameter.requires_grad_(False)
    return net


def has_network(kind: str) -> bool:
    """Whether `kind` is a network to run (`load`), not a file of ready descriptors (`rows`)."""
    return hasattr(plugins.load(__name__, kind), "load")


def rows(kind: str, settings: Given, where: str, image_ids: Any) -> Any:
    """The ready descriptors that `kind` has of the images `image_ids`, in that order."""
    return plugins.load(__name__, kind).rows(settings, where, image_ids)
