"""The peers' own samplers on our score: each adapter maps states at time 1 to data with a given
number of steps.

An adapter is a function ``(score, x, n, sde, t_min) -> x_0``, in double precision where the peer
allows it, from ``t = 1`` to ``t_min`` and then to 0 in whatever way the peer has. By default the
process is the VP SDE with its usual coefficients, and ``t_min`` is 1e-3.
"""

import importlib.util
import sys
import types
from functools import cache, partial
from unittest.mock import MagicMock, patch

import torch
from torch import Tensor

from sdelib.score import denoise, reverse_drift
from sdelib.sde import SDE, VPSDE

sde, T_MIN = VPSDE(), 1e-3


@cache
def module(package: str, name: str):
    """One module of a package, without the imports of the package itself, which would bring in what
    is not needed here.
    """
    shell = types.ModuleType(package)
    shell.__path__ = list(importlib.util.find_spec(package).submodule_search_locations)
    absent = ("torchvision", "torchvision.transforms")  # named at the top, used nowhere here
    stubs = {name: MagicMock() for name in absent}
    with patch.dict(sys.modules, {package: shell, **stubs}):
        return importlib.import_module(f"{package}.{name}")


def ratio(t: Tensor, sde: SDE = sde) -> Tensor:
    return sde.sigma(t) / sde.alpha(t)


# torchdiffeq and torchsde: solvers of equations, given the flow or the reverse SDE


def torchdiffeq(method: str, score, x: Tensor, n: int, sde: SDE = sde, t_min=T_MIN) -> Tensor:
    ts = torch.linspace(1, t_min, n + 1).to(x)
    # it keeps the state at each time asked for: ask for the last, and give it the steps apart
    steps = {"options": {"grid_constructor": lambda *_: ts}}
    return _torchdiffeq(method, score, x, sde, t_min, **steps)


def torchdiffeq_adaptive(
    method: str, tol: float, score, x: Tensor, sde: SDE, t_min=T_MIN, **first
) -> Tensor:
    # it would step beyond its end and interpolate
    options = {"step_t": torch.tensor([t_min]).to(x)} | first
    return _torchdiffeq(method, score, x, sde, t_min, rtol=tol, atol=tol, options=options)


def _torchdiffeq(method, score, x, sde, t_min, **options):
    from torchdiffeq import odeint

    # to choose its first step, an adaptive method looks beyond the end, where there are no times
    flow = lambda t, y: reverse_drift(score, sde, y, t.clamp(min=t_min), eta=0)
    ends = torch.tensor([1, t_min]).to(x)
    return denoise(score, sde, odeint(flow, x, ends, method=method, **options)[-1], ends[-1])


def torchsde(method: str, score, x: Tensor, n: int, sde: SDE = sde, t_min=T_MIN) -> Tensor:
    import torchsde

    class Reverse(torch.nn.Module):  # torchsde runs forward in time, so u = 1 - t
        noise_type, sde_type = "diagonal", "stratonovich" if method == "midpoint" else "ito"

        def f(self, u, y):
            return -reverse_drift(score, sde, y, 1 - u)

        def g(self, u, y):
            return sde.g(1 - u).expand_as(y)

    us = torch.linspace(0, 1 - t_min, n + 1).to(x)
    with torch.no_grad():
        x = torchsde.sdeint(Reverse(), x, us[[0, -1]], method=method, dt=(us[1] - us[0]).item())[-1]
    return denoise(score, sde, x, us.new_tensor(t_min))


# azula: its Denoiser returns the posterior mean


def azula(sampler: str, score, x: Tensor, n: int, sde: SDE = sde, t_min=T_MIN, **options) -> Tensor:
    from azula import denoise as azula_denoise
    from azula import noise, sample

    class Schedule(noise.Schedule):
        def __call__(self, t):
            return sde.alpha(t), sde.sigma(t)

        def alpha(self, t):
            return sde.alpha(t)

        def sigma(self, t):
            return sde.sigma(t)

    class Exact(azula_denoise.Denoiser):
        def __init__(self):
            super().__init__()
            self.schedule = Schedule()

        def forward(self, x_t, t, **_):
            return azula_denoise.DiracPosterior(mean=denoise(score, sde, x_t, t))

    exact = Exact()
    options |= {"start": 1.0, "stop": t_min, "steps": n, "silent": True, "dtype": x.dtype}
    run = getattr(sample, sampler)(exact, **options)
    return exact(run(x), x.new_tensor(t_min)).mean


# k-diffusion and smalldiffusion: the exploding process y = x / alpha with noise sigma / alpha


def exploded(score, sde: SDE = sde):
    """``(y, ratio) -> E[x_0 | y]``, for a ratio shared by the batch."""

    def denoiser(y: Tensor, sigma: Tensor, **_) -> Tensor:
        t = sde.time_of(sigma.flatten()[0])
        return denoise(score, sde, y * sde.alpha(t), t)

    return denoiser


def k_sigmas(spacing: str, n: int, x: Tensor, sde: SDE, t_min: float) -> Tensor:
    k = module("k_diffusion", "sampling")
    low, high = (ratio(x.new_tensor(t), sde).item() for t in (t_min, 1.0))
    make = {"karras": k.get_sigmas_karras, "exponential": k.get_sigmas_exponential}
    if spacing == "vp":
        if sde != VPSDE():
            raise NotImplementedError("this spacing is the VP process's own")
        return k.get_sigmas_vp(n, beta_d=19.9, beta_min=0.1, eps_s=t_min).to(x)
    return make[spacing](n, low, high).to(x)


def k_diffusion(
    sampler: str, spacing: str, score, x: Tensor, n: int, sde: SDE = sde, t_min=T_MIN, **options
) -> Tensor:
    k = module("k_diffusion", "sampling")
    sigmas = k_sigmas(spacing, n, x, sde, t_min)
    y, run = x / sde.alpha(x.new_ones(())), getattr(k, f"sample_{sampler}")
    return run(exploded(score, sde), y, sigmas, disable=True, **options)


def smalldiffusion(
    gam: float, spacing: str, score, x: Tensor, n: int, sde: SDE = sde, t_min=T_MIN, mu: float = 0.0
) -> Tensor:
    small, denoiser = module("smalldiffusion", "diffusion"), exploded(score, sde)
    sigmas = k_sigmas(spacing, n, x, sde, t_min)
    if mu:
        sigmas = sigmas[:-1]  # its DDPM cannot step to zero noise

    class Model(torch.nn.Module):
        def predict_eps_cfg(self, y, sigma, *_):
            return (y - denoiser(y, sigma)) / sigma

        def rand_input(self, batch):
            return torch.randn(batch, *x.shape[1:]).to(x)

    start = x / sde.alpha(x.new_ones(()))
    options = {"gam": gam, "mu": mu, "xt": start, "accelerator": accelerator()}
    *_, y = small.samples(Model(), sigmas, **options)
    return y


@cache
def accelerator():
    from accelerate import Accelerator

    return Accelerator(cpu=True)


# diffusers: schedulers on a thousand discrete times, whose betas are those of the SDE's own kernel,
# scaled to preserve variance: alpha-bar is 1 / (1 + ratio^2)


@cache
def betas(sde: SDE, t_min: float, n: int = 1000):
    t = torch.linspace(t_min, 1, n, dtype=torch.float64)
    bars = torch.cat([torch.ones(1, dtype=torch.float64), 1 / (1 + ratio(t, sde) ** 2)])
    return (1 - bars[1:] / bars[:-1]).numpy()


def diffusers(
    name: str, score, x: Tensor, n: int, sde: SDE = sde, t_min=T_MIN, **options
) -> Tensor:
    import diffusers

    scheduler = getattr(diffusers, name)(trained_betas=betas(sde, t_min), **options)
    scheduler.set_timesteps(n)
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(0)  # not looked up by the time, which may be rounded to another's
    y, high = x / sde.alpha(x.new_ones(())), ratio(x.new_ones(()), sde)
    if scheduler.init_noise_sigma == 1:  # other schedulers walk x / alpha
        y = y / torch.hypot(high, x.new_ones(()))
    with torch.no_grad():
        for k in scheduler.timesteps:
            if hasattr(scheduler, "sigmas"):
                t = sde.time_of(scheduler.sigmas[scheduler.step_index or 0].to(x))
            else:
                t = t_min + (1 - t_min) * k.to(x) / 999
            state = scheduler.scale_model_input(y, k).to(x)
            noise = -sde.sigma(t) * score(torch.hypot(sde.alpha(t), sde.sigma(t)) * state, t)
            y = scheduler.step(noise, k, y).prev_sample
    return y.to(x)


def solvers_of_diffusers() -> dict:
    spaced = {name: {"timestep_spacing": name} for name in ("linspace", "trailing")}
    uses = {"karras": "use_karras_sigmas", "exponential": "use_exponential_sigmas"}
    sigmas = spaced | {name: {option: True} for name, option in uses.items()}
    lambdas = sigmas | {"lu": {"use_lu_lambdas": True}}
    two, three = {"solver_order": 2}, {"solver_order": 3}
    adams = {"tau_func": lambda t: 0.0}  # SA-Solver on the flow
    solvers = (
        ("DPM-Solver++ 2M", "DPMSolverMultistepScheduler", two, lambdas),
        ("DPM-Solver++ 3M", "DPMSolverMultistepScheduler", three, lambdas),
        ("UniPC 2", "UniPCMultistepScheduler", two, sigmas),
        ("UniPC 3", "UniPCMultistepScheduler", three, sigmas),
        ("DEIS 3", "DEISMultistepScheduler", three, sigmas),
        ("SA-Solver 2", "SASolverScheduler", adams, sigmas),
        (
            "SA-Solver 3",
            "SASolverScheduler",
            adams | {"predictor_order": 3, "corrector_order": 3},
            sigmas,
        ),
    )
    return {
        f"{label}, {grid}": partial(diffusers, name, **options, **chosen)
        for label, name, options, grids in solvers
        for grid, chosen in grids.items()
    }


def solvers_of_azula() -> dict:
    return {
        f"{name} {order}": partial(azula, f"{name}Sampler", order=order)
        for name in ("zAB", "vAB", "zEAB", "xEAB", "REAB")
        for order in (2, 3, 4)
    }


def solvers_of_k_diffusion() -> dict:
    solvers = {"lms": {}, "dpmpp_2m": {}, "dpmpp_3m_sde": {"eta": 0.0}}
    return {
        f"{name}{' eta 0' if options else ''}, {spacing}": partial(
            k_diffusion, name, spacing, **options
        )
        for spacing in SPACINGS
        for name, options in solvers.items()
    }


SPACINGS = ("karras", "exponential", "vp")
DETERMINISTIC = {  # solvers of the flow, by peer; those of first order are left out
    "diffusers": solvers_of_diffusers(),
    "torchdiffeq": {
        method: partial(torchdiffeq, method)
        for method in (("midpoint", "heun3", "rk4", "explicit_adams", "implicit_adams"))
    },
    "azula": solvers_of_azula(),
    "k-diffusion": solvers_of_k_diffusion(),
    "smalldiffusion": {
        f"gam {gam:g}, {spacing}": partial(smalldiffusion, gam, spacing)
        for spacing in SPACINGS
        for gam in (1.5, 2.0)
    },
}
FIRST = {"": {}} | {f", first {step:g}": {"first_step": step} for step in (0.1, 0.3)}
ADAPTIVE = {  # solvers that choose their steps, by tolerance, and the first one unless it is given
    "torchdiffeq": {
        f"{method}, tolerance {tol:.0e}{words}": partial(torchdiffeq_adaptive, method, tol, **first)
        for method in ("bosh3", "dopri5")
        for tol in (1e-1, 1e-2, 1e-3, 1e-4)
        for words, first in FIRST.items()
    }
}
DDPM = partial(diffusers, "DDPMScheduler", clip_sample=False, timestep_spacing="trailing")
GRIDS = {  # of diffusers, for the noisy solvers
    "trailing": {"timestep_spacing": "trailing"},
    "karras": {"use_karras_sigmas": True},
    "exponential": {"use_exponential_sigmas": True},
}
NOISY = {  # their samplers of the reverse SDE
    "diffusers": {"DDPM": DDPM}
    | {
        f"SDE-DPM-Solver++ 2M, {name}": partial(
            diffusers, "DPMSolverMultistepScheduler", algorithm_type="sde-dpmsolver++", **grid
        )
        for name, grid in GRIDS.items()
    }
    | {
        f"SA-Solver {order}, {name}": partial(
            diffusers,
            "SASolverScheduler",
            predictor_order=order,
            corrector_order=order,
            tau_func=lambda t: 1.0,
            **grid,
        )
        for name, grid in GRIDS.items()
        for order in (2, 3)
    },
    "torchsde": {"euler": partial(torchsde, "euler"), "srk": partial(torchsde, "srk")},
    "azula": {"DDPM": partial(azula, "DDPMSampler"), "Ito": partial(azula, "ItoSampler")},
    "k-diffusion": {
        f"{name}, {spacing}": partial(k_diffusion, name, spacing)
        for name in (("euler_ancestral", "dpmpp_2s_ancestral", "dpmpp_2m_sde", "dpmpp_3m_sde"))
        for spacing in SPACINGS
    },
    "smalldiffusion": {"DDPM, vp": partial(smalldiffusion, 1.0, "vp", mu=0.5)},
}
