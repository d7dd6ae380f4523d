"""Laws as quadrature rules and their distances, against normal laws, where all are closed forms."""

import math
from functools import partial

import pytest
import torch
from scipy import stats
from torch.testing import assert_close

from sdelib.data import deck_mixture
from sdelib.mixtures import GaussianMixture
from sdelib.quadrature import Law, refine, tabulate


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


def test_mass_out_of_reach_counts():
    half = Law(
        *(part[1000:] for part in as_law(normal_target(0.0, 1.0), 2001))
    )  # the right half, of mass 1/2
    half = Law(half.x, half.weights / half.weights.sum())
    assert_close(
        half.total_variation(normal_target(0.0, 1.0)), 0.5, rtol=0, atol=5e-3
    )  # half a node at the edge
    assert as_law(normal_target(0.0, 1.0), 2001).kl(half) == math.inf
    assert_close(half.kl(normal_target(0.0, 1.0)), math.log(2), rtol=0, atol=2e-2)


def test_a_deterministic_step_keeps_the_weights():
    law = Law(torch.tensor([[0.0], [1.0]]), torch.tensor([0.25, 0.75]))
    moved = law.push(lambda x: 2 * x + 1)
    assert_close(moved.x, torch.tensor([[1.0], [3.0]]))
    assert moved.weights is law.weights
    assert_close(law.levels, torch.tensor([0.125, 0.625]))


@pytest.mark.parametrize("factor", [1, 2, 7])
def test_a_refined_law_is_the_same_law(factor):
    target, coarse = deck_mixture(), as_law(deck_mixture(), 150)
    fine = refine(coarse, factor)
    assert len(fine.x) == factor * 149 + 1
    assert_close(fine.weights.sum().item(), 1.0)
    assert_close(fine.x[::factor], coarse.x)
    density = fine.weights / fine.spacing
    assert_close(density[1:-1], target.log_prob(fine.x).exp()[1:-1], rtol=0, atol=1e-9)


def test_a_refined_law_has_no_negative_mass():
    # far out the Fourier series rounds to either sign, and a node of negative mass has no
    # log-density
    fine = refine(as_law(deck_mixture(), 150), 7)
    assert fine.weights.min() >= 0


def test_a_law_with_waves_too_short_to_refine_is_refused():
    # a width of half a step between nodes: its Fourier series has not died out at the shortest wave
    with pytest.raises(ValueError, match="per_std must be larger"):
        refine(tabulate(normal_target(0.0, 0.2).log_prob, torch.tensor(8.0), 41), 2)
