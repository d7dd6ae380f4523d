r"""Scores: exact, learned or guided, each a function :math:`(x, t) \mapsto \nabla \log p_t(x)`."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.autograd.graph import get_gradient_edge

from ._checks import (
    require,
    require_like,
    require_tensor,
    require_times,
    require_type,
    values_can_be_read,
)
from ._guard import guard
from .mixtures import GaussianMixture
from .sde import SDE, like

Score = Callable[[Tensor, Tensor], Tensor]
"""Maps states ``(B, *event)`` and times ``()`` or ``(B,)`` to a tensor shaped like the states."""


def exact_score(sde: SDE, target: GaussianMixture) -> Score:
    """The true score of the mixture ``target`` carried forward by ``sde``.

    It is computed in the dtype and on the device of the states.
    """

    def score(x: Tensor, t: Tensor) -> Tensor:
        require_times(t)
        t = t.to(x)
        return target.to(x).perturb(sde.alpha(t), sde.sigma(t)).score(x)

    return score


def translate(score: Score, sde: SDE, to: SDE) -> Score:
    r"""The score of the process ``to``, from that of ``sde``, for the same data.

    At equal noise-to-signal ratio :math:`\sigma/\alpha` two processes are the same but for scale
    (Song, Meng and Ermon 2021, Prop. 1; Karras et al. 2022, Eq. 4). With :math:`\tau` the time at
    which ``sde`` has the ratio that ``to`` has at ``t``, and
    :math:`k = \alpha(\tau) / \alpha_{\mathrm{to}}(t)`,

    .. math:: s_{\mathrm{to}}(x, t) = k\, s(k x, \tau) .

    The result raises ``ValueError`` where ``to`` has a larger ratio than ``sde`` has at time 1.
    """
    end = sde.at(1.0)
    largest = end.sigma / end.alpha

    def translated(x: Tensor, t: Tensor) -> Tensor:
        require_times(t)
        ratio = to.sigma(t) / to.alpha(t)
        if values_can_be_read(ratio) and not (ratio <= 1.001 * largest).all():
            # a little more is what single precision makes of the last time
            allowed = f"where sigma / alpha is at most {largest:.4g}, as for {sde}"
            require(False, "t", f"a time of {to} where it is {ratio.max():.4g}", allowed)
        tau = sde.time_of(ratio)
        k = like(sde.alpha(tau) / to.alpha(t), x)
        return k * score(k * x, tau)

    return translated


def grad_log(log_prob: Callable[[Tensor, Tensor], Tensor]) -> Score:
    """The score of a log-density ``log_prob(x, t) -> (B,)`` by automatic differentiation.

    The density need not be normalised: a constant has no gradient. A log-likelihood
    ``log p_t(y | x)`` serves as well. Where ``x`` is being differentiated (a divergence, for
    instance), the score can be differentiated in its turn.

    Raises:
        ValueError: if ``log_prob(x, t)`` is not one number for each state, or not differentiable
            in ``x``.
    """

    def score(x: Tensor, t: Tensor) -> Tensor:
        require(x.ndim > 0, "x", "shape ()", "of shape (B, *event)")
        twice = x.requires_grad and torch.is_grad_enabled()
        with torch.enable_grad():
            x = x if twice else x.detach().requires_grad_()
            out = log_prob(x, t)
            require_tensor("log_prob(x, t)", out)
            each = out.shape[:1] == x.shape[:1] and out.numel() == len(x)  # (B, 1) is as good
            require(each, "log_prob(x, t)", f"shape {tuple(out.shape)}", "one number for each x")
            require_graph("log_prob(x, t)", out, x)
            return torch.autograd.grad(out.sum(), x, create_graph=twice)[0]

    return score


def checked(score: Score, name: str = "score") -> Score:
    """The same score, refusing what would be broadcast in silence, or lost to a derivative.

    A value of another shape, or one made under ``no_grad``, detached or in numpy, would go
    unnoticed in a sum such as the velocity of the flow.

    Raises:
        ValueError: when the value is not shaped like the states, or the states are being
            differentiated and autograd cannot trace it back to them.
        TypeError: when the value is no floating-point tensor.
    """
    if not callable(score) or isinstance(score, type):
        require_type(name, score, (), "a function of states and times")
    return score if getattr(score, "func", None) is _checked else partial(_checked, score, name)


def _checked(function: Callable[..., Tensor], name: str, x: Tensor, *t: Tensor) -> Tensor:
    try:
        if t and t[0].dtype != x.dtype:  # a network of the reader's may not take both
            t = (t[0].to(x.dtype),)
        out = function(x, *t)
    except Exception:
        for argument, value in zip(("x", "t"), (x, *t)):
            require_tensor(argument, value)
        raise
    if type(out) is not Tensor or out.dtype != x.dtype or out.shape != x.shape or out.is_meta:
        require_tensor("x", x)
        require_like(f"{name}(x, t)" if t else f"{name}(x)", out, x)
        out = out.to(x)
    if x.requires_grad and torch.is_grad_enabled() and t:
        require_graph(f"{name}(x, t)", out, x)
    return out


def require_graph(name: str, out: Tensor, x: Tensor) -> None:
    """Raise ``ValueError`` unless autograd can trace ``out`` back to ``x``."""
    require_tensor(name, out)
    require_tensor("x", x)
    todo = [get_gradient_edge(out).node] if out.requires_grad and x.requires_grad else []
    seen, end = set(todo), get_gradient_edge(x).node if todo else None
    while todo and end not in seen:
        found = {node for node, _ in todo.pop().next_functions if node} - seen
        todo, seen = todo + list(found), seen | found
    allowed = (
        "differentiable in x: no no_grad, inference_mode, detach or numpy inside; "
        "where it is constant, add 0 * x"
    )
    require(end in seen, name, "a value that autograd cannot trace back to x", allowed)


def denoise(score: Score, sde: SDE, x: Tensor, t: Tensor) -> Tensor:
    r"""The posterior mean :math:`E[x_0 \mid x_t = x] = (x + \sigma^2 \nabla \log p_t(x)) / \alpha`.

    Tweedie's formula (Efron 2011); shaped like ``x``.
    """
    require_times(t)
    alpha, sigma = like(sde.alpha(t), x), like(sde.sigma(t), x)
    return (x + sigma**2 * score(x, t)) / alpha


def reverse_drift(score: Score, sde: SDE, x: Tensor, t: Tensor, eta: float = 1.0) -> Tensor:
    r"""Drift of the reverse-time SDE, shaped like ``x``, or of the flow ODE at ``eta = 0``.

    .. math:: f x - \tfrac{1 + \eta^2}{2}\, g^2\, \nabla \log p_t(x)

    Anderson (1982); Song et al. (2021), Eq. 6 at :math:`\eta = 1`, Eq. 13 at 0.
    """
    require(abs(eta) < 1e100, "eta", eta, "below 1e100 in size")
    return sde.drift(x, t) - (1 + eta**2) / 2 * like(sde.g(t), x) ** 2 * score(x, t)


guard(__name__, inner=("checked", "require_graph"), score=checked)
