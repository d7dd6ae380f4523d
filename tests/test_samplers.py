"""Samplers on exact scores, where any error left is the method's own."""

import itertools
import math
import pickle
import re
from functools import partial

import numpy as np
import pytest
import torch
from scipy import stats
from torch.testing import assert_close

from sdelib import samplers
from sdelib.data import deck_mixture
from sdelib.laws import propagate, sampler_law, tabulate
from sdelib.mixtures import GaussianMixture
from sdelib.samplers import (
    Walk,
    adams,
    dpm_solver_2m,
    edm,
    log_linear,
    log_snr,
    pilot,
    reverse,
    run_times,
    sample,
    steps_to,
    uniform,
    walk,
)
from sdelib.score import denoise, exact_score, grad_log, reverse_drift
from sdelib.sde import VESDE, VPSDE, CosineSDE, FlowSDE, SubVPSDE, randn_like, transition
from sdelib.steps import (
    ancestral,
    ancestral_2s,
    annealed_langevin,
    ddim,
    euler_maruyama,
    heun,
    langevin,
    plus,
    reverse_diffusion,
    rk4,
)

flow_euler = partial(euler_maruyama, eta=0)
NOISY = {
    "euler_maruyama": euler_maruyama,
    "reverse_diffusion": reverse_diffusion,
    "ancestral": ancestral,
    "ancestral_2s": ancestral_2s,
}
FLOW = {
    "euler": (flow_euler, 1),
    "ddim": (ddim, 1),
    "heun": (heun, 2),
    "rk4": (rk4, 4),
}
SOLVERS = {name: (walk(step), order) for name, (step, order) in FLOW.items()} | {
    "dpm_solver_2m": (dpm_solver_2m, 2),
    "adams2": (adams(2), 2),
    "adams3": (adams(3), 3),
}
CORRECTORS = {"langevin": langevin, "annealed_langevin": annealed_langevin}
STEPS = {**NOISY, **{name: step for name, (step, _) in FLOW.items()}, **CORRECTORS}
EVERY_SOLVER = {
    **{name: walk(step) for name, step in NOISY.items()},
    **{name: solver for name, (solver, _) in SOLVERS.items()},
    "pc": walk(ancestral, annealed_langevin),
}
NORMAL = GaussianMixture(torch.ones(1), torch.zeros(1, 1), torch.full((1, 1), 4.0))  # N(0, 4)


def variance(sde, t):
    """Variance of N(0, 4) diffused to time t."""
    return sde.alpha(t) ** 2 * 4 + sde.sigma(t) ** 2


def variance_after(step, sde, ts, v):
    """Variance at ts[-1] of what the step makes of N(0, v) on the score of NORMAL."""
    x, z, score = torch.ones(2, 1), torch.tensor([[0.0], [1.0]]), exact_score(sde, NORMAL)
    for t, s in itertools.pairwise(sde.path(ts, x)):
        mean, one = step(score, x, t, s, lambda _: z).flatten().tolist()
        v = mean**2 * v + (one - mean) ** 2
    return torch.as_tensor(v)


@pytest.mark.parametrize("solver, order", SOLVERS.values(), ids=SOLVERS)
@pytest.mark.parametrize("sde", [VESDE(0.1, 10.0), VPSDE(), VPSDE(1.0, 1.0), SubVPSDE()], ids=str)
def test_flow_solvers_converge_at_their_order_to_the_closed_form(sde, solver, order):
    # For N(0, v_0) the flow ODE is linear, and x_s = x_t sqrt(v_s / v_t)
    t_min, errors = 0.05, []
    for n in (128, 256) if order == 4 else (64, 128):
        ts = torch.linspace(1, t_min, n + 1)
        *_, x = reverse(exact_score(sde, NORMAL), sde, torch.ones(1, 1), ts, solver)
        errors.append(abs(x.item() - (variance(sde, ts[-1]) / variance(sde, ts[0])).sqrt().item()))
    assert abs(math.log2(errors[0] / errors[1]) - order) < 0.15 * order, errors


def test_ancestral_steps_are_exact_where_the_data_have_no_width(sde):
    # there E[x_0 | x_t] is right wherever the state is, so that a step's error does not grow with
    # the dimension around the data (Li and Yan 2024)
    score = lambda x, t: -x / sde.sigma(t) ** 2
    one, t, s = torch.ones(1, 3), sde.at(0.6), sde.at(0.2)
    kept = ancestral(score, one, t, s, torch.zeros_like)
    fresh = ancestral(score, 0 * one, t, s, torch.ones_like)
    assert_close(kept**2 * t.sigma**2 + fresh**2, s.sigma**2 * one)


@pytest.mark.parametrize("step", NOISY.values(), ids=NOISY)
def test_noisy_steps_are_the_reverse_sde_in_the_limit(sde, target, step):
    # (x_s - x_t) / (s - t) -> reverse drift without noise, and the noise's variance over t - s ->
    # g^2, both at order 1 (at a time other than 1/2, which a clock run the wrong way would not
    # notice)
    x, t, score = torch.randn(20, 2), torch.tensor(0.6), exact_score(sde, target)
    errors = []
    for dt in (2e-3, 1e-3, 5e-4):
        at, before = sde.at(t, x), sde.at(t - dt, x)
        mean, one = (
            step(score, x, at, before, noise) for noise in (torch.zeros_like, torch.ones_like)
        )
        drift = ((mean - x) / -dt - reverse_drift(score, sde, x, t)).abs().max()
        noise = ((one - mean).square() / dt - sde.g(t) ** 2).abs().max()
        errors.append((drift + noise).item())
    if errors[0] > 1e-6:  # Euler-Maruyama is its own limit
        assert all(1.7 < a / b < 2.3 for a, b in itertools.pairwise(errors)), errors


@pytest.mark.parametrize("step", NOISY.values(), ids=NOISY)
@pytest.mark.parametrize("sde", [VESDE(1.0, 10.0), VPSDE(), SubVPSDE()], ids=str)
def test_noisy_steps_have_at_least_their_weak_order(sde, step):
    errors, least = [], 2 if step is ancestral_2s else 1
    for n in (50, 100, 200) if least == 2 else (100, 200, 400):
        ts = torch.linspace(1, 0.01, n + 1)
        v = variance_after(step, sde, ts, variance(sde, ts[0]))
        errors.append(abs(v / variance(sde, ts[-1]) - 1).item())
    orders = [math.log2(a / b) for a, b in itertools.pairwise(errors)]
    assert all(order > 0.8 * least for order in orders), orders
    if least == 1:  # on normal data order 2 shows as 3
        assert all(order < 1.2 for order in orders), orders


def beyond(sde, t, s, x):
    """The instant from which the process leads back to s what a noisy step draws."""
    rho_t, rho_s = (i.sigma / i.alpha for i in (t, s))
    return sde.at(sde.time_of(torch.tensor(rho_s**2 / rho_t)), x)


def test_ancestral_is_ddim_beyond_and_noise_back(sde, target):
    x, z = torch.randn(20, 2), torch.randn(20, 2)
    t, s, score = sde.at(0.6, x), sde.at(0.5, x), exact_score(sde, target)
    below = beyond(sde, t, s, x)
    r, q = transition(below, s)
    wanted = r * ddim(score, x, t, below) + q * z
    # the instant between is known to the rounding of its time
    assert_close(ancestral(score, x, t, s, lambda _: z), wanted, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("scale", [0.5, 1.0])
def test_ancestral_2s_is_the_flow_beyond_to_third_order_and_noise_back(sde, target, scale):
    # the local error of a step of order 2: an eighth at half the step
    x, z, score, errors = torch.randn(20, 2), torch.randn(20, 2), exact_score(sde, target), []
    for h in (0.01, 0.005):
        t, s = sde.at(0.5, x), sde.at(0.5 - h, x)
        below = beyond(sde, t, s, x)
        *_, flowed = reverse(
            score, sde, x, torch.linspace(t.time, below.time, 21).double(), walk(rk4)
        )
        r, q = transition(below, s)
        found = ancestral_2s(score, x, t, s, lambda _: z, scale=scale)
        errors.append((found - r * flowed - q * z).abs().max().item())
    assert 2.7 < math.log2(errors[0] / errors[1]) < 3.3, errors


def test_ancestral_2s_has_weak_order_two_on_the_mixture_and_beats_ancestral_there():
    sde, target = VPSDE(), deck_mixture()
    score, start, end = exact_score(sde, target), *(sde.at(t) for t in (1.0, 0.01))
    first, last = (target.perturb(t.alpha, t.sigma) for t in (start, end))
    law, errors = tabulate(first.log_prob, 8 * first.cov.sqrt()[0, 0]), {}
    for step, counts in ((ancestral_2s, (32, 64, 128)), (ancestral, (64, 128, 256))):
        for n in counts:
            path = sde.path(torch.linspace(1, 0.01, n + 1), law.x)
            end = propagate(law, score, path, step, per_std=3)
            errors.setdefault(step.__name__, []).append(end.wasserstein(last))
    orders = {name: math.log2(v[-2] / v[-1]) for name, v in errors.items()}
    assert abs(orders["ancestral_2s"] - 2) < 0.25 > abs(orders["ancestral"] - 1), errors
    # at 64, 128 and 256 calls of each
    assert all(5 * a < b for a, b in zip(*errors.values(), strict=True)), errors


def test_ancestral_is_exact_where_the_data_are_one_point():
    # If x_0 is known, p(x_s | x_t, x_0) is the whole truth, N(alpha_s x_0, sigma_s^2)
    point = GaussianMixture(torch.ones(1), torch.full((1, 1), 2.0), torch.full((1, 1), 1e-12))
    for sde in (VESDE(0.1, 10.0), VPSDE(), SubVPSDE()):
        score, s, t = exact_score(sde, point), sde.at(0.4), sde.at(0.9)
        x = torch.tensor([[2.0], [3.0]]) * t.alpha
        mean, one = (
            ancestral(score, x, t, s, noise) for noise in (torch.zeros_like, torch.ones_like)
        )
        r, _ = transition(s, t)
        slope = r * s.sigma**2 / t.sigma**2  # Bayes' rule for x_t = r x_s + q z
        assert_close(mean, 2 * s.alpha + slope * (x - 2 * t.alpha), rtol=1e-6, atol=1e-9)
        variance_s = slope**2 * t.sigma**2 + (one - mean)[0, 0].item() ** 2
        assert math.isclose(variance_s, s.sigma**2, rel_tol=1e-6)


def test_ancestral_and_reverse_diffusion_are_ddpms():
    # Ho et al. 2020, Eq. 11 and Song et al. 2021, Eq. 46, written with beta_i = 1 - r^2
    sde, x, z = VPSDE(), torch.randn(5, 1), torch.randn(5, 1)
    s, t, score = sde.at(0.5, x), sde.at(0.501, x), exact_score(sde, deck_mixture())
    beta = 1 - transition(s, t)[0] ** 2
    epsilon = -t.sigma * score(x, t.now)
    posterior = (x - beta / t.sigma * epsilon) / math.sqrt(1 - beta)
    small = beta * s.sigma**2 / t.sigma**2
    assert_close(ancestral(score, x, t, s, lambda _: z), posterior + math.sqrt(small) * z)
    expected = (2 - math.sqrt(1 - beta)) * x + beta * score(x, t.now) + math.sqrt(beta) * z
    assert_close(reverse_diffusion(score, x, t, s, lambda _: z), expected)


def test_ddim_carries_the_means_of_datum_and_noise():
    # Song, Meng and Ermon 2021, Eq. 12 without noise
    sde, x = VPSDE(), torch.randn(5, 1)
    s, t, score = sde.at(0.3, x), sde.at(0.6, x), exact_score(sde, deck_mixture())
    epsilon = -t.sigma * score(x, t.now)
    x0 = (x - t.sigma * epsilon) / t.alpha
    assert_close(ddim(score, x, t, s), s.alpha * x0 + s.sigma * epsilon)
    assert_close(ddim(score, x, t, sde.at(0.0, x)), denoise(score, sde, x, t.now))


def test_dpm_solver_is_the_published_recursion_on_uneven_steps():
    # Lu et al. 2025, Alg. 2, in lambda = log(alpha / sigma): D = (1 + 1 / 2r) D_i - D_(i-1) / 2r
    # with r = h_(i-1) / h_i, and x = sigma / sigma x - alpha expm1(-h) D
    sde, x = VPSDE(), torch.randn(5, 1)
    score, ts = exact_score(sde, deck_mixture()), torch.tensor([0.9, 0.7, 0.65, 0.2, 0.0])
    path, last, y = sde.path(ts, x), None, x
    lam = [math.log(t.alpha / t.sigma) for t in path[:-1]]
    expected = []
    for i, (t, s) in enumerate(itertools.pairwise(path)):
        d = denoise(score, sde, y, t.now)
        if i == 3:
            expected.append(d)
            break
        h = lam[i + 1] - lam[i]
        r = (lam[i] - lam[i - 1]) / h if i else math.inf
        ahead = d if last is None else (1 + 1 / (2 * r)) * d - last / (2 * r)
        y, last = s.sigma / t.sigma * y - s.alpha * math.expm1(-h) * ahead, d
        expected.append(y)
    for found, wanted in zip(dpm_solver_2m(score, x, path), expected, strict=True):
        assert_close(found, wanted)


def test_adams_stands_still_on_normal_data_of_its_scale(sde):
    # There V = 0, and every step is x_s = c(s) / c(t) x, at any length
    for scale in (1.0, 2.0):
        normal = GaussianMixture(torch.ones(1), torch.zeros(1, 1), torch.full((1, 1), scale**2))
        x, ts = torch.randn(5, 1), torch.tensor([1.0, 0.7, 0.1, 0.0])
        c = (scale**2 * sde.alpha(ts) ** 2 + sde.sigma(ts) ** 2).sqrt()
        moves = reverse(exact_score(sde, normal), sde, x, ts, adams(scale=scale))
        for moved, c_s in zip(moves, c[1:], strict=True):
            assert_close(moved, x * c_s / c[0])


def test_adams_predicts_and_corrects_with_polynomials():
    # Against scipy's Lagrange polynomials on uneven nodes, for a score that knows no state: V is
    # then known at every time beforehand, and predictions and corrections are its integrals
    from scipy.interpolate import lagrange

    sde, ts, order = VPSDE(), torch.tensor([0.5, 0.45, 0.38, 0.33, 0.25, 0.2]), 3
    x = torch.ones(1, 1)
    path = sde.path(ts, x)
    phi = [math.atan2(t.alpha, t.sigma) for t in path]
    c = [math.hypot(t.alpha, t.sigma) for t in path]
    v = [math.sin(3 * p) for p in phi]
    index = iter(range(5))

    def score(x, t):  # V = sigma / (alpha c) (x + c^2 score)
        i = next(index)
        return (v[i] * path[i].alpha * c[i] / path[i].sigma - x) / c[i] ** 2

    def integral(nodes, a, b):
        shifted = lagrange([phi[k] - a for k in nodes], [v[k] for k in nodes]).integ()
        return shifted(b - a) - shifted(0)

    settled = 1 / c[0]
    for i, found in enumerate(adams(order, reach=math.inf)(score, x, path)):
        if i:
            used = range(i, max(-1, i - order), -1)
            settled += integral(used, phi[i - 1], phi[i])
        predicted = settled + integral(range(i, max(-1, i - order + 1), -1), phi[i], phi[i + 1])
        assert found.item() == pytest.approx(c[i + 1] * predicted, rel=1e-9)


def test_adams_lowers_its_order_where_errors_would_be_multiplied():
    # A network's output errs by the same e at every time, its score by e / sqrt(1 + sigma^2), here
    # of another sign at each call. VE's equal steps in time grow fast in the angle: with four
    # values on each, such a score ends at 44 where data of deviation 1 start from 4 deviations
    sde, normal = VESDE(), GaussianMixture(torch.ones(1), torch.zeros(1, 1), torch.ones(1, 1))
    exact, signs = exact_score(sde, normal), itertools.cycle([0.5, -0.5])
    ts = torch.cat([uniform(sde, 6), torch.zeros(1)])
    start = sde.sigma(torch.ones(())) * torch.linspace(-4, 4, 9)[:, None]

    def learned(x, t):
        return exact(x, t) + next(signs) / torch.hypot(torch.ones(()), sde.sigma(t))

    def farthest(solver):
        return list(reverse(learned, sde, start, ts, solver))[-1].abs().max()

    assert farthest(adams(4)) < 1.1 * farthest(adams(2))
    assert farthest(adams(4, reach=math.inf)) > 30


def test_adams_uses_two_values_up_to_its_reach_and_one_beyond():
    # After a step of h in the angle the line through two values integrates over k to
    # (k + k^2 / 2h) V - (k^2 / 2h) V_before; a network's errors of 1 in both move the state by the
    # sizes of these weights, each times c / alpha
    sde, x = VPSDE(), torch.ones(1, 1)
    path = sde.path(torch.tensor([0.5, 0.45, 0.38]), x)
    phi = [math.atan2(t.alpha, t.sigma) for t in path]
    c = [math.hypot(t.alpha, t.sigma) for t in path]
    (h, k), v = [b - a for a, b in itertools.pairwise(phi)], [0.3, 0.8]
    two = [k + k**2 / (2 * h), -(k**2) / (2 * h)]
    reach = sum(abs(w) * c[i] / path[i].alpha for w, i in zip(two, (1, 0), strict=True))

    def end(reach):
        index = iter((0, 1))

        def score(x, t):  # V = sigma / (alpha c) (x + c^2 score)
            i = next(index)
            return (v[i] * path[i].alpha * c[i] / path[i].sigma - x) / c[i] ** 2

        return list(adams(3, reach=reach)(score, x, path))[-1].item() / c[2]

    corrected = 1 / c[0] + h * (v[0] + v[1]) / 2
    assert end(reach * (1 + 1e-9)) == pytest.approx(corrected + two[0] * v[1] + two[1] * v[0])
    assert end(reach * (1 - 1e-9)) == pytest.approx(corrected + k * v[1])


def test_adams_beats_the_floor_of_fifty_thousand_points_in_a_dozen_calls():
    # that floor, the mean W1 from 50 000 exact points to their law, is .0138 +- .0003
    sde, target = VPSDE(), deck_mixture()
    levels = (torch.arange(50_000) + 0.5) / 50_000
    quantiles = target.quantile(levels)
    floor = [(target.sample(50_000).sort(0).values - quantiles).abs().mean() for _ in range(4)]
    calls = []

    def score(x, t):
        calls.append(t)
        return exact_score(sde, target)(x, t)

    solver = adams(reach=math.inf)
    sample(score, sde, (1, 1), solver, n_steps=11, grid=uniform)
    assert len(calls) == 12
    law = sampler_law(exact_score(sde, target), sde, solver, 11, grid=uniform)
    assert law.wasserstein(target) < min(floor).item()


def test_the_order_of_adams_is_a_third_of_few_calls():
    sde, score = VPSDE(), exact_score(VPSDE(), deck_mixture())
    for n, order in ((3, 2), (8, 2), (9, 3), (11, 3), (12, 4), (40, 4)):
        ts, x = run_times(sde, adams(), n - 1), torch.randn(5, 1)
        runs = (reverse(score, sde, x, ts, adams(k)) for k in (None, order))
        for free, fixed in zip(*runs, strict=True):
            assert torch.equal(free, fixed)


def test_the_last_step_of_adams_ends_on_the_data():
    # The flow takes quantiles of p_1 to quantiles of the data, and the step to 0 along; denoising,
    # a mean, falls short
    sde, target = VPSDE(), deck_mixture()
    score, ts = exact_score(sde, target), torch.linspace(1, 1e-3, 200)
    u = (torch.arange(200) + 0.5) / 200
    start = target.perturb(sde.alpha(ts[0]), sde.sigma(ts[0])).quantile(u)
    data = target.quantile(u)
    *_, last = reverse(score, sde, start, ts, adams())
    *_, to_zero = reverse(score, sde, start, torch.cat([ts, torch.zeros(1)]), adams())
    denoised = denoise(score, sde, last, ts[-1])
    assert (to_zero - data).abs().mean() < 1e-5 < (denoised - data).abs().mean() / 3


# The pilot


PLANE = GaussianMixture(torch.ones(1), torch.zeros(1, 2), torch.tensor([[0.01, 4.0]]))


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


LONG = pytest.mark.parametrize("sde", [VESDE(), VPSDE(), SubVPSDE(), FlowSDE()], ids=str)


@LONG
def test_the_pilot_finds_the_scale_of_the_data(sde):
    # the root of the mean variance, (0.01 + 4) / 2; the second coordinate's sample variance is off
    # by sqrt(2 / n); data far from 0 are no wider
    for shift in (0.0, 30.0):
        target = GaussianMixture(torch.ones(1), torch.full((1, 2), shift), PLANE.variances)
        found = pilot(exact_score(sde, target), sde, (4000, 2), generator=seeded())
        assert found.scale**2 == pytest.approx(2.005, rel=6 * math.sqrt(2 / 4000) + 0.01)


@LONG
def test_the_piloted_grid_is_even_in_the_measure_it_promises(sde):
    # On a Gaussian of variances v_i the flow is x_i = k_i sqrt(alpha^2 v_i + sigma^2), with k_i
    # nearly standard normal, so x_i / c = k_i sqrt((v_i / a^2) cos^2 + sin^2) and V is its slope
    found = pilot(exact_score(sde, PLANE), sde, (4000, 2), generator=seeded())
    theta = torch.linspace(0, math.pi / 2, 20_001)[:-1]
    third = torch.zeros_like(theta)
    for v in PLANE.variances[0]:
        slope = lambda u, v=v: (v / found.scale**2 * u.cos() ** 2 + u.sin() ** 2).sqrt()
        for _ in range(4):
            slope = lambda u, f=slope: torch.func.jvp(f, (u,), (torch.ones_like(u),))[1]
        third += slope(theta) ** 2 / 2
    share = torch.cumulative_trapezoid(third ** (1 / 8), theta)
    share = torch.cat([torch.zeros(1), share])
    for n in (4, 12, 40):
        ts = run_times(sde, found, n)
        angles = torch.atan(ratio(sde, ts) / found.scale)

        def measure(at, whole=angles[0]):
            uneven = torch.as_tensor(np.interp(at, theta, share)) / np.interp(whole, theta, share)
            return uneven + torch.asinh(50 * at) / torch.asinh(50 * whole) / 2

        steps = -measure(angles).diff()
        # differences over a sixth of the ratio, not derivatives, and a sample's k_i
        assert_close(steps[:-1], steps[:-1].mean().expand(n), rtol=0.1, atol=0)
        if ts[-2] > 1.001e-3:  # the step to 0 is as long as the others
            assert_close(steps[-1], steps[0], rtol=0.1, atol=0)


def test_piloted_steps_lose_less_than_the_usual_ones():
    unit = 9.625**-0.5
    sharp = GaussianMixture(
        torch.tensor([0.2, 0.5, 0.3]),
        torch.tensor([[-1.2], [0.1], [1.0]]),
        torch.tensor([[0.05], [0.03], [0.08]]) ** 2,
    )
    deck = deck_mixture().to(torch.zeros(()))
    small = GaussianMixture(deck.weights, unit * deck.means, unit**2 * deck.variances)
    for sde in (VPSDE(), VESDE(), FlowSDE()):
        for target in (deck, small, sharp):
            score = exact_score(sde, target)
            start = tabulate(sde.prior_log_prob, 4 * sde.sigma(torch.ones(())), 200).x
            found = pilot(score, sde, (64, 1), reach=math.inf, generator=seeded())
            end = list(reverse(score, sde, start, fine_times(sde), adams(reach=math.inf)))[-1]
            for n in (9, 19):
                errors = []
                for solver in (found, adams(scale=found.scale, reach=math.inf)):
                    *_, x = reverse(score, sde, start, run_times(sde, solver, n), solver)
                    errors.append((x - end).abs().mean().item())
                assert 2.5 * errors[0] < errors[1], (sde, target, n, errors)


def fine_times(sde):
    return run_times(sde, adams(), 150)


def test_the_pilot_does_not_trust_a_score_that_errs():
    # as above, on a grid made by that very score
    sde, normal = VESDE(), GaussianMixture(torch.ones(1), torch.zeros(1, 1), torch.ones(1, 1))
    exact, signs = exact_score(sde, normal), itertools.cycle([0.5, -0.5])

    def learned(x, t):
        return exact(x, t) + next(signs) / torch.hypot(torch.ones(()), sde.sigma(t))

    found = pilot(learned, sde, (64, 1), generator=seeded())
    start = sde.sigma(torch.ones(())) * torch.linspace(-4, 4, 9)[:, None]
    for n in (6, 10, 20):
        ts = run_times(sde, found, n)
        assert list(reverse(learned, sde, start, ts, found))[-1].abs().max() < 6


def test_a_pilot_costs_its_calls_once_and_its_grid_is_taken():
    calls, times = [], []
    found = pilot(lambda x, t: calls.append(len(x)) or SCORE(x, t), SDE, (64, 1), n_calls=20)
    assert calls == 20 * [64]
    sample(lambda x, t: times.append(t) or SCORE(x, t), SDE, (2, 1), found, 5)
    assert_close(torch.stack(times), found.grid(SDE, 5, 1e-3))
    assert found.grid(SDE, 5, 0.3)[-1] == pytest.approx(0.3)
    law = sampler_law(SCORE, SDE, found, 5)
    assert law.wasserstein(NORMAL) < sampler_law(SCORE, SDE, adams(), 5).wasserstein(NORMAL)


# Steps and walks: any function will do, however it is dressed


def mean_step(score, x, t, s, noise):
    return ancestral(score, x, t, s, torch.zeros_like)


def in_place(score, x, t, s, noise):
    r, q = transition(s, t)
    y = (x + q**2 * score(x, t.now)) / r
    y += q * s.sigma / t.sigma * noise(x)
    return y


def test_a_partial_of_noise_keeps_its_noise(target):
    sde, x, ts = VPSDE(), torch.randn(4, 2), torch.tensor([1.0, 0.6, 0.2])
    score = exact_score(sde, target)
    quiet = walk(partial(ancestral, noise=torch.zeros_like))
    for found, wanted in zip(
        reverse(score, sde, x, ts, quiet), reverse(score, sde, x, ts, walk(mean_step)), strict=True
    ):
        assert torch.equal(found, wanted)
    deck = deck_mixture()
    laws = [sampler_law(exact_score(sde, deck), sde, s, 20) for s in (quiet, walk(mean_step))]
    assert laws[0].wasserstein(deck) == laws[1].wasserstein(deck)


@pytest.mark.parametrize("of_ones_own", [False, True])
def test_noise_may_have_arguments_bound(of_ones_own):
    draw = (lambda x, generator: randn_like(x, generator)) if of_ones_own else randn_like
    x, ts = torch.ones(3, 2), torch.tensor([0.9, 0.5, 0.1])

    def end(noise):
        return list(reverse(lambda x, t: -x, VPSDE(), x, ts, walk(euler_maruyama), noise))[-1]

    bound = end(partial(draw, generator=torch.Generator().manual_seed(0)))
    again = torch.Generator().manual_seed(0)
    assert_close(bound, end(lambda x: randn_like(x, again)))


def test_arithmetic_in_place_has_the_same_samples_and_the_same_law():
    sde, deck = VPSDE(), deck_mixture()
    score = exact_score(sde, deck)
    draws = [
        sample(score, sde, (50, 1), walk(step), 20, generator=torch.Generator().manual_seed(0))
        for step in (ancestral, in_place)
    ]
    assert_close(*draws)
    laws = [sampler_law(score, sde, walk(step), 20) for step in (ancestral, in_place)]
    assert_close(laws[0].wasserstein(deck), laws[1].wasserstein(deck))


def test_a_walk_among_steps_stands_for_its_steps():
    sde, deck = VPSDE(), deck_mixture()
    flat = walk(ancestral, annealed_langevin, annealed_langevin)
    nested = walk(walk(ancestral, annealed_langevin), annealed_langevin)
    assert nested == flat
    law = sampler_law(exact_score(sde, deck), sde, nested, 20)
    assert law.wasserstein(deck) == sampler_law(exact_score(sde, deck), sde, flat, 20).wasserstein(
        deck
    )


def test_the_way_to_zero_does_not_depend_on_how_a_solver_is_wrapped(target):
    sde, x = VPSDE(), torch.randn(4, 2)
    score, ts = exact_score(sde, target), torch.tensor([1.0, 0.5, 0.1, 0.0])

    def logged(score, x, path, noise=None):
        yield from adams()(score, x, path, noise)

    ends = [list(reverse(score, sde, x, ts, s))[-1] for s in (adams(), partial(adams()), logged)]
    assert torch.equal(ends[0], ends[1]) and torch.equal(ends[0], ends[2])
    for steps in ((euler_maruyama,), (ancestral, annealed_langevin), (heun,), (rk4,)):
        *_, before, last = reverse(score, sde, x, ts, walk(*steps))
        assert_close(last, denoise(score, sde, before, ts[-2]))  # Tweedie, whatever the steps


def test_a_walk_takes_its_steps_in_order(sde, target):
    # Algorithm 1 of the paper: the predictor moves from t to s first, the corrector works at s
    x, ts, score = torch.randn(4, 2), torch.tensor([0.5, 0.4]), exact_score(sde, target)
    t, s = sde.path(ts, x)
    (found,) = walk(ancestral, annealed_langevin)(score, x, [t, s], torch.ones_like)
    predicted = ancestral(score, x, t, s, torch.ones_like)
    assert_close(found, annealed_langevin(score, predicted, t, s, torch.ones_like))


def test_any_function_will_do_for_a_step():
    def halve(score, x, t, s, noise):
        return x / 2

    *_, x = reverse(SCORE, SDE, torch.ones(1, 1), torch.tensor([1.0, 0.5, 0.1]), walk(halve, halve))
    assert x == 1 / 16


def test_sampling_costs_a_call_a_step_and_one_more():
    for solver, calls in (
        (walk(euler_maruyama), 6),
        (adams(), 6),
        (dpm_solver_2m, 6),
        (walk(heun), 11),
        (walk(rk4), 21),
    ):
        times = []
        sample(lambda x, t, log=times: log.append(t) or -x, SDE, (2, 1), solver, n_steps=5)
        assert len(times) == calls and min(times) == 1e-3


def test_sample_walks_the_grid_it_is_given():
    for grid, expected in ((log_snr, log_snr), (None, log_linear)):
        times = []
        sample(
            lambda x, t, log=times: log.append(t) or -x, SDE, (2, 1), walk(ddim), 4, 0.02, grid=grid
        )
        assert_close(torch.stack(times), expected(SDE, 4, 0.02))


@pytest.mark.parametrize("solver", [walk(euler_maruyama), adams(), walk(heun)])
def test_a_guided_score_may_differentiate_inside_a_sampler(target, solver):
    # which torch.inference_mode would forbid; what comes out can be trained on
    def log_prob(x, t):
        return -(x**2).sum(1) / 2

    x = sample(grad_log(log_prob), SDE, (3, 2), solver, n_steps=3)
    assert not x.requires_grad
    (x * torch.ones(2, requires_grad=True)).sum().backward()


@pytest.mark.parametrize("snr", [0.3, 0.5])
def test_langevin_inflates_the_variance_by_one_plus_snr_squared(snr):
    # On N(0, I) with d large: e |x|^2 = 2 snr^2 |z|^2, so v = v - 2 e v + e^2 v + 2 e with
    # e = 2 snr^2 / v, hence 1 + snr^2. (A fixed step e = 2 snr^2 would give 1 / (1 - snr^2), which
    # these tolerances tell apart at snr = 0.5.)
    d, t = 4000, VESDE().at(0.5)
    x = langevin(lambda x, t: -x, torch.randn(10, d), t, t, snr=snr, n_steps=60)
    assert abs(x.var() / (1 + snr**2) - 1) < 6 * math.sqrt(2 / x.numel())


def stationary_variance(v, e):
    return v / (1 - e / (2 * v))


@pytest.mark.parametrize("sde", [VESDE(0.1, 10.0), VPSDE()], ids=str)
def test_annealed_langevin_nearly_keeps_its_law(sde):
    # On N(0, v) the stationary variance of the step e is v / (1 - e / 2 v), and nothing else is
    # left invariant
    x, snr, score = torch.ones(1, 1), 0.3, exact_score(sde, NORMAL)
    t = sde.at(0.2, x)
    v, e = 4 * t.alpha**2 + t.sigma**2, 2 * (snr * t.sigma) ** 2
    mean = annealed_langevin(score, x, t, t, torch.zeros_like, snr)
    std = annealed_langevin(score, x, t, t, torch.ones_like, snr) - mean
    stationary = stationary_variance(v, e)
    assert_close(mean**2 * stationary + std**2, torch.full((1, 1), stationary))


@pytest.mark.parametrize("sde", [VESDE(0.1, 10.0), VPSDE(), SubVPSDE()], ids=str)
@pytest.mark.parametrize("corrector", CORRECTORS.values(), ids=CORRECTORS)
def test_a_corrector_takes_langevin_steps_at_the_earlier_time(sde, target, corrector):
    # x + e score(x, s) + sqrt(2 e) z: the step without noise in z's place shows e, and the step
    # with it must fit
    x, z = torch.randn(6, 6), torch.randn(6, 6)
    s, t = sde.at(0.4, x), sde.at(0.5, x)

    def score(x, t):
        return -2 * x + t

    if corrector is langevin:
        r, _ = transition(s, t)
        e = 2 * (r * 0.16 * z.norm(dim=1) / score(x, s.now).norm(dim=1)) ** 2
    else:
        e = torch.full((6,), 2 * (0.16 * s.sigma) ** 2)
    moved = corrector(score, x, t, s, noise=lambda _: z)
    assert_close(moved, x + e[:, None] * score(x, s.now) + (2 * e[:, None]).sqrt() * z)


def test_the_law_of_a_predictor_and_corrector_is_followed_step_by_step():
    sde, score = VPSDE(), exact_score(VPSDE(), NORMAL)
    pc = walk(ancestral, partial(annealed_langevin, snr=0.1))
    generator = torch.Generator().manual_seed(0)
    x = sample(score, sde, (20_000, 1), pc, 30, 0.01, uniform, generator=generator)
    law = sampler_law(score, sde, pc, 30, 0.01, per_std=8, grid=uniform)
    v = (law.weights * law.x[:, 0] ** 2).sum()
    assert abs(x.var() / v - 1) < 6 * math.sqrt(2 / len(x))


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_every_eta_has_the_variance_of_its_recursion_and_converges(eta):
    # On N(0, v_0) each step is x -> (1 - a dt) x + eta g sqrt(dt) z: the law computed without noise
    # must agree
    sde, step, errors = VPSDE(), partial(euler_maruyama, eta=eta), []
    for n in (125, 250):
        ts = torch.linspace(1, 1e-3, n + 1)
        a = sde.f(ts) + (1 + eta**2) / 2 * sde.g(ts) ** 2 / variance(sde, ts)
        v, dt = sde.sigma(ts[0]) ** 2, (1 - 1e-3) / n
        for rate, g in zip(a[:-1], sde.g(ts[:-1]), strict=True):
            v = (1 - rate * dt) ** 2 * v + eta**2 * g**2 * dt
        assert_close(variance_after(step, sde, ts, sde.sigma(ts[0]).item() ** 2), v)
        errors.append(abs(v.item() - variance(sde, ts[-1]).item()))
    assert 0.9 < math.log2(errors[0] / errors[1]) < 1.1
    law = sampler_law(exact_score(sde, NORMAL), sde, walk(step), 250, grid=uniform)
    shrink = (
        sde.alpha(ts[-1]) * 4 / variance(sde, ts[-1])
    )  # Tweedie's step on N(0, 4) is linear too
    assert_close((law.weights * law.x[:, 0] ** 2).sum(), shrink**2 * v, rtol=2e-6, atol=0)


@pytest.mark.parametrize("sde", [VESDE(0.1, 10.0), VPSDE(), SubVPSDE(), CosineSDE(0.01)], ids=str)
@pytest.mark.parametrize("step", NOISY.values(), ids=NOISY)
def test_noisy_steps_recover_the_target_at_their_order(sde, step):
    # From p_1 itself to the exact law of E[x_0 | x_t] at t_min: only the step's error is left, and
    # the W1 between the exact laws must vanish at the step's order. A sampler with another limit
    # would show order 0.
    order = 2 if step is ancestral_2s else 1
    target = deck_mixture()
    score, t_min = exact_score(sde, target), torch.tensor(0.01)

    def exact_law(t, n):
        extent = 10 * (sde.sigma(t) + 1.5)
        return tabulate(target.perturb(sde.alpha(t), sde.sigma(t)).log_prob, extent, n)

    limit = exact_law(t_min, 6000).push(lambda x: denoise(score, sde, x, t_min))
    start = exact_law(torch.ones(()), 2000)
    coarse, fine = (
        sampler_law(score, sde, walk(step), n, 0.01, start, 4.0, uniform).wasserstein(limit)
        for n in ((80, 160) if order == 2 else (40, 80))
    )
    assert abs(math.log2(coarse / fine) - order) < 0.35, (coarse, fine)


FAMILY = [VESDE(0.1, 10.0), VPSDE(), SubVPSDE(), CosineSDE(0.01), FlowSDE(0.01)]


@pytest.mark.parametrize("sde", FAMILY, ids=str)
@pytest.mark.parametrize("solver, order", SOLVERS.values(), ids=SOLVERS)
def test_flow_solvers_carry_quantiles_to_quantiles_at_their_order(sde, solver, order):
    # On the line the flow is the quantile map, F_s^-1 o F_t, and known without solving it
    target, u = deck_mixture(), (torch.arange(100) + 0.5) / 100

    def error(n):
        ts = torch.linspace(0.95, 0.01, n + 1)
        start, end = (target.perturb(sde.alpha(t), sde.sigma(t)).quantile(u) for t in ts[[0, -1]])
        *_, x = reverse(exact_score(sde, target), sde, start, ts, solver)
        return (x - end).abs().mean().item()

    coarse, fine = error(80), error(160)
    assert abs(math.log2(coarse / fine) - order) < 0.1 * order + 0.15, (coarse, fine)


@pytest.mark.parametrize("step", [euler_maruyama, reverse_diffusion, ancestral])
def test_strong_order_one_with_shared_increments(step):
    # The noise is additive, so the strong order is 1; the finest path is the reference of the rest
    sde, n, t_min = VPSDE(), 1024, 0.05
    dw = torch.randn(n, 100, 1)
    x = sde.prior_sample((100, 1))

    def end(k):
        increments = iter(dw.reshape(k, n // k, 100, 1).sum(1) * math.sqrt(k / n))
        ts = torch.linspace(1, t_min, k + 1)
        score = exact_score(sde, NORMAL)
        *_, last = reverse(score, sde, x, ts, walk(step), lambda _: next(increments))
        return last

    finest = end(n)
    errors = [(end(k) - finest).abs().mean().item() for k in (16, 32, 64)]
    orders = [math.log2(a / b) for a, b in itertools.pairwise(errors)]
    assert all(0.8 < order < 1.25 for order in orders), orders


def test_samples_follow_the_law_computed_without_noise():
    sde, target, n = VPSDE(), deck_mixture(), 20_000
    score, generator = exact_score(sde, target), torch.Generator().manual_seed(0)
    x = sample(score, sde, (n, 1), n_steps=20, generator=generator)
    law = sampler_law(score, sde, n_steps=20)
    levels = np.interp(x[:, 0], law.x[:, 0], law.levels)
    assert stats.kstest(levels, "uniform").pvalue > 1e-4
    assert law.kolmogorov(target) > stats.kstwo(n).isf(1e-4)  # the sample could tell them apart


def test_reverse_drift_between_sde_and_ode(sde, target):
    x, t = torch.randn(4, 2), torch.tensor(0.3)
    score = exact_score(sde, target)
    drift, pull = sde.drift(x, t), sde.g(t) ** 2 * score(x, t)
    assert_close(reverse_drift(score, sde, x, t), drift - pull)  # Eq. 6
    assert_close(reverse_drift(score, sde, x, t, eta=0), drift - pull / 2)  # Eq. 13
    assert_close(reverse_drift(score, sde, x, t, eta=0.5), drift - 5 / 8 * pull)


@pytest.mark.parametrize("d", [1, 4])
def test_the_reverse_drift_gives_each_state_its_own_time(sde, d):
    # where d is 1 or as large as the batch, g(t) of shape (B,) would broadcast along the wrong axis
    x, ts, score = torch.randn(4, d), torch.tensor([0.1, 0.3, 0.6, 0.9]), lambda x, t: torch.sin(x)
    alone = [reverse_drift(score, sde, x[i : i + 1], ts[i], eta=0.5) for i in range(4)]
    assert_close(reverse_drift(score, sde, x, ts, eta=0.5), torch.cat(alone))


@pytest.mark.parametrize("solver", EVERY_SOLVER.values(), ids=EVERY_SOLVER)
@pytest.mark.parametrize("event, dtype", [((2,), torch.float32), ((1, 8, 8), torch.float64)])
@pytest.mark.parametrize("batch", [0, 1, 3])
def test_sampling_keeps_shape_dtype_and_device(sde, solver, event, dtype, batch, device):
    shape = (batch, *event)

    def score(x, t):
        assert t.dtype == x.dtype == dtype and t.ndim == 0 and t.device == x.device
        return -x

    x = sample(score, sde, shape, solver, n_steps=3, t_min=0.2, dtype=dtype, device=device)
    assert x.shape == shape and x.dtype == dtype and x.device.type == device
    states = reverse(
        score, sde, x, torch.tensor([0.9, 0.5, 0.0]), solver
    )  # times of double precision
    assert all(y.dtype == dtype and y.shape == shape for y in states)


@pytest.mark.parametrize("solver", EVERY_SOLVER.values(), ids=EVERY_SOLVER)
@pytest.mark.parametrize("dtype, rounding", [(torch.float16, 0.05), (torch.bfloat16, 0.2)])
def test_sampling_in_half_precision_is_right_to_its_rounding(solver, dtype, rounding):
    # five hundred steps, more than bfloat16 has times between 1/2 and 1. N(0, 1) stays N(0, 1)
    # under VP up to the corrector's own 2.6 % and the variance that each rounding adds: a step
    # rounds about six times, to 2^-9 in bfloat16 and 2^-12 in float16
    score, generator = (lambda x, t: -x), torch.Generator().manual_seed(0)
    x = sample(score, VPSDE(), (4000, 1), solver, 500, dtype=dtype, generator=generator).double()
    noise = 6 * math.sqrt(2 / len(x))
    assert abs(x.var() - 1) < rounding + noise and abs(x.mean()) < noise


@pytest.mark.parametrize("solver", EVERY_SOLVER.values(), ids=EVERY_SOLVER)
def test_sampling_is_a_function_of_its_generator(target, solver):
    def draw(seed, **options):
        generator = torch.Generator().manual_seed(seed)
        score = exact_score(VPSDE(), target)
        return sample(score, VPSDE(), (4, 2), solver, 5, generator=generator, **options)

    torch.manual_seed(7)
    first = draw(0)
    torch.manual_seed(8)
    assert torch.equal(first, draw(0)) and not torch.equal(first, draw(1))
    assert torch.equal(first, draw(0, progress=True))


def test_batches_bound_the_memory_and_are_independent_draws():
    score, largest = exact_score(SDE, NORMAL), []

    def watched(x, t):
        largest.append(len(x))
        return score(x, t)

    x = sample(watched, SDE, (10_500, 1), adams(), 10, batch_size=1000)
    assert len(x) == 10_500 and max(largest) == 1000 and largest.count(500) == 11
    assert abs(x.var() / 4 - 1) < 6 * math.sqrt(2 / len(x)) + 0.02
    assert len(x.unique()) == len(x)


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_a_step_treats_every_state_alone(sde, target, step):
    x, z = torch.randn(6, 6), torch.randn(6, 6)
    s, t = sde.at(0.4, x), sde.at(0.5, x)

    def score(x, t):
        return -x * x.abs() - (t if t.ndim == 0 else t[:, None])

    together = step(score, x, t, s, noise=lambda _: z)
    alone = [step(score, x[i : i + 1], t, s, noise=lambda _, i=i: z[i : i + 1]) for i in range(6)]
    assert_close(together, torch.cat(alone))
    many = (sde.at(torch.full((6,), time), x) for time in (0.5, 0.4))
    assert_close(together, step(score, x, *many, noise=lambda _: z))


def test_the_noise_is_the_one_passed_in(sde, target):
    x, t, s = torch.randn(3, 2), sde.at(0.5), sde.at(0.3)
    score = exact_score(sde, target)
    zero, one = (euler_maruyama(score, x, t, s, z) for z in (torch.zeros_like, torch.ones_like))
    assert_close(one - zero, torch.full((3, 2), t.g * math.sqrt(0.2)))
    half = euler_maruyama(score, x, t, s, torch.ones_like, eta=0.5)
    half = half - euler_maruyama(score, x, t, s, torch.zeros_like, eta=0.5)
    assert_close(half, (one - zero) / 2)
    quiet = euler_maruyama(score, x, t, s, torch.zeros_like, eta=0)
    assert torch.equal(flow_euler(score, x, t, s), quiet)


# Grids


GRIDS = {"uniform": uniform, "log_snr": log_snr, "edm": edm, "log_linear": log_linear}
PILOTED = pilot(
    exact_score(VPSDE(), deck_mixture()),
    VPSDE(),
    (64, 1),
    generator=torch.Generator().manual_seed(0),
    dtype=torch.float64,
).grid


def ratio(sde, ts):
    """The noise-to-signal ratio."""
    return sde.sigma(ts) / sde.alpha(ts)


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
@pytest.mark.parametrize("n", [1, 2, 30])
def test_a_grid_falls_from_one_to_t_min(sde, grid, n):
    ts = grid(sde, n, 1e-3)
    assert ts.shape == (n + 1,) and ts.dtype == torch.float64
    assert ts[0] == 1 and ts[-1] == 1e-3 and (ts.diff() < 0).all()


@pytest.mark.parametrize("n", [1, 2, 30, 300])
def test_a_piloted_grid_falls_from_one_and_not_below_t_min(sde, n):
    ts = PILOTED(sde, n, 1e-3)
    assert ts.shape == (n + 1,) and ts.dtype == torch.float64
    assert ts[0] == 1 and ts[-1] > 1e-3 * (1 - 1e-6) and (ts.diff() < 0).all()


def test_equal_steps_are_equal_in_what_each_grid_names(sde):
    ends = torch.tensor([1.0, 0.01])
    for grid, measure in (
        (uniform, lambda t: t),
        (log_snr, lambda t: ratio(sde, t).log()),
        (edm, lambda t: ratio(sde, t) ** (1 / 7)),
        (partial(edm, rho=2.0), lambda t: ratio(sde, t) ** (1 / 2)),
        (log_linear, lambda t: torch.asinh(ratio(sde, t) / 0.02)),
        (partial(log_linear, bend=0.3), lambda t: torch.asinh(ratio(sde, t) / 0.3)),
    ):
        high, low = measure(ends)
        steps = measure(grid(sde, 12, 0.01)).diff()
        # a ratio of 1e-3 is known to the rounding of the times over it
        assert_close(steps, (low - high).expand(12) / 12, rtol=1e-6, atol=1e-9)


def test_edm_lies_between_equal_noise_and_log_snr():
    # EDM, Eq. 5, where alpha = 1 makes the ratio its sigma; for large rho the steps become those of
    # log_snr, at infinity exactly
    sde = VPSDE()
    assert_close(edm(sde, 10, rho=1e6), log_snr(sde, 10), rtol=1e-4, atol=1e-6)
    assert torch.equal(edm(sde, 10, rho=math.inf), log_snr(sde, 10))
    assert_close(log_linear(sde, 10, bend=1e-9), log_snr(sde, 10))
    steps = ratio(sde, edm(sde, 10, rho=1.0)).diff()
    assert_close(steps, steps[:1].expand(10), rtol=1e-6, atol=0)


# What is refused, and how it is said


SCORE, SDE = exact_score(VPSDE(), NORMAL), VPSDE()
ONE, TIMES = torch.ones(1, 1), torch.tensor([1.0, 0.5, 0.1])


class SolverOfAReader:
    def __call__(self, score, x, path, noise=None):
        yield x


@pytest.mark.parametrize(
    "call, error, message",
    [
        (
            lambda: sample(SCORE, SDE, (1, 1), n_steps=0),
            ValueError,
            "n_steps must be at least 1, got 0",
        ),
        (
            lambda: sample(SCORE, SDE, (1, 1), t_min=0.0),
            ValueError,
            r"t_min must be inside \(0, 1\)",
        ),
        (
            lambda: sample(SCORE, SDE, (1, 1), t_min=1.0),
            ValueError,
            r"t_min must be inside \(0, 1\)",
        ),
        (
            lambda: sample(SCORE, SDE, (1, 1), batch_size=-1),
            ValueError,
            "batch_size must be at least",
        ),
        (lambda: sample(SCORE, VPSDE, (1, 1)), TypeError, "sde must be an SDE, for instance VPSDE"),
        (
            lambda: sample(SCORE, SDE, (1, 1), "heun"),
            TypeError,
            "solver must be a function, got str",
        ),
        (lambda: sample(SCORE, SDE, (1, 1), heun), TypeError, "got a step: make it one by walk"),
        (
            lambda: walk(dpm_solver_2m),
            TypeError,
            "steps must be functions .* got <function dpm_solver",
        ),
        (lambda: walk(adams(), ddim), TypeError, "steps must be functions"),
        (lambda: walk(SolverOfAReader()), TypeError, "steps must be functions"),
        (walk, ValueError, "steps must be at least one, got none"),
        (
            lambda: next(reverse(SCORE, SDE, ONE, TIMES.flip(0), walk(heun))),
            ValueError,
            "decreasing",
        ),
        (lambda: next(reverse(SCORE, SDE, ONE, TIMES[:1], walk(heun))), ValueError, "two times"),
        (
            lambda: next(reverse(SCORE, SDE, ONE, 2 * TIMES, walk(heun))),
            ValueError,
            "ts must be in",
        ),
        (
            lambda: next(reverse(SCORE, SDE, ONE * math.inf, TIMES, walk(heun))),
            ValueError,
            "x must be finite everywhere",
        ),
        (
            lambda: sample(lambda x, t: x[:, :1], SDE, (3, 2)),
            ValueError,
            r"score\(x, t\) must be of shape \(3, 2\), got shape \(3, 1\)",
        ),
        (
            lambda: sample(lambda x, t: x * math.nan, SDE, (3, 2), n_steps=5),
            FloatingPointError,
            "the states became NaN or infinite between t = 1 and 0.79.*: is the score finite",
        ),
        (
            lambda: sample(
                lambda x, t: -x if t > 0.5 else x / 0, SDE, (3, 2), n_steps=200, grid=uniform
            ),
            FloatingPointError,
            "between t = 0.54.* and 0.48",
        ),
        (
            lambda: ancestral_2s(SCORE, ONE, SDE.at(0.5), SDE.at(0.4), scale=-1.0),
            ValueError,
            "scale must be positive and finite, got -1.0",
        ),
        (lambda: adams(1), ValueError, "order must be at least 2, got 1"),
        (lambda: adams(scale=0.0), ValueError, "scale must be positive and finite, got 0.0"),
        (lambda: adams(reach=0.0), ValueError, "reach must be positive, got 0.0"),
        (
            lambda: pilot(SCORE, SDE, (9, 1), n_calls=7),
            ValueError,
            "n_calls must be at least 8, got 7",
        ),
        (lambda: pilot(SCORE, SDE, (9, 1), order=1), ValueError, "order must be at least 2, got 1"),
        (
            lambda: pilot(SCORE, SDE, (1, 1)),
            ValueError,
            "the samples' deviation must be positive and finite, got 0.0",
        ),
        (lambda: edm(SDE, 3, rho=0.0), ValueError, "rho must be positive, got 0.0"),
        (
            lambda: log_linear(SDE, 3, bend=0.0),
            ValueError,
            "bend must be positive and finite, got 0.0",
        ),
        (
            lambda: langevin(SCORE, torch.ones(3, 4), SDE.at(0.5), SDE.at(0.5)),
            ValueError,
            "x must be of 5 entries or more; else use annealed_langevin, got states of 4",
        ),
        (
            lambda: langevin(lambda x, t: 0 * x, torch.ones(3, 5), SDE.at(0.5), SDE.at(0.5)),
            ValueError,
            "score must be other than 0, to be a scale, got 0 at a state at time 0.5",
        ),
        (
            lambda: euler_maruyama(SCORE, ONE, SDE.at(0.4), SDE.at(0.5)),
            ValueError,
            "s must be an instant not later than t = 0.4, got 0.5",
        ),
    ],
)
def test_bad_values_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("step", [langevin, annealed_langevin])
@pytest.mark.parametrize(
    "name, allowed", [("snr", "positive and below 1e100"), ("n_steps", "at least 1")]
)
def test_a_corrector_takes_positive_steps_one_or_more(step, name, allowed):
    with pytest.raises(ValueError, match=f"{name} must be {allowed}, got 0"):
        step(SCORE, torch.ones(2, 5), SDE.at(0.5), SDE.at(0.5), **{name: 0})


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_what_a_step_calls_must_give_numbers_like_the_state(step):
    x, t, s = torch.ones(2, 5), SDE.at(0.5), SDE.at(0.4)
    with pytest.raises(ValueError, match=r"score\(x, t\) must be of shape \(2, 5\)"):
        step(lambda x, t: x[:, :1], x, t, s)
    if step in (*NOISY.values(), *CORRECTORS.values()):
        with pytest.raises(ValueError, match=r"noise\(x\) must be of shape \(2, 5\)"):
            step(lambda x, t: -x, x, t, s, lambda x: x[:, :1])


def test_two_stages_take_data_of_deviation_one_unless_told_and_a_positive_one():
    x, t, s = torch.randn(4, 1), SDE.at(0.5), SDE.at(0.4)
    like_one, default = (
        ancestral_2s(SCORE, x, t, s, torch.ones_like, **scale) for scale in ({"scale": 1.0}, {})
    )
    assert torch.equal(like_one, default)
    with pytest.raises(ValueError, match="scale must be positive and finite, got 0"):
        ancestral_2s(SCORE, x, t, s, scale=0.0)


def test_a_sum_of_no_tensors_names_what_is_none():
    x = torch.ones(2, 3)
    assert torch.equal(plus(x, torch.tensor(2.0), x), 3 * x)
    for wrong, name in (((None, 1.0, x), "x"), ((x, 1.0, x[:, :2]), "y"), ((x, "a", x), "c")):
        with pytest.raises((TypeError, ValueError), match=f"^{name} must be"):
            plus(*wrong)


@pytest.mark.parametrize("step", [*NOISY.values(), ddim, heun, rk4, *CORRECTORS.values()])
def test_no_step_moves_forward_in_time(step):
    with pytest.raises(ValueError, match="s must be an instant not later than t = 0.4"):
        step(SCORE, torch.ones(2, 5), SDE.at(0.4), SDE.at(0.5))


@pytest.mark.parametrize("step", [euler_maruyama, reverse_diffusion, ancestral, ddim, heun])
def test_a_path_may_stay_at_an_instant_where_no_predictor_moves(step):
    x = torch.tensor([[-1.0], [0.5]])
    t, s = VPSDE().path(torch.tensor([0.6, 0.5]), x)
    stay, on, stop = walk(step)(lambda x, t: -3 * x, x, [t, t, s, s])
    assert_close(stay, x)
    assert_close(stop, on)
    assert (on - x).abs().min() > 0.01


def test_solvers_can_be_pickled():
    pilot_of = pilot(SCORE, SDE, (16, 1), n_calls=12)
    steps = ancestral, partial(annealed_langevin, snr=0.1)
    for solver in (walk(*steps), walk(flow_euler), adams(), dpm_solver_2m, pilot_of):
        twin = pickle.loads(pickle.dumps(solver))
        made = (
            sample(SCORE, SDE, (3, 1), s, 12, generator=torch.Generator().manual_seed(1))
            for s in (solver, twin)
        )
        assert torch.equal(*made)


@pytest.mark.parametrize("n, got", [(0, "0 states"), (3, "3 states"), (12, "more")])
def test_a_solver_must_yield_a_state_for_each_interval(n, got):
    def solver(score, x, path, noise):
        yield from itertools.repeat(x, n)

    allowed = "an iterator of 11 states"
    with pytest.raises(ValueError, match=rf"must be {allowed}, got {got}"):
        sample(SCORE, SDE, (3, 1), solver, 10)
    with pytest.raises(ValueError, match=rf"must be {allowed}, got more"):  # and without an end
        sample(SCORE, SDE, (3, 1), lambda score, x, path, noise: itertools.repeat(x), 10)


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("solver", EVERY_SOLVER.values(), ids=EVERY_SOLVER)
def test_coefficients_beyond_half_precision_are_no_error(solver, half):
    # at so much noise a square of sigma is more than the 65504 that half precision has
    sde = VESDE(0.01, 378.0)
    x = sample(exact_score(sde, NORMAL), sde, (20, 1), solver, 40, dtype=half)
    assert x.dtype == half and x.isfinite().all()


@pytest.mark.parametrize("rho", [1e-3, 0.5, 7.0, 1e4, 1e9, 1e17, 1e300])
def test_grids_of_equal_roots_are_right_for_every_root(rho):
    ts = edm(SDE, 6, rho=rho)
    assert (ts.diff() < 0).all() and ts[0] == 1 and ts[-1] == 1e-3
    ratios = SDE.sigma(ts) / SDE.alpha(ts)
    if rho == 1e-3:
        return  # powers of a thousand are more than a number can hold
    if rho <= 1e4:
        roots = ratios ** (1 / rho)
        assert_close(roots, torch.linspace(1, 0, 7).double() * (roots[0] - roots[-1]) + roots[-1])
    else:
        assert_close(ts, log_snr(SDE, 6), rtol=1e-6, atol=0)


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e200])
def test_numbers_of_steps_without_a_finite_square_are_named(value):
    x, t, s = torch.ones(2, 5), SDE.at(0.5), SDE.at(0.4)
    score = lambda x, t: -x
    for step, name in ((euler_maruyama, "eta"), (langevin, "snr"), (annealed_langevin, "snr")):
        named = re.escape(f"got {value}")
        with pytest.raises(ValueError, match=f"{name} must be .*below 1e100.*, {named}"):
            step(score, x, t, s, **{name: value})
    with pytest.raises(ValueError, match=f"eta must be below 1e100 in size, {named}"):
        reverse_drift(score, SDE, x, torch.tensor(0.5), eta=value)
    if math.isfinite(value):
        return  # the scale is not squared
    with pytest.raises(ValueError, match=f"scale must be positive and finite, {named}"):
        ancestral_2s(score, x, t, s, scale=value)
    with pytest.raises(ValueError, match=f"scale must be positive and finite, {named}"):
        adams(scale=value)


def test_defaults_are_those_the_docstrings_name():
    x = lambda **how: sample(SCORE, SDE, (3, 1), generator=torch.Generator().manual_seed(0), **how)
    euler = walk(euler_maruyama)
    assert torch.equal(x(), x(solver=euler, n_steps=500, t_min=1e-3, progress=False))
    assert adams() == adams(4, 1.0, 1.0)
    for grid in (uniform, log_snr, edm, log_linear):
        assert torch.equal(grid(SDE, 5), grid(SDE, 5, 1e-3))
    found = pilot(SCORE, SDE, (16, 1), generator=torch.Generator().manual_seed(0))
    for n in (5, 5000):  # of few steps the last is longer
        assert torch.equal(found.grid(SDE, n), found.grid(SDE, n, 1e-3))
    same = pilot(SCORE, SDE, (16, 1), None, 1.0, 48, torch.Generator().manual_seed(0))
    assert torch.equal(found.grid(SDE, 5), same.grid(SDE, 5)) and found.reach == same.reach == 1
    other = pilot(SCORE, SDE, (16, 1), order=3, reach=2.5, n_calls=8)
    assert (other.order, other.reach) == (3, 2.5)


def test_progress_counts_each_step_of_each_batch_and_ends(monkeypatch):
    bars = []

    class Bar:
        def __init__(self, total, desc):
            self.total, self.desc, self.n, self.closed = total, desc, 0, False
            bars.append(self)

        def update(self):
            self.n += 1

        def close(self):
            self.closed = True

    monkeypatch.setattr(samplers, "tqdm", Bar)
    sample(SCORE, SDE, (5, 1), n_steps=7)
    assert not bars
    assert sample(SCORE, SDE, (5, 1), n_steps=7, batch_size=2, progress=True).shape == (5, 1)
    (bar,) = bars
    assert (bar.total, bar.n, bar.desc, bar.closed) == (24, 24, "sampling", True)


@pytest.mark.parametrize(
    "ts",
    [
        TIMES.flip(0),
        torch.ones(1),
        torch.ones(3, 2),
        torch.tensor([0.9, 0.5, 0.1]),
        torch.tensor([1.0, 0.5, 0.0]),
        torch.tensor([1.1, 0.5, 0.1]),
        torch.tensor([1, 0]),
        [1.0, 0.5],
    ],
    ids=str,
)
def test_what_a_grid_of_the_readers_must_give_is_named(ts):
    with pytest.raises((TypeError, ValueError), match=r"grid.* must be"):
        run_times(SDE, walk(heun), 2, grid=lambda sde, n_steps, t_min: ts)


@pytest.mark.parametrize("grid", [uniform, log_snr, edm, log_linear])
@pytest.mark.parametrize(
    "arguments, name",
    [
        ((0, 1e-3), "n_steps"),
        ((2.0, 1e-3), "n_steps"),
        ((3, 0.0), "t_min"),
        ((3, 1.0), "t_min"),
        ((3, "a"), "t_min"),
    ],
)
def test_a_grid_needs_a_step_and_an_end_within_time(grid, arguments, name):
    with pytest.raises((TypeError, ValueError), match=f"{name} must be"):
        grid(SDE, *arguments)


def test_a_pilot_needs_eight_calls_and_a_state():
    assert pilot(SCORE, SDE, (16, 1), n_calls=8).scale > 0
    for shape in ((0, 1), (3, 0)):
        with pytest.raises(ValueError, match="shape must be that of a number or more"):
            pilot(SCORE, SDE, shape)


def test_what_a_solver_yields_is_like_the_states_and_says_where_it_is_not_finite():
    def solver(score, x, path, noise):
        for t in path[1:]:
            yield x / 0 if t.time < 0.5 else x

    with pytest.raises(FloatingPointError, match="between t = 0.57.* and 0.49"):
        list(reverse(SCORE, SDE, ONE, torch.linspace(1, 0.01, 98), solver))
    with pytest.raises(ValueError, match="what solver yields must be of shape"):
        sample(SCORE, SDE, (3, 1), lambda score, x, path, noise: iter([x[:1]] * 6), 5)
    with pytest.raises(TypeError, match="must be an iterator of states"):
        sample(SCORE, SDE, (3, 1), lambda score, x, path, noise: [x] * 6, 5)
    for no_solver in ("heun", dict):
        with pytest.raises((TypeError, ValueError), match="solver must be"):
            next(reverse(SCORE, SDE, ONE, TIMES, no_solver))


@pytest.mark.parametrize(
    "solver", [walk(ancestral), dpm_solver_2m, adams()], ids=["walk", "2M", "adams"]
)
def test_a_solver_called_by_itself_holds_what_it_is_given(solver):
    x, path = torch.ones(2, 5), SDE.path(TIMES, torch.ones(2, 5))
    score = lambda x, t: -x
    assert len(list(solver(score, x, path))) == 2
    with pytest.raises(ValueError, match=r"score\(x, t\) must be of shape \(2, 5\)"):
        list(solver(lambda x, t: x[:, :1], x, path))
    with pytest.raises(ValueError, match="path must be of two instants or more, none later than"):
        list(solver(score, x, path[::-1]))
    for noise in (lambda x: x[:, :1], lambda x: x[0]):
        if isinstance(solver, Walk):
            with pytest.raises(ValueError, match=r"noise\(x\) must be of shape \(2, 5\)"):
                list(solver(score, x, path, noise))
            with pytest.raises(ValueError, match=r"noise\(x\) must be of shape \(2, 5\)"):
                list(reverse(score, SDE, x, TIMES, solver, noise))


def test_two_batches_are_two_and_narrow_data_have_a_pilot():
    assert sample(SCORE, SDE, (5, 1), n_steps=3, batch_size=3).shape == (5, 1)
    narrow = GaussianMixture(torch.ones(1), torch.zeros(1, 1), torch.full((1, 1), 1e-2))
    assert pilot(exact_score(SDE, narrow), SDE, (64, 1)).scale == pytest.approx(0.1, rel=0.3)
    with pytest.raises(ValueError, match="bend must be positive and finite, got inf"):
        log_linear(SDE, 3, bend=math.inf)
    with pytest.raises(TypeError, match="s must be an instant, as sde.at gives it"):
        steps_to(0.5, (heun,))


def test_a_sum_in_half_precision_takes_a_coefficient_beyond_it():
    x, y = torch.ones(2, dtype=torch.float16), torch.full((2,), 0.01, dtype=torch.float16)
    found = plus(x, 1e5, y)
    assert found.dtype == x.dtype
    assert_close(found, (1 + 1e5 * y.double()).to(x.dtype))


def integral(nodes, start, end):
    """Weights of the values at ``nodes`` in the integral of the polynomial through them."""
    columns = []
    for value in np.eye(len(nodes)):
        through = np.polynomial.Polynomial.fit(nodes, value, len(nodes) - 1).integ()
        columns.append(through(end) - through(start))
    return np.array(columns)


def adams_weights(phi, gain, order, reach):
    """The weights as ``adams`` explains them, one polynomial at a time."""
    rows, predicted, used = [], np.zeros(order), 1
    for i in range(len(phi) - 1):
        latest, row = np.arange(i, max(i - order, -1), -1), np.zeros(order)
        if i:  # the last step again, with one value more, instead of its prediction
            row[: len(latest[: used + 1])] = integral(phi[latest[: used + 1]], phi[i - 1], phi[i])
            row[1:] -= predicted[:-1]
        for n in range(1, order):
            found = integral(phi[latest[:n]], phi[i], phi[i + 1])
            if n == 1 or abs(found) @ gain[latest[:n]] <= reach:
                predicted, used = np.pad(found, (0, order - len(found))), n
        rows.append(row + predicted)
    return np.array(rows)


@pytest.mark.parametrize("order", [2, 3, 4, 5])
@pytest.mark.parametrize("reach", [0.3, 1.0, math.inf])
def test_adams_weights_are_those_of_one_polynomial_after_the_other(order, reach):
    rng = np.random.default_rng(order)
    phi = np.cumsum(0.02 + 0.1 * rng.random(15))
    gain = np.exp(rng.normal(size=15))
    with np.errstate(all="raise"):
        found = samplers._adams_weights(phi, gain, order, reach)
    np.testing.assert_allclose(found, adams_weights(phi, gain, order, reach), atol=1e-9)


def test_one_step_is_enough_and_a_pilots_grid_checks_its_arguments():
    assert run_times(SDE, adams(), 1).tolist() == [1.0, 1e-3, 0.0]
    grid = pilot(SCORE, SDE, (16, 1), n_calls=8).grid
    with pytest.raises(TypeError, match="^n_steps must be an integer, got float"):
        grid(SDE, 2.5)
    with pytest.raises(TypeError, match="^t_min must be a number, got str"):
        grid(SDE, 2, "0.1")
