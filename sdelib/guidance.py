r"""Controllable generation: functions from scores to scores (Song et al. 2021, Sec. 5 and App. I).

Bayes' rule for scores (Eq. 14) is all there is to it,

.. math:: \nabla \log p_t(x \mid y) = \nabla \log p_t(x) + \nabla \log p_t(y \mid x),

so whatever supplies the second term runs under every sampler. Exact terms give exact answers; each
approximation below says where it stops being one. A guided score raises ``ValueError`` if a part is
not shaped like the states, or is differentiated where autograd cannot trace it back to them.
"""

import math
from numbers import Real

import torch
from torch import Tensor

from ._checks import (
    require,
    require_finite,
    require_shape,
    require_tensor,
    require_times,
    values_can_be_read,
)
from ._guard import at_least_single, guard
from .mixtures import symmetrised
from .score import Score, checked, denoise, grad_log
from .sde import SDE, like


def add(prior: Score, likelihood: Score, scale: float | Tensor = 1.0) -> Score:
    """``prior + scale * likelihood``: Bayes' rule at ``scale = 1`` (Eq. 14).

    Args:
        prior: The score of the data, ``grad log p_t(x)``.
        likelihood: ``grad log p_t(y | x)`` of the *noisy* state, for instance
            :func:`~sdelib.score.grad_log` of a classifier's log-probability.
        scale: A number, or one for each state, shape ``(B,)``. Above 1 it stresses ``y`` more than
            Bayes does (Dhariwal and Nichol 2021); that is no diffused law's score.
    """
    prior, likelihood = checked(prior, "prior"), _times(scale, likelihood, "likelihood")
    return lambda x, t: prior(x, t) + likelihood(x, t)


def classifier_free(conditional: Score, unconditional: Score, scale: float | Tensor) -> Score:
    """``(1 - scale) unconditional + scale conditional`` (Ho and Salimans 2022).

    ``scale`` is a number, or one for each state, shape ``(B,)``: 0 ignores the label, 1 obeys it.
    Their guidance strength is ``scale - 1``. For exact scores this is :func:`add` with a
    classifier.
    """
    scale = _real(scale)
    conditional = _times(scale, conditional, "conditional")
    unconditional = _times(1 - scale, unconditional, "unconditional")
    return lambda x, t: unconditional(x, t) + conditional(x, t)


def _real(scale: float | Tensor) -> float | Tensor:
    """The scale in floating point, as of integers without a sign there is no ``1 - scale``."""
    kind = scale.dtype if isinstance(scale, Tensor) else type(scale)
    exact = isinstance(scale, Real) if isinstance(kind, type) else not kind.is_complex
    if not exact or kind in (bool, torch.bool) or (isinstance(scale, Tensor) and scale.is_meta):
        raise TypeError(f"scale must be a real number or a tensor of them, got {kind}")
    if not isinstance(scale, Tensor):
        return float(scale)
    return scale if scale.is_floating_point() else scale.double()


def _times(scale: float | Tensor, score: Score, name: str) -> Score:
    """``scale * score``: zero where the scale is, whatever the score, which a 0 does not call."""
    scale = _real(scale)
    score, values = checked(score, name), torch.as_tensor(scale)
    require(values.ndim <= 1, "scale", f"shape {tuple(values.shape)}", "of shape () or (B,)")
    require(bool(values.isfinite().all()), "scale", scale, "finite")
    if not isinstance(scale, Tensor):
        return lambda x, t: scale * score(x, t) if scale else torch.zeros_like(x)

    def scaled(x: Tensor, t: Tensor) -> Tensor:
        require_shape("scale", scale, *x.shape[: scale.ndim])
        w = like(scale, x)
        return torch.where(w == 0, 0, w * score(x, t))

    return scaled


def inpaint(score: Score, sde: SDE, y: Tensor, known: Tensor) -> Score:
    """Imputation by replacement (App. I.2): known coordinates follow the kernel from ``y``.

    The known part is exact, and follows one path (the paper draws it afresh at every step). The
    free coordinates are told what the known ones look like now, not what they will be at time 0,
    which biases them; a corrector after each step mends that within a mode, not the modes' weights.
    At ``t = 0`` there is no such score.

    Args:
        score: The score of the data, which the free coordinates follow.
        sde: The process.
        y: Clean values, an event or one for each state; only its known entries are read.
        known: Boolean mask shaped like ``y``.
    """
    if not isinstance(known, Tensor) or known.dtype != torch.bool or known.is_meta:
        raise TypeError(f"known must be a boolean tensor, got {getattr(known, 'dtype', known)}")
    require_tensor("y", y)
    require_shape("known", known, *y.shape)
    require_finite("y", y[known])
    y, score = torch.where(known, y, 0), checked(score)

    def conditional(x: Tensor, t: Tensor) -> Tensor:
        require_times(t)
        require_shape("y", y, *(x.shape if y.ndim == x.ndim else x.shape[1:]))
        fine = at_least_single(x, "x")  # the square of a small sigma is less than half can hold
        t_fine = at_least_single(t, "t")
        alpha, sigma = like(sde.alpha(t_fine), fine), like(sde.sigma(t_fine), fine)
        if values_can_be_read(sigma):
            require(bool((sigma > 0).all()), "t", 0, "above 0 where coordinates are known")
        pull = ((alpha * y.to(fine) - fine) / sigma**2).to(x.dtype)
        return torch.where(known.to(x.device), pull, score(x, t))

    return conditional


def tweedie_likelihood(
    score: Score, sde: SDE, A: Tensor, y: Tensor, std: float, cov: Tensor
) -> Score:
    r"""Approximate :math:`\nabla \log p_t(y \mid x)` for :math:`y = A x_0 + \mathrm{std}\,n`.

    Here ``n`` is standard normal. The law of ``x_0`` given ``x_t`` is replaced by a normal one. Its
    mean is right, :func:`~sdelib.score.denoise`; its covariance is what it would be if the data
    were normal with covariance ``cov``,
    :math:`(\mathrm{cov}^{-1} + \tfrac{\alpha^2}{\sigma^2} I)^{-1}`. For such data the result is
    exact, otherwise biased. A multiple of the identity gives the likelihood of Song et al. (2023,
    Pi-GDM), zero that of Chung et al. (2023, DPS, here without their tuned step), which forgets
    that ``x_0`` is uncertain.

    Args:
        score: The score of the data; its derivative is taken, by automatic differentiation.
        sde: The process.
        A: Linear map of the flattened state, shape ``(m, d)``.
        y: Observation, shape ``(m,)``.
        std: Standard deviation of its noise, positive.
        cov: Covariance of the flattened data, shape ``(d, d)``, symmetric up to rounding and
            positive semidefinite.
    """
    for name, value in (("A", A), ("y", y), ("cov", cov)):
        require_finite(name, value)
    require_shape("A", A, "m", "d")
    m, d = A.shape
    require_shape("y", y, m)
    require(0 < std < math.inf, "std", std, "positive and finite")
    require_shape("cov", cov, d, d)
    variances, axes = torch.linalg.eigh(symmetrised("cov", cov).double())
    smallest, size = variances.min().item(), variances.abs().max().item()
    got = f"an eigenvalue of {smallest:g}"
    require(smallest >= -1e-6 * size, "cov", got, "positive semidefinite")
    variances, seen, score = variances.clamp(min=0), A.double() @ axes, checked(score)
    noise_cov = std**2 * torch.eye(m).to(seen)

    def log_prob(x: Tensor, t: Tensor) -> Tensor:
        rows = denoise(score, sde, x, t).flatten(1)
        require_shape("flattened x", rows, "B", d)
        alpha2, sigma2 = (c.to(seen)[..., None] ** 2 for c in (sde.alpha(t), sde.sigma(t)))
        # written so that a variance of 0 stays 0 at t = 0
        spread = variances * sigma2 / (alpha2 * variances + sigma2).clamp(min=1e-300)
        covs = (seen * spread[..., None, :]) @ seen.mT + noise_cov
        residual = (y.to(x) - rows @ A.to(x).mT)[..., None].to(covs)
        return -0.5 * (residual * torch.linalg.solve(covs, residual)).flatten(1).sum(1)

    return grad_log(log_prob)


guard(__name__, known=None, scale=None)
