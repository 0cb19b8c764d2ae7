"""Any network that somebody exported: TorchScript (.pt, .ts), torch.export (.pt2) or ONNX (.onnx).

The file takes normalised (B, 3, H, W) float32 and gives (B, dim); B must be free, and H and W too
where images of any shape are described. An exported file is a program: TorchScript may read and
write files, and reading a .pt2 file may unpickle objects. `sha256` is required for these, as the
word that this very file is trusted. An ONNX file can only compute.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from ..core import file_kind, params
from ..core.errors import UserError
from ..core.files import digest_of_file
from ..nets import checkpoints, onnx_file
from ..nets.layers import Normalise

PUBLISHED = "It is a file of your own"
Program = Callable[[Tensor], Any]


class Settings(params.Teacher):
    """One entry of `teachers` of kind exported."""

    kind: Literal["exported"]
    weights: str  # path of the file; its suffix says which of the three it is
    image_px: int = Field(ge=16, le=4096)  # side of a training view, long side of an image
    mean: list[float] = Field(min_length=3, max_length=3)  # RGB, of pixels in [0, 1]
    std: list[Annotated[float, Field(gt=0)]] = Field(min_length=3, max_length=3)
    bgr: bool = False  # channels flipped after mean and std, which are in RGB order all the same
    sha256: str | None = None  # of the file, checked before it is read
    license: str | None = None  # of the weights, for the student's card


class Exported(nn.Module):
    """Normalise, then the file's program: raw descriptors (B, dim)."""

    def __init__(self, program: Program, s: Settings) -> None:
        super().__init__()
        self.normalise = Normalise(tuple(s.mean), tuple(s.std), s.bgr)
        self.program, self.origin, self.dim = program, s.weights, 0
        # The digest of a teacher is of its state, which of a program is not the whole.
        digest = bytes.fromhex(digest_of_file(Path(s.weights), "sha256"))
        self.register_buffer("file", torch.tensor(list(digest), dtype=torch.uint8))
        # Stages ask the first parameter where the network is; an ONNX program has none.
        self.place = nn.Parameter(torch.zeros(1), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        try:
            y = self.program(self.normalise(x))
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # each of the three runtimes has its own kinds
            raise UserError(
                f"{self.origin}: does not take images of shape {tuple(x.shape)} "
                f"({onnx_file.line_of(error)}); export it with free batch, height and width"
            ) from None
        y = y[0] if isinstance(y, (tuple, list)) and len(y) == 1 else y
        if not isinstance(y, Tensor) or y.ndim != 2 or len(y) != len(x):
            raise UserError(
                f"{self.origin}: gives {_what(y)} for images of shape {tuple(x.shape)}; "
                "a teacher gives one tensor (B, dim)"
            )
        return y


class Onnx:
    """An ONNX file as a function of a tensor, by onnxruntime."""

    def __init__(self, path: Path) -> None:
        import onnxruntime

        providers = [
            p
            for p in ("CUDAExecutionProvider", "CPUExecutionProvider")
            if p in onnxruntime.get_available_providers()
        ]
        self.session = onnx_file.session(path, providers)
        self.input = self.session.get_inputs()[0].name

    def __call__(self, x: Tensor) -> list[Tensor]:
        outputs = self.session.run(None, {self.input: x.float().cpu().numpy()})
        return [torch.from_numpy(y).to(x.device) for y in outputs]


def load(settings: params.Given, where: str) -> nn.Module:
    """The exported network, tried once. Raises UserError where it is not to be read or used."""
    s = params.check(settings, Settings, where)
    path = Path(s.weights)
    if path.suffix not in OPEN:
        raise UserError(f"{path}: not an exported network: choose from {', '.join(OPEN)}")
    checkpoints.check_file(path, s.sha256)
    if path.suffix in CODE and s.sha256 is None:
        raise UserError(
            f"{where}.sha256: missing: a {path.suffix} file is a program that may do anything; if "
            f"you trust {path}, give its sha256 (`whiten-mtd doctor` prints it)"
        )
    if wrong := file_kind.mistaken(path):
        raise UserError(f"{path}: cannot be read as {path.suffix}: it {wrong}")
    try:
        program = OPEN[path.suffix](path)
    except UserError:
        raise
    except Exception as error:  # each of the three readers has its own kinds
        line = onnx_file.line_of(error)
        raise UserError(f"{path}: cannot be read as {path.suffix} ({line})") from None
    net = Exported(program, s).eval()
    with torch.inference_mode():
        net.dim = net(torch.zeros(2, 3, s.image_px, s.image_px)).shape[1]
    return net


def _script(path: Path) -> Program:
    file_kind.refuse_swollen(path)
    return torch.jit.load(path, map_location="cpu")


def _program(path: Path) -> Program:
    file_kind.refuse_swollen(path)
    # Unflattened, since the flat module refuses eval().
    return torch.export.unflatten(torch.export.load(path))


def _what(y: Any) -> str:
    return f"shape {tuple(y.shape)}" if isinstance(y, Tensor) else f"a {type(y).__name__}"


CODE = (".pt", ".ts", ".pt2")  # what may do more than compute
OPEN: dict[str, Callable[[Path], Program]] = {
    ".pt": _script, ".ts": _script, ".pt2": _program, ".onnx": Onnx,
}  # fmt: skip
