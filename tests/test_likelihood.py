"""Codes and likelihoods of the flow against closed forms; the trace estimators against their
variances.
"""

import inspect
import itertools
import math

import pytest
import torch
from scipy import stats
from torch.testing import assert_close

from sdelib.data import deck_mixture
from sdelib.guidance import add
from sdelib.learned import ResidualScore
from sdelib.likelihood import (
    _ERROR,
    _STAGES,
    _TIMES,
    _dormand_prince,
    bits_per_dimension,
    decode,
    encode,
    exact_divergence,
    hutchinson,
    log_likelihood,
    rademacher,
    solve_flow,
)
from sdelib.mixtures import GaussianMixture
from sdelib.networks import MLP
from sdelib.score import exact_score, grad_log, reverse_drift
from sdelib.sde import VPSDE

ONE = torch.tensor(1.0, dtype=torch.float64)
TIGHT = {"rtol": 1e-8, "atol": 1e-8}


def at(sde, target, t):
    """The target diffused to time ``t``."""
    t = torch.tensor(t)
    return target.perturb(sde.alpha(t), sde.sigma(t))


def normal(v, dim=1):
    return GaussianMixture(torch.ones(1), torch.zeros(1, dim), torch.full((1, dim), v))


# Trace


def field(d):
    """A smooth field on ``d`` coordinates whose Jacobian is not symmetric, and its Jacobians at a
    batch of points.
    """
    a = torch.randn(d, d) / math.sqrt(d)

    def v(x):
        return (x.flatten(1) @ a.T).tanh().reshape(x.shape) + x**2 / 4

    def jacobians(x):
        rows = x.flatten(1)
        return (1 - (rows @ a.T).tanh() ** 2)[:, :, None] * a + torch.diag_embed(rows / 2)

    return v, jacobians


@pytest.mark.parametrize("event", [(1,), (2,), (1, 8, 8)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("batch", [0, 1, 3])
def test_the_exact_divergence_is_the_trace_of_the_jacobian(event, dtype, batch, device):
    torch.set_default_dtype(dtype)
    x = torch.randn(batch, *event)
    v, jacobians = field(x.shape[1:].numel())
    out, div = exact_divergence(v, x)
    assert_close(out, v(x))
    assert_close(div, jacobians(x).diagonal(dim1=1, dim2=2).sum(1))
    assert not out.requires_grad and not div.requires_grad
    out, div = exact_divergence(lambda x: -2 * x, x.to(device))
    assert div.shape == (batch,) and div.dtype == dtype and div.device.type == device


def test_the_divergence_of_a_network_is_the_trace_of_its_jacobian():
    net, x, t = MLP(3, width=16), torch.randn(4, 3), torch.tensor(0.3)
    _, div = exact_divergence(lambda x: net(x, t), x)
    expected = [
        torch.autograd.functional.jacobian(lambda r: net(r[None], t)[0], row).trace() for row in x
    ]
    assert_close(div, torch.stack(expected).detach())
    assert all(p.grad is None for p in net.parameters())


@pytest.mark.parametrize("probe", [torch.randn_like, rademacher])
def test_hutchinsons_mean_and_variance(probe):
    # e^T J e = e^T S e, S = (J + J^T) / 2: mean tr J, variance 2 |S|^2 for normal probes, without
    # S's diagonal for signs
    n, d = 200_000, 6
    v, jacobians = field(d)
    x = torch.randn(1, d)
    jacobian = jacobians(x)[0]
    symmetric = (jacobian + jacobian.T) / 2
    assert (
        jacobian.square().sum() - symmetric.square().sum()
    ).abs() > 0.1 * symmetric.square().sum()
    diagonal = symmetric.diagonal().square().sum() if probe is rademacher else 0.0
    variance = 2 * (symmetric.square().sum() - diagonal)
    points = x.expand(n, d)
    _, estimates = hutchinson(probe(points))(v, points)
    assert abs(estimates.mean() - jacobian.trace()) < 6 * (variance / n).sqrt()
    squares = (estimates - jacobian.trace()) ** 2
    assert abs(squares.mean() - variance) < 6 * squares.std() / math.sqrt(n) < 0.1 * variance


@pytest.mark.parametrize("event", [(2,), (1, 8, 8)])
@pytest.mark.parametrize("batch", [0, 1, 3])
def test_hutchinson_is_the_quadratic_form_of_its_probe(event, batch):
    x = torch.randn(batch, *event)
    v, jacobians = field(x.shape[1:].numel())
    probe = torch.randn_like(x)
    out, estimate = hutchinson(probe)(v, x)
    rows = probe.flatten(1)
    assert_close(out, v(x))
    assert_close(estimate, torch.einsum("bi,bij,bj->b", rows, jacobians(x), rows))


def test_rademacher_draws_fair_independent_signs(device):
    n = 100_000
    signs = rademacher(torch.zeros(n, 2, device=device), torch.Generator(device).manual_seed(0))
    assert signs.dtype == torch.float64 and signs.device.type == device
    assert torch.equal(signs.abs(), torch.ones_like(signs))
    for mean in (*signs.mean(0), signs.prod(1).mean()):
        assert abs(mean) < 6 / math.sqrt(n)
    assert torch.equal(signs, rademacher(signs, torch.Generator(device).manual_seed(0)))
    assert rademacher(signs.float()).dtype == torch.float32


# Paths


def test_the_flow_of_a_normal_is_a_scaling(sde):
    # For N(0, v_0): x_t = x_s sqrt(v_t / v_s), and the divergence integrates to log of that, a
    # coordinate
    v0, x = 4.0, torch.randn(5, 3)
    score = exact_score(sde, normal(v0, 3))
    for t0, t1 in ((0.01, 0.7), (0.7, 0.01)):
        before, after = (
            at(sde, normal(v0), t0).variances.item(),
            at(sde, normal(v0), t1).variances.item(),
        )
        moved, integral, nfe = solve_flow(score, sde, x, t0, t1, **TIGHT)
        assert_close(moved, x * math.sqrt(after / before), rtol=1e-6, atol=1e-6)
        assert_close(
            integral, torch.full((5,), 3 / 2 * math.log(after / before)), rtol=1e-6, atol=1e-6
        )
        assert nfe > 7


def test_encoding_is_the_quantile_map_in_one_dimension(sde):
    # Paths on the line cannot cross, so each keeps its level: F_1(x_1) = F_tmin(x_tmin)
    target, t_min = deck_mixture(), 1e-3
    u = torch.linspace(0.01, 0.99, 21)
    x, z = at(sde, target, t_min).quantile(u), at(sde, target, 1.0).quantile(u)
    score = exact_score(sde, target)
    assert_close(encode(score, sde, x, t_min, **TIGHT), z, rtol=1e-6, atol=1e-6)
    # Between the modes the map is steep, dx/dz = p_1(z) / p_tmin(x), and so errors grow on the way
    # back
    assert_close(decode(score, sde, z, t_min, **TIGHT), x, rtol=1e-5, atol=3e-5)


def test_decode_inverts_encode_within_the_tolerance(sde, target):
    x, score = target.sample(20), exact_score(sde, target)
    errors = []
    for tol in (1e-3, 1e-5, 1e-7):
        codes = encode(score, sde, x, 1e-3, tol, tol)
        errors.append((decode(score, sde, codes, 1e-3, tol, tol) - x).abs().max().item())
    assert errors[2] < 1e-5 and errors[2] < errors[1] / 10 < errors[0] / 100


def test_log_likelihood_is_the_exact_log_density(sde, target):
    x, t_min = target.sample(30), 1e-3
    terminal = at(sde, target, 1.0).log_prob
    value = log_likelihood(exact_score(sde, target), sde, x, t_min, terminal, **TIGHT)
    assert_close(value, at(sde, target, t_min).log_prob(x), rtol=0, atol=1e-6)


def test_log_likelihood_at_the_papers_tolerance(sde, target):
    x, t_min = target.sample(30), 1e-3
    value = log_likelihood(exact_score(sde, target), sde, x, t_min, at(sde, target, 1.0).log_prob)
    assert_close(value, at(sde, target, t_min).log_prob(x), rtol=0, atol=1e-2)


def test_the_prior_is_the_default_terminal(sde, target):
    x, score = target.sample(5), exact_score(sde, target)
    z = encode(score, sde, x, 1e-3, **TIGHT)
    gap = at(sde, target, 1.0).log_prob(z) - sde.prior_log_prob(z)
    with_prior = log_likelihood(score, sde, x, 1e-3, **TIGHT)
    assert_close(with_prior + gap, at(sde, target, 1e-3).log_prob(x), rtol=0, atol=1e-6)


def test_log_likelihood_through_automatic_differentiation(target):
    # A score that is itself a gradient has a Jacobian too
    sde, x = VPSDE(), target.sample(5)
    score = grad_log(lambda x, t: target.perturb(sde.alpha(t), sde.sigma(t)).log_prob(x))
    value = log_likelihood(score, sde, x, 1e-3, at(sde, target, 1.0).log_prob, rtol=1e-8, atol=1e-8)
    assert_close(value, at(sde, target, 1e-3).log_prob(x), rtol=0, atol=1e-6)


def test_the_likelihood_of_an_untrained_network_is_a_density():
    # Whatever the field, the flow carries the prior to some density, of integral 1
    sde = VPSDE()
    score = ResidualScore(MLP(1, width=8), sde, deck_mixture().sample(100))
    x = torch.linspace(-40, 40, 4001)[:, None]
    density = log_likelihood(score, sde, x, 1e-3).exp()
    assert_close(torch.trapezoid(density, x[:, 0]), ONE, rtol=1e-4, atol=0)
    # and that is the density of what decode returns: the share of codes that end below 1
    codes = torch.special.ndtri((torch.arange(2000) + 0.5) / 2000)[:, None] * sde.sigma(ONE)
    below = (decode(score, sde, codes, 1e-3) < 1).double().mean()
    inside = x[:, 0] < 1
    assert abs(torch.trapezoid(density[inside], x[inside, 0]) - below) < 0.01


def test_hutchinson_along_a_path_is_unbiased_with_a_known_variance(target):
    # With one probe for the whole path the estimate is e^T M e, M the integral of the Jacobian
    sde, n = VPSDE(), 2000
    score, x = exact_score(sde, target), target.sample(1)

    def integral(probe):
        return solve_flow(score, sde, x.expand(len(probe), 2), 1e-2, 1.0, hutchinson(probe))[1]

    m11, m22, both = integral(torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]))
    m12 = (both - m11 - m22) / 2
    exact = solve_flow(score, sde, x, 1e-2, 1.0)[1]
    assert_close(m11 + m22, exact[0], rtol=1e-3, atol=1e-3)
    signs = integral(rademacher(x.expand(n, 2)))
    assert_close((signs - exact).abs(), 2 * m12.abs().expand(n), rtol=1e-2, atol=1e-3)
    normals = integral(torch.randn(n, 2))
    squares = (normals - exact) ** 2
    variance = 2 * (m11**2 + m22**2 + 2 * m12**2)
    assert abs(normals.mean() - exact) < 6 * (variance / n).sqrt() + 1e-3
    assert abs(squares.mean() - variance) < 6 * squares.std() / math.sqrt(n)


def normal_divergence(ratio):
    """KL of two centred normal laws whose variances have this ratio."""
    return (ratio - 1 - math.log(ratio)) / 2


def test_the_model_loses_the_priors_divergence_on_average():
    # The flow is one to one, so KL(p_tmin || model) = KL(p_1 || prior), by Gauss-Hermite quadrature
    # on a normal target
    sde, t_min, v0 = VPSDE(1.0, 1.0), 1e-3, 4.0
    x = torch.as_tensor(stats.norm.ppf((torch.arange(4000).numpy() + 0.5) / 4000))[:, None]
    v_min, v_one = (
        at(sde, normal(v0), t_min).variances.item(),
        at(sde, normal(v0), 1.0).variances.item(),
    )
    ratio = v_one / sde.sigma(ONE).item() ** 2
    x = x * math.sqrt(v_min)
    model = log_likelihood(exact_score(sde, normal(v0)), sde, x, t_min, rtol=1e-8, atol=1e-8)
    gap = (at(sde, normal(v0), t_min).log_prob(x) - model).mean()
    assert_close(gap, torch.tensor(normal_divergence(ratio)), rtol=2e-3, atol=0)


# Manners


@pytest.mark.parametrize("event", [(2,), (1, 8, 8)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("batch", [0, 1, 3])
def test_shapes_dtypes_and_devices_are_kept(event, dtype, batch, device):
    sde, x = VPSDE(), torch.randn(batch, *event, dtype=dtype, device=device)
    for divergence in (exact_divergence, hutchinson(rademacher(x)), None):
        moved, integral, nfe = solve_flow(lambda x, t: -x, sde, x, 0.1, 0.2, divergence, 1e-3, 1e-3)
        assert moved.shape == x.shape and integral.shape == (batch,) and isinstance(nfe, int)
        assert (
            moved.dtype == integral.dtype == dtype
            and moved.device.type == integral.device.type == device
        )
    value = log_likelihood(lambda x, t: -x, sde, x)
    assert value.shape == (batch,) and value.dtype == dtype and not value.requires_grad


def test_single_precision_agrees_with_double(target):
    sde, x = VPSDE(), target.sample(5)
    score, terminal = exact_score(sde, target), at(sde, target, 1.0)
    double = log_likelihood(score, sde, x, 1e-3, terminal.log_prob)
    single = log_likelihood(score, sde, x.float(), 1e-3, terminal.to(x.float()).log_prob)
    assert_close(single.double(), double, rtol=0, atol=1e-2)


def test_each_tolerance_arrives_where_it_belongs(sde, target):
    x, score, t_min = target.sample(5), exact_score(sde, target), 1e-3
    one, other = {"rtol": 1e-2, "atol": 1e-5}, {"rtol": 1e-5, "atol": 1e-2}
    for carry, ends in ((encode, (t_min, 1.0)), (decode, (1.0, t_min))):
        found = carry(score, sde, x, t_min, **one)
        assert torch.equal(found, solve_flow(score, sde, x, *ends, None, **one)[0])
        assert not torch.equal(found, solve_flow(score, sde, x, *ends, None, **other)[0])
    z, integral, _ = solve_flow(score, sde, x, t_min, 1.0, **one)
    value = log_likelihood(score, sde, x, t_min, **one)
    assert torch.equal(value, sde.prior_log_prob(z) + integral)
    assert not torch.equal(value, log_likelihood(score, sde, x, t_min, **other))


def test_tolerances_and_the_least_time_are_1e_5_by_default(target):
    x, score, e = target.sample(5), exact_score(SDE, target), 1e-5
    for carry in (encode, decode):
        assert torch.equal(carry(score, SDE, x), carry(score, SDE, x, e, e, e))
    value = log_likelihood(score, SDE, x, e, SDE.prior_log_prob, exact_divergence, e, e)
    assert torch.equal(log_likelihood(score, SDE, x), value)
    ends = (score, SDE, x, 0.1, 0.9)
    moved, integral, calls = solve_flow(*ends, exact_divergence, e, e)
    default = solve_flow(*ends)
    assert torch.equal(default[0], moved) and torch.equal(default[1], integral)
    assert default[2] == calls


def test_a_path_may_start_and_end_at_the_ends_of_time():
    x = torch.ones(2, 1)
    assert encode(SCORE, SDE, x, 0.0).isfinite().all()
    for carry in (encode, decode):
        assert torch.equal(carry(SCORE, SDE, x, 1.0), x)


def test_neither_the_default_device_nor_the_default_dtype_matters():
    x = torch.randn(3, 2, dtype=torch.float32)
    with torch.device("meta"):
        signs, (_, div) = rademacher(x), exact_divergence(lambda x: x**2, x)
    assert_close(div, 2 * x.sum(1))
    assert signs.device == x.device and torch.equal(signs.abs(), torch.ones_like(x))


def test_relative_and_absolute_tolerance_are_each_kept():
    # y' = y: the step's length follows rtol for large y, atol for small y
    def calls(y, rtol, atol):
        times = []
        _dormand_prince(
            lambda t, y: times.append(t) or y, torch.full((1, 1), y), 0.0, 1.0, rtol, atol
        )
        return len(times)

    assert calls(1e6, 1e-9, 1e-3) > 2 * calls(1e6, 1e-3, 1e-9)
    assert calls(1e-6, 1e-9, 1e-15) > 2 * calls(1e-6, 1e-15, 1e-9)


def test_a_point_is_solved_as_well_in_company_as_alone():
    # The deck's point is 1.4 standard deviations from its mode; among 10 000 others, steps chosen
    # by the mean of the errors left it, or its worst neighbour, wrong by a hundred tolerances
    sde, target = VPSDE(), deck_mixture()
    x = target.sample(10_000, torch.Generator().manual_seed(0))
    x[0] = -3.7
    score, end = exact_score(sde, target), at(sde, target, 1.0).log_prob
    exact = at(sde, target, 1e-5).log_prob(x)
    alone = log_likelihood(score, sde, x[:1], 1e-5, end) - exact[0]
    together = log_likelihood(score, sde, x, 1e-5, end) - exact
    assert together[0].abs() < 2 * alone.abs().item()
    assert together.abs().max() < 3e-4  # 30 tolerances, of about as many steps


def test_the_easiest_path_is_not_disturbed_by_the_most_difficult(target):
    sde, x = VPSDE(), target.sample(3)
    score = exact_score(sde, target)
    together = log_likelihood(score, sde, x, 1e-3, **TIGHT)
    alone = torch.cat([log_likelihood(score, sde, x[i : i + 1], 1e-3, **TIGHT) for i in range(3)])
    assert_close(together, alone, rtol=0, atol=1e-6)


def test_the_method_is_of_order_five():
    # y' = y cos t, y(0) = 1: y = exp(sin t); fixed steps, as tolerances are too loose to refuse any
    errors = []
    for n in (8, 16, 32):
        y, ts = torch.ones(1, 1), torch.linspace(0, 2, n + 1)
        for s, t in zip(ts[:-1].tolist(), ts[1:].tolist()):
            y = _dormand_prince(lambda t, y: y * math.cos(t), y, s, t, 1e9, 1e9)
        errors.append(abs(y.item() - math.exp(math.sin(2))))
    for coarse, fine in itertools.pairwise(errors):
        assert 4.7 < math.log2(coarse / fine) < 5.5


def test_the_table_satisfies_the_order_conditions():
    # of the trees of up to four (and the bushy one of five) vertices; the estimate's sums vanish
    a = torch.zeros(7, 7)
    for i, row in enumerate(_STAGES):
        a[i, :i] = torch.tensor(row)
    b, c, e = a[6], torch.tensor(_TIMES), torch.tensor(_ERROR)
    assert_close(a.sum(1), c)
    trees = [(c**0, 1), (c, 2), (c**2, 3), (a @ c, 6), (c**3, 4), (c * (a @ c), 8), (a @ c**2, 12)]
    trees += [(a @ (a @ c), 24)]
    for values, density in trees:
        assert_close(b @ values, ONE / density)
        assert_close(e @ values, ONE * 0, rtol=0, atol=1e-14)
    assert_close(b @ c**4, ONE / 5)
    assert abs(e @ c**4) > 1e-4  # the other formula is of order 4 only


def solve(rate, y, start=0.0, end=1.0, rtol=1e-5, atol=1e-5):
    """The solution and the times at which the rate was asked for."""
    times = []
    y = _dormand_prince(lambda t, y: times.append(t) or rate(t, y), y, start, end, rtol, atol)
    return y, times


def test_steps_are_nine_tenths_of_the_longest_that_the_tolerance_allows():
    # y' = t^4: the estimate sees nothing of lower powers, so its error is |e c^4| h^5 in every step
    tol, zero = 1e-9, torch.zeros(1, 1)
    y, times = solve(lambda t, y: torch.full_like(y, t**4), zero, rtol=1e-30, atol=tol)
    assert_close(y, zero + 1 / 5)
    longest = (tol / abs(sum(e * c**4 for e, c in zip(_ERROR, _TIMES)))) ** (1 / 5)
    assert (len(times) - 1) % 6 == 0  # the last slope of a step is the first of the next
    # the first steps are a guess, one too long and one too short, and the last is what is left
    ends = times[6::6]
    for before, after in itertools.pairwise(ends[2:-1]):
        assert abs((after - before) / longest - 0.9) < 1e-6
    assert len(ends) == 16 and ends[-1] == 1


def test_the_first_step_grows_with_the_fifth_root_of_the_tolerance():
    first = [solve(lambda t, y: y, torch.ones(1, 1), rtol=e, atol=e)[1][1] for e in (1e-5, 1e-10)]
    assert_close(first[0] / first[1], 10.0, rtol=1e-12, atol=0)


def test_an_error_is_relative_to_the_larger_end_of_its_step():
    # the growth in a step is large, so that relative to its other end it would take 115 calls
    _, times = solve(lambda t, y: 30 * y, torch.ones(1, 1), rtol=1e-2, atol=1e-9)
    assert len(times) < 60  # as it is, 49


def test_a_row_of_equal_entries_takes_the_steps_of_one():
    rate = lambda t, y: y * math.cos(3 * t)
    (one, times), (row, others) = (solve(rate, torch.ones(1, n)) for n in (1, 100))
    assert_close(row, one.expand(1, 100))
    assert_close(others, times)


def test_a_step_ends_at_its_time_without_rounding():
    # 0.33 + (0.87 - 0.33) is another number
    _, times = solve(lambda t, y: 0 * y, torch.ones(1, 1), 0.33, 0.87)
    assert len(times) == 7 and times[-2:] == [0.87, 0.87]


def test_a_velocity_that_is_not_finite_is_named_with_its_time():
    calls = []

    def late(x, t):
        calls.append(t)
        return -x if t < 0.5 else x * math.nan

    message = "no finite velocity or divergence of the flow at t = "
    with pytest.raises(FloatingPointError, match=message + "0.5$"):
        solve_flow(late, SDE, torch.ones(2, 1), 0.1, 0.9, max_calls=1000)
    calls.clear()
    with pytest.raises(FloatingPointError, match=message + "0.7$"):
        solve_flow(late, SDE, torch.ones(2, 1), 0.7, 0.9)
    assert len(calls) == 1  # no step is tried from there


def test_both_directions_end_exactly_there_and_no_way_costs_nothing(target):
    sde, x, score = VPSDE(), target.sample(3), exact_score(VPSDE(), target)
    moved, integral, calls = solve_flow(score, sde, x, 0.3, 0.3)
    assert torch.equal(moved, x) and torch.equal(integral, torch.zeros(3)) and calls == 0
    there, forth, _ = solve_flow(score, sde, x, 0.0, 1.0, **TIGHT)
    back, again, _ = solve_flow(score, sde, there, 1.0, 0.0, **TIGHT)
    assert_close(back, x, rtol=0, atol=1e-5)
    assert_close(again, -forth, rtol=0, atol=1e-5)


def test_the_number_of_calls_is_limited(target):
    sde, x, calls = VPSDE(), target.sample(3), []
    exact, noise = exact_score(sde, target), torch.nn.Dropout(0.5)

    def score(x, t):
        calls.append(t)
        return noise(exact(x, t))

    with pytest.raises(RuntimeError, match="more than max_calls = 300 score.*evaluation mode?"):
        solve_flow(score, sde, x, 1e-3, 1.0, max_calls=300)
    assert len(calls) == 300
    noise.eval()
    value = log_likelihood(score, sde, x, 1e-3, at(sde, target, 1.0).log_prob)
    assert_close(value, at(sde, target, 1e-3).log_prob(x), rtol=0, atol=1e-3)


def test_the_least_and_the_default_number_of_calls():
    x = torch.ones(2, 1)
    assert torch.equal(solve_flow(SCORE, SDE, x, 0.5, 0.5, max_calls=1)[0], x)
    with pytest.raises(RuntimeError, match="more than max_calls = 1 score calls"):
        solve_flow(SCORE, SDE, x, 0.1, 1.0, max_calls=1)
    assert inspect.signature(solve_flow).parameters["max_calls"].default == 10_000


NETWORK = torch.nn.Linear(2, 2, dtype=torch.float64)
UNSEEN = {
    "without gradients": torch.no_grad()(lambda x, t: -x),
    "detached": lambda x, t: -x.detach(),
    "in numpy": lambda x, t: torch.as_tensor(-x.detach().numpy()),
    "by a network of detached states": lambda x, t: NETWORK(x.detach()),
    "constant": lambda x, t: torch.zeros_like(x),
    "in one of two parts": add(lambda x, t: -x, lambda x, t: -x.detach()),
}


@pytest.mark.parametrize("unseen", UNSEEN.values(), ids=UNSEEN)
@pytest.mark.parametrize("divergence", [exact_divergence, hutchinson(torch.ones(3, 2))])
def test_a_score_that_autograd_cannot_follow_has_no_likelihood(unseen, divergence):
    x = torch.randn(3, 2)
    with pytest.raises(ValueError, match=r"\(x, t\) must be differentiable in x: no no_grad"):
        log_likelihood(unseen, SDE, x, divergence=divergence)
    with pytest.raises(ValueError, match=r"\(x(, t)?\) must be differentiable in x"):
        divergence(lambda x: unseen(x, torch.tensor(0.5)), x)
    assert encode(unseen, SDE, x, 0.5).isfinite().all()  # paths need no derivative


def test_inference_mode_is_named_and_its_tensors_are_served(target):
    score = exact_score(SDE, target)
    with torch.inference_mode():
        x = target.sample(3)
        with pytest.raises(ValueError, match="inference_mode"):
            log_likelihood(score, SDE, x)
        assert encode(score, SDE, x, 0.5).isfinite().all()
    assert_close(log_likelihood(score, SDE, x), log_likelihood(score, SDE, x.clone()))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_states_of_half_precision_are_refused(dtype):
    with pytest.raises(TypeError, match=f"x must be of single or double precision, got {dtype}"):
        log_likelihood(SCORE, SDE, torch.ones(2, 1, dtype=dtype))


def test_leaving_the_divergence_out_changes_no_path(target):
    sde, x, score = VPSDE(), target.sample(5), exact_score(VPSDE(), target)
    moved, integral, _ = solve_flow(score, sde, x, 1e-3, 1.0, None, **TIGHT)
    assert_close(moved, solve_flow(score, sde, x, 1e-3, 1.0, **TIGHT)[0], rtol=0, atol=1e-6)
    assert torch.equal(integral, torch.zeros(5))


def test_every_score_call_is_counted(target):
    sde, calls, exact = VPSDE(), [], exact_score(VPSDE(), target)

    def score(x, t):
        calls.append(t)
        return exact(x, t)

    _, _, nfe = solve_flow(score, sde, target.sample(3), 1e-3, 1.0)
    assert nfe == len(calls) and all(1e-3 <= t <= 1 for t in calls)


def test_a_rotated_score_has_the_same_likelihood_but_other_codes(target):
    # div (p R grad log p) = 0 for antisymmetric R: another flow with the same marginals
    sde, x, exact = VPSDE(), target.sample(10), exact_score(VPSDE(), target)
    rotation = torch.tensor([[1.0, -0.5], [0.5, 1.0]])
    rotated = lambda x, t: exact(x, t) @ rotation.T
    one = log_likelihood(rotated, sde, x, 1e-3, at(sde, target, 1.0).log_prob, **TIGHT)
    assert_close(one, at(sde, target, 1e-3).log_prob(x), rtol=0, atol=1e-6)
    assert (encode(rotated, sde, x, 1e-3) - encode(exact, sde, x, 1e-3)).abs().max() > 0.1


def test_g_for_g_squared_is_caught(target):
    # The deck's flow, f - g score / 2: neither codes nor likelihoods survive it
    sde, x, exact = VPSDE(), target.sample(10), exact_score(VPSDE(), target)
    deck = lambda x, t: exact(x, t) / sde.g(t)
    t, y = torch.tensor(0.3), torch.randn(4, 2)
    assert_close(
        reverse_drift(deck, sde, y, t, eta=0), sde.drift(y, t) - sde.g(t) * exact(y, t) / 2
    )
    value = log_likelihood(deck, sde, x, 1e-3, at(sde, target, 1.0).log_prob)
    assert (value - at(sde, target, 1e-3).log_prob(x)).abs().min() > 0.1


def nowhere(x, t):
    return x * math.nan


def explosive(x, t):
    return -40 * x**2  # x' = x^2 and the like reach infinity in finite time


SCORE, SDE = exact_score(VPSDE(), normal(4.0)), VPSDE()


@pytest.mark.parametrize(
    "call, error, message",
    [
        (
            lambda: solve_flow(SCORE, SDE, torch.ones(1, 1), -0.1, 1.0),
            ValueError,
            r"t0 must be in \[0, 1\], got -0.1",
        ),
        (
            lambda: solve_flow(SCORE, SDE, torch.ones(1, 1), 0.1, 1.5),
            ValueError,
            r"t1 must be in \[0, 1\], got 1.5",
        ),
        (
            lambda: encode(SCORE, SDE, torch.full((1, 1), math.nan)),
            ValueError,
            "x must be finite everywhere",
        ),
        (
            lambda: encode(SCORE, SDE, torch.ones(1, 1, dtype=torch.long)),
            TypeError,
            "x must be a floating-point tensor",
        ),
        (
            lambda: log_likelihood(
                SCORE, SDE, torch.ones(2, 1), divergence=hutchinson(torch.ones(1, 1))
            ),
            ValueError,
            r"probe must be of shape \(2, 1\), got shape \(1, 1\)",
        ),
        (
            lambda: solve_flow(SCORE, SDE, torch.ones(3), 0, 1),
            ValueError,
            r"x must be of shape \(B, ",
        ),
        (
            lambda: solve_flow(SCORE, SDE, torch.ones(1, 1), 1.5, 1.0),
            ValueError,
            r"t0 must be in \[0, 1\], got 1.5",
        ),
        (
            lambda: encode(SCORE, SDE, torch.ones(1, 1), -0.1),
            ValueError,
            r"t_min must be in \[0, 1\], got -0.1",
        ),
        (
            lambda: decode(SCORE, SDE, torch.ones(1, 1), 1.5),
            ValueError,
            r"t_min must be in \[0, 1\], got 1.5",
        ),
        (
            lambda: decode(SCORE, SDE, torch.full((1, 1), math.nan)),
            ValueError,
            "z must be finite everywhere",
        ),
        (
            lambda: encode(SCORE, SDE, torch.ones(1, 1), rtol=math.inf),
            ValueError,
            "rtol must be positive and finite, got inf",
        ),
        (lambda: encode(SCORE, SDE, torch.ones(1, 1), atol=0), ValueError, "atol must be positive"),
        (
            lambda: solve_flow(SCORE, SDE, torch.ones(1, 1), 0, 1, max_calls=0),
            ValueError,
            "max_calls must be at least 1, got 0",
        ),
        (
            lambda: solve_flow(
                lambda x, t: -x, SDE, torch.ones(3, 2), 0, 1, lambda v, x: (v(x)[:, :1], x)
            ),
            ValueError,
            r"divergence\(v, x\) must be of shape \(3, 2\), got shape \(3, 1\)",
        ),
        (
            lambda: solve_flow(SCORE, SDE, torch.ones(3, 1), 0, 1, lambda v, x: (v(x), x)),
            ValueError,
            r"divergence\(v, x\) must be of shape \(3,\), got shape \(3, 1\)",
        ),
        (
            lambda: solve_flow(
                SCORE, SDE, torch.ones(3, 1), 0, 1, lambda v, x: (v(x), torch.arange(3))
            ),
            TypeError,
            r"divergence\(v, x\) must be a floating-point tensor, got torch.int64",
        ),
        (
            lambda: log_likelihood(
                SCORE, SDE, torch.ones(3, 1), 0.5, lambda z: torch.arange(len(z))
            ),
            TypeError,
            r"terminal\(z\) must be a floating-point tensor, got torch.int64",
        ),
        (
            lambda: exact_divergence(lambda x: x[:, :1], torch.ones(3, 2)),
            ValueError,
            r"v\(x\) must be of shape \(3, 2\), got shape \(3, 1\)",
        ),
        (
            lambda: exact_divergence(lambda x: x, torch.ones(3)),
            ValueError,
            r"x must be of shape \(B, \*event\), got shape \(3,\)",
        ),
        (lambda: encode(SCORE, SDE, torch.ones(1, 1), rtol=0), ValueError, "rtol must be positive"),
        (
            lambda: decode(SCORE, SDE, torch.ones(1, 1), atol=math.inf),
            ValueError,
            "atol must be positive and finite, got inf",
        ),
        (
            lambda: encode(lambda x, t: -x[:, :1], SDE, torch.ones(3, 2)),
            ValueError,
            r"score\(x, t\) must be of shape \(3, 2\), got shape \(3, 1\)",
        ),
        (
            lambda: log_likelihood(SCORE, SDE, torch.ones(3, 1), 1e-3, lambda z: z),
            ValueError,
            r"terminal\(z\) must be of shape \(3,\), got shape \(3, 1\)",
        ),
        (
            lambda: log_likelihood(SCORE, SDE, torch.ones(3, 1), divergence=None),
            TypeError,
            "divergence must be a function, got NoneType",
        ),
        (
            lambda: encode(nowhere, SDE, torch.ones(1, 1)),
            FloatingPointError,
            "no finite velocity or divergence of the flow at t = 1e-05",
        ),
        (
            lambda: encode(explosive, SDE, torch.ones(1, 1)),
            RuntimeError,
            "could not be solved at t = 0.066.*: no step is short enough",
        ),
    ],
)
def test_bad_input_is_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_bits_of_uniform_levels_are_their_logarithm(levels):
    # Images of independent uniform levels, put on [-1, 1]: the dequantised density is 2^-d, the
    # bits are log2(levels)
    log_prob = torch.full((3,), -64 * math.log(2))
    assert_close(bits_per_dimension(log_prob, 64, 2 / levels), torch.full((3,), math.log2(levels)))


def test_bits_do_not_depend_on_the_units():
    log_prob, stretch = torch.randn(5), 3.0
    stretched = bits_per_dimension(log_prob - 7 * math.log(stretch), 7, stretch * 0.1)
    assert_close(stretched, bits_per_dimension(log_prob, 7, 0.1))


@pytest.mark.parametrize(
    "dim, width, error, message",
    [
        (0, 1.0, ValueError, "dim must be at least 1"),
        (1.5, 1.0, TypeError, "dim must be an integer, got float"),
        (1, 0.0, ValueError, "width must be positive"),
        (1, math.inf, ValueError, "width must be positive and finite, got inf"),
    ],
)
def test_bits_of_nothing_are_refused(dim, width, error, message):
    with pytest.raises(error, match=message):
        bits_per_dimension(torch.zeros(1), dim, width)
