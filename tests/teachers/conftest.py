"""Generated checkpoints in the published containers and key layouts, and the backbone by torchvision.

No published weights are used: every number comes from a seed. The layouts are written here from
torchvision's names to the published ones, the opposite way of what the teachers do.
"""

import functools
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

from stages.teachers import _resnet

State = dict[str, Tensor]
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, RGB


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """One thread, and each timm backbone built once: a checkpoint fills all of it every time."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_resnet, "backbone", functools.cache(_resnet.backbone))
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def pixels() -> Tensor:
    """Two unlike images, (2, 3, 64, 64) in [0, 1]: noise, and a smooth coloured ramp."""
    noise = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(7))
    ramp = torch.linspace(0, 1, 64)
    smooth = torch.stack(
        [ramp.expand(64, 64), ramp.flip(0).expand(64, 64) * 0.3, ramp[:, None] * ramp]
    )
    return torch.stack([noise, smooth])


def shapes_of(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {k: tuple(v.shape) for k, v in model.state_dict().items()}


def generate(shapes: dict[str, tuple[int, ...]], seed: int) -> State:
    """Weights of a sane scale by name and shape: none is 0 or 1 for all channels."""
    g = torch.Generator().manual_seed(seed)
    state = {}
    for key, shape in shapes.items():
        if key.endswith("num_batches_tracked"):
            state[key] = torch.tensor(9)
        elif key.endswith("running_var"):
            state[key] = torch.rand(shape, generator=g) + 0.5
        elif len(shape) > 1:
            state[key] = torch.randn(shape, generator=g) * math.sqrt(2 / math.prod(shape[1:]))
        elif key.endswith(
            "weight"
        ):  # of a batch norm; a small last one keeps a residual sum finite
            scale = 0.3 if "bn3" in key else 1.0
            state[key] = (torch.rand(shape, generator=g) + 0.5) * scale
        else:
            state[key] = torch.randn(shape, generator=g) * 0.1
    return state


@pytest.fixture(scope="session")
def weights() -> Callable[..., State]:
    """Seeded weights for {name: shape}."""
    return generate


def reference(name: str, seed: int) -> nn.Module:
    with torch.device("meta"):
        net = getattr(torchvision.models, name)(weights=None)
    state = generate(shapes_of(net), seed)
    net.load_state_dict(state, assign=True)
    net.fc = nn.Identity()
    return net.eval().requires_grad_(False)


@pytest.fixture(scope="session")
def r101() -> nn.Module:
    """torchvision's ResNet-101 without its classifier, with generated weights."""
    return reference("resnet101", seed=1)


@pytest.fixture(scope="session")
def r50() -> nn.Module:
    """torchvision's ResNet-50, the same way."""
    return reference("resnet50", seed=2)


def stem(net: nn.Module, x: Tensor) -> Tensor:
    return net.maxpool(net.relu(net.bn1(net.conv1(x))))


@pytest.fixture(scope="session")
def maps() -> Callable[..., tuple[Tensor, Tensor]]:
    """(net, images in [0, 1], bgr) to the maps of the third and the fourth stage."""

    @torch.inference_mode()
    def run(net: nn.Module, x: Tensor, bgr: bool = False) -> tuple[Tensor, Tensor]:
        order = [2, 1, 0] if bgr else [0, 1, 2]
        mean, std = torch.tensor(MEAN)[order], torch.tensor(STD)[order]
        x = (x[:, order] - mean[:, None, None]) / std[:, None, None]
        third = net.layer3(net.layer2(net.layer1(stem(net, x))))
        return third, net.layer4(third)

    return run


@pytest.fixture(scope="session")
def close() -> Callable[[Tensor, Tensor], bool]:
    """Whether every row is within 1e-4 of the expected, relative to its length."""

    def check(found: Tensor, expected: Tensor, tolerance: float = 1e-4) -> bool:
        assert found.shape == expected.shape
        assert torch.isfinite(expected).all()
        off = (found - expected).norm(dim=1) / expected.norm(dim=1)
        return bool((off < tolerance).all())

    return check


def hollow(*shape: int) -> Tensor:
    """A weight that only its shape matters of: one number in the file."""
    return torch.zeros(()).expand(shape)


def pycls(key: str) -> str:
    """torchvision's name to pycls'."""
    part = key.split(".")
    if part[0] in ("conv1", "bn1"):
        return f"globalmodel.stem.{part[0][:-1]}.{part[1]}"
    block = f"globalmodel.s{part[0][-1]}.b{int(part[1]) + 1}"
    if part[2] == "downsample":
        return f"{block}.{('proj', 'bn')[int(part[3])]}.{part[4]}"
    letter = "abc"[int(part[2][-1]) - 1]
    return f"{block}.f.{letter}{'_bn' if part[2].startswith('bn') else ''}.{part[3]}"


def solar(key: str) -> str:
    part, rest = key.split(".", 1)
    first = {"conv1": "conv1.0", "bn1": "conv1.1", "layer1": "conv2_x.2"}
    return f"features.{first.get(part) or f'conv{int(part[-1]) + 1}_x'}.{rest}"


def sequential(key: str) -> str:
    part, rest = key.split(".", 1)
    names = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4")
    return f"features.{names.index(part)}.{rest}"


@pytest.fixture(scope="session")
def layouts() -> dict[str, Callable[[str], str]]:
    """Kind -> torchvision's name of a backbone's weight to the published one."""
    return {
        "gem": sequential,
        "ap_gem": lambda k: f"module.{k}",
        "solar": solar,
        "delg": pycls,
        "dolg": pycls,
        "moco_v3": lambda k: f"module.base_encoder.{k}",
        "barlow_twins": lambda k: f"module.backbone.{k}",
    }


@pytest.fixture(scope="session")
def heads() -> dict[str, State]:
    """Kind -> what its published checkpoint holds beside the backbone; hollow where not used."""
    line = {"weight": (2048, 2048), "bias": (2048,)}
    soa = {
        f"features.soa{n}.{part}.{leaf}": shape
        for n, wide, inner in ((4, 1024, 256), (5, 2048, 1024))
        for part, leaf, shape in _attention(wide, inner)
    }
    delg = {"globalmodel.head.fc.weight": (512, 2048), "globalmodel.head.fc.bias": (512,)}
    dolg = {
        "fc_t.weight": (1024, 2048), "fc_t.bias": (1024,),
        "fc.weight": (512, 2048), "fc.bias": (512,),
        "localmodel.conv1.weight": (1024, 1024, 1, 1), "localmodel.conv1.bias": (1024,),
        **{f"localmodel.bn.{k}": v for k, v in _norm(1024).items()},
        "localmodel.conv2.weight": (1, 1024, 1, 1), "localmodel.conv2.bias": (1,),
    }  # fmt: skip
    p = torch.tensor([2.6])
    return {
        "gem": generate({f"whiten.{k}": v for k, v in line.items()}, 11) | {"pool.p": p},
        "ap_gem": generate({f"module.fc.{k}": v for k, v in line.items()}, 12)
        | {"module.adpool.p": p},
        "solar": generate({f"whiten.{k}": v for k, v in line.items()} | soa, 13) | {"pool.p": p},
        "delg": generate(delg, 14) | {"globalmodel.head.pool.p": p} | _delg_rest(),
        "dolg": _balanced(generate(dolg, 15))
        | {"pool_g.p": p, "desc_cls.weight": hollow(81313, 512), "desc_cls.t": hollow(1)},
        "moco_v3": _moco_rest(),
        "barlow_twins": _barlow_rest(),
    }


def _norm(n: int, affine: bool = True) -> dict[str, tuple[int, ...]]:
    own = {"weight": (n,), "bias": (n,)} if affine else {}
    return own | {"running_mean": (n,), "running_var": (n,), "num_batches_tracked": ()}


def _attention(wide: int, inner: int) -> Iterator[tuple[str, str, tuple[int, ...]]]:
    for part in ("f", "g"):
        yield from ((f"{part}.0", "weight", (inner, wide, 1, 1)), (f"{part}.0", "bias", (inner,)))
        yield from ((f"{part}.1", leaf, shape) for leaf, shape in _norm(inner).items())
    yield from (("h", "weight", (inner, wide, 1, 1)), ("h", "bias", (inner,)))
    yield from (("v", "weight", (wide, inner, 1, 1)), ("v", "bias", (wide,)))


def _balanced(head: State) -> State:
    """DOLG's head with its local branch no shorter than the global one, so that both tell."""
    score = head["localmodel.conv2.weight"].abs() * 0.01  # softplus of a negative score is nothing
    whole = head["fc_t.weight"] * 1e-3
    return head | {"localmodel.conv2.weight": score, "fc_t.weight": whole}


def _delg_rest() -> State:
    local = {"conv1.weight": (512, 1024, 1, 1), "conv1.bias": (512,), "conv2.bias": (1,)}
    local |= {"conv2.weight": (1, 512, 1, 1)} | {f"bn.{k}": v for k, v in _norm(512).items()}
    names = {f"localmodel.{k}": v for k, v in local.items()}
    names |= {"desc_cls.weight": (81313, 512), "desc_cls.t": (1,)}
    names |= {"att_cls.fc.weight": (81313, 512), "att_cls.fc.bias": (81313,)}
    return {k: hollow(*v) for k, v in names.items()}


def _moco_rest() -> State:
    fc: dict[str, tuple[int, ...]] = {"fc.0.weight": (4096, 2048), "fc.3.weight": (256, 4096)}
    fc |= {f"fc.1.{k}": v for k, v in _norm(4096).items()}
    fc |= {f"fc.4.{k}": v for k, v in _norm(256, affine=False).items()}
    with torch.device("meta"):
        backbone = shapes_of(torchvision.models.resnet50(weights=None))
    momentum = fc | {k: v for k, v in backbone.items() if not k.startswith("fc.")}
    names = {f"base_encoder.{k}": v for k, v in fc.items()}
    names |= {f"momentum_encoder.{k}": v for k, v in momentum.items()}
    names |= {"predictor.0.weight": (4096, 256), "predictor.3.weight": (256, 4096)}
    names |= {f"predictor.1.{k}": v for k, v in _norm(4096).items()}
    return {f"module.{k}": hollow(*v) for k, v in names.items()}


def _barlow_rest() -> State:
    names: dict[str, tuple[int, ...]] = {
        f"projector.{i}.weight": (8192, width) for i, width in ((0, 2048), (3, 8192), (6, 8192))
    }
    names |= {f"projector.{i}.{k}": v for i in (1, 4) for k, v in _norm(8192).items()}
    names |= {f"bn.{k}": v for k, v in _norm(8192, affine=False).items()}
    return {f"module.{k}": hollow(*v) for k, v in names.items()}


CONTAINERS: dict[str, Callable[[State], dict[str, Any]]] = {
    "gem": lambda s: {"meta": {"pooling": "gem", "outputdim": 2048, "mean": MEAN}, "state_dict": s},
    "ap_gem": lambda s: {"state_dict": s, "model_options": {"arch": "resnet101_rmac"}},
    "solar": lambda s: {"meta": {"soa": True, "soa_layers": "45"}, "state_dict": s},
    "delg": lambda s: {"epoch": 9, "model_state": s, "optimizer_state": {}, "cfg": "MODEL: {}"},
    "dolg": lambda s: {"epoch": 9, "model_state": s, "optimizer_state": {}, "cfg": "MODEL: {}"},
    "moco_v3": lambda s: {"epoch": 1000, "arch": "resnet50", "state_dict": s, "optimizer": {}},
    "barlow_twins": lambda s: {"epoch": 1000, "model": s, "optimizer": {}},
}
SSL = ("moco_v3", "barlow_twins")


@pytest.fixture(scope="session")
def containers() -> dict[str, Callable[[State], dict[str, Any]]]:
    """Kind -> what its published file is besides the state dict."""
    return CONTAINERS


@pytest.fixture(scope="module")
def official(
    r101: nn.Module, r50: nn.Module, layouts: dict[str, Callable[[str], str]],
    heads: dict[str, State],
) -> Callable[[str], State]:  # fmt: skip
    """Kind -> the state dict of its published file, with generated weights."""

    def build(kind: str) -> State:
        backbone = (r50 if kind in SSL else r101).state_dict()
        return {layouts[kind](k): v for k, v in backbone.items()} | heads[kind]

    return build


@pytest.fixture(scope="module")
def save(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Path]]:
    """torch.save under a name; the files (170 MB) are gone when the module's tests are done."""
    folder = tmp_path_factory.mktemp("checkpoints")

    def write(value: Any, name: str, **options: Any) -> Path:
        torch.save(value, folder / name, **options)
        return folder / name

    yield write
    for file in folder.iterdir():
        file.unlink()


@pytest.fixture(scope="module")
def checkpoint(
    request: pytest.FixtureRequest, official: Callable[[str], State], save: Callable[..., Path]
) -> Path:
    """The published file of the kind that the test's module is named after."""
    kind = request.module.__name__.removeprefix("test_")
    return save(CONTAINERS[kind](official(kind)), f"{kind}.pth")
