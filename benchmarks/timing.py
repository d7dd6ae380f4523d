"""What each piece costs beside its peers: interleaved in one run, medians over repeats."""

import random
import statistics
import time
from functools import partial

import torch
from peers import ACCELERATOR, DETERMINISTIC, exploded, module, sde
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from sdelib.data import deck_mixture
from sdelib.likelihood import exact_divergence, solve_flow
from sdelib.samplers import Adams, DPMSolver2M, ancestral, ddim, euler_maruyama, heun, rk4, sample
from sdelib.score import exact_score
from sdelib.sde import VPSDE
from sdelib.training import dsm_loss, fit


def rounds(jobs: dict, repeats: int) -> dict[str, list[float]]:
    """Processor seconds of each job in each round, in which all of them run: a busy moment hits
    them alike.

    Each runs once just before it is timed, and the order changes, so that none pays in every round
    for what another left
    behind: cold caches, or Python's garbage, whose collection would fall to the same job each time.
    """
    times: dict[str, list[float]] = {name: [] for name in jobs}
    order, shuffle = list(jobs.items()), random.Random(0).shuffle
    for _ in range(repeats):
        shuffle(order)
        for name, job in order:
            job()
            start = time.process_time()
            job()
            times[name].append(time.process_time() - start)
    return times


def interleaved(jobs: dict, repeats: int) -> dict[str, float]:
    """Median processor seconds of each job."""
    return {name: statistics.median(values) for name, values in rounds(jobs, repeats).items()}


# Overhead of a step beyond the network: the network here returns a number that is known already


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


def operations(step, calls: int) -> float:
    """Torch operations for each score call in the loop of a step that makes so many calls."""
    counts = []
    for n in (20, 40):
        with Operations() as mode:
            sample(lambda x, t: x, sde, (2, 1), step=step, n_steps=n)
        counts.append(mode.count)
    return (counts[1] - counts[0]) / 20 / calls


NOISY = ("Euler-Maruyama", "ancestral", "DDPM", "Euler ancestral")


def overhead(batches, n: int, repeats: int) -> list[dict]:
    """Microseconds for each score call, all told: start, grid and steps, in the library's `sample`
    and in the peers' loops.
    """
    steps = {
        "Euler-Maruyama": (euler_maruyama, 1),
        "ancestral": (ancestral, 1),
        "Euler": (partial(euler_maruyama, eta=0), 1),
        "DDIM": (ddim, 1),
        "DPM-Solver++ 2M": (DPMSolver2M(), 1),
        "Adams 4": (Adams(), 1),
        "Heun": (heun, 2),
        "RK4": (rk4, 4),
    }
    counts = {("sdelib", name): operations(*step) for name, step in steps.items()}
    rows = []
    for batch in batches:
        c = torch.randn(batch, 1)
        jobs = {
            ("torch", "one product and sum"): (partial(products, c, n), n),
            ("torch", "random numbers"): (partial(random_numbers, c, n), n),
            ("bare loop", "Euler-Maruyama"): (partial(bare_loop, c, n), n),
        }
        for name, (step, calls) in steps.items():
            run = partial(sample, lambda x, t, c=c: c, sde, (batch, 1), step=step, n_steps=n)
            jobs["sdelib", name] = run, calls * n + 1
        jobs |= loops_of_peers(c, n)
        times = interleaved({key: job for key, (job, _) in jobs.items()}, repeats)
        rows += [
            {
                "peer": key[0],
                "sampler": key[1],
                "batch": batch,
                "us_per_call": 1e6 * seconds / jobs[key][1],
                "noisy": key[1] in NOISY,
                "operations": counts.get(key),
            }
            for key, seconds in times.items()
        ]
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

    def scheduler(name, **options):
        made = getattr(diffusers, name)(timestep_spacing="trailing", **options)
        made.set_timesteps(n)
        x = c
        with torch.no_grad():
            for t in made.timesteps:
                x = made.step(c, t, made.scale_model_input(x, t)).prev_sample

    def azula_sampler(name):
        getattr(azula.sample, name)(Denoiser(), steps=n, silent=True)(c)

    return {
        ("azula", "DDIM"): (partial(azula_sampler, "DDIMSampler"), n),
        ("azula", "zEAB"): (partial(azula_sampler, "zEABSampler"), n),
        ("azula", "DDPM"): (partial(azula_sampler, "DDPMSampler"), n),
        ("diffusers", "DDPM"): (partial(scheduler, "DDPMScheduler"), n),
        ("diffusers", "DDIM"): (partial(scheduler, "DDIMScheduler"), n),
        ("diffusers", "DPM-Solver++ 2M"): (partial(scheduler, "DPMSolverMultistepScheduler"), n),
        ("k-diffusion", "Euler"): (
            lambda: k.sample_euler(lambda x, s: c, c, sigmas, disable=True),
            n,
        ),
        ("k-diffusion", "Euler ancestral"): (
            lambda: k.sample_euler_ancestral(lambda x, s: c, c, sigmas, disable=True),
            n,
        ),
        ("k-diffusion", "DPM-Solver++ 2M"): (
            lambda: k.sample_dpmpp_2m(lambda x, s: c, c, sigmas, disable=True),
            n,
        ),
        ("smalldiffusion", "DDIM"): (
            lambda: list(small.samples(Model(), sigmas, xt=c, accelerator=ACCELERATOR())),
            n,
        ),
        ("torchdiffeq", "Euler"): (
            lambda: torchdiffeq.odeint(lambda t, y: c, c, ts, method="euler"),
            n,
        ),
        ("torchdiffeq", "RK4"): (
            lambda: torchdiffeq.odeint(lambda t, y: c, c, ts, method="rk4"),
            4 * n,
        ),
    }


# Likelihood


def likelihood(repeats: int) -> list[dict]:
    """Log-likelihood of the deck mixture with the exact law at time 1, in nats, on 64 points."""
    target = deck_mixture().to(torch.zeros((), dtype=torch.float64))
    score = exact_score(sde, target)
    x, one = (
        torch.linspace(-5, 5, 64, dtype=torch.float64)[:, None],
        torch.ones((), dtype=torch.float64),
    )
    terminal = target.perturb(sde.alpha(one), sde.sigma(one)).log_prob
    exact = target.perturb(*(f(one * 1e-5) for f in (sde.alpha, sde.sigma))).log_prob(x)
    calls = [0]

    def counted(y, t):
        calls[0] += 1
        return score(y, t)

    def ours(tol):
        z, integral, _ = solve_flow(counted, sde, x, 1e-5, 1.0, rtol=tol, atol=tol)
        return terminal(z) + integral

    def velocity(
        y, t
    ):  # these solvers look beyond the ends of the interval, where the formulas still hold
        f, g, alpha, sigma = (
            getattr(VPSDE, name).__wrapped__(sde, t) for name in ("f", "g", "alpha", "sigma")
        )
        calls[0] += 1
        return f * y - g**2 / 2 * target.perturb(alpha, sigma).score(y)

    def with_torchdiffeq(method, tol):
        from torchdiffeq import odeint

        def rate(t, state):
            return exact_divergence(lambda y: velocity(y, t), state[0])

        start = (x, torch.zeros(len(x), dtype=x.dtype))
        z, integral = odeint(
            rate, start, x.new_tensor([1e-5, 1.0]), method=method, rtol=tol, atol=tol
        )
        return terminal(z[-1]) + integral[-1]

    def with_zuko(tol):
        from zuko.transforms import FreeFormJacobianTransform

        def f(t, y):
            return velocity(y, torch.as_tensor(t).to(y))

        move = FreeFormJacobianTransform(f, t0=1e-5, t1=one, atol=tol, rtol=tol, exact=True)
        with torch.no_grad():
            z, ladj = move.call_and_ladj(x)
        return terminal(z) + ladj

    def with_k_diffusion(tol):
        # its state is y = x / alpha, whose density is that of x times alpha; it ends on N(0,
        # sigma_max^2) and nothing else
        k = module("k_diffusion", "sampling")
        low, high = ((sde.sigma(t) / sde.alpha(t)).item() for t in (one * 1e-5, one))
        return k.log_likelihood(
            exploded(counted), x / sde.alpha(one * 1e-5), low, high, atol=tol, rtol=tol
        )[0]

    jobs = {}
    for tol in (1e-5, 1e-8, 1e-12):
        jobs["sdelib", "RK45", tol] = partial(ours, tol)
        jobs["torchdiffeq", "dopri5", tol] = partial(with_torchdiffeq, "dopri5", tol)
        jobs["torchdiffeq", "dopri8", tol] = partial(with_torchdiffeq, "dopri8", tol)
        if tol > 1e-10:  # zuko's step control does not return at less
            jobs["zuko", "dopri45", tol] = partial(with_zuko, tol)
    jobs["k-diffusion", "dopri5, Hutchinson, prior as terminal law", 1e-5] = partial(
        with_k_diffusion, 1e-5
    )
    rows = []
    for (peer, method, tol), seconds in interleaved(jobs, repeats).items():
        calls[0] = 0
        error = (jobs[peer, method, tol]() - exact).abs().max().item()
        rows.append(
            {
                "peer": peer,
                "method": method,
                "tol": tol,
                "seconds": seconds,
                "calls": calls[0],
                "nats": error,
            }
        )
    return rows


def divergence(repeats: int, dims=(2, 8, 32, 64), batch: int = 64) -> list[dict]:
    """The exact divergence of a network: one batched pass, as the library makes it, beside
    others.
    """
    rows = []
    for d in dims:
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Linear(d, 128), nn.SiLU(), nn.Linear(128, 128), nn.SiLU(), nn.Linear(128, d)
        )
        x = torch.randn(batch, d)

        def row_by_row(x=x, net=net, d=d):
            x = x.detach().requires_grad_()
            out = net(x)
            return sum(
                torch.autograd.grad(out[:, i].sum(), x, retain_graph=True)[0][:, i]
                for i in range(d)
            )

        def functional(x=x, net=net):
            return (
                torch.func.vmap(torch.func.jacrev(lambda y: net(y)))(x)
                .diagonal(dim1=1, dim2=2)
                .sum(1)
            )

        jobs = {
            "one batched pass (sdelib)": lambda x=x, net=net: exact_divergence(net, x)[1],
            "torch.func": functional,
            "row by row": row_by_row,
        }
        spread = max((job() - row_by_row()).abs().max().item() for job in jobs.values())
        assert spread < 1e-4, spread
        for name, seconds in interleaved(jobs, repeats).items():
            rows.append({"method": name, "dim": d, "ms": 1e3 * seconds})
    return rows


# Training


class Scaled(nn.Module):
    """The network that all loops train: the noise-free part of a score, here simply a score."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(
            nn.Linear(2, 128), nn.SiLU(), nn.Linear(128, 128), nn.SiLU(), nn.Linear(128, 1)
        )

    def forward(self, x, t):
        return self.net(torch.cat([x, t.expand(len(x))[:, None]], 1))


def training(n: int, repeats: int, batch: int = 256) -> list[dict]:
    """A step of training, the same network, batch and loss where the loop allows it."""
    data = deck_mixture().sample(5000, torch.Generator().manual_seed(0))

    def minibatch():
        return data[torch.randint(len(data), (batch,))]

    def ours(fused=False):
        net = Scaled()
        optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, fused=fused)
        fit(net, lambda net: dsm_loss(net, sde, minibatch()), n, optimizer, progress=False)

    def bare(fused=False):
        net = Scaled()
        optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, fused=fused)
        slope, low = sde.beta_max - sde.beta_min, sde.beta_min
        for _ in range(n):
            x0 = minibatch()
            t = 1e-3 + (1 - 1e-3) * torch.rand(batch)
            z = torch.randn(batch, 1)
            b = (t * low + t * t * (slope / 2))[:, None]
            sigma = (-torch.expm1(-b)).sqrt()
            loss = (sigma * net(torch.exp(-b / 2) * x0 + sigma * z, t) + z).square().sum(1).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    def with_diffusers():  # its unconditional example: DDPMScheduler.add_noise, predicted noise, AdamW, accelerate apart
        import diffusers

        net, scheduler = Scaled(), diffusers.DDPMScheduler()
        optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
        for _ in range(n):
            x0 = minibatch()
            noise, k = torch.randn_like(x0), torch.randint(0, 1000, (batch,)).long()
            loss = nn.functional.mse_loss(net(scheduler.add_noise(x0, noise, k), k / 1000), noise)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()

    def with_smalldiffusion():
        small = module("smalldiffusion", "diffusion")

        class Model(Scaled):
            def get_loss(self, x0, sigma, eps, cond=None):
                return nn.functional.mse_loss(self(x0 + sigma * eps, sigma.flatten()), eps)

        loader = [minibatch() for _ in range(n)]
        small.tqdm = lambda items: items  # its progress bar is not what is timed
        for _ in small.training_loop(
            loader, Model(), small.ScheduleDDPM(), ACCELERATOR(), epochs=1
        ):
            pass

    jobs = {
        "bare loop": bare,
        "sdelib fit": ours,
        "bare loop, fused Adam": partial(bare, fused=True),
        "sdelib fit, fused Adam": partial(ours, fused=True),
        "diffusers' example": with_diffusers,
        "smalldiffusion's loop": with_smalldiffusion,
    }
    times = rounds(jobs, repeats)

    def ratio(name: str) -> float:
        reference = times["bare loop, fused Adam" if "fused" in name else "bare loop"]
        return statistics.median(a / b for a, b in zip(times[name], reference))

    return [
        {"loop": name, "us_per_step": 1e6 * statistics.median(s) / n, "ratio": ratio(name)}
        for name, s in times.items()
    ]


# Memory and growth


def slope(sizes, values) -> float:
    """The exponent p of values ~ sizes^p, by least squares on logarithms."""
    a, b = torch.tensor(sizes).double().log(), torch.tensor(values).double().log()
    return (((a - a.mean()) * (b - b.mean())).sum() / (a - a.mean()).square().sum()).item()


def peak(job) -> int:
    """Most bytes that tensors held at once while the job ran, as torch's profiler counts them."""
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profile:
        job()
    held = most = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    return most


def growth(repeats: int) -> list[dict]:
    def run(batch=1024, calls=20, dim=1):
        net = nets[dim]
        return lambda: sample(lambda x, t: net(x), sde, (batch, dim), n_steps=calls)

    def train(size):
        data = torch.randn(size, 1)
        score = Scaled()
        pick = lambda: data[torch.randint(size, (256,))]
        return lambda: fit(score, lambda s: dsm_loss(s, sde, pick()), 20, progress=False)

    dims, batches, calls, sizes = (
        (16, 64, 256, 1024),
        (1024, 4096, 16384, 65536),
        (20, 80, 320),
        (10**3, 10**4, 10**5),
    )
    nets = {d: nn.Sequential(nn.Linear(d, 128), nn.SiLU(), nn.Linear(128, d)) for d in (1, *dims)}
    families = {
        "sampling, batch": (batches, lambda k: run(batch=k)),
        "sampling, dimension": (dims, lambda k: run(dim=k)),
        "sampling, calls": (calls, lambda k: run(calls=k)),
        "training step, dataset size": (sizes, train),
    }
    rows = []
    for name, (sizes, make) in families.items():
        times = interleaved({k: make(k) for k in sizes}, repeats)
        memory = [peak(make(k)) for k in sizes]
        rows.append(
            {"what": name, "sizes": list(sizes), "seconds": [times[k] for k in sizes], "bytes": memory,
             "time exponent": slope(sizes, [times[k] for k in sizes]), "memory exponent": slope(sizes, memory)}
        )  # fmt: skip
    return rows


def deck_scheme(repeats: int) -> list[dict]:
    """A training step of the deck, 4 points x 150 times x 10 draws, beside one draw a point, by
    time and by memory.
    """
    data = deck_mixture().sample(5000, torch.Generator().manual_seed(0))
    net = Scaled()

    def step(points, times, draws):
        def job():
            x0 = data[torch.randint(len(data), (points,))].repeat_interleave(times * draws, 0)
            net.zero_grad()
            dsm_loss(net, sde, x0).backward()

        return job

    jobs = {"deck: 4 x 150 x 10": step(4, 150, 10), "one draw a point, 128": step(128, 1, 1)}
    times = interleaved(jobs, repeats)
    return [
        {
            "scheme": k,
            "evaluations": 6000 if "deck" in k else 128,
            "ms": 1e3 * times[k],
            "bytes": peak(job),
        }
        for k, job in jobs.items()
    ]


def memory(batch: int = 65536, n: int = 20) -> list[dict]:
    """Peak tensor memory of sampling a large batch, in states of the batch's size."""
    c, x = torch.randn(batch, 1), torch.randn(batch, 1)
    state = x.numel() * x.element_size()
    jobs = {("sdelib", "Euler-Maruyama"): partial(sample, lambda x, t: c, sde, (batch, 1), n_steps=n),
            ("sdelib", "Adams 4"): partial(sample, lambda x, t: c, sde, (batch, 1), step=Adams(), n_steps=n)}  # fmt: skip
    for peer, name in (("diffusers", "DPM-Solver++ 2M, trailing"), ("torchdiffeq", "rk4"), ("azula", "zEAB 3"),
                       ("k-diffusion", "dpmpp_2m, vp"), ("smalldiffusion", "gam 1.5, vp")):  # fmt: skip
        jobs[peer, name] = partial(DETERMINISTIC[peer][name], lambda x, t: c, x, n)
    return [{"peer": p, "sampler": s, "states": peak(job) / state} for (p, s), job in jobs.items()]
