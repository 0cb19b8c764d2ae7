"""Any timm layout to one vector an image: pooled as by hand, unknown names answered."""

import pytest
import timm
import torch
from torch import Tensor, nn

from stages.core.errors import UserError
from stages.nets import backbone, layers
from stages.nets.backbone import Backbone, Sizes

torch.set_num_threads(1)
SWIN = "swin_tiny_patch4_window7_224"


def by_hand(values: Tensor, pool: str, p: float = 3.0) -> Tensor:
    """(B, C, positions) float64 responses, pooled one channel at a time."""
    out = torch.zeros(values.shape[:2], dtype=torch.float64)
    for b in range(len(values)):
        for c in range(values.shape[1]):
            row = values[b, c].double()
            if pool == "avg":
                out[b, c] = row.sum() / len(row)
            else:
                out[b, c] = (sum(max(float(v), 1e-6) ** p for v in row) / len(row)) ** (1 / p)
    return out


def images(side: int, count: int = 2) -> Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(0))


def built(name: str, **options: object) -> Backbone:
    torch.manual_seed(0)
    return Backbone(name, **options).eval()  # type: ignore[arg-type]


@pytest.mark.parametrize("pool", ["auto", "gem", "avg"])
@pytest.mark.parametrize("name", ["test_efficientnet", "test_resnet", "test_convnext"])
def test_convolutional_maps(name: str, pool: str) -> None:
    net, x = built(name, pool=pool), images(64)
    assert net.pool == {"auto": "gem"}.get(pool, pool)
    with torch.inference_mode():
        y = net(x)
        features = net.net.forward_features(x)
    assert features.shape[1] == net.dim == y.shape[1]
    wanted = by_hand(features.flatten(2), net.pool)
    assert torch.allclose(y.double(), wanted, rtol=1e-4, atol=1e-6)


def test_the_exponent_of_gem_is_used_and_one_is_the_mean() -> None:
    x = images(64)
    for p in (1.0, 4.5):
        net = built("test_resnet", pool="gem", p=p)
        with torch.inference_mode():
            wanted = by_hand(net.net.forward_features(x).flatten(2), "gem", p)
            assert torch.allclose(net(x).double(), wanted, rtol=1e-4, atol=1e-6)


def test_channels_last_maps() -> None:
    net, x = built("test_mambaout"), images(64)
    with torch.inference_mode():
        y, features = net(x), net.net.forward_features(x)
    assert features.shape[-1] == net.dim == y.shape[1]  # (B, H, W, C)
    assert net.pool == "avg"
    wanted = by_hand(features.flatten(1, 2).transpose(1, 2), "avg")
    assert torch.allclose(y.double(), wanted, rtol=1e-4, atol=1e-6)


def test_swin_has_its_channels_last() -> None:
    net = built(SWIN)
    assert (net.dim, net.pool, net.sizes) == (768, "avg", Sizes(patch=(4, 4)))
    x = images(224, 1)
    with torch.inference_mode():
        y, features = net(x), net.net.forward_features(x)
    assert features.shape == (1, 7, 7, 768)
    assert torch.allclose(y, features.mean((1, 2)), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("name", "prefix"), [("test_vit", 1), ("test_vit_relpos", 0)])
def test_tokens_are_averaged_without_the_prefix(name: str, prefix: int) -> None:
    net = built(name)
    x = images(160)
    with torch.inference_mode():
        y, tokens = net(x), net.net.forward_features(x)
    assert tokens.shape[1] == 10 * 10 + prefix  # 160 pixels in patches of 16
    assert net.pool == "avg" and net.prefix == prefix
    wanted = by_hand(tokens[:, prefix:].transpose(1, 2), "avg")
    assert torch.allclose(y.double(), wanted, rtol=1e-4, atol=1e-6)


def test_token_is_the_class_token() -> None:
    net = built("test_vit", pool="token")
    x = images(160)
    with torch.inference_mode():
        assert torch.equal(net(x), net.net.forward_features(x)[:, 0])


@pytest.mark.parametrize("stage", [0, 2, 4])
def test_an_earlier_stage_of_a_convolutional_network(stage: int) -> None:
    net, x = built("test_resnet", stage=stage), images(64)
    with torch.inference_mode():
        y = net(x)
        maps = net.net.forward_intermediates(x, intermediates_only=True)
    assert net.pool == "gem" and net.dim == maps[stage].shape[1]
    wanted = by_hand(maps[stage].flatten(2), "gem")
    assert torch.allclose(y.double(), wanted, rtol=1e-4, atol=1e-6)


def test_an_earlier_stage_of_tokens_is_averaged_too() -> None:
    """Half of a token map is negative, which GeM would clamp away, whatever the stage."""
    net = built("test_vit", stage=1)
    assert net.pool == "avg"
    x = images(160)
    with torch.inference_mode():
        maps = net.net.forward_intermediates(x, indices=[1], intermediates_only=True)[0]
        assert torch.allclose(net(x), maps.mean((2, 3)), rtol=1e-4, atol=1e-6)


def test_an_earlier_stage_of_a_channels_last_network() -> None:
    net, x = built("test_mambaout", stage=1), images(64)
    with torch.inference_mode():
        maps = net.net.forward_intermediates(x, intermediates_only=True, output_fmt="NCHW")[1]
        assert torch.allclose(net(x), maps.mean((2, 3)), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("stage", [99, -99])
def test_a_stage_that_is_not_there_is_one_line(stage: int) -> None:
    with pytest.raises(UserError):
        built("test_resnet", stage=stage)


def test_a_convolutional_network_has_no_class_token() -> None:
    with pytest.raises(UserError, match="token"):
        built("test_resnet", pool="token")


def test_every_small_timm_network_is_a_backbone() -> None:
    for name in timm.list_models("test_*"):
        net = built(name)
        with torch.inference_mode():
            y = net(torch.randn(2, 3, 75, 100))
        assert y.shape == (2, net.dim) and bool(y.isfinite().all()), name


@pytest.mark.parametrize(
    ("name", "taken"),
    [
        ("vit_small_patch14_dinov2", (70, 98)),
        ("vit_tiny_patch16_224", (80, 96)),
        (SWIN, (76, 100)),
        ("vit_relpos_small_patch16_224", (224, 224)),  # of one side
        ("twins_pcpvt_small", (75, 100)),  # timm calls its side fixed; it takes any
        ("test_resnet", (75, 100)),
    ],
)
def test_images_of_any_shape(name: str, taken: tuple[int, int]) -> None:
    """An image as it comes is described as one already in the nearest shape that is taken."""
    net = built(name)
    x = torch.randn(1, 3, 75, 100, generator=torch.Generator().manual_seed(0))
    fitted = nn.functional.interpolate(x, taken, mode="bilinear", antialias=True)
    with torch.inference_mode():
        assert net(x).shape == (1, net.dim)
        assert torch.equal(net(x), net(fitted if taken != (75, 100) else x))
        assert net(torch.zeros(1, 3, 70, 300)).isfinite().all()


def test_building_a_backbone_leaves_no_trace_in_its_statistics() -> None:
    """The probe for the width must not move the running means of batch normalisation."""
    net = built("test_resnet")
    means = [v for k, v in net.state_dict().items() if k.endswith("running_mean")]
    assert means and all(bool((v == 0).all()) for v in means)


def test_an_unknown_name_lists_the_nearest() -> None:
    with pytest.raises(UserError, match="no timm model 'resnet81'.*did you mean 'resnet") as error:
        Backbone("resnet81")
    assert "\n" not in str(error.value)


def test_statistics_are_of_the_network() -> None:
    assert backbone.statistics(timm.create_model("test_vit", num_classes=0)) == (
        tuple(timm.get_pretrained_cfg("test_vit").mean),
        tuple(timm.get_pretrained_cfg("test_vit").std),
    )


def test_normalise_by_hand_in_either_order_of_channels() -> None:
    x = torch.rand(1, 3, 2, 2)
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.25, 2.0)
    y = layers.Normalise(mean, std)(x)
    turned = layers.Normalise(mean, std, bgr=True)(x)
    for c in range(3):
        wanted = (x[:, c] - mean[c]) / std[c]
        assert torch.allclose(y[:, c], wanted) and torch.allclose(turned[:, 2 - c], wanted)


def test_a_network_of_two_branches_is_refused_in_a_line() -> None:
    with pytest.raises(UserError, match="crossvit_tiny_240: no single map of features"):
        Backbone("crossvit_tiny_240")


def test_a_network_of_multiples_takes_any_image_but_is_asked_for_a_multiple() -> None:
    net = built("hrnet_w18_small")
    assert net.sizes == Sizes(multiple=32)
    for side, near in ((100, "96 or 128"), (16, "32"), (130, "128 or 160")):
        with pytest.raises(UserError) as error:
            net.try_side(side, "here")
        assert str(error.value) == (
            f"here: hrnet_w18_small does not take {side} x {side}; give a multiple of 32 ({near})"
        )
    net.try_side(96, "here")
    net.try_side(4096, "here")  # the memory of a small one
    x = torch.randn(1, 3, 75, 100, generator=torch.Generator().manual_seed(0))
    fitted = nn.functional.interpolate(x, (64, 96), mode="bilinear", antialias=True)
    with torch.inference_mode():
        assert torch.equal(net(x), net(fitted))


def test_a_network_for_large_images_says_from_where_on() -> None:
    net = built("inception_v3")
    with pytest.raises(UserError, match=r"^here: inception_v3 does not take 64 x 64; give 75 or"):
        net.try_side(64, "here")
    net.try_side(75, "here")
    with torch.inference_mode():
        assert net(torch.zeros(1, 3, 40, 130)).isfinite().all()


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "vit_relpos_small_patch16_224"])
@pytest.mark.parametrize("side", [33, 100, 500])
def test_a_network_of_any_size_is_tried_and_left_as_it_was(name: str, side: int) -> None:
    net = built(name).train()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    net.try_side(side, "here")
    assert net.training
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())


class Picky(nn.Module):
    """Takes squares of a multiple of `m`, from `least` on."""

    pretrained_cfg = {"input_size": (3, 256, 256)}  # noqa: RUF012

    def __init__(self, m: int, least: int) -> None:
        super().__init__()
        self.m, self.least = m, least

    def forward_features(self, x: Tensor) -> Tensor:
        h, w = x.shape[-2:]
        if h % self.m or w % self.m or min(h, w) < self.least:
            raise RuntimeError("sizes of tensors must match")
        return x


@pytest.mark.parametrize("m", [1, 2, 8, 32, 64, 128])
@pytest.mark.parametrize("least", [1, 32, 96, 160])
def test_sizes_are_found_by_trying(m: int, least: int) -> None:
    found = backbone.sizes(Picky(m, least))
    assert found.multiple == m and found.side is None
    smallest = -(-least // m) * m
    assert found.least == (smallest if smallest > max(32, m) else 0)
