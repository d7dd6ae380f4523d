r"""The exact law of a one-dimensional sampler's output, without Monte Carlo.

A sampler's step moves a law (:class:`~sdelib.quadrature.Law`, nodes and weights) in one of two
ways, read off the step by feeding it the imaginary unit for noise:

- a deterministic step carries each node along and keeps its weight;
- a step with Gaussian noise, :math:`x \mapsto m(x) + c(x) z`, spreads it by the Chapman-Kolmogorov
  equation :math:`p'(y) = \int p(x)\, \mathcal N(y; m(x), c(x)^2)\, \mathrm dx` onto a fresh uniform
  grid. The trapezoid rule on a smooth density converges faster than any power of the spacing, once
  the spacing is finer than ``c``.
"""

import itertools
import math

import torch
from torch import Tensor

from ._checks import require
from .grids import Grid, uniform
from .quadrature import TOLERANCE, Law, Target, refine, tabulate
from .samplers import Noise, Step, euler_maruyama
from .score import Score, denoise
from .sde import SDE

__all__ = ["Law", "Target", "propagate", "sampler_law", "spread", "tabulate"]

REACH = 8.0  # in standard deviations; the normal mass beyond is 1e-15


def _heavy(law: Law) -> Tensor:
    return law.weights > 1e-16 * law.weights.max()


def _gaps(law: Law, mean: Tensor, std: Tensor) -> tuple[Tensor, Tensor]:
    """How far apart noise of size ``std`` finds the nodes at ``mean``, in standard deviations, and
    their weights.
    """
    heavy = _heavy(law)
    gaps = mean[heavy, 0].diff().abs() / std[heavy, 0][1:]
    return gaps, law.weights[heavy][1:]


def _aliasing(gaps: Tensor, weights: Tensor) -> float:
    """Mass that the trapezoid rule misplaces: with a gap of h standard deviations 2 exp(-2 (pi /
    h)^2) of it.
    """
    return (weights * 2 * torch.exp(-2 * (math.pi / gaps) ** 2)).sum().item()


def spread(law: Law, mean: Tensor, std: Tensor, per_std: float) -> Law:
    """The law of ``m(X) + c(X) Z``, given ``m`` and ``c`` at the nodes of ``law``, both of shape
    ``(n, 1)``.

    Args:
        per_std: Number of fresh nodes in each standard deviation of the noise.

    Raises:
        ValueError: if the old nodes lie too far apart for the noise.
    """
    gaps, weights = _gaps(law, mean, std)
    aliasing = _aliasing(gaps, weights)
    require(
        aliasing < TOLERANCE,
        "per_std",
        per_std,
        f"larger: the nodes are so coarse that mass {aliasing:.0e} is misplaced",
    )
    heavy = _heavy(law)
    mean, std, weights = mean[heavy, 0], std[heavy, 0], law.weights[heavy]
    low, high = (mean - REACH * std).min(), (mean + REACH * std).max()
    spacing = std.min() / per_std
    # Each old node reaches only the fresh nodes within REACH standard deviations: a band, not a
    # full matrix.
    first = ((mean - REACH * std - low) / spacing).long()
    band = torch.arange(int(2 * REACH * std.max() / spacing) + 2, device=mean.device)
    index = first[:, None] + band
    u = (low + spacing * index - mean[:, None]) / std[:, None]
    mass = torch.exp(-(u**2) / 2) * (weights / std)[:, None]
    density = torch.bincount(
        index.flatten(), mass.flatten(), minlength=int((high - low) / spacing) + 1
    )
    y = low + spacing * torch.arange(len(density), dtype=mean.dtype, device=mean.device)
    return Law(y[:, None], density / density.sum())


@torch.no_grad()
def propagate(
    law: Law, score: Score, sde: SDE, step: Step, ts: Tensor, per_std: float = 5.0
) -> Law:
    """The law at ``ts[-1]`` of what a sampler makes of ``law`` at ``ts[0]``, one step between each
    two times.

    Args:
        step: A step whose noise enters once and additively, or a chain of such steps.
        ts: Decreasing times, shape ``(n + 1,)``.
        per_std: Nodes in each standard deviation of the noise, after a noisy step; more are laid
            where the next needs them.

    Raises:
        ValueError: if ``per_std`` is too small for the result to be exact to about 1e-6, or the
            step's noise enters in another way (several draws, or a size that depends on the draw).
    """
    for part in getattr(step, "parts", [step]):
        few = law.x[:: max(1, len(law.x) // 50)]
        _require_one_additive_noise(part, score, sde, few, ts[0], ts[1])
    for (t, s), part in itertools.product(itertools.pairwise(ts), getattr(step, "parts", [step])):
        moved = part(score, sde, law.x, t, s, noise=_imaginary)
        noisy = moved.is_complex() and bool(moved.imag.any())
        if noisy:
            gaps, weights = _gaps(law, moved.real, moved.imag)
            finer = itertools.count(1)
            factor = next(k for k in finer if _aliasing(gaps / k, weights) < TOLERANCE / 2)
            if factor > 1:
                law = refine(law, factor)
                moved = part(score, sde, law.x, t, s, noise=_imaginary)
        law = spread(law, moved.real, moved.imag, per_std) if noisy else Law(moved, law.weights)
    # Between deterministic steps nodes may change places (a multistep solver's predictions do), in
    # the result not.
    folded = law.weights[1:][law.x.diff(dim=0)[:, 0] < 0].sum().item()
    require(
        folded < TOLERANCE,
        "step",
        f"one that folds mass {folded:.0e}",
        "increasing in x",
    )
    return law


def _imaginary(x: Tensor) -> Tensor:
    """Noise whose coefficient is read off as the imaginary part: mean and standard deviation from
    one score call.
    """
    return torch.complex(torch.zeros_like(x), torch.ones_like(x))


def _require_one_additive_noise(
    step: Step, score: Score, sde: SDE, x: Tensor, t: Tensor, s: Tensor
) -> None:
    """Refuse a step whose law the imaginary unit as noise would not tell."""
    draws = []

    def constant(value: float) -> Noise:
        return lambda x: draws.append(value) or torch.full_like(x, value)

    zero, one, two = (step(score, sde, x, t, s, noise=constant(v)) for v in (0, 1, 2))
    once = len(draws) in (0, 3)
    additive = torch.allclose(two - zero, 2 * (one - zero), rtol=1e-6, atol=1e-9)
    allowed = "one that adds one draw of noise times a function of x, or a chain of such"
    require(once and additive, "step", "one whose noise enters otherwise", allowed)


@torch.no_grad()
def sampler_law(
    score: Score,
    sde: SDE,
    step: Step = euler_maruyama,
    n_steps: int = 500,
    t_min: float = 1e-3,
    start: Law | None = None,
    per_std: float = 5.0,
    device: torch.device | str | None = None,
    grid: Grid = uniform,
) -> Law:
    """The law of what :func:`sdelib.samplers.sample` returns for the same arguments, in double
    precision.

    Args:
        start: The law at time 1, in place of the prior. A deterministic step keeps its nodes, a
            noisy one lays its own.
        per_std, step: as for :func:`propagate`.
        grid: As for ``sample``.
    """
    ts = grid(sde, n_steps, t_min).to(device)
    law = tabulate(sde.prior_log_prob, REACH * sde.sigma(ts[0])) if start is None else start
    if getattr(step, "to_zero", False):
        ts = torch.cat([ts, ts.new_zeros(1)])
        return propagate(law, score, sde, step, ts, per_std)
    law = propagate(law, score, sde, step, ts, per_std)
    return law.push(lambda x: denoise(score, sde, x, ts[-1]))
