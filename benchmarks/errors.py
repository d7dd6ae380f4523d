"""Error against score calls: every sampler on the same exact score, from the same start, judged by
the same distance.
"""

from functools import partial

import torch
from peers import DETERMINISTIC, NOISY, T_MIN, sde

from sdelib.data import deck_mixture
from sdelib.grids import log_snr, optimised, uniform
from sdelib.laws import REACH, Law, tabulate
from sdelib.samplers import Adams, DPMSolver2M, ancestral, ddim, euler_maruyama, heun, reverse, rk4
from sdelib.score import denoise, exact_score

TARGET, SCORE = deck_mixture(), exact_score(sde, deck_mixture())
TARGET = TARGET.to(torch.zeros((), dtype=torch.float64))
START = tabulate(sde.prior_log_prob, REACH * sde.sigma(torch.ones((), dtype=torch.float64)))
LEVELS = START.levels.clamp(1e-300, 1 - 1e-16)
QUANTILES = TARGET.quantile(LEVELS)
N_SAMPLES = 50_000
ORDERS = (4,)  # whose grids are optimised; (3, 4, 5) takes three times as long


class Counted:
    """A score that counts its calls."""

    def __init__(self):
        self.calls = 0

    def __call__(self, x, t):
        self.calls += 1
        return SCORE(x, t)


def distance(x: torch.Tensor) -> float:
    """W1 between the data and where the prior's nodes went; in order again, should a coarse solver
    have swapped some.
    """
    order = x[:, 0].argsort()
    return Law(x[order], START.weights[order]).wasserstein(TARGET)


def ours(make, grid, score, x, n):
    """The library's sampler as `sample` runs it, from given states."""
    step, ts = make(), grid(sde, n, T_MIN)
    to_zero = getattr(step, "to_zero", False)
    *_, x = reverse(score, sde, x, torch.cat([ts, ts.new_zeros(1)]) if to_zero else ts, step)
    return x if to_zero else denoise(score, sde, x, ts[-1])


def best_grid(make, n):
    return optimised(lambda grid: distance(ours(make, grid, SCORE, START.x, n)), n_trials=100)


def steps_for(sampler, budget: int) -> int:
    """The most steps that `budget` calls pay for, judged by what two and four steps cost."""
    costs = []
    for n in (4, 6):
        score = Counted()
        sampler(score, START.x[1500:1501], n)
        costs.append(score.calls)
    a = (costs[1] - costs[0]) / 2
    return int((budget - costs[0]) / a + 4 + 1e-9)


def deterministic(budgets) -> list[dict]:
    library = {
        "Adams 4": partial(ours, Adams, uniform),
        "Adams 3": partial(ours, partial(Adams, 3), uniform),
        "Adams 5": partial(ours, partial(Adams, 5), uniform),
        "RK4": partial(ours, lambda: rk4, uniform),
        "Heun": partial(ours, lambda: heun, uniform),
        "DDIM": partial(ours, lambda: ddim, uniform),
        "Euler": partial(ours, lambda: partial(euler_maruyama, eta=0), uniform),
        "DPM-Solver++ 2M, log-SNR": partial(ours, DPMSolver2M, log_snr),
    }
    rows = []
    for peer, samplers in {"sdelib": library, **DETERMINISTIC}.items():
        for name, sampler in samplers.items():
            for budget in budgets:
                n = steps_for(sampler, budget)
                if n < 2:
                    continue
                score = Counted()
                try:
                    error = distance(sampler(score, START.x, n))
                except Exception as problem:  # a peer may refuse few steps; say so, and go on
                    rows.append(
                        {
                            "peer": peer,
                            "sampler": name,
                            "budget": budget,
                            "refused": type(problem).__name__,
                        }
                    )
                    continue
                rows.append(
                    {
                        "peer": peer,
                        "sampler": name,
                        "budget": budget,
                        "calls": score.calls,
                        "w1": error,
                    }
                )
    for budget in (
        b for b in budgets if b <= 50
    ):  # beyond, the prior's own error is all that is left
        for order in ORDERS:
            make = partial(Adams, order)
            grid = best_grid(make, budget - 1)
            score = Counted()
            error = distance(ours(make, grid, score, START.x, budget - 1))
            name = f"Adams {order}, optimised grid"
            bends = [round(c, 4) for c in grid.keywords["bends"]]
            rows.append(
                {
                    "peer": "sdelib",
                    "sampler": name,
                    "budget": budget,
                    "calls": score.calls,
                    "w1": error,
                    "bends": bends,
                }
            )
    return rows


def noisy(budgets) -> list[dict]:
    """Samplers of the reverse SDE, by Monte Carlo: their distances have a floor, that of as many
    exact points.
    """
    library = {
        "Euler-Maruyama": partial(ours, lambda: euler_maruyama, uniform),
        "ancestral": partial(ours, lambda: ancestral, uniform),
    }
    levels = (torch.arange(N_SAMPLES, dtype=torch.float64) + 0.5) / N_SAMPLES
    quantiles = TARGET.quantile(levels)
    rows = []
    for peer, samplers in {"sdelib": library, **NOISY}.items():
        for name, sampler in samplers.items():
            for budget in budgets:
                torch.manual_seed(0)
                x = torch.randn(N_SAMPLES, 1, dtype=torch.float64) * sde.sigma(
                    torch.ones((), dtype=torch.float64)
                )
                score = Counted()
                x = sampler(score, x, steps_for(sampler, budget))
                error = (x.sort(0).values - quantiles).abs().mean().item()
                rows.append(
                    {
                        "peer": peer,
                        "sampler": name,
                        "budget": budget,
                        "calls": score.calls,
                        "w1": error,
                    }
                )
    return rows


def floor(n_repeats: int = 8) -> float:
    """Mean W1 of as many exact points to their own law."""
    levels = (torch.arange(N_SAMPLES, dtype=torch.float64) + 0.5) / N_SAMPLES
    quantiles = TARGET.quantile(levels)
    torch.manual_seed(1)
    draws = [
        (TARGET.sample(N_SAMPLES).sort(0).values - quantiles).abs().mean() for _ in range(n_repeats)
    ]
    return torch.stack(draws).mean().item()
