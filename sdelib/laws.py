r"""Laws on the line as quadrature rules, and what a sampler makes of them, without Monte Carlo.

A law is nodes ``x`` and weights ``w`` such that :math:`E[\varphi(X)] \approx \sum_i w_i
\varphi(x_i)`. On equal steps that is the trapezoid rule, which on a smooth density converges faster
than any power of the step. A sampler's step moves a law in one of two ways:

- a deterministic step carries each node along and keeps its weight;
- a step with Gaussian noise, :math:`x \mapsto m(x) + c(x) z`, spreads it by the Chapman-Kolmogorov
  equation :math:`p'(y) = \int p(x)\, \mathcal N(y; m(x), c(x)^2)\, \mathrm dx` onto a fresh uniform
  grid. Zeros for noise show ``m``, ones show ``m + c``.
"""

import itertools
import math
from collections.abc import Callable
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import scipy
import torch
from torch import Tensor

from ._checks import (
    require,
    require_finite,
    require_like,
    require_shape,
    require_times,
    require_type,
    same,
)
from ._guard import guard, leads_down
from .samplers import Grid, Solver, Walk, own_noise, run_times, steps_to, walk
from .score import Score, checked
from .sde import SDE, Instant
from .steps import Noise, Step, euler_maruyama

TOLERANCE = 1e-6  # of mass
REACH = 8.0  # in standard deviations; the normal mass beyond is 1e-15


@runtime_checkable
class Target(Protocol):
    """What a law is compared with: mixtures are targets, and so are laws."""

    def cdf(self, x: Tensor) -> Tensor:
        """Distribution function at points ``(m, 1)``, shape ``(m,)``."""
        ...

    def quantile(self, u: Tensor) -> Tensor:
        """Its inverse at levels ``(m,)``, shape ``(m, 1)``."""
        ...

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-density at points ``(m, 1)``, shape ``(m,)``."""
        ...


class Law(NamedTuple):
    """A law on the line as a quadrature rule.

    Attributes:
        x: Nodes in increasing order, shape ``(n, 1)``.
        weights: Mass at each node, shape ``(n,)``, of sum 1.
    """

    x: Tensor
    weights: Tensor

    def __eq__(self, other: object) -> bool:
        return same(self, other)

    def __ne__(self, other: object) -> bool:
        return not same(self, other)

    __hash__ = None  # pyright: ignore[reportAssignmentType]

    @property
    def levels(self) -> Tensor:
        """The distribution function at each node, half of its own mass included, shape ``(n,)``."""
        return self.weights.cumsum(0) - self.weights / 2

    @property
    def spacing(self) -> Tensor:
        """Length of line that a node stands for, half of the way to either neighbour, ``(n,)``."""
        return torch.gradient(self.x[:, 0])[0]

    def cdf(self, x: Tensor) -> Tensor:
        """Distribution function at points ``(m, 1)``, linear between nodes: shape ``(m,)``."""
        require_shape("x", x, "m", 1)
        return _interpolate(x[:, 0], self.x[:, 0], self.levels)

    def quantile(self, u: Tensor) -> Tensor:
        """Inverse of :meth:`cdf` at levels ``(m,)``: shape ``(m, 1)``."""
        require_shape("u", u, "m")
        require_times(u, "u")  # the same range
        return _interpolate(u, self.levels, self.x[:, 0])[:, None]

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-density at points ``(m, 1)``: a cubic spline through the nodes, -inf beyond them.

        The nodes must be so fine that mass over :attr:`spacing` is a density, as :func:`tabulate`
        and :func:`spread` lay them; then its error is of fourth order in the spacing. On nodes that
        a deterministic step has carried along, it is of second order.

        Raises:
            ValueError: if nodes are equal, as those of a point.
        """
        require_shape("x", x, "m", 1)
        some = self.weights > 0
        nodes, density = self.x[some, 0], (self.weights / self.spacing)[some].log()
        rising = bool((nodes.diff() > 0).all())
        require(rising, "law.x", "equal ones", "different nodes: a point has no density")
        at, nodes, density = (v.double().cpu().numpy() for v in (x[:, 0], nodes, density))
        spline = scipy.interpolate.CubicSpline(nodes, density, extrapolate=False)
        inside = torch.as_tensor(spline(at)).to(x)
        return inside.where(~inside.isnan() | x[:, 0].isnan(), -math.inf)

    def push(self, move: Callable[[Tensor], Tensor]) -> "Law":
        """The law of ``move(X)``, for an increasing ``move``."""
        moved = move(self.x)
        require_like("move(x)", moved, self.x)
        return Law(moved, self.weights)

    def wasserstein(self, target: Target) -> float:
        r"""1-Wasserstein distance :math:`\int_0^1 |F^{-1} - F_{\mathrm{target}}^{-1}|\,\mathrm du`.

        It is as fine as the nodes: a law of few is compared with few quantiles of the target.
        """
        quantiles = target.quantile(self.levels.clamp(1e-300, 1 - 1e-16))
        return (self.weights * (self.x - quantiles).abs()[:, 0]).sum().item()

    def kolmogorov(self, target: Target) -> float:
        """Largest gap between the distribution functions."""
        return (self.levels - target.cdf(self.x)).abs().max().item()

    def total_variation(self, target: Target) -> float:
        r"""Largest difference in the probability of any event, :math:`\tfrac12 \int |p - q|`.

        As exact as :meth:`log_prob`; the target's mass beyond the nodes is counted.
        """
        mass = target.log_prob(self.x).exp() * self.spacing
        low, high = target.cdf(self.x[[0, -1]])
        return ((self.weights - mass).abs().sum() + low + 1 - high).item() / 2

    def kl(self, target: Target) -> float:
        r"""Kullback-Leibler divergence :math:`\int p \log(p / p_{\mathrm{target}})`, in nats.

        The reverse one is ``tabulate(target.log_prob, ...).kl(law)``. Nodes that hold less than
        1e-14 of the heaviest are left out: there the densities are known to no digit.
        """
        heavy = self.weights > 1e-14 * self.weights.max()
        log_ratio = (self.weights / self.spacing).log() - target.log_prob(self.x)
        return (self.weights * log_ratio)[heavy].sum().item()


def _interpolate(x: Tensor, nodes: Tensor, values: Tensor) -> Tensor:
    at, xs, ys = (v.double().cpu().numpy() for v in (x, nodes, values))
    return torch.as_tensor(np.interp(at, xs, ys)).to(x)


def tabulate(log_prob: Callable[[Tensor], Tensor], extent: Tensor, n: int = 3000) -> Law:
    """The law of density proportional to ``exp(log_prob(x))`` on ``n`` equally spaced nodes.

    Args:
        extent: They run from ``-extent`` to ``extent``.
    """
    require(extent.ndim == 0 and 0 < extent.item() < math.inf, "extent", extent, "one above 0")
    require(n >= 2, "n", n, "at least 2")
    x = extent * torch.linspace(-1, 1, n, dtype=extent.dtype, device=extent.device)[:, None]
    density = log_prob(x)
    require_like("log_prob(x)", density, x[:, 0])
    whole = bool((density < math.inf).all()) and density.max().item() > -math.inf
    require(whole, "log_prob(x)", "NaN, infinity, or -infinity everywhere", "that of a density")
    return Law(x, torch.softmax(density, 0))


def spread(law: Law, mean: Tensor, std: Tensor, per_std: float) -> Law:
    """The law of ``m(X) + c(X) Z``, given ``m`` and ``c`` at its nodes, shape ``(n, 1)``.

    Args:
        per_std: Number of fresh nodes in each standard deviation of the noise.

    Raises:
        ValueError: if the old nodes lie too far apart for the noise.
    """
    require_like("mean", mean, law.x)
    require_like("std", std, law.x)
    require_finite("mean", mean)
    require_finite("std", std)
    require(bool((std > 0).all()), "std", "others", "positive everywhere")
    require(per_std > 0, "per_std", per_std, "positive")
    aliasing = _aliasing(law, mean, std)
    allowed = f"larger: the nodes are so coarse that mass {aliasing:.0e} is misplaced"
    require(aliasing < TOLERANCE, "per_std", per_std, allowed)
    mean, std, heavy = mean.to(law.x), std.to(law.x), _heavy(law)
    mean, std, weights = mean[heavy, 0], std[heavy, 0], law.weights[heavy]
    low = (mean - REACH * std).min()
    spacing = std.min() / per_std
    few = len(mean) * 2 * REACH * std.max() / spacing < 3e8
    require(bool(few), "per_std", per_std, "smaller, or the noise more even: the band is too wide")
    # each old node reaches only the fresh ones within REACH deviations: a band, not a full matrix
    first = ((mean - REACH * std - low) / spacing).long()
    index = first[:, None] + torch.arange(
        int(2 * REACH * std.max() / spacing) + 2, device=mean.device
    )
    u = (low + spacing * index - mean[:, None]) / std[:, None]
    mass = torch.exp(-(u**2) / 2) * (weights / std)[:, None]
    density = torch.bincount(index.flatten(), mass.flatten())
    y = low + spacing * torch.arange(len(density), dtype=mean.dtype, device=mean.device)
    return Law(y[:, None], density / density.sum())


def _heavy(law: Law) -> Tensor:
    return law.weights > 1e-16 * law.weights.max()


def _aliasing(law: Law, mean: Tensor, std: Tensor, factor: int = 1) -> float:
    """Mass that the trapezoid rule would misplace on ``factor`` times as many nodes.

    With a gap of h standard deviations between nodes it is 2 exp(-2 (pi / h)^2) of a node's mass.
    """
    heavy = _heavy(law)
    gaps = mean[heavy, 0].diff().abs() / std[heavy, 0][1:] / factor
    return (law.weights[heavy][1:] * 2 * torch.exp(-2 * (math.pi / gaps) ** 2)).sum().item()


def _refine(law: Law, factor: int) -> Law:
    """The same law on more nodes: weights by their Fourier series, nodes by a cubic spline.

    On equal steps that is exact for a density without waves shorter than two of them: after noise,
    with a few nodes in each standard deviation, there are none.
    """
    weights, n = law.weights.cpu().numpy(), len(law.weights)
    waves = np.abs(np.fft.rfft(weights))
    smooth = waves[-1 - len(waves) // 16 :].max() < TOLERANCE
    require(smooth, "per_std", "one that leaves waves as short as two nodes", "larger")
    fine = np.asarray(scipy.signal.resample(weights, factor * n))[: factor * (n - 1) + 1].clip(0)
    spline = scipy.interpolate.CubicSpline(np.arange(n), law.x[:, 0].cpu().numpy())
    x = torch.as_tensor(spline(np.arange(len(fine)) / factor)).to(law.x)
    return Law(x[:, None], torch.as_tensor(fine / fine.sum()).to(law.weights))


def _moments(
    step: Step, score: Score, x: Tensor, t: Instant, s: Instant
) -> tuple[Tensor, Tensor | None]:
    """Mean and standard deviation of a step at the nodes ``x``; ``None`` if it draws no noise."""
    draws, seen = [], []

    def once(y: Tensor, now: Tensor) -> Tensor:
        """The score, which is asked twice at the same states."""
        if y.requires_grad or not (seen and torch.equal(seen[0], y)):  # a graph serves once
            seen[:] = [y.clone(), score(y, now)]
        return seen[1].clone()

    def constant(value: float) -> Noise:
        return lambda y: draws.append(value) or torch.full_like(y, value)

    def at(value: float) -> Tensor:
        return step(once, x.clone(), t, s, noise=own_noise(step, constant(value)))

    mean = at(0.0)
    return (mean, (at(1.0) - mean).abs()) if draws else (mean, None)


def _require_one_additive_noise(
    step: Step, score: Score, x: Tensor, t: Instant, s: Instant
) -> None:
    """Refuse a step whose law zeros and ones for its noise would not tell."""
    draws = []

    def at(value: float) -> Tensor:
        def constant(y: Tensor) -> Tensor:
            draws.append(value)
            return torch.full_like(y, value)

        return step(score, x.clone(), t, s, noise=own_noise(step, constant))

    zero, one, two = at(0.0), at(1.0), at(2.0)
    require_finite("what steps make of the score", zero)
    once = len(draws) in (0, 3)
    additive = torch.allclose(two - zero, 2 * (one - zero), rtol=1e-6, atol=1e-9)
    allowed = "a step that adds one draw of noise times a function of x, or a walk of such steps"
    require(once and additive, "steps", f"{step}, whose noise enters otherwise", allowed)


@torch.no_grad()
def propagate(
    law: Law, score: Score, path: list[Instant], *steps: Step, per_std: float = 5.0
) -> Law:
    """The law at ``path[-1]`` of what ``walk(*steps)`` makes of ``law`` at ``path[0]``.

    Args:
        steps: Steps whose noise enters once and additively; a walk among them stands for its steps.
        per_std: Nodes in each standard deviation of the noise, after a noisy step; more are laid
            where the next needs them.

    Raises:
        ValueError: if ``per_std`` is too small for the result to be exact to about 1e-6, or a
            step's noise enters in another way (several draws, or a size that depends on the draw).
    """
    require(per_std > 0, "per_std", per_std, "positive")
    steps, few = walk(*steps).steps, law.x[:: max(1, len(law.x) // 50)]
    for step in steps_to(path[1], steps):
        _require_one_additive_noise(step, score, few, path[0], path[1])
    for t, s in itertools.pairwise(path):
        for step in steps_to(s, steps):
            mean, std = _moments(step, score, law.x, t, s)
            if std is None or not std.any():
                law = Law(mean, law.weights)
                continue
            require_finite("what steps make of the score", torch.cat([mean, std]))
            finer = (k for k in range(1, 1000) if _aliasing(law, mean, std, k) < TOLERANCE / 2)
            factor = next(finer, 0)
            require(factor > 0, "step", f"{step}", "one whose noise reaches from node to node")
            if factor > 1:
                law = _refine(law, factor)
                mean, std = _moments(step, score, law.x, t, s)
                assert std is not None
            law = spread(law, mean, std, per_std)
    return _unfolded(law)


def _unfolded(law: Law) -> Law:
    require_finite("what steps make of the score", law.x)
    # on the way nodes may change places (a multistep solver's predictions do), in the end not
    folded = law.weights[1:][law.x.diff(dim=0)[:, 0] < 0].sum().item()
    require(folded < TOLERANCE, "steps", f"ones that fold mass {folded:.0e}", "increasing in x")
    return law


@torch.no_grad()
def sampler_law(
    score: Score,
    sde: SDE,
    solver: Solver = walk(euler_maruyama),
    n_steps: int = 500,
    t_min: float = 1e-3,
    start: Law | None = None,
    per_std: float = 5.0,
    grid: Grid | None = None,
    device: torch.device | str | None = None,
) -> Law:
    """The law of what :func:`sdelib.samplers.sample` returns, in double precision.

    Args:
        solver: A walk, or a deterministic solver. (Likewise ``n_steps``, ``t_min`` and ``grid``.)
        start: The law at time 1, in place of the prior. A deterministic solver keeps its nodes, a
            noisy one lays its own.
        per_std: As for :func:`propagate`.
    """
    ts = run_times(sde, solver, n_steps, t_min, grid)
    one = torch.ones((), dtype=torch.float64, device=device)
    law = start or tabulate(sde.prior_log_prob, REACH * sde.sigma(one))
    path = sde.path(ts, law.x)
    if isinstance(solver, Walk):
        return propagate(law, score, path, *solver.steps, per_std=per_std)
    *_, x = solver(score, law.x, path, _no_noise)
    require_like("what solver yields", x, law.x)
    return _unfolded(Law(x, law.weights))


def _no_noise(x: Tensor) -> Tensor:
    raise ValueError("solver must be a walk, or one that draws no noise, got another")


def _law(law: Law, name: str) -> Law:
    """The law, if it is one: nodes in increasing order, but for little mass, and weights."""
    name = "law" if name == "self" else name
    require_type(name, law, Law, "a Law")
    x, w = law
    require_finite(f"{name}.weights", w)
    require_shape(f"{name}.weights", w, "n")
    require(len(w) >= 2, name, f"one of {len(w)} nodes", "one of two nodes or more")
    require_finite(f"{name}.x", x)
    require_shape(f"{name}.x", x, len(w), 1)
    whole = bool((w >= 0).all()) and abs(w.sum().item() - 1) < 1e-5
    require(whole, f"{name}.weights", f"others, of sum {w.sum():g}", "at least 0 and of sum 1")
    folded = w[1:][x.diff(dim=0)[:, 0] < 0].sum().item()  # a point has equal nodes
    require(folded < TOLERANCE, f"{name}.x", f"mass {folded:.0e} at falling nodes", "in order")
    return law


guard(__name__, self=_law, law=_law, start=_law, score=checked, path=leads_down)
