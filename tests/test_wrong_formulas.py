"""Formulas that were published wrong, in the deck, in the papers' code or elsewhere: each must be
caught by a named test.

Every entry puts one wrong formula in place of the right one and names the test that has to fail for
it. A test that passes with a wrong formula is not a test of that formula.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import test_guidance
import test_likelihood
import test_mixtures
import test_samplers
import test_score
import test_sde
import test_training
import torch

from sdelib.mixtures import GaussianMixture
from sdelib.samplers import walk
from sdelib.sde import SDE, VESDE, VPSDE, SubVPSDE, like, transition
from sdelib.steps import ancestral_2s, euler_maruyama, langevin
from sdelib.training import independent


@dataclass(frozen=True)
class Wrong:
    """A wrong formula, and the test that catches it.

    Args:
        says: What is wrong, in words.
        formula: The wrong formula.
        test: The test that must fail, called with ``arguments``.
        replaces: ``(module or class, name)`` of the right formula. Where that is among the
            arguments, the wrong one takes its place there as well.
    """

    says: str
    formula: Callable
    test: Callable
    arguments: tuple
    replaces: tuple[object, str]

    @property
    def caught_by(self) -> str:
        """The test's name, as pytest writes it."""
        return f"tests/{self.test.__module__}.py::{self.test.__name__}"

    def is_caught(self) -> bool:
        """Whether the test fails with the wrong formula in place."""
        torch.manual_seed(0)
        right = getattr(*self.replaces)
        arguments = [self.formula if value is right else value for value in self.arguments]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(*self.replaces, self.formula)
            try:
                self.test(*arguments)
            except AssertionError:
                return True
        return False


def shrink_twice(self, t):
    return torch.exp(-self.int_beta(t))


def geometric_without_log(self, t):
    return self.sigma_min * torch.exp(t * self.log_ratio)


def beta_itself(self, t):
    return self.beta(t)


def diffusion_without_batch(self, t):
    return self.beta(t).sqrt().mean()


def step_rate_for_product(self, t):
    return (1 - self.beta(t) / 1000).sqrt()


def geometric_variance(self, t):
    return self.sigma_min * torch.exp(t * self.log_ratio)


def uniform_noise(self, x0, t, generator=None):
    z = torch.rand(x0.shape, generator=generator)
    return like(self.alpha(t), x0) * x0 + like(self.sigma(t), x0) * z, z


def g_for_g_squared(score, sde, x, t, eta=1.0):
    return sde.drift(x, t) - (1 + eta**2) / 2 * sde.g(t) * score(x, t)


def plus_for_minus(score, x, t, s, noise):
    h, drift = t.time - s.time, t.f * x + t.g**2 * score(x, t.now)
    return x - drift * h + t.g * h**0.5 * noise(x)


def step_doubled(score, x, t, s, noise):
    h, drift = t.time - s.time, 2 * t.f * x - t.g**2 * score(x, t.now)
    return x - drift * h + t.g * h**0.5 * noise(x)


def coefficients_of_the_reversed_time(score, x, t, s, noise):
    u = t.sde.at(1 - t.time)
    h, drift = t.time - s.time, u.f * x - u.g**2 * score(x, t.now)
    return x - drift * h + u.g * h**0.5 * noise(x)


def signs_of_the_other_clock(score, x, t, s, noise):
    u = t.sde.at(1 - t.time)
    h, drift = t.time - s.time, u.f * x - u.g**2 * score(x, t.now)
    return x + drift * h + u.g * h**0.5 * noise(x)


def step_of_one_thousandth(score, x, t, s, noise):
    h, drift = 1e-3, t.f * x - t.g**2 * score(x, t.now)
    return x - drift * h + t.g * h**0.5 * noise(x)


def variance_for_its_root(score, x, t, s, noise):
    r, q = transition(s, t)
    return (2 - r) * x + q**2 * score(x, t.now) + q**2 * noise(x)


def larger_variance(score, x, t, s, noise):
    r, q = transition(s, t)
    return (x + q**2 * score(x, t.now)) / r + q * noise(x)


def noise_of_the_whole_step(score, x, t, s, noise, scale=1.0):
    quiet = ancestral_2s(score, x, t, s, torch.zeros_like, scale)
    return quiet + transition(s, t)[1] * noise(x)


def backwards(*steps):
    return walk(*reversed(steps))


def norms_of_the_batch(score, x, t, s, noise, snr=0.16):
    gradient, z = score(x, s.now), noise(x)
    size = 2 * (snr * z.norm(dim=1).mean() / gradient.norm(dim=1).mean()) ** 2
    return x + size * gradient + (2 * size).sqrt() * z


def no_correction_for_subvp(score, x, t, s, noise):
    return x if isinstance(t.sde, SubVPSDE) else langevin(score, x, t, s, noise)


def deviation_for_variance():
    return GaussianMixture(
        torch.full((2,), 0.5), torch.tensor([[-3.0], [3.0]]), torch.tensor([[0.25**2], [1.0]])
    )


def mean_from_the_noisy_state(score, sde, y, known):
    def conditional(x, t):
        kernel = (like(sde.alpha(t), x) * x - x) / like(sde.sigma(t), x) ** 2
        return torch.where(known, kernel, score(x, t))

    return conditional


def eight_bits_always(log_prob, dim, width):
    return -log_prob / (dim * torch.tensor(2.0).log()) + 7  # right for 256 levels on [-1, 1] only


def target_of_the_wrong_sign(score, sde, x0, t, z):
    x_t = like(sde.alpha(t), x0) * x0 + like(sde.sigma(t), x0) * z
    return (like(sde.sigma(t), z) * score(x_t, t) - z).flatten(1).square().sum(1)


def divergence_counted_once(score, sde, x0, t, z, v):
    x_t = sde.diffuse(x0, t, z).requires_grad_()
    s = score(x_t, t)
    row = torch.autograd.grad((v * s).sum(), x_t)[0]
    return like(sde.sigma(t), t) ** 2 * (s.square() + v * row).sum(1)


def denoise_without_alpha(score, sde, x, t):
    return x + like(sde.sigma(t), x) ** 2 * score(x, t)


def backward_without_divergence(f, G, log_p, x):
    return -f(x) + G(x) @ G(x).T @ torch.func.grad(log_p)(x)


def translated_without_the_outer_scale(score, sde, to):
    def translated(x, t):
        tau = sde.time_of(to.sigma(t) / to.alpha(t))
        return score(like(sde.alpha(tau) / to.alpha(t), x) * x, tau)

    return translated


def square_of_the_scale(w):
    return w**2


def likelihood_weight(sde, t):
    return sde.g(t) ** 2


VP, VE, SUB = VPSDE(), VESDE(), SubVPSDE()
TARGET = GaussianMixture(
    torch.tensor([0.3, 0.7]),
    torch.tensor([[-1.0, 0.5], [1.0, -0.3]]),
    torch.tensor([[0.2, 0.1], [0.1, 0.3]]),
).to(torch.zeros((), dtype=torch.float64))


def wrong_step(says: str, step: Callable, test: Callable, right=euler_maruyama) -> Wrong:
    """A wrong step of a sampler, for a test that takes the step as its last argument."""
    return Wrong(says, step, test, (VP, TARGET, right), (test_samplers, right.__name__))


MOMENTS = test_sde.test_kernel_solves_the_moment_odes
ALONE = test_samplers.test_a_step_treats_every_state_alone
LIMIT = test_samplers.test_noisy_steps_are_the_reverse_sde_in_the_limit
WRONG = [
    Wrong(
        "noise of the whole step after the flow, not that of the way back",
        noise_of_the_whole_step,
        test_samplers.test_ancestral_2s_is_the_flow_beyond_to_third_order_and_noise_back,
        (VP, TARGET, 1.0),
        (test_samplers, "ancestral_2s"),
    ),
    Wrong(
        "VP mean exp(-int beta), without the 1/2", shrink_twice, MOMENTS, (VP,), (VPSDE, "alpha")
    ),
    Wrong(
        "1 - beta_i for its cumulative product",
        step_rate_for_product,
        MOMENTS,
        (VP,),
        (VPSDE, "alpha"),
    ),
    Wrong("beta for sqrt(beta) as the diffusion", beta_itself, MOMENTS, (VP,), (VPSDE, "g")),
    Wrong(
        "a diffusion that forgets the batch", diffusion_without_batch, MOMENTS, (VP,), (VPSDE, "g")
    ),
    Wrong("VE diffusion without sqrt(2 log)", geometric_without_log, MOMENTS, (VE,), (VESDE, "g")),
    Wrong(
        "VE variance sigma(t)^2, not less sigma(0)^2",
        geometric_variance,
        test_sde.test_kernel_starts_at_the_data,
        (VE,),
        (VESDE, "sigma"),
    ),
    Wrong(
        "uniform noise for normal",
        uniform_noise,
        test_sde.test_perturb_draws_from_the_kernel,
        (VP, "cpu"),
        (SDE, "perturb"),
    ),
    Wrong(
        "a standard deviation passed for a variance",
        deviation_for_variance,
        test_mixtures.test_mean_and_covariance_of_the_deck_mixture,
        (),
        (test_mixtures, "deck_mixture"),
    ),
    Wrong(
        "Tweedie's formula without dividing by alpha",
        denoise_without_alpha,
        test_score.test_denoise_is_the_posterior_mean,
        (VP, TARGET),
        (test_score, "denoise"),
    ),
    Wrong(
        "a score carried to another process without its own scale",
        translated_without_the_outer_scale,
        test_score.test_a_translated_score_is_the_other_process_own,
        (VE, TARGET, VP),
        (test_score, "translate"),
    ),
    Wrong(
        "flow matching's weight g^2 for g^4 / 4",
        likelihood_weight,
        test_training.test_flow_matching_is_denoising_score_matching,
        (VP, TARGET),
        (test_training, "flow_matching_weight"),
    ),
    Wrong(
        "denoising target of the wrong sign",
        target_of_the_wrong_sign,
        test_training.test_the_denoising_loss_is_least_at_the_exact_score,
        (VP, TARGET, independent),
        (test_training, "dsm_error"),
    ),
    Wrong(
        "sliced score matching with half of its divergence",
        divergence_counted_once,
        test_training.test_the_sliced_error_averages_to_the_implicit_one,
        (VP, TARGET),
        (test_training, "ssm_error"),
    ),
    Wrong(
        "flow ODE with g for g^2",
        g_for_g_squared,
        test_samplers.test_reverse_drift_between_sde_and_ode,
        (VP, TARGET),
        (test_samplers, "reverse_drift"),
    ),
    Wrong(
        "reverse SDE of a noise that depends on the state, without its divergence",
        backward_without_divergence,
        test_score.test_noise_that_depends_on_the_state_is_reversed_with_its_divergence,
        (),
        (test_score, "backward_drift"),
    ),
    wrong_step("reverse SDE with the score's sign turned", plus_for_minus, LIMIT),
    wrong_step("reverse SDE with its drift doubled", step_doubled, LIMIT),
    wrong_step(
        "reverse SDE as in the deck: signs of the falling clock, f and g of the rising one",
        signs_of_the_other_clock,
        LIMIT,
    ),
    wrong_step(
        "reverse SDE on the forward clock with f and g at 1 - t",
        coefficients_of_the_reversed_time,
        LIMIT,
    ),
    wrong_step("a grid that ends at t_min stepped with dt = 1 / N", step_of_one_thousandth, LIMIT),
    wrong_step("noise multiplied by its variance", variance_for_its_root, LIMIT),
    Wrong(
        "ancestral sampling with the larger of DDPM's two variances on data without width",
        larger_variance,
        test_samplers.test_ancestral_steps_are_exact_where_the_data_have_no_width,
        (VP,),
        (test_samplers, "ancestral"),
    ),
    wrong_step("corrector norms averaged over the batch", norms_of_the_batch, ALONE, langevin),
    Wrong(
        "corrector at s before the predictor has reached s",
        backwards,
        test_samplers.test_a_walk_takes_its_steps_in_order,
        (VP, TARGET),
        (test_samplers, "walk"),
    ),
    Wrong(
        "inpainting mean built from the noisy state",
        mean_from_the_noisy_state,
        test_guidance.test_known_coordinates_follow_the_kernel_from_the_clean_values,
        (VP, TARGET),
        (test_guidance, "inpaint"),
    ),
    Wrong(
        "the weights that undo guidance grow with w^2, not with w (w - 1)",
        square_of_the_scale,
        test_guidance.test_weights_that_undo_guidance_grow_at_their_rate,
        (VP, TARGET),
        (test_guidance, "weight_rate"),
    ),
    Wrong(
        "the offset of 8-bit images in bits per dimension",
        eight_bits_always,
        test_likelihood.test_bits_of_uniform_levels_are_their_logarithm,
        (17,),
        (test_likelihood, "bits_per_dimension"),
    ),
    Wrong(
        "sub-VP without a corrector step",
        no_correction_for_subvp,
        test_samplers.test_a_corrector_takes_langevin_steps_at_the_earlier_time,
        (SUB, TARGET, langevin),
        (test_samplers, "langevin"),
    ),
]


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: wrong.says)
def test_the_right_formula_passes_the_same_test(wrong):
    # put in the wrong one's way: what fails is then the formula, not the exchange
    formula = getattr(*wrong.replaces)
    again = replace(wrong, formula=lambda *args, **options: formula(*args, **options))
    assert not again.is_caught(), f"{wrong.caught_by} fails with the right formula"


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: wrong.says)
def test_a_wrong_formula_is_caught(wrong):
    assert wrong.is_caught(), (
        f"{wrong.caught_by} passes with a wrong formula in place: {wrong.says}"
    )
