r"""Samplers: a solver walks a path of instants, from noise to data.

A *solver* is a function ``solver(score, x, path, noise)`` that yields the state after each interval
of the path. :func:`walk` makes one of steps (:mod:`sdelib.steps`); multistep solvers are loops of
their own, with a memory of earlier values. A *grid* ``grid(sde, n_steps, t_min)`` says where the
steps are taken; a solver may bring its own.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache, partial, wraps
from inspect import isgeneratorfunction, signature, unwrap
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ._checks import (
    all_finite,
    require,
    require_finite,
    require_like,
    require_tensor,
    require_type,
    tqdm,
    values_can_be_read,
)
from ._guard import bare, bare_or, guard, leads_down
from .score import Score, checked
from .sde import SDE, Instant, randn_like, require_consistent
from .steps import Noise, Step, ddim, euler_maruyama, plus

Solver = Callable[..., Iterator[Tensor]]
"""``solver(score, x, path, noise=randn_like)`` yields the states at ``path[1:]``, from ``x`` on."""

Grid = Callable[[SDE, int, float], Tensor]
"""``grid(sde, n_steps, t_min)``: ``n_steps + 1`` decreasing times, from 1 to ``t_min`` or near."""


@dataclass(frozen=True)
class Walk:
    """The solver that takes its steps in turn on each interval; made by :func:`walk`."""

    steps: tuple[Step, ...]

    def __call__(
        self, score: Score, x: Tensor, path: list[Instant], noise: Noise = randn_like
    ) -> Iterator[Tensor]:
        noises = [own_noise(step, noise) for step in self.steps]
        for t, s in itertools.pairwise(path):
            for step, z in zip(steps_to(s, self.steps), noises):
                x = step(score, x, t, s, noise=z)
            yield x


def walk(*steps: Step) -> Walk:
    """The solver that takes ``steps`` in turn on each interval: a predictor, then correctors.

    ``walk(ancestral, annealed_langevin)`` is the predictor-corrector sampler (Song et al. 2021,
    Alg. 1). The interval that ends at 0 is :func:`~sdelib.steps.ddim`'s alone: Tweedie's formula.

    Args:
        steps: Functions ``(score, x, t, s, noise)``; a walk among them stands for its steps.

    Raises:
        ValueError: without any step.
        TypeError: if one is no step.
    """
    require(len(steps) >= 1, "steps", "none", "at least one")
    flat: list[Step] = []
    for step in steps:
        if isinstance(step, Walk):
            flat += step.steps
        elif callable(step) and not isinstance(step, type) and not _is_solver(step):
            flat.append(bare(step, _returning_states))
        else:
            raise TypeError(f"steps must be functions (score, x, t, s, noise), got {step!r}")
    return Walk(tuple(flat))


def _returning_states(step: Step) -> Step:
    """A step that is not this library's, refusing what would be broadcast."""

    @wraps(step)
    def checked_step(score: Score, x: Tensor, *rest: Any, **noise: Any) -> Tensor:
        out = step(score, x, *rest, **noise)
        require_like("what steps return", out, x)
        return out

    return checked_step


def _is_solver(function: Callable) -> bool:
    """Whether a call yields states one by one, where a step returns one state."""
    call = type(function).__call__
    return any(
        isgeneratorfunction(unwrap(f)) for f in (function, call) if not isinstance(f, partial)
    )


def steps_to(s: Instant, steps: tuple[Step, ...]) -> tuple[Step, ...]:
    """``steps``, but at time 0, where a score may not exist, :func:`~sdelib.steps.ddim` alone."""
    try:
        return steps if s.time else (ddim,)
    except AttributeError:
        require_type("s", s, Instant, "an instant, as sde.at gives it")
        raise


def own_noise(step: Step, noise: Noise) -> Noise:
    """The noise that a ``partial`` of a step has brought along, or else ``noise``."""
    return getattr(step, "keywords", {}).get("noise", noise)


def dpm_solver_2m(
    score: Score, x: Tensor, path: list[Instant], noise: Noise | None = None
) -> Iterator[Tensor]:
    r"""DPM-Solver++ 2M on the flow ODE, order 2 at one score call a step (Lu et al. 2025, Alg. 2).

    With :math:`D = E[x_0 \mid x_t]` the flow is
    :math:`\mathrm d(x/\sigma) = D\,\mathrm d(\alpha/\sigma)`. A step integrates that over
    :math:`\lambda = \log(\alpha/\sigma)` with ``D`` extrapolated through its last two values to the
    middle. The first step knows one value, like :func:`~sdelib.steps.ddim`. ``noise`` is not used.
    """
    last, h_last = None, math.inf
    for t, s in itertools.pairwise(path):
        d = plus(x, t.sigma**2, score(x, t.now)) / t.alpha
        h = math.log(s.alpha / s.sigma * t.sigma / t.alpha) if s.sigma else 0.0
        ahead = d if last is None else torch.lerp(last, d, 1 + h / (2 * h_last))
        keep = s.sigma / t.sigma
        x = plus(keep * x, s.alpha - keep * t.alpha, ahead)
        last, h_last = d, h
        yield x


@dataclass(frozen=True)
class Adams:
    """Adams's method, as :func:`adams` and :func:`pilot` make it; these say what it does.

    Attributes:
        grid: The grid that suits it, which :func:`sample` takes if it is given none; or ``None``.
    """

    order: int | None
    scale: float
    reach: float
    grid: Grid | None = None

    def __call__(
        self, score: Score, x: Tensor, path: list[Instant], noise: Noise | None = None
    ) -> Iterator[Tensor]:
        alpha, sigma = np.array([(t.alpha, t.sigma) for t in path]).T
        c = np.hypot(self.scale * alpha, sigma)
        phi, gain = np.arctan2(self.scale * alpha, sigma), c / (self.scale * alpha)
        order = self.order or min(4, max(2, (len(path) - 1) // 3))
        weights = _adams_weights(phi, gain, order, self.reach)
        weights *= c[1:, None] * _back(sigma * gain / c**2, order)
        us: list[Tensor] = []
        rows = zip(path, (c**2).tolist(), (c[1:] / c[:-1]).tolist(), weights.tolist())
        for t, c_squared, keep, row in rows:
            us = [plus(x, c_squared, score(x, t.now)), *us[: order - 1]]
            x = plus(x, keep - 1, x)  # keep x
            for weight, u in zip(row, us):
                x = plus(x, weight, u)
            yield x


def adams(order: int | None = 4, scale: float = 1.0, reach: float = 1.0) -> Adams:
    r"""Adams's method on the flow ODE in the angle of signal to noise, at one score call a step.

    With :math:`D = E[x_0 \mid x_t]` and :math:`Z = E[z \mid x_t]` the flow is
    :math:`\dot x = \alpha' D + \sigma' Z`. Over :math:`\varphi = \arctan(a\alpha/\sigma)`, ``a``
    the scale, and with :math:`c = \sqrt{a^2\alpha^2 + \sigma^2}` it is

    .. math:: \frac{\mathrm d}{\mathrm d\varphi}\frac xc = V, \qquad
        V = \frac{\sigma}{a \alpha c}\,\big(x + c^2\, \nabla\log p_t\big)
          = \cos\varphi\, \tfrac{D}{a} - \sin\varphi\, Z .

    ``V`` is bounded and vanishes on normal data of standard deviation ``a``; networks that predict
    it are Salimans and Ho's (2022).

    The step to ``s`` extrapolates ``V`` by the polynomial through its last ``order - 1`` values and
    integrates that (Bashforth). The next call gives one more value: first it repeats the last step
    with the polynomial through that value as well (Moulton), then it steps on from the better
    place. The value itself is not computed again (predict, evaluate, correct: Hairer, Nørsett and
    Wanner 1993, Sec. III.1), so correcting is free.

    Where steps grow, a polynomial of high degree multiplies the error of a learned score. A network
    that predicts the noise errs by about the same :math:`\delta` at every time, and then ``V`` by
    :math:`c\,\delta/(a\alpha)`; a ``ResidualScore`` without a gain by a little less. A prediction
    uses no more values than keep the sum of all that below ``reach`` times :math:`\delta`: states
    thrown out of the cloud in which the score was learned never come back.

    The scale and the grid that suit a score are found by :func:`pilot`.

    Args:
        order: Number of values that the correction uses, at least 2; also the order of convergence,
            as far as the first steps, with fewer values, allow: these make it 3 in the limit. If
            ``None``, 4, but with fewer than 12 calls a third of their number, and 2 at least: a
            polynomial should not span most of the path.
        scale: Standard deviation of the data, positive.
        reach: At most so many times a network's error may move a state in one step, where there is
            a choice. ``math.inf`` for an exact score, or a network with the gain ``alpha/sigma``,
            takes all values always.

    Raises:
        ValueError: if an argument is not as above.
    """
    require(order is None or order >= 2, "order", order, "at least 2")
    require(0 < scale < math.inf, "scale", scale, "positive and finite")
    require(reach > 0, "reach", reach, "positive")
    return Adams(order, scale, reach)


def _back(values: np.ndarray, n_back: int) -> np.ndarray:
    """``values[i - j]`` at ``[i, j]``, for the ``n`` intervals of ``n + 1`` instants."""
    i = np.arange(len(values) - 1)[:, None] - np.arange(n_back)
    return values[i.clip(0)]


def _adams_weights(phi: np.ndarray, gain: np.ndarray, order: int, reach: float) -> np.ndarray:
    """Weights of the last values of ``V``, latest first, in each step between the angles ``phi``.

    A step first takes back the last prediction and corrects it, then predicts: ``(n, order)``.

    Args:
        gain: By how much ``V`` errs when a network errs by 1, at each angle.
    """
    j, i = np.arange(order), np.arange(len(phi) - 1)[:, None]
    nodes, known, counts = _back(phi, order), i >= j, np.arange(1, order)[:, None, None]
    predictions = _integrals(nodes, known & (j < counts), phi[:-1], phi[1:])
    error = (abs(predictions) * _back(gain, order)).sum(-1)
    count = (counts[..., 0] * (error <= reach)).max(0).clip(1)
    weights = predictions[count - 1, i[:, 0]]
    correct = _integrals(nodes[1:], known[1:] & (j <= count[:-1, None]), phi[:-2], phi[1:-1])
    correct[:, 1:] -= weights[:-1, :-1]
    weights[1:] += correct
    return weights


@cache
def _gauss(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Gauss's rule on [-1, 1] with ``n`` nodes."""
    return np.polynomial.legendre.leggauss(n)


def _integrals(
    nodes: np.ndarray, known: np.ndarray, start: np.ndarray, end: np.ndarray
) -> np.ndarray:
    """Weights with which values at ``nodes`` enter the integral of the polynomial through them.

    Args:
        nodes: ``m`` problems of up to ``k`` nodes each, shape ``(m, k)``.
        known: Which nodes there are, the first ones of each problem, shape ``(..., m, k)`` like the
            result; the others have weight 0.
        start: Where the integrals begin, shape ``(m,)``.
        end: Where they end.
    """
    n = nodes.shape[1]
    gauss, weights = _gauss(n // 2 + 1)
    half = ((end - start) / 2)[:, None]
    at = start[:, None] + half * (1 + gauss)  # where the rule is exact up to the degree n + 1
    # Lagrange's polynomials: over the other nodes l, the products of (at - l) / (node - l)
    apart = nodes[:, :, None] - nodes[:, None]
    apart[apart == 0] = 1  # a node and itself, or one that is not there
    factors = (at[:, None, None] - nodes[:, None, :, None]) / apart[..., None]
    others = known[..., None, :, None] & ~np.eye(n, dtype=bool)[..., None]
    values = np.where(others, factors, 1).prod(-2)
    return np.where(known, half * (values @ weights), 0)


def uniform(sde: SDE, n_steps: int, t_min: float = 1e-3) -> Tensor:
    """Equal steps in time."""
    return _from_one_to(t_min, 1 + _fractions(n_steps, t_min) * (t_min - 1))


def log_snr(sde: SDE, n_steps: int, t_min: float = 1e-3) -> Tensor:
    r"""Equal steps in :math:`\lambda = \log(\alpha/\sigma)` (Lu et al. 2025, Sec. 5)."""
    high, low = _ratios(sde, t_min)
    ratios = high * (low / high) ** _fractions(n_steps, t_min)
    return _from_one_to(t_min, sde.time_of(ratios))


def edm(sde: SDE, n_steps: int, t_min: float = 1e-3, rho: float = 7.0) -> Tensor:
    r"""Equal steps in :math:`(\sigma/\alpha)^{1/\rho}` (Karras et al. 2022, Eq. 5).

    Args:
        rho: Positive: 1 is equal noise, infinity :func:`log_snr`.
    """
    require(rho > 0, "rho", rho, "positive")
    if rho == math.inf:
        return log_snr(sde, n_steps, t_min)
    high, low = _ratios(sde, t_min)
    # the mean of the roots over the first of them, which stays exact where all are nearly 1
    falls = torch.expm1((low / high).log() / rho) * _fractions(n_steps, t_min)
    ratios = high * (rho * falls.log1p()).exp()
    return _from_one_to(t_min, sde.time_of(ratios))


def log_linear(sde: SDE, n_steps: int, t_min: float = 1e-3, bend: float = 0.02) -> Tensor:
    r"""Equal steps in :math:`\operatorname{arsinh}(\tfrac{\sigma}{\alpha} / b)`, for every solver.

    Above the bend ``b`` the steps are equal in the logarithm of the noise-to-signal ratio: wherever
    the detail is, it gets its share, and no step is long. Below, where only finer detail than ``b``
    is left to find, they are equal in the ratio itself.

    Args:
        bend: ``b``, positive; at 0 it would be :func:`log_snr`.
    """
    require(0 < bend < math.inf, "bend", bend, "positive and finite")
    high, low = torch.asinh(_ratios(sde, t_min) / bend)
    ratios = bend * torch.sinh(torch.lerp(high, low, _fractions(n_steps, t_min)))
    return _from_one_to(t_min, sde.time_of(ratios))


def run_times(
    sde: SDE, solver: Solver, n_steps: int, t_min: float = 1e-3, grid: Grid | None = None
) -> Tensor:
    """The times of a run of :func:`sample`: those of the grid, then 0, shape ``(n_steps + 2,)``.

    Args:
        grid: If ``None``, the one that ``solver`` brings along, as :func:`pilot`'s does, or else
            :func:`log_linear`, which suits every solver.
    """
    chosen = grid or getattr(solver, "grid", None) or log_linear
    ts, name = chosen(sde, n_steps, t_min), "grid(sde, n_steps, t_min)"
    require_tensor(name, ts)
    fits = ts.ndim == 1 and len(ts) > 1 and abs(ts[0].item() - 1) < 1e-6 and ts[-1].item() > 0
    require(fits, name, ts, "times that fall from 1 and end above 0")
    return torch.cat([ts, ts.new_zeros(1)])


def _fractions(n_steps: int, t_min: float) -> Tensor:
    """``n_steps + 1`` numbers from 0 to 1."""
    require_type("n_steps", n_steps, Integral, "an integer")
    require_type("t_min", t_min, Real, "a number")
    require(n_steps >= 1, "n_steps", n_steps, "at least 1")
    require(0 < t_min < 1, "t_min", t_min, "inside (0, 1)")
    return torch.linspace(0, 1, n_steps + 1, dtype=torch.float64)


def _ratios(sde: SDE, t_min: float) -> Tensor:
    """The noise-to-signal ratio at 1 and at ``t_min``."""
    require_consistent(sde)
    ends = torch.tensor([1.0, t_min], dtype=torch.float64)
    return sde.sigma(ends) / sde.alpha(ends)


def _from_one_to(t_min: float, ts: Tensor) -> Tensor:
    """``ts`` with its ends free of rounding."""
    ts[0], ts[-1] = 1.0, t_min
    return ts


@torch.no_grad()
def reverse(
    score: Score,
    sde: SDE,
    x: Tensor,
    ts: Tensor,
    solver: Solver,
    noise: Noise = randn_like,
) -> Iterator[Tensor]:
    """Yield the states at ``ts[1], ts[2], ...``, starting from ``x`` at ``ts[0]``.

    Args:
        x: The state at ``ts[0]``, shape ``(B, *event)``.
        ts: Strictly decreasing times in [0, 1], shape ``(n + 1,)``. They may end at 0.
        solver: For instance ``walk(ancestral)``, :func:`dpm_solver_2m` or ``adams()``.
        noise: ``noise(x)`` returns the solver's normal numbers.

    Raises:
        ValueError: if ``ts`` is not as above, ``x`` holds NaN or infinity, or the score returns
            anything but a tensor like the states.
        TypeError: if ``solver`` is no solver or ``sde`` no SDE.
        FloatingPointError: if the states become NaN or infinite.
    """
    yield from _states(score, sde, x, ts, solver, noise)


def _states(
    score: Score, sde: SDE, x: Tensor, ts: Tensor, solver: Solver, noise: Noise
) -> Iterator[Tensor]:
    """:func:`reverse` where no gradient is kept already: to say so at each state takes its time."""
    require_finite("x", x)
    path = sde.path(ts, x)
    # the states are looked at seldom, as that takes as long as a step
    last = len(path) - 1
    every = min(32, 1 + last // 16) if values_can_be_read(x) else len(path)
    start, name = x, "solver(score, x, path, noise)"
    try:
        states = solver(checked(score), x, path, noise)
        require_type(name, states, Iterator, "an iterator of states")
    except Exception as error:
        if "s" in signature(solver).parameters:
            wanted = f"solver must be a solver, got a step: make it one by walk({solver!r})"
            raise TypeError(wanted) from error
        raise
    i = 0
    for i, x in enumerate(states, 1):
        if i > last:
            break
        if not (i % every == 0 or i == last):
            yield x
            continue
        require_like("what solver yields", x, start)
        if not all_finite(x):
            between = f"t = {path[(i - 1) // every * every].time:g} and {path[i].time:g}"
            raise FloatingPointError(
                f"the states became NaN or infinite between {between}: is the score finite there, "
                "and are the steps short enough for it?"
            )
        yield x
    got = "more" if i > last else f"{i} states"
    require(i == last, name, got, f"an iterator of {last} states")


@torch.no_grad()
def sample(
    score: Score,
    sde: SDE,
    shape: tuple[int, ...],
    solver: Solver = walk(euler_maruyama),
    n_steps: int = 500,
    t_min: float = 1e-3,
    grid: Grid | None = None,
    generator: torch.Generator | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
    progress: bool = False,
    batch_size: int | None = None,
) -> Tensor:
    """Draw samples: from the prior, ``n_steps`` steps from time 1 to ``t_min`` and a last one to 0.

    With a solver of one score call a step that makes ``n_steps + 1`` calls.

    Args:
        shape: Shape ``(B, *event)`` of the samples.
        solver: Any :data:`Solver`, for instance ``walk(partial(euler_maruyama, eta=0))``.
        t_min: The last time but 0, inside (0, 1); at 0 the score of thin data does not exist.
        grid: Where the steps are taken, any :data:`Grid`, or ``None``: see :func:`run_times`.
        generator: Source of all noise; it must live on ``device``.
        dtype: Of the samples; torch's default if ``None``. Likewise ``device``.
        progress: Show a progress bar.
        batch_size: Draw so many at a time, which bounds the memory; all at once if ``None``.

    Raises:
        ValueError: if ``n_steps < 1``, ``batch_size < 1`` or ``t_min`` lies outside (0, 1).
        TypeError, FloatingPointError: as :func:`reverse` does.
    """
    size = max(shape[0], 1) if batch_size is None else batch_size
    require(size >= 1, "batch_size", batch_size, "at least 1")
    ts = run_times(sde, solver, n_steps, t_min, grid)
    starts = range(0, max(shape[0], 1), size)
    noise = partial(randn_like, generator=generator) if generator else randn_like
    bar = tqdm(total=len(starts) * (n_steps + 1), desc="sampling") if progress else None
    batches = []
    for start in starts:
        part = min(size, shape[0] - start), *shape[1:]
        x = sde.prior_sample(part, generator, dtype, device)
        for x in _states(score, sde, x, ts, solver, noise):  # noqa: B007, B020, the last is kept
            if bar:
                bar.update()
        batches.append(x)
    if bar:
        bar.close()
    return batches[0] if len(batches) == 1 else torch.cat(batches)


@torch.no_grad()
def pilot(
    score: Score,
    sde: SDE,
    shape: tuple[int, ...],
    order: int | None = None,
    reach: float = 1.0,
    n_calls: int = 48,
    generator: torch.Generator | None = None,
    dtype: torch.dtype | None = None,
    device: torch.device | str | None = None,
) -> Adams:
    r"""Adams's method with the scale and the grid that suit a score, found by a few samples.

    :func:`dpm_solver_2m` draws them, and the velocity ``V`` of :func:`adams` is noted on the way.
    Their standard deviation is the scale ``a``. A prediction from three values over a step ``h`` in
    the angle :math:`\theta = \arctan(\sigma / a\alpha)` errs in proportion to :math:`h^4 |V'''|`;
    the errors are alike on steps that are equal in

    .. math:: \int |V'''|^{1/4}\, \mathrm d\theta

    (equidistribution: Kautsky and Nichols 1980), where the differences of the samples' ``V``
    estimate the root mean square of the derivative. To this adds half of the same in steps equal in
    :math:`\operatorname{arsinh}(50\,\theta)`, for what so few samples miss. The last step, to 0, is
    as long as the others, or begins at ``t_min``.

    The cost is ``n_calls`` score calls of the small batch, once for each score. Since the grid is
    one of noise-to-signal ratios, it serves any number of steps.

    Args:
        shape: Of the batch, ``(B, *event)``; some 64 states are enough.
        order: As for :func:`adams`. Likewise ``reach``.
        n_calls: Score calls, at least 8.
        generator: As for :func:`sample`. Likewise ``dtype`` and ``device``.

    Returns:
        A solver that brings its grid along, as in ``sample(score, sde, shape, solver, n_steps)``.

    Raises:
        ValueError: if ``n_calls < 8``, or the samples are all the same.
        TypeError, FloatingPointError: as :func:`sample` does.
    """
    require(n_calls >= 8, "n_calls", n_calls, "at least 8")
    require(math.prod(shape) > 0, "shape", shape, "that of a number or more")
    solver = adams(order, reach=reach)
    seen: list[tuple[Tensor, Tensor]] = []

    def watched(x: Tensor, t: Tensor) -> Tensor:
        seen.append((x, score(x, t)))
        return seen[-1][1]

    how = {"grid": log_snr, "generator": generator, "dtype": dtype, "device": device}
    x = sample(watched, sde, shape, dpm_solver_2m, n_calls - 1, **how).double()
    scale = (x - x.mean(0)).square().mean().sqrt().item()
    require(0 < scale < math.inf, "the samples' deviation", scale, "positive and finite")
    theta, v = [], []
    for t, (y, s) in zip(sde.path(log_snr(sde, n_calls - 1), x), seen):
        c = math.hypot(scale * t.alpha, t.sigma)
        v.append(t.sigma / (scale * t.alpha * c) * plus(y.double(), c**2, s.double()))
        theta.append(math.atan2(t.sigma, scale * t.alpha))
    where, third = _third_derivative(np.array(theta), torch.stack(v).cpu().numpy())
    # the measure of the arc from 0 to an angle, as a table
    even = np.linspace(0, math.asinh(25 * math.pi), 1001)
    angles = np.sinh(even) / 50
    density = np.interp(angles, where[::-1], third[::-1] ** 0.25)
    uneven = np.append(0, ((density[1:] + density[:-1]) / 2 * np.diff(angles)).cumsum())
    measure = uneven / uneven[-1] + even / even[-1] / 2

    return replace(solver, scale=scale, grid=partial(_even_in, scale, angles, measure))


def _even_in(
    scale: float,
    angles: np.ndarray,
    measure: np.ndarray,
    sde: SDE,
    n_steps: int,
    t_min: float = 1e-3,
) -> Tensor:
    """A grid of equal steps in a measure of the angle, given as a table."""
    shares = _fractions(n_steps, t_min).numpy()
    first, stop = np.interp(np.arctan(_ratios(sde, t_min).numpy() / scale), angles, measure)
    last = max(stop, first / (n_steps + 1))
    at = np.interp(first + shares * (last - first), measure, angles)
    ts = sde.time_of(torch.from_numpy(scale * np.tan(at)))
    ts[0] = 1.0  # free of rounding
    return ts


def _third_derivative(at: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of values ``(n, ...)``: where it is known, and its root mean square there, ``(n - 3,)``."""
    where, values = at, values.reshape(len(at), -1)
    for k in (1, 2, 3):
        values = k * np.diff(values, axis=0) / (at[k:] - at[:-k])[:, None]
        where = (where[1:] + where[:-1]) / 2
    return where, np.sqrt((values**2).mean(1))


guard(
    __name__,
    inner=("steps_to", "own_noise"),
    score=checked,
    noise=bare_or(checked),
    path=leads_down,
)
