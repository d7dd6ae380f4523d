"""Formulas that were published wrong, in the deck, in the papers' code or elsewhere, and slips of a
sign, a factor, an index or a time in the book's equations: each must be caught by a named test.

Every entry puts one wrong formula in place of the right one and names the test that has to fail for
it. A test that passes with a wrong formula is not a test of that formula.
"""

import inspect
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import test_guidance
import test_laws
import test_learned
import test_likelihood
import test_metrics
import test_mixtures
import test_samplers
import test_score
import test_sde
import test_training
import torch

from sdelib import guidance, laws, learned, likelihood, metrics, samplers, score, steps, training
from sdelib.mixtures import GaussianMixture
from sdelib.samplers import walk
from sdelib.sde import SDE, VESDE, VPSDE, CosineSDE, SubVPSDE, like, transition
from sdelib.steps import ancestral_2s, euler_maruyama, heun, langevin
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
        equation: Label of the book's equation that it garbles, if it has one.
    """

    says: str
    formula: Callable
    test: Callable
    arguments: tuple
    replaces: tuple[object, str]
    equation: str = ""

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


VP, VE, SUB, COSINE = VPSDE(), VESDE(), SubVPSDE(), CosineSDE(0.01)
TARGET = GaussianMixture(
    torch.tensor([0.3, 0.7]),
    torch.tensor([[-1.0, 0.5], [1.0, -0.3]]),
    torch.tensor([[0.2, 0.1], [0.1, 0.3]]),
).to(torch.zeros((), dtype=torch.float64))


def wrong_step(
    says: str, step: Callable, test: Callable, equation: str, right=euler_maruyama
) -> Wrong:
    """A wrong step of a sampler, for a test that takes the step as its last argument."""
    replaces = (test_samplers, right.__name__)
    return Wrong(says, step, test, (VP, TARGET, right), replaces, equation)


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
        "VP mean exp(-int beta), without the 1/2",
        shrink_twice,
        MOMENTS,
        (VP,),
        (VPSDE, "alpha"),
        equation="eq-moments",
    ),
    Wrong(
        "1 - beta_i for its cumulative product",
        step_rate_for_product,
        MOMENTS,
        (VP,),
        (VPSDE, "alpha"),
        equation="eq-moments",
    ),
    Wrong(
        "beta for sqrt(beta) as the diffusion",
        beta_itself,
        MOMENTS,
        (VP,),
        (VPSDE, "g"),
        "eq-coefficients",
    ),
    Wrong(
        "a diffusion that forgets the batch",
        diffusion_without_batch,
        MOMENTS,
        (VP,),
        (VPSDE, "g"),
    ),
    Wrong(
        "VE diffusion without sqrt(2 log)",
        geometric_without_log,
        MOMENTS,
        (VE,),
        (VESDE, "g"),
        "eq-coefficients",
    ),
    Wrong(
        "VE variance sigma(t)^2, not less sigma(0)^2",
        geometric_variance,
        test_sde.test_kernel_starts_at_the_data,
        (VE,),
        (VESDE, "sigma"),
        equation="eq-kernel-integrals",
    ),
    Wrong(
        "uniform noise for normal",
        uniform_noise,
        test_sde.test_perturb_draws_from_the_kernel,
        (VP, "cpu"),
        (SDE, "perturb"),
        equation="eq-kernel",
    ),
    Wrong(
        "a standard deviation passed for a variance",
        deviation_for_variance,
        test_mixtures.test_mean_and_covariance_of_the_deck_mixture,
        (),
        (test_mixtures, "deck_mixture"),
        equation="eq-mixture",
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
        equation="eq-ve-from-vp",
    ),
    Wrong(
        "flow matching's weight g^2 for g^4 / 4",
        likelihood_weight,
        test_training.test_flow_matching_is_denoising_score_matching,
        (VP, TARGET),
        (test_training, "flow_matching_weight"),
        equation="eq-family-loss",
    ),
    Wrong(
        "denoising target of the wrong sign",
        target_of_the_wrong_sign,
        test_training.test_the_denoising_loss_is_least_at_the_exact_score,
        (VP, TARGET, independent),
        (test_training, "dsm_error"),
        equation="eq-target",
    ),
    Wrong(
        "sliced score matching with half of its divergence",
        divergence_counted_once,
        test_training.test_the_sliced_error_averages_to_the_implicit_one,
        (VP, TARGET),
        (test_training, "ssm_error"),
        equation="eq-sliced",
    ),
    Wrong(
        "flow ODE with g for g^2",
        g_for_g_squared,
        test_samplers.test_reverse_drift_between_sde_and_ode,
        (VP, TARGET),
        (test_samplers, "reverse_drift"),
        equation="eq-flow-velocity",
    ),
    Wrong(
        "reverse SDE of a noise that depends on the state, without its divergence",
        backward_without_divergence,
        test_score.test_noise_that_depends_on_the_state_is_reversed_with_its_divergence,
        (),
        (test_score, "backward_drift"),
        equation="eq-general-reverse",
    ),
    wrong_step("reverse SDE with the score's sign turned", plus_for_minus, LIMIT, "eq-reverse-sde"),
    wrong_step("reverse SDE with its drift doubled", step_doubled, LIMIT, "eq-reverse-sde"),
    wrong_step(
        "reverse SDE as in the deck: signs of the falling clock, f and g of the rising one",
        signs_of_the_other_clock,
        LIMIT,
        "eq-errata-reversed",
    ),
    wrong_step(
        "reverse SDE on the forward clock with f and g at 1 - t",
        coefficients_of_the_reversed_time,
        LIMIT,
        "eq-reverse-clock",
    ),
    wrong_step(
        "a grid that ends at t_min stepped with dt = 1 / N",
        step_of_one_thousandth,
        LIMIT,
        "eq-reverse-sde",
    ),
    wrong_step(
        "noise multiplied by its variance", variance_for_its_root, LIMIT, "eq-reverse-diffusion"
    ),
    Wrong(
        "ancestral sampling with the larger of DDPM's two variances on data without width",
        larger_variance,
        test_samplers.test_ancestral_steps_are_exact_where_the_data_have_no_width,
        (VP,),
        (test_samplers, "ancestral"),
        equation="eq-ancestral",
    ),
    wrong_step(
        "corrector norms averaged over the batch",
        norms_of_the_batch,
        ALONE,
        "eq-pc-langevin",
        langevin,
    ),
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
        equation="eq-inpaint-exact",
    ),
    Wrong(
        "the weights that undo guidance grow with w^2, not with w (w - 1)",
        square_of_the_scale,
        test_guidance.test_weights_that_undo_guidance_grow_at_their_rate,
        (VP, TARGET),
        (test_guidance, "weight_rate"),
        equation="eq-guidance-rate",
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


# Slips in the book's equations: one place of the code that computes them, rewritten


def slip(
    equation: str, of: Callable, right: str, wrong: str, test: Callable, *arguments: object
) -> Wrong:
    """The function ``of`` with ``wrong`` where its source says ``right``."""
    home = sys.modules[of.__module__]
    head, quotes, body = textwrap.dedent(inspect.getsource(of)).rpartition('"""')
    if body.count(right) != 1:  # outside of the docstring, which has formulas too
        raise ValueError(f"right must be once in {of.__qualname__}, got {right}")
    exec(head + quotes + body.replace(right, wrong), names := dict(vars(home)))
    *owner, name = of.__qualname__.split(".")
    uses = sys.modules[test.__module__]
    place = getattr(home, owner[0]) if owner else uses if name in vars(uses) else home
    says = f"`{wrong}` for `{right}` in `{of.__qualname__}`"
    return Wrong(says, names[name], test, arguments, (place, name), equation)


# what catches them: a test and its arguments
CONSTANT = (test_score.test_a_constant_factor_of_the_density_does_not_matter, VP, TARGET)
LINEAR = (test_training.test_errors_of_a_linear_score, VP, (2,), torch.tensor(0.3))
HERMITE = (
    test_training.test_errors_differ_from_explicit_matching_by_vincents_and_hyvarinens_constants,
    test_training.SCORES["smooth"],
    0.3,
)
WEIGHTED = (
    test_training.test_the_weighted_integral_over_time_is_estimated,
    training.dsm_error,
    "likelihood",
)
QUADRATURE = (test_sde.test_transition_by_quadrature, VP)
POINT = (test_samplers.test_ancestral_is_exact_where_the_data_are_one_point,)
DDPM = (test_samplers.test_ancestral_and_reverse_diffusion_are_ddpms,)
DRIFT = (test_samplers.test_reverse_drift_between_sde_and_ode, VP, TARGET)
LAST = (VP, TARGET, steps.reverse_diffusion)
GEOMETRIC = (test_score.test_noise_that_depends_on_the_state_is_reversed_with_its_divergence,)
KEPT = (test_samplers.test_annealed_langevin_nearly_keeps_its_law, VP)
CORRECTOR = (
    test_samplers.test_a_corrector_takes_langevin_steps_at_the_earlier_time,
    VP,
    TARGET,
)
OTHER = (test_score.test_a_translated_score_is_the_other_process_own, VE, TARGET, VP)
PUBLISHED = (test_samplers.test_dpm_solver_is_the_published_recursion_on_uneven_steps,)
CLASS = (test_guidance.test_prior_plus_classifier_is_the_score_of_the_class, VP, TARGET, 1)
SCORES = (
    test_guidance.test_classifier_free_is_classifier_guidance_for_exact_scores,
    VP,
    TARGET,
    3.0,
)
KNOWN = (test_guidance.test_inpaint_is_exact_where_the_coordinates_are_independent, VP)
OBSERVED = (test_guidance.test_tweedie_likelihood_is_exact_for_gaussian_data, VP, 1)
GAUSSIAN = (test_learned.test_without_a_network_the_residual_score_is_that_of_a_gaussian, VP)
WRONG += [
    # chapter 1
    slip(
        "eq-unnormalised",
        score.grad_log,
        "out = log_prob(x, t)",
        "out = log_prob(x, t).exp()",
        *CONSTANT,
    ),
    slip(
        "eq-langevin",
        steps.annealed_langevin,
        "(2 * size)",
        "size",
        *CORRECTOR,
        steps.annealed_langevin,
    ),
    slip("eq-target", training.dsm_error, "+ z)", "+ z / like(sde.sigma(t), z))", *LINEAR),
    slip("eq-denoising", SDE.diffuse, "like(self.alpha(t), x0) * x0", "x0", *LINEAR),
    slip(
        "eq-denoising-constant", test_training.vincents_constant, "d - fisher", "-fisher", *HERMITE
    ),
    slip("eq-implicit", training.ism_error, "+ 2 * divergence", "+ divergence", *LINEAR),
    slip("eq-by-parts", training.ism_error, "+ 2 * divergence", "- 2 * divergence", *LINEAR),
    slip("eq-sliced", training.ssm_error, "(v * s)", "s", *LINEAR),
    slip(
        "eq-gap",
        training.ism_error,
        "like(sde.sigma(t), divergence) ** 2",
        "like(sde.sigma(t), divergence)",
        *LINEAR,
    ),
    slip("eq-lambda", training.expected, "sde.sigma(t) ** 2", "sde.sigma(t)", *WEIGHTED),
    slip(
        "eq-time-loss",
        training.expected,
        "t_min + (1 - t_min) * times",
        "(1 - t_min) * times",
        *WEIGHTED,
    ),
    # chapter 2
    slip(
        "eq-schedules", VPSDE.beta, "(self.beta_max - self.beta_min)", "self.beta_max", MOMENTS, VP
    ),
    slip(
        "eq-schedules",
        VPSDE.int_beta,
        "((self.beta_max - self.beta_min) / 2)",
        "(self.beta_max - self.beta_min)",
        MOMENTS,
        VP,
    ),
    slip(
        "eq-schedules",
        VESDE.sigma,
        "grown.exp()",
        "(grown / 2).exp()",
        test_sde.test_the_papers_constants,
    ),
    slip(
        "eq-kernel-integrals",
        VPSDE.sigma,
        "(-torch.expm1(-self.int_beta(t)))",
        "self.int_beta(t)",
        test_sde.test_kernel_by_quadrature,
        VP,
        0.3,
    ),
    slip(
        "eq-kernel",
        SDE.diffuse,
        "like(self.sigma(t), x0) * z",
        "like(self.sigma(t), x0) ** 2 * z",
        test_sde.test_perturb_draws_from_the_kernel,
        VP,
        "cpu",
    ),
    slip("eq-moments", SDE.g, "2 * self.f(early)", "self.f(early)", MOMENTS, COSINE),
    slip("eq-coefficients", SDE.f, "slope / alpha", "slope", MOMENTS, COSINE),
    slip("eq-coefficients", SubVPSDE.g, "-2 * self.int_beta(t)", "-self.int_beta(t)", MOMENTS, SUB),
    slip("eq-transition", transition, "t.alpha / s.alpha", "s.alpha / t.alpha", *QUADRATURE),
    slip("eq-transition", transition, "(r * s.sigma) ** 2", "r * s.sigma**2", *QUADRATURE),
    slip("eq-transition", transition, "(r * s.sigma) ** 2", "s.sigma**2", *QUADRATURE),
    slip(
        "eq-total-variance",
        GaussianMixture.perturb,
        "a**2 * self.variances",
        "a * self.variances",
        test_mixtures.test_perturbed_density_is_the_convolution,
    ),
    slip(
        "eq-prior-bound",
        SDE.prior_log_prob,
        "(x / sigma)",
        "x",
        test_sde.test_prior_is_a_normal_of_the_final_scale,
        VE,
    ),
    slip(
        "eq-prior-gaussian",
        test_likelihood.normal_divergence,
        "ratio - 1 - math.log(ratio)",
        "ratio - 1",
        test_likelihood.test_the_model_loses_the_priors_divergence_on_average,
    ),
    # chapter 3
    slip(
        "eq-backward-moments",
        steps.ancestral,
        "score(x, t.now)) / r",
        "score(x, t.now)) * r",
        *POINT,
    ),
    slip("eq-ancestral", steps.ancestral, "q * s.sigma / t.sigma", "q * t.sigma / s.sigma", *POINT),
    slip("eq-ancestral", steps.ancestral, "score(x, t.now)", "score(x, s.now)", *DDPM),
    slip("eq-reverse-diffusion", steps.reverse_diffusion, "1 - r", "r - 1", LIMIT, *LAST),
    slip("eq-reverse-diffusion", steps.reverse_diffusion, "q**2", "q**2 / 2", LIMIT, *LAST),
    slip("eq-small-step", euler_maruyama, "h**0.5", "h", LIMIT, VP, TARGET, euler_maruyama),
    slip("eq-small-step", euler_maruyama, "-t.f * h", "t.f * h", LIMIT, VP, TARGET, euler_maruyama),
    slip("eq-eta-family", score.reverse_drift, "(1 + eta**2)", "(1 + eta)", *DRIFT),
    slip(
        "eq-eta-family",
        euler_maruyama,
        "eta * t.g * h",
        "eta**2 * t.g * h",
        test_samplers.test_the_noise_is_the_one_passed_in,
        VP,
        TARGET,
    ),
    slip(
        "eq-general-reverse",
        test_score.backward_drift,
        "+ torch.einsum",
        "- torch.einsum",
        *GEOMETRIC,
    ),
    slip("eq-general-reverse", test_score.backward_drift, "D(x) @ grad", "G(x) @ grad", *GEOMETRIC),
    # chapter 4
    slip(
        "eq-pc-annealed",
        steps.annealed_langevin,
        "snr * s.sigma",
        "snr * t.sigma",
        *CORRECTOR,
        steps.annealed_langevin,
    ),
    slip(
        "eq-pc-annealed",
        steps.annealed_langevin,
        "score(x, s.now)",
        "score(x, t.now)",
        *CORRECTOR,
        steps.annealed_langevin,
    ),
    slip(
        "eq-langevin-sde",
        steps.annealed_langevin,
        "plus(x, size, score",
        "plus(x, size / 2, score",
        *KEPT,
    ),
    slip("eq-ula-variance", test_samplers.stationary_variance, "(2 * v)", "v", *KEPT),
    slip("eq-pc-langevin", langevin, "/ norm, x)) ** 2", "/ norm, x))", *CORRECTOR, langevin),
    slip("eq-pc-langevin", langevin, "r * snr", "snr", *CORRECTOR, langevin),
    slip(
        "eq-one-plus-r2",
        langevin,
        "like(z.flatten(1).norm(dim=1) / norm, x)",
        "1",
        test_samplers.test_langevin_inflates_the_variance_by_one_plus_snr_squared,
        0.5,
    ),
    slip("eq-ve-from-vp", score.translate, "sde.time_of(ratio)", "t", *OTHER),
    slip("eq-ve-from-vp", score.translate, "score(k * x, tau)", "score(x, tau)", *OTHER),
    # chapter 5
    slip(
        "eq-flow-velocity",
        steps._velocity,
        "(t.g**2) / 2",
        "t.g**2",
        test_samplers.test_flow_solvers_converge_at_their_order_to_the_closed_form,
        VP,
        walk(heun),
        2,
    ),
    slip(
        "eq-flow-change",
        likelihood.solve_flow,
        "t.g**2 / 2",
        "t.g / 2",
        test_likelihood.test_the_flow_of_a_normal_is_a_scaling,
        VP,
    ),
    slip(
        "eq-flow-likelihood",
        likelihood.log_likelihood,
        "+ integral",
        "- integral",
        test_likelihood.test_log_likelihood_is_the_exact_log_density,
        VP,
        TARGET,
    ),
    slip(
        "eq-hutchinson",
        likelihood.hutchinson,
        "product * e",
        "product",
        test_likelihood.test_hutchinson_is_the_quadratic_form_of_its_probe,
        (2,),
        3,
    ),
    slip(
        "eq-flow-exponential",
        samplers.dpm_solver_2m,
        "keep = s.sigma / t.sigma",
        "keep = s.alpha / t.alpha",
        *PUBLISHED,
    ),
    slip("eq-flow-2m", samplers.dpm_solver_2m, "h / (2 * h_last)", "h / h_last", *PUBLISHED),
    slip("eq-flow-2m", samplers.dpm_solver_2m, "lerp(last, d", "lerp(d, last", *PUBLISHED),
    # chapter 6
    slip(
        "eq-noisy-likelihood",
        test_guidance.log_class,
        "sde.alpha(t), sde.sigma(t)",
        "1.0, 0.0",
        *CLASS,
    ),
    slip(
        "eq-bayes-score",
        guidance.add,
        "prior(x, t) + likelihood(x, t)",
        "prior(x, t) - likelihood(x, t)",
        *CLASS,
    ),
    slip("eq-guided", guidance.classifier_free, "_times(1 - scale", "_times(1.0", *SCORES),
    slip("eq-guided", guidance.classifier_free, "_times(scale", "_times(1 + scale", *SCORES),
    slip("eq-inpaint-exact", guidance.inpaint, "alpha * y.to(fine)", "y.to(fine)", *KNOWN),
    slip("eq-inpaint-exact", guidance.inpaint, "sigma**2", "sigma", *KNOWN),
    slip("eq-tweedie-likelihood", guidance.tweedie_likelihood, "std**2", "std", *OBSERVED),
    slip(
        "eq-tweedie-likelihood",
        guidance.tweedie_likelihood,
        "alpha2 * variances",
        "variances",
        *OBSERVED,
    ),
    slip(
        "eq-guidance-rate",
        test_guidance.weight_rate,
        "w * (w - 1)",
        "2 * w * (w - 1)",
        test_guidance.test_weights_that_undo_guidance_grow_at_their_rate,
        VP,
        TARGET,
    ),
    # chapters 7 to 13
    slip("eq-mixture-loss", training.dsm_error, "sigma * s + z", "s + z", *LINEAR),
    slip(
        "eq-smile-residual",
        learned.ResidualScore.forward,
        "like(alpha, x) * self.mean",
        "self.mean",
        *GAUSSIAN,
    ),
    slip(
        "eq-smile-residual",
        learned.ResidualScore.forward,
        "return scale * (out - u)",
        "return out - u",
        *GAUSSIAN,
    ),
    slip(
        "eq-smile-denoiser",
        learned.ResidualScore.forward,
        "alpha / sigma",
        "sigma / alpha",
        test_learned.test_at_a_gain_of_alpha_over_sigma_the_network_denoises,
        VP,
    ),
    slip(
        "eq-smile-loss",
        training.edm_weight,
        "(sde.sigma(t) / sde.alpha(t))",
        "sde.sigma(t)",
        test_training.test_the_edm_weight_makes_the_error_that_of_the_denoised_datum,
        VP,
    ),
    slip(
        "eq-smile-loss",
        training.log_normal_times,
        "centre + spread",
        "centre - spread",
        test_training.test_log_normal_times_have_their_quantiles,
        VP,
    ),
    slip(
        "eq-smile-energy",
        metrics.energy_distance,
        "2 * xy",
        "xy",
        test_metrics.test_energy_distance_is_the_area_between_the_distribution_functions_squared,
    ),
    slip(
        "eq-digits-score",
        learned.MixtureResidualScore.forward,
        "alpha * self.variance.sqrt() / (sigma * std)",
        "alpha / sigma",
        test_learned.test_the_network_is_asked_for_numbers_of_order_one_when_the_mixture_is_one_gaussian,
        VP,
    ),
    slip(
        "eq-digits-ve",
        score.translate,
        "sde.alpha(tau) / to.alpha(t)",
        "to.alpha(t) / sde.alpha(tau)",
        *OTHER,
    ),
    slip(
        "eq-quality-bound",
        laws.Law.total_variation,
        ".item() / 2",
        ".item()",
        test_laws.test_total_variation_and_kl_of_normals_are_the_closed_forms,
        lambda target: target,
    ),
    slip(
        "eq-quality-reach",
        samplers._adams_weights,
        "_back(gain, order)",
        "_back(1 / gain, order)",
        test_samplers.test_adams_uses_two_values_up_to_its_reach_and_one_beyond,
    ),
    slip(
        "eq-family-flow",
        steps.ddim,
        "t.sigma / r - s.sigma",
        "t.sigma - s.sigma",
        test_samplers.test_ddim_carries_the_means_of_datum_and_noise,
    ),
    slip(
        "eq-family-pair",
        score.reverse_drift,
        "like(sde.g(t), x) ** 2",
        "like(sde.g(t), x)",
        test_score.test_the_translations_of_the_notation_page,
        VP,
        TARGET,
    ),
    slip(
        "eq-family-loss",
        test_training.flow_matching_weight,
        "sde.g(t) ** 4 / 4",
        "sde.g(t) ** 4 / 2",
        test_training.test_flow_matching_is_denoising_score_matching,
        VP,
        TARGET,
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
