r"""Laws on the line as quadrature rules, and distances between them.

A law is nodes ``x`` and weights ``w`` such that :math:`E[\varphi(X)] \approx \sum_i w_i
\varphi(x_i)`. On equal steps that is the trapezoid rule, which on a smooth density converges faster
than any power of the step.
"""

import math
from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np
import torch
from scipy import signal
from scipy.interpolate import CubicSpline
from torch import Tensor

from ._checks import require

TOLERANCE = 1e-6  # of mass


class Target(Protocol):
    """What a law is compared with: distribution function, its inverse, log-density. Mixtures have
    them, and so do laws.
    """

    def cdf(self, x: Tensor) -> Tensor: ...

    def quantile(self, u: Tensor) -> Tensor: ...

    def log_prob(self, x: Tensor) -> Tensor: ...


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
        """Value of the distribution function at each node, half of the node's own mass included,
        shape ``(n,)``.
        """
        return self.weights.cumsum(0) - self.weights / 2

    def cdf(self, x: Tensor) -> Tensor:
        """Distribution function at points of shape ``(m, 1)``, linear between nodes: shape
        ``(m,)``.
        """
        return _interpolate(x[:, 0], self.x[:, 0], self.levels)

    def quantile(self, u: Tensor) -> Tensor:
        """Inverse of :meth:`cdf` at levels of shape ``(m,)``: shape ``(m, 1)``."""
        return _interpolate(u, self.levels, self.x[:, 0])[:, None]

    @property
    def spacing(self) -> Tensor:
        """Length of line that each node stands for, half of the way to either neighbour, shape
        ``(n,)``.
        """
        return torch.gradient(self.x[:, 0])[0]

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-density at points of shape ``(m, 1)``: a cubic spline of that at the nodes, minus
        infinity beyond them.

        The nodes must be so fine that mass over :attr:`spacing` is a density, as :func:`tabulate`
        and :func:`~sdelib.laws.spread` lay them; then its error is of fourth order in the spacing.
        On nodes that a deterministic step has carried along, it is of second order.
        """
        some = self.weights > 0
        density = (self.weights / self.spacing)[some].log()
        spline = CubicSpline(
            self.x[some, 0].cpu().numpy(), density.cpu().numpy(), extrapolate=False
        )
        return torch.as_tensor(spline(x[:, 0].cpu().numpy())).to(x).nan_to_num(-math.inf)

    def push(self, move: Callable[[Tensor], Tensor]) -> "Law":
        """The law of ``move(X)``, for an increasing ``move``."""
        return Law(move(self.x), self.weights)

    def wasserstein(self, target: Target) -> float:
        r"""1-Wasserstein distance, :math:`\int_0^1 |F^{-1}(u) -
        F_{\mathrm{target}}^{-1}(u)|\,\mathrm du`, summed over the nodes.

        It is as fine as they are: a law of few nodes is compared with few quantiles of the target.
        """
        distance = (self.x - target.quantile(self.levels.clamp(1e-300, 1 - 1e-16))).abs()[:, 0]
        return (self.weights * distance).sum().item()

    def kolmogorov(self, target: Target) -> float:
        """Largest gap between the distribution functions."""
        return (self.levels - target.cdf(self.x)).abs().max().item()

    def total_variation(self, target: Target) -> float:
        r"""Largest difference in the probability of any event, :math:`\tfrac12 \int |p -
        p_{\mathrm{target}}|\,\mathrm dx`.

        As exact as :meth:`log_prob`; the target's mass beyond the nodes is counted.
        """
        mass = target.log_prob(self.x).exp() * self.spacing
        low, high = target.cdf(self.x[[0, -1]])
        return ((self.weights - mass).abs().sum() + low + 1 - high).item() / 2

    def kl(self, target: Target) -> float:
        r"""Kullback-Leibler divergence :math:`\int p \log(p / p_{\mathrm{target}})\,\mathrm dx` to
        the target, in nats.

        The reverse one is ``tabulate(target.log_prob, ...).kl(law)``. Nodes that hold less than
        1e-14 of the heaviest are left out: there the densities are known to no digit.
        """
        heavy = self.weights > 1e-14 * self.weights.max()
        log_ratio = (self.weights / self.spacing).log() - target.log_prob(self.x)
        return (self.weights * log_ratio)[heavy].sum().item()


def _interpolate(x: Tensor, nodes: Tensor, values: Tensor) -> Tensor:
    return torch.as_tensor(
        np.interp(x.cpu().numpy(), nodes.cpu().numpy(), values.cpu().numpy())
    ).to(x)


def tabulate(log_prob: Callable[[Tensor], Tensor], extent: Tensor, n: int = 3000) -> Law:
    """The law of density proportional to ``exp(log_prob(x))`` on ``n`` equal steps from ``-extent``
    to ``extent``.
    """
    x = extent * torch.linspace(-1, 1, n, dtype=extent.dtype, device=extent.device)[:, None]
    return Law(x, torch.softmax(log_prob(x), 0))


def refine(law: Law, factor: int) -> Law:
    """The same law on ``factor`` times as many nodes: weights by their Fourier series, nodes by a
    cubic spline.

    On equal steps that is exact for a density without waves shorter than two of them: after noise,
    with a few nodes in each standard deviation, there are none.

    Raises:
        ValueError: if the law has such waves, because ``per_std`` was too small when it was made.
    """
    weights, n = law.weights.cpu().numpy(), len(law.weights)
    waves = np.abs(np.fft.rfft(weights))
    require(
        waves[-1 - len(waves) // 16 :].max() < TOLERANCE,
        "per_std",
        "one that leaves waves as short as the steps between nodes",
        "larger",
    )
    fine = signal.resample(weights, factor * n)[: factor * (n - 1) + 1].clip(0)
    spline = CubicSpline(np.arange(n), law.x[:, 0].cpu().numpy())
    x = torch.as_tensor(spline(np.arange(len(fine)) / factor)).to(law.x)
    return Law(x[:, None], torch.as_tensor(fine / fine.sum()).to(law.weights))
