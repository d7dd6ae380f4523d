r"""The exact law of a one-dimensional sampler's output, without Monte Carlo.

A law is a quadrature rule: nodes ``x`` and weights ``w`` such that :math:`E[\varphi(X)] \approx \sum_i w_i \varphi(x_i)`.
A sampler's step moves it in one of two ways, read off the step by feeding it zeros and ones for noise:

- a deterministic step carries each node along and keeps its weight;
- a step with Gaussian noise, :math:`x \mapsto m(x) + c(x) z`, spreads it by the Chapman-Kolmogorov equation
  :math:`p'(y) = \int p(x)\, \mathcal N(y; m(x), c(x)^2)\, \mathrm dx` onto a fresh uniform grid. The trapezoid rule on a
  smooth density converges faster than any power of the spacing, once the spacing is finer than ``c``.
"""

import itertools
import math
from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from ._checks import require
from .samplers import Noise, Step, euler_maruyama
from .score import Score, denoise
from .sde import SDE

REACH = 8.0  # in standard deviations; the normal mass beyond is 1e-15
TOLERANCE = 1e-6  # of mass; the trapezoid rule with a gap of h standard deviations misplaces 2 exp(-2 (pi / h)^2)


class Target(Protocol):
    """What a law is compared with: a distribution function and its inverse. Mixtures have them, and so do laws."""

    def cdf(self, x: Tensor) -> Tensor: ...

    def quantile(self, u: Tensor) -> Tensor: ...


class Law(NamedTuple):
    """A law on the line as a quadrature rule.

    Attributes:
        x: Nodes in increasing order, shape ``(n, 1)``.
        weights: Mass at each node, shape ``(n,)``, of sum 1.
    """

    x: Tensor
    weights: Tensor

    @property
    def levels(self) -> Tensor:
        """Value of the distribution function at each node, half of the node's own mass included, shape ``(n,)``."""
        return self.weights.cumsum(0) - self.weights / 2

    def cdf(self, x: Tensor) -> Tensor:
        """Distribution function at points of shape ``(m, 1)``, linear between nodes: shape ``(m,)``."""
        return _interpolate(x[:, 0], self.x[:, 0], self.levels)

    def quantile(self, u: Tensor) -> Tensor:
        """Inverse of :meth:`cdf` at levels of shape ``(m,)``: shape ``(m, 1)``."""
        return _interpolate(u, self.levels, self.x[:, 0])[:, None]

    def push(self, move: Callable[[Tensor], Tensor]) -> "Law":
        """The law of ``move(X)``, for an increasing ``move``."""
        return Law(move(self.x), self.weights)

    def wasserstein(self, target: Target) -> float:
        r"""1-Wasserstein distance, :math:`\int_0^1 |F^{-1}(u) - F_{\mathrm{target}}^{-1}(u)|\,\mathrm du`, summed over the nodes.

        It is as fine as they are: a law of few nodes is compared with few quantiles of the target.
        """
        distance = (
            self.x - target.quantile(self.levels.clamp(1e-300, 1 - 1e-16))
        ).abs()[:, 0]
        return (self.weights * distance).sum().item()

    def kolmogorov(self, target: Target) -> float:
        """Largest gap between the distribution functions."""
        return (self.levels - target.cdf(self.x)).abs().max().item()


def _interpolate(x: Tensor, nodes: Tensor, values: Tensor) -> Tensor:
    return torch.as_tensor(
        np.interp(x.cpu().numpy(), nodes.cpu().numpy(), values.cpu().numpy())
    ).to(x)


def tabulate(
    log_prob: Callable[[Tensor], Tensor], extent: Tensor, n: int = 3000
) -> Law:
    """The law of density proportional to ``exp(log_prob(x))`` on ``n`` equal steps from ``-extent`` to ``extent``."""
    x = (
        extent
        * torch.linspace(-1, 1, n, dtype=extent.dtype, device=extent.device)[
            :, None
        ]
    )
    return Law(x, torch.softmax(log_prob(x), 0))


def spread(law: Law, mean: Tensor, std: Tensor, per_std: float) -> Law:
    """The law of ``m(X) + c(X) Z``, given ``m`` and ``c`` at the nodes of ``law``, both of shape ``(n, 1)``.

    Args:
        per_std: Number of fresh nodes in each standard deviation of the noise.

    Raises:
        ValueError: if the old nodes lie too far apart for the noise.
    """
    heavy = law.weights > 1e-16 * law.weights.max()
    mean, std, weights = mean[heavy, 0], std[heavy, 0], law.weights[heavy]
    gaps = mean.diff().abs() / std[1:]
    aliasing = (
        (weights[1:] * 2 * torch.exp(-2 * (math.pi / gaps) ** 2)).sum().item()
    )
    require(
        aliasing < TOLERANCE,
        "per_std",
        per_std,
        f"larger: the nodes are so coarse that mass {aliasing:.0e} is misplaced",
    )
    low, high = (mean - REACH * std).min(), (mean + REACH * std).max()
    spacing = std.min() / per_std
    # Each old node reaches only the fresh nodes within REACH standard deviations: a band, not a full matrix.
    first = ((mean - REACH * std - low) / spacing).long()
    band = torch.arange(
        int(2 * REACH * std.max() / spacing) + 2, device=mean.device
    )
    index = first[:, None] + band
    u = (low + spacing * index - mean[:, None]) / std[:, None]
    mass = torch.exp(-(u**2) / 2) * (weights / std)[:, None]
    density = torch.bincount(
        index.flatten(), mass.flatten(), minlength=int((high - low) / spacing) + 1
    )
    y = low + spacing * torch.arange(
        len(density), dtype=mean.dtype, device=mean.device
    )
    return Law(y[:, None], density / density.sum())


@torch.no_grad()
def propagate(
    law: Law, score: Score, sde: SDE, step: Step, ts: Tensor, per_std: float = 5.0
) -> Law:
    """The law at ``ts[-1]`` of what a sampler makes of ``law`` at ``ts[0]``, one step between each two times.

    Args:
        step: A step whose noise enters once and additively, or a chain of such steps.
        ts: Decreasing times, shape ``(n + 1,)``.
        per_std: Nodes in each standard deviation of the noise, after a noisy step; large steps need more.

    Raises:
        ValueError: if ``per_std`` is too small for the result to be exact to about 1e-6, or the step's noise enters in
            another way (several draws, or a size that depends on the draw).
    """
    for part in getattr(step, "parts", [step]):
        _require_one_additive_noise(part, score, sde, law.x, ts[0], ts[1])
    for (t, s), part in itertools.product(
        itertools.pairwise(ts), getattr(step, "parts", [step])
    ):
        mean = part(score, sde, law.x, t, s, noise=torch.zeros_like)
        std = part(score, sde, law.x, t, s, noise=torch.ones_like) - mean
        noisy = bool((std > 0).any())
        if noisy:
            law = spread(law, mean, std, per_std)
        else:
            folded = law.weights[1:][mean.diff(dim=0)[:, 0] < 0].sum().item()
            require(
                folded < TOLERANCE,
                "step",
                f"one that folds mass {folded:.0e}",
                "increasing in x",
            )
            law = Law(mean, law.weights)
    return law


def _require_one_additive_noise(
    step: Step, score: Score, sde: SDE, x: Tensor, t: Tensor, s: Tensor
) -> None:
    """Refuse a step whose law zeros and ones for noise do not tell."""
    draws = []

    def constant(value: float) -> Noise:
        return lambda x: draws.append(value) or torch.full_like(x, value)

    zero, one, two = (
        step(score, sde, x, t, s, noise=constant(v)) for v in (0, 1, 2)
    )
    once = len(draws) in (0, 3)
    additive = torch.allclose(two - zero, 2 * (one - zero), rtol=1e-6, atol=1e-9)
    allowed = (
        "one that adds one draw of noise times a function of x, or a chain of such"
    )
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
) -> Law:
    """The law of what :func:`sdelib.samplers.sample` returns for the same arguments, in double precision.

    Args:
        start: The law at time 1, in place of the prior. A deterministic step keeps its nodes, a noisy one lays its own.
        per_std: As for :func:`propagate`, like ``step``.
    """
    ts = torch.linspace(1, t_min, n_steps + 1, dtype=torch.float64, device=device)
    law = (
        tabulate(sde.prior_log_prob, REACH * sde.sigma(ts[0]))
        if start is None
        else start
    )
    law = propagate(law, score, sde, step, ts, per_std)
    return law.push(lambda x: denoise(score, sde, x, ts[-1]))
