"""The mixture's score plus a network: what it is without a network, and what the network is asked
for.
"""

from functools import partial

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from sdelib.mixtures import GaussianMixture
from sdelib.networks import UNet
from sdelib.residual import MixtureResidualScore
from sdelib.score import denoise, exact_score


class Zero(nn.Module):
    def forward(self, u, t, label):
        return torch.zeros_like(u[:, : u.shape[1] // 2])


class Spy(Zero):
    def forward(self, u, t, label):
        self.seen = u, t, label
        return super().forward(u, t, label)


@pytest.fixture
def images():
    """Three classes of correlated 2 x 2 images, shape ``(300, 1, 2, 2)``, and their labels."""
    labels = torch.arange(300) % 3
    mix = torch.randn(3, 4, 4)
    x = torch.einsum("nij,nj->ni", mix[labels], torch.randn(300, 4)) + 3 * torch.randn(3, 4)[labels]
    return x.reshape(-1, 1, 2, 2), labels


@pytest.fixture
def mixture(images):
    return GaussianMixture.from_classes(*images)


def test_without_a_network_the_score_is_the_mixtures(sde, mixture):
    score, x, t = (
        MixtureResidualScore(Zero(), sde, mixture),
        torch.randn(6, 1, 2, 2),
        torch.linspace(0.1, 1, 6),
    )
    exact = exact_score(sde, mixture)(x.flatten(1), t).reshape(x.shape)
    assert_close(score(x, t), exact)
    assert_close(score(x, t, torch.tensor(3)), exact)  # the null label
    assert_close(score(x, t[0]), exact_score(sde, mixture)(x.flatten(1), t[0]).reshape(x.shape))


def test_a_label_chooses_its_component(sde, mixture):
    score, x, t = (
        MixtureResidualScore(Zero(), sde, mixture),
        torch.randn(4, 1, 2, 2),
        torch.linspace(0.1, 1, 4),
    )
    label = torch.tensor([2, 0, 3, 1])
    for i, k in enumerate(label):
        law = mixture
        if k < 3:
            law = GaussianMixture(
                torch.ones(1),
                mixture.means[k][None],
                mixture.variances[k][None],
                mixture.axes[k][None],
            )
        alone = exact_score(sde, law)(x[i : i + 1].flatten(1), t[i])
        assert_close(partial(score, label=label)(x, t)[i].flatten(), alone[0])
        assert_close(score(x[i : i + 1], t[i], k).flatten(), alone[0])


def test_the_network_sees_state_and_guess_on_a_scale_of_order_one(sde, mixture, images):
    score = MixtureResidualScore(Spy(), sde, mixture)
    t = torch.full((300,), 0.4)
    x, _ = sde.perturb(images[0], t)
    score(x, t, images[1])
    u, t_seen, label = score.net.seen
    alpha, sigma, v = sde.alpha(t[0]), sde.sigma(t[0]), mixture.cov.trace() / 4
    assert_close(u[:, :1] * (alpha**2 * v + sigma**2).sqrt(), x)
    guess = denoise(partial(score, label=images[1]), sde, x, t)
    assert_close(u[:, 1:] * v.sqrt(), guess)
    assert t_seen is t and label is images[1]


def test_the_network_is_asked_for_numbers_of_order_one_when_the_mixture_is_one_gaussian(sde):
    # what is left of an isotropic Gaussian datum, (x0 - D0) / (factor sigma^2 / alpha), has
    # variance 1 at every time
    v = 2.5
    one = GaussianMixture(
        torch.ones(1), torch.zeros(1, 4), torch.full((1, 4), v), torch.eye(4)[None]
    )
    x0 = v**0.5 * torch.randn(100_000, 1, 2, 2)

    class Ones(Zero):
        def forward(self, u, t, label):
            return torch.ones_like(u[:, :1])

    for t in torch.tensor([0.01, 0.3, 1.0]):
        x, _ = sde.perturb(x0, t)
        start, shifted = (
            denoise(MixtureResidualScore(net, sde, one), sde, x, t) for net in (Zero(), Ones())
        )
        target = (x0 - start) / (shifted - start)
        assert abs(target.var() - 1) < 6 * (2 / target.numel()) ** 0.5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("batch", [0, 1, 4])
def test_shape_dtype_device_and_independent_rows(sde, dtype, batch, device, images):
    mixture = GaussianMixture.from_classes(
        images[0].repeat_interleave(2, 2).repeat_interleave(2, 3), images[1], noise=0.1
    )
    net = UNet(n_hints=1, n_labels=3, widths=(8, 16))
    nn.init.normal_(net.leave.weight)
    score = MixtureResidualScore(net, sde, mixture).to(device, dtype)
    x, t = (
        torch.randn(batch, 1, 4, 4, dtype=dtype, device=device),
        torch.rand(batch, dtype=dtype, device=device),
    )
    label = torch.arange(batch, device=device) % 4
    out = score(x, 0.1 + 0.9 * t, label)
    assert out.shape == x.shape and out.dtype == dtype and out.device == x.device
    alone = [score(x[i : i + 1], 0.1 + 0.9 * t[i], label[i]) for i in range(batch)]
    assert_close(torch.cat([*alone, x[:0]]), out)


def test_everything_it_needs_travels_with_its_state(sde, mixture, images):
    other = GaussianMixture.from_classes(images[0] + 1, images[1], pooled=0.9)
    a, b = (MixtureResidualScore(Zero(), sde, m) for m in (mixture, other))
    x, t = torch.randn(5, 1, 2, 2), torch.rand(5)
    assert not torch.equal(a(x, t), b(x, t))
    b.load_state_dict(a.state_dict())
    assert torch.equal(a(x, t), b(x, t))


def test_a_mixture_without_axes_is_refused(sde):
    plain = GaussianMixture(torch.ones(1), torch.zeros(1, 4), torch.ones(1, 4))
    with pytest.raises(ValueError, match="mixture.axes must be given, got None"):
        MixtureResidualScore(Zero(), sde, plain)
