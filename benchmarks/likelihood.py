"""Likelihoods and divergences beside those of the peers."""

from functools import partial

import torch
from peers import exploded, module, sde
from timing import interleaved
from torch import nn

from sdelib.data import deck_mixture
from sdelib.likelihood import exact_divergence, solve_flow
from sdelib.score import exact_score


def likelihood(repeats: int) -> list[dict]:
    """Log-likelihood of the deck mixture with the exact law at time 1, in nats, on 64 points."""
    target = deck_mixture().to(torch.zeros((), dtype=torch.float64))
    score, start, end = exact_score(sde, target), sde.at(1e-5), sde.at(1.0)
    x = torch.linspace(-5, 5, 64, dtype=torch.float64)[:, None]
    law_at = lambda t: target.perturb(*x.new_tensor([t.alpha, t.sigma]))
    terminal, exact = law_at(end).log_prob, law_at(start).log_prob(x)
    calls = [0]

    def counted(y, t):
        calls[0] += 1
        return score(y, t)

    def ours(tol):
        z, integral, _ = solve_flow(counted, sde, x, start.time, end.time, rtol=tol, atol=tol)
        return terminal(z) + integral

    # these solvers look beyond the ends of the interval, where the formulas still hold
    def velocity(y, t):
        calls[0] += 1
        law = target.perturb(sde.alpha(t), sde.sigma(t))
        return sde.f(t) * y - sde.g(t) ** 2 / 2 * law.score(y)

    def with_torchdiffeq(method, tol):
        from torchdiffeq import odeint

        def rate(t, state):
            return exact_divergence(lambda y: velocity(y, t), state[0])

        states = (x, torch.zeros(len(x), dtype=x.dtype))
        times = x.new_tensor([start.time, end.time])
        z, integral = odeint(rate, states, times, method=method, rtol=tol, atol=tol)
        return terminal(z[-1]) + integral[-1]

    def with_zuko(tol):
        from zuko.transforms import FreeFormJacobianTransform

        def f(t, y):
            return velocity(y, torch.as_tensor(t).to(y))

        options = {"t0": start.time, "t1": end.now, "atol": tol, "rtol": tol, "exact": True}
        with torch.no_grad():
            z, ladj = FreeFormJacobianTransform(f, **options).call_and_ladj(x)
        return terminal(z) + ladj

    def with_k_diffusion(tol):
        # its state is y = x / alpha, whose density is that of x times alpha; it ends on
        # N(0, sigma_max^2) and nothing else
        k = module("k_diffusion", "sampling")
        ratios = [t.sigma / t.alpha for t in (start, end)]
        return k.log_likelihood(exploded(counted), x / start.alpha, *ratios, atol=tol, rtol=tol)[0]

    jobs = {}
    for tol in (1e-5, 1e-8, 1e-12):
        jobs["sdelib", "RK45", tol] = partial(ours, tol)
        jobs["torchdiffeq", "dopri5", tol] = partial(with_torchdiffeq, "dopri5", tol)
        jobs["torchdiffeq", "dopri8", tol] = partial(with_torchdiffeq, "dopri8", tol)
        if tol > 1e-10:  # zuko's step control does not return at less
            jobs["zuko", "dopri45", tol] = partial(with_zuko, tol)
    k_diffusion = "k-diffusion", "dopri5, Hutchinson, prior as terminal law", 1e-5
    jobs[k_diffusion] = partial(with_k_diffusion, 1e-5)
    rows = []
    for (peer, method, tol), seconds in interleaved(jobs, repeats).items():
        calls[0] = 0
        error = (jobs[peer, method, tol]() - exact).abs().max().item()
        row = {"peer": peer, "method": method, "tol": tol, "seconds": seconds}
        rows.append(row | {"calls": calls[0], "nats": error})
    return rows


def divergence(repeats: int, dims=(2, 8, 32, 64), batch: int = 64) -> list[dict]:
    """The exact divergence of a network: one batched pass, as the library makes it, and others."""
    rows = []
    for d in dims:
        torch.manual_seed(0)
        layers = [nn.Linear(d, 128), nn.SiLU(), nn.Linear(128, 128), nn.SiLU(), nn.Linear(128, d)]
        net, x = nn.Sequential(*layers), torch.randn(batch, d)

        def row_by_row(x=x, net=net, d=d):
            x = x.detach().requires_grad_()
            out = net(x)
            columns = (
                torch.autograd.grad(out[:, i].sum(), x, retain_graph=True)[0][:, i]
                for i in range(d)
            )
            return sum(columns)

        def functional(x=x, net=net):
            jacobian = torch.func.vmap(torch.func.jacrev(lambda y: net(y)))(x)
            return jacobian.diagonal(dim1=1, dim2=2).sum(1)

        jobs = {
            "one batched pass (sdelib)": lambda x=x, net=net: exact_divergence(net, x)[1],
            "torch.func": functional,
            "row by row": row_by_row,
        }
        spread = max((job() - row_by_row()).abs().max().item() for job in jobs.values())
        assert spread < 1e-4, spread
        rows += [
            {"method": name, "dim": d, "ms": 1e3 * seconds}
            for name, seconds in interleaved(jobs, repeats).items()
        ]
    return rows
