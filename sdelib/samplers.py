r"""Reverse-time samplers: drivers that repeat a step over a grid of times.

The steps themselves are in :mod:`sdelib.steps` and :mod:`sdelib.multistep`, the grids in
:mod:`sdelib.grids`; all that a sampler needs can be imported from here.
"""

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from ._checks import require, require_finite, require_shape, require_times
from ._progress import tqdm
from .grids import Grid, uniform
from .multistep import Adams, DPMSolver2M
from .score import Score, denoise
from .sde import SDE, randn_like
from .steps import (
    Move,
    Noise,
    Step,
    ancestral,
    annealed_langevin,
    chain,
    ddim,
    euler_maruyama,
    heun,
    langevin,
    moves,
    reverse_diffusion,
    reverse_drift,
    rk4,
)

__all__ = [
    "Adams",
    "DPMSolver2M",
    "Noise",
    "Step",
    "ancestral",
    "annealed_langevin",
    "chain",
    "ddim",
    "euler_maruyama",
    "heun",
    "langevin",
    "reverse",
    "reverse_diffusion",
    "reverse_drift",
    "rk4",
    "sample",
]


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
    for move in _path(step, sde, x, ts):
        x = move(score, x, noise)
        yield x


def _path(step: Step, sde: SDE, x: Tensor, ts: Tensor) -> list[Move]:
    require_finite("x", x)
    require_times(ts, "ts")
    require_shape("ts", ts, "n + 1")
    require(len(ts) >= 2, "ts", f"{len(ts)} time", "at least two times")
    require(bool((ts.diff() < 0).all()), "ts", "others", "strictly decreasing")
    return moves(step, sde, x, ts)


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
    grid: Grid = uniform,
) -> Tensor:
    """Draw samples: start from the prior, take ``n_steps`` steps from 1 to ``t_min``, and the last
    one to 0.

    That last one is :func:`~sdelib.score.denoise`, or the step itself if it may end at 0
    (``step.to_zero``, as :class:`~sdelib.multistep.Adams` has it): with a one-call step, ``n_steps
    + 1`` score calls in all.

    Args:
        shape: Shape ``(B, *event)`` of the samples.
        step: Any :data:`~sdelib.steps.Step`, for instance ``functools.partial(euler_maruyama,
            eta=0)``.
        t_min: The last time, inside (0, 1): at 0 itself the score of data on a thin set does not
            exist.
        generator: Source of all noise; it must live on ``device``.
        dtype: Of the samples; torch's default if ``None``. Likewise ``device``.
        progress: Show a progress bar.
        grid: Where the steps are taken, any :data:`~sdelib.grids.Grid`; equal steps by default.

    Raises:
        ValueError: if ``n_steps < 1`` or ``t_min`` lies outside (0, 1).
    """
    ts = grid(sde, n_steps, t_min)
    x = sde.prior_sample(shape, generator, dtype, device)
    ts, to_zero = ts.to(x), getattr(step, "to_zero", False)
    if to_zero:
        ts = torch.cat([ts, ts.new_zeros(1)])
    noise = partial(randn_like, generator=generator) if generator else torch.randn_like
    path = _path(step, sde, x, ts)
    for move in tqdm(path, desc="sampling") if progress else path:
        x = move(score, x, noise)
    return x if to_zero else denoise(score, sde, x, ts[-1])
