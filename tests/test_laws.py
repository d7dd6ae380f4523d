"""The laws of samplers without Monte Carlo, against Gaussians, whose every step is a closed
form.
"""

import math
from functools import partial

import pytest
import torch
from torch.testing import assert_close

from sdelib.data import deck_mixture
from sdelib.grids import log_snr
from sdelib.laws import REACH, propagate, sampler_law, spread, tabulate
from sdelib.mixtures import GaussianMixture
from sdelib.samplers import annealed_langevin, chain, euler_maruyama, langevin, reverse
from sdelib.score import denoise, exact_score
from sdelib.sde import VPSDE


def normal_law(std, n):
    return tabulate(lambda x: -((x[:, 0] / std) ** 2) / 2, REACH * std, n)


def test_spread_is_exact_for_a_linear_gaussian_step():
    # X ~ N(0, 1), Y = 0.8 X + 1 + 0.3 Z ~ N(1, 0.64 + 0.09)
    law = normal_law(torch.tensor(1.0), 500)
    law = spread(law, 0.8 * law.x + 1, torch.full_like(law.x, 0.3), per_std=5)
    y = law.x[:, 0]
    density = torch.distributions.Normal(1.0, math.sqrt(0.73)).log_prob(y).exp()
    assert_close(law.weights / (y[1] - y[0]), density, rtol=1e-8, atol=1e-12)


def test_spread_allows_noise_that_depends_on_the_state():
    # Var(Y) = E c(X)^2 for Y = c(X) Z
    law = normal_law(torch.tensor(1.0), 2000)
    std = 0.2 + 0.1 * torch.sin(law.x)
    after = spread(law, torch.zeros_like(law.x), std, per_std=5)
    expected = (law.weights * std[:, 0] ** 2).sum()
    assert_close((after.weights * after.x[:, 0] ** 2).sum(), expected, rtol=1e-6, atol=0)


def normal_target(mean, std):
    return GaussianMixture(torch.ones(1), torch.full((1, 1), mean), torch.full((1, 1), std**2))


def test_the_start_replaces_the_prior():
    # From p_1 itself a Gaussian target has no prior error: what is left is less than what the prior
    # leaves
    sde, target = (
        VPSDE(1.0, 1.0),
        GaussianMixture(torch.ones(1), torch.ones(1, 1), torch.ones(1, 1)),
    )
    one, score = torch.ones(()), exact_score(sde, target)
    p_1 = tabulate(target.perturb(sde.alpha(one), sde.sigma(one)).log_prob, 10 * one)
    from_prior, from_p_1 = (sampler_law(score, sde, n_steps=200, start=law) for law in (None, p_1))
    assert from_p_1.wasserstein(target) < 0.01 < 0.1 < from_prior.wasserstein(target)


def test_nodes_too_coarse_for_the_noise_are_refused():
    sde, law = VPSDE(), normal_law(torch.ones(()), 20)
    with pytest.raises(ValueError, match="per_std must be larger"):
        spread(law, law.x, torch.full_like(law.x, 0.1), per_std=5)
    with pytest.raises(ValueError, match="per_std must be larger"):
        sampler_law(exact_score(sde, deck_mixture()), sde, euler_maruyama, n_steps=10, per_std=1.0)


def test_a_corrector_of_small_steps_gets_the_nodes_it_needs():
    # its noise is a twentieth of the predictor's, and the law does not depend on how many nodes
    # that one laid
    sde, step = VPSDE(), chain(euler_maruyama, partial(annealed_langevin, snr=0.05))
    few, many = (
        sampler_law(exact_score(sde, deck_mixture()), sde, step, 20, 1e-2, per_std=n)
        for n in (4, 16)
    )
    assert_close(
        few.wasserstein(deck_mixture()), many.wasserstein(deck_mixture()), rtol=1e-5, atol=0
    )


def test_noise_after_a_deterministic_step_gets_them_as_well():
    # Euler's flow moves the nodes apart; N(0, 1) stays normal under linear steps, so its variance
    # is a closed form
    sde, one = VPSDE(1.0, 1.0), torch.ones(())
    target, snr = normal_target(0.0, 1.0), 0.02
    step = chain(partial(euler_maruyama, eta=0), partial(annealed_langevin, snr=snr))
    ts, size = torch.tensor([1.0, 0.5]), 2 * (snr * sde.sigma(one / 2)) ** 2
    law = propagate(normal_law(one, 100), exact_score(sde, target), sde, step, ts)
    variance = (
        1 - size
    ) ** 2 + 2 * size  # N(0, 1) is stationary, its score is -x, and the flow stands still
    assert_close((law.weights * law.x[:, 0] ** 2).sum(), variance, rtol=1e-8, atol=0)


@pytest.mark.parametrize("step", [langevin, partial(annealed_langevin, n_steps=2)])
@pytest.mark.parametrize(
    "wrap", [lambda step: step, lambda step: chain(euler_maruyama, step)], ids=["alone", "chained"]
)
def test_a_step_whose_law_two_probes_do_not_tell_is_refused(step, wrap):
    # the size of a Langevin step may depend on its noise, and two draws add in squares, not in
    # lengths
    sde = VPSDE()
    with pytest.raises(ValueError, match="step must be one that adds one draw of noise"):
        sampler_law(exact_score(sde, deck_mixture()), sde, wrap(step), n_steps=5)


def test_the_sampler_law_is_the_law_of_sample():
    # the same nodes through sample's own loop, on another grid than the usual, and denoised in the
    # end
    sde, target = VPSDE(), deck_mixture()
    score, flow = exact_score(sde, target), partial(euler_maruyama, eta=0)
    law = sampler_law(score, sde, flow, 10, 0.05, grid=log_snr)
    x, ts = (
        tabulate(sde.prior_log_prob, REACH * sde.sigma(torch.ones(()))).x,
        log_snr(sde, 10, 0.05),
    )
    *_, x = reverse(score, sde, x, ts, flow)
    assert_close(law.x, denoise(score, sde, x, ts[-1]))


def test_a_step_that_folds_the_line_is_refused():
    def mirror(score, sde, x, t, s, noise=torch.randn_like):
        return -x

    with pytest.raises(ValueError, match="step must be increasing in x, got one that folds mass"):
        propagate(normal_law(torch.ones(()), 200), None, VPSDE(), mirror, torch.tensor([1.0, 0.5]))
