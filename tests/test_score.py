"""Exact scores against automatic differentiation; Tweedie's formula against Bayes' rule."""

import torch
from torch.testing import assert_close

from sdelib.samplers import reverse_drift
from sdelib.score import denoise, exact_score, grad_log


def test_exact_score_is_the_gradient_of_log_prob(sde, target):
    x, t = torch.randn(50, 2), 0.05 + 0.9 * torch.rand(50)
    log_prob = grad_log(lambda x, t: target.perturb(sde.alpha(t), sde.sigma(t)).log_prob(x))
    assert_close(exact_score(sde, target)(x, t), log_prob(x, t))


def test_a_constant_factor_of_the_density_does_not_matter(sde, target):
    x, t = torch.randn(5, 2), torch.tensor(0.5)

    def unnormalised(x, t):
        return target.perturb(sde.alpha(t), sde.sigma(t)).log_prob(x) + 3.0

    assert_close(grad_log(unnormalised)(x, t), exact_score(sde, target)(x, t))


def test_a_score_by_differentiation_can_be_differentiated_again(sde, target):
    # Its Jacobian is the Hessian of log p, as that of the closed form is; without a graph outside,
    # none is built inside
    x, t = torch.randn(4, 2), torch.tensor(0.4)
    score = grad_log(lambda x, t: target.perturb(sde.alpha(t), sde.sigma(t)).log_prob(x))

    def jacobian(score):
        return torch.autograd.functional.jacobian(lambda x: score(x, t), x)

    assert_close(jacobian(score), jacobian(exact_score(sde, target)))
    with torch.no_grad():
        assert not score(x.clone().requires_grad_(), t).requires_grad
    assert not score(x, t).requires_grad and not x.requires_grad


def test_scalar_and_batched_times_agree(sde, target):
    x, score = torch.randn(7, 2), exact_score(sde, target)
    assert_close(score(x, torch.tensor(0.3)), score(x, torch.full((7,), 0.3)))


def test_denoise_is_the_posterior_mean(sde, target):
    # Tweedie's formula; x_t = alpha x_0 + sigma z is a linear observation of x_0
    t = torch.tensor(0.4)
    x = sde.sigma(t) * torch.randn(5, 2)
    posterior_mean = torch.stack(
        [target.condition(sde.alpha(t) * torch.eye(2), x_t, sde.sigma(t).item()).mean for x_t in x]
    )
    assert_close(denoise(exact_score(sde, target), sde, x, t), posterior_mean)


def test_scores_follow_the_dtype_and_device_of_x(sde, target, device):
    x = torch.randn(3, 2, dtype=torch.float32, device=device)
    t = torch.tensor(0.5, dtype=torch.float32, device=device)
    score = exact_score(sde, target)
    for value in (score(x, t), denoise(score, sde, x, t)):
        assert value.dtype == x.dtype and value.device == x.device


def test_the_translations_of_the_notation_page(sde, target):
    # E[z | x_t], E[x_0 | x_t] from Bayes' rule on x_t = alpha x_0 + sigma z, against their
    # expressions by the score
    t, x = torch.tensor(0.4), torch.randn(5, 2)
    alpha, sigma, score = sde.alpha(t), sde.sigma(t), exact_score(sde, target)
    x0 = torch.stack([target.condition(alpha * torch.eye(2), x_t, sigma.item()).mean for x_t in x])
    z = (x - alpha * x0) / sigma
    assert_close(-sigma * score(x, t), z)
    assert_close(denoise(score, sde, x, t), x0)
    (_, alpha_rate), (_, sigma_rate) = (
        torch.func.jvp(c, (t,), (torch.ones(()),)) for c in (sde.alpha, sde.sigma)
    )
    assert_close(reverse_drift(score, sde, x, t, eta=0), alpha_rate * x0 + sigma_rate * z)
