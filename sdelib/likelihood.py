r"""The probability flow ODE as a change of variables: codes and log-likelihoods.

The flow :math:`\mathrm dx = v(x, t)\,\mathrm dt`, with
:math:`v = f x - \tfrac12 g^2\, \nabla \log p_t`, carries the law of the data to that of the noise
and back. Along one path the log-density falls at the rate :math:`\nabla\cdot v`, so

.. math:: \log p_0(x_0) = \log p_1(x_1) + \int_0^1 \nabla\cdot v(x_t, t)\,\mathrm dt

(Song et al. 2021, Sec. 4.3 and App. D.2).
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ._checks import (
    require,
    require_finite,
    require_like,
    require_shape,
    require_states,
    require_tensor,
)
from ._guard import guard
from .score import Score, checked, require_graph
from .sde import SDE

Divergence = Callable[[Callable[[Tensor], Tensor], Tensor], tuple[Tensor, Tensor]]
"""``divergence(v, x) -> (v(x), div v(x))``, shaped like ``x`` and ``(B,)``."""


def exact_divergence(v: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """``v(x)`` and the trace of its Jacobian, by one backward pass for all ``d`` coordinates.

    Each row of ``v(x)`` must depend on the same row of ``x`` only. Memory grows with ``d`` times
    the batch. ``ValueError`` if autograd cannot follow ``v``.
    """
    x, out = _graph(v, x)
    require_states("x", x)
    basis = torch.eye(x.shape[1:].numel(), dtype=x.dtype, device=x.device)
    basis = basis.reshape(-1, 1, *x.shape[1:])
    rows = torch.autograd.grad(out, x, basis.expand(-1, *x.shape), is_grads_batched=True)[0]
    return out.detach(), (rows * basis).flatten(2).sum((0, 2))


def hutchinson(probe: Tensor) -> Divergence:
    r"""The estimator :math:`e^\top J e` of the trace of the Jacobian ``J``, by one backward pass.

    Unbiased whenever :math:`E[e e^\top] = I`. (Skilling 1989; Hutchinson 1990; for flows, Grathwohl
    et al. 2019.) It raises ``ValueError`` at states of another shape than the probe, or if autograd
    cannot follow.

    Args:
        probe: ``e``, shaped like the states. It stays the same along the whole path, so that the
            integrand is smooth.
    """

    def divergence(v: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
        require_shape("probe", probe, *x.shape)
        (x, out), e = _graph(v, x), probe.to(x)
        product = torch.autograd.grad(out, x, e)[0]
        return out.detach(), (product * e).flatten(1).sum(1)

    return divergence


def _graph(v: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """A copy of ``x`` and ``v`` there, to take derivatives of."""
    with torch.enable_grad():
        x = x.detach().clone().requires_grad_()
        out = v(x)
        require_like("v(x)", out, x)
        require_graph("v(x)", out, x)
    return x, out


def rademacher(x: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Independent random signs shaped like ``x``.

    As a probe they leave the Jacobian's diagonal out of the variance.
    """
    return 2 * torch.randint(0, 2, x.shape, generator=generator, device=x.device).to(x) - 1


def solve_flow(
    score: Score,
    sde: SDE,
    x: Tensor,
    t0: float,
    t1: float,
    divergence: Divergence | None = exact_divergence,
    rtol: float = 1e-5,
    atol: float = 1e-5,
    max_calls: int = 10_000,
) -> tuple[Tensor, Tensor, int]:
    """Carry ``x`` along the flow ODE from time ``t0`` to ``t1``, in either direction.

    By the adaptive Runge-Kutta method of Dormand and Prince, of order 5, in double precision. The
    whole batch takes the steps that its most difficult path needs: each is held to the tolerance
    that it would have alone.

    Args:
        score: The score; the divergence differentiates it.
        sde: The process.
        x: States at ``t0``, shape ``(B, *event)``, of single or double precision.
        t0: Time to start from, in [0, 1].
        t1: Time to end at, in [0, 1].
        divergence: How to compute the divergence; ``None`` leaves it out, and its integral is zero.
        rtol: Relative tolerance of a step, 1e-5 in the paper, as is ``atol``. A score computed in
            single precision cannot be solved to much less than that.
        atol: Absolute tolerance of a step, for states and for the integral, in nats.
        max_calls: Number of score calls not to be exceeded; 1e-5 takes about a hundred.

    Returns:
        States at ``t1``; the integral of the divergence from ``t0`` to ``t1``, shape ``(B,)``;
        number of score calls.

    Raises:
        ValueError: if an argument is not as above, the score's value is not shaped like ``x``, or
            autograd cannot follow it where its divergence is needed.
        TypeError: if ``x`` is not a tensor of single or double precision.
        FloatingPointError: if the velocity or its divergence stops being finite.
        RuntimeError: if ``max_calls`` are not enough, or no step is short enough.
    """
    _require_states("x", x)
    require(0 <= t0 <= 1, "t0", t0, "in [0, 1]")
    require(0 <= t1 <= 1, "t1", t1, "in [0, 1]")
    require(0 < rtol < math.inf, "rtol", rtol, "positive and finite")
    require(0 < atol < math.inf, "atol", atol, "positive and finite")
    require(max_calls >= 1, "max_calls", max_calls, "at least 1")
    calls, n_sums, d = 0, 0 if divergence is None else 1, x.shape[1:].numel()

    def rate(time: float, y: Tensor) -> Tensor:
        nonlocal calls
        if calls == max_calls:
            raise RuntimeError(
                f"the flow needs more than max_calls = {max_calls} score calls from t = {t0:g} to "
                f"{t1:g} and stands at {time:g}: is the score smooth, and in evaluation mode?"
            )
        calls, t = calls + 1, sde.at(time, x)
        v = lambda x: t.f * x - t.g**2 / 2 * checked(score)(x, t.now)
        with torch.no_grad():
            x_t = y[:, :d].reshape(x.shape).to(x.dtype)
            v_t, div = divergence(v, x_t) if divergence else (v(x_t), x_t.new_empty(len(x), 0))
            require_like("divergence(v, x)", v_t, x)
            if divergence:
                require_tensor("divergence(v, x)", div)
                require_shape("divergence(v, x)", div, len(x))
            return torch.cat([v_t.flatten(1), div.reshape(len(x), n_sums)], 1).to(y)

    start = torch.cat([x.detach().flatten(1), x.new_zeros(len(x), n_sums)], 1).double()
    end = _dormand_prince(rate, start, float(t0), float(t1), rtol, atol).to(x.dtype)
    return end[:, :d].reshape(x.shape), end[:, d:].sum(1), calls


# The method's table (Dormand and Prince 1980): when the stages are, what each of them adds up, and
# the difference of the formulas of order 5 and 4. The last stage is the end of the step.
_TIMES = (0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1, 1)
_STAGES = (
    (),
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
_ERROR = (71 / 57600, 0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)


def _dormand_prince(
    rate: Callable[[float, Tensor], Tensor],
    y: Tensor,
    t: float,
    end: float,
    rtol: float,
    atol: float,
) -> Tensor:
    """The solution of ``dy/dt = rate(t, y)`` at time ``end``, from ``y`` at ``t``; rows are paths.

    In no step does the root mean square of a row's errors, over ``atol + rtol |y|``, exceed 1.
    """
    if not len(y) or t == end:
        return y

    def worst(errors: Tensor, *ys: Tensor) -> float:
        scale = atol + rtol * torch.stack(ys).abs().amax(0)
        return (errors / scale).square().mean(1).sqrt().max().item()

    start, slopes, longer = t, y.new_empty(7, *y.shape), 10.0
    slopes[0] = rate(t, y)
    error = worst(slopes[0], y)
    # right for a rate that changes over times of order 1; for a faster one the step is refused
    step = (0.01 / max(error, 1e-10)) ** (1 / 5) if math.isfinite(error) else 0.0
    while t != end:
        if step < 10 * math.ulp(max(start, end)):
            if not math.isfinite(error):
                raise FloatingPointError(
                    f"no finite velocity or divergence of the flow at t = {t:g}"
                )
            raise RuntimeError(
                f"the flow could not be solved at t = {t:g}: no step is short enough"
            )
        new = end if 1.01 * step >= abs(end - t) else t + math.copysign(step, end - t)
        h, stage = new - t, y
        for i, (time, weights) in enumerate(zip(_TIMES, _STAGES, strict=True)):
            if i > 0:
                stage = y + h * torch.tensordot(y.new_tensor(weights), slopes[:i], 1)
                slopes[i] = rate(new if time == 1 else t + time * h, stage)
        error = worst(h * torch.tensordot(y.new_tensor(_ERROR), slopes, 1), y, stage)
        best = 0.9 * max(error, 1e-10) ** (-1 / 5) if math.isfinite(error) else 0.0
        step = abs(h) * min(max(best, 0.2), longer)
        longer = 1.0  # right after a refusal
        if error < 1:
            t, y, slopes[0], longer = new, stage, slopes[6], 10.0
    return y


def encode(
    score: Score, sde: SDE, x: Tensor, t_min: float = 1e-5, rtol: float = 1e-5, atol: float = 1e-5
) -> Tensor:
    """The codes of data ``x``: where the flow carries them from ``t_min`` to time 1, like ``x``.

    Arguments and errors are those of :func:`solve_flow`.
    """
    return solve_flow(score, sde, x, t_min, 1.0, None, rtol, atol)[0]


def decode(
    score: Score, sde: SDE, z: Tensor, t_min: float = 1e-5, rtol: float = 1e-5, atol: float = 1e-5
) -> Tensor:
    """The inverse of :func:`encode`: data of codes ``z``, shaped like ``z``."""
    _require_states("z", z)
    return solve_flow(score, sde, z, 1.0, t_min, None, rtol, atol)[0]


def log_likelihood(
    score: Score,
    sde: SDE,
    x: Tensor,
    t_min: float = 1e-5,
    terminal: Callable[[Tensor], Tensor] | None = None,
    divergence: Divergence = exact_divergence,
    rtol: float = 1e-5,
    atol: float = 1e-5,
) -> Tensor:
    """Log-density under the model that :func:`decode` samples from, in nats, shape ``(B,)``.

    Args:
        score: As in :func:`solve_flow`, as are ``sde``, ``rtol``, ``atol`` and the errors.
        x: Data, shape ``(B, *event)``, taken as states at ``t_min``.
        terminal: Log-density at time 1, by default the prior's. With the true one only the solver's
            error is left.
        divergence: :func:`exact_divergence`, or ``hutchinson(probe)`` where ``d`` is large.
    """
    z, integral, _ = solve_flow(score, sde, x, t_min, 1.0, divergence, rtol, atol)
    log_prob = (terminal or sde.prior_log_prob)(z)
    require_tensor("terminal(z)", log_prob)
    require_shape("terminal(z)", log_prob, len(x))
    return log_prob.detach() + integral


def bits_per_dimension(log_prob: Tensor, dim: int, width: float) -> Tensor:
    r"""Bits for each entry of quantised data, from the log-density of the data made continuous.

    Data on levels ``width`` apart become continuous by adding uniform noise over one level
    (dequantisation). A density ``p`` of the result gives every level the probability :math:`\int p`
    over its cell, and by Jensen's inequality

    .. math:: -\tfrac1d \log_2 P(x) \le \tfrac1d\, E\,[-\log_2 p(x + u)] - \log_2(\mathrm{width})

    (Theis et al. 2016; Song et al. 2021, App. D.2, where the levels are 256).

    Args:
        log_prob: Log-density of dequantised data in nats, of any shape, which the result has.
        dim: Number ``d`` of entries of a datum, at least 1.
        width: Distance between levels in the units of the states, positive: 2 / 256 for 8-bit
            images on [-1, 1].
    """
    require(dim >= 1, "dim", dim, "at least 1")
    require(0 < width < math.inf, "width", width, "positive and finite")
    return -log_prob / (dim * math.log(2)) - math.log2(width)


def _require_states(name: str, x: Tensor) -> None:
    require_finite(name, x)
    require_states(name, x)
    if x.element_size() < 4:
        raise TypeError(f"{name} must be of single or double precision, got {x.dtype}")


def _time(value: float, name: str) -> float:
    require(0 <= value <= 1, name, value, "in [0, 1]")
    return value


guard(__name__, t_min=_time)
