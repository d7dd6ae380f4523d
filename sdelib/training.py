r"""Training: three errors with the score as their minimiser, a loop around any loss, and its file.

Denoising score matching (Vincent 2011; Song et al. 2021, Eq. 7) regresses on the kernel's score,
:math:`\nabla_{x_t} \log p(x_t \mid x_0) = -z / \sigma(t)` at
:math:`x_t = \alpha(t) x_0 + \sigma(t) z`. Implicit score matching (Hyvarinen 2005) replaces the
unknown score by the divergence of the score on trial, at ``d`` derivative passes a batch; sliced
score matching (Song et al. 2020) estimates that divergence along one random direction, in one pass.

Each error belongs to one datum, time and noise. :func:`expected` draws independent ones;
:func:`quasi_random`, :func:`log_normal_times` and :func:`edm_weight` make up a better recipe, with
:func:`falling` rates.
"""

import glob
import hashlib
import json
import math
import os
import secrets
import shutil
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import safetensors.torch
import torch
from torch import Tensor, distributed, nn
from torch.optim import LBFGS, Adam, AdamW, Muon, Optimizer
from torch.optim.lr_scheduler import LinearLR, LRScheduler, ReduceLROnPlateau
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.quasirandom import SobolEngine

from ._checks import (
    require,
    require_finite,
    require_like,
    require_shape,
    require_states,
    require_tensor,
    require_times,
    require_type,
    tqdm,
)
from ._guard import at_least_single, bare, bare_or, guard, returns_numbers
from .score import Score, checked
from .sde import SDE, like, randn_like

Times = Callable[[Tensor, torch.Generator | None], Tensor]
"""``times(x0, generator) -> u``: one uniform number in [0, 1) for each datum, shape ``(B,)``."""
Source = torch.Generator | SobolEngine
"""What a loss may draw from, besides torch's default generator."""


def dsm_error(score: Score, sde: SDE, x0: Tensor, t: Tensor, z: Tensor) -> Tensor:
    r"""The denoising error :math:`\lVert \sigma(t)\, s(x_t, t) + z \rVert^2`, shape ``(B,)``.

    It is :math:`\sigma(t)^2` times the squared distance from the score to its target
    :math:`-z/\sigma(t)`. Whoever chooses ``t`` and ``z`` chooses the variance of training.

    Args:
        score: The score to be judged, usually a network.
        sde: The SDE whose score it is to be.
        x0: Data, shape ``(B, *event)``.
        t: Times in [0, 1], shape ``()`` or ``(B,)``.
        z: Standard normal noise, shaped like ``x0``.

    Raises:
        ValueError: if ``t``, ``z`` or the score's value has another shape, or ``t`` other values.
        TypeError: if one of them is not a floating-point tensor.
    """
    require_like("z", z, x0)
    alpha, sigma = like(sde.alpha(t), x0), like(sde.sigma(t), x0)
    s = checked(score)(alpha * x0 + sigma * z, t)
    return (sigma * s + z).flatten(1).square().sum(1)


def ism_error(score: Score, sde: SDE, x0: Tensor, t: Tensor, z: Tensor) -> Tensor:
    r"""The implicit error :math:`\sigma^2 (\lVert s \rVert^2 + 2 \nabla \cdot s)` at :math:`x_t`.

    Arguments, shape and errors are those of :func:`dsm_error`, which in the mean over ``x0`` and
    ``z`` is larger by ``d`` (Hyvarinen 2005, Theorem 1, at each noise level), for every score with
    finite :math:`E\lVert s \rVert^2` and :math:`E\lvert \nabla \cdot s \rvert`.
    The divergence takes one derivative pass for each of the ``d`` entries of a state; each row of
    the score must be a function of the same row of ``x``, differentiable by autograd.
    """
    graph, x_t = torch.is_grad_enabled(), sde.diffuse(x0, t, z)
    with torch.enable_grad():
        x_t.requires_grad_()
        s = checked(score)(x_t, t.to(x_t))
        divergence = torch.zeros_like(s.flatten(1)[:, 0])
        for i, column in enumerate(s.flatten(1).unbind(1)):
            row = torch.autograd.grad(column.sum(), x_t, create_graph=graph, retain_graph=True)[0]
            divergence = divergence + row.flatten(1)[:, i]
    return like(sde.sigma(t), divergence) ** 2 * (s.flatten(1).square().sum(1) + 2 * divergence)


def ssm_error(
    score: Score, sde: SDE, x0: Tensor, t: Tensor, z: Tensor, v: Tensor | None = None
) -> Tensor:
    r"""The sliced error :math:`\sigma^2 (\lVert s \rVert^2 + 2 v^\top \nabla (v^\top s))`.

    Arguments, shape and errors are those of :func:`dsm_error`; one derivative pass in any
    dimension. This is the variance-reduced form of Song et al. (2020), with the full first term.

    Args:
        v: Probes shaped like ``x0``, with :math:`E[v v^\top] = I` and independent of the data and
            the noise: the mean over them is :func:`ism_error`. By default random signs, which have
            less variance than normal numbers.
    """
    v = randn_like(x0).sign() if v is None else v
    require_like("v", v, x0)
    graph, x_t = torch.is_grad_enabled(), sde.diffuse(x0, t, z)
    with torch.enable_grad():
        x_t.requires_grad_()
        s = checked(score)(x_t, t.to(x_t))
        row = torch.autograd.grad((v * s).sum(), x_t, create_graph=graph)[0]
    slope = (v * row).flatten(1).sum(1)
    return like(sde.sigma(t), slope) ** 2 * (s.flatten(1).square().sum(1) + 2 * slope)


# How a batch is drawn


def independent(x0: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Independent uniform numbers in [0, 1), one for each datum, shape ``(B,)``."""
    return torch.rand(len(x0), generator=generator, dtype=x0.dtype, device=x0.device)


def low_discrepancy(x0: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """One uniform number in each of ``B`` equal slices of [0, 1), in random order, shape ``(B,)``.

    Each is uniform over that order. The times of a batch then cover the interval evenly, which
    takes the variance between slices out of the loss (stratified sampling; Kingma et al. 2021,
    App. I.1, shift one grid instead).
    """
    slices = torch.randperm(len(x0), generator=generator, device=x0.device)
    within = independent(x0, generator)
    exact = torch.promote_types(within.dtype, torch.float32)  # half precision cannot count
    u = ((slices + within.to(exact)) / max(len(x0), 1)).to(within)
    return u.clamp(max=1 - torch.finfo(u.dtype).eps / 2)  # the last may have been rounded up to 1


def expected(
    error: Callable[[Score, SDE, Tensor, Tensor, Tensor], Tensor],
    score: Score,
    sde: SDE,
    x0: Tensor,
    weight: Callable[[Tensor], Tensor] | None = None,
    t_min: float = 1e-3,
    generator: torch.Generator | None = None,
    times: Times = independent,
) -> Tensor:
    r"""One unbiased draw of the weighted mean of an error over times and noise, a scalar.

    For :func:`dsm_error` it is the loss

    .. math::
        E_{t \sim U[t_{\min}, 1]}\, \lambda(t)\,
        E\, \lVert s(x_t, t) - \nabla \log p(x_t \mid x_0) \rVert^2 .

    Its minimiser is the score of the diffused data; its minimum is not zero.

    Args:
        error: :func:`dsm_error`, :func:`ism_error` or :func:`ssm_error`. With the same generator
            all meet the same times and noise.
        score: The score to be judged, usually a network.
        sde: The SDE whose score it is to be.
        x0: A batch of data, shape ``(B, *event)``.
        weight: :math:`\lambda(t)`, by default :math:`\sigma(t)^2`: proportional to the inverse of
            the target's mean square, as the paper suggests. ``lambda t: sde.g(t) ** 2`` is the
            likelihood weighting.
        t_min: Smallest time, inside (0, 1); at 0 the target is infinite.
        generator: Source of the times and the noise.
        times: How the ``B`` times fill the interval: :func:`independent` or
            :func:`low_discrepancy`.

    Raises:
        ValueError: if ``t_min`` lies outside (0, 1), ``x0`` is empty or holds NaN or infinity, or
            a callable returns another shape than it should.
    """
    require(0 < t_min < 1, "t_min", t_min, "inside (0, 1)")
    require_finite("x0", x0)
    require(len(x0) > 0, "x0", "an empty batch", "at least one datum")
    t = t_min + (1 - t_min) * times(x0, generator).to(x0)
    z = randn_like(x0, generator)
    if error is ssm_error:  # its probes come from the generator too
        error = partial(ssm_error, v=randn_like(x0, generator).sign())
    t = at_least_single(t, "t")
    errors = bare(error)(score, sde, x0, t, z)
    require_like("error(score, sde, x0, t, z)", errors, t)
    if weight is not None:  # the errors carry the weight sigma^2 already
        errors = weight(t).to(t) / sde.sigma(t) ** 2 * errors
    return errors.mean()


def quasi_random(cube: SobolEngine, n_points: int, batch: int) -> tuple[Tensor, Tensor, Tensor]:
    """Draw data, times and noise that fill the unit cube more evenly than independent ones.

    Neighbours in the cube should be neighbours in the data, so sort those by a coordinate.

    Args:
        cube: ``SobolEngine(2 + d, scramble=True, seed=...)`` (Sobol 1967; Owen 1998); with
            ``d = 0`` the noise is left to the caller.
        n_points: Number of data.
        batch: Number of draws, ``B``.

    Returns:
        ``(i, u, z)``: indices of data ``(B,)``, uniform numbers inside (0, 1) ``(B,)``, and
        standard normal numbers ``(B, d)``.

    Raises:
        ValueError: if there are no data, no draws, or fewer than two dimensions.
    """
    require(cube.dimension >= 2, "cube", f"{cube.dimension} dimension", "of two dimensions or more")
    require(n_points >= 1, "n_points", n_points, "at least 1")
    require(batch >= 1, "batch", batch, "at least 1")
    u = cube.draw(batch)
    i = (n_points * u[:, 0]).long().clamp(max=n_points - 1)  # single precision may round u to 1
    u = u.clamp(_EDGE, 1 - _EDGE)
    return i, u[:, 1], torch.special.ndtri(u[:, 2:])


_EDGE = 1e-6  # as near to 0 and 1 as a uniform number may come, for its normal one to be finite


def log_normal_times(
    sde: SDE, u: Tensor, centre: float = -0.9, spread: float = 1.2, t_min: float = 1e-3
) -> Tensor:
    r"""Times whose noise-to-signal ratio :math:`\sigma/\alpha` is log-normal, shaped like ``u``.

    .. math:: \log(\sigma/\alpha) = \mathrm{centre} + \mathrm{spread}\; \Phi^{-1}(u)

    Training dwells where there is something to learn (Karras et al. 2022, Sec. 5).

    Args:
        sde: The SDE that says at which time the ratio is reached.
        u: Uniform numbers in [0, 1], shape ``(B,)``.
        centre: Mean of the ratio's logarithm, for data of about unit variance.
        spread: Standard deviation of the ratio's logarithm.
        t_min: Smallest time, in (0, 1), given to all smaller ratios.

    Raises:
        ValueError: if ``u`` lies outside [0, 1], ``spread`` is not positive, or ``t_min`` lies
            outside (0, 1).
    """
    require_times(u, "u")  # the same range
    require(0 < spread < math.inf, "spread", spread, "positive and finite")
    require(math.isfinite(centre), "centre", centre, "finite")
    require(0 < t_min < 1, "t_min", t_min, "inside (0, 1)")
    u = u.clamp(_EDGE, 1 - _EDGE)
    return sde.time_of((centre + spread * torch.special.ndtri(u)).exp()).clamp(min=t_min)


def edm_weight(sde: SDE, t: Tensor, variance: float | Tensor = 1.0) -> Tensor:
    r"""A weight for :func:`dsm_error` that is even over noise levels, shaped like ``t``.

    .. math:: v + (\sigma/\alpha)^2

    The product is the squared error of the denoised datum, in units of what a Gaussian of variance
    :math:`v` would leave unknown, times :math:`v` (Karras et al. 2022, Sec. 5 and Table 1).

    Args:
        sde: The SDE.
        t: Times inside [0, 1], shape ``()`` or ``(B,)``.
        variance: The variance :math:`v` of the data.
    """
    if isinstance(variance, Tensor) and variance.ndim:
        require_like("variance", variance, t)
    return variance + (sde.sigma(t) / sde.alpha(t)) ** 2


# The loop


def falling(optimizers: Optimizer | Sequence[Optimizer], n_steps: int) -> list[LRScheduler]:
    """Schedules that let each rate fall linearly to 0 over ``n_steps``, for :func:`fit`.

    This averages away the noise of the last steps.
    """
    several = _listed("optimizers", optimizers, Optimizer, "torch optimizers")
    require(n_steps >= 1, "n_steps", n_steps, "at least 1")
    return [LinearLR(optimizer, 1.0, 0.0, n_steps) for optimizer in several]


def muon_and_adam(
    net: nn.Module, rate_muon: float = 0.02, rate_adam: float = 3e-3, weight_decay: float = 0.1
) -> list[Optimizer]:
    """Muon (Jordan et al. 2024) for the matrices of the hidden layers, AdamW for all the rest.

    Muon's every step is nearly an orthogonal matrix. The first and the last layer, known by their
    names ``enter`` and ``leave`` as in :class:`~sdelib.networks.UNet`, and embeddings are not for
    it.

    Raises:
        ValueError: if there is no hidden matrix, or nothing else.
    """
    rates = {"rate_muon": rate_muon, "rate_adam": rate_adam, "weight_decay": weight_decay}
    for name, value in rates.items():
        require(value >= 0, name, value, "at least 0")
    embeddings = {m.weight for m in net.modules() if isinstance(m, nn.Embedding)}
    hidden, rest = [], []
    for name, p in net.named_parameters():
        inner = p.ndim == 2 and p not in embeddings and not {"enter", "leave"} & {*name.split(".")}
        (hidden if inner else rest).append(p)
    found, wanted = f"{len(hidden)} and {len(rest)}", "one with hidden matrices and others"
    require(bool(hidden and rest), "net", found, wanted)
    muon = Muon(hidden, lr=rate_muon, weight_decay=weight_decay)
    return [muon, AdamW(rest, lr=rate_adam, betas=(0.9, 0.99), weight_decay=weight_decay)]


def fit(
    net: nn.Module,
    loss: Callable[[nn.Module], Tensor],
    n_steps: int,
    optimizer: Optimizer | Sequence[Optimizer] | None = None,
    schedule: LRScheduler | Sequence[LRScheduler] | None = None,
    ema_decay: float = 0.0,
    progress: bool = True,
    checkpoint: "Checkpoint | None" = None,
) -> Tensor:
    """Minimise ``loss(net)`` in place.

    Args:
        net: The network; on return it holds the averaged weights if ``ema_decay > 0``.
        loss: Draws a scalar loss afresh at each call, minibatch included.
        n_steps: Number of steps. A fixed number, not a time, makes a run repeatable.
        optimizer: By default Adam at a rate of 5e-3 that falls linearly to 0. Several share the
            work when each has some of the parameters: Muon takes the matrices of hidden layers
            only.
        schedule: Learning-rate schedule of that optimizer, or one for each, stepped once a step;
            by default the rates of a given optimizer stay constant.
        ema_decay: Decay of the exponential moving average of the weights, in [0, 1).
        progress: Show a progress bar.
        checkpoint: Where to keep the state, and go on from if it is there already; nothing is kept
            if ``None``.

    Returns:
        The loss at each step, shape ``(n_steps,)``, steps before an interruption included.

    Raises:
        ValueError: if a number lies outside its range, the optimizers have no parameter of the
            network, a schedule is of another optimizer, ``loss(net)`` is not a scalar with a
            gradient, or the checkpoint holds another run.
        TypeError: if an argument has another type, such as an optimizer that needs a closure or a
            schedule that needs the loss.
        FloatingPointError: if the loss stops being finite.
    """
    require(n_steps >= 1, "n_steps", n_steps, "at least 1")
    require(0 <= ema_decay < 1, "ema_decay", ema_decay, "in [0, 1)")
    trained = [p for p in net.parameters() if p.requires_grad]
    require(bool(trained), "net", "one without", "a module with parameters that require gradients")
    if optimizer is None:
        require(schedule is None, "schedule", "one", "None where the optimizer is not given")
        fused = all(p.device.type in ("cpu", "cuda") and p.is_floating_point() for p in trained)
        optimizer = Adam(trained, lr=5e-3, betas=(0.9, 0.99), fused=fused)
        schedule = falling(optimizer, n_steps)
    optimizers, schedules = _steppers(optimizer, schedule, trained)
    average = (
        AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(ema_decay)) if ema_decay else None
    )
    run = Run(net, optimizers, schedules, ema_decay, average)
    if checkpoint:
        checkpoint.begin(run, n_steps)
    history = run.history
    steps = range(len(history), n_steps)
    if progress:
        steps = tqdm(steps, desc="training", initial=len(history), total=n_steps)
    for i in steps:
        for part in optimizers:
            part.zero_grad()
        value = loss(net)
        _require_loss(value)
        value.backward()
        for part in (*optimizers, *schedules):
            part.step()
        if average:
            average.update_parameters(net)
        history.append(value.detach())
        last = i + 1 == n_steps
        keep = checkpoint and ((i + 1) % checkpoint.every == 0 or last)
        # reading the loss waits for the device, so only now and then, and before it can spoil the
        # last good file
        if (i + 1) % 100 == 0 or last or keep:
            recent = torch.stack(history[-100:]).mean().item()
            if not math.isfinite(recent):
                raise FloatingPointError(
                    f"the loss became {recent} within the 100 steps before step {i + 1}"
                )
            if isinstance(steps, tqdm):
                steps.set_postfix(loss=f"{recent:.4f}")
        if checkpoint and keep:
            checkpoint.write(run)
    if average:
        net.load_state_dict(average.module.state_dict())
    return torch.stack(history)


def _steppers(optimizer: Any, schedule: Any, trained: Sequence[Tensor]) -> tuple[list, list]:
    """What :func:`fit` steps, as checked lists."""
    optimizers = _listed("optimizer", optimizer, Optimizer, "torch optimizers")
    schedule = [] if schedule is None else schedule
    schedules = _listed("schedule", schedule, LRScheduler, "torch schedules of the learning rate")
    require(bool(optimizers), "optimizer", "none", "at least one")
    for one in optimizers:
        if isinstance(one, LBFGS):
            raise TypeError("optimizer must be one that needs no closure, got LBFGS")
        ours = any(p is q for group in one.param_groups for p in group["params"] for q in trained)
        require(ours, "optimizer", f"{type(one).__name__} of others", "of parameters of net")
    for one in schedules:
        if isinstance(one, ReduceLROnPlateau):
            raise TypeError("schedule must be one of the step alone, got ReduceLROnPlateau")
        ours = any(one.optimizer is other for other in optimizers)
        require(ours, "schedule", f"{type(one).__name__} of another", "of a given optimizer")
    return optimizers, schedules


def _listed(name: str, value: Any, kind: Any, allowed: str) -> list:
    """One object or several of that kind, as a list."""
    several = list(value) if isinstance(value, list | tuple) else [value]
    for one in several:
        require_type(name, one, kind, allowed)
    return several


def _require_loss(value: Tensor) -> None:
    require_tensor("loss(net)", value)
    if value.ndim:
        require(False, "loss(net)", f"shape {tuple(value.shape)}", "a scalar")
    require(value.requires_grad, "loss(net)", "a number without gradient", "a function of net")


# The file of an unfinished run


@dataclass
class Run:
    """What changes during a run."""

    net: nn.Module
    optimizers: list[Optimizer]
    schedules: list[LRScheduler]
    ema_decay: float
    average: AveragedModel | None
    history: list[Tensor] = field(default_factory=list)


_STARTS: WeakKeyDictionary[nn.Module, dict[Path, str]] = WeakKeyDictionary()
"""What each network was before its first run with a file, to know it again half trained."""


@dataclass
class Checkpoint:
    """Where and how often :func:`fit` keeps the state of a run, in one safetensors file.

    A run that finds its own file goes on from there and ends as it would have without the
    interruption, bit for bit on the same machine, when it is started by the same code: the file
    holds what training changes (weights, their average, what optimizers remember, losses, random
    streams), and not data, rates or schedules. It refuses a network that began otherwise or holds
    other data in its buffers. A run may be prolonged: rates are those now given, and schedules are
    brought to the step reached, so a rate that had fallen to 0 jumps up to what the longer fall has
    there.

    The weights, averaged if an average is kept, lie under their own names, all else under ``run/``:
    ``net.load_state_dict(safetensors.torch.load_file(path), strict=False)`` reads them. Reading
    executes nothing, and writing is atomic: a reader finds the old state or the new one.

    Every draw of the loss must come from torch's default generator (of the CPU, and of the current
    GPU) or from ``sources``; Python's and numpy's generators are not kept. Of several processes
    only the first one writes, and all read, so they should draw alike: see
    ``tools/train_digits.py``.

    Args:
        path: The file, in a folder that exists. A symbolic link is followed.
        every: Number of steps from one writing to the next; start and end are written in any case.
        sources: The generators and Sobol engines that the loss draws from, always in the same
            order.
        settings: What tells this run from another, as JSON values: rate, batch size, width. A file
            with others is refused.

    Raises:
        ValueError: if ``every < 1`` or ``path`` cannot be a file.
        TypeError: if ``settings`` are not JSON values or ``sources`` are others.
    """

    path: str | os.PathLike
    every: int = 1000
    sources: Sequence[Source] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    _file: Path = field(init=False, repr=False)

    def __post_init__(self):
        require(self.every >= 1, "every", self.every, "at least 1")
        self.sources = _listed("sources", self.sources, Source, "torch generators, Sobol engines")
        require_type("settings", self.settings, Mapping, "a dictionary")
        try:
            json.dumps(dict(self.settings), sort_keys=True)
        except (TypeError, ValueError) as error:
            raise TypeError(f"settings must be JSON values, got {self.settings}: {error}") from None
        kinds: Any = str | os.PathLike
        require_type("path", self.path, kinds, "a path")
        self._file = Path(os.path.realpath(Path(self.path).expanduser()))
        require(self._file.parent.is_dir(), "path", self.path, "in a folder that exists")
        require(not self._file.is_dir(), "path", self.path, "a file, not a folder")

    def begin(self, run: Run, n_steps: int) -> None:
        """Bring ``run`` and the random streams to where the file left them, or begin a file.

        Raises:
            ValueError: if the file is damaged, holds anything else, another run or a longer one.
            OSError: if the file cannot be read or written.
        """
        starts = _STARTS.setdefault(run.net, {})
        starts.setdefault(self._file, _digest(_copies(run.net.state_dict())))
        if not self._file.exists():
            self.write(run)
            return
        tensors, state = self._read()
        for name, wanted in self._identity(run).items():
            found = state["identity"][name]
            require(found == wanted, f"{name} in {self.path}", found, wanted)
        done = len(tensors["run/history"])
        require(n_steps >= done, "n_steps", n_steps, f"at least the {done} in {self.path}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that no optimizer has made a step
            for schedule in run.schedules:
                start = getattr(schedule, "last_epoch", 0)
                require(start == 0, "schedule", f"one at step {start}", "new, to go on with a run")
                for _ in range(done):
                    schedule.step()
        names, prefix = list(run.net.state_dict()), "run/net/" if run.average else ""
        if run.average:
            kept = {f"module.{name}": tensors[name] for name in names}
            run.average.load_state_dict({"n_averaged": torch.tensor(done), **kept})
        run.net.load_state_dict({name: tensors[prefix + name] for name in names})
        for optimizer, memory in zip(run.optimizers, state["optimizers"]):
            optimizer.load_state_dict({**optimizer.state_dict(), "state": memory})
        run.history[:] = tensors["run/history"].to(next(run.net.parameters()).device)
        torch.set_rng_state(state["cpu"])
        if state["gpu"] is not None and torch.cuda.is_available():
            torch.cuda.set_rng_state(state["gpu"])
        for source, saved in zip(self.sources, state["sources"]):
            if isinstance(source, torch.Generator):
                source.set_state(saved)
            else:
                source.reset()
                if saved:  # by 0 it cannot be forwarded
                    source.fast_forward(saved)

    def write(self, run: Run) -> None:
        """Save the present state of ``run`` and the random streams."""
        # a torch built without torch.distributed has no is_initialized
        together = distributed.is_available() and distributed.is_initialized()
        if together and distributed.get_rank():
            return
        tensors = _copies((run.average.module if run.average else run.net).state_dict())
        if run.average:
            tensors |= _copies(run.net.state_dict(), "run/net/")
        losses = torch.stack(run.history) if run.history else torch.zeros(0)
        tensors |= _copies({"run/history": losses})

        def put_aside(value: Any) -> dict[str, str]:
            place = f"run/{len(tensors)}"
            tensors.update(_copies({place: value}))
            return {"tensor": place}

        state = {
            "identity": self._identity(run),
            "optimizers": [optimizer.state_dict()["state"] for optimizer in run.optimizers],
            "cpu": torch.get_rng_state(),
            "gpu": torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None,
            "sources": [
                source.get_state() if isinstance(source, torch.Generator) else source.num_generated
                for source in self.sources
            ],
        }
        tree = json.dumps(state, default=put_aside)
        header = {"run": json.dumps([_digest(tensors, tree), tree])}
        _replace(self._file, safetensors.torch.save(tensors, header))

    def _identity(self, run: Run) -> dict[str, str]:
        """What stays the same when a run goes on, as text, in which NaN equals NaN."""
        sizes = [sum(len(g["params"]) for g in one.param_groups) for one in run.optimizers]
        kinds = [f"{type(one).__name__} of {n}" for one, n in zip(run.optimizers, sizes)]
        return {
            "settings": json.dumps(dict(self.settings), sort_keys=True),
            "ema_decay": str(run.ema_decay),
            "optimizers": ", ".join(kinds),
            "sources": ", ".join(type(source).__name__ for source in self.sources),
            "network and data at the start": _STARTS[run.net][self._file],
        }

    def _read(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The tensors and the rest, from bytes read once: never half of two states."""
        data = self._file.read_bytes()

        def put_back(value: dict) -> Any:  # JSON has no keys that are numbers
            if value.keys() == {"tensor"}:
                return tensors[value["tensor"]]
            return {int(key) if key.isdigit() else key: item for key, item in value.items()}

        try:
            tensors = safetensors.torch.load(data)
            header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
            digest, tree = json.loads(header["__metadata__"]["run"])
            if digest != _digest(tensors, tree):
                raise ValueError("its bytes have changed")
            return tensors, json.loads(tree, object_hook=put_back)
        except Exception as error:  # whatever a foreign or a damaged file may lead to
            wanted = "a whole file that fit wrote"
            raise ValueError(f"path must be {wanted}, got {self.path}: {error!r}") from error


def _copies(state: Mapping[str, Any], prefix: str = "") -> dict[str, Tensor]:
    """The tensors of a state as safetensors takes them: on the CPU, none sharing memory."""
    for name, value in state.items():
        if not isinstance(value, Tensor) or value.layout != torch.strided or value.is_complex():
            kind = f"{value.layout}, {value.dtype}" if isinstance(value, Tensor) else type(value)
            raise TypeError(f"{prefix}{name} must be a dense tensor of real numbers, got {kind}")
    layout = torch.contiguous_format
    return {prefix + k: v.detach().cpu().clone(memory_format=layout) for k, v in state.items()}


def _digest(tensors: dict[str, Tensor], text: str = "") -> str:
    return hashlib.sha256(safetensors.torch.save(tensors) + text.encode()).hexdigest()


def _replace(path: Path, data: bytes) -> None:
    """Write the file in one stroke, by way of one whose name no other writer has."""
    for stale in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):  # a killed run leaves one
        with suppress(FileNotFoundError):
            if time.time() - stale.stat().st_mtime > 3600:
                stale.unlink()
    beside = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        with open(beside, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())  # or the name might reach the disk first
        with suppress(FileNotFoundError):  # there is no old file
            shutil.copymode(path, beside)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def _one_a_datum(times: Times, name: str) -> Times:
    """A border: the function, refusing values that are not in [0, 1], one for each datum."""
    if not callable(times):
        return times

    def looked_at(x0: Tensor, generator: torch.Generator | None = None) -> Tensor:
        u = times(x0, generator)
        require_times(u, "times(x0, generator)")
        require_shape("times(x0, generator)", u, len(x0))
        return u

    return looked_at


def _within_0_and_1(t: Tensor, name: str) -> Tensor:
    require_times(t, name)
    return at_least_single(t, name)  # on the way to a coefficient, half precision may overflow


def _batch(x: Tensor, name: str) -> Tensor:
    require_states(name, x)
    return x


guard(
    __name__,
    x0=_batch,
    t=_within_0_and_1,
    u=at_least_single,
    times=bare_or(_one_a_datum),
    weight=returns_numbers,
    # looked at where they are used, more closely than by type
    **dict.fromkeys(("optimizer", "schedule", "optimizers", "sources", "path", "settings")),
)
