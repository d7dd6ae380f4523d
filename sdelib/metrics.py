"""Distances from a sample to a law, each beside its sampling floor: what as many exact points would score on average."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from ._checks import require, require_finite, require_shape


class Distance(NamedTuple):
    """A distance and its sampling floor, the mean of the same distance for as many exact draws."""

    value: float
    floor: float

    def __str__(self) -> str:
        return f"{self.value:.4f} (floor {self.floor:.4f})"


def wasserstein(
    x: Tensor, quantile: Callable[[Tensor], Tensor], n_levels: int = 20_000
) -> Distance:
    r"""1-Wasserstein distance of points ``x`` of shape ``(n, 1)`` to the law with the given quantile function.

    The floor is exact (Fubini, then the mean absolute deviation of a binomial):
    :math:`E\,W_1 = \int E|F_n - F|\,\mathrm dx` with :math:`n F_n(x) \sim \mathrm{Bin}(n, F(x))`.

    Args:
        quantile: Maps levels of shape ``(m,)`` inside (0, 1) to points of shape ``(m, 1)``.
        n_levels: The law is read at the midpoints of this many equal slices of (0, 1).
    """
    _require_points(x)
    levels = (
        torch.arange(n_levels, dtype=torch.float64, device=x.device) + 0.5
    ) / n_levels
    law = quantile(levels)[:, 0].cpu().numpy()
    value = stats.wasserstein_distance(x[:, 0].detach().double().cpu().numpy(), law)
    between = (
        np.arange(1, n_levels) / n_levels
    )  # F on the gap between one law point and the next
    return Distance(
        float(value), float(_binomial_deviation(len(x), between) @ np.diff(law))
    )


def kolmogorov_smirnov(x: Tensor, cdf: Callable[[Tensor], Tensor]) -> Distance:
    """Largest gap between the empirical distribution function of ``x``, shape ``(n, 1)``, and ``cdf``.

    Args:
        cdf: Maps points of shape ``(n, 1)`` to levels of shape ``(n,)``.
    """
    _require_points(x)

    def cdf_of_array(points: np.ndarray) -> np.ndarray:
        return cdf(torch.as_tensor(points)[:, None].to(x.device)).cpu().numpy()

    value = stats.kstest(
        x[:, 0].detach().double().cpu().numpy(), cdf_of_array
    ).statistic
    return Distance(float(value), _kolmogorov_floor(len(x)))


@functools.cache  # scipy integrates the exact distribution, which takes about a second
def _kolmogorov_floor(n: int) -> float:
    return float(stats.kstwo(n).mean())


def _binomial_deviation(n: int, p: np.ndarray) -> np.ndarray:
    """``E|Bin(n, p) / n - p|`` by de Moivre's formula, ``2 (1 - p) m P(Bin(n, p) = m) / n`` with ``m = floor(n p) + 1``."""
    m = np.floor(n * p) + 1
    return 2 * m * (1 - p) * stats.binom.pmf(m, n, p) / n


def _require_points(x: Tensor) -> None:
    require_finite("x", x)
    require_shape("x", x, "n", 1)
    require(len(x) >= 1, "x", "no point", "at least one point")
