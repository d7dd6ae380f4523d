"""Write what the laboratory's page takes from the library, and what its tests hold it to.

- `book/_static/lab/face.js`: the weights of chapter 8's network, as numbers of single precision;
- `tests/browser/lab_golden.json`: values of the library's functions in double precision. The page
  computes them again in a browser, see `tests/browser/check_laboratory.mjs`.

Both sides are fed the same numbers for noise, a wave of their own count: see :func:`wave`.
"""

import json
import math
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
import test_wrong_formulas as wrong  # noqa: E402
from weights import as_script  # noqa: E402

from sdelib import guidance, samplers, sde, steps  # noqa: E402
from sdelib.data import deck_mixture, smile_curve  # noqa: E402
from sdelib.learned import digits_score, smile_score  # noqa: E402
from sdelib.metrics import energy_distance, wasserstein  # noqa: E402
from sdelib.mixtures import GaussianMixture  # noqa: E402
from sdelib.samplers import adams, dpm_solver_2m, reverse, walk  # noqa: E402
from sdelib.score import exact_score, translate  # noqa: E402

FACE = ROOT / "book/_static/lab/face.js"
GOLDEN = ROOT / "tests/browser/lab_golden.json"

PROCESSES = [
    sde.VESDE(),
    sde.VESDE(0.1, 10.0),
    sde.VPSDE(),
    sde.VPSDE(1.0, 12.0),
    sde.SubVPSDE(),
    sde.CosineSDE(),
    sde.CosineSDE(0.05),
    sde.FlowSDE(),
    sde.FlowSDE(0.05),
]
GRIDS = ("uniform", "log_snr", "edm", "log_linear")
FLOWS = {
    "euler_maruyama, eta 0": walk(partial(steps.euler_maruyama, eta=0.0)),
    "ddim": walk(steps.ddim),
    "heun": walk(steps.heun),
    "rk4": walk(steps.rk4),
    "dpm_solver_2m": dpm_solver_2m,
    "adams": adams(),
    "adams, order 3, scale 0.7, reach inf": adams(3, 0.7, math.inf),
}
NOISY = {
    "euler_maruyama": walk(steps.euler_maruyama),
    "euler_maruyama, eta 1.7": walk(partial(steps.euler_maruyama, eta=1.7)),
    "reverse_diffusion": walk(steps.reverse_diffusion),
    "ancestral": walk(steps.ancestral),
    "ancestral and annealed_langevin, snr 0.3, 2 steps": walk(
        steps.ancestral, partial(steps.annealed_langevin, snr=0.3, n_steps=2)
    ),
}


def numbers(*values: float) -> torch.Tensor:
    """Double precision."""
    return torch.tensor(values, dtype=torch.float64)


def plane() -> GaussianMixture:
    """A mixture in the plane, two of its components tilted."""
    return GaussianMixture.from_covs(
        numbers(0.2, 0.3, 0.5),
        numbers(-1.0, 0.5, 1.0, -0.3, 0.2, 1.4).reshape(3, 2),
        numbers(0.2, 0.05, 0.05, 0.1, 0.1, -0.06, -0.06, 0.15, 0.04, 0, 0, 0.4).reshape(3, 2, 2),
    )


def face_curve(n: int = 40, std: float = 0.1) -> GaussianMixture:
    """The smoothed empirical law of points on the face, equally far apart."""
    points = smile_curve((torch.arange(n, dtype=torch.float64) + 0.5) / n)
    return GaussianMixture(
        torch.full((n,), 1 / n, dtype=torch.float64), points, torch.full_like(points, std**2)
    )


def targets() -> dict[str, GaussianMixture]:
    """The targets by name."""
    return {"line": deck_mixture().to(numbers(0)), "plane": plane(), "face": face_curve()}


def wave():
    """Noise that is no noise: the same numbers on both sides, without a generator to share."""
    count = 0

    def noise(x: torch.Tensor) -> torch.Tensor:
        nonlocal count
        places = torch.arange(count + 1, count + 1 + x.numel(), dtype=torch.float64)
        count += x.numel()
        return (1.4 * torch.sin(12.9898 * places)).reshape(x.shape)

    return noise


def starts(dim: int, process: sde.SDE) -> torch.Tensor:
    """States at time 1 to begin with, shape ``(5, dim)``."""
    return process.sigma(numbers(1.0)) * wave()(torch.empty(5, dim, dtype=torch.float64))


def lattice(dim: int) -> torch.Tensor:
    """States to evaluate densities and scores at."""
    if dim == 1:
        return torch.linspace(-6, 6, 9, dtype=torch.float64)[:, None]
    ticks = numbers(-2.5, -0.4, 0.3, 2.0)
    return torch.cartesian_prod(ticks, ticks)


def solved(process, score, solver, dim, grid="log_linear", n_steps=10) -> torch.Tensor:
    """The last state."""
    ts = torch.cat([getattr(samplers, grid)(process, n_steps, 1e-3), numbers(0.0)])
    return list(reverse(score, process, starts(dim, process), ts, solver, wave()))[-1]


def cases() -> list[dict]:
    """Everything that is compared: what to compute, and the library's value."""
    found = []

    def add(name: str, what: str, value, process: sde.SDE | None = None, **given) -> None:
        if process is not None:
            given["sde"] = {
                "name": type(process).__name__,
                "parameters": {k: v for k, v in vars(process).items() if k != "_consistent"},
            }
            name = f"{name}, {process}"
        out = value.flatten().tolist() if isinstance(value, torch.Tensor) else value
        digits = [float(f"{number:.10g}") for number in out]  # the last ones are the machine's own
        found.append({"name": name, "what": what, **given, "out": digits})

    times = numbers(0.001, 0.01, 0.1, 0.3, 0.5, 0.8, 1.0)
    for process in PROCESSES:
        for formula in ("f", "g", "alpha", "sigma"):
            value = getattr(process, formula)(times)
            add(f"{formula}(t)", "formula", value, process, formula=formula, at=times.tolist())
        ratios = numbers(1e-3, 0.02, 0.5, 3.0, 9.0)
        add(
            "time_of",
            "formula",
            process.time_of(ratios),
            process,
            formula="time_of",
            at=ratios.tolist(),
        )
        for grid in GRIDS:
            add(
                f"grid {grid}",
                "grid",
                getattr(samplers, grid)(process, 7, 1e-3),
                process,
                grid=grid,
            )
        for label, target in targets().items():
            x = lattice(target.dim)
            for t in (0.01, 0.3, 1.0):
                law = target.perturb(process.alpha(numbers(t)[0]), process.sigma(numbers(t)[0]))
                add(
                    f"log_prob of {label} at {t}",
                    "log_prob",
                    law.log_prob(x),
                    process,
                    target=label,
                    t=t,
                )
                add(f"score of {label} at {t}", "score", law.score(x), process, target=label, t=t)
        if process != type(process)():
            continue
        for label in ("line", "plane"):
            target = targets()[label]
            score = exact_score(process, target)
            for name, solver in (FLOWS | NOISY).items():
                value = solved(process, score, solver, target.dim)
                add(f"{name}, {label}", "solve", value, process, target=label, solver=name)
        for name, step in wrong_steps(process).items():
            solver = walk(step)
            value = solved(process, exact_score(process, plane()), solver, 2, n_steps=6)
            add(f"wrong: {name}", "solve", value, process, target="plane", solver=name, n_steps=6)

    process = sde.VPSDE()
    add("smile_curve", "smile_curve", targets()["face"].means, n=40)
    shrunk = type("VPSDE", (sde.VPSDE,), {"alpha": wrong.shrink_twice})()
    value = exact_score(shrunk, plane())(lattice(2), numbers(0.3)[0])
    add("wrong: shrink_twice", "shrunk", value, process, t=0.3)
    covs = plane().covs
    narrow = GaussianMixture.from_covs(plane().weights, plane().means, covs @ covs)
    add("wrong: deviation_for_variance", "narrow", narrow.log_prob(lattice(2)))
    for grid in GRIDS:
        value = solved(process, exact_score(process, plane()), walk(steps.heun), 2, grid, 16)
        add(
            f"heun on {grid}",
            "solve",
            value,
            process,
            target="plane",
            solver="heun",
            grid=grid,
            n_steps=16,
        )
    whole, part = exact_score(process, plane()), exact_score(process, component(plane(), 1))
    for scale in (0.0, 0.5, 1.0, 4.0):
        score = guidance.classifier_free(part, whole, scale)
        value = score(lattice(2), numbers(0.3)[0])
        add(f"classifier_free at {scale}", "guided", value, process, label=1, scale=scale, t=0.3)
    known = torch.tensor([True, False])
    score = guidance.inpaint(whole, process, numbers(0.6, 0.0), known)
    value = score(lattice(2), numbers(0.3)[0])
    add("inpaint", "inpainted", value, process, y=0.6, t=0.3)
    score = wrong.mean_from_the_noisy_state(whole, process, numbers(0.6, 0.0), known)
    add(
        "wrong: inpaint",
        "inpainted wrong",
        score(lattice(2), numbers(0.3)[0]),
        process,
        y=0.6,
        t=0.3,
    )
    for i in (0, 1):
        A = torch.eye(2, dtype=torch.float64)[i : i + 1]
        given = plane().condition(A, numbers(0.6), 0.2).log_prob(lattice(2))
        add(f"condition on coordinate {i}", "conditioned", given, coordinate=i, y=0.6, std=0.2)

    line, levels = targets()["line"], numbers(1e-5, 0.01, 0.2, 0.5, 0.501, 0.9, 0.9999)
    add("cdf", "cdf", line.cdf(lattice(1)), target="line")
    add("quantile", "quantile", line.quantile(levels), target="line", levels=levels.tolist())
    x = 3 * wave()(torch.empty(300, 1, dtype=torch.float64))
    add("wasserstein", "wasserstein", wasserstein(x, line.quantile, 2000), target="line", n=300)
    points = wave()(torch.empty(90, 2, dtype=torch.float64))
    add("energy_distance", "energy_distance", energy_distance(points[:50], points[50:]), n=50, m=40)

    learned = smile_score().double()
    for t in (1e-4, 0.003, 0.1, 0.5, 1.0):
        value = learned(lattice(2), numbers(t)[0])
        add(f"the face's network at {t}", "learned", value, t=t)
    for other in (sde.VESDE(), sde.SubVPSDE(), sde.CosineSDE(0.01), sde.FlowSDE(0.01)):
        for t in (0.003, 0.5, 1.0):
            value = translate(learned, process, other)(lattice(2), numbers(t)[0])
            add(f"the face's network, translated, at {t}", "translated", value, other, t=t)
    value = solved(process, learned, dpm_solver_2m, 2, n_steps=12)
    add(
        "the face's network under dpm_solver_2m",
        "solve learned",
        value,
        process,
        solver="dpm_solver_2m",
        n_steps=12,
    )

    digits = digits_score().double()
    images = wave()(torch.empty(2, 1, 8, 8, dtype=torch.float64))
    for label in (3, 10):
        for t in (0.003, 0.2, 1.0):
            value = digits(images, numbers(t)[0], label)
            add(f"the digits' network at {t}, label {label}", "digits", value, t=t, label=label)
    return found


def wrong_steps(process: sde.SDE) -> dict[str, Callable]:
    """The steps that the wrong formulas make of their process."""

    def g_for_g_squared(score, x, t, s, noise):
        drift = wrong.g_for_g_squared(score, t.sde, x, t.now, eta=0.0)
        return x - (t.time - s.time) * drift

    def of_diffusion(formula):
        return lambda score, x, t, s, noise: steps.euler_maruyama(
            score, x, t._replace(g=float(formula(t.sde, t.now))), s, noise
        )

    names = (
        "plus_for_minus",
        "step_doubled",
        "coefficients_of_the_reversed_time",
        "signs_of_the_other_clock",
        "variance_for_its_root",
    )
    found = {name: getattr(wrong, name) for name in names} | {"g_for_g_squared": g_for_g_squared}
    if type(process) is sde.VPSDE:
        found["beta_itself"] = of_diffusion(wrong.beta_itself)
    if type(process) is sde.VESDE:
        found["geometric_without_log"] = of_diffusion(wrong.geometric_without_log)
    return found


def component(target: GaussianMixture, k: int) -> GaussianMixture:
    """One component alone."""
    return GaussianMixture.from_covs(numbers(1.0), target.means[k : k + 1], target.covs[k : k + 1])


def golden() -> str:
    """The values as JSON, a case a line."""
    return "[\n" + ",\n".join(json.dumps(case) for case in cases()) + "\n]\n"


if __name__ == "__main__":
    FACE.write_text(as_script("smile", "face"), encoding="utf-8")
    GOLDEN.write_text(golden(), encoding="utf-8")
