r"""Steps of reverse-time samplers: each moves ``x`` from time ``t`` to an earlier time ``s``.

The reverse-time SDE (Anderson 1982; Song et al. 2021, Eq. 6) and the probability flow ODE (Eq. 13)
are the two ends :math:`\eta = 1` and :math:`\eta = 0` of a family with the same marginals,

.. math::
    \mathrm dx = \Big[f x - \tfrac{1 + \eta^2}{2}\, g^2\, \nabla \log p_t(x)\Big]\mathrm dt + \eta\,
    g\, \mathrm d\bar w, \qquad \mathrm dt < 0.

A step takes its noise as an input, ``noise(x) -> z``, because the Brownian increment is part of the
mathematics: zeros give the step's mean, ones its standard deviation, and shared increments compare
two steps path by path.

What a step needs to know of the times are a few *coefficients*. Each step below is written as two
halves, coefficients of the times alone and a move of the states, so that a sampler computes the
coefficients of its whole grid once (:func:`moves`) and its loop only moves.
"""

import functools
import inspect
import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ._checks import require
from .score import Score
from .sde import SDE, like

Noise = Callable[[Tensor], Tensor]
"""``noise(x)`` returns standard normal numbers shaped like ``x``, unless the caller knows better."""

Step = Callable[..., Tensor]
"""``step(score, sde, x, t, s, noise=torch.randn_like) -> x_s``, with ``t > s`` of shape ``()`` or ``(B,)``."""

Move = Callable[[Score, Tensor, Noise], Tensor]
"""``move(score, x, noise) -> x_s``: a step between two times that are fixed."""


def timed(coefficients: Callable[..., tuple]) -> Callable[[Callable], Step]:
    """Make a step of its two halves: decorate ``move(score, x, t, s, noise, *coefficients)`` with
    the other half.

    Args:
        coefficients: ``coefficients(sde, t, s, ...)`` returns a tuple of tensors shaped like ``t``
            and of other constants. Its further arguments are those of the step.
    """

    def decorate(move: Callable[..., Tensor]) -> Step:
        @functools.wraps(move)
        def step(score, sde, x, t, s, noise=torch.randn_like, *args, **options):
            given = coefficients(sde, t, s, *args, **options)
            return move(score, x, t, s, noise, *(_shaped(c, x) for c in given))

        def on_grid(sde: SDE, x: Tensor, ts: Tensor, **options: Any) -> list[Move]:
            exact = ts.double()
            given = coefficients(sde, exact[:-1], exact[1:], **options)
            rows = zip(
                *(c.to(x).unbind() if isinstance(c, Tensor) else itertools.repeat(c) for c in given)
            )

            def at(t: Tensor, s: Tensor, row: tuple) -> Move:
                return lambda score, x, noise: move(score, x, t, s, noise, *row)

            return [at(t, s, row) for (t, s), row in zip(itertools.pairwise(ts.unbind()), rows)]

        step.on_grid = on_grid
        step.__signature__ = _signature(coefficients)
        return step

    return decorate


def _shaped(c: Any, x: Tensor) -> Any:
    return like(c, x) if isinstance(c, Tensor) else c


def _signature(coefficients: Callable[..., tuple]) -> inspect.Signature:
    """That of a step with the options of ``coefficients``."""

    def step(score: Score, sde: SDE, x: Tensor, t: Tensor, s: Tensor, noise: Noise = torch.randn_like) -> Tensor: ...  # fmt: skip

    options = list(inspect.signature(coefficients).parameters.values())[3:]
    signature = inspect.signature(step)
    return signature.replace(parameters=[*signature.parameters.values(), *options])


def one_call(coefficients: Callable[..., tuple]) -> Step:
    """Make the step ``a x + b score(x, t) + c z`` of its coefficients ``(a, b, c)``; no noise is
    drawn if ``c`` is ``None``.
    """

    def move(score, x, t, s, noise, a, b, c):
        moved = torch.addcmul(a * x, b, score(x, t))
        return moved if c is None else torch.addcmul(moved, c, noise(x))

    return timed(coefficients)(functools.wraps(coefficients)(move))


def moves(step: Step, sde: SDE, x: Tensor, ts: Tensor) -> list[Move]:
    """``step`` on each interval of the grid ``ts``, with all that depends on the times alone
    computed here.

    Args:
        step: A step of this module or of :mod:`sdelib.multistep`, a :func:`chain` of such or
            ``functools.partial`` of one with further options; any other :data:`Step` works, at its
            own speed.
        x: States like those to be moved, for dtype and device.
        ts: Decreasing times, shape ``(n + 1,)``.
    """
    inner, options = step, {}
    if isinstance(step, functools.partial) and not step.args:
        inner, options = step.func, step.keywords
    if hasattr(inner, "on_grid"):
        return inner.on_grid(sde, x, ts, **options)

    def at(t: Tensor, s: Tensor) -> Move:
        return lambda score, x, noise: step(score, sde, x, t, s, noise=noise)

    return [at(t, s) for t, s in itertools.pairwise(ts.unbind())]


def reverse_drift(score: Score, sde: SDE, x: Tensor, t: Tensor, eta: float = 1.0) -> Tensor:
    """Drift of the family above, shaped like ``x``: the reverse-time SDE's at ``eta = 1``, the flow
    ODE's at 0.
    """
    return sde.drift(x, t) - (1 + eta**2) / 2 * like(sde.g(t), x) ** 2 * score(x, t)


@one_call
def euler_maruyama(sde: SDE, t: Tensor, s: Tensor, eta: float = 1.0) -> tuple:
    """Euler-Maruyama from ``t`` back to ``s``; with ``eta = 0``, Euler's method on the flow ODE.

    ``x - drift (t - s) + eta g sqrt(t - s) z``: weak order 1 in the step (Särkkä and Solin 2019,
    Sec. 8.2).
    """
    h, g = t - s, sde.g(t)
    noise = eta * g * h.sqrt() if eta else None
    return 1 - sde.f(t) * h, (1 + eta**2) / 2 * g**2 * h, noise


@one_call
def reverse_diffusion(sde: SDE, t: Tensor, s: Tensor) -> tuple:
    """Discretise the reverse SDE as the forward chain is: ``(2 - r) x + q^2 score + q z`` (Song et
    al. 2021, Eq. 46).

    ``r, q`` are those of the forward transition from ``s`` to ``t``: ``x - (r - 1) x`` is minus the
    forward drift.
    """
    r, q = sde.transition(s, t)
    return 2 - r, q**2, q


@one_call
def ancestral(sde: SDE, t: Tensor, s: Tensor) -> tuple:
    """Draw from ``p(x_s | x_t, x_0)`` at ``x_0 = E[x_0 | x_t]``: ``(x + q^2 score) / r + q sigma(s)
    / sigma(t) z``.

    DDPM's sampler for VP (Ho et al. 2020, Eq. 11, with the smaller of its two variances) and SMLD's
    for VE (Song et al. 2021, Eq. 47).
    """
    r, q = sde.transition(s, t)
    return 1 / r, q**2 / r, q * sde.sigma(s) / sde.sigma(t)


@one_call
def ddim(sde: SDE, t: Tensor, s: Tensor) -> tuple:
    r"""First-order exponential integrator of the flow ODE: exact while :math:`E[x_0 \mid x_t]`
    stands still.

    ``alpha(s) x0 + sigma(s) z`` with ``x0 = (x + sigma(t)^2 score) / alpha(t)`` and ``z = -sigma(t)
    score``, the means of datum and noise given ``x_t`` (Song, Meng and Ermon 2021, Eq. 12, with no
    noise); ``noise`` is not used.
    """
    (alpha_t, sigma_t), (alpha_s, sigma_s) = sde.kernel(t), sde.kernel(s)
    scale = alpha_s / alpha_t
    return scale, scale * sigma_t**2 - sigma_s * sigma_t, None


def _flow(sde: SDE, t: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    """``f h`` and ``b h`` of the flow ODE's velocity ``f x + b score``."""
    return sde.f(t) * h, sde.g(t) ** 2 / -2 * h


def _two_flows(sde: SDE, t: Tensor, s: Tensor) -> tuple:
    return *_flow(sde, t, t - s), *_flow(sde, s, t - s)


@timed(_two_flows)
def heun(score, x, t, s, noise, f_t, b_t, f_s, b_s):
    """Heun's second-order step on the flow ODE, two score calls; ``noise`` is not used."""
    k1 = torch.addcmul(f_t * x, b_t, score(x, t))
    y = x - k1
    k2 = torch.addcmul(f_s * y, b_s, score(y, s))
    return torch.sub(x, k1 + k2, alpha=1 / 2)


def _three_flows(sde: SDE, t: Tensor, s: Tensor) -> tuple:
    m, h = (t + s) / 2, t - s
    return m, *_flow(sde, t, h), *_flow(sde, m, h), *_flow(sde, s, h)


@timed(_three_flows)
def rk4(score, x, t, s, noise, m, f_t, b_t, f_m, b_m, f_s, b_s):
    """The classical Runge-Kutta step on the flow ODE, order 4, four score calls; ``noise`` is not
    used.
    """
    m = m.reshape(t.shape)  # a coefficient becomes a time again
    k1 = torch.addcmul(f_t * x, b_t, score(x, t))
    y = torch.sub(x, k1, alpha=1 / 2)
    k2 = torch.addcmul(f_m * y, b_m, score(y, m))
    y = torch.sub(x, k2, alpha=1 / 2)
    k3 = torch.addcmul(f_m * y, b_m, score(y, m))
    y = x - k3
    k4 = torch.addcmul(f_s * y, b_s, score(y, s))
    ends, middles = k1 + k4, k2 + k3
    return torch.sub(torch.sub(x, ends, alpha=1 / 6), middles, alpha=1 / 3)


def _langevin_step(x: Tensor, gradient: Tensor, size: Tensor, z: Tensor) -> Tensor:
    return x + size * gradient + (2 * size).sqrt() * z


def _relative(sde: SDE, t: Tensor, s: Tensor, snr: float = 0.16, n_steps: int = 1) -> tuple:
    r, _ = sde.transition(s, t)
    return r * snr, n_steps


@timed(_relative)
def langevin(score, x, t, s, noise, r_snr, n_steps):
    r"""Langevin corrector: ``n_steps`` of MCMC at time ``s``, with the paper's step size, for
    states of many dimensions.

    ``x + e score + sqrt(2 e) z`` with ``e = 2 r^2 (snr |z| / |score|)^2`` (Song et al. 2021, Alg. 4
    and 5; ``r`` is the transition's, 1 for VE). Norms are each sample's own, so that no sample
    depends on its neighbours; the paper (App. G) and its code average them over the batch. (The
    paper's ``alpha_i`` is ``r^2`` in its code, a running product in its text.) On ``N(0, I)`` the
    stationary variance is ``1 + snr^2`` for large ``d``; for small ``d`` more, however small the
    step, and below ``d = 3`` a vanishing score makes the step's moments infinite: there, use
    :func:`annealed_langevin`.
    """
    for _ in range(n_steps):
        gradient, z = score(x, s), noise(x)
        ratio = like(z.flatten(1).norm(dim=1) / gradient.flatten(1).norm(dim=1), x)
        x = _langevin_step(x, gradient, 2 * (r_snr * ratio) ** 2, z)
    return x


def _absolute(sde: SDE, t: Tensor, s: Tensor, snr: float = 0.16, n_steps: int = 1) -> tuple:
    return 2 * (snr * sde.sigma(s)) ** 2, n_steps


@timed(_absolute)
def annealed_langevin(score, x, t, s, noise, size, n_steps):
    r"""Langevin corrector with the step ``e = 2 (snr sigma(s))^2``, the same for every state, in
    any dimension.

    It is :func:`langevin`'s step where the score has the size of the kernel's, ``|score| = |z| /
    sigma(s)``, and the schedule of annealed Langevin dynamics (Song and Ermon 2019, Alg. 1). On a
    normal law of variance ``v`` the stationary variance is ``v / (1 - e / 2v)``.
    """
    for _ in range(n_steps):
        x = _langevin_step(x, score(x, s), size, noise(x))
    return x


def chain(*steps: Step) -> Step:
    """Apply ``steps`` in turn on the same interval: ``chain(predictor, corrector)`` is the PC
    sampler's step (Alg. 1).
    """
    require(len(steps) >= 1, "steps", "none", "at least one")

    def step(
        score: Score,
        sde: SDE,
        x: Tensor,
        t: Tensor,
        s: Tensor,
        noise: Noise = torch.randn_like,
    ) -> Tensor:
        for part in steps:
            x = part(score, sde, x, t, s, noise=noise)
        return x

    def in_turn(parts: tuple[Move, ...]) -> Move:
        def move(score: Score, x: Tensor, noise: Noise) -> Tensor:
            for part in parts:
                x = part(score, x, noise)
            return x

        return move

    step.parts = (
        steps  # each draws its own noise, which whoever follows the law of the whole must know
    )
    step.on_grid = lambda sde, x, ts: [
        in_turn(parts) for parts in zip(*(moves(part, sde, x, ts) for part in steps))
    ]
    return step
