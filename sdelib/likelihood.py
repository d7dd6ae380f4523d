r"""The probability flow ODE as a change of variables: codes and log-likelihoods (Song et al. 2021,
Sec. 4.3 and App. D.2).

The flow :math:`\mathrm dx = v(x, t)\,\mathrm dt`, with :math:`v = f x - \tfrac12 g^2\, \nabla \log
p_t`, carries the law of the data to that of the noise and back. Along one path the log-density
falls at the rate :math:`\nabla\cdot v`, so

.. math:: \log p_0(x_0) = \log p_1(x_1) + \int_0^1 \nabla\cdot v(x_t, t)\,\mathrm dt.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from scipy.integrate import solve_ivp
from torch import Tensor

from ._checks import require, require_finite, require_shape
from .samplers import reverse_drift
from .score import Score
from .sde import SDE

Divergence = Callable[[Callable[[Tensor], Tensor], Tensor], tuple[Tensor, Tensor]]
"""``divergence(v, x) -> (v(x), div v(x))``, shaped like ``x`` and ``(B,)``."""


def exact_divergence(v: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """``v(x)`` and the trace of its Jacobian, by one backward pass for all ``d`` coordinates
    together.

    Each row of ``v(x)`` must depend on the same row of ``x`` only. Memory grows with ``d`` times
    the batch.
    """
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        out = v(x)
        basis = torch.eye(x.shape[1:].numel(), dtype=x.dtype, device=x.device).reshape(
            -1, 1, *x.shape[1:]
        )
        rows = torch.autograd.grad(out, x, basis.expand(-1, *x.shape), is_grads_batched=True)[0]
    return out.detach(), (rows * basis).flatten(2).sum((0, 2))


def hutchinson(probe: Tensor) -> Divergence:
    r"""The Skilling-Hutchinson estimator :math:`e^\top J e` of the trace of the Jacobian ``J``, by
    one backward pass.

    Unbiased whenever :math:`E[e e^\top] = I`. (Skilling 1989; Hutchinson 1990; for flows, Grathwohl
    et al. 2019.)

    Args:
        probe: ``e``, shaped like the states. It stays the same along the whole path, so that the
            integrand is smooth.

    Raises:
        ValueError: when called at states of another shape.
    """

    def divergence(v: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
        require_shape("probe", probe, *x.shape)
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            out = v(x)
            product = torch.autograd.grad(out, x, probe)[0]
        return out.detach(), (product * probe).flatten(1).sum(1)

    return divergence


def rademacher(x: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Independent random signs shaped like ``x``: as a probe they leave the Jacobian's diagonal out
    of the variance.
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
) -> tuple[Tensor, Tensor, int]:
    """Carry ``x`` along the flow ODE from time ``t0`` to ``t1``, in either direction, by an
    adaptive Runge-Kutta method.

    The method is scipy's ``RK45``, of order 5, in double precision. It chooses its steps for the
    whole batch, by the root mean square of the errors, so a path depends on its neighbours, but by
    no more than the tolerance.

    Args:
        x: States at ``t0``, shape ``(B, *event)``.
        divergence: How to compute the divergence; ``None`` leaves it out, and its integral is then
            zero.
        rtol: Relative tolerance of a step, 1e-5 in the paper, as is ``atol``. A score computed in
            single precision cannot be solved to much less than that.
        atol: Absolute tolerance of a step, for states and for the integral, in nats.

    Returns:
        States at ``t1``; the integral of the divergence from ``t0`` to ``t1``, shape ``(B,)``;
        number of score calls.

    Raises:
        ValueError: if a time lies outside [0, 1] or ``x`` holds NaN or infinity.
        FloatingPointError: if the velocity or its divergence stops being finite.
        RuntimeError: if the solver gives up.
    """
    require_finite("x", x)
    for name, time in (("t0", t0), ("t1", t1)):
        require(0 <= time <= 1, name, time, "in [0, 1]")

    def split(state: np.ndarray) -> tuple[Tensor, Tensor]:
        state = torch.as_tensor(state).to(x)
        return state[: x.numel()].reshape(x.shape), state[x.numel() :]

    def rate(time: float, state: np.ndarray) -> np.ndarray:
        t = x.new_tensor(time)

        def v(y: Tensor) -> Tensor:
            return reverse_drift(score, sde, y, t, eta=0)

        with torch.no_grad():
            y, _ = split(state)
            parts = divergence(v, y) if divergence else (v(y),)
        out = torch.cat([part.flatten() for part in parts]).double().cpu().numpy()
        if not np.isfinite(out).all():
            raise FloatingPointError(
                f"the flow has no finite velocity or divergence at t = {time:g}"
            )
        return out

    start = (
        torch.cat([x.flatten(), x.new_zeros(len(x) if divergence else 0)])
        .detach()
        .double()
        .cpu()
        .numpy()
    )
    solution = solve_ivp(rate, (t0, t1), start, method="RK45", rtol=rtol, atol=atol)
    if not solution.success:
        raise RuntimeError(
            f"the flow could not be solved from t = {t0} to {t1}: {solution.message}"
        )
    x1, integral = split(solution.y[:, -1])
    return x1, integral if divergence else x.new_zeros(len(x)), solution.nfev


def encode(
    score: Score,
    sde: SDE,
    x: Tensor,
    t_min: float = 1e-5,
    rtol: float = 1e-5,
    atol: float = 1e-5,
) -> Tensor:
    """The codes of data ``x``: where the flow carries them from ``t_min`` to time 1, shaped like
    ``x``.
    """
    return solve_flow(score, sde, x, t_min, 1.0, None, rtol, atol)[0]


def decode(
    score: Score,
    sde: SDE,
    z: Tensor,
    t_min: float = 1e-5,
    rtol: float = 1e-5,
    atol: float = 1e-5,
) -> Tensor:
    """The inverse of :func:`encode`: data of codes ``z``, shaped like ``z``."""
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
    """Log-density of data under the model that :func:`decode` samples from, in nats, shape
    ``(B,)``.

    Args:
        x: Data, shape ``(B, *event)``, taken as states at ``t_min``.
        terminal: Log-density at time 1, by default the prior's. With the true one only the solver's
            error is left.
        divergence: :func:`exact_divergence`, or ``hutchinson(probe)`` where ``d`` is large.
        rtol: As in :func:`solve_flow`.
        atol: As in :func:`solve_flow`.
    """
    z, integral, _ = solve_flow(score, sde, x, t_min, 1.0, divergence, rtol, atol)
    return (terminal or sde.prior_log_prob)(z) + integral


def bits_per_dimension(log_prob: Tensor, dim: int, width: float) -> Tensor:
    r"""Bits for each entry of quantised data, from the log-density of the data made continuous.

    Data on levels ``width`` apart become continuous by adding uniform noise over one level
    (dequantisation). A density ``p`` of the result gives every level the probability :math:`\int p`
    over its cell, and by Jensen's inequality

    .. math:: -\tfrac1d \log_2 P(x) \le \tfrac1d\, E\,[-\log_2 p(x + u)] - \log_2(\mathrm{width})

    (Theis et al. 2016; Song et al. 2021, App. D.2, where the levels are 256).

    Args:
        log_prob: Log-density of dequantised data in nats, shape ``(B,)``.
        dim: Number ``d`` of entries of a datum.
        width: Distance between levels in the units of the states: 2 / 256 for 8-bit images on [-1,
            1].

    Raises:
        ValueError: if ``dim < 1`` or ``width`` is not positive.
    """
    require(dim >= 1, "dim", dim, "at least 1")
    require(width > 0, "width", width, "positive")
    return -log_prob / (dim * math.log(2)) - math.log2(width)
