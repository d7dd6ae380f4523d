"""Laws on the line and what samplers make of them, against normal laws and their closed forms."""

import inspect
import math
from functools import partial

import pytest
import torch
from scipy import stats
from torch.testing import assert_close

from sdelib.data import deck_mixture
from sdelib.laws import (
    REACH,
    Law,
    _aliasing,
    _refine,
    propagate,
    sampler_law,
    spread,
    tabulate,
)
from sdelib.mixtures import GaussianMixture
from sdelib.samplers import adams, reverse, run_times, sample, uniform, walk
from sdelib.score import exact_score
from sdelib.sde import VPSDE, transition
from sdelib.steps import ancestral, annealed_langevin, euler_maruyama, heun, reverse_diffusion


def normal_law(std, n):
    return tabulate(lambda x: -((x[:, 0] / std) ** 2) / 2, 8 * std, n)


def test_a_tabulated_normal_has_the_moments_of_a_normal():
    law = normal_law(torch.tensor(2.5), 500)
    x = law.x[:, 0]
    moments = torch.stack([(law.weights * x**k).sum() for k in range(5)])
    assert_close(moments, torch.tensor([1.0, 0.0, 2.5**2, 0.0, 3 * 2.5**4]), rtol=1e-10, atol=1e-10)


def test_distances_of_a_shifted_and_of_a_scaled_normal():
    target = GaussianMixture(torch.ones(1), torch.zeros(1, 1), torch.ones(1, 1))
    law = normal_law(torch.ones(()), 4000)
    shifted, scaled = law.push(lambda x: x + 0.1), law.push(lambda x: 1.2 * x)
    assert_close(shifted.wasserstein(target), 0.1, rtol=1e-6, atol=0)
    assert_close(scaled.wasserstein(target), 0.2 * math.sqrt(2 / math.pi), rtol=1e-4, atol=0)
    assert_close(shifted.kolmogorov(target), 2 * stats.norm.cdf(0.05) - 1, rtol=1e-4, atol=0)


def test_nodes_without_mass_do_not_ask_for_the_ends_of_a_target():
    # far out the weights vanish and the levels are 0 and 1, where a mixture has no quantile
    target = GaussianMixture(torch.ones(1), torch.zeros(1, 1), torch.ones(1, 1))
    law = tabulate(target.log_prob, torch.tensor(100.0), 4001)
    assert law.levels[0] == 0 and law.levels[-1] > 1 - 1e-15
    assert law.wasserstein(target) < 1e-2


def test_a_law_can_be_the_target_of_another():
    law = normal_law(torch.tensor(1.0), 4000)
    assert_close(law.wasserstein(law), 0.0, rtol=0, atol=1e-9)
    assert_close(law.push(lambda x: x + 0.1).wasserstein(law), 0.1, rtol=1e-6, atol=0)
    assert_close(
        law.push(lambda x: x + 0.1).kolmogorov(law), 2 * stats.norm.cdf(0.05) - 1, rtol=1e-4, atol=0
    )


def normal_target(mean, std):
    return GaussianMixture(torch.ones(1), torch.full((1, 1), mean), torch.full((1, 1), std**2))


def as_law(target, n):
    return tabulate(target.log_prob, torch.tensor(14.0), n)


@pytest.mark.parametrize(
    "as_target", [lambda target: target, partial(as_law, n=3333)], ids=["mixture", "law"]
)
def test_total_variation_and_kl_of_normals_are_the_closed_forms(as_target):
    # the densities of N(0, 1) and N(0, s^2) cross at +-c
    law, m, s = as_law(normal_target(0.0, 1.0), 4000), 0.3, 1.5
    c, cdf = math.sqrt(2 * math.log(s) * s**2 / (s**2 - 1)), stats.norm.cdf
    shifted, scaled = as_target(normal_target(m, 1.0)), as_target(normal_target(0.0, s))
    assert_close(law.total_variation(shifted), 2 * cdf(m / 2) - 1, rtol=1e-5, atol=0)
    assert_close(law.total_variation(scaled), 2 * (cdf(c) - cdf(c / s)), rtol=1e-5, atol=0)
    assert_close(law.kl(shifted), m**2 / 2, rtol=1e-9, atol=0)
    assert_close(law.kl(scaled), (1 / s**2 - 1) / 2 + math.log(s), rtol=1e-9, atol=0)
    assert_close(
        as_law(normal_target(0.0, s), 4000).kl(as_target(normal_target(0.0, 1.0))),
        (s**2 - 1) / 2 - math.log(s),
        rtol=1e-9,
        atol=0,
    )


def test_the_log_density_of_a_law_is_that_of_its_target():
    target = deck_mixture()
    x = torch.linspace(-6, 6, 777)[:, None]
    errors = [
        (as_law(target, n).log_prob(x) - target.log_prob(x)).abs().max().item()
        for n in (1001, 2001)
    ]
    assert errors[1] < errors[0] / 12 and errors[1] < 1e-5  # the fourth order of a cubic spline
    assert (as_law(target, 100).log_prob(torch.tensor([[-15.0], [15.0]])) == -math.inf).all()


def test_uneven_nodes_know_their_density():
    # with u = asinh(x) uniform and the density of u, the law of x is N(0, 1) on nodes that grow
    # apart
    target = normal_target(0.0, 1.0)
    even = tabulate(
        lambda u: target.log_prob(u.sinh()) + u[:, 0].cosh().log(), torch.tensor(3.0), 4000
    )
    law = even.push(torch.sinh)
    x = torch.linspace(-4, 4, 99)[:, None]
    assert_close(law.log_prob(x), target.log_prob(x), rtol=0, atol=1e-5)
    assert law.total_variation(target) < 1e-5 and abs(law.kl(target)) < 1e-5


def test_an_increasing_map_changes_neither_total_variation_nor_kl():
    law, other = as_law(normal_target(0.0, 1.0), 6000), as_law(normal_target(0.2, 1.1), 6000)
    pushed, other_pushed = (each.push(torch.sinh) for each in (law, other))
    assert_close(
        pushed.total_variation(other_pushed), law.total_variation(other), rtol=1e-4, atol=0
    )
    assert_close(pushed.kl(other_pushed), law.kl(other), rtol=1e-4, atol=0)


def test_total_variation_of_few_nodes_by_hand():
    # the target is 1/5 at each of five nodes, and F = 0.3 and 0.7 at the ends of the law
    x = torch.arange(-1.0, 4.0)[:, None]
    law, target = Law(x[1:4], torch.tensor([0.25, 0.5, 0.25])), Law(x, torch.full((5,), 0.2))
    assert_close(law.total_variation(target), (0.05 + 0.3 + 0.05 + 0.3 + 0.3) / 2)


@pytest.mark.parametrize("weight, kl", [(0.5e-14, 0.0), (2e-14, math.inf)])
def test_kl_leaves_out_nodes_of_less_than_1e_14_of_the_heaviest(weight, kl):
    # the target has no mass at the last node, and elsewhere the law's density
    x, weights = torch.arange(4.0)[:, None], torch.tensor([1.0, 1.0, 1.0, weight])
    law, target = Law(x, weights / weights.sum()), Law(x[:3], torch.full((3,), 1 / 3))
    assert_close(law.kl(target), kl, rtol=0, atol=1e-12)


def test_nodes_without_mass_have_the_log_density_of_nowhere():
    law = Law(torch.arange(5.0)[:, None], torch.tensor([0.0, 0.25, 0.5, 0.25, 0.0]))
    expected = torch.tensor([-math.inf, math.log(0.5), -math.inf])
    assert_close(law.log_prob(torch.tensor([[0.0], [2.0], [4.0]])), expected)


@pytest.mark.parametrize("kept", [slice(1000, None), slice(1001)], ids=["right", "left"])
def test_mass_out_of_reach_counts(kept):
    target = normal_target(0.0, 1.0)
    half = Law(*(part[kept] for part in as_law(target, 2001)))  # one half, of mass 1/2
    half = Law(half.x, half.weights / half.weights.sum())
    assert_close(half.total_variation(target), 0.5, rtol=0, atol=5e-3)  # half a node at the edge
    assert as_law(target, 2001).kl(half) == math.inf
    assert_close(half.kl(target), math.log(2), rtol=0, atol=2e-2)


def test_a_deterministic_step_keeps_the_weights():
    law = Law(torch.tensor([[0.0], [1.0]]), torch.tensor([0.25, 0.75]))
    moved = law.push(lambda x: 2 * x + 1)
    assert_close(moved.x, torch.tensor([[1.0], [3.0]]))
    assert moved.weights is law.weights
    assert_close(law.levels, torch.tensor([0.125, 0.625]))


@pytest.mark.parametrize("factor", [1, 2, 7])
def test_a_refined_law_is_the_same_law(factor):
    target, coarse = deck_mixture(), as_law(deck_mixture(), 150)
    fine = _refine(coarse, factor)
    assert len(fine.x) == factor * 149 + 1
    assert_close(fine.weights.sum().item(), 1.0)
    assert_close(fine.x[::factor], coarse.x)
    density = fine.weights / fine.spacing
    assert_close(density[1:-1], target.log_prob(fine.x).exp()[1:-1], rtol=0, atol=1e-9)


def test_a_refined_law_has_no_negative_mass():
    # far out the Fourier series rounds to either sign, and a node of negative mass has no
    # log-density
    fine = _refine(as_law(deck_mixture(), 150), 7)
    assert fine.weights.min() >= 0


@pytest.mark.parametrize("wave, allowed", [(29, True), (30, False), (32, False)])
def test_a_wave_among_the_shortest_sixteenth_is_too_short_to_refine(wave, allowed):
    # of the 33 waves on 64 nodes the last 1 + 33 // 16; all others but the constant one are zero
    i = torch.arange(64)
    law = Law(i[:, None] / 64, (1 + 1e-3 * torch.cos(2 * math.pi * wave * i / 64)) / 64)
    if allowed:
        _refine(law, 2)
        return
    with pytest.raises(ValueError, match="per_std must be larger"):
        _refine(law, 2)


def test_a_law_with_waves_too_short_to_refine_is_refused():
    # a width of half a step between nodes: its Fourier series has not died out at the shortest wave
    with pytest.raises(ValueError, match="per_std must be larger"):
        _refine(tabulate(normal_target(0.0, 0.2).log_prob, torch.tensor(8.0), 41), 2)


# What a sampler makes of a law


def test_spread_is_exact_for_a_linear_gaussian_step():
    # X ~ N(0, 1), Y = 0.8 X + 1 + 0.3 Z ~ N(1, 0.64 + 0.09)
    law = normal_law(torch.tensor(1.0), 500)
    law = spread(law, 0.8 * law.x + 1, torch.full_like(law.x, 0.3), per_std=5)
    y = law.x[:, 0]
    density = torch.distributions.Normal(1.0, math.sqrt(0.73)).log_prob(y).exp()
    assert_close(law.weights / (y[1] - y[0]), density, rtol=1e-8, atol=1e-12)
    assert (law.weights > 0).all()  # the grid ends with the mass


def test_spread_allows_noise_that_depends_on_the_state():
    # Var(Y) = E c(X)^2 for Y = c(X) Z
    law = normal_law(torch.tensor(1.0), 2000)
    std = 0.2 + 0.1 * torch.sin(law.x)
    after = spread(law, torch.zeros_like(law.x), std, per_std=5)
    expected = (law.weights * std[:, 0] ** 2).sum()
    assert_close((after.weights * after.x[:, 0] ** 2).sum(), expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("per_std", [3.0, 0.5])
def test_fresh_nodes_reach_eight_deviations_beyond_the_mass_and_all_have_some(per_std):
    # the first node holds less than 1e-16 of the heaviest, which is none
    law = Law(torch.arange(4.0)[:, None], torch.tensor([0.25e-16, 1e-16, 0.5, 0.5]))
    std = torch.tensor([[1.5], [1.2], [0.9], [0.9]])
    after = spread(law, law.x + 101, std, per_std)
    assert_close(after.x[0, 0].item(), 102 - 8 * 1.2)
    assert after.x[-1] > 104 + 8 * 0.9 - 0.9 / per_std
    assert_close(after.x.diff(dim=0), torch.full_like(after.x[1:], 0.9 / per_std))
    assert (after.weights > 0).all()


def test_the_start_replaces_the_prior():
    # From p_1 itself a Gaussian target has no prior error: what is left is less than what the prior
    # leaves
    sde, target = (
        VPSDE(1.0, 1.0),
        GaussianMixture(torch.ones(1), torch.ones(1, 1), torch.ones(1, 1)),
    )
    one, score = torch.ones(()), exact_score(sde, target)
    p_1 = tabulate(target.perturb(sde.alpha(one), sde.sigma(one)).log_prob, 10 * one)
    from_prior, from_p_1 = (
        sampler_law(score, sde, n_steps=200, start=law, grid=uniform) for law in (None, p_1)
    )
    assert from_p_1.wasserstein(target) < 0.01 < 0.1 < from_prior.wasserstein(target)


def test_nodes_too_coarse_for_the_noise_are_refused():
    sde, law = VPSDE(), normal_law(torch.ones(()), 20)
    with pytest.raises(ValueError, match="per_std must be larger"):
        spread(law, law.x, torch.full_like(law.x, 0.1), per_std=5)
    with pytest.raises(ValueError, match="per_std must be larger"):
        sampler_law(exact_score(sde, deck_mixture()), sde, n_steps=10, per_std=1.0, grid=uniform)


def test_the_misplaced_mass_is_a_ripple_of_known_size():
    # a comb of gap h, spread by noise of standard deviation 1, has the density p (1 + 2 exp(-2 (pi
    # / h)^2) cos(2 pi y / h) + ...) by Poisson's summation
    y = torch.linspace(-3, 3, 2001)
    for gap in (2.0, 2.5, 3.0):
        x = gap * torch.arange(-200, 201)[:, None].double()
        law = Law(x, torch.softmax(-((x[:, 0] / 40) ** 2) / 2, 0))
        kernels = torch.distributions.Normal(y[:, None], 1.0).log_prob(x[:, 0]).exp()
        smooth = torch.distributions.Normal(0.0, math.sqrt(1601)).log_prob(y).exp()
        ripple = (kernels @ law.weights / smooth - 1).abs().max().item()
        assert_close(_aliasing(law, x, torch.ones_like(x)), ripple, rtol=0.01, atol=0)


@pytest.mark.parametrize("gap, allowed", [(1.1, True), (1.25, False), (3.0, False)])
def test_no_more_than_a_millionth_of_the_mass_is_misplaced(gap, allowed):
    law = normal_law(torch.ones(()), 500)
    std = law.x.diff(dim=0).mean() / gap
    if allowed:
        spread(law, law.x, std.expand_as(law.x), per_std=3)
        return
    with pytest.raises(ValueError, match="per_std must be larger"):
        spread(law, law.x, std.expand_as(law.x), per_std=3)


def test_a_corrector_of_small_steps_gets_the_nodes_it_needs():
    # its noise is a twentieth of the predictor's, and the law does not depend on how many nodes
    # that one laid
    sde, solver = VPSDE(), walk(euler_maruyama, partial(annealed_langevin, snr=0.05))
    target = deck_mixture()
    few, many = (
        sampler_law(exact_score(sde, target), sde, solver, 20, 1e-2, per_std=n, grid=uniform)
        for n in (4, 16)
    )
    assert_close(few.wasserstein(target), many.wasserstein(target), rtol=1e-5, atol=0)


def test_noise_after_a_deterministic_step_gets_them_as_well():
    # Euler's flow moves the nodes apart; N(0, 1) is stationary under it, its score is -x, so after
    # the corrector's linear step the variance is a closed form
    sde, one, snr = VPSDE(1.0, 1.0), torch.ones(()), 0.02
    score, law = exact_score(sde, normal_target(0.0, 1.0)), normal_law(one, 100)
    path = sde.path(torch.tensor([1.0, 0.5]), law.x)
    size = 2 * (snr * path[1].sigma) ** 2
    steps = partial(euler_maruyama, eta=0), partial(annealed_langevin, snr=snr)
    law = propagate(law, score, path, *steps)
    variance = torch.tensor((1 - size) ** 2 + 2 * size)
    assert_close((law.weights * law.x[:, 0] ** 2).sum(), variance, rtol=1e-8, atol=0)


def self_normalised(score, x, t, s, noise):
    """The paper's Langevin step, whose size depends on its noise."""
    gradient, z = score(x, s.now), noise(x)
    size = 2 * (0.16 * z / gradient) ** 2
    return x + size * gradient + (2 * size).sqrt() * z


def squared(score, x, t, s, noise):
    """Noise that enters as its square, and not at all in a step of no length."""
    return x + (t.sigma - s.sigma) * noise(x) ** 2


@pytest.mark.parametrize("step", [self_normalised, squared, partial(annealed_langevin, n_steps=2)])
@pytest.mark.parametrize(
    "wrap", [walk, partial(walk, ancestral), lambda step: walk(walk(ancestral, step), ancestral)]
)
def test_a_step_whose_law_two_probes_do_not_tell_is_refused(step, wrap):
    # and two draws add in squares, not in lengths
    sde = VPSDE()
    with pytest.raises(ValueError, match="steps must be a step that adds one draw of noise"):
        sampler_law(exact_score(sde, deck_mixture()), sde, wrap(step), 5, grid=uniform)


def test_two_draws_are_refused_even_where_the_score_is_linear():
    # there twice the noise moves the state twice as far, as one draw does
    law, sde = normal_law(torch.ones(()), 200), VPSDE()
    twice = partial(annealed_langevin, n_steps=2)
    with pytest.raises(ValueError, match="steps must be a step that adds one draw of noise"):
        propagate(law, lambda x, t: -x, sde.path(torch.tensor([1.0, 0.5]), law.x), twice)


@pytest.mark.parametrize("n, n_probed", [(60, 60), (99, 99), (100, 50)])
def test_a_noisy_step_asks_the_score_once_at_the_nodes(n, n_probed):
    # its mean and deviation are read off the same value, after three probes on some of the nodes
    law, sde, sizes = normal_law(torch.ones(()), n), VPSDE(1.0, 1.0), []
    score = lambda x, t: sizes.append(len(x)) or -x
    propagate(law, score, sde.path(torch.tensor([1.0, 0.5]), law.x), reverse_diffusion)
    assert sizes == [n_probed] * 3 + [n]


@pytest.mark.parametrize("solver", [walk(partial(euler_maruyama, eta=0)), adams()])
def test_the_sampler_law_is_the_law_of_sample(solver):
    # the same nodes through reverse's loop, on the default grid, and denoised in the end
    sde, target = VPSDE(), deck_mixture()
    score = exact_score(sde, target)
    law = sampler_law(score, sde, solver, 10, 0.05)
    x = tabulate(sde.prior_log_prob, REACH * sde.sigma(torch.ones(()))).x
    *_, x = reverse(score, sde, x, run_times(sde, solver, 10, 0.05), solver)
    assert_close(law.x, x)


def test_a_step_may_differentiate_the_score():
    # x + h^2 / 2 (d score / dx) score and the like: the law's two probes share no graph
    def second_order(score, x, t, s, noise):
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            (slope,) = torch.autograd.grad(score(x, t.now).sum(), x)
        return ancestral(score, x.detach(), t, s, noise) + 1e-3 * slope

    sde = VPSDE()
    law = sampler_law(exact_score(sde, deck_mixture()), sde, walk(second_order), 10, grid=uniform)
    assert law.wasserstein(deck_mixture()) < 0.5


def test_a_step_that_folds_the_line_is_refused():
    def mirror(score, x, t, s, noise):
        return -x

    law, sde = normal_law(torch.ones(()), 200), VPSDE()
    with pytest.raises(ValueError, match="steps must be increasing in x, got ones that fold mass"):
        propagate(law, lambda x, t: -x, sde.path(torch.tensor([1.0, 0.5]), law.x), mirror)


def test_a_solver_that_draws_noise_of_its_own_has_no_law():
    def restless(score, x, path, noise):
        for _ in path[1:]:
            yield x + noise(x)

    with pytest.raises(ValueError, match="solver must be a walk, or one that draws no noise"):
        sampler_law(lambda x, t: -x, VPSDE(), restless, 5)


@pytest.mark.parametrize("solver", [walk(euler_maruyama), walk(heun), adams()])
@pytest.mark.parametrize("last", [1.0, 0.5])
def test_a_score_that_is_nan_from_the_start_or_on_the_way_is_refused(solver, last):
    # and does not make the search for nodes go on for ever
    score = lambda x, t: -x if t > last else x * math.nan
    with pytest.raises(ValueError, match="what steps make of the score must be finite"):
        sampler_law(score, VPSDE(), solver, 5)


def test_noise_too_small_for_any_nodes_is_refused():
    law, sde = normal_law(torch.ones(()), 200), VPSDE()
    whisper = partial(euler_maruyama, eta=1e-9)
    with pytest.raises(ValueError, match="step must be one whose noise reaches from node to node"):
        propagate(law, lambda x, t: -x, sde.path(torch.tensor([1.0, 0.5]), law.x), whisper)


def test_a_point_is_a_law_whose_nodes_are_equal():
    sde, point = VPSDE(), Law(torch.full((2, 1), 1.5), torch.tensor([0.5, 0.5]))
    path = [sde.at(0.5, point.x), sde.at(0.4, point.x)]
    law = propagate(point, lambda x, t: torch.zeros_like(x), path, reverse_diffusion, per_std=32.0)
    r, q = transition(path[1], path[0])
    levels = torch.tensor([0.1, 0.5, 0.8])
    exact = (2 - r) * 1.5 + q * torch.special.ndtri(levels)
    assert_close(law.quantile(levels)[:, 0], exact, rtol=0, atol=2e-4 * q)  # linear between nodes


def test_a_step_may_make_a_point_of_a_law():
    law, sde = normal_law(torch.ones(()), 20), VPSDE()
    path = sde.path(torch.tensor([1.0, 0.5]), law.x)
    point = propagate(law, lambda x, t: -x, path, lambda score, x, t, s, noise: 0 * x)
    assert not point.x.any() and point.weights is law.weights


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_law_has_the_dtype_of_its_extent(dtype):
    law = tabulate(lambda x: -x[:, 0], torch.tensor(2.0, dtype=dtype))
    assert law.x.dtype == law.weights.dtype == dtype and len(law.x) == 3000


def test_the_sampler_law_is_in_double_precision_whatever_the_default():
    torch.set_default_dtype(torch.float32)
    law = sampler_law(lambda x, t: -x, VPSDE(), adams(), 2)
    assert law.x.dtype == law.weights.dtype == torch.float64


def test_what_is_not_given_is_as_in_sample_and_as_in_propagate():
    here, there, steps = (
        {name: p.default for name, p in inspect.signature(function).parameters.items()}
        for function in (sampler_law, sample, propagate)
    )
    assert (here["n_steps"], here["t_min"]) == (there["n_steps"], there["t_min"]) == (500, 1e-3)
    assert here["per_std"] == steps["per_std"] == 5


# What is refused


def nodes(*values):
    return torch.tensor(values)[:, None]


@pytest.mark.parametrize(
    "x, weights, message",
    [
        (nodes(0.0, 1.0), torch.tensor([0.5, math.nan]), "weights must be finite everywhere"),
        (nodes(0.0, 1.0), nodes(0.5, 0.5), r"weights must be of shape \(n,\)"),
        (nodes(0.0), torch.ones(1), " must be one of two nodes or more, got one of 1 nodes"),
        (nodes(0.0, math.inf), torch.tensor([0.5, 0.5]), "x must be finite everywhere"),
        (torch.tensor([0.0, 1.0]), torch.tensor([0.5, 0.5]), r"x must be of shape \(2, 1\)"),
        (nodes(0.0, 1.0), torch.tensor([1.5, -0.5]), "weights must be at least 0 and of sum 1"),
        (nodes(0.0, 1.0), torch.ones(2), "weights must be at least 0 and of sum 1, got .* sum 2"),
        (nodes(1.0, 0.0), torch.tensor([0.5, 0.5]), "x must be in order, got mass 5e-01 at fall"),
    ],
)
@pytest.mark.parametrize(
    "name, call",
    [
        ("law", lambda law: law.cdf(torch.zeros(1, 1))),
        ("law", lambda law: spread(law, torch.zeros(2, 1), torch.ones(2, 1), 5.0)),
        ("start", lambda law: sampler_law(lambda x, t: -x, VPSDE(), adams(), 2, start=law)),
    ],
    ids=["self", "law", "start"],
)
def test_what_is_no_law_is_refused(x, weights, message, name, call):
    with pytest.raises(ValueError, match=rf"^{name}\.?{message}"):
        call(Law(x, weights))


def test_a_method_of_a_law_is_for_laws():
    with pytest.raises(TypeError, match="^law must be a Law, got tuple"):
        Law.cdf((nodes(0.0, 1.0), torch.tensor([0.5, 0.5])), torch.zeros(1, 1))


def test_little_mass_may_lie_at_falling_nodes():
    law = Law(nodes(0.0, 1.0, 0.9), torch.tensor([0.5, 0.5 - 1e-7, 1e-7]))
    assert_close(law.push(lambda x: x + 1).x, law.x + 1)


HALVES = Law(nodes(0.0, 1.0).double(), torch.tensor([0.5, 0.5]).double())
STILL = partial(euler_maruyama, eta=0)


def along(times, score=lambda x, t: -x, step=STILL, **options):
    path = [VPSDE().at(t, HALVES.x) for t in times]
    return propagate(HALVES, score, path, step, **options)


def shrinking(score, x, t, s, noise):
    return x if t.now > 0.6 else x[:1]


def short_of_one(score, x, path, noise):
    yield x[:1]


def level(x):
    return torch.zeros(len(x))


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: HALVES.cdf(torch.zeros(3)), r"x must be of shape \(m, 1\)"),
        (lambda: HALVES.log_prob(torch.zeros(3)), r"x must be of shape \(m, 1\)"),
        (lambda: HALVES.quantile(torch.zeros(3, 1)), r"u must be of shape \(m,\)"),
        (lambda: HALVES.quantile(torch.tensor([0.5, 1.1])), r"u must be in \[0, 1\]"),
        (lambda: HALVES.push(lambda x: x[:, 0]), r"move\(x\) must be of shape \(2, 1\)"),
        (lambda: tabulate(level, torch.zeros(())), "extent must be one above 0"),
        (lambda: tabulate(level, torch.tensor(math.inf)), "extent must be one above 0"),
        (lambda: tabulate(level, torch.ones(1)), "extent must be one above 0"),
        (lambda: tabulate(level, torch.ones(()), 1), "n must be at least 2, got 1"),
        (lambda: tabulate(lambda x: x, torch.ones(())), r"log_prob\(x\) must be of shape"),
        (lambda: spread(HALVES, level(HALVES.x), HALVES.x + 2, 5.0), "mean must be of shape"),
        (lambda: spread(HALVES, HALVES.x, level(HALVES.x) + 2, 5.0), "std must be of shape"),
        (lambda: spread(HALVES, HALVES.x, HALVES.x, 5.0), "std must be positive everywhere"),
        (lambda: spread(HALVES, HALVES.x, HALVES.x + 2, 0.0), "per_std must be positive, got 0"),
        (
            lambda: spread(HALVES, nodes(0.0, 0.0), nodes(1.0, 1e-300), 5.0),
            "per_std must be smaller, or the noise more even",
        ),
        (lambda: along([1.0, 0.5], per_std=0.0), "per_std must be positive, got 0"),
        (lambda: along([0.5, 1.0]), "path must be of two instants or more, none later"),
        (lambda: along([1.0, 0.5], score=lambda x, t: x[:1]), r"score\(x, t\) must be of shape"),
        (lambda: along([1.0, 0.5, 0.2], step=shrinking), r"what steps .* of shape \(2, 1\)"),
        (
            lambda: sampler_law(lambda x, t: -x, VPSDE(), short_of_one, 5),
            "what solver yields must be of shape",
        ),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        call()


def test_the_least_that_is_allowed():
    law = tabulate(level, torch.tensor(0.5), 2)
    assert_close(law, Law(nodes(-0.5, 0.5), torch.tensor([0.5, 0.5])))
    assert_close(law.quantile(torch.tensor([0.0, 1.0])), law.x)


UNIT = GaussianMixture(torch.ones(1), torch.zeros(1, 1), torch.ones(1, 1))


def test_laws_and_instants_are_equal_where_their_numbers_are():
    law, sde = tabulate(UNIT.log_prob, torch.tensor(8.0), 50), VPSDE()
    twin = Law(law.x.clone(), law.weights.clone())
    assert law == twin and twin in [law] and (law != twin) is False
    assert law != Law(law.x + 1, law.weights) and law != tuple(law)
    ts = torch.tensor([0.2, 0.7])
    assert sde.at(ts) == sde.at(ts.clone()) and sde.at(ts) != sde.at(ts + 0.1)
    assert sde.at(0.5) == sde.at(0.5) and sde.at(0.5) != sde.at(0.4)


def test_a_density_at_nothing_is_nothing_and_beyond_the_nodes_zero():
    law = tabulate(UNIT.log_prob, torch.tensor(8.0), 50)
    found = law.log_prob(torch.tensor([[math.nan], [9.0], [0.0]]))
    assert found[0].isnan() and found[1] == -math.inf and found[2].isfinite()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_density_makes_no_law(value):
    with pytest.raises(ValueError, match=r"log_prob\(x\) must be that of a density"):
        tabulate(lambda x: torch.full((len(x),), value), torch.tensor(1.0), 9)
    law = tabulate(UNIT.log_prob, torch.tensor(8.0), 50)
    for name, mean, std in (("mean", value, 1.0), ("std", 0.0, value)):
        with pytest.raises(ValueError, match=f"{name} must be finite everywhere"):
            spread(law, mean + 0 * law.x, std + 0 * law.x, 5)


def test_a_density_may_be_0_in_places():
    def log_prob(x):  # uniform on [0, 1]
        return torch.where((x[:, 0] >= 0) & (x[:, 0] <= 1), 0.0, -math.inf)

    law = tabulate(log_prob, torch.tensor(2.0), 4001)
    assert (law.x[:, 0] @ law.weights).item() == pytest.approx(0.5, abs=1e-3)  # a spacing
    assert law.weights[0] == law.weights[-1] == 0


def test_a_point_has_no_density():
    point = Law(torch.full((3, 1), 1.5), torch.full((3,), 1 / 3))
    with pytest.raises(
        ValueError, match=r"^law\.x must be different nodes: a point has no density"
    ):
        point.log_prob(torch.ones(2, 1))
