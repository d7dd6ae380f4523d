r"""Scores. Exact, learned or guided, a score is one thing: a function :math:`(x, t) \mapsto
\nabla_x \log p_t(x)`.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from .mixtures import GaussianMixture
from .sde import SDE, like

Score = Callable[[Tensor, Tensor], Tensor]
"""Maps states ``x`` of shape ``(B, *event)`` and times ``t`` of shape ``()`` or ``(B,)`` to a tensor shaped like ``x``."""


def exact_score(sde: SDE, target: GaussianMixture) -> Score:
    """The true score of the mixture ``target`` carried forward by ``sde``, in the dtype and on the
    device of ``x``.
    """

    def score(x: Tensor, t: Tensor) -> Tensor:
        return target.to(x).perturb(*sde.kernel(t)).score(x)

    return score


def grad_log(log_prob: Callable[[Tensor, Tensor], Tensor]) -> Score:
    """The score of a log-density ``log_prob(x, t) -> (B,)`` by automatic differentiation.

    The density need not be normalised: a constant has no gradient. A log-likelihood ``log p_t(y |
    x)`` serves as well. Where ``x`` is being differentiated (a divergence, for instance), the score
    can be differentiated in its turn.
    """

    def score(x: Tensor, t: Tensor) -> Tensor:
        twice = x.requires_grad and torch.is_grad_enabled()
        with torch.enable_grad():
            x = x if twice else x.detach().requires_grad_()
            return torch.autograd.grad(log_prob(x, t).sum(), x, create_graph=twice)[0]

    return score


def denoise(score: Score, sde: SDE, x: Tensor, t: Tensor) -> Tensor:
    r"""The posterior mean :math:`E[x_0 \mid x_t = x] = (x + \sigma^2 \nabla \log p_t(x)) / \alpha`,
    shaped like ``x``.

    Tweedie's formula (Efron 2011); as the last step of a sampler it removes the noise left at
    ``t_min``.
    """
    alpha, sigma = (like(c, x) for c in sde.kernel(t))
    return (x + sigma**2 * score(x, t)) / alpha
