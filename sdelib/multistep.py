r"""Multistep solvers of the probability flow ODE: one score call a step, and a memory of earlier
ones.

In the right coordinates the flow has next to nothing to solve. With :math:`D(x, t) = E[x_0 \mid x_t
= x]` and :math:`Z(x, t) = E[z \mid x_t = x] = -\sigma \nabla\log p_t(x)`, the means of datum and
noise, :math:`x = \alpha D + \sigma Z` and the flow is :math:`\dot x = \alpha' D + \sigma' Z`. Two
choices of coordinates:

- over the noise: :math:`\mathrm d(x/\sigma) = D\, \mathrm d(\alpha/\sigma)`, for
  :class:`DPMSolver2M`;
- over both: with the angle :math:`\theta = \arctan(\sigma/\alpha)` and :math:`c = \sqrt{\alpha^2 +
  \sigma^2}`, so that :math:`x/c = \cos\theta\, D + \sin\theta\, Z`, for :class:`Adams`,

  .. math:: \frac{\mathrm d}{\mathrm d\theta}\frac xc = V, \qquad V = \cos\theta\, Z - \sin\theta\,
  D .

  ``V`` is bounded at both ends and vanishes on standard normal data; networks that predict it are
  Salimans and Ho's (2022).

In both, what is integrated is a multiple of :math:`U = x + v(t)\, \nabla\log p_t(x)`, of :math:`D`
with :math:`v = \sigma^2` and of :math:`V` with :math:`v = c^2`. Extrapolated by a polynomial
through its last values, it makes every step a sum, whose coefficients depend on the times alone:

.. math:: x_s = k x + w_0 U + w_1 U_{\text{one call before}} + w_2 U_{\text{two calls before}} +
\dots
"""

import functools
from collections import deque
from typing import NamedTuple

import torch
from torch import Tensor

from ._checks import require
from .score import Score
from .sde import SDE
from .steps import Move, Noise


class Past(NamedTuple):
    """What a multistep solver remembers of one call: the times it stepped between, and ``U``."""

    t: Tensor
    s: Tensor
    u: Tensor


class Multistep:
    """A :data:`~sdelib.steps.Step` that remembers its last calls; the base of the solvers below.

    A call that does not continue the last one (another time or shape) forgets what does not lead to
    it, and with nothing left starts afresh. Its times have shape ``()``. A subclass writes
    ``coefficients``.
    """

    memory: int  # how many calls it looks back
    to_zero = False  # whether it may step to time 0, where a sampler's last call then takes it

    def __init__(self):
        self._past: list[Past] = []

    def coefficients(self, sde: SDE, ts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """``v``, ``k``, both ``(n,)``, and ``w``, ``(n, memory + 1)``, of the ``n`` steps of the
        grid ``ts``.

        Weights of values from before the grid are 0.
        """
        raise NotImplementedError

    def __call__(
        self,
        score: Score,
        sde: SDE,
        x: Tensor,
        t: Tensor,
        s: Tensor,
        noise: Noise = torch.randn_like,
    ) -> Tensor:
        past = self._past
        while past and not (past[-1].u.shape == x.shape and torch.equal(past[-1].s, t)):
            past.pop()
        del past[: -self.memory]
        times = torch.stack([*(p.t for p in past), t, s])
        us = deque((p.u for p in reversed(past)), self.memory + 1)
        x_s = self._moves(sde, x, times, us)[-1](score, x, noise)
        past.append(Past(t, s, us[0]))  # one more than needed, to repeat a call
        return x_s

    def on_grid(self, sde: SDE, x: Tensor, ts: Tensor) -> list[Move]:
        """See :func:`~sdelib.steps.moves`; the moves share a memory of their own, and each is made
        once, in order.
        """
        return self._moves(sde, x, ts, deque(maxlen=self.memory + 1))

    def _moves(self, sde: SDE, x: Tensor, ts: Tensor, us: deque) -> list[Move]:
        """The moves on a grid, given the values of ``U`` so far, the last one first."""

        def move(
            t: Tensor,
            v: Tensor,
            k: Tensor,
            w: list[float],
            score: Score,
            x: Tensor,
            noise: Noise,
        ) -> Tensor:
            us.appendleft(torch.addcmul(x, v, score(x, t)))
            x_s = k * x
            for weight, u in zip(w, us):
                x_s.add_(u, alpha=weight)
            return x_s

        v, k, w = self.coefficients(sde, ts.double())
        rows = zip(ts.unbind(), v.to(x).unbind(), k.to(x).unbind(), w.tolist())
        return [functools.partial(move, *row) for row in rows]


class DPMSolver2M(Multistep):
    r"""DPM-Solver++ 2M, a second-order step on the flow ODE with one score call (Lu et al. 2025,
    Alg. 2).

    In :math:`\lambda = \log(\alpha/\sigma)` the flow ODE is linear but for :math:`D(\lambda)`,
    which the step extrapolates linearly through its last two values to the middle of the step. It
    starts at first order, like :func:`~sdelib.steps.ddim`.
    """

    memory = 1

    def coefficients(self, sde: SDE, ts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        alpha, sigma = sde.kernel(ts)
        h = torch.log(alpha / sigma).diff()
        gain = -alpha[1:] * torch.expm1(-h)  # of D, which is U / alpha
        ahead = torch.cat([h[:1] * 0, h[1:] / (2 * h[:-1])])
        now, before = gain * (1 + ahead) / alpha[:-1], gain * ahead
        before[1:] /= -alpha[:-2]
        keep = sigma[1:] / sigma[:-1]
        return sigma[:-1] ** 2, keep, torch.stack([now, before], dim=1)


class Adams(Multistep):
    r"""Adams's method on the flow ODE in the angle :math:`\theta = \arctan(\sigma/\alpha)`, one
    score call a step.

    The step to ``s`` extrapolates :math:`V(\theta)` by the polynomial through its last ``order -
    1`` values and integrates that (Bashforth). The next call evaluates the score there, which gives
    one more value of :math:`V`: first it repeats the last step with the polynomial through that
    value as well (Moulton), then it steps on from the better place. The value itself is not
    computed again (predict, evaluate, correct: Hairer, Nørsett and Wanner 1993, Sec. III.1), so
    correcting is
    free: it only changes the weights. The last step, to 0, takes the place of
        :func:`~sdelib.score.denoise` and corrects the
    last but one.

    Args:
        order: Number of values that the correction uses, at least 2; also the order of convergence,
            as far as the first steps, with fewer values at hand, allow: these make it 3 in the
            limit. (From ``t = 1``, where nothing happens yet, 4 and 5 are seen down to errors that
            no one needs.)

    Raises:
        ValueError: if ``order < 2``.
    """

    to_zero = True

    def __init__(self, order: int = 4):
        require(order >= 2, "order", order, "at least 2")
        super().__init__()
        self.memory = order - 1

    def coefficients(self, sde: SDE, ts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        alpha, sigma = sde.kernel(ts)
        c, angle = torch.hypot(alpha, sigma), torch.atan2(sigma, alpha)
        # The value j calls ago of step i was taken at time i - j, if there was one.
        i = torch.arange(len(ts) - 1, device=ts.device)
        j = torch.arange(self.memory + 1, device=ts.device)
        there, times = i[:, None] >= j, (i[:, None] - j).clamp(min=0)
        predict, correct = integrals(
            angle[times].repeat(2, 1),
            torch.cat([there & (j < self.memory), there]),
            torch.cat([angle[:-1], angle[i - 1]]),
            torch.cat([angle[1:], angle[:-1]]),
        ).chunk(2)
        # A correction takes back the last prediction, whose value j - 1 calls ago is this step's j
        # calls ago.
        correct[0] = 0  # no step lies before the first
        correct[1:, 1:] -= predict[:-1, :-1]
        slope = -sigma / (alpha * c)  # V = slope U
        weights = c[1:, None] * (predict + correct) * slope[times]
        return c[:-1] ** 2, c[1:] / c[:-1], weights


def integrals(nodes: Tensor, there: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """Weights with which values at ``nodes`` enter the integral, ``start`` to ``end``, of the
    polynomial through them.

    Args:
        nodes: Shape ``(m, k)``: ``m`` problems of up to ``k`` nodes each, like the weights.
        there: Which nodes there are, the first ones of each problem; the others have weight 0.
        start: Shape ``(m,)``, as ``end``.
    """
    length = end - start
    u = torch.where(there, (nodes - start[:, None]) / length[:, None], 0)
    k = torch.arange(nodes.shape[1]).to(u)
    # On [0, 1] the integral of u^k is 1 / (k + 1), and the weights must give it exactly.
    powers = torch.where(there[:, None], torch.linalg.vander(u), torch.eye(len(k)).to(u)).mT
    moments = torch.where(there, 1 / (k + 1), 0)
    return length[:, None] * torch.linalg.solve(powers, moments)
