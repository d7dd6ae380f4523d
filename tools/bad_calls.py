"""Call every public function with one bad argument, and store what comes of it.

    python tools/bad_calls.py [N]      or `make bad-calls`: 5000 calls unless N says otherwise

`CALLS` holds a good call of every public callable: of each module's functions and classes, of the
classes' methods, and of what factories return. Hypothesis draws a call, an argument of it and a bad
value in its place: of another type, dtype, shape, device or range, empty, not finite, a label that
does not exist, a callable that returns anything but what it should. What may come of it:

- a typed error, `ValueError` or `TypeError` (or `FloatingPointError` for numbers that stop being
  finite), that says what the argument, by its name, must be and what it was;
- the right result: that of the good call, or one that `ALLOWED` gives a reason for;
- NaN or infinity, for NaN or infinity: unchecked where that would cost, but in plain sight.

Everything else is a failure: a typed error that names another argument, an obscure error, a result
that is silently wrong, or no end within some seconds. `tests/bad_calls.md` keeps the last table.
"""

from __future__ import annotations

import fnmatch
import importlib
import inspect
import itertools
import math
import re
import signal
import sys
import tempfile
import traceback
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.optim import SGD
from torch.optim.lr_scheduler import ConstantLR
from torch.quasirandom import SobolEngine

import sdelib
from sdelib import (
    data,
    guidance,
    laws,
    learned,
    likelihood,
    metrics,
    mixtures,
    networks,
    plotting,
    samplers,
    score,
    sde,
    steps,
    training,
)

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "tests" / "bad_calls.md"
SECONDS = 10  # of computing that a call may take; a good one takes a hundredth

# The public callables


def public_names() -> set[str]:
    """Every public callable that takes an argument: ``module.name``, ``module.Class.method``."""
    names = {}
    for module in re.findall(r"``(\w+)``", sdelib.__doc__ or ""):
        loaded = importlib.import_module(f"sdelib.{module}")
        for name, item in vars(loaded).items():
            if not is_public(name, item) or getattr(item, "__module__", "") != loaded.__name__:
                continue
            names[f"{module}.{name}"] = item
            if inspect.isclass(item):
                for part in vars(item):
                    method = getattr(item, part)
                    if part == "__call__" or is_public(part, method):
                        names[f"{module}.{name}.{part}"] = partial(method, None)
    taking = {name for name, item in names.items() if takes_arguments(item)}
    return {name for name in taking - RECORDS if not name.startswith("_")}


def is_public(name: str, item: Any) -> bool:
    """Whether that is to be called from outside."""
    return not name.startswith("_") and callable(item)


def takes_arguments(item: Callable) -> bool:
    """A bound classmethod has no self for `partial` to fill, which then fills an argument."""
    return bool(inspect.signature(item).parameters) or isinstance(item, partial)


RECORDS = {
    # tuples and the like: what takes them checks them
    "sde.Instant",
    "laws.Law",
    "learned.Recipe",
    "metrics.Distance",
    "training.Run",
    # declarations
    "laws.Target",
    "laws.Target.cdf",
    "laws.Target.log_prob",
    "laws.Target.quantile",
    "sde.SDE.alpha",
    "sde.SDE.sigma",
}

# Good arguments

VP = sde.VPSDE()
TARGET = data.deck_mixture().to(torch.zeros(0, dtype=torch.float64))
SCRATCH = tempfile.TemporaryDirectory()


GRAPH = torch.ones(3, 2, dtype=torch.float64, requires_grad=True)
GRAPH = GRAPH, GRAPH.sin()


class Cosine(sde.SDE):
    """A schedule of one's own."""

    def alpha(self, t: Tensor) -> Tensor:
        return torch.cos(1.5 * t)

    def sigma(self, t: Tensor) -> Tensor:
        return torch.sin(1.5 * t)


def line() -> Tensor:
    """Three states on the line."""
    return torch.tensor([[-2.9], [0.4], [3.2]])


def points(n: int = 3, d: int = 2) -> Tensor:
    """Points that lie nowhere special."""
    return torch.linspace(-9, 9, n * d).sin().reshape(n, d)


def images(channels: int = 1) -> Tensor:
    """Two images of 8 x 8 pixels."""
    return points(2, channels * 64).reshape(2, channels, 8, 8)


def times() -> Tensor:
    """A time for each of three states."""
    return torch.tensor([0.2, 0.5, 0.8])


def normal_score(x: Tensor, t: Tensor) -> Tensor:
    """The score of standard normal data under a variance preserving SDE."""
    return -x


def log_normal(x: Tensor, t: Tensor) -> Tensor:
    """The log-density of which it is the gradient."""
    return -0.5 * x.square().sum(-1)


def fixed(x: Tensor) -> Tensor:
    """Noise that is the same at every call and in every dtype."""
    return torch.linspace(-1, 1, x.numel()).to(x).reshape(x.shape)


def generator() -> torch.Generator:
    """A source of noise."""
    return torch.Generator().manual_seed(0)


def path() -> list[sde.Instant]:
    """A short path of instants."""
    return VP.path(torch.tensor([1.0, 0.6, 0.2]), points())


@cache
def plane() -> mixtures.GaussianMixture:
    """A correlated mixture in the plane."""
    covs = torch.tensor([[[0.2, 0.05], [0.05, 0.1]], [[0.1, -0.06], [-0.06, 0.15]]])
    means = torch.tensor([[-1.0, 0.5], [1.0, -0.3]])
    return mixtures.GaussianMixture.from_covs(torch.tensor([0.3, 0.7]), means, covs)


def law() -> laws.Law:
    """The target's law as nodes and weights."""
    return laws.tabulate(TARGET.log_prob, torch.tensor(12.0), 1500)


def net(dim: int = 2, waves: int = 0) -> networks.MLP:
    """A network of points and labels."""
    torch.manual_seed(1)
    return networks.MLP(dim, width=8, depth=1, n_features=2, n_labels=3, n_waves=waves)


def unet() -> networks.UNet:
    """A network of images and labels."""
    torch.manual_seed(1)
    return networks.UNet(widths=(8, 8), n_labels=3, n_features=2, n_embedding=4)


def block() -> networks.ResidualBlock:
    """A block of a network of images."""
    torch.manual_seed(1)
    return networks.ResidualBlock(8, 16, 4)


def levels() -> networks.Levels:
    """Two levels of one."""
    torch.manual_seed(1)
    return networks.Levels((8, 8), 4)


def residual() -> learned.ResidualScore:
    """A score over a Gaussian's."""
    return learned.ResidualScore(net(), VP, points())


def mixture_residual() -> learned.MixtureResidualScore:
    """A score over that of two Gaussians."""
    torch.manual_seed(1)
    inner = networks.MLP(4, width=8, depth=1, n_features=2, n_labels=2)
    inner.layers[-1] = nn.Linear(8, 2)
    return learned.MixtureResidualScore(inner, VP, plane())


def model() -> learned.Model:
    """A model of points with three labels, untrained."""
    torch.manual_seed(1)
    return learned.Model(points(6), torch.tensor([0, 1, 2, 0, 1, 2])).requires_grad_(False)


def run() -> training.Run:
    """A run before its first step."""
    module = net()
    training._STARTS[module] = defaultdict(str)
    return training.Run(module, [SGD(module.parameters(), 0.1)], [], 0.0, None)


def file() -> str:
    """The path of a file that does not exist yet."""
    return str(Path(tempfile.mkdtemp(dir=SCRATCH.name), "run.safetensors"))


def weight_decay(module: nn.Module) -> Tensor:
    """A loss that every network has."""
    return torch.stack([p.square().sum() for p in module.parameters()]).sum()


def canvas() -> Any:
    """Something to draw on."""
    plotting.plt.close("all")
    return plotting.plt.figure(figsize=(2, 2)).subplots()


def fitted(schedule: bool = False) -> dict[str, Any]:
    """Arguments of `fit`."""
    module = net()
    optimizer = SGD(module.parameters(), 0.1)
    given = {"net": module, "loss": weight_decay, "n_steps": 2, "optimizer": optimizer}
    return given | {"schedule": ConstantLR(optimizer)}


def stepping(**more: Any) -> dict[str, Any]:
    """Arguments of a step."""
    given = {"score": normal_score, "x": points(3, 6), "t": VP.at(0.5), "s": VP.at(0.4)}
    return given | {"noise": fixed} | more


def walking(**more: Any) -> dict[str, Any]:
    """Arguments of a solver."""
    return {"score": normal_score, "x": points(), "path": path(), "noise": fixed} | more


def erring() -> dict[str, Any]:
    """Arguments of an error of training."""
    return {"score": normal_score, "sde": VP, "x0": points(), "t": times(), "z": fixed(points())}


def flowing(**more: Any) -> dict[str, Any]:
    """Arguments of what solves the flow."""
    return {"score": normal_score, "sde": VP, "rtol": 1e-5, "atol": 1e-5} | more


def sampling(**more: Any) -> dict[str, Any]:
    """Arguments of `sample` and its like."""
    given = {"score": normal_score, "sde": VP, "shape": (3, 2), "generator": generator()}
    return given | {"dtype": torch.float64, "device": "cpu"} | more


def labelled(x: Tensor, **more: Any) -> dict[str, Any]:
    """Arguments of a network."""
    return {"x": x, "t": times()[: len(x)], "label": torch.tensor([0, 1, 2])[: len(x)]} | more


def call(function: Callable, **arguments: Any) -> tuple[Callable, dict[str, Any]]:
    """A function and its arguments."""
    return function, arguments


def partial_self(method: Callable) -> Callable:
    """A method of laws with the law as an argument."""
    return lambda law, **given: method(law, **given)


def listed(values: Any) -> Any:
    """Several values for a starred parameter, or a bad one."""
    return values if isinstance(values, tuple) else (values,)


def of(make: Callable[[], Any], name: str, **arguments: Any) -> tuple[Callable, dict[str, Any]]:
    """A method of a fresh object, and its arguments."""
    return getattr(make(), name), arguments


def formulas(make: type[sde.SDE]) -> dict[str, Callable]:
    """The calls of an SDE's own formulas."""
    module, found = f"sde.{make.__name__}", {}
    for name in ("alpha", "sigma", "f", "g", "beta", "int_beta"):
        if name in vars(make):
            found[f"{module}.{name}"] = lambda name=name: of(make, name, t=times())
    return found | {f"{module}.time_of": lambda: of(make, "time_of", ratio=4 * times())}


CALLS: dict[str, Callable[[], tuple[Callable, dict[str, Any]]]] = {
    "sde.like": lambda: call(sde.like, c=times(), x=points()),
    "sde.randn_like": lambda: call(sde.randn_like, x=points(), generator=generator()),
    "sde.transition": lambda: call(sde.transition, s=VP.at(0.4), t=VP.at(0.5)),
    "sde.require_order": lambda: call(sde.require_order, s=VP.at(0.4), t=VP.at(0.5)),
    "sde.require_consistent": lambda: call(sde.require_consistent, sde=sde.VPSDE()),
    "sde.VESDE": lambda: call(sde.VESDE, sigma_min=0.01, sigma_max=50.0),
    "sde.VPSDE": lambda: call(sde.VPSDE, beta_min=0.1, beta_max=20.0),
    "sde.SubVPSDE": lambda: call(sde.SubVPSDE, beta_min=0.1, beta_max=20.0),
    "sde.CosineSDE": lambda: call(sde.CosineSDE, alpha_end=0.01),
    "sde.FlowSDE": lambda: call(sde.FlowSDE, alpha_end=0.01),
    **formulas(sde.VESDE),
    **formulas(sde.VPSDE),
    **formulas(sde.SubVPSDE),
    **formulas(sde.CosineSDE),
    **formulas(sde.FlowSDE),
    "sde.SDE.f": lambda: of(Cosine, "f", t=times()),
    "sde.SDE.g": lambda: of(Cosine, "g", t=times()),
    "sde.SDE.time_of": lambda: of(Cosine, "time_of", ratio=4 * times()),
    "sde.SDE.at": lambda: of(sde.VPSDE, "at", t=times(), x=points()),
    "sde.SDE.at(number)": lambda: of(sde.VPSDE, "at", t=0.3),
    "sde.SDE.path": lambda: of(sde.VPSDE, "path", ts=times().flip(0), x=points()),
    "sde.SDE.drift": lambda: of(sde.VPSDE, "drift", x=points(), t=times()),
    "sde.SDE.diffuse": lambda: of(sde.VPSDE, "diffuse", x0=points(), t=times(), z=fixed(points())),
    "sde.SDE.perturb": lambda: of(
        sde.VPSDE, "perturb", x0=points(), t=times(), generator=generator()
    ),
    "sde.SDE.prior_sample": lambda: of(
        sde.VPSDE,
        "prior_sample",
        shape=(3, 2),
        generator=generator(),
        dtype=torch.float64,
        device="cpu",
    ),
    "sde.SDE.prior_log_prob": lambda: of(sde.VPSDE, "prior_log_prob", x=points()),
    "mixtures.symmetrised": lambda: call(
        mixtures.symmetrised, name="matrices", matrices=torch.eye(2)[None]
    ),
    "mixtures.GaussianMixture": lambda: call(mixtures.GaussianMixture, **vars(plane())),
    "mixtures.GaussianMixture.from_covs": lambda: call(
        mixtures.GaussianMixture.from_covs,
        weights=plane().weights,
        means=plane().means,
        covs=plane().covs,
    ),
    "mixtures.GaussianMixture.from_classes": lambda: call(
        mixtures.GaussianMixture.from_classes,
        x=points(6),
        labels=torch.tensor([0, 1] * 3),
        pooled=0.3,
        noise=0.1,
    ),
    "mixtures.GaussianMixture.to": lambda: of(plane, "to", x=points()),
    "mixtures.GaussianMixture.sample": lambda: of(plane, "sample", n=5, generator=generator()),
    "mixtures.GaussianMixture.log_joint": lambda: of(plane, "log_joint", x=points()),
    "mixtures.GaussianMixture.log_prob": lambda: of(plane, "log_prob", x=points()),
    "mixtures.GaussianMixture.score": lambda: of(plane, "score", x=points()),
    "mixtures.GaussianMixture.pulls": lambda: of(plane, "pulls", x=points()),
    "mixtures.GaussianMixture.perturb": lambda: of(plane, "perturb", alpha=0.5, sigma=0.8),
    "mixtures.GaussianMixture.perturb(rows)": lambda: call(
        lambda alpha, sigma: plane().perturb(alpha, sigma).log_prob(points()),
        alpha=times(),
        sigma=1 - times(),
    ),
    "mixtures.GaussianMixture.condition": lambda: of(
        plane, "condition", A=torch.eye(2), y=torch.tensor([0.3, -0.2]), std=0.5
    ),
    "mixtures.GaussianMixture.cdf": lambda: of(data.deck_mixture, "cdf", x=line()),
    "mixtures.GaussianMixture.quantile": lambda: of(data.deck_mixture, "quantile", u=times()),
    "data.smile_curve": lambda: call(data.smile_curve, u=times()),
    "data.smile": lambda: call(data.smile, n=5, noise=0.1, generator=generator()),
    "data.smile_distance": lambda: call(data.smile_distance, points=points()),
    "data.digits": lambda: call(
        lambda sizes, seed: data.digits(*listed(sizes), seed=seed), sizes=(20, 30), seed=1
    ),
    "score.exact_score": lambda: call(
        lambda sde, target, x, t: score.exact_score(sde, target)(x, t),
        sde=VP,
        target=plane(),
        x=points(),
        t=times(),
    ),
    "score.translate": lambda: call(
        lambda score_, sde, to, x, t: score.translate(score_, sde, to)(x, t),
        score_=normal_score,
        sde=VP,
        to=sde.CosineSDE(0.05),
        x=points(),
        t=times(),
    ),
    "score.grad_log": lambda: call(
        lambda log_prob, x, t: score.grad_log(log_prob)(x, t),
        log_prob=log_normal,
        x=points(),
        t=times(),
    ),
    "score.checked": lambda: call(
        lambda score_, name, x, t: score.checked(score_, name)(x, t),
        score_=normal_score,
        name="score",
        x=points(),
        t=times(),
    ),
    "score.require_graph": lambda: call(score.require_graph, name="out", out=GRAPH[1], x=GRAPH[0]),
    "score.denoise": lambda: call(score.denoise, score=normal_score, sde=VP, x=points(), t=times()),
    "score.reverse_drift": lambda: call(
        score.reverse_drift, score=normal_score, sde=VP, x=points(), t=times(), eta=0.5
    ),
    "guidance.add": lambda: call(
        lambda prior, likelihood, scale, x, t: guidance.add(prior, likelihood, scale)(x, t),
        prior=normal_score,
        likelihood=normal_score,
        scale=0.5,
        x=points(),
        t=times(),
    ),
    "guidance.add(rows)": lambda: call(
        lambda prior, likelihood, scale, x, t: guidance.add(prior, likelihood, scale)(x, t),
        prior=normal_score,
        likelihood=normal_score,
        scale=times(),
        x=points(),
        t=times(),
    ),
    "guidance.classifier_free": lambda: call(
        lambda conditional, unconditional, scale, x, t: guidance.classifier_free(
            conditional, unconditional, scale
        )(x, t),
        conditional=normal_score,
        unconditional=normal_score,
        scale=1.5,
        x=points(),
        t=times(),
    ),
    "guidance.inpaint": lambda: call(
        lambda score, sde, y, known, x, t: guidance.inpaint(score, sde, y, known)(x, t),
        score=normal_score,
        sde=VP,
        y=torch.ones(2),
        known=torch.tensor([True, False]),
        x=points(),
        t=times(),
    ),
    "guidance.tweedie_likelihood": lambda: call(
        lambda score, sde, A, y, std, cov, x, t: guidance.tweedie_likelihood(
            score, sde, A, y, std, cov
        )(x, t),
        score=normal_score,
        sde=VP,
        A=torch.ones(1, 2),
        y=torch.ones(1),
        std=0.5,
        cov=torch.eye(2),
        x=points(),
        t=times(),
    ),
    "steps.plus": lambda: call(steps.plus, x=points(), c=0.5, y=points()),
    "steps.euler_maruyama": lambda: call(steps.euler_maruyama, **stepping(eta=0.5)),
    "steps.reverse_diffusion": lambda: call(steps.reverse_diffusion, **stepping()),
    "steps.ancestral": lambda: call(steps.ancestral, **stepping()),
    "steps.ancestral_2s": lambda: call(steps.ancestral_2s, **stepping(scale=1.5)),
    "steps.ddim": lambda: call(steps.ddim, **stepping()),
    "steps.heun": lambda: call(steps.heun, **stepping()),
    "steps.rk4": lambda: call(steps.rk4, **stepping()),
    "steps.langevin": lambda: call(steps.langevin, **stepping(snr=0.2, n_steps=2)),
    "steps.annealed_langevin": lambda: call(
        steps.annealed_langevin, **stepping(snr=0.2, n_steps=2)
    ),
    "samplers.Walk": lambda: call(samplers.Walk, steps=(steps.ancestral,)),
    "samplers.walk": lambda: call(
        lambda steps, **given: list(samplers.walk(*listed(steps))(**given)),
        **walking(steps=(steps.ancestral, steps.annealed_langevin)),
    ),
    "samplers.Walk.__call__": lambda: call(samplers.walk(steps.ancestral), **walking()),
    "samplers.steps_to": lambda: call(samplers.steps_to, s=VP.at(0.3), steps=(steps.ancestral,)),
    "samplers.own_noise": lambda: call(samplers.own_noise, step=steps.ancestral, noise=fixed),
    "samplers.dpm_solver_2m": lambda: call(samplers.dpm_solver_2m, **walking()),
    "samplers.Adams": lambda: call(
        samplers.Adams, order=3, scale=1.0, reach=2.0, grid=samplers.uniform
    ),
    "samplers.adams": lambda: call(
        lambda order, scale, reach, **given: list(samplers.adams(order, scale, reach)(**given)),
        **walking(order=3, scale=1.2, reach=2.0),
    ),
    "samplers.Adams.__call__": lambda: call(samplers.adams(2), **walking()),
    "samplers.uniform": lambda: call(samplers.uniform, sde=VP, n_steps=4, t_min=0.01),
    "samplers.log_snr": lambda: call(samplers.log_snr, sde=VP, n_steps=4, t_min=0.01),
    "samplers.edm": lambda: call(samplers.edm, sde=VP, n_steps=4, t_min=0.01, rho=3.0),
    "samplers.log_linear": lambda: call(
        samplers.log_linear, sde=VP, n_steps=4, t_min=0.01, bend=0.1
    ),
    "samplers.run_times": lambda: call(
        samplers.run_times,
        sde=VP,
        solver=samplers.adams(),
        n_steps=3,
        t_min=0.01,
        grid=samplers.uniform,
    ),
    "samplers.reverse": lambda: call(
        samplers.reverse,
        score=normal_score,
        sde=VP,
        x=points(),
        ts=times().flip(0),
        solver=samplers.walk(steps.ancestral),
        noise=fixed,
    ),
    "samplers.sample": lambda: call(
        samplers.sample,
        **sampling(solver=samplers.dpm_solver_2m, n_steps=4, t_min=0.01, grid=samplers.uniform),
        progress=False,
        batch_size=2,
    ),
    "samplers.pilot": lambda: call(samplers.pilot, **sampling(order=3, reach=2.0, n_calls=9)),
    "samplers.pilot(grid)": lambda: call(
        lambda sde, n_steps, t_min: samplers.pilot(normal_score, VP, (3, 2), n_calls=9).grid(
            sde, n_steps, t_min
        ),
        sde=VP,
        n_steps=4,
        t_min=0.01,
    ),
    "laws.Law.cdf": lambda: call(partial_self(laws.Law.cdf), law=law(), x=line()),
    "laws.Law.quantile": lambda: call(partial_self(laws.Law.quantile), law=law(), u=times()),
    "laws.Law.log_prob": lambda: call(partial_self(laws.Law.log_prob), law=law(), x=line()),
    "laws.Law.push": lambda: call(partial_self(laws.Law.push), law=law(), move=lambda x: 2 * x + 1),
    **{
        f"laws.Law.{name}": lambda name=name: call(
            partial_self(getattr(laws.Law, name)), law=law(), target=TARGET
        )
        for name in ("wasserstein", "kolmogorov", "total_variation", "kl")
    },
    "laws.tabulate": lambda: call(
        laws.tabulate, log_prob=TARGET.log_prob, extent=torch.tensor(9.0), n=200
    ),
    "laws.spread": lambda: call(
        laws.spread, law=law(), mean=law().x, std=torch.full_like(law().x, 0.5), per_std=5.0
    ),
    "laws.propagate": lambda: call(
        lambda steps, **given: laws.propagate(given.pop("law"), *given.values(), *listed(steps)),
        law=law(),
        score=score.exact_score(VP, TARGET),
        path=path(),
        steps=(steps.ancestral,),
    ),
    "laws.sampler_law": lambda: call(
        laws.sampler_law,
        score=score.exact_score(VP, TARGET),
        sde=VP,
        solver=samplers.walk(steps.ddim),
        n_steps=6,
        t_min=0.01,
        start=law(),
        per_std=5.0,
        grid=samplers.uniform,
        device="cpu",
    ),
    "likelihood.exact_divergence": lambda: call(
        likelihood.exact_divergence, v=torch.sin, x=points()
    ),
    "likelihood.hutchinson": lambda: call(
        lambda probe, v, x: likelihood.hutchinson(probe)(v, x),
        probe=fixed(points()),
        v=torch.sin,
        x=points(),
    ),
    "likelihood.rademacher": lambda: call(likelihood.rademacher, x=points(), generator=generator()),
    "likelihood.solve_flow": lambda: call(
        likelihood.solve_flow,
        **flowing(x=points(), t0=0.2, t1=0.9, max_calls=500),
        divergence=likelihood.exact_divergence,
    ),
    "likelihood.encode": lambda: call(likelihood.encode, **flowing(x=points(), t_min=0.01)),
    "likelihood.decode": lambda: call(likelihood.decode, **flowing(z=points(), t_min=0.01)),
    "likelihood.log_likelihood": lambda: call(
        likelihood.log_likelihood,
        **flowing(x=points(), t_min=0.01, terminal=VP.prior_log_prob),
        divergence=likelihood.exact_divergence,
    ),
    "likelihood.bits_per_dimension": lambda: call(
        likelihood.bits_per_dimension, log_prob=times(), dim=3, width=0.1
    ),
    "networks.GaussianFourierFeatures": lambda: call(
        networks.GaussianFourierFeatures, n_features=4, scale=2.0, dim=2
    ),
    "networks.GaussianFourierFeatures.forward": lambda: call(net().time, x=times()),
    "networks.GaussianFourierFeatures.forward(points)": lambda: call(
        net(waves=2).waves, x=points()
    ),
    "networks.MLP": lambda: call(
        networks.MLP,
        dim=2,
        width=8,
        depth=1,
        n_features=2,
        scale=1.0,
        n_waves=2,
        wave_scale=1.0,
        n_labels=3,
    ),
    "networks.MLP.forward": lambda: call(net(), **labelled(points())),
    "networks.MatrixConv": lambda: call(networks.MatrixConv, n_in=1, n_out=2),
    "networks.MatrixConv.forward": lambda: call(unet().leave, x=points(2, 512).view(2, 8, 8, 8)),
    "networks.ResidualBlock": lambda: call(
        networks.ResidualBlock, n_in=8, n_out=16, n_embedding=4, groups=8
    ),
    "networks.ResidualBlock.forward": lambda: call(
        block(), x=points(2, 512).view(2, 8, 8, 8), embedding=points(2, 4)
    ),
    "networks.Levels": lambda: call(networks.Levels, widths=(8, 8), n_embedding=4),
    "networks.Levels.add_levels": lambda: of(levels, "add_levels", widths=(8, 8), n_embedding=4),
    **{
        f"networks.Levels.{name}": lambda name=name: of(
            levels, name, x=points(2, 512).view(2, 8, 8, 8), embedding=points(2, 4)
        )
        for name in ("through_levels", "forward")
    },
    "networks.UNet": lambda: call(
        networks.UNet,
        channels=1,
        n_hints=1,
        widths=(8, 8),
        n_labels=3,
        n_features=2,
        scale=1.0,
        n_embedding=4,
    ),
    "networks.UNet.forward": lambda: call(unet(), **labelled(images())),
    "networks.label_indices": lambda: call(
        networks.label_indices, label=torch.tensor([0, 1, 2]), n_labels=3, x=points()
    ),
    "training.dsm_error": lambda: call(training.dsm_error, **erring()),
    "training.ism_error": lambda: call(training.ism_error, **erring()),
    "training.ssm_error": lambda: call(training.ssm_error, **erring(), v=fixed(points())),
    "training.independent": lambda: call(training.independent, x0=points(), generator=generator()),
    "training.low_discrepancy": lambda: call(
        training.low_discrepancy, x0=points(), generator=generator()
    ),
    "training.expected": lambda: call(
        training.expected,
        error=training.dsm_error,
        score=normal_score,
        sde=VP,
        x0=points(),
        weight=VP.sigma,
        t_min=0.01,
        generator=generator(),
        times=training.independent,
    ),
    "training.quasi_random": lambda: call(
        training.quasi_random, cube=SobolEngine(4, True, seed=0), n_points=5, batch=4
    ),
    "training.log_normal_times": lambda: call(
        training.log_normal_times, sde=VP, u=times(), centre=-0.5, spread=1.1, t_min=0.01
    ),
    "training.edm_weight": lambda: call(training.edm_weight, sde=VP, t=times(), variance=0.8),
    "training.falling": lambda: call(
        training.falling, optimizers=[SGD(net().parameters(), 0.1)], n_steps=3
    ),
    "training.muon_and_adam": lambda: call(
        training.muon_and_adam, net=unet(), rate_muon=0.1, rate_adam=0.1, weight_decay=0.1
    ),
    "training.fit": lambda: call(
        training.fit,
        **fitted(),
        ema_decay=0.5,
        progress=False,
        checkpoint=training.Checkpoint(file()),
    ),
    "training.Checkpoint": lambda: call(
        training.Checkpoint, path=file(), every=3, sources=[generator()], settings={"rate": 0.1}
    ),
    "training.Checkpoint.begin": lambda: of(
        lambda: training.Checkpoint(file()), "begin", run=run(), n_steps=3
    ),
    "training.Checkpoint.write": lambda: of(
        lambda: training.Checkpoint(file()), "write", run=run()
    ),
    "learned.ResidualScore": lambda: call(
        lambda net, sde, data, gain, x, t: learned.ResidualScore(net, sde, data, gain)(x, t),
        net=net(),
        sde=VP,
        data=points(),
        gain=torch.cos,
        x=points(),
        t=times(),
    ),
    "learned.ResidualScore.forward": lambda: call(residual(), **labelled(points())),
    "learned.MixtureResidualScore": lambda: call(
        learned.MixtureResidualScore, net=net(), sde=VP, mixture=plane()
    ),
    "learned.MixtureResidualScore.forward": lambda: call(
        mixture_residual(), **labelled(points(), label=torch.tensor([0, 1, 2]))
    ),
    "learned.MixtureResidualScore.mixture_score": lambda: of(
        mixture_residual, "mixture_score", **labelled(points())
    ),
    "learned.StandardScore": lambda: call(
        lambda net, sde, x, t: learned.StandardScore(net, sde)(x, t),
        net=net(),
        sde=VP,
        x=points(),
        t=times(),
    ),
    "learned.StandardScore.forward": lambda: call(
        learned.StandardScore(net(), VP), **labelled(points())
    ),
    "learned.Model": lambda: call(
        learned.Model,
        x=points(6),
        labels=torch.tensor([0, 1] * 3),
        sde=VP,
        net=net(),
        level_width=0.1,
    ),
    "learned.Model.with_mixture": lambda: of(
        model, "with_mixture", u=points(6), index=torch.tensor([0, 1, 2] * 2)
    ),
    "learned.Model.standardise": lambda: of(model, "standardise", x=points()),
    "learned.Model.score": lambda: of(model, "score", **labelled(points())),
    "learned.Model.given": lambda: of(model, "given", label=torch.tensor([0, 1, 2]), scale=1.5),
    "learned.Model.sample": lambda: of(
        model,
        "sample",
        n=3,
        label=torch.tensor([0, 1, 2]),
        scale=1.5,
        solver=samplers.dpm_solver_2m,
        n_steps=3,
        grid=samplers.uniform,
        generator=generator(),
        batch_size=2,
        progress=False,
    ),
    "learned.Model.log_prob": lambda: of(
        model, "log_prob", x=points(), label=torch.tensor([0, 1, 2]), rtol=0.01, atol=0.01
    ),
    "learned.learn": lambda: call(
        learned.learn,
        x=points(6),
        labels=torch.tensor([0, 1] * 3),
        sde=VP,
        n_steps=2,
        batch=4,
        net=net(),
        level_width=0.1,
        seed=1,
        device="cpu",
        progress=False,
    ),
    "learned.path": lambda: call(learned.path, name="smile"),
    "learned.runs": lambda: call(learned.runs, name="smile"),
    "metrics.wasserstein": lambda: call(
        metrics.wasserstein, x=line(), quantile=TARGET.quantile, n_levels=50
    ),
    "metrics.kolmogorov_smirnov": lambda: call(
        metrics.kolmogorov_smirnov, x=line(), cdf=TARGET.cdf
    ),
    "metrics.energy_distance": lambda: call(metrics.energy_distance, x=points(), y=points(4) + 1),
    "metrics.sliced_wasserstein": lambda: call(
        metrics.sliced_wasserstein,
        x=points(),
        y=points() + 1,
        n_directions=5,
        generator=generator(),
    ),
    "metrics.frechet_distance": lambda: call(metrics.frechet_distance, x=points(), y=points(4) + 1),
    "metrics.density_coverage": lambda: call(
        metrics.density_coverage, x=points(), real=points(5) + 0.1, k=2
    ),
    "metrics.nearer_training": lambda: call(
        metrics.nearer_training, x=points(4), train=points() + 0.1, held_out=points() - 0.1
    ),
    "plotting.show_source": lambda: call(
        lambda objects: plotting.show_source(*listed(objects)), objects=(steps.ddim,)
    ),
    "plotting.ink": lambda: call(plotting.ink, colour="#e07b39"),
    "plotting.table": lambda: call(
        plotting.table, head=["name", "value"], rows=[["one", 1.0], ["two", 2.0]], digits=".3f"
    ),
    "plotting.density_over_time": lambda: call(
        plotting.density_over_time, ax=canvas(), log_prob=log_normal, extent=3.0, n=5
    ),
    "plotting.histogram": lambda: call(
        plotting.histogram,
        ax=canvas(),
        x=line(),
        bins=torch.linspace(-4, 4, 5),
        label="x",
        colour=plotting.RED,
    ),
    "plotting.Player": lambda: call(
        plotting.Player,
        series={"one": points(6).reshape(3, 2, 2)},
        times=times(),
        caption="points",
        alt="points",
        extent=2.0,
        choice="process",
        colours=(plotting.RED,),
    ),
}
"""A good call of every public callable: what to call, and its arguments by name."""


def argument_name(name: str) -> str:
    """The library's name of an argument; a trailing underscore keeps two apart here."""
    return name.rstrip("_")


# Bad values

ODD = [
    ("type: None", st.none()),
    ("type: text", st.sampled_from(["0.5", "", "a"])),
    ("type: list", st.sampled_from([[], [0.5], [None]])),
    ("type: dictionary", st.just({"x": 1})),
    ("type: complex number", st.just(0.5 + 1j)),
    ("type: object", st.builds(object)),
    ("type: class", st.just(sde.VPSDE)),
]


def bad_values(name: str, good: Any) -> list[tuple[str, st.SearchStrategy]]:
    """Kinds of bad values in place of a good one, each with how to draw one."""
    if isinstance(good, Tensor):
        return tensors(name, good)
    if isinstance(good, bool):
        return [*ODD, ("type: number", st.sampled_from([0, 1, 2.5]))]
    if isinstance(good, int | float):
        return numbers(good)
    odd = [kind for kind in ODD if not isinstance(good, str) or kind[0] != "type: text"]
    odd.append(("type: number", st.sampled_from([3, 0.5])))
    odd.append(("type: tensor", st.just(torch.tensor([0.5]))))
    if isinstance(good, laws.Law):
        return odd + bad_laws(good)
    if isinstance(good, sde.Instant):
        other = VP.at(0.9 if name == "s" else 0.1)
        return [*odd, ("value: other order", st.just(other))]
    if isinstance(good, tuple | list):
        return odd + sequences(good)
    if isinstance(good, str):
        others = ["", "nonsense", "../x"] + (["meta", "cuda:7"] if good == "cpu" else [])
        return [*odd, ("value: other text", st.sampled_from(others))]
    if isinstance(good, torch.dtype):
        others = [torch.int64, torch.bool, torch.complex64, torch.float8_e4m3fn]
        halves = [torch.float16, torch.bfloat16, torch.float32]
        return [
            *odd,
            ("dtype: not a float", st.sampled_from(others)),
            ("dtype: float", st.sampled_from(halves)),
        ]
    if isinstance(good, sde.SDE):
        return [*odd, ("type: callable", st.just(torch.sin))]
    if isinstance(good, nn.Module):
        return [*odd, ("type: callable", st.just(torch.sin))]
    if callable(good):
        return odd + callables(good)
    return odd


def tensors(name: str, good: Tensor) -> list[tuple[str, st.SearchStrategy]]:
    """In place of a tensor."""
    place = st.integers(0, max(0, good.numel() - 1))

    def put(value: float) -> st.SearchStrategy:
        def changed(i: int) -> Tensor:
            out = good.detach().clone().flatten()
            out[i] = value
            return out.reshape(good.shape)

        return place.map(changed)

    kinds = [
        *ODD,
        ("type: array", st.just(good.detach().numpy())),
        ("type: number", st.sampled_from([0.5, 1])),
        ("type: nested list", st.just(good.tolist())),
        ("dtype: bool", st.just(good.bool())),
        ("dtype: complex", st.just(good.to(torch.complex128))),
        ("device: meta", st.just(good.to("meta"))),
        ("shape: one more at the end", st.just(good[..., None])),
        ("shape: one more in front", st.just(good[None])),
        ("shape: two more in front", st.just(good[None, None])),
    ]
    if good.ndim:
        kinds += [
            ("shape: a scalar", st.just(good.flatten()[0])),
            ("shape: fewer dimensions", st.just(good[0])),
            ("shape: longer", st.just(torch.cat([good, good[:1]]))),
            ("shape: shorter", st.just(good[:-1])),
            ("empty", st.just(good[:0])),
        ]
    if good.ndim > 1:
        wider = torch.cat([good, good[..., :1]], -1)
        kinds += [("shape: wider", st.just(wider)), ("shape: narrower", st.just(good[..., :-1]))]
        kinds += [("empty events", st.just(good[..., :0]))]
    if good.is_floating_point():
        kinds += [
            ("dtype: integer", st.just(good.round().long())),
            ("dtype: half", st.just(good.half())),
            ("dtype: bfloat16", st.just(good.bfloat16())),
            ("dtype: single", st.just(good.float())),
            ("value: NaN", put(math.nan)),
            ("value: infinite", st.one_of(put(math.inf), put(-math.inf))),
        ]
        if name in ("t", "u", "ts", "times", "ratio", "weights", "variances", "extent", "std"):
            kinds += [("range: negative", st.floats(-9, -0.01).flatmap(put))]
        if name in ("t", "u", "ts"):
            kinds += [("range: above 1", st.floats(1.01, 99).flatmap(put))]
    elif good.dtype == torch.bool:
        kinds += [("dtype: integer", st.just(good.long())), ("dtype: single", st.just(good + 0.0))]
    else:
        kinds += [
            ("dtype: single", st.just(good.float())),
            ("label: negative", st.integers(-9, -1).flatmap(put)),
            ("label: too large", st.integers(11, 10**6).flatmap(put)),
            ("label: between", st.just(good + 0.5)),
        ]
    return kinds


def numbers(good: float) -> list[tuple[str, st.SearchStrategy]]:
    """In place of a number."""
    kinds = [
        *ODD,
        ("type: tensor", st.just(torch.tensor([good, good]))),
        ("type: array", st.just(np.array([good, good]))),
        ("type: bool", st.just(True)),
        ("value: NaN", st.just(math.nan)),
        ("value: infinite", st.sampled_from([math.inf, -math.inf])),
        ("range: negative", st.integers(-9, -1).map(type(good))),
        ("range: zero", st.just(type(good)(0))),
        ("dtype: 0-d tensor", st.just(torch.tensor(good))),
        ("dtype: numpy number", st.just(np.array(good)[()])),
    ]
    if isinstance(good, int):
        return [*kinds, ("type: fraction", st.floats(0.1, 0.9).map(lambda part: good + part))]
    return [*kinds, ("range: large", st.floats(1e3, 1e300))]


def sequences(good: Any) -> list[tuple[str, st.SearchStrategy]]:
    """In place of several values."""
    kind, members = type(good), list(good)
    kinds = [("empty", st.just(kind([])))]
    if isinstance(members[0], int):
        odd = [[0.5, *members[1:]], ["a", *members[1:]], [None, *members[1:]]]
        kinds += [
            ("type: members", st.sampled_from(odd).map(kind)),
            ("range: negative", st.integers(-9, -1).map(lambda n: kind([n, *members[1:]]))),
            ("range: zero", st.just(kind([0, *members[1:]]))),
            ("shape: one", st.just(kind(members[:1]))),
        ]
    else:
        others = [None, 0.5, "a", sde.VPSDE, torch.ones(1)]
        odd = st.sampled_from([other for other in others if type(other) is not type(members[0])])
        kinds += [("type: members", odd.map(lambda member: kind([*members, member])))]
        if isinstance(members[0], sde.Instant):
            kinds += [("value: other order", st.just(members[::-1]))]
            kinds += [("shape: one", st.just(members[:1]))]
        elif callable(members[0]):
            for name, strategy in callables(members[0]):
                kinds.append((name, strategy.map(lambda step: kind([step, *members[1:]]))))
    return kinds


def bad_laws(good: laws.Law) -> list[tuple[str, st.SearchStrategy]]:
    """Nodes and weights that are no law."""
    x, w = good
    bad = {
        "value: weights of sum 2": (x, 2 * w),
        "value: negative weights": (x, torch.cat([-w[:9], w[9:] + 2 * w[:9].sum() / len(w[9:])])),
        "value: zero weights": (x, 0 * w),
        "value: NaN weights": (x, w * math.nan),
        "value: NaN nodes": (x * math.nan, w),
        "value: decreasing nodes": (x.flip(0), w),
        "value: equal nodes": (0 * x, w),
        "shape: nodes of one dimension": (x[:, 0], w),
        "shape: points": (x.expand(-1, 2), w),
        "shape: weights of two dimensions": (x, w[:, None]),
        "shape: fewer weights": (x, w[1:] / w[1:].sum()),
        "empty": (x[:0], w[:0]),
        "type: lists": (x.tolist(), w.tolist()),
    }
    return [(kind, st.just(laws.Law(*parts))) for kind, parts in bad.items()]  # type: ignore


def callables(good: Callable) -> list[tuple[str, st.SearchStrategy]]:
    """The same function, but for what it returns."""

    def returning(change: Callable[[Any], Any]) -> st.SearchStrategy:
        def changed(*args: Any, **kwargs: Any) -> Any:
            out = good(*args, **kwargs)
            if isinstance(out, Iterator):
                return map(change, out)
            if isinstance(out, tuple) and not hasattr(out, "_fields"):
                return *out[:-1], change(out[-1])
            return change(out)

        return st.just(changed)

    changes = {
        "(B, 1)": lambda out: out.flatten(1)[:, :1] if out.ndim > 1 else out[..., None],
        "()": lambda out: out.sum() if out.ndim else out[None],
        "(1, *event)": lambda out: out[:1] if out.ndim else out[None, None],
        "(B,)": lambda out: out.flatten(1)[:, 0] if out.ndim > 1 else out[None],
        "(B, *event, 1)": lambda out: out[..., None],
        "None": lambda out: None,
        "a number": lambda out: 0.5,
        "an array": lambda out: out.detach().numpy(),
        "a list": lambda out: [out],
        "integers": lambda out: out.long(),
        "complex numbers": lambda out: out + 0j,
        "single precision": lambda out: out.float(),
        "NaN": lambda out: out * math.nan,
        "device meta": lambda out: out.to("meta"),
    }
    return [(f"returns: {kind}", returning(change)) for kind, change in changes.items()]


# What may come of a bad call without an error

ALLOWED = {
    "None is the default": [
        "learned.learn(n_steps): type: None",
        "learned.learn(batch): type: None",
        "learned.Model(net): type: None",
        "learned.learn(net): type: None",
        "learned.Model.sample(solver): type: None",
        "mixtures.GaussianMixture(axes): type: None",
        "networks.GaussianFourierFeatures(dim): type: None",
        "sde.SDE.at(x): type: None",
        "laws.sampler_law(start): type: None",
        "likelihood.solve_flow(divergence): type: None",
        "likelihood.log_likelihood(terminal): type: None",
        "training.expected(weight): type: None",
        "training.fit(optimizer): type: None",
        "training.fit(schedule): type: None",
        "training.fit(checkpoint): type: None",
        "training.ssm_error(v): type: None",
        "learned.ResidualScore(gain): type: None",
        "samplers.adams(order): type: None",
        "samplers.pilot(order): type: None",
        "samplers.Adams(order): type: None",
        "samplers.Adams(grid): type: None",
        "steps.*(noise): type: None",
        "samplers.*(noise): type: None",
        "plotting.histogram(label): type: None",
        "*(labels): type: None",
        "*(label): type: None",
        "*(device): type: None",
        "*(dtype): type: None",
        "*(generator): type: None",
        "*(grid): type: None",
        "*(batch_size): type: None",
    ],
    "states may be of any shape, and of any number, as may times": [
        "steps.*(x): *shape: *",
        "samplers.*(x): *shape: *",
        "samplers.reverse(ts): shape: shorter",
        "sde.SDE.path(ts): shape: shorter",
        "sde.SDE.prior_log_prob(x): shape: *",
        "sde.SDE.prior_sample(shape): *",
        "samplers.*(shape): *",
        "likelihood.*(x): shape: *",
        "likelihood.*(?): empty",
        "training.*(x0): shape: *",
        "mixtures.GaussianMixture.from_classes(x): shape: *",
        "learned.*(x): shape: *",
        "metrics.*: shape: *er",
        "data.digits(sizes): *",
        "learned.ResidualScore(data): shape: *er",
        "learned.Model.with_mixture(u): *: *",
    ],
    "a schedule's formulas hold for all times; instants are held to [0, 1], perturb as well": [
        "sde.*SDE.alpha(t): *",
        "sde.*SDE.sigma(t): *",
        "sde.*SDE.f(t): *",
        "sde.*SDE.g(t): *",
        "sde.VPSDE.*beta(t): *",
        "sde.SDE.drift(t): range: *",
    ],
    "a score does not look at its times: on a GPU each look would wait": [
        "*Score*(t): range: *",
        "learned.Model.score(t): range: *",
        "guidance.*(t): range: *",
        "guidance.*(t): value: infinite",
        "networks.*.forward(t): range: *",
        "score.exact_score(t): *: *",
        "*score(t): value: infinite",
        "score.translate(t): range: *",
        "score.grad_log(t): *: *",
        "score.checked(t): *: *",
    ],
    "times of half precision are as coarse as they are": ["*(t): dtype: half", "*(t): dtype: bf*"],
    "an infinite ratio is reached at the end, all mass lies before infinity": [
        "*.time_of(ratio): value: infinite",
        "*.cdf(x): value: infinite",
        "laws.Law.log_prob(x): value: infinite",
    ],
    "sums and products, as + and * do": ["steps.plus(?): *", "sde.like(?): *"],
    "noise like the states, wherever they are": ["sde.randn_like(x): device: meta"],
    "returned as it was given": ["samplers.steps_to(steps): *", "samplers.own_noise(*): *"],
    "a label is a number, a list or a tensor of integers, for one or for all": [
        "*(label): shape: *",
        "*(label): type: *list",
        "*(label): type: array",
        "*(label): type: number",
        "learned.Model(labels): label: *",
        "learned.learn(labels): label: *",
    ],
    "a weight or a gain may be one number": ["*(weight): returns: *", "*(gain): returns: *"],
    "a point is a law": ["laws.*(law): value: equal nodes", "laws.*(start): value: equal nodes"],
    "documented": [
        "samplers.edm(rho): value: infinite",
        "samplers.adams(reach): value: infinite",
        "samplers.Adams(*): *",
        "*(n): range: zero",
        "*(n_waves): range: zero",
        "*(n_labels): range: zero",
        "*(n_hints): range: zero",
        "*(pooled): range: zero",
        "*(noise): range: zero",
        "*(level_width): range: zero",
        "*(ema_decay): range: zero",
        "training.muon_and_adam(*): range: zero",
    ],
    "any number will do": [
        "*: range: large",
        "*(seed): range: *",
        "*(eta): range: *",
        "*(centre): range: *",
        "*(variance): range: *",
        "likelihood.solve_flow(t?): range: zero",
        "*.perturb*(alpha): *",
        "*.perturb*(sigma): *",
        "guidance.*(scale): range: *",
        "guidance.*(scale): type: number",
        "sde.SDE.at*(t): type: *",
        "sde.SDE.at(number)(t): range: zero",
        "samplers.pilot(grid)(n_steps): type: bool",
    ],
}
RANDOM = [
    "training.expected",
    "data.*",
    "*.rademacher",
    "*independent",
    "*low_discrepancy",
    "*perturb",
    "*randn_like",
]
"""Calls whose draws differ from dtype to dtype, so that only their shape can be compared."""


# What comes of it

OUTCOMES = {
    "named": "a typed error that names the argument",
    "partner": "a typed error that names the argument with which it does not agree",
    "right": "the right result",
    "allowed": "another result that is documented",
    "visible": "NaN or infinity, for NaN or infinity",
    "misnamed": "a typed error that names another argument",
    "obscure": "an obscure error",
    "silent": "silently wrong",
    "hang": f"no end within {SECONDS} seconds of computing",
}
GOOD = ("named", "partner", "right", "allowed", "visible")


class Hang(BaseException):
    """A call took too long."""


@contextmanager
def bounded(seconds: float) -> Iterator[None]:
    """Raise `Hang` in a block that takes longer."""

    def stop(*_: Any) -> None:
        raise Hang

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def called(function: Callable, arguments: dict[str, Any]) -> Any:
    """The result, an iterator's values as a list."""
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        out = function(**arguments)
        return list(itertools.islice(out, 100)) if isinstance(out, Iterator) else out


def numbers_of(result: Any) -> list[Tensor]:
    """The numbers that a result holds."""
    if isinstance(result, Tensor):
        return [result.detach().cpu()]
    if isinstance(result, nn.Module):
        return [value.detach() for value in result.state_dict().values()]
    if isinstance(result, mixtures.GaussianMixture | sde.SDE):
        return numbers_of(list(vars(result).values()))
    if isinstance(result, tuple | list):
        return [one for part in result for one in numbers_of(part)]
    if isinstance(result, bool | int | float | np.number):
        return [torch.as_tensor(result)]
    return []


def agree(result: Any, wanted: Any, kind: str, random: bool) -> bool:
    """Whether two results are equal within what the coarsest dtype can hold.

    Of another shape they may be where the bad value was: then what both have must be equal.
    """
    a, b = numbers_of(result), numbers_of(wanted)
    if type(result) is not type(wanted) or len(a) != len(b):
        return False
    scale = max(
        (y.double().abs().nan_to_num(0, 0, 0).max().item() for y in b if y.numel()), default=0
    )
    for x, y in zip(a, b):
        if x.device.type == "meta" or (x.shape != y.shape and not kind.startswith(RESHAPED)):
            return False
        if random:
            continue
        if x.shape != y.shape:
            x, y = in_common(x, y, kind)
        dtypes = [x.dtype] * x.is_floating_point() + [COARSE[k] for k in COARSE if k in kind]
        eps = max((torch.finfo(dtype).eps for dtype in dtypes), default=1e-16)
        rtol = 4 * eps**0.7
        if x.shape != y.shape or not torch.allclose(
            x.double(), y.double(), rtol, rtol * scale, equal_nan=True
        ):
            return False
    return True


PER_STATE = ("t", "c", "scale")
RESHAPED = ("shape", "empty")
COARSE = {"single": torch.float32, "half": torch.float16, "bfloat16": torch.bfloat16}


def in_common(x: Tensor, y: Tensor, kind: str) -> tuple[Tensor, Tensor]:
    """What two results of unlike shapes should agree in, if a row depends on its row alone."""
    if "one more" in kind or "two more" in kind:
        return x.flatten(), y.flatten()
    if "scalar" in kind or "fewer" in kind:
        while y.ndim > x.ndim:
            y = y[0]
        return x, y
    corner = tuple(slice(min(m, n)) for m, n in zip(x.shape, y.shape))
    changed = x.shape[1:] != y.shape[1:] if "events" not in kind and "er" in kind[7:] else False
    if x.ndim != y.ndim or (changed and x.shape[:-1] != y.shape[:-1]):
        return x, y
    return x[corner], y[corner]


def is_allowed(case: str, reasons: dict[str, list[str]] = ALLOWED) -> bool:
    """Whether there is a reason for a result of that call."""
    return any(fnmatch.fnmatchcase(case, one) for patterns in reasons.values() for one in patterns)


def outcome(label: str, argument: str, kind: str, value: Any) -> tuple[str, str]:
    """What comes of that bad value there, and what it said."""
    function, arguments = CALLS[label]()
    others = [argument_name(other) for other in arguments if other != argument]
    name, case = argument_name(argument), f"{label}({argument}): {kind}"
    if is_allowed(case, {"": ALLOWED["None is the default"]}):
        return "allowed", ""
    try:
        with bounded(SECONDS):
            result = called(function, arguments | {argument: value})
    except Hang:
        return "hang", ""
    except Exception as error:
        return judged_error(error, name, others, kind)
    if is_allowed(case):
        return "allowed", ""
    try:
        found = numbers_of(result)
        infinite = any(v.is_floating_point() and not v.isfinite().all() for v in found)
    except Exception as error:
        return "silent", repr(error)
    if infinite and ("NaN" in kind or "infinite" in kind):
        return "visible", ""
    function, arguments = CALLS[label]()
    good = arguments[argument]
    if isinstance(value, Tensor) and isinstance(good, Tensor):
        if kind.startswith("dtype"):  # what the value holds, in double precision
            arguments[argument] = value.to(good)
        elif value.ndim == 0 and good.ndim == 1 and name in PER_STATE:
            arguments[argument] = value.expand(good.shape)
    random = any(fnmatch.fnmatchcase(label, pattern) for pattern in RANDOM)
    right = agree(result, called(function, arguments), kind, random)
    return ("right" if right else "silent"), str(result)


def judged_error(error: Exception, name: str, others: list[str], kind: str) -> tuple[str, str]:
    """What an error is worth, and what it said."""
    frames = traceback.extract_tb(error.__traceback__)
    said, ours = f"{type(error).__name__}: {error}", "/sdelib/" in frames[-1].filename
    if isinstance(error, FloatingPointError) and ours:
        return ("named" if "NaN" in kind or "inf" in kind else "misnamed"), said
    typed = isinstance(error, ValueError | TypeError) and ours
    subject, must, rest = str(error).partition(" must ")
    if not typed or not must or ", got" not in rest:
        where = f"{Path(frames[-1].filename).name}:{frames[-1].lineno} "
        return "obscure", where + said
    if named(name, subject):
        return "named", said
    fits_no_other = kind.startswith(("shape", "empty", "range", "value", "dtype"))
    if fits_no_other and any(named(other, subject) for other in others):
        return "partner", said
    return "misnamed", said


def named(name: str, words: str) -> bool:
    """Whether a name is among the words."""
    return re.search(rf"(?<!\w){re.escape(name)}(?!\w)", words) is not None


@st.composite
def bad_calls(draw: st.DrawFn) -> tuple[str, str, str, Any]:
    """A public callable, one of its arguments, a kind of bad value, and one."""
    label = draw(st.sampled_from(sorted(CALLS)))
    _, arguments = CALLS[label]()
    argument = draw(st.sampled_from(sorted(arguments)))
    kind, values = draw(st.sampled_from(bad_values(argument_name(argument), arguments[argument])))
    return label, argument, kind, draw(values)


def campaign(n: int) -> list[tuple[str, str, str]]:
    """``n`` bad calls: what each was, what came of it and what was said."""
    found = []

    @settings(
        max_examples=n,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(bad_calls())
    def collect(case: tuple[str, str, str, Any]) -> None:
        label, argument, kind, value = case
        found.append((f"{label}({argument}): {kind}", *outcome(*case)))

    collect()
    return found


def table(found: list[tuple[str, str, str]]) -> str:
    """What came of the calls, as a page."""
    counts, total = Counter(name for _, name, _ in found), len(found)
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "numpy", "hypothesis"))
    n_arguments = sum(len(make()[1]) for make in CALLS.values())
    rows = [
        f"| {said} | {counts[name]} | {counts[name] / total:.2%} |"
        for name, said in OUTCOMES.items()
    ]
    return f"""# Bad calls

{total} calls, each with one bad argument out of the {n_arguments} in {len(CALLS)} good calls of all
public callables of sdelib {sdelib.__version__}; {versions}; {date.today()}.
Written by `make bad-calls`.

| what came of it | calls | share |
|---|---|---|
{chr(10).join(rows)}
"""


def main(n: str = "5000") -> None:
    """Run the campaign and store its table."""
    torch.set_default_dtype(torch.float64)
    for make in CALLS.values():  # the first of a kind may load a part of torch
        called(*make())
    found = campaign(int(n))
    for case, name, said in sorted(set(found), key=lambda one: one[1]):
        if name not in GOOD:
            print(f"{name}: {case}: {' '.join(said.split())[:120]}")
    print(table(found))
    RESULTS.write_text(table(found), encoding="utf-8", newline="\n")
    sys.exit(any(name not in GOOD for _, name, _ in found))


if __name__ == "__main__":
    main(*sys.argv[1:2])
