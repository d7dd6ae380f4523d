"""Other people's samplers, from the same states over the same times with the same noise, and their
distances of the same samples.

`tests/oracles.json` holds where theirs ended, and `benchmarks/oracles.py` made it. A difference is
bounded by its reason, which stands beside it.
"""

import json
import math
from pathlib import Path

import pytest
import torch
from scipy.integrate import solve_ivp

from sdelib.data import deck_mixture
from sdelib.likelihood import decode
from sdelib.metrics import frechet_distance, sliced_wasserstein, wasserstein
from sdelib.samplers import dpm_solver_2m, reverse, walk
from sdelib.score import denoise, exact_score
from sdelib.sde import VESDE, VPSDE, SubVPSDE
from sdelib.steps import (
    ancestral,
    annealed_langevin,
    ddim,
    euler_maruyama,
    heun,
    langevin,
    reverse_diffusion,
)

ROWS = json.loads((Path(__file__).parent / "oracles.json").read_text(encoding="utf-8"))["rows"]
PROCESSES = {"VP": VPSDE(), "VE": VESDE(), "sub-VP": SubVPSDE()}
ROUNDING = 1e-9  # of ten steps in double precision, where a score of 1e5 meets 1e-16
SINGLE = 2e-6  # their times or levels have single precision, 6e-8, which the score stretches
PATH = 1e-6  # a Brownian path goes 1e-8 in 1e-16 of time, by which its times are rounded
TABLES = 2e-5  # a thousand factors in single precision


def flow(score, x, t, s, noise=None):
    return euler_maruyama(score, x, t, s, noise, eta=0.0)


OURS = {
    ("torchdiffeq", "euler"): (walk(flow), SINGLE),
    ("torchdiffeq", "heun2"): (walk(heun), SINGLE),
    ("torchsde", "euler"): (walk(euler_maruyama), PATH),
    ("azula", "DDIMSampler"): (walk(ddim), ROUNDING),
    ("azula", "DDPMSampler"): (walk(ancestral), ROUNDING),
    ("k-diffusion", "euler"): (walk(ddim), SINGLE),
    ("k-diffusion", "euler_ancestral"): (walk(ancestral), SINGLE),
    ("k-diffusion", "dpmpp_2m"): (dpm_solver_2m, SINGLE),
    ("diffusers", "DDIMScheduler"): (walk(ddim), TABLES),
    ("diffusers", "DDPMScheduler"): (walk(ancestral), TABLES),
}
KEPT = [row for row in ROWS if (row["source"], row["sampler"]) in OURS]


def tensor(row, name):
    return torch.tensor(row[name], dtype=torch.float64)


def said(row):
    return " ".join([row["source"], row["sampler"], row["process"], f"{row['times'][0]:.3f}"])


@pytest.mark.parametrize("row", KEPT, ids=said)
def test_a_library_ends_where_this_one_does(row):
    sde, x = PROCESSES[row["process"]], tensor(row, "start")
    solver, tolerance = OURS[row["source"], row["sampler"]]
    noise = iter(tensor(row, "noise")) if "noise" in row else None
    score = exact_score(sde, deck_mixture().to(x))
    times = tensor(row, "times")
    *_, end = reverse(score, sde, x, times, solver, noise=lambda x: next(noise))
    torch.testing.assert_close(end, tensor(row, "end"), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("row", [r for r in ROWS if r["sampler"] == "dopri5"], ids=said)
def test_a_solver_of_equations_decodes_to_the_same_data(row):
    sde, x = PROCESSES[row["process"]], tensor(row, "start")
    score = exact_score(sde, deck_mixture().to(x))
    t_min = row["times"][1]
    data = decode(score, sde, x, t_min, rtol=1e-9, atol=1e-9)
    end = denoise(score, sde, data, torch.tensor(t_min))
    # the flow parts neighbours by up to 1e2 here, and theirs was held to 1e-9 as well
    torch.testing.assert_close(end, tensor(row, "end"), rtol=0, atol=1e-6)


@pytest.mark.parametrize("process", ["VP", "VE", "sub-VP"])
def test_scipy_decodes_to_the_same_data(process):
    sde, codes = PROCESSES[process], torch.tensor([[-1.5], [-0.2], [0.9]], dtype=torch.float64)
    codes = codes * sde.sigma(torch.tensor(1.0)).item()
    score = exact_score(sde, deck_mixture().to(codes))

    def velocity(t, x):
        x, t = torch.tensor(x)[:, None], torch.tensor(t)
        return (sde.f(t) * x - sde.g(t) ** 2 / 2 * score(x, t)).squeeze(1).numpy()

    ends = solve_ivp(
        velocity, (1, 1e-3), codes[:, 0].numpy(), method="DOP853", rtol=1e-10, atol=1e-10
    )
    data = decode(score, sde, codes, 1e-3, rtol=1e-10, atol=1e-10)
    # the flow parts neighbours by up to 1e2, and each is held to 1e-10
    torch.testing.assert_close(data[:, 0], torch.tensor(ends.y[:, -1]), rtol=0, atol=1e-7)


@pytest.mark.parametrize(
    "row", [r for r in ROWS if r["source"] == "POT"], ids=lambda r: r["sampler"]
)
def test_a_distance_is_that_of_optimal_transport(row):
    x, y = tensor(row, "x"), tensor(row, "y")
    seeded = torch.Generator().manual_seed(0)
    ours = {
        "wasserstein": lambda: wasserstein(x[:, :1], lambda u: y[:, :1].sort(0).values, 50).value,
        "sliced": lambda: sliced_wasserstein(x, y, 20, seeded),
        "Frechet": lambda: frechet_distance(x, y),
    }[row["sampler"]]()
    assert ours == pytest.approx(row["value"], rel=1e-9)


# The paper's authors' code: one step, with N = 1000 of length 1 / N, on a grid of 1 / (N - 1)

N, AUTHORS = 1000, [row for row in ROWS if row["source"] == "score_sde_pytorch"]
MEAN = torch.linspace(-1, 1, 8, dtype=torch.float64)
STEPS = {
    "Euler-Maruyama": euler_maruyama,
    "reverse diffusion": reverse_diffusion,
    "ancestral": ancestral,
    "Langevin": langevin,
    "annealed Langevin": annealed_langevin,
}


def made_up_score(x, t):
    return (MEAN - x) / (1 + t)


def with_least(sde, sigma):
    """The standard deviation that theirs has for VE, whose square is ours and sigma_min^2."""
    return math.hypot(sigma, sde.sigma_min) if isinstance(sde, VESDE) else sigma


def allowed(name, sde, s, t):
    """The share of a step's change by which theirs differs, to first order in its length."""
    h, beta, slope = 1 / N, -2 * t.f, 19.9
    if isinstance(sde, VESDE):
        sigma_s, sigma_t = (with_least(sde, instant.sigma) for instant in (s, t))
        return ROUNDING + {
            # that of the noise alone, of which theirs has sigma_s / sigma_t with theirs
            "ancestral": 1.05 * (1 - s.sigma / t.sigma * sigma_t / sigma_s),
            "annealed Langevin": 1.01 * (1 - (s.sigma / sigma_s) ** 2),
        }.get(name, 0.0)
    # a step has the variance g^2 h at its end, where ours has that of the whole step
    chain = math.log(t.g**2 / s.g**2) / 4 + beta * h / 4 + h
    return (
        ROUNDING
        + {
            "Euler-Maruyama": 0.0,
            "reverse diffusion": chain,
            "ancestral": chain + 1 - s.sigma / t.sigma,  # theirs takes the larger of two variances
            "Langevin": (beta**2 + slope) * h**2 / 2,  # 1 - beta h, where r^2 is the mean's exp
            "annealed Langevin": beta * h,  # a factor 1 - beta h of the step
        }[name]
    )


@pytest.mark.parametrize("row", [r for r in AUTHORS if r["sampler"] in STEPS], ids=said)
def test_the_authors_step_is_this_one_but_for_known_differences(row):
    sde, x = PROCESSES[row["process"]], tensor(row, "start")
    name, (t,) = row["sampler"], row["times"]
    correct = name in ("Langevin", "annealed Langevin")  # at the time itself
    length = 1 / N if correct or name == "Euler-Maruyama" else 1 / (N - 1)
    s, t = sde.at(t if correct else t - length, x), sde.at(t + length if correct else t, x)
    noise = iter(tensor(row, "noise"))
    end = STEPS[name](made_up_score, x, t, s, noise=lambda x: next(noise))
    theirs = tensor(row, "end")
    assert (end - theirs).norm() <= allowed(name, sde, s, t) * (theirs - x).norm()


@pytest.mark.parametrize("row", [r for r in AUTHORS if r["sampler"] == "kernel"], ids=said)
def test_the_authors_kernel_is_this_one(row):
    sde, x, (t,) = PROCESSES[row["process"]], tensor(row, "start"), row["times"]
    instant = sde.at(t, x)
    torch.testing.assert_close(instant.alpha * x, tensor(row, "end"), rtol=1e-12, atol=0)
    std = torch.full((3,), with_least(sde, instant.sigma), dtype=torch.float64)
    # 1 - exp(-b) there, -expm1(-b) here
    torch.testing.assert_close(std.expand(3), tensor(row, "std"), rtol=1e-12, atol=0)


@pytest.mark.parametrize("row", [r for r in AUTHORS if r["sampler"] == "prior"], ids=said)
def test_the_authors_prior_has_another_standard_deviation(row):
    sde, x = PROCESSES[row["process"]], tensor(row, "start")
    ours, wide = sde.at(1.0, x).sigma, sde.sigma_max if sde == VESDE() else 1.0
    energy = (x**2).sum(1) / 2
    moved = sde.prior_log_prob(x) + 8 * math.log(ours / wide) + energy * (ours**-2 - wide**-2)
    torch.testing.assert_close(moved, tensor(row, "end"), rtol=1e-12, atol=0)
