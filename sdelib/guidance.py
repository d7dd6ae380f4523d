r"""Controllable generation: functions from scores to scores (Song et al. 2021, Sec. 5 and App. I).

Bayes' rule for scores (Eq. 14) is all there is to it,

.. math:: \nabla \log p_t(x \mid y) = \nabla \log p_t(x) + \nabla \log p_t(y \mid x),

so whatever supplies the second term runs under every sampler. Exact terms give exact answers; each
approximation below says where it stops being one.
"""

import torch
from torch import Tensor

from ._checks import require, require_finite, require_shape
from .score import Score, denoise, grad_log
from .sde import SDE, like


def add(prior: Score, likelihood: Score, scale: float = 1.0) -> Score:
    """``prior + scale * likelihood``: Bayes' rule at ``scale = 1`` (Eq. 14), classifier guidance at
    any other.

    Args:
        prior: The score of the data, ``grad log p_t(x)``.
        likelihood: ``grad log p_t(y | x)`` of the *noisy* state, for instance
            :func:`~sdelib.score.grad_log` of a classifier's log-probability.
        scale: Above 1 it stresses ``y`` more than Bayes does (Dhariwal and Nichol 2021); that is no
            diffused law's score.
    """
    return lambda x, t: prior(x, t) + scale * likelihood(x, t)


def classifier_free(conditional: Score, unconditional: Score, scale: float) -> Score:
    """``unconditional + scale (conditional - unconditional)``: 0 ignores the label, 1 obeys it (Ho
    and Salimans 2022).

    Their guidance strength is ``scale - 1``. For exact scores this is :func:`add` with a
    classifier.
    """
    return lambda x, t: torch.lerp(unconditional(x, t), conditional(x, t), scale)


def inpaint(score: Score, sde: SDE, y: Tensor, known: Tensor) -> Score:
    """Imputation by replacement (App. I.2): known coordinates follow the kernel from ``y``, the
    others the score.

    The known part is exact, and follows one path (the paper draws it afresh at every step). The
    free coordinates are told what the known ones look like now, not what they will be at time 0,
    which biases them; a corrector after each step mends that within a mode, not the modes' weights.

    Args:
        y: Clean values, of the event's shape; only its known entries are read.
        known: Boolean mask of the same shape.

    Raises:
        ValueError: if ``known`` is not boolean or not shaped like ``y``, or a known value is not
            finite.
    """
    require(known.dtype == torch.bool, "known", known.dtype, "boolean")
    require_shape("known", known, *y.shape)
    require_finite("y", y[known])

    def conditional(x: Tensor, t: Tensor) -> Tensor:
        kernel = (like(sde.alpha(t), x) * y.to(x) - x) / like(sde.sigma(t), x) ** 2
        return torch.where(known.to(x.device), kernel, score(x, t))

    return conditional


def tweedie_likelihood(
    score: Score, sde: SDE, A: Tensor, y: Tensor, std: float, cov: Tensor
) -> Score:
    r"""Approximate :math:`\nabla \log p_t(y \mid x)` for :math:`y = A x_0 + \mathrm{std}\,n`, ``n``
    standard normal.

    The law of ``x_0`` given ``x_t`` is replaced by a normal one. Its mean is right,
    :func:`~sdelib.score.denoise`; its covariance is what it would be if the data were normal with
    covariance ``cov``, :math:`(\mathrm{cov}^{-1} + \tfrac{\alpha^2}{\sigma^2} I)^{-1}`. For such
    data the result is exact, otherwise biased. A multiple of the identity gives the method of Song
    et al. (2023, Pi-GDM), zero that of Chung et al. (2023, DPS, here without their tuned step),
    which forgets that ``x_0`` is uncertain.

    Args:
        score: The score of the data; its derivative is taken, by automatic differentiation.
        A: Linear map of the flattened state, shape ``(m, d)``.
        y: Observation, shape ``(m,)``.
        std: Standard deviation of its noise, positive.
        cov: Covariance of the flattened data, shape ``(d, d)``, symmetric and positive
            semidefinite.

    Raises:
        ValueError: naming the argument whose shape or value is not as above.
    """
    for name, value in (("A", A), ("y", y), ("cov", cov)):
        require_finite(name, value)
    require_shape("A", A, "m", "d")
    m, d = A.shape
    require_shape("y", y, m)
    require(std > 0, "std", std, "positive")
    require_shape("cov", cov, d, d)
    require(torch.allclose(cov, cov.mT), "cov", "a matrix that is not", "symmetric")
    variances, axes = torch.linalg.eigh(cov.double())
    smallest = variances.min().item()
    require(
        smallest >= -1e-6 * variances.abs().max(),
        "cov",
        f"an eigenvalue of {smallest:g}",
        "positive semidefinite",
    )
    variances, seen = variances.clamp(min=0), A.double() @ axes

    def log_prob(x: Tensor, t: Tensor) -> Tensor:
        noise = (sde.sigma(t) / sde.alpha(t)).double()[
            ..., None
        ] ** 2  # of x_t / alpha as an observation of x_0
        spread = variances * noise / (variances + noise)
        covs = (seen * spread[..., None, :]) @ seen.mT + std**2 * torch.eye(m).to(seen)
        residual = (y.to(x) - denoise(score, sde, x, t).flatten(1) @ A.to(x).mT)[..., None]
        return -0.5 * (residual * torch.linalg.solve(covs.to(x), residual)).flatten(1).sum(1)

    return grad_log(log_prob)
