"""The mixture against quadrature, torch.distributions and Bayes' rule."""

import copy
import math
import pickle

import pytest
import torch
from scipy import integrate
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal
from torch.testing import assert_close

from sdelib.data import deck_mixture
from sdelib.mixtures import GaussianMixture, symmetrised


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
@pytest.mark.parametrize("seen", [1, 2, 3])
def test_condition_obeys_bayes_rule(target, std, seen):
    # log p(x | y) = log p(x) + log p(y | x) - log p(y), at every x
    A = torch.tensor([[1.0, -0.5], [0.3, 0.8], [-0.2, 0.1]])[:seen]
    y = A @ torch.tensor([0.5, 0.2])
    posterior = target.condition(A, y, std)
    x = posterior.sample(40)
    log_likelihood = torch.distributions.Normal(x @ A.mT, std).log_prob(y).sum(1)
    evidence = target.log_prob(x) + log_likelihood - posterior.log_prob(x)
    marginal = GaussianMixture.from_covs(
        target.weights, target.means @ A.mT, A @ target.covs @ A.mT + std**2 * torch.eye(seen)
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


def test_conditioning_far_out_leaves_a_weight_that_may_vanish():
    # By hand: y = 5 is all but impossible under the left component, N(-3, 1/4 + 1/100)
    y, std = 5.0, 0.1
    posterior = deck_mixture().condition(torch.eye(1), torch.tensor([y]), std)
    log_ratio = sum(
        sign * (-0.5 * (y - m) ** 2 / (v + std**2) - 0.5 * math.log(v + std**2))
        for sign, m, v in ((1, -3, 0.25), (-1, 3, 1.0))
    )
    assert math.isclose(posterior.weights[0].item(), math.exp(log_ratio), rel_tol=1e-9)
    assert posterior.weights[0] < 1e-52 and posterior.weights[1] == 1
    kept = torch.tensor([[0.25], [1.0]])
    assert_close(posterior.variances, kept * std**2 / (kept + std**2))
    prior_means = torch.tensor([[-3.0], [3.0]])
    assert_close(posterior.means, (kept * y + std**2 * prior_means) / (kept + std**2))
    # in single precision that weight is 0, and the density that of the other component
    single = posterior.to(torch.zeros((), dtype=torch.float32))
    assert single.weights[0] == 0
    x = torch.linspace(3, 6, 7, dtype=torch.float32)[:, None]
    alone = torch.distributions.Normal(single.means[1], single.variances[1].sqrt()).log_prob(x)
    assert_close(single.log_prob(x), alone[:, 0])
    assert single.score(x).isfinite().all() and single.sample(5).shape == (5, 1)


@pytest.mark.parametrize("std", [1e-3, 1e-7, 1e-12])
def test_conditioning_on_ever_sharper_observations_keeps_its_digits(target, std):
    # Seen almost exactly, a coordinate has the observation's variance; posteriors formed by a
    # difference would have lost it at 1e-8, the root of the rounding error
    posterior = target.condition(torch.tensor([[0.6, 0.8]]), torch.tensor([0.4]), std)
    along = torch.tensor([0.6, 0.8])
    assert_close(
        posterior.means @ along, torch.tensor([0.4, 0.4]), rtol=0, atol=30 * std**2 + 1e-15
    )
    narrow = posterior.variances.amin(1) / std**2
    assert_close(narrow, torch.ones(2), rtol=20 * std**2 + 1e-3 * (std < 1e-8), atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_honest_covariances_may_be_asymmetric_by_rounding(dtype):
    generator = torch.Generator().manual_seed(0)
    for scale in (1e-6, 1.0, 1e6):
        root = torch.randn(200, 10, 10, generator=generator, dtype=dtype)
        covs = scale * (root @ root.mT / 10 + 0.1 * torch.eye(10, dtype=dtype))
        rough = covs * (1 + 1e-6 * torch.randn(covs.shape, generator=generator, dtype=dtype))
        weights = torch.full((200,), 1 / 200, dtype=dtype)
        mixture = GaussianMixture.from_covs(weights, torch.zeros(200, 10, dtype=dtype), rough)
        assert_close(mixture.covs, (rough + rough.mT) / 2, rtol=1e-4, atol=1e-5 * scale)
        sheared = covs.clone()
        sheared[7, 2, 3] *= 1.1
        sheared[7, 2, 3] += 0.1 * scale
        with pytest.raises(ValueError, match="covs must be symmetric"):
            GaussianMixture.from_covs(weights, torch.zeros(200, 10, dtype=dtype), sheared)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_states_are_served_in_single(target, dtype):
    with pytest.raises(TypeError, match="single or double precision, got torch"):
        GaussianMixture(W.to(dtype), M.to(dtype), V.to(dtype))
    x = torch.randn(20, 2).to(dtype)
    served = target.to(x)
    assert served.means.dtype == torch.float32
    noisy = served.perturb(torch.tensor(0.5).to(dtype), torch.tensor(0.25).to(dtype))
    exact = target.perturb(0.5, 0.25)
    assert noisy.score(x).dtype == dtype  # the only rounding is that of the result
    assert_close(noisy.score(x).double(), exact.score(x.double()), rtol=8e-3, atol=1e-3)
    assert_close(noisy.log_prob(x).double(), exact.log_prob(x.double()), rtol=1e-5, atol=1e-5)


def test_times_in_double_do_not_change_single_precision(target):
    single = target.to(torch.zeros((), dtype=torch.float32))
    x, half = torch.randn(6, 2, dtype=torch.float32), torch.full((6,), 0.5)
    for coefficient in (0.5, torch.tensor(0.5), half):
        noisy = single.perturb(coefficient, coefficient)
        assert noisy.score(x).dtype == noisy.log_prob(x).dtype == torch.float32
    assert_close(noisy.score(x), single.perturb(0.5, 0.5).score(x))


def test_a_mixture_a_row_follows_the_dtype_of_the_states(target):
    batch, x = target.perturb(torch.rand(3), 0.1 + torch.rand(3)), torch.randn(3, 2)
    single = batch.to(x.float())
    for part in ("weights", "means", "variances", "axes"):
        assert torch.equal(getattr(single, part), getattr(batch, part).float())
    assert_close(single.log_prob(x.float()), batch.log_prob(x).float())


def test_moments_and_densities_of_a_mixture_a_row_and_what_it_has_not(target):
    alpha, sigma = torch.rand(2), 0.1 + torch.rand(2)  # as many as dimensions and components
    batch = target.perturb(alpha, sigma)
    for i in range(2):
        one = target.perturb(alpha[i], sigma[i])
        for moment in ("mean", "cov", "covs"):
            assert_close(getattr(batch, moment)[i], getattr(one, moment))
    line = deck_mixture().perturb(alpha, sigma)
    x = torch.tensor([[-1.0], [2.0]])
    for i in range(2):
        one = deck_mixture().perturb(alpha[i], sigma[i])
        assert_close(line.cdf(x)[i], one.cdf(x)[[i]][0])
    for call in (
        lambda: batch.sample(2),
        lambda: batch.condition(torch.eye(2), torch.zeros(2), 1.0),
        lambda: line.quantile(torch.tensor([0.5, 0.5])),
    ):
        with pytest.raises(
            ValueError, match=r"coefficients must be of shape \(\) for a mixture to"
        ):
            call()
    with pytest.raises(ValueError, match=r"x must be of shape \(2, 2\), got shape \(3, 2\)"):
        batch.score(torch.zeros(3, 2))


def test_narrow_and_distant_components_keep_their_digits():
    # Components 1e-6 wide, 2e6 apart: the score near each is that of the component alone
    mixture = GaussianMixture(W, torch.tensor([[-1e6], [1e6]]), torch.full((2, 1), 1e-12))
    x = mixture.means + torch.tensor([[2e-6], [-1e-6]])
    exact = -(x - mixture.means) / 1e-12  # of the x that there is: numbers there are 1e-10 apart
    assert_close(mixture.score(x), exact)
    levels = torch.tensor([0.1, 0.4, 0.6, 0.9])
    u = torch.special.ndtri(torch.tensor([0.2, 0.8, 0.2, 0.8])) * 1e-6
    where = torch.tensor([-1e6, -1e6, 1e6, 1e6]) + u
    assert_close(mixture.quantile(levels)[:, 0], where, rtol=0, atol=5e-10)


@pytest.mark.parametrize("std", [1e-4, 1e4])
def test_quantiles_of_no_levels_and_of_narrow_and_wide_components(std):
    assert deck_mixture().quantile(torch.zeros(0)).shape == (0, 1)
    normal = GaussianMixture(torch.ones(1), torch.zeros(1, 1), torch.full((1, 1), std**2))
    level = torch.tensor([0.975])  # 1.96 standard deviations
    assert_close(normal.quantile(level), std * torch.special.ndtri(level)[:, None])


def test_a_generator_decides_a_draw_alone(target):
    draws = []
    for seed in (1, 2):
        torch.manual_seed(seed)  # of no influence
        draws.append(target.sample(50, torch.Generator().manual_seed(0)))
    assert torch.equal(*draws)


def test_mixtures_are_compared_by_identity_and_can_be_pickled(target):
    again = pickle.loads(pickle.dumps(target))
    for other in (again, copy.deepcopy(target)):
        assert other != target and hash(other) != hash(target)
        for name in ("weights", "means", "variances", "axes"):
            assert torch.equal(getattr(other, name), getattr(target, name))
    assert target == target and len({target, again}) == 2


def test_parts_of_several_precisions_meet_in_the_widest():
    mixture = GaussianMixture(W.float(), M.double(), V.float())
    assert {v.dtype for v in (mixture.weights, mixture.means, mixture.variances)} == {torch.float64}


def test_the_score_can_be_transformed_by_torch_func(target):
    x, alpha = torch.randn(4, 2), torch.rand(4)
    rows = torch.vmap(lambda x, a: target.perturb(a, 1 - a).score(x[None])[0])(x, alpha)
    assert_close(rows, target.perturb(alpha, 1 - alpha).score(x))
    _, slope = torch.func.jvp(lambda a: target.perturb(a, 0.3).score(x), (ONE / 2,), (ONE,))
    high, low = (target.perturb(0.5 + h, 0.3).score(x) for h in (1e-5, -1e-5))
    assert_close(slope, (high - low) / 2e-5, rtol=1e-6, atol=1e-6)


ONE = torch.ones((), dtype=torch.float64)
W, M, V = torch.tensor([0.5, 0.5]), torch.zeros(2, 1), torch.ones(2, 1)


@pytest.mark.parametrize(
    "call, message",
    [
        (
            lambda: GaussianMixture(torch.tensor([0.5, 0.6]), M, V),
            "weights must be of sum 1, got .* of sum 1.1",
        ),
        (
            lambda: GaussianMixture(torch.tensor([1.5, -0.5]), M, V),
            r"weights must be at least 0, got \[1.5, -0.5\]",
        ),
        (
            lambda: GaussianMixture(W, torch.zeros(3, 1), V),
            r"means must be of shape \(K, d\), K = 2, got shape \(3, 1\)",
        ),
        (
            lambda: GaussianMixture(W, M, torch.ones(2)),
            r"variances must be of shape \(2, 1\), got shape \(2,\)",
        ),
        (
            lambda: GaussianMixture(W[:, None], M, V),
            r"weights must be of shape \(K,\), got shape \(2, 1\)",
        ),
        (
            lambda: GaussianMixture(W, M[:, :0], V[:, :0]),
            r"means must be of shape \(K, d\), K = 2, got shape \(2, 0\)",
        ),
        (lambda: GaussianMixture(W, M, -V), "variances must be positive, got values down to -1"),
        (
            lambda: GaussianMixture(W, M, torch.tensor([[0.0], [1.0]])),
            "variances must be positive, got values down to 0",
        ),
        (
            lambda: GaussianMixture(W, M * math.nan, V),
            "means must be finite everywhere, got NaN or infinity",
        ),
        (lambda: GaussianMixture(W, M, V, torch.full((2, 1, 1), 2.0)), "axes must be orthonormal"),
        (
            lambda: GaussianMixture(W, M, V, torch.full((2, 1, 1), math.nan)),
            "axes must be finite everywhere",
        ),
        (lambda: GaussianMixture(W[:0], M[:0], V[:0]), "weights must be of sum 1"),
        (
            lambda: GaussianMixture.from_covs(W, M, V),
            r"covs must be of shape \(2, 1, 1\), got shape \(2, 1\)",
        ),
        (
            lambda: GaussianMixture.from_covs(W, M[:, 0], V[..., None]),
            r"means must be of shape \(K, d\), got shape \(2,\)",
        ),
        (
            lambda: GaussianMixture.from_covs(W, M, math.nan * V[..., None]),
            "covs must be finite everywhere",
        ),
        (
            lambda: deck_mixture().perturb(torch.ones(2), torch.ones(3)),
            r"alpha and sigma must be of one number, got \{2, 3\} of them",
        ),
        (
            lambda: deck_mixture().perturb(torch.ones(2, 2), torch.ones(2, 2)),
            r"alpha must be of shape \(\) or \(B,\), got shape \(2, 2\)",
        ),
        (
            lambda: deck_mixture().condition(torch.eye(1), torch.full((1,), math.inf), 1.0),
            "y must be finite everywhere",
        ),
        (
            lambda: GaussianMixture(W, M, V, torch.eye(2)),
            r"axes must be of shape \(2, 1, 1\), got shape \(2, 2\)",
        ),
        (
            lambda: GaussianMixture.from_covs(W, M, -V[..., None]),
            r"covs must be positive definite, got an eigenvalue of \[-1.0\]",
        ),
        (
            lambda: deck_mixture().score(torch.zeros(4)),
            r"x must be of shape \(B, 1\), got shape \(4,\)",
        ),
        (lambda: deck_mixture().sample(-1), "n must be at least 0, got -1"),
        (
            lambda: deck_mixture().condition(torch.ones(1, 1), torch.ones(1), 0.0),
            "std must be positive and finite, got 0.0",
        ),
        (
            lambda: deck_mixture().condition(torch.ones(1, 1), torch.ones(1), math.inf),
            "std must be positive and finite, got inf",
        ),
        (
            lambda: deck_mixture().condition(torch.full((1, 1), math.nan), torch.ones(1), 1.0),
            "A must be finite everywhere",
        ),
        (
            lambda: deck_mixture().condition(torch.ones(1, 1), torch.ones(2), 1.0),
            r"y must be of shape \(1,\), got shape \(2,\)",
        ),
        (
            lambda: deck_mixture().condition(torch.ones(1, 2), torch.ones(1), 1.0),
            r"A must be of shape \(m, 1\)",
        ),
        (
            lambda: deck_mixture().quantile(torch.tensor([0.5, 0.0])),
            r"u must be inside \(0, 1\), got values from 0 to 0.5",
        ),
        (
            lambda: deck_mixture().quantile(torch.tensor([0.5, 1.0])),
            r"u must be inside \(0, 1\), got values from 0.5 to 1",
        ),
        (
            lambda: deck_mixture().quantile(torch.tensor([0.5, math.nan])),
            "u must be finite everywhere",
        ),
        (
            lambda: deck_mixture().quantile(torch.full((2, 1), 0.5)),
            r"u must be of shape \(n,\), got shape \(2, 1\)",
        ),
    ],
)
def test_bad_values_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("bound", [1e100, -1e100])
@pytest.mark.parametrize("name", ["alpha", "sigma"])
def test_a_coefficient_is_a_number_below_1e100(name, bound):
    below = {"alpha": 1.0, "sigma": 1.0, name: math.nextafter(bound, 0)}
    assert deck_mixture().perturb(**below).variances.isfinite().all()
    with pytest.raises(ValueError, match=f"{name} must be finite, and not that large"):
        deck_mixture().perturb(**{**below, name: bound})


@pytest.mark.parametrize("shape", [(2, 2), (3, 2, 2)])
def test_the_symmetric_part_is_the_mean_with_the_transpose(shape):
    rough = torch.eye(2).expand(shape).clone()
    rough[..., 0, 1] = 1e-5
    assert_close(symmetrised("C", rough)[..., 1, 0], torch.full(shape[:-2], 5e-6))
    assert_close(symmetrised("C", rough), symmetrised("C", rough).mT)


@pytest.mark.parametrize("shape", [(2,), (2, 3), (2, 2, 3)])
def test_only_square_matrices_have_a_symmetric_part(shape):
    with pytest.raises(ValueError, match=r"C must be square matrices, got shape \(2,"):
        symmetrised("C", torch.ones(shape))


def test_the_plane_has_no_quantiles(target):
    with pytest.raises(ValueError, match="dimension must be 1"):
        target.cdf(torch.zeros(1, 2))


def test_arrays_that_are_not_tensors_are_refused():
    with pytest.raises(TypeError, match="weights must be a floating-point tensor, got list"):
        GaussianMixture([0.5, 0.5], M, V)
    with pytest.raises(TypeError, match="n must be an integer, got float"):
        deck_mixture().sample(2.0)


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


def test_two_points_are_enough_of_a_class():
    x = torch.tensor([[0.0], [2.0], [1.0], [7.0]])
    mixture = GaussianMixture.from_classes(x, torch.tensor([0, 0, 1, 1]), pooled=0.0)
    assert_close(mixture.means, torch.tensor([[1.0], [4.0]]))
    assert_close(mixture.variances, torch.tensor([[2.0], [18.0]]))


def test_from_classes_pools_covariances_and_adds_white_noise():
    labels, x = torch.arange(40) % 2, torch.randn(40, 3)
    x[::2] *= 3
    own, half, pooled = (
        GaussianMixture.from_classes(x, labels, p, noise=0.7).covs for p in (0.0, 0.5, 1.0)
    )
    assert_close(pooled[0], own.mean(0))
    assert_close(pooled[1], own.mean(0))
    assert_close(half, (own + pooled) / 2)
    white = 0.7 * torch.eye(3)
    assert_close(own[0], torch.cov(x[::2].T) + white)
    assert_close(GaussianMixture.from_classes(x, labels).covs + white, own + 0.3 * (pooled - own))
    # a class counts once, however many points it has: with equal shares that would not show
    own, pooled = (
        GaussianMixture.from_classes(x, torch.arange(40) % 4 // 3, p).covs for p in (0.0, 1.0)
    )
    assert_close(pooled, own.mean(0).expand(2, 3, 3))


def test_the_score_is_the_mean_of_the_pulls(target):
    x = torch.randn(5, 2)
    shares = target.log_joint(x).softmax(1)
    assert_close((shares[..., None] * target.pulls(x)).sum(1), target.score(x))
    for k in range(2):
        alone = GaussianMixture(
            torch.ones(1), target.means[[k]], target.variances[[k]], target.axes[[k]]
        )
        assert_close(target.pulls(x)[:, k], alone.score(x))


KINDS = ["uint8", "int8", "int16", "int32", "bool", "uint16", "uint32", "uint64"]


@pytest.mark.parametrize(
    "convert",
    [
        *(lambda labels, kind=kind: labels.to(getattr(torch, kind)) for kind in KINDS),
        *(
            lambda labels, kind=kind: labels.numpy().astype(kind)
            for kind in KINDS
            if kind != "bool"
        ),
        torch.Tensor.tolist,
    ],
)
def test_labels_may_be_integers_of_any_kind(convert):
    x, labels = torch.randn(20, 2), torch.arange(20) % 2
    one, other = (GaussianMixture.from_classes(x, k) for k in (labels, convert(labels)))
    assert torch.equal(one.means, other.means) and torch.equal(one.weights, other.weights)


def test_labels_that_are_not_integers_are_refused():
    integers = torch.zeros(3).long()
    for labels in (torch.zeros(3), ["a", "a", "b"], integers + 0j, integers.to("meta")):
        with pytest.raises(TypeError, match="labels must be an integer or a tensor of integers"):
            GaussianMixture.from_classes(torch.ones(3, 2), labels)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(labels=torch.tensor([0, 0, 1])), "labels must be two or more points a class"),
        (dict(labels=torch.tensor([0, 0])), r"labels must be of shape \(3,\)"),
        (dict(labels=torch.tensor([0, 0, 2])), "labels must be two or more points a class"),
        (dict(labels=torch.tensor([0, 0, 3])), "labels must be from 0 to K - 1, got .* to 3"),
        (
            dict(x=torch.ones(1, 1), labels=torch.tensor([0])),
            "labels must be two or more points a class",
        ),
        (
            dict(labels=torch.tensor([0, 0, -1])),
            "labels must be from 0 to K - 1, got values from -1",
        ),
        (dict(labels=torch.tensor([0, 0, 10**12])), "labels must be from 0 to K - 1"),
        (dict(x=torch.ones(3)), r"x must be of shape \(n, \*event\), got shape \(3,\)"),
        (dict(x=torch.ones(0, 2), labels=torch.zeros(0).long()), r"x must be .*got shape \(0, 2\)"),
        (dict(x=torch.full((3, 2), math.nan)), "x must be finite everywhere"),
        (dict(noise=math.inf), "noise must be at least 0 and finite"),
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
