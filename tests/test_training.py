"""The errors against the identities of Vincent and Hyvarinen, the draws against their laws, the
loop against problems with a known answer.
"""

import math
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler
from torch.quasirandom import SobolEngine
from torch.testing import assert_close

from sdelib.data import deck_mixture
from sdelib.networks import UNet
from sdelib.score import exact_score, reverse_drift
from sdelib.sde import VESDE, VPSDE, like, randn_like
from sdelib.training import (
    dsm_error,
    edm_weight,
    expected,
    falling,
    fit,
    independent,
    ism_error,
    log_normal_times,
    low_discrepancy,
    muon_and_adam,
    quasi_random,
    ssm_error,
)

ERRORS = [dsm_error, ism_error, ssm_error]
NODES, WEIGHTS = (torch.as_tensor(a) for a in np.polynomial.hermite_e.hermegauss(60))
WEIGHTS = WEIGHTS / WEIGHTS.sum()  # E phi(Z) = sum_i w_i phi(z_i) for standard normal Z
SCORES = {
    "zero": lambda x: 0 * x,
    "of a normal": lambda x: -x / 9.625,
    "smooth": lambda x: torch.tanh(x) - 0.3 * x + 0.1,
}


def data_and_noise():
    """Quadrature nodes ``(n, 1)`` for a datum of the deck mixture and the noise, with weights."""
    mixture = deck_mixture()
    u, z = NODES[:, None], NODES[None, :]
    x0 = mixture.means[:, :, None] + mixture.variances[:, :, None].sqrt() * u
    weights = mixture.weights[:, None, None] * WEIGHTS[:, None] * WEIGHTS
    return [a.reshape(-1, 1) for a in torch.broadcast_tensors(x0, z, weights)]


def vincents_constant(d, fisher):
    """The denoising loss less the explicit one, times sigma^2; ``fisher`` is sigma^2 E|score|^2."""
    return d - fisher


@pytest.mark.parametrize("score", SCORES.values(), ids=SCORES)
@pytest.mark.parametrize("t", [0.05, 0.3])
def test_errors_differ_from_explicit_matching_by_vincents_and_hyvarinens_constants(score, t):
    # with J = sigma^2 E|s - grad log p_t|^2: dsm = J + d - sigma^2 E|grad log p_t|^2, ism = dsm - d
    sde, t = VPSDE(), torch.tensor(t)
    x0, z, weights = data_and_noise()
    x_t = sde.diffuse(x0, t, z)
    grad_log_p, sigma = exact_score(sde, deck_mixture())(x_t, t), sde.sigma(t)
    explicit, fisher = (
        (weights * sigma**2 * square).sum()
        for square in ((score(x_t) - grad_log_p) ** 2, grad_log_p**2)
    )
    as_score = lambda x, t: score(x)
    dsm, ism, ssm = ((weights[:, 0] * f(as_score, sde, x0, t, z)).sum() for f in ERRORS)
    # the 60 nodes integrate the mixture's score, which is not a polynomial, to about 1e-7
    assert_close(dsm, explicit + vincents_constant(1, fisher), rtol=1e-6, atol=1e-6)
    assert_close(ism, explicit - fisher, rtol=1e-6, atol=1e-6)
    assert_close(ssm, ism)  # in one dimension a sign is a whole basis


def linear_score(shape):
    """A score with a Jacobian that is known, ``A x + b`` on the flattened state; with A and b."""
    d = math.prod(shape)
    A, b = torch.randn(d, d) / d, torch.randn(d)
    return lambda x, t: (x.flatten(1) @ A.T + b).reshape(x.shape), A, b


@pytest.mark.parametrize("shape", [(1,), (2,), (1, 8, 8)])
@pytest.mark.parametrize(
    "t", [torch.tensor(0.3), torch.tensor([0.01, 0.2, 1.0])], ids=["one time", "times"]
)
def test_errors_of_a_linear_score(sde, shape, t):
    score, A, b = linear_score(shape)
    x0, z, v = torch.randn(3, 3, *shape)
    sigma = sde.sigma(t)
    x_t = like(sde.alpha(t), x0) * x0 + like(sigma, z) * z
    value = x_t.flatten(1) @ A.T + b
    missed = like(sigma, value) * value + z.flatten(1)
    assert_close(dsm_error(score, sde, x0, t, z), missed.square().sum(1))
    square = value.square().sum(1)
    assert_close(ism_error(score, sde, x0, t, z), sigma**2 * (square + 2 * A.trace()))
    slope = torch.einsum("bi,ij,bj->b", v.flatten(1), A, v.flatten(1))
    assert_close(ssm_error(score, sde, x0, t, z, v), sigma**2 * (square + 2 * slope))


def test_derivatives_of_the_errors_along_a_direction(sde):
    # of s + e h in e, at 0: 2 sigma h . (sigma s + z), and 2 sigma^2 (h . s + div h)
    t, x0, z, e = torch.tensor(0.3), *torch.randn(2, 5, 2), torch.zeros((), requires_grad=True)
    score, A, _ = linear_score((2,))
    along, B, _ = linear_score((2,))
    x_t, sigma = sde.diffuse(x0, t, z), sde.sigma(t)
    s, h = score(x_t, t), along(x_t, t)
    expected_slopes = (
        2 * sigma * (h * (sigma * s + z)).sum(1),
        2 * sigma**2 * ((h * s).sum(1) + B.trace()),
    )
    for error, wanted in zip((dsm_error, ism_error), expected_slopes, strict=True):
        found = error(lambda x, t: score(x, t) + e * along(x, t), sde, x0, t, z)
        slopes = [torch.autograd.grad(value, e, retain_graph=True)[0] for value in found]
        assert_close(torch.stack(slopes), wanted)


def flow_matching_weight(sde, t):
    return sde.g(t) ** 4 / 4


def test_flow_matching_is_denoising_score_matching(sde, target):
    # per datum, time and noise: the regression on the straight velocity from datum to noise equals
    # that on the kernel's score with the weight g^4 / 4, whatever the score on trial
    t, x0, z = 0.05 + 0.9 * torch.rand(20), target.sample(20), torch.randn(20, 2)
    trial = lambda x, t: torch.tanh(x) - 0.3 * x
    (_, alpha_rate), (_, sigma_rate) = (
        torch.func.jvp(c, (t,), (torch.ones_like(t),)) for c in (sde.alpha, sde.sigma)
    )
    velocity = reverse_drift(trial, sde, sde.diffuse(x0, t, z), t, eta=0)
    missed = velocity - alpha_rate[:, None] * x0 - sigma_rate[:, None] * z
    scale = flow_matching_weight(sde, t) / sde.sigma(t) ** 2  # the error carries sigma^2 already
    assert_close(missed.square().sum(1), scale * dsm_error(trial, sde, x0, t, z))


def test_the_sliced_error_averages_to_the_implicit_one(sde, target):
    # In two dimensions four sign vectors have E v v^T = I exactly, and so have the two scaled unit
    # vectors
    score, x0, z = exact_score(sde, target), target.sample(5), torch.randn(5, 2)
    t = torch.tensor(0.2)
    signs = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    for probes in (signs, math.sqrt(2) * torch.eye(2)):
        sliced = [ssm_error(score, sde, x0, t, z, v.expand(5, 2)) for v in probes]
        assert_close(torch.stack(sliced).mean(0), ism_error(score, sde, x0, t, z))


@pytest.mark.parametrize("sliced", [False, True], ids=["implicit", "sliced"])
def test_the_divergence_reaches_the_gradient(sliced):
    # d/dA of |A x|^2 + 2 tr A is 2 A x x^T + 2 I (sliced: 2 v v^T); a loss without second
    # derivatives lacks the last term
    sde, net, t = VPSDE(), nn.Linear(2, 2, bias=False), torch.tensor(0.4)
    x0, z, v = torch.randn(3, 4, 2)
    score = lambda x, t: net(x)
    error = ssm_error(score, sde, x0, t, z, v) if sliced else ism_error(score, sde, x0, t, z)
    error.sum().backward()
    x = sde.diffuse(x0, t, z)
    trace = v.mT @ v if sliced else 4 * torch.eye(2)
    exact = sde.sigma(t) ** 2 * (2 * net.weight.detach() @ x.mT @ x + 2 * trace)
    assert_close(net.weight.grad, exact)


@pytest.mark.parametrize("error", ERRORS)
def test_errors_without_gradients(error):
    # Under no_grad, as when a loss is only read: the same value, and no graph is kept
    net = nn.Sequential(nn.Linear(2, 5), nn.Tanh(), nn.Linear(5, 2))
    x0, z, t = torch.randn(3, 2), torch.randn(3, 2), torch.tensor(0.5)
    error = partial(error, v=torch.ones(3, 2)) if error is ssm_error else error
    kept = error(lambda x, t: net(x), VPSDE(), x0, t, z)
    with torch.no_grad():
        read = error(lambda x, t: net(x), VPSDE(), x0, t, z)
    assert kept.requires_grad and not read.requires_grad
    assert_close(read, kept.detach())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(2,), (1, 8, 8)])
@pytest.mark.parametrize("error", ERRORS)
def test_errors_keep_dtype_device_and_rows(error, shape, dtype, device):
    def score(x, t):
        assert x.dtype == t.dtype == dtype  # or a network in single precision would fail
        return torch.tanh(x) * x.flatten(1).sum(1).reshape(-1, *[1] * (x.ndim - 1))

    sde = VPSDE()
    x0, z, v = torch.randn(3, 4, *shape, dtype=dtype, device=device)
    t = torch.rand(4, dtype=torch.float64, device=device)  # as of a grid
    more = lambda n: (v[:n],) if error is ssm_error else ()
    together = error(score, sde, x0, t, z, *more(4))
    assert together.shape == (4,) and together.dtype == dtype and together.device.type == device
    alone = error(score, sde, x0[:1], t[:1], z[:1], *more(1))
    assert_close(alone, together[:1])  # no datum depends on its neighbours
    assert error(score, sde, x0[:0], t[:0], z[:0], *more(0)).shape == (0,)


def test_gradients_of_single_data_by_vmap():
    net, sde = nn.Linear(2, 2), VPSDE()
    x0, z, t = torch.randn(5, 2), torch.randn(5, 2), torch.rand(5)

    def one(weights, x0, t, z):
        score = lambda x, t: torch.func.functional_call(net, weights, (x,))
        return dsm_error(score, sde, x0[None], t[None], z[None]).sum()

    weights = {name: p.detach() for name, p in net.named_parameters()}
    each = torch.func.vmap(torch.func.grad(one), (None, 0, 0, 0))(weights, x0, t, z)
    dsm_error(lambda x, t: net(x), sde, x0, t, z).sum().backward()
    assert_close(each["weight"].sum(0), net.weight.grad)


# The expected error


@pytest.mark.parametrize("times", [independent, low_discrepancy])
def test_the_denoising_loss_is_least_at_the_exact_score(sde, target, times):
    # loss((1 + h) s) - loss(s) = h^2 E |sigma s|^2 at the exact s, whichever the sign of h: its
    # cross term averages to 0
    exact, x0 = exact_score(sde, target), target.sample(50_000)
    # with the data's own seed the noise would repeat the data's numbers
    generator = lambda: torch.Generator().manual_seed(1)

    def loss(h):
        score = lambda x, t: (1 + h) * exact(x, t)
        return expected(dsm_error, score, sde, x0, times=times, generator=generator())

    again = generator()
    t = 1e-3 + (1 - 1e-3) * times(x0, again)
    x_t, z = sde.perturb(x0, t, again)
    scaled = like(sde.sigma(t), x0) * exact(x_t, t)
    cross = (scaled * (scaled + z)).sum(1)
    for h in (0.3, -0.3):
        excess = h**2 * scaled.square().sum(1).mean()
        tolerance = 6 * 2 * abs(h) * cross.std() / math.sqrt(len(x0))
        assert abs(loss(h) - loss(0.0) - excess) < tolerance < excess


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("weight", [None, "likelihood"])
def test_the_weighted_integral_over_time_is_estimated(error, weight):
    # Data at 0 and s = -k x. Denoising: |s + z / sigma|^2 = (1 - k sigma^2)^2 |z|^2 / sigma^2; the
    # others: |s|^2 + 2 div s = k^2 sigma^2 |z|^2 - 2 k d, as v^T v = d for signs. With the weight
    # scale^2 each is a |z|^2 + b
    sde, t_min, n, k, d = VPSDE(), 1e-2, 100_000, 0.7, 3
    scale = sde.g if weight else sde.sigma
    given = (lambda t: scale(t) ** 2) if weight else None
    value = expected(error, lambda x, t: -k * x, sde, torch.zeros(n, d), given, t_min)
    t = torch.linspace(t_min, 1, 100_001)
    sigma, factor = sde.sigma(t), scale(t) ** 2
    a, b = factor * k**2 * sigma**2, -2 * k * d * factor
    if error is dsm_error:
        a, b = factor * (1 - k * sigma**2) ** 2 / sigma**2, 0 * t
    mean = torch.trapezoid(a * d + b, t) / (1 - t_min)
    square = torch.trapezoid(a**2 * d * (d + 2) + 2 * a * b * d + b**2, t) / (1 - t_min)
    assert abs(value - mean) < 6 * ((square - mean**2) / n).sqrt() < 0.2 * abs(mean)


@pytest.mark.parametrize("error", ERRORS)
def test_all_errors_meet_the_same_draws(sde, target, error):
    x0, score = target.sample(50), exact_score(sde, target)
    seeded = lambda: torch.Generator().manual_seed(5)
    g = seeded()
    t, z = 0.1 + 0.9 * low_discrepancy(x0, g), randn_like(x0, g)
    v = [randn_like(x0, g).sign()] if error is ssm_error else []
    loss = partial(expected, error, score, sde, x0, t_min=0.1, times=low_discrepancy)
    assert_close(loss(generator=seeded()), error(score, sde, x0, t, z, *v).mean())
    weighted = loss(generator=seeded(), weight=lambda t: sde.sigma(t) ** 2)
    assert_close(weighted, loss(generator=seeded()))


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_loss_repeats_with_its_generator(target, dtype, device, error):
    x0, sde = target.sample(8).to(device, dtype), VPSDE()
    score = exact_score(sde, target)
    a, b, c = (
        expected(error, score, sde, x0, generator=torch.Generator(device).manual_seed(k))
        for k in (0, 0, 1)
    )
    assert torch.equal(a, b) and a != c
    assert a.shape == () and a.dtype == dtype and a.device.type == device


def test_the_expected_error_has_its_documented_defaults(target):
    x0, sde = target.sample(5), VPSDE()
    seeded = lambda: torch.Generator().manual_seed(5)
    loss = partial(expected, dsm_error, exact_score(sde, target), sde, x0)
    documented = loss(None, 1e-3, seeded(), independent)
    assert loss(generator=seeded()) == documented
    assert expected(dsm_error, ZERO, sde, x0[:1]).shape == ()  # one datum is a batch


def test_a_weight_may_be_a_number():
    seeded = lambda: torch.Generator().manual_seed(5)
    one, half = (draw(weight=lambda t, c=c: c, generator=seeded()) for c in (1, 0.5))
    assert_close(one, draw(weight=torch.ones_like, generator=seeded()))
    assert_close(half, one / 2)


# The draws


def test_low_discrepancy_times_fill_every_slice_in_random_order():
    u = low_discrepancy(torch.zeros(1000, 1))
    assert torch.equal((1000 * u).long().sort().values, torch.arange(1000))
    within = (1000 * u) % 1  # uniform inside its slice too, or the loss would be biased
    assert abs(within.mean() - 0.5) < 6 / math.sqrt(12 * 1000)
    # the middle of each slice has that mean as well, but not the variance of a uniform number
    assert abs((within - 0.5).square().mean() - 1 / 12) < 6 / math.sqrt(180 * 1000)
    order = torch.corrcoef(torch.stack([u, torch.arange(1000.0)]))[0, 1]
    # no trend along the batch, so data in a fixed order meet every time
    assert abs(order) < 6 / math.sqrt(1000)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_low_discrepancy_times_stay_below_1(dtype, monkeypatch):
    almost = 1 - torch.finfo(dtype).eps / 2  # the largest number that torch.rand can return
    monkeypatch.setattr(torch, "rand", lambda *size, **how: torch.full(size, almost, dtype=dtype))
    u = low_discrepancy(torch.zeros(70_000, 1, dtype=dtype))
    assert u.dtype == dtype and u.max() == almost and u.min() >= 0
    # each number is at the end of its slice, and rounded
    assert abs(u.double().mean() - 0.5) < 0.5 / 70_000 + torch.finfo(dtype).eps


def test_the_low_discrepancy_time_of_a_single_datum_is_uniform():
    u = torch.cat([low_discrepancy(torch.zeros(1, 1)) for _ in range(200)])
    assert abs(u.mean() - 0.5) < 6 / math.sqrt(12 * 200)


@pytest.mark.parametrize("times", [independent, low_discrepancy])
def test_times_are_drawn_where_the_data_lie_and_in_their_dtype(times):
    x0 = torch.zeros(4, 1, dtype=torch.float32)
    with torch.device("meta"):
        u = times(x0)
    assert u.device == x0.device and u.dtype == x0.dtype


def test_quasi_random_draws_are_those_of_the_cube():
    cube, again = (SobolEngine(4, scramble=True, seed=3) for _ in range(2))
    u = again.draw(4096)
    i, times, z = quasi_random(cube, 10, 4096)
    assert torch.equal(i, (10 * u[:, 0]).long()) and torch.equal(times, u[:, 1])
    assert_close(z, torch.distributions.Normal(0, 1).icdf(u[:, 2:]))
    # 4096 points of a (0, 12, 1)-net: each of ten slices holds its share up to one point
    assert (i.bincount(minlength=10) - 409.6).abs().max() < 1
    assert quasi_random(SobolEngine(2), 10, 5)[2].shape == (5, 0)
    assert quasi_random(SobolEngine(2), 1, 1)[0] == 0  # one draw from one datum


def test_quasi_random_draws_are_finite_at_the_corners_of_the_cube(monkeypatch):
    for corner in (0.0, 1.0):  # 1 by rounding in single precision
        monkeypatch.setattr(SobolEngine, "draw", lambda self, n, c=corner: torch.full((n, 3), c))
        i, u, z = quasi_random(SobolEngine(3), 7, 2)
        assert i.tolist() == [6 * corner] * 2 and z.isfinite().all()
        assert ((u > 0) & (u < 1)).all()


def test_log_normal_times_have_their_quantiles(sde):
    # The noise-to-signal ratio at the time of u = Phi(z) is exp(centre + spread z), and t_min at
    # least; single precision loses the smallest ratios of VE to cancellation, double does not
    u = torch.special.ndtr(torch.linspace(-3, 3, 13))
    t = log_normal_times(sde, u, -0.9, 1.2, 1e-9)
    ratio = sde.sigma(t) / sde.alpha(t)
    exact = torch.exp(-0.9 + 1.2 * torch.linspace(-3, 3, 13))
    reached = exact < sde.sigma(torch.tensor(1.0)) / sde.alpha(torch.tensor(1.0))
    assert_close(ratio[reached], exact[reached], rtol=1e-6, atol=0)
    assert (t[~reached] == 1).all() and reached.sum() >= 8
    ends = log_normal_times(sde, torch.tensor([0.0, 1.0]), -0.9, 1.2, 0.01)
    assert ends[0] == 0.01 and ends[1].isfinite()


def test_log_normal_times_have_their_documented_defaults():
    u = torch.tensor([0.0, 0.3, 0.8])
    documented = log_normal_times(VPSDE(), u, -0.9, 1.2, 1e-3)
    assert torch.equal(log_normal_times(VPSDE(), u), documented) and documented[0] == 1e-3


def test_log_normal_times_at_0_and_1_are_those_at_a_millionth_from_there():
    t = log_normal_times(VPSDE(), torch.tensor([0.0, 1.0]), spread=0.5, t_min=1e-9)
    ratio = VPSDE().sigma(t) / VPSDE().alpha(t)
    # beyond, a normal number would soon be infinite
    z = torch.special.ndtri(torch.tensor([1e-6, 1 - 1e-6]))
    assert_close(ratio, (-0.9 + 0.5 * z).exp(), rtol=1e-6, atol=0)


def test_log_normal_times_of_half_precision_are_single():
    t = log_normal_times(VPSDE(), torch.tensor([0.3, 0.5], dtype=torch.float16))
    assert t.dtype == torch.float32


def test_the_edm_weight_makes_the_error_that_of_the_denoised_datum(sde):
    # Karras et al. 2022: weight (r^2 + v) / (r^2 v) on |D - x0|^2, r = sigma / alpha; here times v.
    # Even over noise levels: for Gaussian data of variance v its minimum is v d, at every time
    v, t, d = 0.3, torch.tensor([0.05, 0.3, 0.8]), 2
    x0, z = torch.randn(2, 3, d)
    score = lambda x, t: torch.sin(3 * x)
    alpha, sigma, x_t = sde.alpha(t), sde.sigma(t), sde.diffuse(x0, t, z)
    denoised = (x_t + like(sigma**2, x0) * score(x_t, t)) / like(alpha, x0)
    ratio = sigma / alpha
    exact = (ratio**2 + v) / ratio**2 * (denoised - x0).square().sum(1)
    assert_close(edm_weight(sde, t, v) * dsm_error(score, sde, x0, t, z), exact)
    gaussian = lambda x, t: -x / like(sde.alpha(t) ** 2 * v + sde.sigma(t) ** 2, x)
    x0, z = (a.expand(3, *a.shape) for a in (torch.tensor([v**0.5, 0.0]), torch.tensor([0.0, 1])))
    mean = dsm_error(gaussian, sde, x0, t, 0 * z) + dsm_error(gaussian, sde, 0 * x0, t, z)
    assert_close(edm_weight(sde, t, v) * mean, torch.full((3,), v))  # E over one coordinate of each


def test_the_edm_weight_is_for_data_of_unit_variance_by_default(sde):
    t = torch.tensor([0.05, 0.3, 0.8])
    assert torch.equal(edm_weight(sde, t), edm_weight(sde, t, 1.0))
    variances = torch.tensor([0.5, 1.0, 2.0])  # of three data
    assert_close(edm_weight(sde, t, variances) - edm_weight(sde, t), variances - 1)


# The loop


class Constant(nn.Module):
    """The network ``c``; with ``E (c - y)^2`` as its loss it should find the mean of ``y``."""

    def __init__(self):
        super().__init__()
        self.c = nn.Parameter(torch.zeros(2))

    def forward(self):
        return self.c


def sgd(net, rate=0.1):
    return torch.optim.SGD(net.parameters(), lr=rate)


def test_fit_finds_the_minimum_and_returns_every_loss():
    net, mean = Constant(), torch.tensor([1.0, -2.0])
    loss = lambda net: (net() - mean).square().sum()
    history = fit(net, loss, 200, sgd(net), progress=False)
    assert_close(net(), mean)
    # Gradient descent on a quadratic: the error shrinks by (1 - 2 lr) a step
    assert_close(history, 5 * 0.8 ** (2 * torch.arange(200.0)), rtol=1e-9, atol=1e-14)


def test_fit_leaves_the_moving_average_in_the_network():
    net = Constant()
    fit(net, lambda net: (net() - 1).square().sum(), 30, sgd(net), ema_decay=0.9, progress=False)
    after = [1 - 0.8 ** (k + 1) for k in range(30)]  # the weights after each step
    average = after[0]
    for value in after[1:]:
        average = 0.9 * average + 0.1 * value
    assert_close(net(), torch.full((2,), average))


def test_fit_steps_the_schedule_after_the_optimizer():
    net = Constant()
    optimizer = sgd(net, 1.0)
    schedule = lr_scheduler.LinearLR(optimizer, 1.0, 0.5, total_iters=4)
    fit(net, lambda net: net().sum(), 4, optimizer, schedule, progress=False)
    assert_close(net(), torch.full((2,), -(1.0 + 0.875 + 0.75 + 0.625)))


def test_several_optimizers_fall_together():
    net = nn.ParameterList([torch.zeros(()), torch.zeros(())])
    optimizers = [torch.optim.SGD([p], lr=rate) for p, rate in zip(net, (1.0, 10.0))]
    fit(net, lambda net: net[0] + net[1], 4, optimizers, falling(optimizers, 4), progress=False)
    assert_close(torch.stack([*net]), torch.tensor([-2.5, -25.0]))  # 1 + 3/4 + 1/2 + 1/4


def test_by_default_fit_uses_adam_at_a_rate_that_falls_to_0():
    def loss(net):
        return (net() - torch.tensor([1.0, 2.0])).square().sum() + torch.randn(2) @ net()

    default, explicit = Constant(), Constant()
    optimizer = torch.optim.Adam(explicit.parameters(), lr=5e-3, betas=(0.9, 0.99))
    torch.manual_seed(0)
    fit(default, loss, 50, progress=False)
    torch.manual_seed(0)
    fit(explicit, loss, 50, optimizer, falling(optimizer, 50), progress=False)
    assert_close(default(), explicit())
    assert optimizer.param_groups[0]["lr"] == 0


def test_muon_has_the_hidden_matrices_and_adam_the_rest():
    net = UNet(n_labels=10)
    muon, adam = muon_and_adam(net, 0.05, 2e-3, 0.2)
    of = lambda optimizer: {id(p) for p in optimizer.param_groups[0]["params"]}
    hidden = {name for name, p in net.named_parameters() if id(p) in of(muon)}
    assert of(muon) | of(adam) == {id(p) for p in net.parameters()} and not of(muon) & of(adam)
    assert "embed_time.weight" in hidden and all(net.get_parameter(n).ndim == 2 for n in hidden)
    ends = ("enter", "leave", "embed_label")
    matrices = {n for n, p in net.named_parameters() if p.ndim == 2 and not n.startswith(ends)}
    assert hidden == matrices
    wrapped = nn.ModuleDict({"net": net})  # as inside a score
    assert of(muon_and_adam(wrapped)[0]) == of(muon)
    assert [(o.defaults["lr"], o.defaults["weight_decay"]) for o in (muon, adam)] == [
        (0.05, 0.2),
        (2e-3, 0.2),
    ]


def test_muon_and_adam_have_their_documented_defaults():
    def settings(*rates):
        groups = [o.param_groups[0] for o in muon_and_adam(nn.Linear(2, 2), *rates)]
        return [{name: value for name, value in g.items() if name != "params"} for g in groups]

    documented = settings(0.02, 3e-3, 0.1)
    assert settings() == documented and documented[1]["betas"] == (0.9, 0.99)
    assert [group["lr"] for group in settings(0.0, 0.0, 0.0)] == [0, 0]  # nothing moves


def test_by_default_fit_trains_complex_numbers_too():
    net = nn.ParameterList([torch.zeros(2, dtype=torch.complex128)])
    history = fit(net, lambda net: (net[0] - 1j).abs().square().sum(), 3, progress=False)
    assert (history.diff() < 0).all()


def test_fit_makes_a_single_step():
    net = Constant()
    optimizer = sgd(net)
    fit(net, lambda net: net().sum(), 1, optimizer, falling(optimizer, 1), progress=False)
    assert_close(net(), torch.full((2,), -0.1))


def test_fit_shows_the_mean_of_the_last_100_losses_every_100_steps(capsys):
    net, values = Constant(), iter(range(250))
    history = fit(net, lambda net: 0 * net().sum() + next(values), 250)
    assert_close(history, torch.arange(250.0))
    shown = capsys.readouterr().err
    assert shown.startswith("\rtraining: ") and "250/250" in shown
    means = [float(text.split("]")[0]) for text in shown.split("loss=")[1:]]
    assert list(dict.fromkeys(means)) == [49.5, 149.5, 199.5]
    fit(net, lambda net: net().sum(), 1, progress=False)
    assert not capsys.readouterr().err


def test_fit_stops_at_a_loss_that_is_not_finite():
    with pytest.raises(FloatingPointError, match="the loss became nan"):
        fit(Constant(), lambda net: net().sum() * math.nan, 5, progress=False)
    net, calls = Constant(), []

    def loss(net):
        calls.append(None)
        return net().sum() * (math.nan if len(calls) == 150 else 1)

    with pytest.raises(FloatingPointError, match="nan within the 100 steps before step 200"):
        fit(net, loss, 1000, progress=False)
    assert len(calls) == 200


# What is refused

ZEROS, HALF = torch.zeros(2, 3), torch.tensor(0.5)
ZERO = lambda x, t: 0 * x
NET, OTHER = Constant(), Constant()
SGD = sgd(NET)


def draw(error=dsm_error, score=ZERO, x0=ZEROS, **how):
    return expected(error, score, VPSDE(), x0, **how)


def run(loss=lambda net: net().sum(), n_steps=1, *args, net=NET, **how):
    return fit(net, loss, n_steps, *args, progress=False, **how)


BAD_VALUES = {
    r"t_min must be inside \(0, 1\), got 0.0": lambda: draw(t_min=0.0),
    r"t_min must be inside \(0, 1\), got 1.0": lambda: draw(t_min=1.0),
    r"t_min must be inside \(0, 1\), got 0": lambda: log_normal_times(VPSDE(), HALF, t_min=0),
    r"t_min must be inside \(0, 1\), got 1": lambda: log_normal_times(VPSDE(), HALF, t_min=1),
    "spread must be positive and finite, got inf": lambda: log_normal_times(
        VPSDE(), HALF, spread=math.inf
    ),
    "centre must be finite, got inf": lambda: log_normal_times(VPSDE(), HALF, math.inf),
    r"variance must be of shape \(\), got shape \(2,\)": lambda: edm_weight(
        VPSDE(), HALF, torch.ones(2)
    ),
    r"t must be in \[0, 1\], got values from 2": lambda: edm_weight(VPSDE(), 4 * HALF),
    r"x0 must be of shape \(B, \*event\), got shape \(2,\)": lambda: draw(x0=ZEROS[:, 0]),
    r"times\(x0, generator\) must be of shape \(2,\), got shape \(\)": lambda: draw(
        times=lambda x0, generator: HALF
    ),
    r"times\(x0, generator\) must be in \[0, 1\], got values from 2": lambda: draw(
        times=lambda x0, generator: 4 * HALF.expand(2), t_min=1e-9
    ),
    "x0 must be finite everywhere": lambda: draw(x0=torch.full((2, 1), math.nan)),
    "x0 must be at least one datum, got an empty batch": lambda: draw(x0=ZEROS[:0]),
    r"score\(x, t\) must be of shape \(2, 3\), got shape \(2, 1\)": lambda: draw(
        score=lambda x, t: x[:, :1]
    ),
    r"score\(x, t\) must be differentiable in x: no": lambda: draw(
        ism_error, lambda x, t: -x.detach()
    ),
    r"score\(x, t\) must be differentiable in x": lambda: draw(ssm_error, lambda x, t: -x.detach()),
    r"weight\(t\) must be of shape \(2,\), got shape \(2, 1\)": lambda: draw(
        weight=lambda t: t[:, None]
    ),
    r"error\(.*\) must be of shape \(2,\), got shape \(\)": lambda: draw(
        lambda *args: dsm_error(*args).mean()
    ),
    r"z must be of shape \(2, 3\), got shape \(3,\)": lambda: dsm_error(
        ZERO, VPSDE(), ZEROS, HALF, ZEROS[0]
    ),
    r"v must be of shape \(2, 3\), got shape \(1, 3\)": lambda: ssm_error(
        ZERO, VPSDE(), ZEROS, HALF, ZEROS, ZEROS[:1]
    ),
    r"t must be in \[0, 1\], got values from 1.5": lambda: dsm_error(
        ZERO, VPSDE(), ZEROS, 3 * HALF, ZEROS
    ),
    r"t or c must be of shape \(\) or \(2,\), got shape \(3,\)": lambda: dsm_error(
        ZERO, VPSDE(), ZEROS, HALF.expand(3), ZEROS
    ),
    "cube must be of two dimensions or more": lambda: quasi_random(SobolEngine(1), 5, 5),
    "n_points must be at least 1, got 0": lambda: quasi_random(SobolEngine(3), 0, 5),
    "batch must be at least 1, got 0": lambda: quasi_random(SobolEngine(3), 5, 0),
    "spread must be positive and finite, got 0": lambda: log_normal_times(VPSDE(), HALF, 0, 0),
    r"u must be in \[0, 1\]": lambda: log_normal_times(VPSDE(), -HALF),
    "net must be one with hidden matrices and others, got": lambda: muon_and_adam(NET),
    "net must be one with hidden matrices and others, got 1 and 0": lambda: muon_and_adam(
        nn.Linear(2, 2, bias=False)
    ),
    "rate_muon must be at least 0, got -1": lambda: muon_and_adam(nn.Linear(2, 2), -1),
    "rate_adam must be at least 0, got -1": lambda: muon_and_adam(nn.Linear(2, 2), 0, -1),
    "weight_decay must be at least 0, got -1": lambda: muon_and_adam(nn.Linear(2, 2), 0, 0, -1),
    "n_steps must be at least 1, got -1": lambda: falling(SGD, -1),
    "n_steps must be at least 1, got 0": lambda: run(n_steps=0),
    "n_steps must be at least 1, got -2": lambda: run(n_steps=-2, optimizer=SGD),
    r"ema_decay must be in \[0, 1\), got 1.0": lambda: run(ema_decay=1.0),
    "net must be a module with parameters that require": lambda: run(net=nn.Identity()),
    "net must be a module with parameters that requ": lambda: run(
        net=nn.Linear(1, 1).requires_grad_(False)
    ),
    r"loss\(net\) must be a scalar, got shape \(2,\)": lambda: run(lambda net: net()),
    r"loss\(net\) must be a function of net, got a number without": lambda: run(
        lambda net: net().sum().detach()
    ),
    "optimizer must be at least one, got none": lambda: run(optimizer=[]),
    "optimizer must be of parameters of net, got SGD of others": lambda: run(optimizer=sgd(OTHER)),
    "schedule must be of a given optimizer, got LinearLR of another": lambda: run(
        optimizer=sgd(NET), schedule=falling(SGD, 5)
    ),
    "schedule must be None where the optimizer is not given": lambda: run(schedule=falling(SGD, 5)),
}
BAD_TYPES = {
    "z must be a floating-point tensor, got int": lambda: dsm_error(ZERO, VPSDE(), ZEROS, HALF, 0),
    "x0 must be a floating-point tensor, got torch.int64": lambda: draw(x0=ZEROS.long()),
    r"score\(x, t\) must be a floating-point tensor, got NoneType": lambda: draw(
        score=lambda x, t: None
    ),
    "cube must be a SobolEngine, got int": lambda: quasi_random(3, 5, 5),
    r"loss\(net\) must be a floating-point tensor, got float": lambda: run(lambda net: 1.0),
    "n_steps must be an integer, got float": lambda: run(n_steps=1e3),
    "net must be a torch.nn.Module, got function": lambda: run(net=ZERO),
    "optimizer must be torch optimizers, got str": lambda: run(optimizer="adam"),
    "optimizer must be one that needs no closure, got LBFGS": lambda: run(
        optimizer=torch.optim.LBFGS(NET.parameters())
    ),
    "schedule must be one of the step alone, got ReduceLROnPlateau": lambda: run(
        optimizer=SGD, schedule=lr_scheduler.ReduceLROnPlateau(SGD)
    ),
    "checkpoint must be a Checkpoint or None, got str": lambda: run(checkpoint="run.safetensors"),
}


@pytest.mark.parametrize("message", [*BAD_VALUES, *BAD_TYPES])
def test_bad_arguments_are_named(message):
    call = (BAD_VALUES | BAD_TYPES)[message]
    with pytest.raises(ValueError if message in BAD_VALUES else TypeError, match=message):
        call()


def test_half_precision_has_its_coefficients_in_single():
    sde, nothing = VESDE(0.01, 1e4), lambda x, t: 0 * x  # sigma is on the way from 1e6
    x0, z, end = torch.zeros(4, 1).half(), torch.randn(4, 1).half(), torch.ones(4).half()
    assert torch.equal(dsm_error(nothing, sde, x0, end, z), z[:, 0] ** 2)
    for times in (independent, lambda x0, generator: end):
        assert expected(dsm_error, nothing, sde, x0, times=times).isfinite()
