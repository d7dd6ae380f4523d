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

from ._checks import require, require_finite, require_times
from ._progress import tqdm
from .score import Score, denoise
from .sde import SDE, like, randn_like

Noise = Callable[[Tensor], Tensor]
"""``noise(x)`` returns standard normal numbers shaped like ``x``, unless the caller knows better."""

Step = Callable[..., Tensor]
"""``step(score, sde, x, t, s, noise=torch.randn_like) -> x_s``, with ``t > s`` of shape ``()`` or ``(B,)``."""


def reverse_drift(score: Score, sde: SDE, x: Tensor, t: Tensor, eta: float = 1.0) -> Tensor:
    """Drift of the family above, shaped like ``x``: the reverse-time SDE's at ``eta = 1``, the flow ODE's at 0."""
    return sde.drift(x, t) - (1 + eta**2) / 2 * like(sde.g(t), x) ** 2 * score(x, t)


def euler_maruyama(
    score: Score, sde: SDE, x: Tensor, t: Tensor, s: Tensor, noise: Noise = torch.randn_like, eta: float = 1.0
) -> Tensor:
    """Euler-Maruyama from ``t`` back to ``s``; with ``eta = 0``, Euler's method on the flow ODE.

    ``x - drift (t - s) + eta g sqrt(t - s) z``: weak order 1 in the step (Särkkä and Solin 2019, Sec. 8.2).
    """
    dt = like(t - s, x)
    x_s = x - reverse_drift(score, sde, x, t, eta) * dt
    return x_s + eta * like(sde.g(t), x) * dt.sqrt() * noise(x) if eta else x_s


@torch.no_grad()
def reverse(
    score: Score, sde: SDE, x: Tensor, ts: Tensor, step: Step, noise: Noise = torch.randn_like
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
    require(ts.ndim == 1 and len(ts) >= 2, "ts", f"shape {tuple(ts.shape)}", "of shape (n + 1,) with n >= 1")
    require(bool((ts.diff() < 0).all()), "ts", "times that do not", "strictly decreasing")
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
