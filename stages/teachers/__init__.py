"""Who knows: frozen networks, one file a kind. A file `teachers/x.py` is the kind `x`.

A kind offers `load(settings, where) -> nn.Module`: called on float32 RGB (B, 3, H, W) in [0, 1]
it gives raw descriptors (B, dim). Mean, std and channel order are the module's own business.
"""

from typing import TYPE_CHECKING, Any

from ..core import plugins

if TYPE_CHECKING:
    from torch import nn


def load(kind: str, settings: dict[str, Any], where: str = "teachers") -> "nn.Module":
    """The teacher of `kind`, frozen, in eval mode. `settings`: its map in params.yaml."""
    module = plugins.load(__name__, kind)
    net = module.load(settings, where).eval()
    for parameter in net.parameters():
        parameter.requires_grad_(False)
    return net
