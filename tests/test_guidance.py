"""Guided scores against conditional scores known exactly; each approximation against what it does
not get right.
"""

import math
from functools import partial

import pytest
import torch
from torch.testing import assert_close

from sdelib.data import deck_mixture
from sdelib.guidance import add, classifier_free, inpaint, tweedie_likelihood
from sdelib.laws import sampler_law, tabulate
from sdelib.mixtures import GaussianMixture
from sdelib.samplers import reverse, sample, walk
from sdelib.score import exact_score, grad_log
from sdelib.sde import VPSDE
from sdelib.steps import euler_maruyama

COV = torch.tensor([[1.5, 0.6], [0.6, 0.5]], dtype=torch.float64)
NORMAL = GaussianMixture.from_covs(
    torch.ones(1, dtype=torch.float64), torch.tensor([[0.4, -0.7]], dtype=torch.float64), COV[None]
)
A, Y, STD = (
    torch.tensor([[1.0, -0.5]], dtype=torch.float64),
    torch.tensor([0.3], dtype=torch.float64),
    0.4,
)


def component(mixture, k):
    return GaussianMixture.from_covs(torch.ones(1), mixture.means[[k]], mixture.covs[[k]])


def log_class(sde, mixture, k, x, t):
    return mixture.perturb(sde.alpha(t), sde.sigma(t)).log_joint(x).log_softmax(1)[:, k]


def weighted(sde, t, score):
    """Scores differ by orders of magnitude over time; times the kernel's width they do not."""
    return sde.sigma(t)[:, None] * score


@pytest.mark.parametrize("k", [0, 1])
def test_prior_plus_classifier_is_the_score_of_the_class(sde, target, k):
    x, t = torch.randn(50, 2), 0.01 + 0.99 * torch.rand(50)
    guided = add(exact_score(sde, target), grad_log(partial(log_class, sde, target, k)))
    exact = exact_score(sde, component(target, k))
    assert_close(weighted(sde, t, guided(x, t)), weighted(sde, t, exact(x, t)))


def test_the_cross_entropy_of_a_classifier_is_entropy_and_divergence():
    # by quadrature of -log q over data and labels at once, and of H + KL over the data alone
    sde, deck, t = VPSDE(), deck_mixture(), torch.tensor(0.2)
    noisy, extent = deck.perturb(sde.alpha(t), sde.sigma(t)), torch.tensor(12.0)
    log_q = lambda x: torch.cat([torch.sin(x), 0.3 * x - 0.2], 1).log_softmax(1)
    by_label = [tabulate(component(noisy, k).log_prob, extent) for k in (0, 1)]
    loss = -sum(
        weight * (law.weights @ log_q(law.x)[:, k])
        for k, (weight, law) in enumerate(zip(noisy.weights, by_label, strict=True))
    )
    law = tabulate(noisy.log_prob, extent)
    p, q = noisy.log_joint(law.x).log_softmax(1), log_q(law.x)
    entropy, divergence = (law.weights @ (p.exp() * part).sum(1) for part in (-p, p - q))
    assert_close(loss, entropy + divergence)
    assert divergence > 0.1


def weight_rate(w):
    return w * (w - 1)


def test_weights_that_undo_guidance_grow_at_their_rate(sde, target):
    # what a step of w-fold guidance adds to log p_t(k | x)^w, plus the logarithm of the unguided
    # step's density over the guided one's, in the mean over signs for its noise (they have the
    # covariance I); what is left is of the order of the step
    score, twist, h = exact_score(sde, target), partial(log_class, sde, target, 1), 1e-5
    x, t, s = target.sample(20), sde.at(0.4), sde.at(0.4 - h)
    push, noises = grad_log(twist)(x, t.now), torch.tensor([[1.0, 1.0], [1.0, -1.0]])
    for w in (0.5, 1.0, 3.0):
        total, guided = 0, add(score, grad_log(twist), w)
        for z in (*noises, *-noises):
            moved = euler_maruyama(guided, x, t, s, lambda x, z=z: z.expand(len(x), 2))
            led, free = (euler_maruyama(f, x, t, s, torch.zeros_like) for f in (guided, score))
            squares = ((moved - led) ** 2 - (moved - free) ** 2).sum(1)
            gain = w * (twist(moved, s.now) - twist(x, t.now)) + squares / (2 * t.g**2 * h)
            total = total + gain / 4
        rate = t.g**2 / 2 * weight_rate(w) * push.square().sum(1)
        size = t.g**2 * push.square().sum(1).max().item()
        assert_close(total / h, rate, rtol=1e-2, atol=1e-2 * size)


@pytest.mark.parametrize("scale", [-1.0, 0.0, 0.4, 1.0, 3.0])
def test_classifier_free_is_classifier_guidance_for_exact_scores(sde, target, scale):
    x, t = torch.randn(50, 2), 0.01 + 0.99 * torch.rand(50)
    prior, conditional = exact_score(sde, target), exact_score(sde, component(target, 1))
    by_classifier = add(prior, grad_log(partial(log_class, sde, target, 1)), scale)
    by_scores = classifier_free(conditional, prior, scale)
    assert_close(weighted(sde, t, by_scores(x, t)), weighted(sde, t, by_classifier(x, t)))
    if scale in (0, 1):
        assert torch.equal(by_scores(x, t), (prior, conditional)[int(scale)](x, t))


def test_a_classifier_of_clean_data_misleads():
    # Erratum 12: p_0(k | x) is not p_t(k | x); the exact law of the output tells
    sde, deck = VPSDE(), deck_mixture()
    laws = {}
    for clean in (False, True):
        log_k = lambda x, t: log_class(sde, deck, 1, x, 0 * t if clean else t)  # noqa: B023
        laws[clean] = sampler_law(add(exact_score(sde, deck), grad_log(log_k)), sde, n_steps=100)
    right, wrong = (laws[clean].wasserstein(component(deck, 1)) for clean in (False, True))
    assert right < 0.03 and wrong > 20 * right


def test_a_scale_above_one_does_not_sample_the_tilted_density():
    sde, deck = VPSDE(), deck_mixture()
    one = component(deck, 1)
    gaps = []
    for scale in (1.0, 2.0):
        score = classifier_free(exact_score(sde, one), exact_score(sde, deck), scale)
        tilted = tabulate(
            lambda x, w=scale: w * one.log_prob(x) + (1 - w) * deck.log_prob(x), torch.tensor(12.0)
        )
        gaps.append(sampler_law(score, sde, n_steps=200).wasserstein(tilted))
    assert gaps[0] < 0.02 and gaps[1] > 0.2


def test_inpaint_is_exact_where_the_coordinates_are_independent(sde):
    product = GaussianMixture(
        torch.tensor([0.3, 0.7]), torch.tensor([[1.0, -1.0], [1.0, 2.0]]), torch.ones(2, 2) * 0.2
    )
    y, known = (
        torch.tensor([0.8, math.nan]),
        torch.tensor([True, False]),
    )  # only known entries are read
    datum = GaussianMixture(  # the posterior: the known coordinate all but a point
        product.weights,
        torch.tensor([[0.8, -1.0], [0.8, 2.0]]),
        torch.tensor([[1e-16, 0.2], [1e-16, 0.2]]),
    )
    x, t = torch.randn(20, 2), 0.05 + 0.95 * torch.rand(20)
    score = inpaint(exact_score(sde, product), sde, torch.where(known, y, 0), known)
    assert_close(weighted(sde, t, score(x, t)), weighted(sde, t, exact_score(sde, datum)(x, t)))
    assert_close(inpaint(exact_score(sde, product), sde, y, known)(x, t), score(x, t))


def test_known_coordinates_follow_the_kernel_from_the_clean_values(sde, target):
    # At every time N(alpha y, sigma^2); a mean built from the noisy state would drift away from it
    y, known, n = torch.tensor([0.9, 0.0]), torch.tensor([True, False]), 4000
    ts = torch.linspace(1, 0.5, 101)
    score = inpaint(exact_score(sde, target), sde, y, known)
    x = sde.alpha(ts[0]) * y + sde.sigma(ts[0]) * torch.randn(n, 2)
    *_, x = reverse(score, sde, x, ts, walk(euler_maruyama))
    mean, std = sde.alpha(ts[-1]) * y[0], sde.sigma(ts[-1])
    assert (x[:, 0].mean() - mean).abs() < 6 * std / math.sqrt(n)
    assert (x[:, 0].std() / std - 1).abs() < 6 / math.sqrt(
        2 * n
    ) + 0.05  # Monte Carlo and the step's own error
    end = sample(score, sde, (10, 2), n_steps=50)
    assert_close(end[:, 0], y[0].expand(10))


def test_replacement_pulls_the_free_mean_to_the_prior():
    # Closed form for a pair of standard normals: (1 - sqrt(1 - rho^2)) / rho times y, in place of
    # rho y
    sde, rho, y = VPSDE(), 0.8, torch.tensor([1.0, 0.0])
    pair = GaussianMixture.from_covs(
        torch.ones(1), torch.zeros(1, 2), torch.tensor([[[1, rho], [rho, 1]]])
    )
    score = inpaint(exact_score(sde, pair), sde, y, torch.tensor([True, False]))
    # The score is affine, so the mean of the law is the path without noise.
    *_, x = reverse(
        score,
        sde,
        torch.zeros(1, 2),
        torch.linspace(1, 1e-4, 4001),
        walk(euler_maruyama),
        torch.zeros_like,
    )
    assert abs(x[0, 1].item() - (1 - math.sqrt(1 - rho**2)) / rho) < 2e-3


@pytest.mark.parametrize("observed", [1, 2])
def test_tweedie_likelihood_is_exact_for_gaussian_data(sde, observed):
    rows, y = (
        torch.tensor([[1.0, -0.5], [0.3, 2.0]])[:observed],
        torch.tensor([0.3, -1.0])[:observed],
    )
    x, t = torch.randn(50, 2), 0.05 + 0.95 * torch.rand(50)
    score = exact_score(sde, NORMAL)
    exact = weighted(sde, t, exact_score(sde, NORMAL.condition(rows, y, STD))(x, t))
    for cov, right in (
        (COV, True),
        (COV.diag().diag(), False),
        (torch.eye(2), False),
        (torch.zeros(2, 2), False),
    ):
        guided = add(score, tweedie_likelihood(score, sde, rows, y, STD, cov))
        gap = (weighted(sde, t, guided(x, t)) - exact).abs().max()
        assert (gap < 1e-8) == right, (cov, gap)


def test_tweedie_likelihood_with_data_on_a_plane():
    # A direction without variance, as a pixel that never changes: exact as the limit of small
    # variances
    sde, cov = VPSDE(), torch.diag(torch.tensor([1.0, 0.0]))
    thin = GaussianMixture(torch.ones(1), torch.zeros(1, 2), torch.tensor([[1.0, 1e-14]]))
    x, t = torch.randn(20, 2), 0.05 + 0.95 * torch.rand(20)
    score = exact_score(sde, thin)
    guided = add(score, tweedie_likelihood(score, sde, A, Y, STD, cov))(x, t)
    kept = A[0, 0] ** 2 + STD**2  # conditioning by hand on the first coordinate, the other being 0
    posterior = GaussianMixture(
        torch.ones(1),
        torch.tensor([[Y[0] * A[0, 0] / kept, 0.0]]),
        torch.tensor([[STD**2 / kept, 1e-14]]),
    )
    assert_close(
        weighted(sde, t, guided),
        weighted(sde, t, exact_score(sde, posterior)(x, t)),
        rtol=1e-6,
        atol=1e-6,
    )


def test_tweedie_likelihood_is_biased_for_a_mixture():
    sde, deck, one = VPSDE(), deck_mixture(), torch.eye(1)
    posterior, prior = deck.condition(one, torch.zeros(1), 1.0), exact_score(sde, deck)
    exact = sampler_law(exact_score(sde, posterior), sde, n_steps=100).wasserstein(posterior)
    for variance in (0.0, 1.0, 9.625):
        guided = add(
            prior, tweedie_likelihood(prior, sde, one, torch.zeros(1), 1.0, variance * one)
        )
        assert sampler_law(guided, sde, n_steps=100).wasserstein(posterior) > 20 * exact


def every_guidance(sde, event):
    d = math.prod(event)
    score, y = (lambda x, t: -x), torch.zeros(event)
    known = torch.arange(d).reshape(event) % 2 == 0
    return {
        "add": add(score, score, 2.0),
        "classifier_free": classifier_free(score, lambda x, t: -2 * x, 2.0),
        "inpaint": inpaint(score, sde, y, known),
        "tweedie_likelihood": tweedie_likelihood(
            score, sde, torch.eye(d)[:2], torch.zeros(2), 0.5, torch.eye(d)
        ),
    }


@pytest.mark.parametrize("name", ["add", "classifier_free", "inpaint", "tweedie_likelihood"])
@pytest.mark.parametrize("event", [(2,), (1, 8, 8)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("batch", [0, 1, 3])
def test_guidance_is_a_score(sde, name, event, dtype, batch, device):
    guided = every_guidance(sde, event)[name]
    x = torch.randn(batch, *event, dtype=dtype, device=device)
    t = torch.full((batch,), 0.5, dtype=dtype, device=device)
    together, shared = guided(x, t), guided(x, torch.tensor(0.5, dtype=dtype, device=device))
    assert together.shape == x.shape and together.dtype == dtype and together.device == x.device
    assert not together.requires_grad
    assert_close(together, shared)
    for i in range(batch):  # a sample never depends on its neighbours
        assert_close(guided(x[i : i + 1], t[i : i + 1])[0], together[i])


def test_guided_sampling_works_without_gradients_around_it(sde, target):
    score = exact_score(sde, target)
    guided = add(score, tweedie_likelihood(score, sde, A, Y, STD, target.cov))
    assert sample(guided, sde, (4, 2), n_steps=3).isfinite().all()


GUIDANCE = ["add", "classifier_free", "inpaint", "tweedie_likelihood"]


@pytest.mark.parametrize("name", GUIDANCE)
def test_times_in_double_do_not_change_single_precision(sde, name):
    guided, x = every_guidance(sde, (2,))[name], torch.randn(3, 2, dtype=torch.float32)
    t = torch.tensor([0.3, 0.5, 0.7], dtype=torch.float64)
    values = [
        guided(x, t),
        guided(x, t.float()),
        torch.cat([guided(x[[i]], t[i]) for i in range(3)]),
    ]
    assert {v.dtype for v in values} == {torch.float32}
    for value in values[1:]:
        assert_close(value, values[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.long])
def test_every_state_may_have_a_scale_of_its_own(dtype):
    x, t = torch.randn(3, 1, 2, 2), 0.1 + 0.9 * torch.rand(3)
    one, two = (lambda x, t: -x), (lambda x, t: x**2)
    scales = torch.tensor([0, 1, 3]).to(dtype)
    for guide in (add, classifier_free):
        together = guide(one, two, scales)(x, t)
        for i, scale in enumerate((0, 1, 3)):
            assert_close(together[i], guide(one, two, scale)(x[[i]], t[[i]])[0])
        with pytest.raises(ValueError, match=r"scale must be of shape \(3,\), got shape \(2,\)"):
            guide(one, two, scales[:2])(x, t)


def nowhere(x, t):
    return x * math.nan


def test_a_score_of_weight_zero_is_of_no_effect_and_not_called():
    x, t, score = torch.randn(3, 2), torch.tensor(0.5), lambda x, t: -x

    def untouchable(x, t):
        raise AssertionError("called")

    for other in (nowhere, untouchable):
        assert torch.equal(classifier_free(score, other, 1)(x, t), -x)
        assert torch.equal(classifier_free(other, score, 0.0)(x, t), -x)
        assert torch.equal(add(score, other, 0.0)(x, t), -x)
    for zero, one in ((torch.tensor(0.0), torch.tensor(1.0)), (torch.zeros(3), torch.ones(3))):
        assert torch.equal(classifier_free(score, nowhere, one)(x, t), -x)
        assert torch.equal(classifier_free(nowhere, score, zero)(x, t), -x)
        assert torch.equal(add(score, nowhere, zero)(x, t), -x)


def test_the_likelihood_without_uncertainty_exists_at_time_zero():
    # There x is x_0, and log N(y; x, std^2) has the gradient (y - x) / std^2
    x = torch.randn(5, 1)
    guided = tweedie_likelihood(SCORE, SDE, torch.eye(1), Y, 0.1, torch.zeros(1, 1))
    for t in (torch.tensor(0.0), torch.zeros(5)):
        assert_close(guided(x, t), (Y - x) / 0.1**2)


def test_honest_covariances_may_be_asymmetric_by_rounding():
    root = torch.randn(10, 10)
    cov = root @ root.T + 0.1 * torch.eye(10)
    rough = cov * (1 + 1e-7 * torch.randn(10, 10))
    x, t = torch.randn(3, 10), torch.tensor(0.5)
    values = [
        tweedie_likelihood(SCORE, SDE, torch.eye(10)[:2], torch.zeros(2), 0.5, c)(x, t)
        for c in (cov, rough)
    ]
    assert_close(*values, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("smallest, allowed", [(-1e-7, True), (-1e-5, False), (-1e-3, False)])
def test_a_covariance_may_be_indefinite_by_rounding_only(smallest, allowed):
    cov = 9.0 * torch.diag(torch.tensor([1.0, smallest]))
    if allowed:
        tweedie_likelihood(SCORE, SDE, A, Y, 1.0, cov)
        return
    with pytest.raises(ValueError, match="cov must be positive semidefinite, got an eigenvalue"):
        tweedie_likelihood(SCORE, SDE, A, Y, 1.0, cov)


def test_a_score_that_answers_in_double_does_not_promote_the_states():
    x, t, wide = torch.randn(3, 2, dtype=torch.float32), torch.tensor(0.5), lambda x, t: -x.double()
    for guided in (add(wide, SCORE), add(SCORE, wide), classifier_free(wide, SCORE, 2.0)):
        assert guided(x, t).dtype == torch.float32


def test_a_datum_for_each_state():
    x, t = torch.randn(3, 2), torch.rand(3)
    y, known = torch.randn(3, 2), torch.tensor([[True, False], [False, True], [True, True]])
    together = inpaint(SCORE, SDE, y, known)(x, t)
    for i in range(3):
        assert_close(inpaint(SCORE, SDE, y[i], known[i])(x[[i]], t[[i]])[0], together[i])


NETWORK = torch.nn.Linear(2, 2, dtype=torch.float64)
UNSEEN = {
    "without gradients": torch.no_grad()(lambda x, t: -x),
    "detached": lambda x, t: -x.detach(),
    "in numpy": lambda x, t: torch.as_tensor(-x.detach().numpy()),
    "by a network of detached states": lambda x, t: NETWORK(x.detach()),
    "constant": lambda x, t: torch.ones_like(x),
}


@pytest.mark.parametrize("unseen", UNSEEN.values(), ids=UNSEEN)
def test_a_part_that_autograd_cannot_follow_is_named_where_a_derivative_is_taken(unseen):
    x, t, seen = torch.randn(3, 2), torch.tensor(0.5), lambda x, t: -2 * x
    guided = {
        "score": tweedie_likelihood(unseen, SDE, A, Y, 1.0, COV),
        "likelihood": add(seen, unseen),
        "prior": add(unseen, seen),
        "conditional": classifier_free(unseen, seen, 2.0),
        "unconditional": classifier_free(seen, unseen, 2.0),
    }
    for name, score in guided.items():
        differentiated = name == "score" or score(x, t).isfinite().all()  # else of no matter
        assert differentiated
        with pytest.raises(ValueError, match=rf"{name}\(x, t\) must be differentiable in x"):
            score(x.clone().requires_grad_(), t)
    cured = tweedie_likelihood(lambda x, t: 0 * x + 1, SDE, A, Y, 1.0, COV)
    assert cured(x, t).isfinite().all()


@pytest.mark.parametrize("value", [lambda x: x[:, :1], lambda x: x[:1], lambda x: x.sum()])
def test_values_of_another_shape_are_not_broadcast(value):
    x, t, right, wrong = (
        torch.randn(3, 2),
        torch.tensor(0.5),
        lambda x, t: -x,
        lambda x, t: value(x),
    )
    for score in (
        add(right, wrong),
        add(wrong, right),
        classifier_free(wrong, right, 2.0),
        classifier_free(right, wrong, 2.0),
        inpaint(wrong, SDE, torch.zeros(2), KNOWN),
        tweedie_likelihood(wrong, SDE, A, Y, 1.0, COV),
    ):
        with pytest.raises(ValueError, match=r"\(x, t\) must be of shape \(3, 2\), got shape"):
            score(x, t)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: inpaint(SCORE, SDE, torch.zeros(2), torch.ones(2)), "known must be a boolean"),
        (lambda: inpaint(SCORE, SDE, torch.zeros(2), [True, False]), "known must be a boolean"),
        (lambda: inpaint(SCORE, SDE, torch.zeros(2).byte(), KNOWN), "y must be a floating-point"),
        (
            lambda: inpaint(SCORE, None, torch.zeros(2), KNOWN),
            "sde must be an SDE, .* got NoneType",
        ),
        (lambda: add(SCORE, SCORE, 1j), "scale must be a real number"),
        (lambda: classifier_free(SCORE, SCORE, KNOWN), "scale must be a real number"),
    ],
)
def test_values_of_another_type_are_named(call, message):
    with pytest.raises(TypeError, match=message):
        call()


SDE, SCORE, KNOWN = VPSDE(), (lambda x, t: -x), torch.tensor([True, False])


@pytest.mark.parametrize(
    "call, message",
    [
        (
            lambda: inpaint(SCORE, SDE, torch.zeros(2), KNOWN)(torch.ones(1, 1, 2), torch.ones(())),
            r"y must be of shape \(1, 2\), got shape \(2,\)",
        ),
        (
            lambda: inpaint(SCORE, SDE, torch.zeros(2), KNOWN)(torch.ones(1, 2), torch.zeros(1)),
            "t must be above 0 where coordinates are known, got 0",
        ),
        (lambda: add(SCORE, SCORE, math.nan), "scale must be finite, got nan"),
        (lambda: add(SCORE, SCORE, torch.ones(2, 2)), r"scale must be of shape \(\) or \(B,\)"),
        (
            lambda: tweedie_likelihood(SCORE, SDE, A, Y, 1.0, COV)(torch.ones(1, 3), torch.ones(1)),
            r"flattened x must be of shape \(B, 2\), got shape \(1, 3\)",
        ),
        (
            lambda: inpaint(SCORE, SDE, torch.zeros(3), KNOWN),
            r"known must be of shape \(3,\), got shape \(2,\)",
        ),
        (
            lambda: inpaint(SCORE, SDE, torch.full((2,), math.nan), KNOWN),
            "y must be finite everywhere",
        ),
        (
            lambda: tweedie_likelihood(SCORE, SDE, A, Y, 0.0, COV),
            "std must be positive and finite, got 0.0",
        ),
        (
            lambda: tweedie_likelihood(SCORE, SDE, A[0], Y, 1.0, COV),
            r"A must be of shape \(m, d\), got shape \(2,\)",
        ),
        (
            lambda: tweedie_likelihood(SCORE, SDE, A, torch.zeros(2), 1.0, COV),
            r"y must be of shape \(1,\)",
        ),
        (
            lambda: tweedie_likelihood(SCORE, SDE, A, Y, 1.0, torch.eye(3)),
            r"cov must be of shape \(2, 2\)",
        ),
        (
            lambda: tweedie_likelihood(SCORE, SDE, A, Y, 1.0, torch.eye(2).cumsum(0)),
            "cov must be symmetric",
        ),
        (
            lambda: tweedie_likelihood(SCORE, SDE, A, Y, 1.0, -COV),
            "cov must be positive semidefinite, got an eigenvalue",
        ),
        (
            lambda: tweedie_likelihood(SCORE, SDE, A * math.inf, Y, 1.0, COV),
            "A must be finite everywhere",
        ),
    ],
)
def test_bad_values_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("std", [0.0, math.inf, math.nan])
def test_an_observation_without_noise_or_worth_is_refused(std):
    with pytest.raises(ValueError, match="std must be positive and finite"):
        tweedie_likelihood(SCORE, SDE, A, Y, std, COV)


@pytest.mark.parametrize("kind", ["uint8", "uint16", "uint32", "uint64", "int8", "int64"])
def test_a_scale_may_be_an_integer_of_any_kind(kind):
    conditional, unconditional = lambda x, t: -x, lambda x, t: -3 * x
    x, t, scales = torch.ones(2, 1), torch.tensor(0.5), torch.tensor([3, 0])
    each = classifier_free(conditional, unconditional, scales.to(getattr(torch, kind)))
    assert_close(each(x, t), torch.tensor([[3.0], [-3.0]]))
    number = scales[:1].numpy().astype(kind)[0]
    assert_close(classifier_free(conditional, unconditional, number)(x, t), 3 * x)
    assert_close(add(unconditional, conditional, number)(x, t), -6 * x)


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("time", [1e-3, 0.1, 0.9])
def test_known_entries_are_pulled_as_well_in_half_precision(sde, half, time):
    x, y, t = torch.tensor([[0.5, -0.25]]), torch.tensor([0.25, 0.0]), torch.tensor(time).to(half)
    score = inpaint(lambda x, t: 0 * x, sde, y.to(half), torch.tensor([True, False]))
    found, exact = (
        score(x.to(half), t)[0, 0],
        inpaint(lambda x, t: 0 * x, sde, y.double(), torch.tensor([True, False]))(
            x.double(), t.double()
        )[0, 0],
    )
    if exact.abs() < torch.finfo(half).max:  # beyond, half precision has infinity only
        assert_close(found.double(), exact, rtol=4 * torch.finfo(half).eps, atol=0)
