"""Error against score calls: every sampler on the same exact scores, from the same starts.

An error of a solver of the flow is the mean distance of its states from where the exact flow takes
them, so that nothing but the solver is in it. The flow's own end is found by thousands of steps.
"""

import itertools
import math
from functools import cache, partial

import numpy as np
import torch
from peers import ADAPTIVE, DETERMINISTIC, NOISY, T_MIN
from torch import Tensor
from torch.quasirandom import SobolEngine

from sdelib.data import deck_mixture, smile_curve
from sdelib.mixtures import GaussianMixture
from sdelib.samplers import adams, log_linear, pilot, reverse, run_times, uniform, walk
from sdelib.score import exact_score
from sdelib.sde import SDE, VESDE, VPSDE, FlowSDE, like
from sdelib.steps import ancestral, ancestral_2s, euler_maruyama

PROCESSES = {"VP": VPSDE(), "VE": VESDE(), "straight": FlowSDE()}
# in hindsight: the lowest noise level, in multiples of the documented one
LOWER = (1, 2, 5, 10, 20, 50)
OURS = "sdelib"
DOUBLE = torch.zeros((), dtype=torch.float64)


def mixture(weights, means, stds) -> GaussianMixture:
    """Isotropic Gaussians, in double precision."""
    means = torch.as_tensor(means, dtype=torch.float64).reshape(len(weights), -1)
    stds = torch.as_tensor(stds, dtype=torch.float64).reshape(-1, 1)
    weights = torch.as_tensor(weights, dtype=torch.float64)
    return GaussianMixture(weights, means, (stds**2).expand_as(means).contiguous())


def targets() -> dict[str, GaussianMixture]:
    deck = deck_mixture().to(DOUBLE)
    unit = deck.cov.sqrt().item()
    n = 500
    face = smile_curve((torch.arange(n, dtype=torch.float64) + 0.5) / n)
    return {
        "deck": deck,
        "deck, unit variance": mixture(
            deck.weights, deck.means / unit, deck.variances.sqrt() / unit
        ),
        "two narrow": mixture((0.5, 0.5), (-1, 1), (0.05, 0.05)),
        "three unequal": mixture((0.2, 0.5, 0.3), (-1.2, 0.1, 1.0), (0.05, 0.03, 0.08)),
        "wide and narrow": mixture((0.7, 0.3), (-0.5, 1.2), (0.8, 0.04)),
        "face": mixture([1 / n] * n, face, [0.012]),
    }


TARGETS = targets()


class Counted:
    """A score, counting its calls."""

    def __init__(self, score):
        self.score, self.calls = score, 0

    def __call__(self, x, t):
        self.calls += 1
        return self.score(x, t)


class Cell:
    """A target under a process: its score, some starts, and where the flow takes them."""

    def __init__(self, target: GaussianMixture, sde: SDE, n_line=500, n_plane=200):
        self.sde, self.score = sde, exact_score(sde, target)
        if target.dim == 1:
            u = ((torch.arange(n_line, dtype=torch.float64) + 0.5) / n_line)[:, None]
        else:
            u = SobolEngine(target.dim, scramble=True, seed=0).draw(n_plane, dtype=torch.float64)
        z = torch.special.ndtri(u.clamp(1e-9, 1 - 1e-9))
        self.start = like(sde.sigma(torch.ones_like(DOUBLE)), z) * z
        self.end = self.walk(
            adams(reach=math.inf), 600 if target.dim == 1 else 300, log_linear, 1e-5
        )
        self.pilot = pilot(
            self.score,
            sde,
            (64, target.dim),
            reach=math.inf,  # the score is exact
            generator=torch.Generator().manual_seed(0),
            dtype=torch.float64,
        )

    def walk(self, solver, n, grid, t_min=T_MIN) -> Tensor:
        """The library's solver as `sample` runs it, in ``n + 1`` intervals."""
        ts = run_times(self.sde, solver, n, t_min, grid)
        *_, x = reverse(self.score, self.sde, self.start, ts, solver)
        return x

    def error(self, x: Tensor) -> float:
        """Mean distance from the flow's own end."""
        error = (x - self.end).norm(dim=1).mean().item()
        return error if math.isfinite(error) else math.inf

    def measure(self, sampler, *n, **options) -> tuple[float, int]:
        """Error and calls; an infinite error where the sampler refuses, as some do few steps."""
        score = Counted(self.score)
        try:
            return self.error(sampler(score, self.start, *n, sde=self.sde, **options)), score.calls
        except Exception:
            return math.inf, score.calls


@cache
def cell(target: str, process: str) -> Cell:
    return Cell(TARGETS[target], PROCESSES[process])


def ours(budget: int, here: Cell) -> dict[str, float]:
    """Nothing is tuned on the target by hand: the first row is the one that is compared."""
    solvers = {
        "Adams, pilot": (here.pilot, here.pilot.grid),
        "Adams 4": (adams(reach=math.inf), log_linear),
    }
    return {k: here.error(here.walk(s, budget - 1, g)) for k, (s, g) in solvers.items()}


@cache
def steps_for(sampler, budget: int, noisy: bool = False) -> int:
    """The most steps that `budget` calls pay for, judged by what four and six steps cost."""
    costs = []
    for n in (4, 6):
        score = Counted(exact_score(VPSDE(), TARGETS["deck"]))
        sampler(score, torch.ones(2, 1, dtype=torch.float64), n)
        costs.append(score.calls)
    return int((budget - costs[0]) / ((costs[1] - costs[0]) / 2) + 4 + 1e-9)


def deterministic(budgets, names=tuple(TARGETS), processes=tuple(PROCESSES)) -> list[dict]:
    """For each cell the library's rows, and each peer's best: with every documented setting at the
    library's own lowest noise level, and in hindsight with that level chosen on the target as well.
    """
    rows = []
    for name in names:
        for process in processes:
            here = cell(name, process)
            key = {"target": name, "process": process}
            for budget in budgets:
                at = key | {"budget": budget}
                rows += [
                    at | {"peer": OURS, "sampler": sampler, "kind": "untuned", "error": error}
                    for sampler, error in ours(budget, here).items()
                ]
                for peer in DETERMINISTIC:
                    rows += [at | row for row in best_of(peer, budget, here)]
            print(name, process, flush=True)
    return rows


def best_of(peer: str, budget: int, here: Cell) -> list[dict]:
    """The peer's best row as documented, and the best in hindsight."""
    low = here.sde.sigma(DOUBLE + T_MIN) / here.sde.alpha(DOUBLE + T_MIN)
    tried: dict[int, list] = {factor: [] for factor in LOWER}
    for sampler, run in DETERMINISTIC[peer].items():
        n = steps_for(run, budget)
        for factor in LOWER if n >= 2 and "trailing" not in sampler else (1,) if n >= 2 else ():
            t_min = here.sde.time_of(factor * low).item()
            tried[factor].append((*here.measure(run, n, t_min=t_min), sampler))
    for sampler in ADAPTIVE.get(peer, {}):
        tried[1].append((*adaptive(peer, sampler, here), sampler))
    rows = []
    for kind, factors in (("documented", (1,)), ("hindsight", LOWER)):
        found = [
            (error, calls, f"{sampler}{f', from {factor} times the noise' if factor > 1 else ''}")
            for factor in factors
            for error, calls, sampler in tried[factor]
            if calls <= budget
        ]
        error, calls, sampler = min(found)
        row = {"peer": peer, "sampler": sampler, "kind": kind, "error": error, "calls": calls}
        rows.append(row | {"settings": len(found)})
    return rows


@cache
def adaptive(peer: str, sampler: str, here: Cell) -> tuple[float, int]:
    return here.measure(ADAPTIVE[peer][sampler])


def last_step(budget=50) -> list[dict]:
    """What the last step, from ``t_min`` to 0, costs where the data are as thin as its noise."""
    here, rows = cell("face", "VP"), []
    for t_min in (T_MIN, T_MIN / 10):
        error = here.error(here.walk(here.pilot, budget - 1, here.pilot.grid, t_min))
        noise = here.sde.sigma(DOUBLE + t_min).item()
        rows.append({"budget": budget, "t_min": t_min, "noise": noise, "error": error})
    return rows


# What the corrector gives, and what the clock


def multistep(clock: str, correct: bool, scale: float):
    """Adams's method, predicting and perhaps correcting, in either of two clocks: the angle
    arctan(r / a) of the noise-to-signal ratio r, or azula's r / (a + r).
    """
    forms = {
        "angle": (lambda r: math.atan(r / scale), lambda r: math.hypot(scale, r)),
        "straight": (lambda r: r / (scale + r), lambda r: scale + r),
    }
    time, length = forms[clock]

    def velocity(y, d, r):  # of y / length over the clock, where dy / dr = (y - d) / r
        slope = r / length(r) if clock == "angle" else 1.0
        return ((y - d) / r - y * slope / length(r)) * length(r) / scale

    def solve(score, x, path, noise=None):
        us, vs, settled = [], [], x / path[0].alpha
        order = min(4, (len(path) - 1) // 3)
        for t, s in itertools.pairwise(path):
            r, r_s = t.sigma / t.alpha, s.sigma / s.alpha
            y = x / t.alpha
            v = velocity(y, (x + t.sigma**2 * score(x, t.now)) / t.alpha, r)
            us, vs = [time(r), *us][:order], [v, *vs][:order]
            if correct and len(us) > 1:
                y = length(r) * (settled + integral(us, vs, us[1], us[0]))
            settled = y / length(r)
            used = order - 1 if correct else order
            x = s.alpha * length(r_s) * (settled + integral(us[:used], vs[:used], us[0], time(r_s)))
            yield x

    return solve


def integral(nodes, values, start, end):
    """Of the polynomial through the values."""
    k = np.arange(len(nodes))
    powers = (np.array(nodes) - start)[None] ** k[:, None]
    weights = np.linalg.solve(powers, (end - start) ** (k + 1) / (k + 1))
    return sum(weight * value for weight, value in zip(weights.tolist(), values))


def ablation(budgets, names=tuple(TARGETS), processes=tuple(PROCESSES)) -> list[dict]:
    """Geometric means over targets and processes of what is lost without a part."""
    rows = []
    for grid in ("pilot", "default grid"):
        for clock in ("angle", "straight"):
            for correct in (True, False):
                for budget in budgets:
                    ratios = []
                    for name in names:
                        for process in processes:
                            here = cell(name, process)
                            best = here.error(here.walk(here.pilot, budget - 1, here.pilot.grid))
                            solver = multistep(clock, correct, here.pilot.scale)
                            times = here.pilot.grid if grid == "pilot" else log_linear
                            ratios.append(here.error(here.walk(solver, budget - 1, times)) / best)
                    row = {"grid": grid, "clock": clock, "correct": correct, "budget": budget}
                    rows.append(row | {"ratio": math.exp(np.log(ratios).mean())})
    return rows


# Samplers of the reverse SDE, by Monte Carlo


def noisy(budgets, n_samples=200_000, names=("deck", "deck, unit variance")) -> list[dict]:
    """W1 to the data; it has a floor, that of as many exact points."""
    sde, rows = VPSDE(), []
    levels = (torch.arange(n_samples, dtype=torch.float64) + 0.5) / n_samples
    for name in names:
        here, target = cell(name, "VP"), TARGETS[name]
        quantiles, second = target.quantile(levels), partial(ancestral_2s, scale=here.pilot.scale)
        own = {
            "Euler-Maruyama": (euler_maruyama, uniform),
            "ancestral": (ancestral, uniform),
            "ancestral, pilot": (ancestral, here.pilot.grid),
            "ancestral 2S": (ancestral_2s, log_linear),
            "ancestral 2S, pilot": (second, here.pilot.grid),
        }
        library = {key: partial(walked, walk(step), grid) for key, (step, grid) in own.items()}
        for peer, samplers in {OURS: library, **NOISY}.items():
            for sampler, run in samplers.items():
                for budget in budgets:
                    torch.manual_seed(0)
                    x = sde.prior_sample((n_samples, 1), dtype=torch.float64)
                    score, n = Counted(here.score), steps_for(run, budget)
                    x = run(score, x, n)
                    error = (x.sort(0).values - quantiles).abs().mean().item()
                    row = {"target": name, "peer": peer, "sampler": sampler, "budget": budget}
                    rows.append(row | {"calls": score.calls, "w1": error})
    return rows


def walked(solver, grid, score, x, n):
    """The library's solver as `sample` runs it on the VP process."""
    sde = PROCESSES["VP"]
    ts = run_times(sde, solver, n, T_MIN, grid)
    *_, x = reverse(score, sde, x, ts, solver)
    return x


def floors(n_samples=200_000, names=("deck", "deck, unit variance"), n_repeats: int = 4) -> list:
    """Mean W1 of as many exact points to their own law."""
    torch.manual_seed(1)
    levels, rows = (torch.arange(n_samples, dtype=torch.float64) + 0.5) / n_samples, []
    for name in names:
        target = TARGETS[name]
        quantiles = target.quantile(levels)
        draws = [target.sample(n_samples).sort(0).values for _ in range(n_repeats)]
        floor = torch.stack([(x - quantiles).abs().mean() for x in draws]).mean().item()
        rows.append({"target": name, "samples": n_samples, "w1": floor})
    return rows
