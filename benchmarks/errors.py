"""Error against score calls: every sampler on the same exact score, from the same start, judged by
the same distance.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
from peers import DETERMINISTIC, NOISY, T_MIN, sde
from scipy.optimize import minimize
from torch import Tensor

from sdelib.data import deck_mixture
from sdelib.laws import REACH, Law, tabulate
from sdelib.samplers import (
    Grid,
    adams,
    dpm_solver_2m,
    edm,
    log_linear,
    log_snr,
    reverse,
    uniform,
    walk,
)
from sdelib.score import exact_score
from sdelib.sde import SDE
from sdelib.steps import ancestral, ddim, euler_maruyama, heun, rk4

ADAMS = adams(reach=math.inf)  # the score is exact

TARGET = deck_mixture().to(torch.zeros((), dtype=torch.float64))
SCORE = exact_score(sde, TARGET)
START = tabulate(sde.prior_log_prob, REACH * sde.sigma(torch.ones((), dtype=torch.float64)))
N_SAMPLES = 50_000
LEVELS = (torch.arange(N_SAMPLES, dtype=torch.float64) + 0.5) / N_SAMPLES
QUANTILES = TARGET.quantile(LEVELS)
GRIDS = {  # the first is the default of `sample`
    "": log_linear,
    ", equal steps": uniform,
    ", log-SNR": log_snr,
    ", EDM": edm,
}
SOLVERS = {
    "Adams 4": ADAMS,
    "Adams 3": adams(3, reach=math.inf),
    "Adams 5": adams(5, reach=math.inf),
    "RK4": walk(rk4),
    "Heun": walk(heun),
    "DDIM": walk(ddim),
    "Euler": walk(partial(euler_maruyama, eta=0)),
    "DPM-Solver++ 2M": dpm_solver_2m,
}


def warped(sde: SDE, n_steps: int, t_min: float = 1e-3, bends: Sequence[float] = ()) -> Tensor:
    r"""Steps in time proportional to :math:`\exp(c_1 v + c_2 v^2 + \dots)`, where ``v`` runs from
    -1, the noise, to 1, the data.

    Args:
        bends: The numbers :math:`c_1, c_2, \dots`; none gives equal steps. Negative ``c_1``:
            shorter steps near the data.
    """
    v = (2 * torch.arange(n_steps, dtype=torch.float64) + 1) / n_steps - 1
    log_steps = sum((c * v**k for k, c in enumerate(bends, 1)), torch.zeros_like(v))
    ts = 1 + (t_min - 1) * torch.cat([v.new_zeros(1), torch.softmax(log_steps, 0).cumsum(0)])
    ts[-1] = t_min  # free of rounding
    return ts


def optimised(error: Callable[[Grid], float], n_bends: int = 3, n_trials: int = 150) -> Grid:
    """The :func:`warped` grid of least error: Nelder and Mead's search from equal steps.

    The numbers found are the result's ``keywords["bends"]``.

    Args:
        error: What a grid costs, for instance the distance of the law it leads to from the target.
            It chooses solver and number of steps, and should not be random.
        n_bends: How many numbers describe the grid.
        n_trials: At most so many calls of ``error``, about.
    """

    def grid(bends: Sequence[float]) -> Grid:
        return partial(warped, bends=tuple(float(c) for c in bends))

    simplex = [[0.5 * (i == k) for i in range(n_bends)] for k in range(-1, n_bends)]
    best = minimize(
        lambda bends: error(grid(bends)),
        simplex[0],
        method="Nelder-Mead",
        bounds=[(-3, 3)] * n_bends,  # beyond, steps differ by so much that some vanish
        options={"maxfev": n_trials, "initial_simplex": simplex},
    )
    return grid(best.x)


class Counted:
    """The score, counting its calls."""

    def __init__(self):
        self.calls = 0

    def __call__(self, x, t):
        self.calls += 1
        return SCORE(x, t)


def distance(x: Tensor) -> float:
    """W1 between the data and where the prior's nodes went; in order again, should a coarse solver
    have swapped some.
    """
    order = x[:, 0].argsort()
    return Law(x[order], START.weights[order]).wasserstein(TARGET)


def ours(solver, grid, score, x, n):
    """The library's solver as `sample` runs it, from given states."""
    ts = grid(sde, n, T_MIN)
    *_, x = reverse(score, sde, x, torch.cat([ts, ts.new_zeros(1)]), solver)
    return x


def best_grid(solver, n):
    return optimised(lambda grid: distance(ours(solver, grid, SCORE, START.x, n)), n_trials=100)


def steps_for(sampler, budget: int) -> int:
    """The most steps that `budget` calls pay for, judged by what four and six steps cost."""
    costs = []
    for n in (4, 6):
        score = Counted()
        sampler(score, START.x[1500:1501], n)
        costs.append(score.calls)
    a = (costs[1] - costs[0]) / 2
    return int((budget - costs[0]) / a + 4 + 1e-9)


def deterministic(budgets) -> list[dict]:
    library = {
        solver + grid: partial(ours, SOLVERS[solver], GRIDS[grid])
        for solver in SOLVERS
        for grid in GRIDS
    }
    rows = []
    for peer, samplers in {"sdelib": library, **DETERMINISTIC}.items():
        for name, sampler in samplers.items():
            for budget in budgets:
                n = steps_for(sampler, budget)
                if n < 2:
                    continue
                row = {"peer": peer, "sampler": name, "budget": budget}
                score = Counted()
                try:
                    row |= {"w1": distance(sampler(score, START.x, n)), "calls": score.calls}
                except Exception as problem:  # a peer may refuse few steps; say so, and go on
                    row |= {"refused": type(problem).__name__}
                rows.append(row)
    for budget in budgets:
        if budget > 50:  # there the prior's own error is all that is left
            continue
        grid, score = best_grid(ADAMS, budget - 1), Counted()
        row = {"peer": "sdelib", "sampler": "Adams 4, optimised grid", "budget": budget}
        row["w1"] = distance(ours(ADAMS, grid, score, START.x, budget - 1))
        row |= {"calls": score.calls, "bends": [round(c, 4) for c in grid.keywords["bends"]]}
        rows.append(row)
    return rows


def noisy(budgets) -> list[dict]:
    """Samplers of the reverse SDE, by Monte Carlo: their distances have a floor, that of as many
    exact points.
    """
    library = {
        "Euler-Maruyama": partial(ours, walk(euler_maruyama), uniform),
        "ancestral": partial(ours, walk(ancestral), uniform),
        "ancestral, default grid": partial(ours, walk(ancestral), log_linear),
    }
    rows = []
    for peer, samplers in {"sdelib": library, **NOISY}.items():
        for name, sampler in samplers.items():
            for budget in budgets:
                torch.manual_seed(0)
                x = sde.prior_sample((N_SAMPLES, 1), dtype=torch.float64)
                score = Counted()
                x = sampler(score, x, steps_for(sampler, budget))
                error = (x.sort(0).values - QUANTILES).abs().mean().item()
                row = {"peer": peer, "sampler": name, "budget": budget}
                rows.append(row | {"calls": score.calls, "w1": error})
    return rows


def floor(n_repeats: int = 8) -> float:
    """Mean W1 of as many exact points to their own law."""
    torch.manual_seed(1)
    draws = [TARGET.sample(N_SAMPLES).sort(0).values for _ in range(n_repeats)]
    return torch.stack([(x - QUANTILES).abs().mean() for x in draws]).mean().item()
