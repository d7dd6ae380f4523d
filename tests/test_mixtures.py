"""The mixture against quadrature, torch.distributions and Bayes' rule."""

import math

import pytest
import torch
from scipy import integrate
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal
from torch.testing import assert_close

from sdelib.data import deck_mixture
from sdelib.mixtures import GaussianMixture


def test_log_prob_is_that_of_torch(target):
    reference = MixtureSameFamily(
        Categorical(target.weights), MultivariateNormal(target.means, target.covs)
    )
    x = 2 * torch.randn(50, 2)
    assert_close(target.log_prob(x), reference.log_prob(x))
    assert_close(target.log_joint(x).softmax(-1).sum(-1), torch.ones(50))


def test_covariances_survive_the_change_to_axes(target):
    expected = torch.tensor([[[0.2, 0.05], [0.05, 0.1]], [[0.1, -0.06], [-0.06, 0.15]]])
    assert_close(target.covs, expected)


def test_default_axes_are_the_coordinates(target):
    plain = GaussianMixture(target.weights, target.means, target.variances)
    spelt_out = GaussianMixture(
        target.weights, target.means, target.variances, torch.eye(2).repeat(2, 1, 1)
    )
    x = torch.randn(20, 2)
    for quantity in ("log_prob", "score"):
        assert_close(getattr(plain, quantity)(x), getattr(spelt_out, quantity)(x))
    assert_close(plain.covs, spelt_out.covs)


def test_sample_has_the_moments_of_the_mixture(target, device):
    n = 100_000
    target = target.to(torch.zeros((), device=device))
    x = target.sample(n, torch.Generator(device).manual_seed(0))
    assert ((x.mean(0) - target.mean).abs() < 6 * (target.cov.diagonal() / n).sqrt()).all()
    centred = x - target.mean
    outer = centred[:, :, None] * centred[:, None, :]
    assert ((outer.mean(0) - target.cov).abs() < 6 * outer.std(0) / math.sqrt(n)).all()
    assert target.sample(0).shape == (0, 2)


def test_perturbed_density_is_the_convolution():
    mixture, alpha, sigma = deck_mixture(), 0.7, 0.4
    noisy = mixture.perturb(torch.tensor(alpha), torch.tensor(sigma))
    for y in (-2.5, 0.0, 1.7):

        def joint(x, y=y):
            kernel = math.exp(-(((y - alpha * x) / sigma) ** 2) / 2) / (
                sigma * math.sqrt(2 * math.pi)
            )
            return mixture.log_prob(torch.tensor([[x]])).exp().item() * kernel

        density, _ = integrate.quad(joint, -12, 12, points=[-3, 3], limit=200)
        assert math.isclose(noisy.log_prob(torch.tensor([[y]])).exp().item(), density, rel_tol=1e-8)


def test_a_batch_of_times_holds_a_mixture_a_row(target):
    x, alpha, sigma = torch.randn(6, 2), torch.rand(6), 0.1 + torch.rand(6)
    batch = target.perturb(alpha, sigma)
    for i in range(6):
        one = target.perturb(alpha[i], sigma[i])
        assert_close(batch.score(x)[i], one.score(x[i : i + 1])[0])
        assert_close(batch.log_prob(x)[i], one.log_prob(x[i : i + 1])[0])


@pytest.mark.parametrize("std", [0.5, 1e-3])
def test_condition_obeys_bayes_rule(target, std):
    # log p(x | y) = log p(x) + log p(y | x) - log p(y), at every x
    A, y = torch.tensor([[1.0, -0.5]]), torch.tensor([0.4])
    posterior = target.condition(A, y, std)
    x = posterior.sample(40)
    log_likelihood = torch.distributions.Normal(x @ A.mT, std).log_prob(y)[:, 0]
    evidence = target.log_prob(x) + log_likelihood - posterior.log_prob(x)
    marginal = GaussianMixture.from_covs(
        target.weights, target.means @ A.mT, A @ target.covs @ A.mT + std**2
    )
    assert_close(evidence, marginal.log_prob(y[None]).expand(40), rtol=1e-6, atol=1e-6)


def test_mean_and_covariance_of_the_deck_mixture():
    mixture = deck_mixture()
    assert_close(mixture.mean, torch.zeros(1))
    assert_close(
        mixture.cov, torch.tensor([[9.625]])
    )  # (1/4 + 1) / 2 + 3^2: 1/4 and 1 are variances


def test_cdf_is_the_integral_of_the_density_and_quantile_its_inverse():
    mixture = deck_mixture()
    for x in (-3.2, 0.5, 4.0):
        mass, _ = integrate.quad(
            lambda v: mixture.log_prob(torch.tensor([[v]])).exp().item(), -15, x, points=[-3]
        )
        assert math.isclose(mixture.cdf(torch.tensor([[x]])).item(), mass, rel_tol=1e-8)
    levels = torch.tensor([1e-12, 0.01, 0.5, 0.7, 1 - 1e-9])
    assert_close(mixture.cdf(mixture.quantile(levels)), levels, rtol=1e-9, atol=1e-15)


def test_to_follows_dtype_and_device(target, device):
    moved = target.to(torch.zeros((), dtype=torch.float32, device=device))
    assert moved.score(torch.zeros(3, 2, dtype=torch.float32, device=device)).dtype == torch.float32
    assert target.to(torch.zeros(())) is target


W, M, V = torch.tensor([0.5, 0.5]), torch.zeros(2, 1), torch.ones(2, 1)


@pytest.mark.parametrize(
    "call, message",
    [
        (
            lambda: GaussianMixture(torch.tensor([0.5, 0.6]), M, V),
            "weights must be of sum 1, got .* of sum 1.1",
        ),
        (lambda: GaussianMixture(torch.tensor([1.5, -0.5]), M, V), "weights must be positive"),
        (
            lambda: GaussianMixture(W, torch.zeros(3, 1), V),
            r"means must be of shape \(K, d\), K = 2, got shape \(3, 1\)",
        ),
        (
            lambda: GaussianMixture(W, M, torch.ones(2)),
            r"variances must be of shape \(2, 1\), got shape \(2,\)",
        ),
        (lambda: GaussianMixture(W, M, -V), "variances must be positive, got values down to -1"),
        (
            lambda: GaussianMixture(W, M * math.nan, V),
            "means must be finite everywhere, got NaN or infinity",
        ),
        (
            lambda: GaussianMixture(W, M, V, torch.eye(2)),
            r"axes must be of shape \(2, 1, 1\), got shape \(2, 2\)",
        ),
        (lambda: GaussianMixture.from_covs(W, M, -V[..., None]), "covs must be positive definite"),
        (
            lambda: deck_mixture().score(torch.zeros(4)),
            r"x must be of shape \(B, 1\), got shape \(4,\)",
        ),
        (lambda: deck_mixture().sample(-1), "n must be at least 0, got -1"),
        (
            lambda: deck_mixture().condition(torch.ones(1, 1), torch.ones(1), 0.0),
            "std must be positive, got 0.0",
        ),
        (
            lambda: deck_mixture().condition(torch.ones(1, 2), torch.ones(1), 1.0),
            r"A must be of shape \(m, 1\)",
        ),
        (
            lambda: deck_mixture().quantile(torch.tensor([0.0])),
            r"u must be inside \(0, 1\), got values from 0 to 0",
        ),
    ],
)
def test_bad_values_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_plane_has_no_quantiles(target):
    with pytest.raises(ValueError, match="dimension must be 1"):
        target.cdf(torch.zeros(1, 2))


def test_arrays_that_are_not_tensors_are_refused():
    with pytest.raises(TypeError, match="weights must be a floating-point tensor, got list"):
        GaussianMixture([0.5, 0.5], M, V)


def test_from_classes_has_each_classs_share_mean_and_covariance():
    labels = torch.tensor([0] * 5 + [1] * 15)
    x = torch.randn(20, 2, 2) * (1 + labels)[:, None, None]
    mixture = GaussianMixture.from_classes(x, labels, pooled=0.0)
    assert_close(mixture.weights, torch.tensor([0.25, 0.75]))
    for k in (0, 1):
        part = x[labels == k].flatten(1)
        assert_close(mixture.means[k], part.mean(0))
        assert_close(mixture.covs[k], torch.cov(part.T))


def test_a_mixture_perturbed_at_no_times_scores_no_points(target):
    nothing = torch.zeros(0)
    assert target.perturb(nothing, nothing).score(torch.zeros(0, 2)).shape == (0, 2)


def test_from_classes_pools_covariances_and_adds_white_noise():
    labels, x = torch.arange(40) % 2, torch.randn(40, 3)
    x[::2] *= 3
    own, half, pooled = (
        GaussianMixture.from_classes(x, labels, p, noise=0.7).covs for p in (0.0, 0.5, 1.0)
    )
    assert_close(pooled[0], own.mean(0))
    assert_close(pooled[1], own.mean(0))
    assert_close(half, (own + pooled) / 2)
    assert_close(own[0], torch.cov(x[::2].T) + 0.7 * torch.eye(3))


def test_the_score_is_the_mean_of_the_pulls(target):
    x = torch.randn(5, 2)
    shares = target.log_joint(x).softmax(1)
    assert_close((shares[..., None] * target.pulls(x)).sum(1), target.score(x))
    for k in range(2):
        alone = GaussianMixture(
            torch.ones(1), target.means[[k]], target.variances[[k]], target.axes[[k]]
        )
        assert_close(target.pulls(x)[:, k], alone.score(x))


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(labels=torch.tensor([0, 0, 1])), "labels must be two or more points a class"),
        (dict(labels=torch.tensor([0, 0])), r"labels must be of shape \(3,\)"),
        (dict(pooled=1.5), "pooled must be in"),
        (dict(noise=-1.0), "noise must be at least 0"),
        (dict(), "covs must be positive definite"),
    ],
)
def test_from_classes_names_what_it_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        GaussianMixture.from_classes(
            **{"x": torch.ones(3, 2), "labels": torch.tensor([0, 0, 0]), **arguments}
        )
