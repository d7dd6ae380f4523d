r"""How far a sample is from a law, or from another sample.

A distance is never zero for exact points, so it means little without its *floor*: what as many
exact points would score on average. Where the floor is known it comes with the distance; elsewhere,
call the function on two fresh samples.

:func:`wasserstein` and :func:`kolmogorov_smirnov` compare a sample in one dimension with a known
law. The others compare two samples of any event shape, and hold a few million distances at a time,
however many points there are.
"""

import functools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import scipy
import torch
from torch import Tensor

from ._checks import require, require_finite, require_shape
from ._guard import guard


class Distance(NamedTuple):
    """A distance and its sampling floor, the mean of the same distance for as many exact draws."""

    value: float
    floor: float

    def __str__(self) -> str:
        return f"{self.value:.4f} (floor {self.floor:.4f})"


def wasserstein(
    x: Tensor, quantile: Callable[[Tensor], Tensor], n_levels: int = 20_000
) -> Distance:
    r"""1-Wasserstein distance of points to the law with the given quantile function.

    The floor is exact (Fubini, then the mean absolute deviation of a binomial):
    :math:`E\,W_1 = \int E|F_n - F|\,\mathrm dx` with :math:`n F_n(x) \sim \mathrm{Bin}(n, F(x))`.

    Args:
        x: Points, shape ``(n, 1)``.
        quantile: Maps levels of shape ``(m,)`` inside (0, 1) to points of shape ``(m, 1)``.
        n_levels: The law is read at the midpoints of this many equal slices of (0, 1).
    """
    points = _require_points(x)
    require(n_levels >= 2, "n_levels", n_levels, "at least 2")
    levels = (torch.arange(n_levels, dtype=torch.float64, device=x.device) + 0.5) / n_levels
    law = _values("quantile(levels)", quantile(levels), n_levels, 1)
    value = scipy.stats.wasserstein_distance(points, law)
    between = np.arange(1, n_levels) / n_levels  # F on the gap between one law point and the next
    return Distance(float(value), float(_binomial_deviation(len(x), between) @ np.diff(law)))


def kolmogorov_smirnov(x: Tensor, cdf: Callable[[Tensor], Tensor]) -> Distance:
    """Largest gap between the distribution function of points and that of a law.

    Args:
        x: Points, shape ``(n, 1)``.
        cdf: Maps points of shape ``(n, 1)`` to levels of shape ``(n,)``.
    """
    points = np.sort(_require_points(x))
    levels = _values("cdf(x)", cdf(torch.as_tensor(points)[:, None].to(x.device)), len(x))
    require(levels.min() > -1e-6 and levels.max() < 1 + 1e-6, "cdf(x)", "others", "in [0, 1]")
    value = scipy.stats.kstest(levels, "uniform").statistic
    return Distance(float(value), _kolmogorov_floor(len(x)))


@functools.cache  # scipy integrates the exact distribution, which takes about a second
def _kolmogorov_floor(n: int) -> float:
    return float(scipy.stats.kstwo(n).mean())


def _binomial_deviation(n: int, p: np.ndarray) -> np.ndarray:
    """``E|Bin(n, p) / n - p|``, de Moivre's ``2 (1 - p) m P(Bin(n, p) = m) / n``."""
    m = np.floor(n * p) + 1
    return 2 * m * (1 - p) * scipy.stats.binom.pmf(m, n, p) / n


def energy_distance(x: Tensor, y: Tensor) -> Distance:
    r"""Energy distance of two samples, in units of length (Székely and Rizzo 2013).

    .. math:: 2\, E|X - Y| - E|X - X'| - E|Y - Y'|

    between the two empirical laws: a point is paired with itself as well, so the value is zero only
    for equal samples. (Some authors, and scipy, take the square root.) For ``n`` and ``m`` draws of
    one law the mean is :math:`(1/n + 1/m)\, E|Y - Y'|`, which is the floor, estimated from ``y``.

    Args:
        x: Points, shape ``(n, *event)``.
        y: Points to compare with, shape ``(m, *event)``, ``m >= 2``.
    """
    x, y = _require_samples(x=x, y=y)
    require(len(y) >= 2, "y", "1 point", "at least 2 points")
    n, m = len(x), len(y)
    xy, xx, yy = (
        sum(float(block.sum()) for _, block in _distances(a, b))
        for a, b in ((x, y), (x, x), (y, y))
    )
    value = 2 * xy / (n * m) - xx / n**2 - yy / m**2
    return Distance(value, (1 / n + 1 / m) * yy / (m * (m - 1)))


def sliced_wasserstein(
    x: Tensor, y: Tensor, n_directions: int = 200, generator: torch.Generator | None = None
) -> float:
    r"""Sliced 2-Wasserstein distance, the root mean square of :math:`W_2` over random directions.

    Along a direction :math:`W_2^2` of two samples of equal size is the mean square difference of
    their sorted projections (Bonneel et al. 2015).

    Args:
        x: Points, shape ``(n, *event)``.
        y: Points, shape ``(n, *event)``.
        n_directions: Number of directions, uniform on the sphere.
        generator: Source of the directions, on the device of ``x``.

    Raises:
        ValueError: if the samples differ in size or in event shape.
    """
    x, y = _require_samples(x=x, y=y)
    require(len(x) == len(y), "y", f"{len(y)} points", f"as many points as x, {len(x)}")
    require(n_directions >= 1, "n_directions", n_directions, "at least 1")
    directions = x.new_empty(n_directions, x.shape[1]).normal_(generator=generator)
    squares = [
        ((x @ u).sort().values - (y @ u).sort().values).square().mean()
        for u in torch.nn.functional.normalize(directions, dim=1)
    ]
    return float(torch.stack(squares).mean().sqrt())


def frechet_distance(x: Tensor, y: Tensor) -> float:
    r"""Fréchet distance of two sets of feature vectors (Heusel et al. 2017).

    It is the squared 2-Wasserstein distance of the Gaussians with their means and covariances,

    .. math:: |m_x - m_y|^2 + \operatorname{tr}\big(C_x + C_y - 2\,(C_x^{1/2} C_y\,
        C_x^{1/2})^{1/2}\big)

    (Dowson and Landau 1982). It grows as samples shrink, about as the inverse of their size:
    compare values of equal sizes only.

    Args:
        x: Features, shape ``(n, d)``, ``n >= 2``.
        y: Features, shape ``(m, d)``, ``m >= 2``.
    """
    x, y = _require_samples(x=x, y=y)
    for name, points in (("x", x), ("y", y)):
        require(len(points) >= 2, name, "1 point", "at least 2 points")
    cov_x, cov_y = (torch.cov(points.T).reshape(2 * points.shape[1:]) for points in (x, y))
    values, vectors = torch.linalg.eigh(cov_x)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    cross = torch.linalg.eigvalsh(root @ cov_y @ root).clamp(min=0).sqrt().sum()
    gap = (x.mean(0) - y.mean(0)).square().sum()
    return float(gap + cov_x.trace() + cov_y.trace() - 2 * cross)


def density_coverage(x: Tensor, real: Tensor, k: int = 5) -> tuple[float, float]:
    r"""How real points look, and how much of the real set they reach.

    Around each real point stands the open ball that reaches to its ``k``-th neighbour among the
    real ones. *Density* is the mean number of balls a point of ``x`` lies in, over ``k``;
    *coverage* is the share of balls with a point of ``x`` inside. For ``n`` draws of the law of
    ``m`` real points the mean density is 1 and the mean coverage
    :math:`1 - \prod_{i=1}^{k} (m - i)/(n + m - i)`, whatever the law (Naeem et al. 2020, Eqs. 3
    and 4).

    Args:
        x: Points to judge, shape ``(n, *event)``.
        real: Real points, shape ``(m, *event)``, ``m > k``.
        k: Number of neighbours.

    Returns:
        Density and coverage.
    """
    x, real = _require_samples(x=x, real=real)
    require(1 <= k < len(real), "k", k, f"from 1 to {len(real) - 1}, for as many real")
    balls, inside = [], 0
    radius = torch.cat(  # a point is its own nearest neighbour
        [block.kthvalue(k + 1, 1).values for _, block in _distances(real, real)]
    )
    for rows, block in _distances(real, x):
        near = block < radius[rows, None]
        inside += int(near.sum())
        balls.append(near.any(1))
    return inside / (k * len(x)), float(torch.cat(balls).double().mean())


def nearer_training(x: Tensor, train: Tensor, held_out: Tensor) -> float:
    """Share of points that lie nearer to a training point than to any held-out one.

    Ties count half. Of exact draws it is one half on average, since training and held-out points
    are then alike; more means memory.

    Args:
        x: Points to judge, shape ``(n, *event)``.
        train: Training points, shape ``(m, *event)``.
        held_out: As many points that were not trained on; a larger set would lie nearer by its size
            alone.
    """
    x, train, held_out = _require_samples(x=x, train=train, held_out=held_out)
    got, allowed = f"{len(held_out)} points", f"as many points as train, {len(train)}"
    require(len(train) == len(held_out), "held_out", got, allowed)
    to_train, to_held_out = (
        torch.cat([block.amin(1) for _, block in _distances(x, points)])
        for points in (train, held_out)
    )
    return float(0.5 - 0.5 * (to_train - to_held_out).sign().mean())


def _distances(x: Tensor, y: Tensor, n_pairs: int = 5_000_000) -> Iterator[tuple[slice, Tensor]]:
    """The distances of rows of ``x`` from all of ``y``, a block of rows at a time, and which rows.

    A block has more than the 32 MiB up to which glibc may keep freed memory in pieces.
    """
    size = max(1, n_pairs // len(y))
    for start in range(0, len(x), size):
        rows = slice(start, start + size)
        # exact differences: through the scalar product a distance would be uncertain by the root of
        # the rounding error
        yield rows, torch.cdist(x[rows], y, compute_mode="donot_use_mm_for_euclid_dist")


def _require_samples(**samples: Tensor) -> list[Tensor]:
    """Each sample in double precision, shape ``(n, d)``; refuses an empty one, or unlike events."""
    first, reference = next(iter(samples.items()))
    for name, x in samples.items():
        require_finite(name, x)
        require(x.ndim >= 2, name, f"shape {tuple(x.shape)}", "of shape (n, *event)")
        require(x.numel() >= 1, name, "no point", "at least one point")
        got, event = (tuple(points.shape[1:]) for points in (x, reference))
        allowed = f"of the event shape of {first}, {event}"
        require(got == event, name, f"events of shape {got}", allowed)
        same = x.device == reference.device
        require(same, name, f"a tensor on {x.device}", f"on the device of {first}")
    return [x.detach().double().flatten(1) for x in samples.values()]


def _require_points(x: Tensor) -> np.ndarray:
    require_finite("x", x)
    require_shape("x", x, "n", 1)
    require(len(x) >= 1, "x", "no point", "at least one point")
    return x[:, 0].detach().double().cpu().numpy()


def _values(name: str, values: Tensor, *shape: int) -> np.ndarray:
    """What a law's function returned, as an array; refuses one that falls by more than rounding."""
    require_finite(name, values)
    require_shape(name, values, *shape)
    array = values.detach().double().flatten().cpu().numpy()
    falls = -np.diff(array).min(initial=0)
    require(bool(falls <= 1e-6 * np.ptp(array)), name, f"a fall by {falls:g}", "increasing")
    return array


guard(__name__)
