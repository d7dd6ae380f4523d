"""A step of training beside those of the peers, and how time and memory grow."""

import statistics
from functools import partial

import torch
from peers import DETERMINISTIC, accelerator, module, sde
from timing import interleaved, peak, rounds, slope
from torch import nn

from sdelib.data import deck_mixture
from sdelib.samplers import adams, sample, walk
from sdelib.steps import euler_maruyama
from sdelib.training import dsm_error, expected, fit

DATA = deck_mixture().sample(5000, torch.Generator().manual_seed(0))


def minibatch(size: int = 256, data: torch.Tensor = DATA) -> torch.Tensor:
    return data[torch.randint(len(data), (size,))]


def adam(net: nn.Module, fused: bool = False) -> torch.optim.Optimizer:
    return torch.optim.Adam(net.parameters(), lr=1e-3, fused=fused)


class Net(nn.Module):
    """The network that all loops train: the noise-free part of a score, here simply a score."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        layers = [nn.Linear(2, 128), nn.SiLU(), nn.Linear(128, 128), nn.SiLU(), nn.Linear(128, 1)]
        self.net = nn.Sequential(*layers)

    def forward(self, x, t):
        return self.net(torch.cat([x, t.expand(len(x))[:, None]], 1))


def training(n: int, repeats: int) -> list[dict]:
    """A step of training, the same network, batch and loss where the loop allows it."""

    def ours(fused=False):
        net = Net()
        loss = lambda net: expected(dsm_error, net, sde, minibatch())
        fit(net, loss, n, adam(net, fused), progress=False)

    def bare(fused=False):
        net = Net()
        optimizer = adam(net, fused)
        for _ in range(n):
            x0 = minibatch()
            t = 1e-3 + (1 - 1e-3) * torch.rand(len(x0))
            z = torch.randn_like(x0)
            b = (t * sde.beta_min + t * t * ((sde.beta_max - sde.beta_min) / 2))[:, None]
            sigma = (-torch.expm1(-b)).sqrt()
            loss = (sigma * net(torch.exp(-b / 2) * x0 + sigma * z, t) + z).square().sum(1).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    def with_diffusers():  # its unconditional example: predicted noise, AdamW; accelerate apart
        import diffusers

        net, scheduler = Net(), diffusers.DDPMScheduler()
        optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
        for _ in range(n):
            x0 = minibatch()
            noise, k = torch.randn_like(x0), torch.randint(0, 1000, (len(x0),)).long()
            loss = nn.functional.mse_loss(net(scheduler.add_noise(x0, noise, k), k / 1000), noise)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()

    def with_smalldiffusion():
        small = module("smalldiffusion", "diffusion")

        class Model(Net):
            def get_loss(self, x0, sigma, eps, cond=None):
                return nn.functional.mse_loss(self(x0 + sigma * eps, sigma.flatten()), eps)

        loader, schedule = [minibatch() for _ in range(n)], small.ScheduleDDPM()
        small.tqdm = lambda items: items  # its progress bar is not what is timed
        list(small.training_loop(loader, Model(), schedule, accelerator(), epochs=1))

    jobs = {
        "bare loop": bare,
        "sdelib fit": ours,
        "bare loop, fused Adam": partial(bare, fused=True),
        "sdelib fit, fused Adam": partial(ours, fused=True),
        "diffusers' example": with_diffusers,
        "smalldiffusion's loop": with_smalldiffusion,
    }
    times, rows = rounds(jobs, repeats), []
    for name, seconds in times.items():
        bare_times = times["bare loop, fused Adam" if "fused" in name else "bare loop"]
        ratio = statistics.median(a / b for a, b in zip(seconds, bare_times))
        us = 1e6 * statistics.median(seconds) / n
        rows.append({"loop": name, "us_per_step": us, "ratio": ratio})
    return rows


def deck_scheme(repeats: int) -> list[dict]:
    """A training step of the deck, 4 points x 150 times x 10 draws, beside one draw a point."""
    net = Net()

    def step(points, draws):
        net.zero_grad()
        expected(dsm_error, net, sde, minibatch(points).repeat_interleave(draws, 0)).backward()

    jobs = {
        ("deck: 4 x 150 x 10", 6000): partial(step, 4, 1500),
        ("one draw a point, 128", 128): partial(step, 128, 1),
    }
    times = interleaved(jobs, repeats)
    return [
        {"scheme": k[0], "evaluations": k[1], "ms": 1e3 * times[k], "bytes": peak(job)}
        for k, job in jobs.items()
    ]


def growth(repeats: int) -> list[dict]:
    """How time and memory grow with the size of the work."""
    dims = (16, 64, 256, 1024)
    nets = {d: nn.Sequential(nn.Linear(d, 128), nn.SiLU(), nn.Linear(128, d)) for d in (1, *dims)}

    def run(batch=1024, calls=20, dim=1):
        return partial(sample, lambda x, t: nets[dim](x), sde, (batch, dim), n_steps=calls)

    def train(size):
        data, score = torch.randn(size, 1), Net()
        loss = lambda s: expected(dsm_error, s, sde, minibatch(data=data))
        return lambda: fit(score, loss, 20, adam(score), progress=False)

    families = {
        "sampling, batch": ((1024, 4096, 16384, 65536), lambda k: run(batch=k)),
        "sampling, dimension": (dims, lambda k: run(dim=k)),
        "sampling, calls": ((20, 80, 320), lambda k: run(calls=k)),
        "training step, dataset size": ((10**3, 10**4, 10**5), train),
    }
    rows = []
    for name, (sizes, make) in families.items():
        times = list(interleaved({k: make(k) for k in sizes}, repeats).values())
        memory = [peak(make(k)) for k in sizes]
        row = {"what": name, "sizes": list(sizes), "seconds": times, "bytes": memory}
        row |= {"time exponent": slope(sizes, times), "memory exponent": slope(sizes, memory)}
        rows.append(row)
    return rows


def memory(batch: int = 65536, n: int = 20) -> list[dict]:
    """Peak tensor memory of sampling a large batch, in states of the batch's size."""
    c, x = torch.randn(batch, 1), torch.randn(batch, 1)
    free = lambda x, t: c
    jobs = {
        ("sdelib", name): partial(sample, free, sde, (batch, 1), solver, n_steps=n)
        for name, solver in (("Euler-Maruyama", walk(euler_maruyama)), ("Adams 4", adams()))
    }
    for peer, name in (
        ("diffusers", "DPM-Solver++ 2M, trailing"),
        ("torchdiffeq", "rk4"),
        ("azula", "zEAB 3"),
        ("k-diffusion", "dpmpp_2m, vp"),
        ("smalldiffusion", "gam 1.5, vp"),
    ):
        jobs[peer, name] = partial(DETERMINISTIC[peer][name], free, x, n)
    state = x.numel() * x.element_size()
    return [{"peer": p, "sampler": s, "states": peak(job) / state} for (p, s), job in jobs.items()]
