"""The loss against the identities of Vincent and Hyvarinen; the loop against a problem with a known
answer.
"""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from sdelib.data import deck_mixture
from sdelib.score import exact_score
from sdelib.sde import VPSDE, like
from sdelib.training import (
    dsm_error,
    dsm_loss,
    fit,
    ism_error,
    ism_loss,
    low_discrepancy,
    ssm_error,
    ssm_loss,
    uniform,
)

NODES, WEIGHTS = (torch.as_tensor(a) for a in np.polynomial.hermite_e.hermegauss(60))
WEIGHTS = WEIGHTS / WEIGHTS.sum()  # E phi(Z) = sum_i w_i phi(z_i) for standard normal Z
SCORES = {
    "zero": lambda x: 0 * x,
    "of a normal": lambda x: -x / 9.625,
    "smooth": lambda x: torch.tanh(x) - 0.3 * x + 0.1,
}


def expectation(function, sde, t):
    """E function(x_t, z) over both components of the deck mixture and the noise, by Gauss-Hermite
    quadrature.
    """
    mixture = deck_mixture()
    u, z = torch.meshgrid(NODES, NODES, indexing="ij")
    total = 0.0
    for weight, mean, variance in zip(
        mixture.weights, mixture.means[:, 0], mixture.variances[:, 0]
    ):
        x_t = sde.alpha(t) * (mean + variance.sqrt() * u) + sde.sigma(t) * z
        total += weight * (WEIGHTS[:, None] * WEIGHTS * function(x_t, z)).sum()
    return total


@pytest.mark.parametrize("score", SCORES.values(), ids=SCORES)
@pytest.mark.parametrize("t", [0.05, 0.3])
def test_denoising_is_explicit_matching_plus_vincents_constant(score, t):
    # E|s - grad log p(x_t|x_0)|^2 = E|s - grad log p_t|^2 + d / sigma^2 - E|grad log p_t|^2
    sde, t = VPSDE(), torch.tensor(t)
    exact = exact_score(sde, deck_mixture())

    def grad_log_p(x):
        return exact(x.reshape(-1, 1), t).reshape(x.shape)

    denoising = expectation(lambda x, z: (score(x) + z / sde.sigma(t)) ** 2, sde, t)
    explicit = expectation(lambda x, z: (score(x) - grad_log_p(x)) ** 2, sde, t)
    fisher = expectation(lambda x, z: grad_log_p(x) ** 2, sde, t)
    assert_close(denoising, explicit + 1 / sde.sigma(t) ** 2 - fisher, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("score", SCORES.values(), ids=SCORES)
def test_implicit_is_explicit_matching_less_hyvarinens_constant(score):
    # E[|s|^2 + 2 div s] = E|s - grad log p|^2 - E|grad log p|^2
    sde, t = VPSDE(), torch.tensor(0.1)
    exact = exact_score(sde, deck_mixture())

    def grad_log_p(x):
        return exact(x.reshape(-1, 1), t).reshape(x.shape)

    def divergence(x):
        return torch.func.jvp(score, (x,), (torch.ones_like(x),))[1]

    implicit = expectation(lambda x, z: score(x) ** 2 + 2 * divergence(x), sde, t)
    explicit = expectation(lambda x, z: (score(x) - grad_log_p(x)) ** 2, sde, t)
    fisher = expectation(lambda x, z: grad_log_p(x) ** 2, sde, t)
    assert_close(implicit, explicit - fisher, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("times", [uniform, low_discrepancy])
def test_dsm_loss_is_least_at_the_exact_score(sde, target, times):
    # loss((1 + h) s) - loss(s) = h^2 E |sigma s|^2 at the exact s, whichever the sign of h: its
    # cross term averages to 0
    exact, x0 = exact_score(sde, target), target.sample(50_000)

    def generator():
        return torch.Generator().manual_seed(
            1
        )  # with the data's own seed the noise would repeat the data's numbers

    def loss(h):
        return dsm_loss(
            lambda x, t: (1 + h) * exact(x, t), sde, x0, times=times, generator=generator()
        )

    again = generator()
    t = 1e-3 + (1 - 1e-3) * times(x0, again)
    x_t, z = sde.perturb(x0, t, again)
    scaled = like(sde.sigma(t), x0) * exact(x_t, t)
    cross = (scaled * (scaled + z)).sum(1)
    for h in (0.3, -0.3):
        excess, tolerance = (
            h**2 * scaled.square().sum(1).mean(),
            6 * 2 * abs(h) * cross.std() / math.sqrt(len(x0)),
        )
        assert abs(loss(h) - loss(0.0) - excess) < tolerance < excess


def test_dsm_loss_estimates_the_weighted_integral_over_time():
    # With s = 0 the loss is E_t lambda(t) d / sigma(t)^2: d for lambda = sigma^2, a known mean of
    # g^2 / sigma^2 otherwise
    sde, t_min, n = VPSDE(), 1e-3, 200_000
    x0 = torch.zeros(n, 3)
    zero = lambda x, t: torch.zeros_like(x)
    assert abs(dsm_loss(zero, sde, x0) - 3) < 6 * math.sqrt(2 * 3 / n)
    t = torch.linspace(t_min, 1, 100_001)
    rate = (sde.g(t) / sde.sigma(t)) ** 2
    spread = (15 * rate.square().mean() / n).sqrt()  # E |z|^4 = d (d + 2) = 15
    likelihood = dsm_loss(zero, sde, x0, weight=lambda t: sde.g(t) ** 2, t_min=t_min)
    assert abs(likelihood - 3 * torch.trapezoid(rate, t) / (1 - t_min)) < 6 * spread


def test_low_discrepancy_times_fill_every_slice_in_random_order():
    u = low_discrepancy(torch.zeros(1000, 1))
    assert torch.equal((1000 * u).long().sort().values, torch.arange(1000))
    within = (1000 * u) % 1  # uniform inside its slice too, or the loss would be biased
    assert abs(within.mean() - 0.5) < 6 / math.sqrt(12 * 1000)
    order = torch.corrcoef(torch.stack([u, torch.arange(1000.0)]))[0, 1]
    assert abs(order) < 6 / math.sqrt(
        1000
    )  # no trend along the batch, so data in a fixed order meet every time


def test_the_loss_repeats_with_its_generator(sde, target, device):
    x0 = target.sample(8).to(device)
    score = exact_score(sde, target)
    a, b, c = (
        dsm_loss(score, sde, x0, generator=torch.Generator(device).manual_seed(k))
        for k in (0, 0, 1)
    )
    assert torch.equal(a, b) and a != c and a.shape == () and a.device.type == device


class Constant(nn.Module):
    """The network ``c``; with ``E (c - y)^2`` as its loss it should find the mean of ``y``."""

    def __init__(self):
        super().__init__()
        self.c = nn.Parameter(torch.zeros(2))

    def forward(self):
        return self.c


def test_fit_finds_the_minimum_and_returns_every_loss():
    net, mean = Constant(), torch.tensor([1.0, -2.0])
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    history = fit(net, lambda net: (net() - mean).square().sum(), 200, optimizer, progress=False)
    assert_close(net(), mean)
    # Gradient descent on a quadratic: the error shrinks by (1 - 2 lr) a step
    assert_close(history, 5 * 0.8 ** (2 * torch.arange(200.0)), rtol=1e-9, atol=1e-14)


def test_fit_leaves_the_moving_average_in_the_network():
    net, path = Constant(), []

    def loss(net):
        path.append(net().detach().clone())
        return (net() - 1).square().sum()

    fit(net, loss, 30, torch.optim.SGD(net.parameters(), lr=0.1), ema_decay=0.9, progress=False)
    after = [1 - 0.8 ** (k + 1) for k in range(30)]  # the weights after each step
    average = after[0]
    for value in after[1:]:
        average = 0.9 * average + 0.1 * value
    assert_close(net(), torch.full((2,), average))


def test_fit_steps_the_schedule():
    net = Constant()
    optimizer = torch.optim.SGD(net.parameters(), lr=1.0)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.5, total_iters=4)
    fit(net, lambda net: net().sum(), 4, optimizer, schedule, progress=False)
    assert_close(net(), torch.full((2,), -(1.0 + 0.875 + 0.75 + 0.625)))


def test_fit_stops_at_a_loss_that_is_not_finite():
    with pytest.raises(FloatingPointError, match="the loss became nan"):
        fit(Constant(), lambda net: net().sum() * math.nan, 5, progress=False)


@pytest.mark.parametrize(
    "call, message",
    [
        (
            lambda: dsm_loss(None, VPSDE(), torch.zeros(2, 1), t_min=0.0),
            r"t_min must be inside \(0, 1\), got 0.0",
        ),
        (
            lambda: dsm_loss(None, VPSDE(), torch.full((2, 1), math.nan)),
            "x0 must be finite everywhere",
        ),
        (lambda: fit(Constant(), None, 0), "n_steps must be at least 1, got 0"),
        (
            lambda: fit(Constant(), None, 1, ema_decay=1.0),
            r"ema_decay must be in \[0, 1\), got 1.0",
        ),
    ],
)
def test_bad_values_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# The implicit and the sliced loss


def linear_score(shape):
    """A score with a Jacobian that is known: ``A x + b`` on the flattened state, as ``(score, A,
    b)``.
    """
    d = math.prod(shape)
    A, b = torch.randn(d, d) / d, torch.randn(d)
    return lambda x, t: (x.flatten(1) @ A.T + b).reshape(x.shape), A, b


@pytest.mark.parametrize("shape", [(1,), (2,), (1, 8, 8)])
@pytest.mark.parametrize(
    "t", [torch.tensor(0.3), torch.tensor([0.01, 0.2, 1.0])], ids=["one time", "times"]
)
def test_implicit_and_sliced_errors_of_a_linear_score(sde, shape, t):
    score, A, b = linear_score(shape)
    x0, z, v = torch.randn(3, 3, *shape)
    x_t = like(sde.alpha(t), x0) * x0 + like(sde.sigma(t), z) * z
    square = (x_t.flatten(1) @ A.T + b).square().sum(1)
    assert_close(ism_error(score, sde, x0, t, z), sde.sigma(t) ** 2 * (square + 2 * A.trace()))
    slope = torch.einsum("bi,ij,bj->b", v.flatten(1), A, v.flatten(1))
    assert_close(ssm_error(score, sde, x0, t, z, v), sde.sigma(t) ** 2 * (square + 2 * slope))


@pytest.mark.parametrize("score", SCORES.values(), ids=SCORES)
@pytest.mark.parametrize("t", [0.05, 0.3])
def test_denoising_is_implicit_matching_plus_the_dimension(score, t):
    # E |sigma s + z|^2 - E sigma^2 (|s|^2 + 2 s') = E z^2 = 1, by Stein's identity E z s(x_t) =
    # sigma E s'(x_t)
    sde, t = VPSDE(), torch.tensor(t)
    x0, u, z = (a.reshape(-1, 1) for a in torch.broadcast_tensors(*mixture_nodes()))
    weights = (0.5 * WEIGHTS[:, None] * WEIGHTS).expand(2, -1, -1).reshape(-1)
    as_score = lambda x, t: score(x)
    gap = dsm_error(as_score, sde, x0, t, z) - ism_error(as_score, sde, x0, t, z)
    assert_close((weights * gap).sum(), torch.tensor(1.0), rtol=1e-6, atol=1e-6)


def mixture_nodes():
    """Quadrature nodes for a datum of the deck mixture, the standard normal behind it, and the
    noise.
    """
    mixture = deck_mixture()
    u, z = NODES[:, None], NODES[None, :]
    x0 = mixture.means[:, :, None] + mixture.variances[:, :, None].sqrt() * u
    return x0, u, z


def test_sliced_error_averages_to_the_implicit_one(sde, target):
    # In two dimensions four sign vectors have E v v^T = I exactly, and so have the two scaled unit
    # vectors
    score, x0, z, t = (
        exact_score(sde, target),
        target.sample(5),
        torch.randn(5, 2),
        torch.tensor(0.2),
    )
    implicit = ism_error(score, sde, x0, t, z)
    for probes in (
        [[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]],
        [[math.sqrt(2), 0.0], [0.0, math.sqrt(2)]],
    ):
        sliced = [ssm_error(score, sde, x0, t, z, torch.tensor(v).expand(5, 2)) for v in probes]
        assert_close(torch.stack(sliced).mean(0), implicit)


@pytest.mark.parametrize("sliced", [False, True], ids=["implicit", "sliced"])
def test_the_divergence_reaches_the_gradient(sliced):
    # d/dA of |A x|^2 + 2 tr A is 2 A x x^T + 2 I (sliced: 2 v v^T); a loss without second
    # derivatives lacks the last term
    sde, net, t = VPSDE(), nn.Linear(2, 2, bias=False), torch.tensor(0.4)
    x0, z, v = torch.randn(3, 4, 2)
    score = lambda x, t: net(x)
    error = ssm_error(score, sde, x0, t, z, v) if sliced else ism_error(score, sde, x0, t, z)
    error.sum().backward()
    x = sde.alpha(t) * x0 + sde.sigma(t) * z
    trace = v.mT @ v if sliced else 4 * torch.eye(2)
    assert_close(
        net.weight.grad, sde.sigma(t) ** 2 * (2 * net.weight.detach() @ x.mT @ x + 2 * trace)
    )


@pytest.mark.parametrize("loss", [ism_loss, ssm_loss])
@pytest.mark.parametrize("weight", [None, "likelihood"])
def test_implicit_losses_estimate_the_weighted_integral_over_time(loss, weight):
    # Data at 0 and s = -k x: |s|^2 + 2 div s = k^2 sigma^2 |z|^2 - 2 k d, of mean (k^2 sigma^2 - 2
    # k) d; random signs have v^T v = d, so the sliced loss has no other randomness
    sde, t_min, n, k, d = VPSDE(), 1e-2, 100_000, 0.7, 3
    scale = sde.g if weight else sde.sigma
    value = loss(
        lambda x, t: -k * x, sde, torch.zeros(n, d), scale and (lambda t: scale(t) ** 2), t_min
    )
    t = torch.linspace(t_min, 1, 100_001)
    a, b = scale(t) ** 2 * k**2 * sde.sigma(t) ** 2, -2 * k * d * scale(t) ** 2
    mean = torch.trapezoid(a * d + b, t) / (1 - t_min)
    square = torch.trapezoid(a**2 * d * (d + 2) + 2 * a * b * d + b**2, t) / (1 - t_min)
    assert abs(value - mean) < 6 * ((square - mean**2) / n).sqrt() < 0.2 * abs(mean)


def test_all_losses_share_their_draws(sde, target):
    # At the draws of one generator: the losses are means of the errors, and the default weight is
    # sigma^2
    x0, score = target.sample(50), exact_score(sde, target)
    seeded = lambda: torch.Generator().manual_seed(5)
    g = seeded()
    t, z = 0.1 + 0.9 * low_discrepancy(x0, g), torch.randn(50, 2, generator=g)
    for loss, error in ((dsm_loss, dsm_error), (ism_loss, ism_error)):
        expected = error(score, sde, x0, t, z)
        value = loss(score, sde, x0, None, 0.1, seeded(), low_discrepancy)
        assert_close(value, expected.mean())
        weighted = loss(score, sde, x0, lambda t: sde.sigma(t) ** 2, 0.1, seeded(), low_discrepancy)
        assert_close(weighted, value)
    signs = torch.randn(50, 2, generator=g).sign()
    sliced = ssm_loss(score, sde, x0, None, 0.1, seeded(), low_discrepancy)
    assert_close(sliced, ssm_error(score, sde, x0, t, z, signs).mean())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", [(2,), (1, 8, 8)])
def test_implicit_errors_keep_dtype_device_and_rows(shape, dtype, device):
    sde = VPSDE()
    score = lambda x, t: torch.tanh(x) * x.flatten(1).sum(1).reshape(-1, *[1] * (x.ndim - 1))
    x0, z, v = torch.randn(3, 4, *shape, dtype=dtype, device=device)
    t = torch.rand(4, dtype=dtype, device=device)
    for error in (ism_error, lambda *a: ssm_error(*a, v[: len(a[2])])):
        together = error(score, sde, x0, t, z)
        assert together.shape == (4,) and together.dtype == dtype and together.device.type == device
        assert_close(
            error(score, sde, x0[:1], t[:1], z[:1]), together[:1]
        )  # no datum depends on its neighbours
        assert error(score, sde, x0[:0], t[:0], z[:0]).shape == (0,)
    for loss in (ism_loss, ssm_loss):
        a, b, c = (
            loss(score, sde, x0, generator=torch.Generator(device).manual_seed(k))
            for k in (0, 0, 1)
        )
        assert (
            torch.equal(a, b)
            and a != c
            and a.shape == ()
            and a.dtype == dtype
            and a.device.type == device
        )


def test_implicit_errors_without_gradients():
    # Under no_grad, as when a loss is only read: the same value, and no graph is kept
    sde, x0, z, t = VPSDE(), torch.randn(3, 2), torch.randn(3, 2), torch.tensor(0.5)
    net = nn.Sequential(nn.Linear(2, 5), nn.Tanh(), nn.Linear(5, 2))
    score = lambda x, t: net(x)
    for error in (ism_error, lambda *a: ssm_error(*a, torch.ones(3, 2))):
        kept = error(score, sde, x0, t, z)
        with torch.no_grad():
            read = error(score, sde, x0, t, z)
        assert kept.requires_grad and not read.requires_grad
        assert_close(read, kept.detach())


@pytest.mark.parametrize("loss", [ism_loss, ssm_loss])
def test_implicit_losses_name_bad_values(loss):
    with pytest.raises(ValueError, match=r"t_min must be inside \(0, 1\), got 0.0"):
        loss(None, VPSDE(), torch.zeros(2, 1), t_min=0.0)
    with pytest.raises(ValueError, match="x0 must be finite everywhere"):
        loss(None, VPSDE(), torch.full((2, 1), math.nan))
    with pytest.raises(
        RuntimeError
    ):  # a score cut off from its argument has no divergence, and must not pass for one of 0
        loss(lambda x, t: -x.detach(), VPSDE(), torch.zeros(2, 1))
