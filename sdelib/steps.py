r"""Steps of reverse-time samplers: each moves ``x`` from an instant ``t`` to an earlier one, ``s``.

The reverse-time SDE (Anderson 1982; Song et al. 2021, Eq. 6) and the probability flow ODE (Eq. 13)
are the two ends :math:`\eta = 1` and :math:`\eta = 0` of a family with the same marginals,

.. math::
    \mathrm dx = \Big[f x - \tfrac{1 + \eta^2}{2}\, g^2\, \nabla \log p_t(x)\Big]\mathrm dt
    + \eta\, g\, \mathrm d\bar w, \qquad \mathrm dt < 0.

A step takes its noise as an input, ``noise(x) -> z``, because the Brownian increment is part of the
mathematics: zeros give the step's mean, ones added to that its standard deviation, and shared
increments compare two steps path by path.
"""

import math
from collections.abc import Callable
from numbers import Real

from torch import Tensor, add

from ._checks import require, require_like, require_tensor, require_type, values_can_be_read
from ._guard import bare_or, guard
from .score import Score, checked
from .sde import Instant, like, randn_like, require_order, transition

Noise = Callable[[Tensor], Tensor]
"""``noise(x)`` returns standard normal numbers like ``x``, unless the caller knows better."""

Step = Callable[..., Tensor]
"""``step(score, x, t, s, noise=randn_like) -> x_s``, from the instant ``t`` to ``s``, earlier."""


def plus(x: Tensor, c: float, y: Tensor) -> Tensor:
    """``x + c y``: in one operation, and faster than ``c y`` alone, where ``c`` is a number."""
    try:
        return add(x, y, alpha=c) if isinstance(c, float) else x + c * y
    except (RuntimeError, TypeError):
        require_tensor("x", x)
        require_like("y", y, x)
        require_type("c", c, Real | Tensor, "a number")
        if x.element_size() == 2 and isinstance(c, float):  # beyond the range of half precision
            return add(x.float(), y.float(), alpha=c).to(x.dtype)
        raise


def euler_maruyama(
    score: Score,
    x: Tensor,
    t: Instant,
    s: Instant,
    noise: Noise = randn_like,
    eta: float = 1.0,
) -> Tensor:
    """``x - drift h + eta g sqrt(h) z`` with ``h = t - s``; at ``eta = 0`` Euler's on the flow ODE.

    Weak order 1 (Särkkä and Solin 2019, Sec. 8.2).
    """
    require_order(s, t)
    if not abs(eta) < 1e100:
        require(False, "eta", eta, "below 1e100 in size")
    h = t.time - s.time
    mean = plus(plus(x, -t.f * h, x), (1 + eta**2) / 2 * t.g**2 * h, score(x, t.now))
    return plus(mean, eta * t.g * h**0.5, noise(x)) if eta else mean


def reverse_diffusion(
    score: Score, x: Tensor, t: Instant, s: Instant, noise: Noise = randn_like
) -> Tensor:
    """Discretise the reverse SDE as the forward chain is: ``(2 - r) x + q^2 score + q z``.

    ``r, q`` are those of the forward step from ``s`` to ``t``; ``x - (r - 1) x`` is minus its drift
    (Song et al. 2021, Eq. 46).
    """
    r, q = transition(s, t)
    return plus(plus(plus(x, 1 - r, x), q**2, score(x, t.now)), q, noise(x))


def ancestral(score: Score, x: Tensor, t: Instant, s: Instant, noise: Noise = randn_like) -> Tensor:
    """Draw from ``p(x_s | x_t, x_0)`` at ``x_0 = E[x_0 | x_t]``.

    ``(x + q^2 score) / r + q sigma_s / sigma_t z``: DDPM's sampler for VP (Ho et al. 2020, Eq. 11,
    with the smaller of its two variances) and SMLD's for VE (Song et al. 2021, Eq. 47).
    """
    r, q = transition(s, t)
    mean = plus(x, q**2, score(x, t.now)) / r
    return plus(mean, q * s.sigma / t.sigma, noise(x))


def ancestral_2s(
    score: Score,
    x: Tensor,
    t: Instant,
    s: Instant,
    noise: Noise = randn_like,
    scale: float = 1.0,
) -> Tensor:
    r"""The flow beyond ``s``, then noise back to ``s``: weak order 2, two score calls.

    In terms of :math:`\rho = \sigma/\alpha`, :func:`ancestral` is :func:`ddim` from
    :math:`\rho_t` to :math:`\rho_r = \rho_s^2 / \rho_t`, and then the process itself from there
    back to ``s``. Noise so added is exact: what remains to be done well is the flow. With
    :math:`u = \rho / (a + \rho)`, ``a`` the scale, it is

    .. math:: \frac{\mathrm d}{\mathrm du} \frac{x}{\alpha\,(a + \rho)}
        = E[z \mid x_t] - \tfrac1a E[x_0 \mid x_t],

    the velocity of straight paths; the line through its values at ``t`` and, after a step of
    :func:`ddim`, at ``s`` takes the place of the first. (With the mean of ``x_0`` at ``s`` in place
    of the line: k-diffusion's DPM-Solver++ 2S, ancestral.)

    Args:
        scale: Standard deviation of the data, positive; within a factor of 2 it matters little.
    """
    require(0 < scale < math.inf, "scale", scale, "positive and finite")
    require_order(s, t)
    rho, rho_s = t.sigma / t.alpha, s.sigma / s.alpha
    rho_r = rho_s**2 / rho

    def velocity(x: Tensor, at: Instant) -> Tensor:
        signal = 1 / (scale * at.alpha)
        return -plus(signal * x, at.sigma * (1 + at.sigma * signal), score(x, at.now))

    v, w = velocity(x, t), x / (t.alpha * (scale + rho))
    u, u_s, u_r = (rho / (scale + rho) for rho in (rho, rho_s, rho_r))
    x_s = s.alpha * (scale + rho_s) * plus(w, u_s - u, v)
    # half of (u_r - u) / (u_s - u): where on the line the velocity is the mean one
    middle = (1 + rho_s / rho) * (scale + rho_s) / (scale + rho_r) / 2
    w = plus(w, u_r - u, plus(v, middle, velocity(x_s, s) - v))
    back = s.alpha * (rho_s**2 - rho_r**2) ** 0.5
    return plus(s.alpha * (scale + rho_r) * w, back, noise(x))


def ddim(score: Score, x: Tensor, t: Instant, s: Instant, noise: Noise | None = None) -> Tensor:
    r"""``alpha_s x0 + sigma_s z``, by the means ``x0`` and ``z`` of datum and noise given ``x_t``.

    ``x0 = (x + sigma_t^2 score) / alpha_t`` and ``z = -sigma_t score`` (Song, Meng and Ermon 2021,
    Eq. 12, with no noise): exact while :math:`E[x_0 \mid x_t]` stands still, and at ``s = 0``
    Tweedie's formula. ``noise`` is not used.
    """
    r, _ = transition(s, t)
    return plus(x / r, (t.sigma / r - s.sigma) * t.sigma, score(x, t.now))


def _velocity(score: Score, x: Tensor, t: Instant) -> Tensor:
    """That of the flow ODE (Song et al. 2021, Eq. 13)."""
    return plus(t.f * x, -(t.g**2) / 2, score(x, t.now))


def heun(score: Score, x: Tensor, t: Instant, s: Instant, noise: Noise | None = None) -> Tensor:
    """Heun's step on the flow ODE: order 2, two score calls; ``noise`` is not used."""
    require_order(s, t)
    h = t.time - s.time
    v = _velocity(score, x, t)
    w = _velocity(score, plus(x, -h, v), s)
    return plus(x, -h / 2, v + w)


def rk4(score: Score, x: Tensor, t: Instant, s: Instant, noise: Noise | None = None) -> Tensor:
    """The classical Runge-Kutta step on the flow ODE: order 4, four score calls; no ``noise``."""
    require_order(s, t)
    h, middle = t.time - s.time, t.sde.at((t.now + s.now) / 2, x)
    k1 = _velocity(score, x, t)
    k2 = _velocity(score, plus(x, -h / 2, k1), middle)
    k3 = _velocity(score, plus(x, -h / 2, k2), middle)
    k4 = _velocity(score, plus(x, -h, k3), s)
    return plus(x, -h / 6, k1 + 2 * (k2 + k3) + k4)


def langevin(
    score: Score,
    x: Tensor,
    t: Instant,
    s: Instant,
    noise: Noise = randn_like,
    snr: float = 0.16,
    n_steps: int = 1,
) -> Tensor:
    r"""Langevin corrector: ``n_steps`` of MCMC at ``s``, with the paper's step size.

    ``x + e score + sqrt(2 e) z`` with ``e = 2 (r snr |z| / |score|)^2`` (Song et al. 2021, Alg. 4
    and 5; ``r`` is the transition's, 1 for VE). Norms are each state's own, so that none depends on
    its neighbours; the paper (App. G) and its code average them over the batch. (The paper's
    ``alpha_i`` is ``r^2`` in its code, a running product in its text.)

    On ``N(0, I)`` the stationary variance is ``1 + snr^2`` in many dimensions (``snr < 1``). In few
    it is more, however small the step: where the score vanishes the step has no bound, and
    ``|x|^2`` has a mean from ``d = 5`` on only.

    Raises:
        ValueError: if a state has fewer than 5 entries, or the score vanishes at one.
    """
    dim = x.shape[1:].numel()
    require(dim >= 5, "x", f"states of {dim}", "of 5 entries or more; else use annealed_langevin")
    require(0 < snr < 1e100, "snr", snr, "positive and below 1e100")
    require(n_steps >= 1, "n_steps", n_steps, "at least 1")
    r, _ = transition(s, t)
    for _ in range(n_steps):
        gradient, z = score(x, s.now), noise(x)
        norm = gradient.flatten(1).norm(dim=1)
        if values_can_be_read(norm) and not norm.all():
            require(False, "score", f"0 at a state at time {s.time}", "other than 0, to be a scale")
        size = 2 * (r * snr * like(z.flatten(1).norm(dim=1) / norm, x)) ** 2
        x = x + size * gradient + (2 * size) ** 0.5 * z
    return x


def annealed_langevin(
    score: Score,
    x: Tensor,
    t: Instant,
    s: Instant,
    noise: Noise = randn_like,
    snr: float = 0.16,
    n_steps: int = 1,
) -> Tensor:
    r"""Langevin corrector with the step ``e = 2 (snr sigma_s)^2``, in any dimension.

    It is :func:`langevin`'s step where the score has the size of the kernel's,
    ``|score| = |z| / sigma_s``, and the schedule of annealed Langevin dynamics (Song and Ermon
    2019, Alg. 1). On a normal law of variance ``v`` the stationary variance is
    ``v / (1 - e / 2v)`` for ``e < 2v``; beyond, there is none.
    """
    require_order(s, t)
    require(0 < snr < 1e100, "snr", snr, "positive and below 1e100")
    require(n_steps >= 1, "n_steps", n_steps, "at least 1")
    size = 2 * (snr * s.sigma) ** 2
    for _ in range(n_steps):
        x = plus(plus(x, size, score(x, s.now)), (2 * size) ** 0.5, noise(x))
    return x


guard(__name__, inner=("plus",), score=checked, noise=bare_or(checked))
