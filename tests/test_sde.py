"""Every SDE's kernel against its own f and g, and against the paper's closed forms."""

import math

import pytest
import torch
from scipy import integrate
from torch.testing import assert_close

from sdelib.sde import SDE, VESDE, VPSDE, SubVPSDE, like


def derivative(function, t):
    return torch.func.jvp(function, (t,), (torch.ones_like(t),))[1]


def test_kernel_solves_the_moment_odes(sde):
    # d alpha / dt = f alpha,  d sigma^2 / dt = 2 f sigma^2 + g^2
    t = torch.linspace(0.02, 1, 25)
    assert_close(derivative(sde.alpha, t), sde.f(t) * sde.alpha(t))
    assert_close(
        derivative(lambda t: sde.sigma(t) ** 2, t), 2 * sde.f(t) * sde.sigma(t) ** 2 + sde.g(t) ** 2
    )


def test_kernel_starts_at_the_data(sde):
    zero = torch.zeros(())
    assert sde.alpha(zero) == 1 and sde.sigma(zero) == 0


@pytest.mark.parametrize("t", [0.001, 0.3, 1.0])
def test_kernel_by_quadrature(sde, t):
    # alpha = exp int f;  sigma^2 = int g(s)^2 (alpha(t) / alpha(s))^2 ds
    def at(function, s):
        return function(torch.tensor(s)).item()

    log_alpha, _ = integrate.quad(lambda s: at(sde.f, s), 0, t)
    assert math.isclose(at(sde.alpha, t), math.exp(log_alpha), rel_tol=1e-9)
    variance, _ = integrate.quad(
        lambda s: (at(sde.g, s) * at(sde.alpha, t) / at(sde.alpha, s)) ** 2, 0, t
    )
    assert math.isclose(at(sde.sigma, t) ** 2, variance, rel_tol=1e-8)


def test_transition_by_quadrature(sde):
    # Between interior times: r = exp int_s^t f,  q^2 = int_s^t g(u)^2 (alpha(t) / alpha(u))^2 du
    s, t = torch.tensor(0.3), torch.tensor(0.7)
    log_r, _ = integrate.quad(lambda u: sde.f(torch.tensor(u)).item(), s, t)

    def remaining(u):
        u = torch.tensor(u)
        return (sde.g(u) * sde.alpha(t) / sde.alpha(u)).item() ** 2

    variance, _ = integrate.quad(remaining, s, t)
    r, q = sde.transition(s, t)
    assert math.isclose(r, math.exp(log_r), rel_tol=1e-9) and math.isclose(
        q**2, variance, rel_tol=1e-8
    )


def test_transitions_compose(sde):
    # p(x_t | x_u) = int p(x_t | x_s) p(x_s | x_u) dx_s, and the kernel is the transition from 0
    u, s, t = torch.tensor([0.1, 0.4, 0.9])
    (r1, q1), (r2, q2), (r, q) = sde.transition(u, s), sde.transition(s, t), sde.transition(u, t)
    assert_close(r1 * r2, r)
    assert_close((r2 * q1) ** 2 + q2**2, q**2)
    assert_close(sde.transition(torch.zeros(()), t), (sde.alpha(t), sde.sigma(t)))


def test_a_short_transition_is_an_euler_step(sde):
    # r = 1 + f dt + O(dt^2), q^2 = g^2 dt + O(dt^2), also in single precision
    t, dt = torch.tensor(0.5, dtype=torch.float32), 1e-3
    r, q = sde.transition(t - dt, t)
    assert r.dtype == q.dtype == torch.float32
    assert abs(r - 1 - sde.f(t) * dt) < 2e-4
    assert abs(q**2 / (sde.g(t) ** 2 * dt) - 1) < 0.03


def test_perturb_draws_from_the_kernel(sde, device):
    n = 20_000
    x0 = torch.full((n, 2), 1.5, device=device)
    t = torch.tensor(0.3, device=device)
    x_t, z = sde.perturb(x0, t, torch.Generator(device).manual_seed(0))
    assert_close(x_t, sde.alpha(t) * x0 + sde.sigma(t) * z)
    assert abs(z.mean()) < 6 / math.sqrt(z.numel()) and abs(z.var() - 1) < 6 * math.sqrt(
        2 / z.numel()
    )


@pytest.mark.parametrize("event", [(3,), (1, 8, 8)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_scalar_and_batched_times_agree_for_any_event(sde, event, dtype, device):
    x = torch.randn(5, *event, dtype=dtype, device=device)
    for t in torch.linspace(0, 1, 4, dtype=dtype, device=device):
        ts = t.expand(5)
        same_noise = [
            sde.perturb(x, time, torch.Generator(device).manual_seed(1))[0] for time in (t, ts)
        ]
        for one, many in [same_noise, (sde.drift(x, t), sde.drift(x, ts))]:
            assert one.dtype == dtype and one.shape == x.shape and one.device == x.device
            assert_close(one, many)


def test_prior_is_a_normal_of_the_final_scale(sde):
    x = sde.prior_sample((20_000, 1, 2), torch.Generator().manual_seed(0))
    std = sde.sigma(torch.ones(()))
    assert abs(x.var() / std**2 - 1) < 6 * math.sqrt(2 / x.numel())
    normal = torch.distributions.MultivariateNormal(torch.zeros(2), std**2 * torch.eye(2))
    assert_close(sde.prior_log_prob(x[:9]), normal.log_prob(x[:9, 0]))


def test_the_papers_constants():
    one, t = torch.ones(()), torch.linspace(0, 1, 11)
    assert_close(VPSDE().alpha(one).log(), torch.tensor(-5.025))  # -(0.1 + (20 - 0.1) / 2) / 2
    assert_close(VPSDE().sigma(t) ** 2 + VPSDE().alpha(t) ** 2, torch.ones(11))  # Eq. 33
    assert_close(SubVPSDE().sigma(t), VPSDE().sigma(t) ** 2)  # App. B: the variance is VP's squared
    assert_close(
        VESDE().sigma(t) ** 2 + 0.01**2, (0.01 * 5000.0**t) ** 2
    )  # Eq. 30 with its initial variance


def test_subvp_never_has_more_variance_than_vp():
    # Eqs. 26 and 28 for unit-free data: Sigma_subVP = I + e^-2B I + e^-B (Sigma_0 - 2 I) <= I +
    # e^-B (Sigma_0 - I)
    t = torch.linspace(0, 1, 101)
    for v0 in (0.0, 1.0, 9.625):
        vp, sub = (s.alpha(t) ** 2 * v0 + s.sigma(t) ** 2 for s in (VPSDE(), SubVPSDE()))
        decay = torch.exp(-VPSDE().int_beta(t))
        assert_close(vp, 1 + decay * (v0 - 1))
        assert_close(sub, 1 + decay**2 + decay * (v0 - 2))
        assert (sub <= vp).all()


def test_a_new_sde_checks_its_times_too():
    class Brownian(SDE):
        def f(self, t):
            return torch.zeros_like(t)

    with pytest.raises(ValueError, match=r"t must be in \[0, 1\], got values from 2 to 2"):
        Brownian().f(torch.tensor(2.0))


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
        (
            lambda: VPSDE().sigma(torch.tensor(-0.1)),
            r"t must be in \[0, 1\], got values from -0.1 to -0.1",
        ),
        (lambda: VPSDE().g(torch.tensor([0.5, math.nan])), r"t must be in \[0, 1\]"),
        (
            lambda: VPSDE().f(torch.zeros(3, 1)),
            r"t must be of shape \(\) or \(B,\), got shape \(3, 1\)",
        ),
        (
            lambda: VPSDE().drift(torch.zeros(5, 2), torch.zeros(2)),
            r"time must be of shape \(\) or \(5,\)",
        ),
        (
            lambda: VPSDE().perturb(torch.tensor([[math.nan]]), torch.tensor(0.5)),
            "x0 must be finite everywhere",
        ),
        (
            lambda: VPSDE().transition(torch.tensor(0.6), torch.tensor(0.5)),
            "s must be at most t = 0.5",
        ),
        (
            lambda: VPSDE().transition(torch.tensor(-0.1), torch.tensor(0.5)),
            r"s must be in \[0, 1\], got values from -0.1",
        ),
        (
            lambda: like(torch.zeros(4), torch.zeros(3, 4)),
            r"time must be of shape \(\) or \(3,\), got shape \(4,\)",
        ),
    ],
)
def test_bad_values_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    "t", [torch.tensor(0.3), torch.tensor([0.0, 1e-4, 0.5, 1.0])], ids=["one time", "times"]
)
def test_the_kernel_is_alpha_and_sigma(sde, t):
    alpha, sigma = sde.kernel(t)
    assert torch.equal(alpha, sde.alpha(t)) and torch.equal(sigma, sde.sigma(t))
    with pytest.raises(ValueError, match=r"t must be in \[0, 1\]"):
        sde.kernel(torch.tensor(2.0))


def test_a_subclass_inherits_no_kernel_of_other_formulas():
    class Halved(VPSDE):
        def alpha(self, t):
            return super().alpha(t) / 2

    x0, t = torch.ones(1, 1), torch.tensor(0.3)
    assert_close(Halved().diffuse(x0, t, torch.zeros(1, 1)), VPSDE().alpha(t).reshape(1, 1) / 2)


@pytest.mark.parametrize("t", [0.5, torch.tensor(1)])
def test_times_must_be_floating_point_tensors(sde, t):
    with pytest.raises(TypeError, match="t must be a floating-point tensor, got"):
        sde.sigma(t)


def test_time_of_inverts_the_noise_to_signal_ratio(sde):
    t = torch.tensor([1e-3, 0.02, 0.4, 1.0])
    alpha, sigma = sde.kernel(t)
    assert_close(sde.time_of(sigma / alpha), t, rtol=1e-9, atol=0)
    assert sde.time_of(torch.tensor(1e9)) == 1 and sde.time_of(torch.tensor(0.0)) < 1e-15
    assert sde.time_of(torch.ones(2, dtype=torch.float32)).dtype == torch.float32
