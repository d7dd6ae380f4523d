"""Every SDE's kernel against its own f and g, and against the paper's closed forms."""

import copy
import dataclasses
import math
import pickle

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from sdelib.data import deck_mixture
from sdelib.samplers import log_snr, sample
from sdelib.score import exact_score
from sdelib.sde import (
    SDE,
    VESDE,
    VPSDE,
    CosineSDE,
    FlowSDE,
    SubVPSDE,
    like,
    randn_like,
    transition,
)


def derivative(function, t):
    return torch.func.jvp(function, (t,), (torch.ones_like(t),))[1]


def test_kernel_solves_the_moment_odes(sde):
    # d alpha / dt = f alpha,  d sigma^2 / dt = 2 f sigma^2 + g^2
    t = torch.linspace(0.02, 1, 25)
    assert_close(derivative(sde.alpha, t), sde.f(t) * sde.alpha(t))
    growth = derivative(lambda t: sde.sigma(t) ** 2, t)
    assert_close(growth, 2 * sde.f(t) * sde.sigma(t) ** 2 + sde.g(t) ** 2)


def test_kernel_starts_at_the_data(sde):
    zero = torch.zeros(())
    assert sde.alpha(zero) == 1 and sde.sigma(zero) == 0


NODES, WEIGHTS = map(torch.from_numpy, np.polynomial.legendre.leggauss(200))


def integral(function, a, b):
    """By Gauss and Legendre's rule: the error falls geometrically, as f and g are analytic."""
    return (WEIGHTS * function(a + (b - a) * (NODES + 1) / 2)).sum() * (b - a) / 2


@pytest.mark.parametrize("t", [0.001, 0.3, 1.0])
def test_kernel_by_quadrature(sde, t):
    # alpha = exp int f;  sigma^2 = int g(s)^2 (alpha(t) / alpha(s))^2 ds
    t = torch.tensor(t)
    assert_close(sde.alpha(t), integral(sde.f, 0, t).exp(), rtol=1e-9, atol=0)
    variance = integral(lambda s: (sde.g(s) * sde.alpha(t) / sde.alpha(s)) ** 2, 0, t)
    assert_close(sde.sigma(t) ** 2, variance, rtol=1e-8, atol=0)


def test_transition_by_quadrature(sde):
    # Between interior times: r = exp int_s^t f,  q^2 = int_s^t g(u)^2 (alpha(t) / alpha(u))^2 du
    s, t = torch.tensor(0.3), torch.tensor(0.7)
    variance = integral(lambda u: (sde.g(u) * sde.alpha(t) / sde.alpha(u)) ** 2, s, t)
    r, q = transition(sde.at(s), sde.at(t))
    assert math.isclose(r, integral(sde.f, s, t).exp(), rel_tol=1e-9)
    assert math.isclose(q**2, variance, rel_tol=1e-8)


def test_transitions_compose(sde):
    # p(x_t | x_u) = int p(x_t | x_s) p(x_s | x_u) dx_s, and the kernel is the transition from 0
    u, s, t = (sde.at(time) for time in (0.1, 0.4, 0.9))
    (r1, q1), (r2, q2), (r, q) = transition(u, s), transition(s, t), transition(u, t)
    assert math.isclose(r1 * r2, r) and math.isclose((r2 * q1) ** 2 + q2**2, q**2)
    assert transition(sde.at(0.0), t) == (t.alpha, t.sigma)
    assert transition(t, t) == (1.0, 0.0)


def test_a_short_transition_is_an_euler_step_also_for_single_states(sde):
    # r = 1 + f dt + O(dt^2), q^2 = g^2 dt + O(dt^2): numbers keep double precision
    x, dt = torch.zeros(1, 1, dtype=torch.float32), 1e-5
    s, t = sde.at(0.5 - dt, x), sde.at(0.5, x)
    r, q = transition(s, t)
    assert abs(r - 1 - t.f * dt) < 1e-7 and abs(q**2 / (t.g**2 * dt) - 1) < 1e-3
    assert t.now.dtype == torch.float32


def test_a_variance_that_rounds_below_zero_keeps_its_root_real():
    # where sigma levels off, its rounding may fall with time; the root of less than 0 is complex
    t = VESDE().at(1.0)
    s = t._replace(sigma=math.nextafter(t.sigma, math.inf))
    r, q = transition(s, t)
    assert r == 1 and isinstance(q, float) and q < 1e-7 * t.sigma


def test_an_instant_is_what_the_formulas_say(sde):
    x, ts = torch.randn(3, 2), torch.tensor([0.9, 0.5, 0.0])
    for t, now in zip(sde.path(ts, x), ts, strict=True):
        exact = (now, sde.f(now), sde.g(now), sde.alpha(now), sde.sigma(now))
        assert t[:5] == tuple(v.item() for v in exact)
        assert sde.at(now, x)[:5] == t[:5] == sde.at(now.item())[:5]
        assert torch.equal(t.now, now) and t.sde is sde


def test_numbers_keep_double_precision_where_the_default_is_single(sde):
    torch.set_default_dtype(torch.float32)
    unused = dataclasses.replace(sde)  # whose formulas are yet to be looked at, by differences
    assert unused.at(0.1).time == 0.1 and unused.at(1).time == 1
    std = unused.at(1.0).sigma
    log_density = unused.prior_log_prob(torch.full((1, 1), 2 * std, dtype=torch.float64)).item()
    exact = -2 - math.log(std * math.sqrt(2 * math.pi))
    assert math.isclose(log_density, exact, rel_tol=1e-12)


def test_instants_of_many_times_multiply_the_states(sde):
    x, ts = torch.randn(3, 2, 4, dtype=torch.float32), torch.tensor([0.2, 0.5, 0.9])
    t = sde.at(ts, x)
    assert t.now.dtype == t.alpha.dtype == torch.float32 and t.alpha.shape == (3, 1, 1)
    for k, v in enumerate((ts, sde.f(ts), sde.g(ts), sde.alpha(ts), sde.sigma(ts))):
        assert_close(t[k].flatten(), v.float())
    r, q = transition(sde.at(ts / 2, x), t)
    assert_close(r.flatten(), (sde.alpha(ts) / sde.alpha(ts / 2)).float())
    assert_close(q, (t.sigma**2 - (r * sde.at(ts / 2, x).sigma) ** 2).sqrt())


def test_perturb_draws_from_the_kernel(sde, device):
    n = 20_000
    x0 = torch.full((n, 2), 1.5, device=device)
    t = torch.tensor(0.3, device=device)
    x_t, z = sde.perturb(x0, t, torch.Generator(device).manual_seed(0))
    assert_close(x_t, sde.alpha(t) * x0 + sde.sigma(t) * z)
    assert abs(z.mean()) < 6 / math.sqrt(z.numel())
    assert abs(z.var() - 1) < 6 * math.sqrt(2 / z.numel())


@pytest.mark.parametrize("event", [(3,), (1, 8, 8)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_scalar_and_batched_times_agree_for_any_event(sde, event, dtype, device):
    x = torch.randn(5, *event, dtype=dtype, device=device)
    for t in torch.linspace(0, 1, 4, dtype=torch.float64, device=device):  # of double precision
        ts = t.expand(5)
        same_noise = [
            sde.perturb(x, time, torch.Generator(device).manual_seed(1))[0] for time in (t, ts)
        ]
        for one, many in [same_noise, (sde.drift(x, t), sde.drift(x, ts))]:
            assert one.dtype == many.dtype == dtype
            assert one.shape == x.shape and one.device == x.device
            assert_close(one, many)


def test_prior_is_a_normal_of_the_final_scale(sde):
    x = sde.prior_sample((20_000, 1, 2), torch.Generator().manual_seed(0))
    std = sde.sigma(torch.ones(()))
    assert abs(x.var() / std**2 - 1) < 6 * math.sqrt(2 / x.numel())
    normal = torch.distributions.MultivariateNormal(torch.zeros(2), std**2 * torch.eye(2))
    assert_close(sde.prior_log_prob(x[:9]), normal.log_prob(x[:9, 0]))


def test_a_generator_decides_the_prior_sample_alone(device):
    draws = []
    for seed in (1, 2):
        torch.manual_seed(seed)  # of no influence
        generator = torch.Generator(device).manual_seed(0)
        draws.append(VPSDE().prior_sample((3, 2), generator, torch.float16, device))
    assert torch.equal(*draws)
    assert draws[0].dtype == torch.float16 and draws[0].device.type == device


def test_the_papers_constants():
    one, t = torch.ones(()), torch.linspace(0, 1, 11)
    assert_close(VPSDE().alpha(one).log(), torch.tensor(-5.025))  # -(0.1 + (20 - 0.1) / 2) / 2
    assert_close(VPSDE().sigma(t) ** 2 + VPSDE().alpha(t) ** 2, torch.ones(11))  # Eq. 33
    assert_close(SubVPSDE().sigma(t), VPSDE().sigma(t) ** 2)  # App. B: the variance is VP's squared
    initial = 0.01**2  # Eq. 30 with its initial variance
    assert_close(VESDE().sigma(t) ** 2 + initial, (0.01 * 5000.0**t) ** 2)


def test_subvp_never_has_more_variance_than_vp():
    # Eqs. 26 and 28 for data of variance v0
    t = torch.linspace(0, 1, 101)
    for v0 in (0.0, 1.0, 9.625):
        vp, sub = (s.alpha(t) ** 2 * v0 + s.sigma(t) ** 2 for s in (VPSDE(), SubVPSDE()))
        decay = torch.exp(-VPSDE().int_beta(t))
        assert_close(vp, 1 + decay * (v0 - 1))
        assert_close(sub, 1 + decay**2 + decay * (v0 - 2))
        assert (sub <= vp).all()


def test_straight_paths_and_the_cosine_schedule_are_what_their_names_say():
    t, x0, z = torch.linspace(0, 1, 5), torch.randn(5, 2), torch.randn(5, 2)
    straight = FlowSDE(1e-9).diffuse(x0, t, z)
    assert_close(straight, x0 + t[:, None] * (z - x0), rtol=0, atol=1e-8)  # Liu et al. 2023, Eq. 1
    cosine = CosineSDE(1e-9)
    log_snr = torch.log(cosine.alpha(t[1:4]) ** 2 / cosine.sigma(t[1:4]) ** 2)
    # Nichol and Dhariwal's schedule has log SNR = -2 log tan(pi t / 2)
    assert_close(log_snr, -2 * torch.log(torch.tan(math.pi * t[1:4] / 2)), rtol=1e-6, atol=1e-6)
    for default in (CosineSDE(), FlowSDE()):
        assert default.alpha(torch.ones(())).item() == pytest.approx(1e-3)


class EDM(SDE):
    """Karras et al. 2022: alpha = 1 and noise that grows linearly."""

    def alpha(self, t):
        return torch.ones_like(t)

    def sigma(self, t):
        return 80 * t


class JustVP(SDE):
    def alpha(self, t):
        return VPSDE().alpha(t)

    def sigma(self, t):
        return VPSDE().sigma(t)


def test_alpha_and_sigma_say_all():
    # f and g by differentiation are the written ones, also at 0, where sigma's slope is infinite
    ts = torch.linspace(1, 0, 11)
    for t, expected in zip(JustVP().path(ts, ts), VPSDE().path(ts, ts), strict=True):
        assert_close(torch.tensor(t[:5]), torch.tensor(expected[:5]), rtol=1e-9, atol=1e-9)
    assert_close(JustVP().time_of(torch.tensor(2.0)), VPSDE().time_of(torch.tensor(2.0)))
    t = EDM().at(0.5)
    assert (t.f, t.sigma) == (0.0, 40.0) and t.g == pytest.approx(math.sqrt(2 * 80**2 * 0.5))
    flow = FlowSDE(0.01).at(0.5)  # dx = -x c / (1 - c t) dt + sqrt(2 t / (1 - c t)) dw
    assert flow.f == pytest.approx(-0.99 / (1 - 0.99 / 2))
    assert flow.g == pytest.approx(math.sqrt(1 / (1 - 0.99 / 2)))


class BetaAlone(VPSDE):
    def beta(self, t):
        return 2 * super().beta(t)


class Doubled(VPSDE):
    def g(self, t):
        return 2 * super().g(t)


class Halved(VPSDE):
    def alpha(self, t):
        return 1 - t + super().alpha(t) * t

    f, g = SDE.f, SDE.g


class NoSignal(SDE):
    def alpha(self, t):
        return torch.cos(math.pi / 2 * t)

    def sigma(self, t):
        return torch.sin(math.pi / 2 * t)


class NotAtData(EDM):
    def sigma(self, t):
        return 1 + t


class NumberForAlpha(EDM):
    def alpha(self, t):
        return 1.0


class ScalarForAlpha(EDM):
    def alpha(self, t):
        return torch.ones(())


class SingleAlpha(EDM):
    def alpha(self, t):
        return super().alpha(t).float()


class NoSigma(SDE):
    def alpha(self, t):
        return 1 - t / 2


@pytest.mark.parametrize(
    "sde, error, message",
    [
        (BetaAlone(), ValueError, r"BetaAlone.f\(t\) must be alpha' / alpha = .* got"),
        (Doubled(), ValueError, r"Doubled.g\(t\)\^2 must be \(sigma\^2\)' - 2 f sigma\^2 = "),
        (Halved(), ValueError, r"Halved.time_of\(sigma\(t\) / alpha\(t\)\) must be t = "),
        (
            NoSignal(),
            ValueError,
            r"NoSignal.alpha\(1\) must be above 2e-16.* alpha\(0.999 t\).*, got 6.1e-17",
        ),
        (FlowSDE(2**-52), ValueError, r"FlowSDE.alpha\(1\) must be above 2e-16"),
        (VPSDE(0.1, 3000.0), ValueError, r"VPSDE.alpha\(1\) must be above 2e-16"),
        (NotAtData(), ValueError, "NotAtData at t = 0 must be the data: alpha = 1, sigma = 0"),
        (NumberForAlpha(), TypeError, r"alpha\(t\) must be a floating-point tensor, got float"),
        (
            ScalarForAlpha(),
            ValueError,
            r"alpha\(t\) at times of shape \(7,\) must be of shape \(7,\), got shape \(\)",
        ),
        (SingleAlpha(), ValueError, r"alpha\(t\) must be of t's dtype, torch.float64, got torch.f"),
        (NoSigma(), NotImplementedError, r"NoSigma must define sigma\(self, t\)"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_formulas_that_do_not_belong_together_are_refused_at_every_door(sde, error, message):
    for use in (
        lambda: sde.at(0.5),
        lambda: sde.at(torch.tensor([0.2, 0.5])),
        lambda: sde.path(torch.tensor([1.0, 0.5]), torch.zeros(1, 1)),
        lambda: sde.prior_sample((2, 1)),
        lambda: log_snr(sde, 4),
    ):
        with pytest.raises(error, match=message):
            use()


@dataclasses.dataclass
class Start(SDE):
    """Noise and signal that change evenly from any start."""

    alpha0: float
    sigma0: float

    def alpha(self, t):
        return self.alpha0 - t / 2

    def sigma(self, t):
        return self.sigma0 + (80 - self.sigma0) * t


@pytest.mark.parametrize(
    "alpha, sigma, allowed",
    [
        (1.0009, 0.0, True),
        (1.0011, 0.0, False),
        (0.9989, 0.0, False),
        (1.0, 0.8, True),  # a hundredth of sigma(1), as the paper's VE starts at sigma_min
        (1.0, 0.8001, False),
        (1.0, -1e-9, False),
    ],
)
def test_a_process_starts_at_the_data_up_to_a_little(alpha, sigma, allowed):
    if allowed:
        assert Start(alpha, sigma).at(0.0)[3:5] == (alpha, sigma)
        return
    got = f"alpha = {alpha:g}, sigma = {sigma:g}"
    with pytest.raises(ValueError, match=f"Start at t = 0 must be the data: .* got {got}$"):
        Start(alpha, sigma).at(0.0)


def test_the_least_signal_that_may_be_left_at_the_end():
    assert FlowSDE(2**-51).at(1.0).alpha == 2**-51


@dataclasses.dataclass
class OffAt(EDM):
    """EDM with ``g^2`` times a factor at one time."""

    time: float
    factor: float

    def g(self, t):
        right = super().g(t)
        return torch.where(t == self.time, right * math.sqrt(self.factor), right)


@pytest.mark.parametrize("time", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_a_contradiction_at_any_time_looked_at_is_named_with_it(time):
    with pytest.raises(ValueError, match=rf"OffAt.g\(t\)\^2 must be .* at t = {time}, .* got"):
        OffAt(time, 1.1).at(0.2)


@pytest.mark.parametrize("factor, allowed", [(1.009, True), (1.011, False), (0.989, False)])
def test_formulas_may_differ_by_a_thousandth_of_themselves_and_the_largest(factor, allowed):
    # EDM's g^2 is 9 times as large at 0.9 as at 0.1: there the limit is a hundredth
    if allowed:
        assert OffAt(0.1, factor).at(0.2).time == 0.2
        return
    with pytest.raises(ValueError, match=r"OffAt.g\(t\)\^2 must be"):
        OffAt(0.1, factor).at(0.2)


def test_formulas_are_compared_once_for_each_process():
    calls = []

    class Counted(EDM):
        def alpha(self, t):
            calls.append(t)
            return super().alpha(t)

    sde, counts = Counted(), []
    for _ in range(3):
        calls.clear()
        sde.at(0.5)
        counts.append(len(calls))
    assert counts[0] > counts[1] == counts[2]


class Hole(JustVP):
    """A process whose formulas fail at one time that the first look does not meet."""

    def sigma(self, t):
        return super().sigma(t).masked_fill(t == 0.27, math.nan)


def test_a_formula_without_a_value_is_named_with_its_time():
    with pytest.raises(ValueError, match="f, g, alpha and sigma must be finite.* at t = 0.27"):
        Hole().path(torch.tensor([0.5, 0.27, 0.1], dtype=torch.float64), BATCH)


def test_half_precision_reaches_as_far_as_its_numbers(sde):
    # no formula overflows on the way to a result that half precision holds
    one = torch.ones((), dtype=torch.float16)
    assert abs(sde.sigma(one) / sde.sigma(one.double()).half() - 1) < 0.02
    assert sde.perturb(torch.ones(4, 2).half(), one)[0].isfinite().all()
    assert sde.prior_sample((4, 2), dtype=torch.float16).isfinite().all()


def test_single_precision_keeps_its_digits_near_time_zero(sde):
    # 1 - exp(-u) in place of -expm1(-u), or log(1 + u) of log1p(u), would lose them all below 1e-7
    t = torch.tensor([1e-7, 1e-5, 1e-3])
    small = dict(rtol=1e-5, atol=0, check_dtype=False)
    written = [sde.sigma] if type(sde).g is SDE.g else [sde.sigma, sde.g]
    for formula in written:
        assert_close(formula(t.float()), formula(t.float().double()), **small)
    ratio = (sde.sigma(t) / sde.alpha(t)).float()
    assert_close(sde.time_of(ratio), sde.time_of(ratio.double()), **small)


def test_instants_of_single_times_have_double_precision(sde):
    # the formulas see the times in double precision, whatever precision they come in
    ts, x = torch.tensor([0.9, 0.4, 0.1], dtype=torch.float32), torch.zeros(3, 1)
    for single, double in zip(sde.path(ts, x), sde.path(ts.double(), x), strict=True):
        assert single[:5] == double[:5]
    for single, double in zip(sde.at(ts, x)[:5], sde.at(ts.double(), x)[:5], strict=True):
        assert torch.equal(single, double)


def test_noise_does_not_depend_on_the_memory_layout():
    x = torch.zeros(2, 3, 4, 4)
    layouts = (x, x.contiguous(memory_format=torch.channels_last))
    assert torch.equal(*(randn_like(v, torch.Generator().manual_seed(0)) for v in layouts))
    unseeded = []
    for v in layouts:
        torch.manual_seed(0)
        unseeded.append(randn_like(v))
    assert torch.equal(*unseeded)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.long])
def test_a_coefficient_takes_the_dtype_and_the_device_of_the_states(dtype):
    c = torch.tensor([1, 2, 3]).to(dtype)
    for states in (torch.zeros(3, 2), torch.zeros(3, 2, device="meta"), torch.zeros(3, 2).half()):
        seen = like(c, states)
        assert (seen.shape, seen.dtype, seen.device) == ((3, 1), states.dtype, states.device)


def test_an_sde_survives_copies_functorch_and_compilation(sde):
    sde.at(0.5)
    assert pickle.loads(pickle.dumps(sde)) == sde == copy.deepcopy(sde)
    t, x = torch.rand(4), torch.randn(4, 2)
    assert_close(torch.vmap(sde.sigma)(t), sde.sigma(t))
    assert_close(torch.vmap(lambda t, x: sde.diffuse(x, t, x))(t, x), sde.diffuse(x, t, x))


BATCH = torch.zeros(5, 2)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: VESDE(sigma_min=0.0), "sigma_min must be positive, got 0.0"),
        (lambda: VESDE(1.0, 0.5), "sigma_max must be finite and above sigma_min = 1.0, got 0.5"),
        (lambda: VESDE(sigma_max=math.nan), "sigma_max must be finite"),
        (
            lambda: VPSDE(beta_min=2.0, beta_max=1.0),
            "beta_max must be finite and at least beta_min = 2.0, got 1.0",
        ),
        (lambda: SubVPSDE(beta_min=-1.0), "beta_min must be positive, got -1.0"),
        (lambda: CosineSDE(0.0), r"alpha_end must be inside \(0, 1\), got 0.0"),
        (lambda: FlowSDE(1.0), r"alpha_end must be inside \(0, 1\), got 1.0"),
        (lambda: VPSDE().at(-0.1), r"t must be in \[0, 1\], got values from -0.1 to -0.1"),
        (
            lambda: VPSDE().perturb(BATCH[:2], torch.tensor([0.5, math.nan])),
            r"t must be in \[0, 1\]",
        ),
        (lambda: VPSDE().at(torch.zeros(3, 1)), r"t must be of shape \(\) or \(B,\), got shape"),
        (lambda: VPSDE().drift(BATCH, torch.zeros(2)), r"t or c must be of shape \(\) or \(5,\)"),
        (lambda: VPSDE().at(torch.zeros(2), BATCH), r"t or c must be of shape \(\) or \(5,\)"),
        (
            lambda: VPSDE().perturb(torch.tensor([[math.nan]]), torch.tensor(0.5)),
            "x0 must be finite everywhere",
        ),
        (
            lambda: transition(VPSDE().at(0.6), VPSDE().at(0.5)),
            "s must be an instant not later than t = 0.5, got 0.6",
        ),
        (
            lambda: VPSDE().path(torch.tensor([0.5, 0.5]), BATCH),
            "ts must be strictly decreasing, got 0.5 followed by 0.5",
        ),
        (lambda: VPSDE().path(torch.tensor([0.5]), BATCH), "ts must be at least two times"),
        (
            lambda: VPSDE().path(torch.tensor([math.nextafter(1, 2), 0.5, 0.0]), BATCH),
            r"ts must be in \[0, 1\], got 1.0000000000000002 to 0.0",
        ),
        (
            lambda: VPSDE().path(torch.tensor([1.0, 0.5, -5e-324]), BATCH),
            r"ts must be in \[0, 1\], got 1.0 to -5e-324",
        ),
        (
            lambda: VPSDE().diffuse(BATCH, torch.tensor(0.5), BATCH[:1]),
            r"z must be of shape \(5, 2\), got shape \(1, 2\)",
        ),
        (
            lambda: VPSDE().prior_log_prob(torch.zeros(3)),
            r"x must be of shape \(B, \*event\), got shape \(3,\)",
        ),
        (lambda: VPSDE().path(torch.tensor(1.0), BATCH), r"ts must be of shape \(n \+ 1,\)"),
        (
            lambda: like(torch.zeros(4), torch.zeros(3, 4)),
            r"t or c must be of shape \(\) or \(3,\), got shape \(4,\)",
        ),
    ],
)
def test_bad_values_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("t", [0.5, torch.tensor(1)])
def test_times_of_states_must_be_floating_point_tensors(sde, t):
    with pytest.raises(TypeError, match="t must be a floating-point tensor, got"):
        sde.perturb(torch.zeros(1, 1), t)


@pytest.mark.parametrize("name", ["s", "t"])
def test_a_transition_is_between_instants(name):
    given = {"s": VPSDE().at(0.5), "t": VPSDE().at(0.6), name: 0.55}
    with pytest.raises(
        TypeError, match=f"{name} must be an instant, as sde.at gives it, got float"
    ):
        transition(**given)


@pytest.mark.parametrize("ratio", [-5e-324, math.nan])
def test_a_ratio_of_noise_to_signal_is_not_negative(sde, ratio):
    with pytest.raises(ValueError, match="ratio must be at least 0 everywhere, got others"):
        sde.time_of(torch.tensor([1.0, ratio]))


def test_time_of_inverts_the_noise_to_signal_ratio(sde):
    t = torch.tensor([1e-3, 0.02, 0.4, 1.0])
    assert_close(sde.time_of(sde.sigma(t) / sde.alpha(t)), t, rtol=1e-9, atol=0)
    assert (sde.time_of(torch.tensor([1e30, math.inf], dtype=torch.float32)) == 1).all()
    assert sde.time_of(torch.tensor(1e9)) == 1 and sde.time_of(torch.tensor(0.0)) < 1e-15
    assert sde.time_of(torch.ones(2, dtype=torch.float32)).dtype == torch.float32
    assert_close(SDE.time_of(sde, torch.tensor(1.5)), sde.time_of(torch.tensor(1.5)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_takes_whatever_noise_it_can_hold(dtype):
    # 1e6, the ratio of the two, is more than float16 holds
    sde = VESDE(0.01, 1e4)
    t, x0, z = (torch.ones(3, dtype=dtype) for _ in range(3))
    assert_close(sde.diffuse(x0, t, z), torch.full((3,), 10001.0, dtype=dtype))
    assert_close(
        sde.diffuse(x0, t / 2, z).double(),
        sde.diffuse(x0.double(), t.double() / 2, z.double()),
        rtol=2 * torch.finfo(dtype).eps,
        atol=0,
    )


def test_the_drift_is_f_times_the_state(sde):
    x, t = torch.randn(5, 2), torch.tensor(0.3)
    assert_close(sde.drift(x, t), sde.f(t).item() * x)


@pytest.mark.parametrize(
    "make",
    [
        lambda: VESDE(1.0, 1.0),
        lambda: VESDE(sigma_max=math.inf),
        lambda: VPSDE(0.0),
        lambda: VPSDE(beta_max=math.inf),
        lambda: CosineSDE(1.0),
        lambda: FlowSDE(0.0),
    ],
)
def test_the_ends_of_what_is_allowed_are_not(make):
    with pytest.raises(ValueError, match="must be"):
        make()


def test_equal_rates_are_allowed():
    assert VPSDE(1.0, 1.0).beta(torch.tensor(0.5)) == 1


class FromAlpha(SDE):
    """The noise by what a variance preserving process keeps of the datum, in one formula."""

    def __init__(self, sde):
        self.kept = sde

    def alpha(self, t):
        return self.kept.alpha(t)

    def sigma(self, t):
        return (1 - self.alpha(t) ** 2).sqrt()


@pytest.mark.parametrize("kept", [VPSDE(), CosineSDE()], ids=str)
def test_sigma_may_be_the_root_of_one_minus_alpha_squared(kept):
    # which rounds to 0, with an infinite slope, at times at which sigma is not 0
    sde = FromAlpha(kept)
    for dtype in (torch.float32, torch.float64):
        t = torch.tensor([0.0, 1e-16, 1e-6, 1e-4, 0.1, 0.5, 1.0], dtype=dtype)
        assert sde.g(t).isfinite().all()
        assert_close(sde.g(t)[3:], kept.g(t)[3:], rtol=1e-5, atol=0)
    assert_close(sde.at(0.0).g, kept.at(0.0).g, rtol=1e-3, atol=1e-3)
    score = exact_score(kept, deck_mixture())
    torch.manual_seed(0)
    one, other = (
        sample(score, process, (500, 1), n_steps=50, generator=torch.Generator().manual_seed(3))
        for process in (sde, kept)
    )
    assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_numbers_whose_sum_overflows_are_finite():
    x0 = torch.full((2, 1), 3e38, dtype=torch.float32)
    assert VPSDE().perturb(x0, torch.tensor(0.5))[0].isfinite().all()
