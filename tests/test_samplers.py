"""Samplers on exact scores, where any error left is the method's own."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from scipy import stats
from torch.testing import assert_close

from sdelib.data import GaussianMixture, deck_mixture
from sdelib.laws import sampler_law
from sdelib.samplers import euler_maruyama, reverse, reverse_drift, sample
from sdelib.score import exact_score
from sdelib.sde import SubVPSDE, VESDE, VPSDE

flow_euler = partial(euler_maruyama, eta=0)
NORMAL = GaussianMixture(torch.ones(1), torch.zeros(1, 1), torch.full((1, 1), 4.0))  # N(0, 4)


def variance(sde, t):
    """Variance of N(0, 4) diffused to time t."""
    return sde.alpha(t) ** 2 * 4 + sde.sigma(t) ** 2


@pytest.mark.parametrize("sde", [VPSDE(), VPSDE(1.0, 1.0), SubVPSDE()], ids=str)
def test_the_flow_converges_at_order_one_to_its_closed_form(sde):
    # For N(0, v_0) the flow ODE is linear, and x_s = x_t sqrt(v_s / v_t)
    t_min, errors = 1e-3, []
    for n in (200, 400, 800):
        ts = torch.linspace(1, t_min, n + 1)
        *_, x = reverse(exact_score(sde, NORMAL), sde, torch.ones(1, 1), ts, flow_euler)
        errors.append(abs(x.item() - (variance(sde, ts[-1]) / variance(sde, ts[0])).sqrt().item()))
    orders = [math.log2(a / b) for a, b in zip(errors, errors[1:])]
    assert all(abs(order - 1) < 0.1 for order in orders), orders


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_every_eta_has_the_variance_of_its_recursion_and_converges(eta):
    # On N(0, v_0) each step is x -> (1 - a dt) x + eta g sqrt(dt) z, so the variance obeys v' = (1 - a dt)^2 v + eta^2 g^2 dt
    sde, errors = VPSDE(), []
    for n in (250, 500):
        ts = torch.linspace(1, 1e-3, n + 1)
        v = sde.sigma(ts[0]) ** 2
        for t, s in zip(ts[:-1], ts[1:]):
            a = sde.f(t) + (1 + eta**2) / 2 * sde.g(t) ** 2 / variance(sde, t)
            v = (1 - a * (t - s)) ** 2 * v + eta**2 * sde.g(t) ** 2 * (t - s)
        *_, mean = reverse(
            exact_score(sde, NORMAL), sde, torch.ones(1, 1), ts, partial(euler_maruyama, eta=eta), torch.zeros_like
        )
        law = sampler_law(exact_score(sde, NORMAL), sde, partial(euler_maruyama, eta=eta), n)
        shrink = sde.alpha(ts[-1]) * 4 / variance(sde, ts[-1])  # Tweedie's step on N(0, 4) is linear as well
        assert_close((law.weights * law.x[:, 0] ** 2).sum(), shrink**2 * v, rtol=2e-6, atol=0)
        errors.append(abs(v.item() - variance(sde, ts[-1]).item()))
    assert 0.9 < math.log2(errors[0] / errors[1]) < 1.1


@pytest.mark.parametrize("sde", [VESDE(), VPSDE(), SubVPSDE()], ids=str)
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_the_law_of_the_output_converges_at_order_one(sde, eta):
    target, step = deck_mixture(), partial(euler_maruyama, eta=eta)
    score = exact_score(sde, target)
    coarse, fine = (sampler_law(score, sde, step, n, t_min=1e-4).wasserstein(target) for n in (125, 250))
    assert 0.8 < math.log2(coarse / fine) < 1.3, (coarse, fine)  # a sampler with another limit would show order 0


def test_strong_order_one_with_shared_increments():
    # The noise is additive, so Euler-Maruyama has strong order 1; the finest path is the reference of the coarse ones.
    sde, n, t_min = VPSDE(), 2048, 0.05
    dw = torch.randn(n, 100, 1)
    x = sde.prior_sample((100, 1))

    def end(k):
        increments = iter(dw.reshape(k, n // k, 100, 1).sum(1) * math.sqrt(k / n))
        ts = torch.linspace(1, t_min, k + 1)
        *_, last = reverse(exact_score(sde, NORMAL), sde, x, ts, euler_maruyama, lambda _: next(increments))
        return last

    errors = [(end(k) - end(n)).abs().mean().item() for k in (32, 64, 128)]
    orders = [math.log2(a / b) for a, b in zip(errors, errors[1:])]
    assert all(0.85 < order < 1.25 for order in orders), orders


def test_samples_follow_the_law_computed_without_noise():
    sde, target, n = VPSDE(), deck_mixture(), 20_000
    score = exact_score(sde, target)
    x = sample(score, sde, (n, 1), n_steps=20, generator=torch.Generator().manual_seed(0))
    law = sampler_law(score, sde, n_steps=20)
    levels = np.interp(x[:, 0], law.x[:, 0], law.levels)
    assert stats.kstest(levels, "uniform").pvalue > 1e-4
    assert law.kolmogorov(target) > stats.kstwo(n).isf(1e-4)  # the sample could tell the law from the target


def test_reverse_drift_between_sde_and_ode(sde, target):
    x, t = torch.randn(4, 2), torch.tensor(0.3)
    score = exact_score(sde, target)
    drift, pull = sde.drift(x, t), sde.g(t) ** 2 * score(x, t)
    assert_close(reverse_drift(score, sde, x, t), drift - pull)  # Eq. 6
    assert_close(reverse_drift(score, sde, x, t, eta=0), drift - pull / 2)  # Eq. 13


@pytest.mark.parametrize("event", [(2,), (1, 8, 8)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("batch", [0, 1, 3])
def test_sample_keeps_shape_dtype_and_device(sde, event, dtype, batch, device):
    shape = (batch, *event)
    x = sample(lambda x, t: -x, sde, shape, n_steps=2, dtype=dtype, device=device)
    assert x.shape == shape and x.dtype == dtype and x.device.type == device


def test_sample_is_a_function_of_its_generator(sde, target):
    def draw(seed):
        return sample(exact_score(sde, target), sde, (4, 2), n_steps=5, generator=torch.Generator().manual_seed(seed))

    torch.manual_seed(7)
    first = draw(0)
    torch.manual_seed(8)
    assert torch.equal(first, draw(0)) and not torch.equal(first, draw(1))


def test_a_sample_never_depends_on_its_neighbours(sde, target):
    x, z, score = torch.randn(6, 2), torch.randn(6, 2), exact_score(sde, target)
    t, s = torch.tensor(0.5), torch.tensor(0.4)
    together = euler_maruyama(score, sde, x, t, s, lambda _: z)
    alone = torch.cat([euler_maruyama(score, sde, x[i : i + 1], t, s, lambda _, i=i: z[i : i + 1]) for i in range(6)])
    assert_close(together, alone)
    assert_close(together, euler_maruyama(score, sde, x, t.expand(6), s.expand(6), lambda _: z))


def test_the_noise_is_the_one_passed_in(sde, target):
    x, t, s = torch.randn(3, 2), torch.tensor(0.5), torch.tensor(0.3)
    step = partial(euler_maruyama, exact_score(sde, target), sde, x, t, s)
    assert_close(step(torch.ones_like) - step(torch.zeros_like), (sde.g(t) * (t - s).sqrt()).expand(3, 2))
    assert torch.equal(flow_euler(exact_score(sde, target), sde, x, t, s), step(torch.zeros_like, eta=0))


SCORE, SDE = exact_score(VPSDE(), NORMAL), VPSDE()


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: sample(SCORE, SDE, (1, 1), n_steps=0), "n_steps must be at least 1, got 0"),
        (lambda: sample(SCORE, SDE, (1, 1), t_min=0.0), r"t_min must be inside \(0, 1\), got 0.0"),
        (lambda: sample(SCORE, SDE, (1, 1), t_min=1.0), r"t_min must be inside \(0, 1\), got 1.0"),
        (lambda: next(reverse(SCORE, SDE, torch.ones(1, 1), torch.tensor([0.1, 0.9]), euler_maruyama)), "decreasing"),
        (lambda: next(reverse(SCORE, SDE, torch.ones(1, 1), torch.tensor([0.9]), euler_maruyama)), r"n >= 1"),
        (lambda: next(reverse(SCORE, SDE, torch.ones(1, 1), torch.tensor([2.0, 1]), euler_maruyama)), "ts must be in"),
        (
            lambda: next(reverse(SCORE, SDE, torch.ones(1, 1) * math.inf, torch.tensor([1.0, 0.9]), euler_maruyama)),
            "x must be finite everywhere",
        ),
    ],
)
def test_bad_values_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
