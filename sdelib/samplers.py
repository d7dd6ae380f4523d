r"""Reverse-time samplers: a *step* moves ``x`` from time ``t`` to an earlier time ``s``; one driver repeats it.

The reverse-time SDE (Anderson 1982; Song et al. 2021, Eq. 6) and the probability flow ODE (Eq. 13) are the two ends
:math:`\eta = 1` and :math:`\eta = 0` of a family with the same marginals,

.. math::
    \mathrm dx = \Big[f x - \tfrac{1 + \eta^2}{2}\, g^2\, \nabla \log p_t(x)\Big]\mathrm dt + \eta\, g\, \mathrm d\bar w,
    \qquad \mathrm dt < 0.

A step takes its noise as an input, ``noise(x) -> z``, because the Brownian increment is part of the mathematics: zeros
give the step's mean, ones its standard deviation, and shared increments compare two steps path by path.
"""

import itertools
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from ._checks import require, require_finite, require_shape, require_times
from ._progress import tqdm
from .score import Score, denoise
from .sde import SDE, like, randn_like

Noise = Callable[[Tensor], Tensor]
"""``noise(x)`` returns standard normal numbers shaped like ``x``, unless the caller knows better."""

Step = Callable[..., Tensor]
"""``step(score, sde, x, t, s, noise=torch.randn_like) -> x_s``, with ``t > s`` of shape ``()`` or ``(B,)``."""


def reverse_drift(
    score: Score, sde: SDE, x: Tensor, t: Tensor, eta: float = 1.0
) -> Tensor:
    """Drift of the family above, shaped like ``x``: the reverse-time SDE's at ``eta = 1``, the flow ODE's at 0."""
    return sde.drift(x, t) - (1 + eta**2) / 2 * like(sde.g(t), x) ** 2 * score(x, t)


def euler_maruyama(
    score: Score,
    sde: SDE,
    x: Tensor,
    t: Tensor,
    s: Tensor,
    noise: Noise = torch.randn_like,
    eta: float = 1.0,
) -> Tensor:
    """Euler-Maruyama from ``t`` back to ``s``; with ``eta = 0``, Euler's method on the flow ODE.

    ``x - drift (t - s) + eta g sqrt(t - s) z``: weak order 1 in the step (Särkkä and Solin 2019, Sec. 8.2).
    """
    dt = like(t - s, x)
    x_s = x - reverse_drift(score, sde, x, t, eta) * dt
    return x_s + eta * like(sde.g(t), x) * dt.sqrt() * noise(x) if eta else x_s


def reverse_diffusion(
    score: Score,
    sde: SDE,
    x: Tensor,
    t: Tensor,
    s: Tensor,
    noise: Noise = torch.randn_like,
) -> Tensor:
    """Discretise the reverse SDE as the forward chain is: ``(2 - r) x + q^2 score + q z`` (Song et al. 2021, Eq. 46).

    ``r, q`` are those of the forward transition from ``s`` to ``t``: ``x - (r - 1) x`` is minus the forward drift.
    """
    r, q = (like(c, x) for c in sde.transition(s, t))
    return (2 - r) * x + q**2 * score(x, t) + q * noise(x)


def ancestral(
    score: Score,
    sde: SDE,
    x: Tensor,
    t: Tensor,
    s: Tensor,
    noise: Noise = torch.randn_like,
) -> Tensor:
    """Draw from ``p(x_s | x_t, x_0)`` at ``x_0 = E[x_0 | x_t]``: ``(x + q^2 score) / r + q sigma(s) / sigma(t) z``.

    DDPM's sampler for VP (Ho et al. 2020, Eq. 11, with the smaller of its two variances) and SMLD's for VE (Song et
    al. 2021, Eq. 47).
    """
    r, q = (like(c, x) for c in sde.transition(s, t))
    std = q * like(sde.sigma(s) / sde.sigma(t), x)
    return (x + q**2 * score(x, t)) / r + std * noise(x)


def heun(
    score: Score,
    sde: SDE,
    x: Tensor,
    t: Tensor,
    s: Tensor,
    noise: Noise = torch.randn_like,
) -> Tensor:
    """Heun's second-order step on the flow ODE, two score calls; ``noise`` is not used."""
    dt = like(t - s, x)
    slope = reverse_drift(score, sde, x, t, eta=0)
    slope_s = reverse_drift(score, sde, x - slope * dt, s, eta=0)
    return x - (slope + slope_s) / 2 * dt


def ddim(
    score: Score,
    sde: SDE,
    x: Tensor,
    t: Tensor,
    s: Tensor,
    noise: Noise = torch.randn_like,
) -> Tensor:
    r"""First-order exponential integrator of the flow ODE: exact while :math:`E[x_0 \mid x_t]` stands still.

    ``alpha(s) x0 + sigma(s) z`` with ``x0, z`` the means of datum and noise given ``x_t`` (Song, Meng and Ermon 2021,
    Eq. 12, with no noise); ``noise`` is not used.
    """
    x0 = denoise(score, sde, x, t)
    z = (x - like(sde.alpha(t), x) * x0) / like(sde.sigma(t), x)
    return like(sde.alpha(s), x) * x0 + like(sde.sigma(s), x) * z


class DPMSolver2M:
    r"""DPM-Solver++ 2M, a second-order multistep step on the flow ODE with one score call (Lu et al. 2025, Alg. 2).

    In :math:`\lambda = \log(\alpha/\sigma)` the flow ODE is linear but for :math:`x_0(\lambda) = E[x_0 \mid x_t]`, which the
    step extrapolates linearly through its last two values. An instance is a :data:`Step` that remembers its last calls; one
    that does not continue them (another time or shape) starts afresh, at first order, like :func:`ddim`.
    """

    def __init__(self):
        self._ended = []  # (s, x0, h) of the last two calls: two, so that repeating a call repeats its answer

    def __call__(
        self,
        score: Score,
        sde: SDE,
        x: Tensor,
        t: Tensor,
        s: Tensor,
        noise: Noise = torch.randn_like,
    ) -> Tensor:
        x0, h = denoise(score, sde, x, t), _log_snr(sde, s) - _log_snr(sde, t)
        estimate = x0
        for time, x0_before, h_before in self._ended:
            if x0_before.shape == x0.shape and torch.equal(time, t):
                estimate = x0 + like(h / (2 * h_before), x) * (x0 - x0_before)
        self._ended = [*self._ended[-1:], (s, x0, h)]
        return (
            like(sde.sigma(s) / sde.sigma(t), x) * x
            - like(sde.alpha(s) * torch.expm1(-h), x) * estimate
        )


def _log_snr(sde: SDE, t: Tensor) -> Tensor:
    return torch.log(sde.alpha(t) / sde.sigma(t))


def _langevin_step(x: Tensor, gradient: Tensor, size: Tensor, z: Tensor) -> Tensor:
    size = like(size, x)
    return x + size * gradient + (2 * size).sqrt() * z


def langevin(
    score: Score,
    sde: SDE,
    x: Tensor,
    t: Tensor,
    s: Tensor,
    noise: Noise = torch.randn_like,
    snr: float = 0.16,
    n_steps: int = 1,
) -> Tensor:
    r"""Langevin corrector: ``n_steps`` of MCMC at time ``s``, with the paper's step size, for states of many dimensions.

    ``x + e score + sqrt(2 e) z`` with ``e = 2 r^2 (snr |z| / |score|)^2`` (Song et al. 2021, Alg. 4 and 5; ``r`` is the
    transition's, 1 for VE). Norms are each sample's own, so that no sample depends on its neighbours; the paper (App. G)
    and its code average them over the batch. (The paper's ``alpha_i`` is ``r^2`` in its code, a running product in its text.) On ``N(0, I)`` the stationary variance is ``1 + snr^2`` for large ``d``; for small ``d``
    more, however small the step, and below ``d = 3`` a vanishing score makes the step's moments infinite: there, use
    :func:`annealed_langevin`.
    """
    r, _ = sde.transition(s, t)
    for _ in range(n_steps):
        gradient, z = score(x, s), noise(x)
        ratio = z.flatten(1).norm(dim=1) / gradient.flatten(1).norm(dim=1)
        x = _langevin_step(x, gradient, 2 * (r * snr * ratio) ** 2, z)
    return x


def annealed_langevin(
    score: Score,
    sde: SDE,
    x: Tensor,
    t: Tensor,
    s: Tensor,
    noise: Noise = torch.randn_like,
    snr: float = 0.16,
    n_steps: int = 1,
) -> Tensor:
    r"""Langevin corrector with the step ``e = 2 (snr sigma(s))^2``, the same for every state, in any dimension.

    It is :func:`langevin`'s step where the score has the size of the kernel's, ``|score| = |z| / sigma(s)``, and the
    schedule of annealed Langevin dynamics (Song and Ermon 2019, Alg. 1). On a normal law of variance ``v`` the stationary
    variance is ``v / (1 - e / 2v)``.
    """
    for _ in range(n_steps):
        x = _langevin_step(x, score(x, s), 2 * (snr * sde.sigma(s)) ** 2, noise(x))
    return x


def chain(*steps: Step) -> Step:
    """Apply ``steps`` in turn on the same interval: ``chain(predictor, corrector)`` is the PC sampler's step (Alg. 1)."""
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

    step.parts = steps  # each draws its own noise, which whoever follows the law of the whole must know
    return step


@torch.no_grad()
def reverse(
    score: Score,
    sde: SDE,
    x: Tensor,
    ts: Tensor,
    step: Step,
    noise: Noise = torch.randn_like,
) -> Iterator[Tensor]:
    """Yield the states at ``ts[1], ts[2], ...``, starting from ``x`` at ``ts[0]``.

    Args:
        x: The state at ``ts[0]``, shape ``(B, *event)``.
        ts: Strictly decreasing times in [0, 1], shape ``(n + 1,)``.

    Raises:
        ValueError: if ``ts`` is not as above or ``x`` holds NaN or infinity.
    """
    require_finite("x", x)
    require_times(ts, "ts")
    require_shape("ts", ts, "n + 1")
    require(len(ts) >= 2, "ts", f"{len(ts)} time", "at least two times")
    require(bool((ts.diff() < 0).all()), "ts", "others", "strictly decreasing")
    for t, s in itertools.pairwise(ts):
        x = step(score, sde, x, t, s, noise=noise)
        yield x


@torch.no_grad()
def sample(
    score: Score,
    sde: SDE,
    shape: tuple[int, ...],
    step: Step = euler_maruyama,
    n_steps: int = 500,
    t_min: float = 1e-3,
    generator: torch.Generator | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    progress: bool = False,
) -> Tensor:
    """Draw samples: start from the prior, take ``n_steps`` equal steps from 1 to ``t_min``, then
    :func:`~sdelib.score.denoise`.

    Args:
        shape: Shape ``(B, *event)`` of the samples.
        step: Any :data:`Step`, for instance ``functools.partial(euler_maruyama, eta=0)``.
        t_min: The last time, inside (0, 1): at 0 itself the score of data on a thin set does not exist.
        generator: Source of all noise; it must live on ``device``.
        dtype: Of the samples; torch's default if ``None``. Likewise ``device``.
        progress: Show a progress bar.

    Raises:
        ValueError: if ``n_steps < 1`` or ``t_min`` lies outside (0, 1).
    """
    require(n_steps >= 1, "n_steps", n_steps, "at least 1")
    require(0 < t_min < 1, "t_min", t_min, "inside (0, 1)")
    x = sde.prior_sample(shape, generator, dtype, device)
    ts = torch.linspace(1, t_min, n_steps + 1, dtype=x.dtype, device=x.device)
    states = reverse(score, sde, x, ts, step, lambda x: randn_like(x, generator))
    for x in tqdm(states, total=n_steps, desc="sampling") if progress else states:
        pass
    return denoise(score, sde, x, ts[-1])
