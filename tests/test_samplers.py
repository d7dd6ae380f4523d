"""Samplers on exact scores, where any error left is the method's own."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from scipy import stats
from torch.testing import assert_close

from sdelib.data import deck_mixture
from sdelib.grids import log_snr
from sdelib.laws import sampler_law, tabulate
from sdelib.mixtures import GaussianMixture
from sdelib.multistep import Multistep, integrals
from sdelib.samplers import (
    Adams,
    DPMSolver2M,
    ancestral,
    annealed_langevin,
    chain,
    ddim,
    euler_maruyama,
    heun,
    langevin,
    reverse,
    reverse_diffusion,
    reverse_drift,
    rk4,
    sample,
)
from sdelib.score import denoise, exact_score, grad_log
from sdelib.sde import VESDE, VPSDE, SubVPSDE

flow_euler = partial(euler_maruyama, eta=0)
NOISY = {
    "euler_maruyama": euler_maruyama,
    "reverse_diffusion": reverse_diffusion,
    "ancestral": ancestral,
}
FLOW = {
    "euler": (flow_euler, 1),
    "ddim": (ddim, 1),
    "heun": (heun, 2),
    "rk4": (rk4, 4),
    "DPMSolver2M": (DPMSolver2M(), 2),
    "Adams2": (Adams(2), 2),
    "Adams3": (Adams(3), 3),
}
CORRECTORS = {"langevin": langevin, "annealed_langevin": annealed_langevin}
STEPS = {
    **NOISY,
    **{name: step for name, (step, _) in FLOW.items()},
    **CORRECTORS,
    "pc": chain(ancestral, annealed_langevin),
}
NORMAL = GaussianMixture(torch.ones(1), torch.zeros(1, 1), torch.full((1, 1), 4.0))  # N(0, 4)


def variance(sde, t):
    """Variance of N(0, 4) diffused to time t."""
    return sde.alpha(t) ** 2 * 4 + sde.sigma(t) ** 2


def variance_after(step, sde, ts, v):
    """Variance at ts[-1] of what the step makes of N(0, v), on the exact score of NORMAL, on which
    every step is linear.
    """
    x, score = torch.ones(len(ts) - 1, 1), exact_score(sde, NORMAL)
    factors = step(score, sde, x, ts[:-1], ts[1:], noise=torch.zeros_like)
    noises = step(score, sde, x, ts[:-1], ts[1:], noise=torch.ones_like) - factors
    for factor, noise in zip(factors[:, 0], noises[:, 0]):
        v = factor**2 * v + noise**2
    return v


@pytest.mark.parametrize("step, order", FLOW.values(), ids=FLOW)
@pytest.mark.parametrize("sde", [VESDE(0.1, 10.0), VPSDE(), VPSDE(1.0, 1.0), SubVPSDE()], ids=str)
def test_flow_steps_converge_at_their_order_to_the_closed_form(sde, step, order):
    # For N(0, v_0) the flow ODE is linear, and x_s = x_t sqrt(v_s / v_t)
    t_min, errors = 0.05, []
    for n in (128, 256):
        ts = torch.linspace(1, t_min, n + 1)
        *_, x = reverse(exact_score(sde, NORMAL), sde, torch.ones(1, 1), ts, step)
        errors.append(abs(x.item() - (variance(sde, ts[-1]) / variance(sde, ts[0])).sqrt().item()))
    assert abs(math.log2(errors[0] / errors[1]) - order) < 0.15 * order, errors


@pytest.mark.parametrize("step", NOISY.values(), ids=NOISY)
def test_noisy_steps_are_the_reverse_sde_in_the_limit(sde, target, step):
    # (x_s - x_t) / (s - t) -> reverse drift without noise, and the noise's variance over t - s ->
    # g^2, both at order 1 (at a time other than 1/2, which a clock run the wrong way would not
    # notice)
    x, t, score = torch.randn(20, 2), torch.tensor(0.6), exact_score(sde, target)
    errors = []
    for dt in (2e-3, 1e-3, 5e-4):
        mean, one = (
            step(score, sde, x, t, t - dt, noise) for noise in (torch.zeros_like, torch.ones_like)
        )
        drift = ((mean - x) / -dt - reverse_drift(score, sde, x, t)).abs().max()
        noise = ((one - mean).square() / dt - sde.g(t) ** 2).abs().max()
        errors.append((drift + noise).item())
    if errors[0] > 1e-6:  # Euler-Maruyama is its own limit
        assert all(1.7 < a / b < 2.3 for a, b in zip(errors, errors[1:])), errors


@pytest.mark.parametrize("step", NOISY.values(), ids=NOISY)
@pytest.mark.parametrize("sde", [VESDE(1.0, 10.0), VPSDE(), SubVPSDE()], ids=str)
def test_noisy_steps_have_weak_order_one(sde, step):
    errors = []
    for n in (200, 400, 800):
        ts = torch.linspace(1, 0.01, n + 1)
        v = variance_after(step, sde, ts, variance(sde, ts[0]))
        errors.append(abs(v / variance(sde, ts[-1]) - 1).item())
    orders = [math.log2(a / b) for a, b in zip(errors, errors[1:])]
    assert all(abs(order - 1) < 0.2 for order in orders), orders


def test_ancestral_is_exact_where_the_data_are_one_point():
    # If x_0 is known, p(x_s | x_t, x_0) is the whole truth: alpha(s) x_0 + N(0, sigma(s)^2) after
    # any number of steps
    point = GaussianMixture(torch.ones(1), torch.full((1, 1), 2.0), torch.full((1, 1), 1e-12))
    for sde in (VESDE(0.1, 10.0), VPSDE(), SubVPSDE()):
        score, (s, t) = exact_score(sde, point), torch.tensor([0.4, 0.9])
        x = torch.tensor([[2.0], [3.0]]) * sde.alpha(t)
        mean, one = (
            ancestral(score, sde, x, t, s, noise) for noise in (torch.zeros_like, torch.ones_like)
        )
        r, q = sde.transition(s, t)
        slope = r * sde.sigma(s) ** 2 / sde.sigma(t) ** 2  # Bayes' rule for x_t = r x_s + q z
        assert_close(mean, 2 * sde.alpha(s) + slope * (x - 2 * sde.alpha(t)), rtol=1e-6, atol=1e-9)
        assert_close(
            slope**2 * sde.sigma(t) ** 2 + (one - mean)[0, 0] ** 2,
            sde.sigma(s) ** 2,
            rtol=1e-6,
            atol=0,
        )


def test_ancestral_and_reverse_diffusion_are_ddpms():
    # Ho et al. 2020, Eq. 11 and Song et al. 2021, Eq. 46, written with beta_i = 1 - r^2
    sde, x, (s, t) = VPSDE(), torch.randn(5, 1), torch.tensor([0.5, 0.501])
    score, z = exact_score(sde, deck_mixture()), torch.randn(5, 1)
    beta = 1 - sde.transition(s, t)[0] ** 2
    epsilon = -sde.sigma(t) * score(x, t)
    posterior = (x - beta / sde.sigma(t) * epsilon) / (1 - beta).sqrt()
    small = beta * sde.sigma(s) ** 2 / sde.sigma(t) ** 2
    assert_close(ancestral(score, sde, x, t, s, lambda _: z), posterior + small.sqrt() * z)
    expected = (2 - (1 - beta).sqrt()) * x + beta * score(x, t) + beta.sqrt() * z
    assert_close(reverse_diffusion(score, sde, x, t, s, lambda _: z), expected)


def test_ddim_carries_the_means_of_datum_and_noise():
    # Song, Meng and Ermon 2021, Eq. 12 without noise
    sde, x, (s, t) = VPSDE(), torch.randn(5, 1), torch.tensor([0.3, 0.6])
    score = exact_score(sde, deck_mixture())
    epsilon = -sde.sigma(t) * score(x, t)
    x0 = (x - sde.sigma(t) * epsilon) / sde.alpha(t)
    assert_close(ddim(score, sde, x, t, s), sde.alpha(s) * x0 + sde.sigma(s) * epsilon)


def test_dpm_solver_starts_as_ddim_and_repeats_itself():
    sde, score, x = VPSDE(), exact_score(VPSDE(), deck_mixture()), torch.randn(5, 1)
    u, t, s = torch.tensor([0.8, 0.6, 0.4])
    step = DPMSolver2M()
    middle = step(score, sde, x, u, t)
    assert_close(middle, ddim(score, sde, x, u, t))
    end = step(score, sde, middle, t, s)
    assert torch.equal(end, step(score, sde, middle, t, s)) and not torch.equal(
        end, ddim(score, sde, middle, t, s)
    )
    assert_close(
        step(score, sde, x[:2], t, s), ddim(score, sde, x[:2], t, s)
    )  # another batch is another path


def test_adams_stands_still_on_standard_normal_data(sde):
    # There x / c does not move: V = 0, and every step is x_s = c(s) / c(t) x, at any length
    normal = GaussianMixture(torch.ones(1), torch.zeros(1, 1), torch.ones(1, 1))
    x, ts = torch.randn(5, 1), torch.tensor([1.0, 0.7, 0.1, 0.0])
    c = (sde.alpha(ts) ** 2 + sde.sigma(ts) ** 2).sqrt()
    for moved, c_s in zip(reverse(exact_score(sde, normal), sde, x, ts, Adams()), c[1:]):
        assert_close(moved, x * c_s / c[0])


def test_adams_weights_integrate_polynomials():
    nodes = torch.tensor([[0.7, 1.0, 1.3, 1.5], [0.7, 1.0, 9.0, 9.0]])
    there = torch.tensor([[True] * 4, [True, True, False, False]])
    start, end = torch.tensor([0.7, 0.7]), torch.tensor([0.2, 0.2])
    weights = integrals(nodes, there, start, end)
    assert (weights[1, 2:] == 0).all()
    for k in range(4):
        exact = (end ** (k + 1) - start ** (k + 1)) / (k + 1)
        some = slice(0, 1) if k > 1 else slice(0, 2)  # two nodes tell a line
        assert_close((weights * nodes**k).sum(1)[some], exact[some])


def test_adams_beats_the_floor_of_fifty_thousand_points_in_a_dozen_calls():
    # that floor, the mean W1 from 50 000 exact points to their law, is .0138 +- .0003
    sde, target = VPSDE(), deck_mixture()
    levels = (torch.arange(50_000) + 0.5) / 50_000
    floor = [
        (target.sample(50_000).sort(0).values - target.quantile(levels)).abs().mean().item()
        for _ in range(4)
    ]
    calls = []

    def score(x, t):
        calls.append(t)
        return exact_score(sde, target)(x, t)

    sample(score, sde, (1, 1), step=Adams(), n_steps=11)
    assert len(calls) == 12
    law = sampler_law(exact_score(sde, target), sde, Adams(), n_steps=11)
    assert law.wasserstein(target) < min(floor)


def test_the_last_step_of_adams_ends_on_the_data():
    # The flow takes quantiles of p_1 to quantiles of the data, and the step to 0 along; denoising,
    # a mean, falls short
    sde, target = VPSDE(), deck_mixture()
    score, ts, u = (
        exact_score(sde, target),
        torch.linspace(1, 1e-3, 200),
        (torch.arange(200) + 0.5) / 200,
    )
    start, data = target.perturb(sde.alpha(ts[0]), sde.sigma(ts[0])).quantile(u), target.quantile(u)
    *_, last = reverse(score, sde, start, ts, Adams())
    *_, to_zero = reverse(score, sde, start, torch.cat([ts, torch.zeros(1)]), Adams())
    denoised = denoise(score, sde, last, ts[-1])
    assert (to_zero - data).abs().mean() < 1e-5 < (denoised - data).abs().mean() / 3


@pytest.mark.parametrize(
    "step",
    [*STEPS.values(), partial(euler_maruyama, eta=0.5), partial(langevin, snr=0.3, n_steps=2)],
)
@pytest.mark.parametrize("sde", [VESDE(0.1, 10.0), VPSDE(), SubVPSDE()], ids=str)
def test_a_grid_makes_the_same_steps_one_by_one(sde, target, step):
    # reverse computes the coefficients of all steps at once; called alone, a step computes its own
    score, ts, x = (
        exact_score(sde, target),
        torch.tensor([0.9, 0.7, 0.6, 0.3, 0.1]),
        torch.randn(4, 2),
    )
    draws = torch.randn(100, 4, 2)
    first, second = iter(draws), iter(draws)
    together = list(reverse(score, sde, x, ts, step, lambda _: next(first)))
    for t, s, expected in zip(ts, ts[1:], together, strict=False):
        x = step(score, sde, x, t, s, noise=lambda _: next(second))
        assert_close(x, expected)


def test_any_function_will_do_for_a_step():
    def halve(score, sde, x, t, s, noise):
        return x / 2

    *_, x = reverse(
        SCORE, SDE, torch.ones(1, 1), torch.tensor([1.0, 0.5, 0.1]), chain(halve, halve)
    )
    assert x == 1 / 16


def test_sampling_costs_a_call_a_step_and_one_more():
    for step, calls in (
        (euler_maruyama, 6),
        (Adams(), 6),
        (DPMSolver2M(), 6),
        (heun, 11),
        (rk4, 21),
    ):
        times = []
        sample(lambda x, t: times.append(t) or -x, SDE, (2, 1), step=step, n_steps=5)
        assert len(times) == calls and min(times) == 1e-3


def test_sample_walks_the_grid_it_is_given():
    times = []
    sample(
        lambda x, t: times.append(t) or -x,
        SDE,
        (2, 1),
        step=ddim,
        n_steps=4,
        t_min=0.02,
        grid=log_snr,
    )
    assert_close(torch.stack(times), log_snr(SDE, 4, 0.02))


@pytest.mark.parametrize("step", [euler_maruyama, Adams(), heun])
def test_a_guided_score_may_differentiate_inside_a_sampler(target, step):
    # which torch.inference_mode would forbid; what comes out can be trained on
    def log_prob(x, t):
        return -(x**2).sum(1) / 2

    x = sample(grad_log(log_prob), SDE, (3, 2), step=step, n_steps=3)
    assert not x.requires_grad
    (x * torch.ones(2, requires_grad=True)).sum().backward()


@pytest.mark.parametrize("snr", [0.3, 0.5])
def test_langevin_inflates_the_variance_by_one_plus_snr_squared(snr):
    # On N(0, I) with d large: e |x|^2 = 2 snr^2 |z|^2, so v = v - 2 e v + e^2 v + 2 e with e = 2
    # snr^2 / v, hence 1 + snr^2. (A fixed step e = 2 snr^2 would give 1 / (1 - snr^2), which these
    # tolerances tell apart at snr = 0.5.)
    d, sde, t = 4000, VESDE(), torch.tensor(0.5)
    x = langevin(lambda x, t: -x, sde, torch.randn(10, d), t, t, snr=snr, n_steps=60)
    assert abs(x.var() / (1 + snr**2) - 1) < 6 * math.sqrt(2 / x.numel())


@pytest.mark.parametrize("sde", [VESDE(0.1, 10.0), VPSDE()], ids=str)
def test_annealed_langevin_nearly_keeps_its_law(sde):
    # On N(0, v) the stationary variance of the step e is v / (1 - e / 2 v), and nothing else is
    # left invariant
    t, snr = torch.tensor(0.2), 0.3
    v, e = variance(sde, t), 2 * (snr * sde.sigma(t)) ** 2
    x, score = torch.ones(1, 1), exact_score(sde, NORMAL)
    mean = annealed_langevin(score, sde, x, t, t, torch.zeros_like, snr)
    std = annealed_langevin(score, sde, x, t, t, torch.ones_like, snr) - mean
    stationary = v / (1 - e / (2 * v))
    assert_close(mean**2 * stationary + std**2, stationary.reshape(1, 1))


@pytest.mark.parametrize("sde", [VESDE(0.1, 10.0), VPSDE(), SubVPSDE()], ids=str)
@pytest.mark.parametrize("corrector", CORRECTORS.values(), ids=CORRECTORS)
def test_a_corrector_takes_langevin_steps_at_the_earlier_time(sde, target, corrector):
    # x + e score(x, s) + sqrt(2 e) z: the step without noise in z's place shows e, and the step
    # with it must fit
    x, z, (s, t), score = (
        torch.randn(6, 2),
        torch.randn(6, 2),
        torch.tensor([0.4, 0.5]),
        exact_score(sde, target),
    )
    if corrector is langevin:
        r, _ = sde.transition(s, t)
        e = 2 * (r * 0.16 * z.norm(dim=1) / score(x, s).norm(dim=1)) ** 2
    else:
        e = torch.full((6,), 2 * (0.16 * sde.sigma(s)) ** 2)
    moved = corrector(score, sde, x, t, s, noise=lambda _: z)
    assert_close(moved, x + e[:, None] * score(x, s) + (2 * e[:, None]).sqrt() * z)


def test_a_chain_applies_its_parts_in_order(sde, target):
    # Algorithm 1 of the paper: the predictor moves from t to s first, the corrector works at s
    x, (s, t), score = torch.randn(4, 2), torch.tensor([0.4, 0.5]), exact_score(sde, target)
    pc = chain(ancestral, annealed_langevin)
    predicted = ancestral(score, sde, x, t, s, torch.ones_like)
    expected = annealed_langevin(score, sde, predicted, t, s, torch.ones_like)
    assert_close(pc(score, sde, x, t, s, torch.ones_like), expected)


def test_the_law_of_a_chain_is_followed_part_by_part():
    sde, score = VPSDE(), exact_score(VPSDE(), NORMAL)
    pc = chain(ancestral, partial(annealed_langevin, snr=0.1))
    x = sample(
        score,
        sde,
        (20_000, 1),
        step=pc,
        n_steps=30,
        t_min=0.01,
        generator=torch.Generator().manual_seed(0),
    )
    law = sampler_law(score, sde, pc, 30, t_min=0.01, per_std=8)
    v = (law.weights * law.x[:, 0] ** 2).sum()
    assert abs(x.var() / v - 1) < 6 * math.sqrt(2 / len(x))


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_every_eta_has_the_variance_of_its_recursion_and_converges(eta):
    # On N(0, v_0) each step is x -> (1 - a dt) x + eta g sqrt(dt) z: the law computed without noise
    # must agree
    sde, step, errors = VPSDE(), partial(euler_maruyama, eta=eta), []
    for n in (250, 500):
        ts = torch.linspace(1, 1e-3, n + 1)
        a = sde.f(ts) + (1 + eta**2) / 2 * sde.g(ts) ** 2 / variance(sde, ts)
        v, dt = sde.sigma(ts[0]) ** 2, (1 - 1e-3) / n
        for rate, g in zip(a[:-1], sde.g(ts[:-1])):
            v = (1 - rate * dt) ** 2 * v + eta**2 * g**2 * dt
        assert_close(variance_after(step, sde, ts, sde.sigma(ts[0]) ** 2), v)
        errors.append(abs(v.item() - variance(sde, ts[-1]).item()))
    assert 0.9 < math.log2(errors[0] / errors[1]) < 1.1
    law = sampler_law(exact_score(sde, NORMAL), sde, step, 500)
    shrink = (
        sde.alpha(ts[-1]) * 4 / variance(sde, ts[-1])
    )  # Tweedie's step on N(0, 4) is linear as well
    assert_close((law.weights * law.x[:, 0] ** 2).sum(), shrink**2 * v, rtol=2e-6, atol=0)


@pytest.mark.parametrize("sde", [VESDE(0.1, 10.0), VPSDE(), SubVPSDE()], ids=str)
@pytest.mark.parametrize("step", NOISY.values(), ids=NOISY)
def test_noisy_steps_recover_the_target_at_order_one(sde, step):
    # From p_1 itself to the exact law of E[x_0 | x_t] at t_min: only the step's error is left, and
    # the W1 between the exact laws must vanish at the step's order. A sampler with another limit
    # would show order 0.
    target = deck_mixture()
    score, t_min = exact_score(sde, target), torch.tensor(0.01)

    def exact_law(t):
        extent = 10 * (sde.sigma(t) + 1.5)
        return tabulate(target.perturb(sde.alpha(t), sde.sigma(t)).log_prob, extent, 6000)

    limit = exact_law(t_min).push(lambda x: denoise(score, sde, x, t_min))
    coarse, fine = (
        sampler_law(
            score, sde, step, n, t_min.item(), exact_law(torch.ones(())), per_std=8.0
        ).wasserstein(limit)
        for n in (80, 160)
    )
    assert abs(math.log2(coarse / fine) - 1) < 0.35, (coarse, fine)


@pytest.mark.parametrize("sde", [VESDE(0.1, 10.0), VPSDE(), SubVPSDE()], ids=str)
@pytest.mark.parametrize("step, order", FLOW.values(), ids=FLOW)
def test_flow_steps_carry_quantiles_to_quantiles_at_their_order(sde, step, order):
    # On the line the flow is the quantile map, F_s^-1 o F_t, and known without solving it
    target, u = deck_mixture(), (torch.arange(400) + 0.5) / 400

    def error(n):
        ts = torch.linspace(1, 0.01, n + 1)
        start, end = (target.perturb(sde.alpha(t), sde.sigma(t)).quantile(u) for t in ts[[0, -1]])
        *_, x = reverse(exact_score(sde, target), sde, start, ts, step)
        return (x - end).abs().mean().item()

    coarse, fine = error(160), error(320)
    assert abs(math.log2(coarse / fine) - order) < 0.1 * order + 0.1, (coarse, fine)


@pytest.mark.parametrize("step", NOISY.values(), ids=NOISY)
def test_strong_order_one_with_shared_increments(step):
    # The noise is additive, so the strong order is 1; the finest path is the reference of the
    # coarse ones.
    sde, n, t_min = VPSDE(), 1024, 0.05
    dw = torch.randn(n, 100, 1)
    x = sde.prior_sample((100, 1))

    def end(k):
        increments = iter(dw.reshape(k, n // k, 100, 1).sum(1) * math.sqrt(k / n))
        ts = torch.linspace(1, t_min, k + 1)
        *_, last = reverse(exact_score(sde, NORMAL), sde, x, ts, step, lambda _: next(increments))
        return last

    errors = [(end(k) - end(n)).abs().mean().item() for k in (16, 32, 64)]
    orders = [math.log2(a / b) for a, b in zip(errors, errors[1:])]
    assert all(0.8 < order < 1.25 for order in orders), orders


def test_samples_follow_the_law_computed_without_noise():
    sde, target, n = VPSDE(), deck_mixture(), 20_000
    score = exact_score(sde, target)
    x = sample(score, sde, (n, 1), n_steps=20, generator=torch.Generator().manual_seed(0))
    law = sampler_law(score, sde, n_steps=20)
    levels = np.interp(x[:, 0], law.x[:, 0], law.levels)
    assert stats.kstest(levels, "uniform").pvalue > 1e-4
    assert law.kolmogorov(target) > stats.kstwo(n).isf(
        1e-4
    )  # the sample could tell the law from the target


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
        return sample(
            exact_score(sde, target),
            sde,
            (4, 2),
            n_steps=5,
            generator=torch.Generator().manual_seed(seed),
        )

    torch.manual_seed(7)
    first = draw(0)
    torch.manual_seed(8)
    assert torch.equal(first, draw(0)) and not torch.equal(first, draw(1))


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_a_step_treats_every_state_alone(sde, target, step):
    x, z, score = torch.randn(6, 2), torch.randn(6, 2), exact_score(sde, target)
    t, s = torch.tensor(0.5), torch.tensor(0.4)
    together = step(score, sde, x, t, s, noise=lambda _: z)
    alone = [
        step(score, sde, x[i : i + 1], t, s, noise=lambda _, i=i: z[i : i + 1]) for i in range(6)
    ]
    assert_close(together, torch.cat(alone))
    if not isinstance(step, Multistep):  # whose memory holds one time for all
        assert_close(together, step(score, sde, x, t.expand(6), s.expand(6), noise=lambda _: z))


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
@pytest.mark.parametrize("event", [(2,), (1, 8, 8)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("batch", [0, 1, 3])
def test_a_step_keeps_shape_dtype_and_device(sde, step, event, dtype, batch, device):
    x = torch.randn(batch, *event, dtype=dtype, device=device)
    t, s = torch.tensor([0.5, 0.4], dtype=dtype, device=device)
    moved = step(lambda x, t: -x, sde, x, t, s)
    assert moved.shape == x.shape and moved.dtype == dtype and moved.device == x.device
    assert moved.isfinite().all()


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_sampling_with_any_step_is_a_function_of_the_generator(target, step):
    def draw(seed):
        generator = torch.Generator().manual_seed(seed)
        return sample(
            exact_score(VPSDE(), target), VPSDE(), (4, 2), step=step, n_steps=5, generator=generator
        )

    assert torch.equal(draw(0), draw(0)) and not torch.equal(draw(0), draw(1))


def test_the_noise_is_the_one_passed_in(sde, target):
    x, t, s = torch.randn(3, 2), torch.tensor(0.5), torch.tensor(0.3)
    step = partial(euler_maruyama, exact_score(sde, target), sde, x, t, s)
    assert_close(
        step(torch.ones_like) - step(torch.zeros_like), (sde.g(t) * (t - s).sqrt()).expand(3, 2)
    )
    assert torch.equal(
        flow_euler(exact_score(sde, target), sde, x, t, s), step(torch.zeros_like, eta=0)
    )


SCORE, SDE = exact_score(VPSDE(), NORMAL), VPSDE()


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: sample(SCORE, SDE, (1, 1), n_steps=0), "n_steps must be at least 1, got 0"),
        (lambda: sample(SCORE, SDE, (1, 1), t_min=0.0), r"t_min must be inside \(0, 1\), got 0.0"),
        (lambda: sample(SCORE, SDE, (1, 1), t_min=1.0), r"t_min must be inside \(0, 1\), got 1.0"),
        (
            lambda: next(
                reverse(SCORE, SDE, torch.ones(1, 1), torch.tensor([0.1, 0.9]), euler_maruyama)
            ),
            "decreasing",
        ),
        (
            lambda: next(
                reverse(SCORE, SDE, torch.ones(1, 1), torch.tensor([0.9]), euler_maruyama)
            ),
            "ts must be at least two times, got 1 time",
        ),
        (
            lambda: next(
                reverse(SCORE, SDE, torch.ones(1, 1), torch.tensor([2.0, 1]), euler_maruyama)
            ),
            "ts must be in",
        ),
        (
            lambda: next(
                reverse(
                    SCORE,
                    SDE,
                    torch.ones(1, 1) * math.inf,
                    torch.tensor([1.0, 0.9]),
                    euler_maruyama,
                )
            ),
            "x must be finite everywhere",
        ),
        (lambda: Adams(1), "order must be at least 2, got 1"),
        (chain, "steps must be at least one, got none"),
    ],
)
def test_bad_values_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
