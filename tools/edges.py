"""Compute where numbers become very large or small, beside references of 60 digits.

    python tools/edges.py      or `make edges`

Rounding what a function is given to its format already changes the exact result a little. An error
is shown in units of that change, summed over coefficients, states, weights, means and variances,
and of rounding the result; it is to stay below 2. `tests/edges.md` keeps the table.
"""

from __future__ import annotations

import math
import os
import resource
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # a fork of a process with more threads may wait for ever
import mpmath
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]
from sdelib.likelihood import hutchinson, log_likelihood, rademacher  # noqa: E402
from sdelib.metrics import density_coverage  # noqa: E402
from sdelib.mixtures import GaussianMixture  # noqa: E402
from sdelib.samplers import ddim, sample, walk  # noqa: E402
from sdelib.score import exact_score  # noqa: E402
from sdelib.sde import VESDE, VPSDE  # noqa: E402

RESULTS = ROOT / "tests" / "edges.md"
mpmath.mp.dps = 60
TIMES = (0.0, 1e-5, 1e-3, 0.5, 1.0)
FORMATS = {torch.float32: "single", torch.float64: "double"}


def log_density(x, alpha, sigma, weights, means, variances):
    """That of the mixture at time t, and its slope: the score."""
    logs, pulls = [], []
    for w, m, v in zip(weights, means, variances):
        variance = alpha**2 * v + sigma**2
        gap = x - alpha * m
        logs.append(
            mpmath.log(w) - gap**2 / variance / 2 - mpmath.log(2 * mpmath.pi * variance) / 2
        )
        pulls.append(-gap / variance)
    largest = max(logs)
    shares = [mpmath.exp(value - largest) for value in logs]
    total = sum(shares)
    score = sum(share * pull for share, pull in zip(shares, pulls)) / total
    return largest + mpmath.log(total), score


def exact(x, alpha, sigma, mixture: GaussianMixture, eps: float) -> list[tuple]:
    """Log-density and score at one state, each with the change that rounding its inputs makes."""
    lists = [
        mixture.weights.tolist(),
        mixture.means[:, 0].tolist(),
        mixture.variances[:, 0].tolist(),
    ]
    given = [mpmath.mpf(value) for value in (x, alpha, sigma, *lists[0], *lists[1], *lists[2])]
    k = len(lists[0])

    def at(values):
        return log_density(*values[:3], *(values[3 + i * k : 3 + (i + 1) * k] for i in range(3)))

    results, changes = at(given), [mpmath.mpf(0), mpmath.mpf(0)]
    for i, value in enumerate(given):
        moved = at([*given[:i], value * (1 + mpmath.mpf(eps)), *given[i + 1 :]])
        changes = [c + abs(new - old) for c, new, old in zip(changes, moved, results)]
    return [(r, c + eps * abs(r)) for r, c in zip(results, changes)]


def of_mixtures():
    """Densities and scores of mixtures in a line."""
    wide, narrow = [1.0, 1.0], [1e-12, 1e-12]
    cases = {
        "noise up to 1e4": (VESDE(0.01, 1e4), [0.4, 0.6], [-1.0, 2.0], wide),
        "components 1e-6 wide": (VPSDE(), [0.4, 0.6], [-1.0, 2.0], narrow),
        "components 1e6 away": (VPSDE(), [0.4, 0.6], [-1e6, 1e6], wide),
        "a weight of 1e-30": (VPSDE(), [1 - 1e-30, 1e-30], [0.0, 20.0], wide),
    }
    for name, (sde, weights, means, variances) in cases.items():
        for dtype, called in FORMATS.items():
            tensors = (torch.tensor(v, dtype=dtype) for v in (weights, means, variances))
            w, m, v = tensors
            mixture = GaussianMixture(w, m[:, None], v[:, None])
            eps, worst = torch.finfo(dtype).eps, [0.0, 0.0]
            for time in TIMES:
                t = torch.tensor(time, dtype=dtype)
                alpha, sigma = sde.alpha(t), sde.sigma(t)
                here = mixture.perturb(alpha, sigma)
                std = here.variances.max().sqrt()
                x = torch.stack([c + k * std for c in here.means for k in (-100, -1, 0.1, 100)])
                found = here.log_prob(x), exact_score(sde, mixture)(x, t)[:, 0]
                for i, state in enumerate(x[:, 0].tolist()):
                    wanted = exact(state, alpha.item(), sigma.item(), mixture, eps)
                    for j, (value, change) in enumerate(wanted):
                        error = abs(mpmath.mpf(found[j][i].item()) - value) / change
                        worst[j] = max(worst[j], float(error))
            yield (
                f"log-density, {name}: t from 0 to 1, up to 100 widths out, {called}",
                worst[0],
                2,
            )
            yield f"its score, {called}", worst[1], 2


def posterior():
    """A posterior in which the share of one component underflows."""
    w, m, v = torch.tensor([0.5, 0.5]).double(), torch.tensor([[-30.0], [30.0]]).double(), 1.0
    mixture = GaussianMixture(w, m, torch.full((2, 1), v).double())
    found = mixture.condition(torch.eye(1).double(), torch.tensor([29.0]).double(), 0.1)
    mean = (mpmath.mpf(30) / 1 + mpmath.mpf(29) / mpmath.mpf(0.1) ** 2) / (
        1 + 1 / mpmath.mpf(0.1) ** 2
    )
    error = abs(mpmath.mpf(found.mean.item()) - mean) / mean / torch.finfo(torch.float64).eps
    yield "posterior mean where a component's share is 1e-748, double", float(error), 2


def of_many_dimensions():
    """A normal law in 1e4 dimensions."""
    d = 10_000
    for dtype, called in FORMATS.items():
        variances = torch.linspace(0.1, 3, d, dtype=dtype)[None]
        one = torch.ones(1, dtype=dtype)
        mixture = GaussianMixture(one, torch.zeros(1, d, dtype=dtype), variances)
        x = 3 * torch.randn(1, d, dtype=dtype, generator=torch.Generator().manual_seed(0))
        terms = [
            value**2 / v + math.log(2 * math.pi * v)
            for value, v in zip(x[0].tolist(), variances[0].tolist())
        ]
        wanted = -math.fsum(terms) / 2
        error = abs(mixture.log_prob(x).item() - wanted) / abs(wanted) / torch.finfo(dtype).eps
        yield f"log-density in 1e4 dimensions, {called}", error, 2
    # the drift of this law's flow is a multiple of x, of which one probe gives the exact trace
    x, sde, v = torch.randn(2, d, generator=torch.Generator().manual_seed(0)).double(), VPSDE(), 0.3
    score = lambda x, t: -x / (v * sde.alpha(t) ** 2 + sde.sigma(t) ** 2)
    terminal = lambda x: normal(x, v * sde.alpha(one).item() ** 2 + sde.sigma(one).item() ** 2)
    one = torch.ones((), dtype=torch.float64)
    start = torch.tensor(1e-5).double()
    wanted = normal(x, v * sde.alpha(start).item() ** 2 + sde.sigma(start).item() ** 2)
    found = log_likelihood(score, sde, x, 1e-5, terminal, hutchinson(rademacher(x)))
    error = ((found - wanted).abs().max() / wanted.abs().max()).item() / 1e-5
    # the tolerance is each step's, and errors of many steps add up
    yield "log-likelihood in 1e4 dimensions, in units of the solver's tolerance", error, 10


def normal(x: torch.Tensor, variance: float) -> torch.Tensor:
    """The log-density of N(0, variance I)."""
    return -(x**2 / variance + math.log(2 * math.pi * variance)).sum(1) / 2


def halves():
    """Perturbed data and samples in half precision, beside double."""
    for dtype, called in ((torch.float16, "float16"), (torch.bfloat16, "bfloat16")):
        eps, generator = torch.finfo(dtype).eps, torch.Generator().manual_seed(0)
        x0, z = (torch.randn(1000, 3, generator=generator).to(dtype) for _ in range(2))
        worst = 0.0
        for time in TIMES:
            for sde in (VPSDE(), VESDE(0.01, 1e4)):
                t = torch.tensor(time).to(dtype)
                found = sde.diffuse(x0, t, z).double()
                a, s = (f(t.double()) for f in (sde.alpha, sde.sigma))
                size = (a * x0.double()).abs() + (s * z.double()).abs()
                error = (found - (a * x0.double() + s * z.double())).abs() / size / eps
                worst = max(worst, error.max().item())
        yield f"data and noise added, t from 0 to 1, noise up to 1e4, {called}", worst, 2


def refused():
    """How many of the cases where a format or a formula cannot hold are not refused."""
    cases: list[Callable[[], object]] = [
        lambda: sample(
            lambda x, t: -x, VESDE(0.01, 1e6), (4, 3), walk(ddim), 9, dtype=torch.float16
        ),
        lambda: sample(lambda x, t: -x, VPSDE(0.1, 3000.0), (4, 3), walk(ddim), 9),
        lambda: GaussianMixture(*(torch.ones(s).half() for s in ((1,), (1, 2), (1, 2)))),
    ]
    missed = 0
    for case in cases:
        try:
            case()
            missed += 1
        except (ValueError, TypeError, FloatingPointError):
            pass
    yield (
        "not refused: samples with noise up to 1e6 and a mixture in float16, beta_max 3000",
        float(missed),
        0,
    )


def memory():
    """What a million samples need in batches, and the pairs of twenty thousand points in blocks."""

    def drawn(n):
        sample(lambda x, t: -x, VPSDE(), (n, 2), walk(ddim), 5, batch_size=10_000)

    # the samples themselves, in batches and once more joined
    more = (peak(drawn, 1_000_000) - peak(drawn, 100_000)) / (900_000 * 2 * 4)
    yield "memory for a million samples in batches, over that for what they fill", more, 2.5
    x, real = torch.randn(2, 20_000, 2, generator=torch.Generator().manual_seed(0))

    def judged(n):
        density_coverage(x[:n], real[:n])

    more = peak(judged, 20_000) / peak(judged, 5_000)
    yield "memory for density and coverage of 20 000 points, over that of 5000", more, 1.25


def peak(run: Callable[[int], object], n: int) -> int:
    """By how many bytes a process of its own grows in `run(n)`."""
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            run(n)
            after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            os.write(write, f"{(after - before) * 1024}\n".encode())
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    return int(os.read(read, 100))


def main() -> None:
    """Compute, and store the table."""
    parts = (of_mixtures, posterior, of_many_dimensions, halves, refused, memory)
    rows = [row for part in parts for row in part()]
    failed = [row for row in rows if not row[1] <= row[2]]
    lines = [
        f"{date.today()}: {len(rows) - len(failed)} of {len(rows)} within the bound. Errors are in "
        "units of what rounding the inputs to the format changes, unless the line says otherwise.",
        "",
        "| what | measured | bound |",
        "|---|---|---|",
        *(f"| {what} | {error:.2g} | {bound:g} |" for what, error, bound in rows),
    ]
    RESULTS.write_text("\n".join([*lines, ""]), encoding="utf-8")
    print(RESULTS.read_text(encoding="utf-8"))
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
