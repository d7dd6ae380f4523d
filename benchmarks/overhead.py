"""What a score call costs beyond the network, in the samplers and in the scores."""

import time
from functools import partial

import torch
from peers import accelerator, module, sde
from timing import interleaved
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from sdelib.data import deck_mixture
from sdelib.learned import digits_score, mixture_score, smile_score
from sdelib.samplers import adams, dpm_solver_2m, sample, walk
from sdelib.score import exact_score
from sdelib.steps import ancestral, annealed_langevin, ddim, euler_maruyama, heun, rk4

NOISY = ("Euler-Maruyama", "ancestral", "predictor-corrector", "DDPM", "Euler ancestral")
SOLVERS = {  # and how many score calls each makes in a step
    "Euler-Maruyama": (walk(euler_maruyama), 1),
    "ancestral": (walk(ancestral), 1),
    "predictor-corrector": (walk(ancestral, annealed_langevin), 2),
    "Euler": (walk(partial(euler_maruyama, eta=0)), 1),
    "DDIM": (walk(ddim), 1),
    "DPM-Solver++ 2M": (dpm_solver_2m, 1),
    "Adams 4": (adams(), 1),
    "Heun": (walk(heun), 2),
    "RK4": (walk(rk4), 4),
}


def bare_loop(c: torch.Tensor, n: int) -> None:
    """Euler-Maruyama with its coefficients as constants: the least that Python and torch need."""
    x, (a, b, k) = c, torch.tensor([0.99, 0.01, 0.1])
    with torch.no_grad():
        for _ in range(n):
            x = torch.addcmul(torch.addcmul(a * x, b, c), k, torch.randn_like(x))


def random_numbers(c: torch.Tensor, n: int) -> None:
    for _ in range(n):
        torch.randn_like(c)


def products(c: torch.Tensor, n: int) -> None:
    k = torch.tensor(0.1)
    for _ in range(n):
        torch.addcmul(c, k, c)


class Operations(TorchDispatchMode):
    """Counts what torch is asked to do."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += 1
        return func(*args, **(kwargs or {}))


def operations(solver, calls: int) -> float:
    """Torch operations for each score call in the loop of a solver that makes so many calls."""
    counts = []
    for n in (1, 64, 128):  # the first pays for what is done once
        with Operations() as mode:
            sample(lambda x, t: x, sde, (2, 1), solver, n_steps=n)
        counts.append(mode.count)
    return (counts[2] - counts[1]) / 64 / calls


def overhead(batches, n: int, repeats: int) -> list[dict]:
    """Microseconds for each score call, all told: start, grid and steps, in the library's `sample`
    and in the peers' loops. The network returns a number that is known already.
    """
    counts = {("sdelib", name): operations(*solver) for name, solver in SOLVERS.items()}
    rows = []
    for batch in batches:
        c = torch.randn(batch, 1)
        jobs = {
            ("torch", "one product and sum"): (partial(products, c, n), n),
            ("torch", "random numbers"): (partial(random_numbers, c, n), n),
            ("bare loop", "Euler-Maruyama"): (partial(bare_loop, c, n), n),
        }
        for name, (solver, calls) in SOLVERS.items():
            run = partial(sample, lambda x, t, c=c: c, sde, (batch, 1), solver, n_steps=n)
            jobs["sdelib", name] = run, calls * n + 1
        jobs |= loops_of_peers(c, n)
        times = interleaved({key: job for key, (job, _) in jobs.items()}, repeats)
        for key, seconds in times.items():
            row = {"peer": key[0], "sampler": key[1], "batch": batch, "noisy": key[1] in NOISY}
            row |= {"us_per_call": 1e6 * seconds / jobs[key][1], "operations": counts.get(key)}
            rows.append(row)
    return rows


def loops_of_peers(c: torch.Tensor, n: int) -> dict:
    """The peers' loops around a network that returns ``c``, in whatever terms each of them wants
    it: no adapter is timed.
    """
    import azula.denoise
    import azula.noise
    import azula.sample
    import diffusers
    import torchdiffeq

    k, small = module("k_diffusion", "sampling"), module("smalldiffusion", "diffusion")
    ts, sigmas = torch.linspace(1, 1e-3, n + 1), k.get_sigmas_vp(n)

    class Denoiser(azula.denoise.Denoiser):
        schedule = azula.noise.VPSchedule()

        def forward(self, x_t, t, **_):
            return azula.denoise.DiracPosterior(mean=c)

    class Model(nn.Module):
        def predict_eps_cfg(self, *_):
            return c

        def rand_input(self, batch):
            return torch.randn(batch, 1)

    def with_diffusers(name):
        made = getattr(diffusers, name)(timestep_spacing="trailing")
        made.set_timesteps(n)
        x = c
        with torch.no_grad():
            for t in made.timesteps:
                x = made.step(c, t, made.scale_model_input(x, t)).prev_sample

    def with_azula(name):
        getattr(azula.sample, name)(Denoiser(), steps=n, silent=True)(c)

    def with_k_diffusion(name):
        getattr(k, name)(lambda x, s: c, c, sigmas, disable=True)

    def with_smalldiffusion():
        list(small.samples(Model(), sigmas, xt=c, accelerator=accelerator()))

    def with_torchdiffeq(method):
        torchdiffeq.odeint(lambda t, y: c, c, ts, method=method)

    return {
        ("azula", "DDIM"): (partial(with_azula, "DDIMSampler"), n),
        ("azula", "zEAB"): (partial(with_azula, "zEABSampler"), n),
        ("azula", "DDPM"): (partial(with_azula, "DDPMSampler"), n),
        ("diffusers", "DDPM"): (partial(with_diffusers, "DDPMScheduler"), n),
        ("diffusers", "DDIM"): (partial(with_diffusers, "DDIMScheduler"), n),
        ("diffusers", "DPM-Solver++ 2M"): (
            partial(with_diffusers, "DPMSolverMultistepScheduler"),
            n,
        ),
        ("k-diffusion", "Euler"): (partial(with_k_diffusion, "sample_euler"), n),
        ("k-diffusion", "Euler ancestral"): (
            partial(with_k_diffusion, "sample_euler_ancestral"),
            n,
        ),
        ("k-diffusion", "DPM-Solver++ 2M"): (partial(with_k_diffusion, "sample_dpmpp_2m"), n),
        ("smalldiffusion", "DDIM"): (with_smalldiffusion, n),
        ("torchdiffeq", "Euler"): (partial(with_torchdiffeq, "euler"), n),
        ("torchdiffeq", "RK4"): (partial(with_torchdiffeq, "rk4"), 4 * n),
    }


class Clocked:
    """Adds up the seconds that a network takes inside a score."""

    def __init__(self, net: nn.Module):
        self.seconds = 0.0
        net.register_forward_pre_hook(lambda *_: self.add(-time.process_time()))
        net.register_forward_hook(lambda *_: self.add(time.process_time()))

    def add(self, seconds: float) -> None:
        self.seconds += seconds


def scores(batches, n: int) -> list[dict]:
    """Microseconds for each call of a score, and of these the network's own."""
    rows = []
    for name, score, event in (
        ("exact_score", exact_score(sde, deck_mixture()), (1,)),
        ("mixture_score", mixture_score(), (1,)),
        ("smile_score", smile_score(), (2,)),
        ("digits_score", digits_score(), (1, 8, 8)),
    ):
        clock = Clocked(score.net) if isinstance(score, nn.Module) else None
        for batch in batches:
            x, t = torch.randn(batch, *event), torch.tensor(0.5)
            with torch.no_grad():
                for count in (5, n):  # the first few warm up
                    start = time.process_time()
                    if clock:
                        clock.seconds = 0.0
                    for _ in range(count):
                        score(x, t)
                    seconds = time.process_time() - start
            row = {"score": name, "batch": batch, "us": 1e6 * seconds / n}
            rows.append(row | {"network": 1e6 * clock.seconds / n if clock else 0.0})
    return rows
