"""Networks: shapes, what the wrapper promises, and that a state is judged on its own."""

import math
from functools import partial

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from sdelib.mixtures import GaussianMixture
from sdelib.networks import (
    MLP,
    GaussianFourierFeatures,
    MatrixConv,
    ResidualBlock,
    ResidualScore,
    UNet,
)
from sdelib.score import denoise, exact_score


class Zero(nn.Module):
    def forward(self, x, t):
        return torch.zeros_like(x)


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


def test_the_gain_multiplies_the_network_only(sde):
    class One(nn.Module):
        def forward(self, x, t):
            return torch.ones_like(x)

    data, x, t = torch.randn(50, 2), torch.randn(7, 2), torch.linspace(0.1, 1, 7)
    scores = [
        ResidualScore(One(), sde, data, gain)(x, t)
        for gain in (None, torch.ones_like, lambda t: 3 * t)
    ]
    nothing = ResidualScore(Zero(), sde, data)(x, t)
    assert_close(scores[0], scores[1])
    assert_close(scores[2] - nothing, 3 * t[:, None] * (scores[0] - nothing))


def test_at_a_gain_of_alpha_over_sigma_the_network_denoises(sde):
    """The denoised point is the Gaussian's guess plus sigma / sqrt(alpha^2 v + sigma^2) times the
    network.
    """

    class One(nn.Module):
        def forward(self, x, t):
            return torch.ones_like(x)

    data, x, t = 2 + 3 * torch.randn(50, 2), torch.randn(7, 2), torch.linspace(0.1, 1, 7)
    score = ResidualScore(One(), sde, data, lambda t: sde.alpha(t) / sde.sigma(t))
    guess, denoised = (denoise(s, sde, x, t) for s in (ResidualScore(Zero(), sde, data), score))
    missed = sde.sigma(t) / (sde.alpha(t) ** 2 * score.variance + sde.sigma(t) ** 2).sqrt()
    assert_close(denoised - guess, missed[:, None].expand_as(x))


def test_without_a_network_the_residual_score_is_that_of_a_gaussian(sde):
    data = 2 + 3 * torch.randn(1000, 2)
    mean, variance = data.mean(0), (data - data.mean(0)).square().mean()
    gaussian = GaussianMixture(torch.ones(1), mean[None], variance.expand(1, 2))
    x, t = torch.randn(7, 2), torch.linspace(0.1, 1, 7)
    assert_close(ResidualScore(Zero(), sde, data)(x, t), exact_score(sde, gaussian)(x, t))


def test_the_network_sees_states_of_unit_variance(sde):
    data, seen = 5 + 0.1 * torch.randn(20_000, 1), []

    class Spy(Zero):
        def forward(self, x, t):
            seen.append(x)
            return super().forward(x, t)

    score = ResidualScore(Spy(), sde, data)
    for t in torch.tensor([0.0, 0.5, 1.0]):
        score(sde.perturb(data, t)[0], t)
        assert abs(seen[-1].var() - 1) < 6 * math.sqrt(2 / len(data)) and abs(
            seen[-1].mean()
        ) < 6 / math.sqrt(len(data))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("batch", [0, 1, 5])
def test_a_network_score_keeps_shape_dtype_and_device(sde, dtype, batch, device):
    score = ResidualScore(MLP(2, width=8, n_waves=4), sde, torch.randn(50, 2)).to(device, dtype)
    x, t = (
        torch.randn(batch, 2, dtype=dtype, device=device),
        torch.rand(batch, dtype=dtype, device=device),
    )
    assert (
        score(x, t).shape == x.shape
        and score(x, t).dtype == dtype
        and score(x, t).device == x.device
    )
    assert_close(
        torch.cat([score(x[i : i + 1], t[i]) for i in range(batch)] + [x[:0]]), score(x, t)
    )


def test_a_saved_and_reloaded_network_is_the_same_score(sde):
    a, b = (ResidualScore(MLP(1), sde, torch.randn(50, 1)) for _ in range(2))
    x, t = torch.randn(5, 1), torch.rand(5)
    assert not torch.equal(a(x, t), b(x, t))
    b.load_state_dict(a.state_dict())
    assert torch.equal(a(x, t), b(x, t))


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


def test_an_untrained_unet_is_the_score_of_a_gaussian(sde):
    data = 2 + 3 * torch.randn(100, 1, 8, 8)
    x, t = torch.randn(4, 1, 8, 8), torch.linspace(0.1, 1, 4)
    assert torch.equal(
        ResidualScore(UNet(), sde, data)(x, t), ResidualScore(Zero(), sde, data)(x, t)
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


def test_no_label_is_the_null_label():
    net, x, t = alive(UNet(widths=(8, 16), n_labels=3)), torch.randn(2, 1, 8, 8), torch.rand(2)
    assert torch.equal(net(x, t), net(x, t, torch.tensor(3)))


def test_a_label_travels_in_a_partial_score(sde):
    score = ResidualScore(alive(UNet(widths=(8, 16), n_labels=3)), sde, torch.randn(50, 1, 8, 8))
    x, t, label = torch.randn(2, 1, 8, 8), torch.rand(2), torch.tensor([2, 0])
    assert torch.equal(partial(score, label=label)(x, t), score(x, t, label))
    assert not torch.equal(score(x, t), score(x, t, label))


def test_the_default_unet_is_small():
    assert sum(p.numel() for p in UNet(n_labels=10).parameters()) < 233_000


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: MLP(0), "dim must be at least 1, got 0"),
        (lambda: MLP(1, width=0), "width must be at least 1, got 0"),
        (lambda: MLP(1, depth=0), "depth must be at least 1, got 0"),
        (lambda: MLP(1, n_waves=-1), "n_waves must be at least 0, got -1"),
        (lambda: UNet(0), "channels must be at least 1, got 0"),
        (lambda: UNet(widths=(8, 12)), r"widths must be positive multiples of 8, got \(8, 12\)"),
        (lambda: UNet(n_hints=-1), "n_hints must be at least 0, got -1"),
        (lambda: UNet(n_labels=-1), "n_labels must be at least 0, got -1"),
        (
            lambda: UNet()(torch.zeros(1, 1, 7, 8), torch.zeros(())),
            r"x must be of even height and width, got shape",
        ),
        (
            lambda: UNet()(torch.zeros(1, 1, 8, 8), torch.zeros(()), torch.tensor(1)),
            "label must be None for a network without labels, got 1",
        ),
        (lambda: GaussianFourierFeatures(0), "n_features must be at least 1, got 0"),
        (lambda: GaussianFourierFeatures(4, scale=-1.0), "scale must be positive, got -1.0"),
    ],
)
def test_bad_values_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
