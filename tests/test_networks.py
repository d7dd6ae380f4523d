"""Networks: shapes, what they take and refuse, and that a state is judged on its own."""

import math
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from sdelib.networks import (
    MLP,
    GaussianFourierFeatures,
    Levels,
    MatrixConv,
    ResidualBlock,
    UNet,
    label_indices,
)


def test_fourier_features_are_sines_and_cosines_of_normal_frequencies():
    features = GaussianFourierFeatures(5000, scale=3.0)
    w = features.frequencies
    assert abs(w.std() - 3) < 6 * 3 / math.sqrt(2 * len(w)) and abs(w.mean()) < 6 * 3 / math.sqrt(
        len(w)
    )
    t = torch.tensor([0.0, 0.3])
    assert_close(features(t)[:, :5000], torch.sin(2 * math.pi * t[:, None] * w))
    assert_close(features(t)[:, 5000:], torch.cos(2 * math.pi * t[:, None] * w))
    assert "frequencies" in features.state_dict() and not list(features.parameters())


def test_fourier_features_of_points_are_plane_waves():
    features = GaussianFourierFeatures(5000, scale=3.0, dim=2)
    w = features.frequencies
    assert w.shape == (5000, 2)
    assert abs(w.std() - 3) < 6 * 3 / math.sqrt(2 * w.numel()) and abs(
        w.mean()
    ) < 6 * 3 / math.sqrt(w.numel())
    x = torch.tensor([[0.0, 0.0], [0.3, -0.7]])
    phase = 2 * math.pi * (x[:, :1] * w[:, 0] + x[:, 1:] * w[:, 1])
    assert_close(features(x), torch.cat([phase.sin(), phase.cos()], 1))


def test_waves_let_a_small_network_follow_detail():
    """Linear on its features, the network must match a wave of its own frequency; without them it
    sees only a slope.
    """
    x, t = torch.rand(400, 1), torch.zeros(400)
    errors = []
    for n_waves in (0, 16):
        net = MLP(1, width=32, depth=1, n_waves=n_waves, wave_scale=4.0)
        hidden = net.layers[:-1](
            torch.cat([x, 2 * t[:, None] - 1, net.time(t)] + ([net.waves(x)] if n_waves else []), 1)
        )
        y = torch.sin(2 * math.pi * 4 * x)
        fitted = hidden @ torch.linalg.lstsq(hidden, y).solution
        errors.append((fitted - y).square().mean().item())
        assert_close(net(x, t), net.layers[-1](hidden))
    assert errors[1] < 0.1 * errors[0]


def alive(net):
    """The network with random numbers where it starts at zero, since a zero layer hides what comes
    before it.
    """
    for p in net.parameters():
        if not p.any():
            nn.init.normal_(p, std=0.2)
    return net


def test_a_matrix_convolution_is_torchs_own():
    conv, twin = MatrixConv(3, 5), nn.Conv2d(3, 5, 3, padding=1)
    with torch.no_grad():
        twin.weight.copy_(conv.weight.reshape(5, 3, 3, 3))
        twin.bias.copy_(conv.bias.uniform_())
    x = torch.randn(2, 3, 6, 4)
    assert_close(conv(x), twin(x))
    spread = 1 / math.sqrt(
        3 * 27
    )  # standard deviation of torch's own uniform start, U(-1 / sqrt(27), 1 / sqrt(27))
    assert abs(MatrixConv(3, 1000).weight.std() / spread - 1) < 0.02


def test_a_block_adds_two_convolutions_that_a_zero_embedding_neither_scales_nor_shifts():
    block, x, embedding = ResidualBlock(8, 8, 4), torch.randn(2, 8, 4, 4), torch.randn(2, 4)
    assert torch.equal(block(x, embedding), x)  # as long as it is new
    nn.init.normal_(block.conv_out.weight)
    nn.init.zeros_(block.film.bias)
    h = block.norm_out(block.conv_in(nn.functional.silu(block.norm_in(x))))
    assert_close(block(x, 0 * embedding), x + block.conv_out(nn.functional.silu(h)))
    scale, shift = (part[..., None, None] for part in block.film(embedding).split(8, 1))
    assert_close(
        block(x, embedding), x + block.conv_out(nn.functional.silu((1 + scale) * h + shift))
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("event", [(1, 8, 8), (3, 4, 6)])
@pytest.mark.parametrize("batch", [0, 1, 4])
def test_a_unet_keeps_shape_dtype_and_device_and_judges_each_image_alone(
    dtype, event, batch, device
):
    net = alive(UNet(event[0], widths=(8, 16), n_labels=3)).to(device, dtype)
    x = torch.randn(batch, *event, dtype=dtype, device=device)
    t, label = torch.rand(batch, dtype=dtype, device=device), torch.arange(batch, device=device) % 4
    out = net(x, t, label)
    assert out.shape == x.shape and out.dtype == dtype and out.device == x.device
    alone = [net(x[i : i + 1], t[i], label[i]) for i in range(batch)]
    assert_close(torch.cat([*alone, x[:0]]), out)


def test_a_unet_hears_every_pixel_time_label_and_place():
    net = alive(UNet(widths=(8, 16), n_labels=3))
    x, t = torch.randn(1, 1, 8, 8), torch.tensor(0.3)
    jacobian = torch.autograd.functional.jacobian(lambda x: net(x, t)[0, 0, 4, 4], x)
    assert (jacobian != 0).all()
    hinted = alive(UNet(n_hints=2, widths=(8, 16)))(torch.randn(1, 3, 8, 8), t)
    assert hinted.shape == x.shape
    outs = [net(x, t, torch.tensor(k)) for k in range(4)] + [net(x, torch.tensor(0.5))]
    assert len({out.sum().item() for out in outs}) == 5
    net(torch.zeros_like(x), t).sum().backward()
    assert (
        (net.enter.weight.grad[:, 9:] != 0).all(1).any()
    )  # a blank image still has its coordinates


def test_detail_passes_the_coarse_level_by():
    net, t = alive(UNet(widths=(8, 16))), torch.tensor(0.3)
    nn.init.zeros_(net.narrow.weight)
    a, b = net(torch.randn(2, 1, 8, 8), t)
    assert not torch.allclose(a, b)


NETS = {
    "MLP": (lambda **k: MLP(2, width=8, n_waves=4, **k), (2,)),
    "UNet": (lambda **k: UNet(widths=(8, 16), **k), (1, 8, 8)),
    "three levels": (lambda **k: UNet(2, widths=(8, 16, 24), **k), (2, 8, 4)),
}


@pytest.fixture(params=NETS)
def labelled(request):
    """A network of three labels, two states for it, and their times."""
    make, event = NETS[request.param]
    return alive(make(n_labels=3)), torch.randn(2, *event), torch.rand(2)


def test_no_label_is_the_null_label(labelled):
    net, x, t = labelled
    assert torch.equal(net(x, t), net(x, t, torch.tensor(3)))
    assert not torch.equal(net(x, t), net(x, t, 2))


def test_integers_of_any_kind_are_the_same_label(labelled):
    net, x, t = labelled
    wanted = net(x, t, torch.tensor([1, 1]))
    for label in (1, np.int64(1), np.array([1, 1]), [1, 1], torch.tensor(1, dtype=torch.uint8)):
        assert_close(net(x, t, label), wanted)
    for kind in ["int8", "int16", "int32", "uint8", "uint16", "uint32", "uint64"]:
        assert_close(net(x, t, torch.tensor([1, 1], dtype=getattr(torch, kind))), wanted)
        assert_close(net(x, t, np.array([1, 1], dtype=kind)), wanted)
    assert len(net(x[:0], t[:0], [])) == 0


@pytest.mark.parametrize(
    "label, error, message",
    [
        (1.0, TypeError, "label must be an integer or a tensor of integers, got float"),
        ("1", TypeError, "label must be an integer or a tensor of integers, got str"),
        (torch.ones(2), TypeError, "got torch.float"),
        (torch.tensor([True, False]), TypeError, "got torch.bool"),
        (4, ValueError, r"label must be from 0 to 3 \(none known\), got 4"),
        (-1, ValueError, "label must be from 0 to 3 .none known., got -1"),
        (torch.tensor([0, 9]), ValueError, "got values from 0 to 9"),
        (torch.tensor([0, 1, 2]), ValueError, r"of shape \(\) or \(2,\), as the states, got shape"),
        (torch.tensor([[0], [1]]), ValueError, r"got shape \(2, 1\)"),
    ],
    ids=str,
)
def test_any_other_label_is_named(labelled, label, error, message):
    net, x, t = labelled
    with pytest.raises(error, match=message):
        net(x, t, label)


@pytest.mark.parametrize("name", NETS)
def test_states_and_times_that_do_not_fit_are_named(name):
    make, event = NETS[name]
    net, x, t = make(), torch.randn(2, *event), torch.rand(2)
    for bad, error, message in (
        (x[0], ValueError, r"x must be of shape \(B, "),
        (x.repeat_interleave(2, 1), ValueError, r"x must be of shape \(B, "),
        (
            x.float(),
            TypeError,
            "x must be of torch.float64 like the network's weights, got torch.f",
        ),
        (x.long(), TypeError, "x must be a floating-point tensor, got torch.int64"),
    ):
        with pytest.raises(error, match=message):
            net(bad, t)
    with pytest.raises(ValueError, match=r"t or c must be of shape \(\) or \(2,\), got shape"):
        net(x, torch.rand(3))
    with pytest.raises(ValueError, match="label must be None, as there are no labels, got 1"):
        net(x, t, 1)
    assert_close(net(x, t.float()), net(x, t.float().double()))


def test_the_default_unet_is_small():
    assert sum(p.numel() for p in UNet(n_labels=10).parameters()) < 233_000


def test_two_levels_are_those_of_the_shipped_weights():
    """Names and shapes, which a file of weights holds."""
    state = UNet(n_hints=1, n_labels=10).state_dict()
    assert state["middle.1.film.weight"].shape == (128, 64) and len(state) == 54
    assert {name.split(".")[0] for name in state} == {
        *("time", "embed_time", "embed_label", "enter", "down"),
        *("middle", "narrow", "up", "norm", "leave"),
    }


def test_each_level_sees_farther():
    """Two levels reach some pixels, three twice as far."""
    x, t = torch.randn(1, 1, 32, 32, requires_grad=True), torch.tensor(0.3)
    reach = []
    for widths in ((8, 8), (8, 8, 8)):
        net = UNet(widths=widths)
        for block in net.modules():  # what normalisation over the image would hear has to go
            if isinstance(block, ResidualBlock):
                block.norm_in, block.norm_out = nn.Identity(), nn.Identity()
        net.norm = nn.Identity()
        x.grad = None
        alive(net)(x, t)[0, 0, 16, 16].backward()
        rows = x.grad[0, 0].abs().sum(1).nonzero()
        reach.append(int(rows.max() - rows.min()))
    assert reach[0] < reach[1] and reach[0] < 31


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: MLP(0), "dim must be at least 1, got 0"),
        (lambda: MLP(1, width=0), "width must be at least 1, got 0"),
        (lambda: MLP(1, depth=0), "depth must be at least 1, got 0"),
        (lambda: MLP(1, n_waves=-1), "n_waves must be at least 0, got -1"),
        (lambda: UNet(0), "channels must be at least 1, got 0"),
        (lambda: UNet(widths=(8, 12)), r"widths must be two or more positive multiples of 8, got"),
        (lambda: UNet(widths=(8,)), r"widths must be two or more positive multiples of 8, got"),
        (lambda: MLP(1, n_labels=-1), "n_labels must be at least 0, got -1"),
        (lambda: UNet(n_hints=-1), "n_hints must be at least 0, got -1"),
        (lambda: UNet(n_labels=-1), "n_labels must be at least 0, got -1"),
        (
            lambda: UNet()(torch.zeros(1, 1, 7, 8), torch.zeros(())),
            "x must be of height and width that are multiples of 2, got shape",
        ),
        (
            lambda: UNet(widths=(8, 8, 8))(torch.zeros(1, 1, 6, 8), torch.zeros(())),
            "x must be of height and width that are multiples of 4, got shape",
        ),
        (
            lambda: UNet()(torch.zeros(1, 1, 8, 8), torch.zeros(()), torch.tensor(1)),
            "label must be None, as there are no labels, got 1",
        ),
        (lambda: GaussianFourierFeatures(0), "n_features must be at least 1, got 0"),
        (lambda: GaussianFourierFeatures(4, scale=-1.0), "scale must be positive, got -1.0"),
        (lambda: GaussianFourierFeatures(4, scale=0.0), "scale must be positive, got 0.0"),
        (lambda: GaussianFourierFeatures(4, dim=0), "dim must be at least 1, got 0"),
        (lambda: MatrixConv(0, 1), "n_in must be at least 1, got 0"),
        (lambda: MatrixConv(1, 0), "n_out must be at least 1, got 0"),
        (lambda: ResidualBlock(8, 8, 1, groups=0), "groups must be at least 1, got 0"),
        (lambda: ResidualBlock(12, 8, 1), "n_in must be a multiple of 8, got 12"),
        (lambda: ResidualBlock(0, 8, 1), "n_in must be a multiple of 8, got 0"),
        (lambda: ResidualBlock(8, 12, 1), "n_out must be a multiple of 8, got 12"),
        (lambda: ResidualBlock(8, 8, 0), "n_embedding must be at least 1, got 0"),
        (lambda: UNet(n_embedding=-1), "n_embedding must be at least 1, got -1"),
        (lambda: UNet(n_embedding=0), "n_embedding must be at least 1, got 0"),
        (lambda: Levels((8,), 4), "widths must be two or more positive multiples of 8, got"),
        (
            lambda: Levels((8, 8), 4)(torch.zeros(1, 8, 5, 8), torch.zeros(1, 4)),
            "x must be of height and width that are multiples of 2, got shape",
        ),
        (
            lambda: UNet(widths=(8, 8, 8, 8))(torch.zeros(1, 1, 12, 8), torch.zeros(())),
            "x must be of height and width that are multiples of 8, got shape",
        ),
        (
            lambda: UNet(widths=(8, 8))(torch.zeros(1, 1, 0, 8), torch.zeros(())),
            "x must be of at least one, got states without entries",
        ),
        (
            lambda: GaussianFourierFeatures(4)(torch.zeros(2, 1)),
            r"x must be of shape \(B,\), got shape \(2, 1\)",
        ),
        (
            lambda: MLP(2)(torch.zeros(3, 1), torch.zeros(())),
            r"x must be of shape \(B, 2\), got shape \(3, 1\)",
        ),
        (
            lambda: MatrixConv(3, 1)(torch.zeros(2, 1, 8, 8)),
            r"x must be of shape \(B, 3, H, W\), got shape \(2, 1, 8, 8\)",
        ),
        (
            lambda: ResidualBlock(8, 8, 4)(torch.zeros(2, 1, 8, 8), torch.zeros(2, 4)),
            r"x must be of shape \(B, 8, H, W\), got shape \(2, 1, 8, 8\)",
        ),
        (
            lambda: ResidualBlock(8, 8, 4)(torch.zeros(2, 8, 4, 4), torch.zeros(2, 3)),
            r"embedding must be of shape \(B, 4\), got shape \(2, 3\)",
        ),
        (
            lambda: ResidualBlock(8, 8, 4)(torch.zeros(2, 8, 4, 4), torch.zeros(1, 4)),
            r"embedding must be of shape \(2, 4\), got shape \(1, 4\)",
        ),
        (
            lambda: label_indices(1, 3, torch.tensor(0.0)),
            r"x must be of shape \(B, \*event\), got a scalar",
        ),
        (lambda: UNet(widths=(0, 8)), "widths must be two or more positive multiples of 8, got"),
    ],
)
def test_bad_values_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_what_is_no_number_and_embeddings_of_another_precision_are_named():
    with pytest.raises(TypeError, match="dim must be an integer, got str"):
        MLP("2")
    block, x = ResidualBlock(8, 8, 4), torch.zeros(2, 8, 4, 4)
    with pytest.raises(TypeError, match=r"^embedding must be of torch.float64 like the network's"):
        block(x, torch.zeros(2, 4, dtype=torch.float32))


@pytest.mark.parametrize(
    "default, spelt_out",
    [
        (lambda: GaussianFourierFeatures(4), lambda: GaussianFourierFeatures(4, 1.0, None)),
        (lambda: MLP(2), lambda: MLP(2, 64, 3, 8, 1.0, 0, 1.5, 0)),
        (lambda: MLP(2, n_waves=4), lambda: MLP(2, n_waves=4, wave_scale=1.5)),
        (lambda: UNet(), lambda: UNet(1, 0, (32, 64), 0, 128, 4.0, 64)),
    ],
)
def test_defaults_are_as_documented(default, spelt_out):
    """The same weights from the same seed."""
    weights = []
    for make in (default, spelt_out):
        torch.manual_seed(0)
        weights.append(make().state_dict())
    assert list(weights[0]) == list(weights[1])
    assert all(torch.equal(w, weights[1][name]) for name, w in weights[0].items())


def test_each_label_and_none_has_a_row_of_the_embedding():
    for net, width in ((MLP(2, n_labels=3), 16), (UNet(widths=(8, 8), n_labels=3), 64)):
        assert net.embed_label.weight.shape == (4, width)


def test_one_label_is_enough():
    net = alive(MLP(2, n_labels=1))
    x, t = torch.randn(3, 2), torch.tensor(0.3)
    assert not torch.equal(net(x, t, 0), net(x, t))
    assert torch.equal(label_indices(1, 1, torch.zeros(3)), torch.tensor([1, 1, 1]))


def test_a_unet_adds_the_embeddings_of_time_and_label():
    net = alive(UNet(widths=(8, 8), n_labels=1))
    x, t = torch.randn(2, 1, 4, 4), torch.tensor(0.3)
    with torch.no_grad():
        labelled = net(x, t, 0)
        net.embed_time.bias += net.embed_label.weight[0]
        net.embed_label.weight[1] = 0
    assert_close(net(x, t), labelled)


def test_a_unet_calls_torch_as_it_wants_to_be_called():
    before = torch.is_warn_always_enabled()
    torch.set_warn_always(True)  # else only once in a process
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            UNet(widths=(8, 8))(torch.zeros(1, 1, 4, 4), torch.zeros(1))
    finally:
        torch.set_warn_always(before)


def test_no_label_lies_where_the_states_do_whatever_the_default_device():
    x = torch.zeros(2, 1)
    with torch.device("meta"):
        assert torch.equal(label_indices(None, 3, x), torch.full((2,), 3, device=x.device))


def test_the_least_sizes_make_a_network():
    x, image, t = torch.ones(2, 1), torch.ones(2, 1, 2, 2), torch.ones(2)
    assert GaussianFourierFeatures(1, dim=1)(x).shape == (2, 2)
    assert MLP(1, 1, 1, 1)(x, t).shape == (2, 1)
    assert MatrixConv(1, 1)(image).shape == image.shape
    assert ResidualBlock(1, 1, 1, groups=1)(image, x).shape == image.shape
    assert UNet(widths=(8, 8), n_features=1, n_embedding=1)(image, t).shape == image.shape
