"""The loss against the identities of Vincent and Hyvarinen; the loop against a problem with a known answer."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from sdelib.data import deck_mixture
from sdelib.score import exact_score
from sdelib.sde import VPSDE, like
from sdelib.training import dsm_loss, fit, low_discrepancy, uniform

NODES, WEIGHTS = (torch.as_tensor(a) for a in np.polynomial.hermite_e.hermegauss(60))
WEIGHTS = WEIGHTS / WEIGHTS.sum()  # E phi(Z) = sum_i w_i phi(z_i) for standard normal Z
SCORES = {
    "zero": lambda x: 0 * x,
    "of a normal": lambda x: -x / 9.625,
    "smooth": lambda x: torch.tanh(x) - 0.3 * x + 0.1,
}


def expectation(function, sde, t):
    """E function(x_t, z) over both components of the deck mixture and the noise, by Gauss-Hermite quadrature."""
    mixture = deck_mixture()
    u, z = torch.meshgrid(NODES, NODES, indexing="ij")
    total = 0.0
    for weight, mean, variance in zip(mixture.weights, mixture.means[:, 0], mixture.variances[:, 0]):
        x_t = sde.alpha(t) * (mean + variance.sqrt() * u) + sde.sigma(t) * z
        total += weight * (WEIGHTS[:, None] * WEIGHTS * function(x_t, z)).sum()
    return total


@pytest.mark.parametrize("score", SCORES.values(), ids=SCORES)
@pytest.mark.parametrize("t", [0.05, 0.3])
def test_denoising_is_explicit_matching_plus_vincents_constant(score, t):
    # E|s - grad log p(x_t|x_0)|^2 = E|s - grad log p_t|^2 + d / sigma^2 - E|grad log p_t|^2
    sde, t = VPSDE(), torch.tensor(t)
    exact = exact_score(sde, deck_mixture())

    def grad_log_p(x):
        return exact(x.reshape(-1, 1), t).reshape(x.shape)

    denoising = expectation(lambda x, z: (score(x) + z / sde.sigma(t)) ** 2, sde, t)
    explicit = expectation(lambda x, z: (score(x) - grad_log_p(x)) ** 2, sde, t)
    fisher = expectation(lambda x, z: grad_log_p(x) ** 2, sde, t)
    assert_close(denoising, explicit + 1 / sde.sigma(t) ** 2 - fisher, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("score", SCORES.values(), ids=SCORES)
def test_implicit_is_explicit_matching_less_hyvarinens_constant(score):
    # E[|s|^2 + 2 div s] = E|s - grad log p|^2 - E|grad log p|^2
    sde, t = VPSDE(), torch.tensor(0.1)
    exact = exact_score(sde, deck_mixture())

    def grad_log_p(x):
        return exact(x.reshape(-1, 1), t).reshape(x.shape)

    def divergence(x):
        return torch.func.jvp(score, (x,), (torch.ones_like(x),))[1]

    implicit = expectation(lambda x, z: score(x) ** 2 + 2 * divergence(x), sde, t)
    explicit = expectation(lambda x, z: (score(x) - grad_log_p(x)) ** 2, sde, t)
    fisher = expectation(lambda x, z: grad_log_p(x) ** 2, sde, t)
    assert_close(implicit, explicit - fisher, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("times", [uniform, low_discrepancy])
def test_dsm_loss_is_least_at_the_exact_score(sde, target, times):
    # loss(s + h) - loss(s) = E lambda |h|^2 >= 0: the excess is known, not merely its sign
    exact, x0 = exact_score(sde, target), target.sample(50_000)

    def loss(shift):
        def score(x, t):
            return exact(x, t) + shift / like(sde.sigma(t), x)  # h is shift / sigma, so lambda |h|^2 is d shift^2

        # A seed of its own: with the data's seed the noise would repeat the data's numbers
        return dsm_loss(score, sde, x0, times=times, generator=torch.Generator().manual_seed(1))

    # At common random numbers the excess is d shift^2 + 2 shift mean(sum(sigma s + z)), whose last mean is 0 +- 1/sqrt(n)
    for shift in (0.2, -0.2):
        tolerance = 6 * 2 * abs(shift) * math.sqrt(2 * loss(0.0) / len(x0))
        assert abs(loss(shift) - loss(0.0) - 2 * shift**2) < tolerance < 2 * shift**2 / 2


def test_dsm_loss_estimates_the_weighted_integral_over_time():
    # With s = 0 the loss is E_t lambda(t) d / sigma(t)^2: d for lambda = sigma^2, a known mean of g^2 / sigma^2 otherwise
    sde, t_min, n = VPSDE(), 1e-3, 200_000
    x0 = torch.zeros(n, 3)
    zero = lambda x, t: torch.zeros_like(x)  # noqa: E731
    assert abs(dsm_loss(zero, sde, x0) - 3) < 6 * math.sqrt(2 * 3 / n)
    t = torch.linspace(t_min, 1, 100_001)
    rate = (sde.g(t) / sde.sigma(t)) ** 2
    spread = (15 * rate.square().mean() / n).sqrt()  # E |z|^4 = d (d + 2) = 15
    likelihood = dsm_loss(zero, sde, x0, weight=lambda t: sde.g(t) ** 2, t_min=t_min)
    assert abs(likelihood - 3 * torch.trapezoid(rate, t) / (1 - t_min)) < 6 * spread


def test_low_discrepancy_times_fill_every_slice_in_random_order():
    u = low_discrepancy(torch.zeros(1000, 1))
    assert torch.equal((1000 * u).long().sort().values, torch.arange(1000))
    order = torch.corrcoef(torch.stack([u, torch.arange(1000.0)]))[0, 1]
    assert abs(order) < 6 / math.sqrt(1000)  # no trend along the batch, so data in a fixed order meet every time


def test_the_loss_repeats_with_its_generator(sde, target, device):
    x0 = target.sample(8).to(device)
    score = exact_score(sde, target)
    a, b, c = (dsm_loss(score, sde, x0, generator=torch.Generator(device).manual_seed(k)) for k in (0, 0, 1))
    assert torch.equal(a, b) and a != c and a.shape == () and a.device.type == device


class Constant(nn.Module):
    """The network ``c``; with ``E (c - y)^2`` as its loss it should find the mean of ``y``."""

    def __init__(self):
        super().__init__()
        self.c = nn.Parameter(torch.zeros(2))

    def forward(self):
        return self.c


def test_fit_finds_the_minimum_and_returns_every_loss():
    net, mean = Constant(), torch.tensor([1.0, -2.0])
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    history = fit(net, lambda net: (net() - mean).square().sum(), 200, optimizer, progress=False)
    assert_close(net(), mean)
    # Gradient descent on a quadratic: the error shrinks by (1 - 2 lr) a step
    assert_close(history, 5 * 0.8 ** (2 * torch.arange(200.0)), rtol=1e-9, atol=1e-14)


def test_fit_leaves_the_moving_average_in_the_network():
    net, path = Constant(), []

    def loss(net):
        path.append(net().detach().clone())
        return (net() - 1).square().sum()

    fit(net, loss, 30, torch.optim.SGD(net.parameters(), lr=0.1), ema_decay=0.9, progress=False)
    after = [1 - 0.8 ** (k + 1) for k in range(30)]  # the weights after each step
    average = after[0]
    for value in after[1:]:
        average = 0.9 * average + 0.1 * value
    assert_close(net(), torch.full((2,), average))


def test_fit_steps_the_schedule():
    net = Constant()
    optimizer = torch.optim.SGD(net.parameters(), lr=1.0)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.5, total_iters=4)
    fit(net, lambda net: net().sum(), 4, optimizer, schedule, progress=False)
    assert_close(net(), torch.full((2,), -(1.0 + 0.875 + 0.75 + 0.625)))


def test_fit_stops_at_a_loss_that_is_not_finite():
    with pytest.raises(FloatingPointError, match="the loss became nan"):
        fit(Constant(), lambda net: net().sum() * math.nan, 5, progress=False)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: dsm_loss(None, VPSDE(), torch.zeros(2, 1), t_min=0.0), r"t_min must be inside \(0, 1\), got 0.0"),
        (lambda: dsm_loss(None, VPSDE(), torch.full((2, 1), math.nan)), "x0 must be finite everywhere"),
        (lambda: fit(Constant(), None, 0), "n_steps must be at least 1, got 0"),
        (lambda: fit(Constant(), None, 1, ema_decay=1.0), r"ema_decay must be in \[0, 1\), got 1.0"),
    ],
)
def test_bad_values_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
