"""Run other people's samplers on fixed states, and store where these end: `tests/oracles.json`.
Their distances of fixed samples are stored there as well.

    python benchmarks/oracles.py [--authors FOLDER]    in .venv-bench

`tests/test_oracles.py` runs this library from the same states over the same times with the same
noise. FOLDER is a checkout of the paper's authors' code, github.com/yang-song/score_sde_pytorch;
without it, what was recorded from it stays.
"""

from __future__ import annotations

import argparse
import importlib
import itertools
import json
import os
import sys
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from unittest.mock import MagicMock, patch

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import ot
import peers
import scipy.fft  # noqa: F401, before peers.py loads single modules, which would load it twice
import torch
import torchsde
from torch import Tensor

from sdelib.data import deck_mixture
from sdelib.score import exact_score, reverse_drift
from sdelib.sde import SDE, VESDE, VPSDE

RECORDED = Path(__file__).parents[1] / "tests" / "oracles.json"
DOUBLE = torch.zeros((), dtype=torch.float64)
PROCESSES = {"VP": VPSDE(), "VE": VESDE()}
N_STEPS = 10
START = torch.linspace(-2, 2, 5, dtype=torch.float64)[:, None]


def normals(*shape: int) -> Tensor:
    """The same numbers on every machine and in every version."""
    return torch.tensor(np.random.RandomState(0).standard_normal(shape))


@contextmanager
def drawing(noise: Tensor) -> Iterator[None]:
    """Whoever draws noise gets the next of these."""
    rest = iter(noise)
    draw = lambda *args, **options: next(rest)
    with patch.object(torch, "randn_like", draw), patch.object(torch, "randn", draw):
        yield


def row(source: str, name: str, process: str, times: Tensor, start: Tensor, end: Tensor, **more):
    """What a test needs to do the same."""
    lists = {"times": times, "start": start, "end": end} | more
    return {"source": source, "sampler": name, "process": process} | {
        key: value.tolist() for key, value in lists.items()
    }


def flows() -> Iterator[dict]:
    """Solvers over given times, without and with noise."""
    noise = normals(N_STEPS, 5, 1)
    ends = lambda ts: torch.cat([ts, ts.new_zeros(1)])
    for process, sde in PROCESSES.items():
        score, x = exact_score(sde, deck_mixture().to(DOUBLE)), START * sde.sigma(DOUBLE + 1)
        equal = torch.linspace(1, peers.T_MIN, N_STEPS + 1, dtype=torch.float64)
        levels = peers.k_sigmas("exponential", N_STEPS, x, sde, peers.T_MIN)
        spaced = sde.time_of(levels[:-1])
        every_100th = peers.T_MIN + (1 - peers.T_MIN) * torch.arange(999, -1, -100.0).double() / 999
        on = {
            "torchdiffeq": (equal, ("euler", "heun2")),
            "azula": (equal, ("DDIMSampler", "DDPMSampler")),
            "k-diffusion": (spaced, ("euler", "dpmpp_2m", "euler_ancestral")),
            "diffusers": (every_100th, ("DDIMScheduler", "DDPMScheduler")),
        }
        for source, (times, names) in on.items():
            for name in names:
                run = {
                    "torchdiffeq": peers.torchdiffeq,
                    "azula": peers.azula,
                    "k-diffusion": lambda name, *rest: peers.k_diffusion(
                        name, "exponential", *rest
                    ),
                    "diffusers": in_diffusers,
                }[source]
                with drawing(noise):
                    end = run(name, score, x, N_STEPS, sde, peers.T_MIN)
                drawn = {"noise": noise} if name in NOISY else {}
                yield row(source, name, process, ends(times), x, end, **drawn)
        tight = peers.torchdiffeq_adaptive("dopri5", 1e-9, score, x, sde)
        yield row("torchdiffeq", "dopri5", process, ends(equal[[0, -1]]), x, tight)
        yield in_torchsde(process, sde, score, x, equal)


NOISY = ("DDPMSampler", "DDPMScheduler", "euler_ancestral")


def in_diffusers(name: str, score, x: Tensor, n: int, sde: SDE, t_min: float) -> Tensor:
    return peers.diffusers(
        name, score, x, n, sde, t_min, clip_sample=False, timestep_spacing="trailing"
    )


def in_torchsde(process: str, sde: SDE, score, x: Tensor, times: Tensor) -> dict:
    """Euler-Maruyama of the reverse SDE along a Brownian path, whose increments are kept."""

    class Reverse(torch.nn.Module):  # forward in time, so u = 1 - t
        noise_type, sde_type = "diagonal", "ito"

        def f(self, u, y):
            return -reverse_drift(score, sde, y, 1 - u)

        def g(self, u, y):
            return sde.g(1 - u).expand_as(y)

    us, h = 1 - times, (times[0] - times[1]).item()
    path = torchsde.BrownianInterval(0.0, 1.0, size=x.shape, dtype=x.dtype, entropy=0)
    with torch.no_grad():
        end = torchsde.sdeint(Reverse(), x, us[[0, -1]], bm=path, method="euler", dt=h)[-1]
    noise = torch.stack([path(a, b) for a, b in itertools.pairwise(us)]) / h**0.5
    return row("torchsde", "euler", process, times, x, end, noise=noise)


def distances() -> Iterator[dict]:
    """Distances of samples, of the optimal transport library."""
    z = normals(2, 50, 3)
    x, y = z[0], 0.5 + z[1] @ normals(3, 3)
    directions = x.new_empty(20, 3).normal_(generator=torch.Generator().manual_seed(0))
    unit = torch.nn.functional.normalize(directions, dim=1)
    means, covs = [v.mean(0) for v in (x, y)], [torch.cov(v.T) for v in (x, y)]
    found = {
        "wasserstein": ot.wasserstein_1d(x[:, 0], y[:, 0]),
        "sliced": ot.sliced_wasserstein_distance(x, y, projections=unit.T),
        "Frechet": ot.gaussian.bures_wasserstein_distance(*means, *covs) ** 2,
    }
    for name, value in found.items():
        yield {"source": "POT", "sampler": name} | {
            key: v.squeeze().tolist() for key, v in {"x": x, "y": y, "value": value}.items()
        }


# The authors' code: a step at a time, from states of shape (B, 1, 1, 8)


def authors(folder: str) -> Iterator[dict]:
    """One step of each predictor and corrector, the kernels, and the prior's density."""
    sys.path.insert(0, folder)
    utils = types.ModuleType("models.utils")
    for name in ("from_flattened_numpy", "to_flattened_numpy", "get_score_fn"):
        setattr(utils, name, MagicMock())
    package = types.ModuleType("models")
    package.utils = utils
    sys.modules |= {"models": package, "models.utils": utils}
    lib, sampling = (importlib.import_module(name) for name in ("sde_lib", "sampling"))
    torch.set_default_dtype(torch.float64)  # for their tables
    x, z = normals(3, 8), normals(6, 8)[3:]
    theirs = {"VP": lib.VPSDE(), "VE": lib.VESDE(), "sub-VP": lib.subVPSDE()}
    wide = lambda y: y[:, None, None]
    score = lambda y, t: (wide(MEAN) - y) / (1 + t[:, None, None, None])
    steps: dict[str, tuple[Callable, dict]] = {
        "Euler-Maruyama": (sampling.EulerMaruyamaPredictor, {}),
        "reverse diffusion": (sampling.ReverseDiffusionPredictor, {}),
        "ancestral": (sampling.AncestralSamplingPredictor, {}),
        "Langevin": (sampling.LangevinCorrector, {"snr": 0.16, "n_steps": 1}),
        "annealed Langevin": (sampling.AnnealedLangevinDynamics, {"snr": 0.16, "n_steps": 1}),
    }
    for process, sde in theirs.items():
        for i in (900, 700, 300, 30):
            t = torch.full((3,), (i + 1e-9) / 999)  # theirs is rounded down to i
            for name, (make, options) in steps.items():
                if process == "sub-VP" and name not in ("Euler-Maruyama", "reverse diffusion"):
                    continue  # not written there
                one = slice(1) if name == "Langevin" else slice(3)  # it averages over a batch
                start = x[one] * sde.marginal_prob(wide(x), t)[1][0]
                with drawing(wide(z[one])[None]):
                    end, _ = make(sde, score, **options).update_fn(wide(start), t[one])
                yield row(AUTHORS, name, process, t[:1], start, end[:, 0, 0], noise=z[one][None])
            mean, std = sde.marginal_prob(wide(x), t)
            yield row(AUTHORS, "kernel", process, t[:1], x, mean[:, 0, 0], std=std)
        z1 = x * sde.marginal_prob(wide(x), torch.ones(3))[1][0]
        log_prob = sde.prior_logp(wide(z1))
        yield row(AUTHORS, "prior", process, torch.ones(1), z1, log_prob)


AUTHORS = "score_sde_pytorch"
MEAN = torch.linspace(-1, 1, 8, dtype=torch.float64)[None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--authors", metavar="FOLDER", help="their code; kept as it was without it")
    folder = parser.parse_args().authors
    kept = json.loads(RECORDED.read_text(encoding="utf-8")) if RECORDED.exists() else {"rows": []}
    rows = [*flows(), *distances()]
    rows += authors(folder) if folder else [r for r in kept["rows"] if r["source"] == AUTHORS]
    versions = {r["source"]: "" for r in rows}
    for name in versions:
        versions[name] = version(name) if name != AUTHORS else "checkout"
    lines = ",\n".join(json.dumps(r) for r in rows)
    text = f'{{"versions": {json.dumps(versions)}, "rows": [\n{lines}\n]}}\n'
    RECORDED.write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
