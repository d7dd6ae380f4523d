"""Exact scores against automatic differentiation; Tweedie's formula against Bayes' rule."""

import copy
import inspect
import pickle
import typing
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch.func import grad, jacfwd
from torch.testing import assert_close

from sdelib import data, guidance, laws, learned, likelihood, metrics, samplers, score, training
from sdelib.guidance import add, classifier_free, inpaint, tweedie_likelihood
from sdelib.learned import MixtureResidualScore, Model, ResidualScore, StandardScore
from sdelib.likelihood import hutchinson
from sdelib.mixtures import GaussianMixture
from sdelib.networks import MLP
from sdelib.score import (
    checked,
    denoise,
    exact_score,
    grad_log,
    require_graph,
    reverse_drift,
    translate,
)
from sdelib.sde import VESDE, VPSDE, CosineSDE, FlowSDE, SubVPSDE


def test_exact_score_is_the_gradient_of_log_prob(sde, target):
    x, t = torch.randn(50, 2), 0.05 + 0.9 * torch.rand(50)
    log_prob = grad_log(lambda x, t: target.perturb(sde.alpha(t), sde.sigma(t)).log_prob(x))
    assert_close(exact_score(sde, target)(x, t), log_prob(x, t))


def test_a_constant_factor_of_the_density_does_not_matter(sde, target):
    x, t = torch.randn(5, 2), torch.tensor(0.5)

    def unnormalised(x, t):
        return target.perturb(sde.alpha(t), sde.sigma(t)).log_prob(x) + 3.0

    assert_close(grad_log(unnormalised)(x, t), exact_score(sde, target)(x, t))


def test_a_log_density_has_one_number_for_each_state():
    x, t = torch.randn(3, 2), torch.tensor(0.5)

    def score(shaped):
        return grad_log(lambda x, t: shaped(-(x**2).sum(1) / 2))(x, t)

    assert_close(score(lambda values: values[:, None]), -x)  # as of gather
    for shaped in (lambda values: values[None], torch.sum, lambda values: values[:, None] + x):
        with pytest.raises(ValueError, match=r"log_prob\(x, t\) must be one number for each x"):
            score(shaped)


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


def test_denoising_shrinks_a_normal_law_by_the_factor_that_noise_widened_it(sde):
    # with rho = sigma^2 / alpha^2 v: sqrt(1 + rho) for x / alpha, its inverse for E[x_0 | x]
    v, t = 0.3, torch.tensor([0.05, 0.4, 0.9])
    normal = GaussianMixture(torch.ones(1), torch.zeros(1, 1), torch.full((1, 1), v))
    alpha, sigma = sde.alpha(t), sde.sigma(t)
    one_std = (alpha**2 * v + sigma**2).sqrt()[:, None]  # where the law of x_t has one deviation
    widened = (1 + sigma**2 / (alpha**2 * v)).sqrt()[:, None]
    assert_close(one_std / alpha[:, None], v**0.5 * widened)
    assert_close(denoise(exact_score(sde, normal), sde, one_std, t), v**0.5 / widened)


@pytest.mark.parametrize("eta", [{}, {"eta": 0}, {"eta": 0.5}, {"eta": 1}, {"eta": 2}], ids=str)
def test_the_reverse_sde_keeps_the_variance_of_a_normal_law_at_every_eta(sde, eta):
    # drift k x and noise eta g, walked backward, change the variance V at the rate
    # 2 k V - eta^2 g^2, which is that of V = alpha^2 v + sigma^2; without eta it is Anderson's, 1
    v, t = 0.3, torch.tensor([0.05, 0.4, 0.9])
    normal = GaussianMixture(torch.ones(1), torch.zeros(1, 1), torch.full((1, 1), v))

    def variance(t):
        return sde.alpha(t) ** 2 * v + sde.sigma(t) ** 2

    V, rate = torch.func.jvp(variance, (t,), (torch.ones_like(t),))
    k = reverse_drift(exact_score(sde, normal), sde, torch.ones(3, 1), t, **eta)[:, 0]
    assert_close(2 * k * V - eta.get("eta", 1) ** 2 * sde.g(t) ** 2, rate)


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


@pytest.mark.parametrize("other", [VESDE(), VPSDE(), SubVPSDE(), CosineSDE(), FlowSDE()], ids=str)
def test_a_translated_score_is_the_other_process_own(sde, target, other):
    # at ratios that both have, up to nearly the smaller of their last ones
    most = min(s.sigma(torch.ones(())) / s.alpha(torch.ones(())) for s in (sde, other))
    t = sde.time_of(most * torch.tensor([1e-3, 0.03, 0.5, 0.999]))
    x, score = torch.randn(4, 2), translate(exact_score(other, target), other, sde)
    assert_close(score(x, t), exact_score(sde, target)(x, t))
    assert_close(score(x, t[1]), exact_score(sde, target)(x, t[1]))
    single = score(x.float(), t.float())
    assert single.dtype == torch.float32
    assert_close(single, exact_score(sde, target)(x, t).float(), rtol=1e-3, atol=1e-4)


def test_a_score_is_not_asked_about_more_noise_than_its_process_has(target):
    ve, flow = VESDE(), FlowSDE()
    score, t = translate(exact_score(ve, target), ve, flow), torch.tensor([0.5, 1.0])
    with pytest.raises(ValueError, match=r"t must be where sigma / alpha is at most 50, as for VE"):
        score(torch.randn(2, 2), t)
    t = flow.time_of(torch.tensor([50.0, 50.1]))
    assert score(torch.randn(2, 2), t[0]).isfinite().all()
    for beyond in (t, t[1]):
        with pytest.raises(ValueError, match="where it is 50.1"):
            score(torch.randn(2, 2), beyond)


def test_states_of_single_precision_stay_so_at_times_of_double_precision(sde, target):
    x, score = torch.randn(3, 2, dtype=torch.float32), exact_score(sde, target)
    for t in (torch.tensor(0.5), torch.tensor([0.2, 0.5, 0.9])):
        for value in (score(x, t), denoise(score, sde, x, t), reverse_drift(score, sde, x, t)):
            assert value.dtype == torch.float32 and value.isfinite().all()


def test_drifts_take_a_time_for_each_state(sde, target):
    x, ts, score = torch.randn(3, 2), torch.tensor([0.2, 0.5, 0.9]), exact_score(sde, target)
    for of in (reverse_drift, denoise):
        alone = [of(score, sde, x[i : i + 1], t) for i, t in enumerate(ts)]
        assert_close(of(score, sde, x, ts), torch.cat(alone))


def test_a_density_that_autograd_cannot_follow_is_refused():
    for log_prob in (lambda x, t: -x.detach().square().sum(1), lambda x, t: torch.zeros(len(x))):
        with pytest.raises(ValueError, match=r"log_prob\(x, t\) must be differentiable in x"):
            grad_log(log_prob)(torch.randn(3, 2), torch.tensor(0.5))
    with pytest.raises(TypeError, match=r"log_prob\(x, t\) must be a floating-point tensor, got"):
        grad_log(lambda x, t: 0.0)(torch.randn(3, 2), torch.tensor(0.5))


def test_a_score_is_checked_once():
    score = checked(lambda x, t: -x)
    assert checked(score) is score
    x = torch.randn(3, 2, dtype=torch.float32)
    assert torch.equal(checked(lambda x, t: -x.double())(x, torch.tensor(0.5)), -x)


@pytest.mark.parametrize("score", [None, torch.zeros(2), torch.nn.Linear])
def test_what_is_no_function_is_no_score(score):
    with pytest.raises(TypeError, match="score must be a function of states and times, got"):
        checked(score)


X, T = torch.ones(3, 2, dtype=torch.float64), torch.tensor(0.5, dtype=torch.float64)


@pytest.mark.parametrize(
    "score, error, message",
    [
        (lambda x, *t: x[:1], ValueError, r"must be of shape \(3, 2\), got shape \(1, 2\)"),
        (lambda x, *t: x.long(), TypeError, "must be a floating-point tensor, got torch.int64"),
        (lambda x, *t: 1.0, TypeError, "must be a floating-point tensor, got float"),
        (lambda x, *t: x.to("meta"), TypeError, "must be a floating-point tensor, .* device meta"),
    ],
)
def test_a_value_that_is_no_score_is_named_with_its_arguments(score, error, message):
    for use in (
        lambda: checked(score)(X, T),
        lambda: denoise(score, VPSDE(), X, T),
        lambda: reverse_drift(score, VPSDE(), X, T),
    ):
        with pytest.raises(error, match=rf"^score\(x, t\) {message}"):
            use()
    with pytest.raises(error, match=rf"^network\(x\) {message}"):
        checked(score, "network")(X)


@pytest.mark.parametrize(
    "score, x, t, message",
    [
        (lambda x, t: x.sin(), [1.0], T, "x must be a floating-point tensor, got list"),
        (lambda x, t: x * t.sin(), X, 0.5, "t must be a floating-point tensor, got float"),
        (lambda x, t: -x.double(), X.long(), T, "x must be a floating-point tensor, got torch.int"),
    ],
)
def test_arguments_that_a_score_cannot_take_are_named(score, x, t, message):
    with pytest.raises(TypeError, match=message):
        checked(score)(x, t)


def test_an_error_inside_of_a_score_stays_what_it_is():
    with pytest.raises(ZeroDivisionError):
        checked(lambda x, t: x * (1 // 0))(X, T)


def test_a_score_that_autograd_cannot_follow_is_refused_where_states_are_differentiated():
    score, x = checked(lambda x, t: -x.detach()), X.clone().requires_grad_()
    assert torch.equal(score(X, T), -X)
    with torch.no_grad():
        assert torch.equal(score(x, T), -X)
    with pytest.raises(ValueError, match=r"score\(x, t\) must be differentiable in x"):
        score(x, T)


def test_only_tensors_have_a_graph():
    for out, x, name in ((1.0, X, "out"), (X, 1.0, "x")):
        with pytest.raises(TypeError, match=f"{name} must be a floating-point tensor, got float"):
            require_graph("out", out, x)


@pytest.mark.parametrize("t", [-5e-324, 1 + 2e-16, [[0.5], [0.5]]])
def test_times_that_are_none_are_refused(t):
    t, score = torch.tensor(t, dtype=torch.float64), lambda x, t: -x
    for of in (denoise, reverse_drift):
        with pytest.raises(ValueError, match="t must be "):
            of(score, VESDE(), X[:2], t)


def test_an_exact_score_has_a_time_for_each_state(target):
    with pytest.raises(ValueError, match=r"t must be of shape \(\) or \(B,\), got shape \(3, 1\)"):
        exact_score(VPSDE(), target)(X, T.expand(3, 1))


def backward_drift(f, G, log_p, x):
    """Drift of the reverse-time SDE in a clock that runs forward, at one state.

    For ``dx = f dt + G dw`` it is ``-f + div D + D grad log p`` with ``D = G G^T`` (Song et al.
    2021, Eq. 16). The library's processes have a ``G`` without ``x``, and no divergence.
    """

    def D(x):
        return G(x) @ G(x).T

    return -f(x) + torch.einsum("ijj->i", jacfwd(D)(x)) + D(x) @ grad(log_p)(x)


def test_noise_that_depends_on_the_state_is_reversed_with_its_divergence():
    # Geometric Brownian motion in the plane: the logarithms are a Gaussian process, so the mean of
    # the earlier state given the later one is known by regression, and its velocity tends to the
    # drift at first order
    mu, S = torch.tensor([0.5, -0.2]), torch.tensor([[0.6, 0.0], [0.4, 0.5]])
    C, t = S @ S.T, 0.8

    def log_law(t):
        cov = torch.tensor([[0.15, -0.1], [-0.1, 0.15]]) + C * t
        return (mu - C.diagonal() / 2) * t, cov

    def log_p(x):
        mean, cov = log_law(t)
        u = x.log() - mean
        return -(u @ cov.inverse() @ u) / 2 - x.log().sum()

    def velocity(x, h):
        (m_s, cov_s), (m_t, cov_t) = log_law(t - h), log_law(t)
        K = cov_s @ cov_t.inverse()
        mean = m_s + K @ (x.log() - m_t)
        return ((mean + (cov_s - K @ cov_s).diagonal() / 2).exp() - x) / h

    for x in torch.rand(10, 2) + 0.5:
        drift = backward_drift(lambda x: mu * x, lambda x: x[:, None] * S, log_p, x)
        coarse, fine = (velocity(x, h) - drift for h in (2e-4, 1e-4))
        assert_close(coarse, 2 * fine, rtol=0.02, atol=1e-6)


class Still(torch.nn.Module):
    def forward(self, u, t, label):
        return 0 * u[:, :2]


POINT, SEEN = torch.zeros(2), torch.tensor([True, False])
SCORES = {
    "exact": lambda sde, target: exact_score(sde, target),
    "translated": lambda sde, target: translate(exact_score(sde, target), sde, CosineSDE(0.1)),
    "inpainted": lambda sde, target: inpaint(exact_score(sde, target), sde, POINT, SEEN),
    "added": lambda sde, target: add(exact_score(sde, target), exact_score(sde, target)),
    "learned": lambda sde, target: ResidualScore(MLP(2), sde, torch.eye(2)),
    "learned from a mixture": lambda sde, target: MixtureResidualScore(Still(), sde, target),
    "of learn": lambda sde, target: StandardScore(MLP(2), sde),
    "the drift": lambda sde, target: sde.drift,
    "the reverse drift": lambda sde, target: partial(reverse_drift, exact_score(sde, target), sde),
    "the guess": lambda sde, target: partial(denoise, exact_score(sde, target), sde),
}


@pytest.mark.parametrize("t", [-0.1, 1.5, torch.nan])
@pytest.mark.parametrize("make", SCORES.values(), ids=SCORES)
def test_no_score_answers_at_a_time_that_is_none(make, t, target):
    score, x = make(VPSDE(), target), torch.zeros(3, 2)
    assert score(x, torch.tensor(0.5)).shape == x.shape
    for times in (torch.tensor(t), torch.tensor([0.5, t, 0.5])):
        with pytest.raises(ValueError, match=r"^t must be in \[0, 1\], got values from"):
            score(x, times)


def test_a_score_is_given_times_of_the_states_precision():
    given = []
    score = checked(lambda x, t: given.append(t.dtype) or -x)
    for dtype in (torch.float32, torch.float64):
        for times in (torch.float32, torch.float64):
            score(torch.ones(2, 1, dtype=dtype), torch.tensor(0.5, dtype=times))
    assert given == [torch.float32] * 2 + [torch.float64] * 2


def test_states_of_a_density_may_be_single_numbers_but_are_several():
    x = torch.randn(3)
    assert_close(grad_log(lambda x, t: -(x**2) / 2)(x, torch.tensor(0.5)), -x)
    with pytest.raises(ValueError, match=r"x must be of shape \(B, \*event\), got shape \(\)"):
        grad_log(lambda x, t: -(x**2))(torch.tensor(1.0), torch.tensor(0.5))


# A function that a function has returned is pickled as the call that made it


def bump(x, t):
    return -(x**4).sum(1)


NORMAL = GaussianMixture(torch.ones(1), torch.tensor([[1.0, -1.0]]), torch.tensor([[2.0, 0.5]]))
MADE = {
    "exact_score": lambda: exact_score(VPSDE(), NORMAL),
    "translate": lambda: translate(exact_score(VPSDE(), NORMAL), VPSDE(), SubVPSDE()),
    "grad_log": lambda: grad_log(bump),
    "checked": lambda: checked(exact_score(VPSDE(), NORMAL)),
    "add": lambda: add(grad_log(bump), exact_score(VPSDE(), NORMAL), scale=2.0),
    "classifier_free": lambda: classifier_free(
        grad_log(bump), exact_score(VPSDE(), NORMAL), torch.tensor([0.0, 1.0, 3.0])
    ),
    "inpaint": lambda: inpaint(
        exact_score(VPSDE(), NORMAL), VPSDE(), torch.ones(2), torch.tensor([True, False])
    ),
    "tweedie_likelihood": lambda: tweedie_likelihood(
        exact_score(VPSDE(), NORMAL), VPSDE(), torch.ones(1, 2), torch.ones(1), 0.1, torch.eye(2)
    ),
    "hutchinson": lambda: hutchinson(torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])),
    "given": lambda: Model(torch.randn(9, 2), torch.arange(9) % 2).given(1, scale=2.0),
}


@pytest.mark.parametrize("name", MADE)
def test_functions_made_by_functions_travel_by_pickle_and_copy(name):
    made, x, t = MADE[name](), torch.randn(3, 2), torch.tensor(0.4)
    arguments = (torch.sin, x) if name == "hutchinson" else (x, t)
    wanted = made(*arguments)
    for twin in (pickle.loads(pickle.dumps(made)), copy.deepcopy(made)):
        assert_close(twin(*arguments), wanted, rtol=0, atol=0)


def test_no_function_that_makes_functions_is_left_out():
    found = set()
    for module in (data, guidance, laws, learned, likelihood, metrics, samplers, score, training):
        for owner in (module, *filter(inspect.isclass, vars(module).values())):
            for name, item in vars(owner).items():
                of_here = getattr(item, "__module__", "") == module.__name__
                if inspect.isfunction(item) and of_here and not name.startswith("_"):
                    returned = typing.get_type_hints(item).get("return")
                    if typing.get_origin(returned) is Callable:
                        found.add(name)
    assert found - {"own_noise"} == set(MADE)  # that one hands on what it is given
