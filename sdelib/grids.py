r"""Time grids: where a sampler takes its steps.

A grid is a function ``(sde, n_steps, t_min) -> ts`` that returns ``n_steps + 1`` decreasing times
from 1 to ``t_min`` in double precision. A good one spends the steps where the solution bends. The
noise-to-signal ratio :math:`\sigma(t)/\alpha(t)` is the same clock for every SDE, and what EDM
calls sigma; :math:`\lambda = -\log(\sigma/\alpha)` is half the log signal-to-noise ratio.
"""

import functools
from collections.abc import Callable, Sequence

import torch
from scipy.optimize import minimize
from torch import Tensor

from ._checks import require
from .sde import SDE

Grid = Callable[[SDE, int, float], Tensor]
"""``grid(sde, n_steps, t_min)`` returns decreasing times from 1 to ``t_min``, shape ``(n_steps + 1,)``."""


def uniform(sde: SDE, n_steps: int, t_min: float = 1e-3) -> Tensor:
    """Equal steps in time."""
    return _from_one_to(t_min, 1 + _fractions(n_steps, t_min) * (t_min - 1))


def log_snr(sde: SDE, n_steps: int, t_min: float = 1e-3) -> Tensor:
    r"""Equal steps in :math:`\lambda = \log(\alpha/\sigma)` (Lu et al. 2025, Sec. 5)."""
    return _ratios_to_times(sde, n_steps, t_min, lambda u, high, low: high * (low / high) ** u)


def edm(sde: SDE, n_steps: int, t_min: float = 1e-3, rho: float = 7.0) -> Tensor:
    r"""Equal steps in :math:`(\sigma/\alpha)^{1/\rho}`: 1 is equal noise, infinity :func:`log_snr`
    (Karras et al. 2022, Eq. 5).

    Raises:
        ValueError: unless ``rho`` is positive.
    """
    require(rho > 0, "rho", rho, "positive")

    def ratio(u: Tensor, high: Tensor, low: Tensor) -> Tensor:
        return torch.lerp(high ** (1 / rho), low ** (1 / rho), u) ** rho

    return _ratios_to_times(sde, n_steps, t_min, ratio)


def warped(sde: SDE, n_steps: int, t_min: float = 1e-3, bends: Sequence[float] = ()) -> Tensor:
    r"""Steps in time proportional to :math:`\exp(c_1 v + c_2 v^2 + \dots)`, where ``v`` runs from
    -1, the noise, to 1, the data.

    Args:
        bends: The numbers :math:`c_1, c_2, \dots`; none gives :func:`uniform`. Negative ``c_1``:
            shorter steps near the data.
    """
    u = _fractions(n_steps, t_min)
    v = u[1:] + u[:-1] - 1
    log_steps = sum((c * v**k for k, c in enumerate(bends, 1)), torch.zeros_like(v))
    passed = torch.cat([u[:1], torch.softmax(log_steps, 0).cumsum(0)])
    return _from_one_to(t_min, 1 + passed * (t_min - 1))


def optimised(
    error: Callable[[Grid], float],
    n_bends: int = 3,
    n_trials: int = 150,
    start: Sequence[float] = (),
) -> Grid:
    """The :func:`warped` grid of least error, found by trying: Nelder and Mead's simplex search
    from :func:`uniform`.

    The numbers found are the result's ``keywords["bends"]``.

    Args:
        error: What a grid costs, for instance the distance of the law it leads to from the target.
            It chooses solver and number of steps, and should not be random.
        n_bends: How many numbers describe the grid, at least 1.
        n_trials: At most so many calls of ``error``, about.
        start: Where to start, by default at zeros.
    """
    require(n_bends >= 1, "n_bends", n_bends, "at least 1")

    def grid(bends: Sequence[float]) -> Grid:
        return functools.partial(warped, bends=tuple(float(c) for c in bends))

    first = [*start, *[0.0] * (n_bends - len(start))]
    simplex = [first] + [[c + 0.5 * (i == k) for i, c in enumerate(first)] for k in range(n_bends)]
    best = minimize(
        lambda bends: error(grid(bends)),
        first,
        method="Nelder-Mead",
        bounds=[(-3, 3)] * n_bends,  # beyond, steps differ by so much that some vanish
        options={"maxfev": n_trials, "initial_simplex": simplex},
    )
    return grid(best.x)


def _fractions(n_steps: int, t_min: float) -> Tensor:
    """``n_steps + 1`` numbers from 0 to 1."""
    require(n_steps >= 1, "n_steps", n_steps, "at least 1")
    require(0 < t_min < 1, "t_min", t_min, "inside (0, 1)")
    return torch.linspace(0, 1, n_steps + 1, dtype=torch.float64)


def _from_one_to(t_min: float, ts: Tensor) -> Tensor:
    """``ts`` with its ends free of rounding."""
    ts[0], ts[-1] = 1.0, t_min
    return ts


def _ratios_to_times(
    sde: SDE,
    n_steps: int,
    t_min: float,
    ratio: Callable[[Tensor, Tensor, Tensor], Tensor],
) -> Tensor:
    """The times at which the noise-to-signal ratio is ``ratio(u, high, low)``."""
    u = _fractions(n_steps, t_min)
    alpha, sigma = sde.kernel(u.new_tensor([1.0, t_min]))
    return _from_one_to(t_min, sde.time_of(ratio(u, *(sigma / alpha))))
