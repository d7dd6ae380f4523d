r"""Training: three losses with the score as their minimiser, and a loop around any loss.

Denoising score matching (Vincent 2011; Song et al. 2021, Eq. 7) regresses on the kernel's score,
which is known: :math:`\nabla_{x_t} \log p(x_t \mid x_0) = -z / \sigma(t)` when :math:`x_t =
\alpha(t) x_0 + \sigma(t) z`. Time is continuous, and each datum meets one time and one noise a
step.

Implicit score matching (Hyvarinen 2005) needs no kernel: it replaces the unknown score by the
divergence of the score on trial, at ``d`` derivative passes a batch. Sliced score matching (Song et
al. 2020) estimates that divergence along one random direction, in one pass. All three are parallel:
same arguments, same draws of time and noise for the same generator.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ._checks import require, require_finite
from ._progress import tqdm
from .checkpoints import Checkpoint
from .score import Score
from .sde import SDE, like, randn_like

Times = Callable[[Tensor, torch.Generator | None], Tensor]
"""``times(x0, generator) -> u``: one uniform number in [0, 1) for each datum, shape ``(B,)``."""


def uniform(x0: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Independent uniform numbers, one a datum."""
    return torch.rand(len(x0), generator=generator, dtype=x0.dtype, device=x0.device)


def low_discrepancy(x0: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """One uniform number in each of ``B`` equal slices of [0, 1): each is uniform over the slices'
    random order.

    The times of a batch then cover the interval evenly, which takes the variance between slices out
    of the loss (stratified sampling; Kingma et al. 2021, App. I.1, shift one grid instead).
    """
    n = max(len(x0), 1)
    slices = torch.randperm(len(x0), generator=generator, device=x0.device)
    return (slices + uniform(x0, generator)) / n


def dsm_error(score: Score, sde: SDE, x0: Tensor, t: Tensor, z: Tensor) -> Tensor:
    r"""The loss of each datum at a given time and noise, :math:`\lVert \sigma(t)\, s(x_t, t) + z
    \rVert^2`, shape ``(B,)``.

    It is :math:`\sigma(t)^2` times the squared distance from the score to its target
    :math:`-z/\sigma(t)`, at :math:`x_t = \alpha(t) x_0 + \sigma(t) z`. Whoever chooses ``t`` and
    ``z`` chooses the variance of training.
    """
    alpha, sigma = (like(c, x0) for c in sde.kernel(t))
    x_t = alpha * x0 + sigma * z
    return (sigma * score(x_t, t) + z).flatten(1).square().sum(1)


def dsm_loss(
    score: Score,
    sde: SDE,
    x0: Tensor,
    weight: Callable[[Tensor], Tensor] | None = None,
    t_min: float = 1e-3,
    generator: torch.Generator | None = None,
    times: Times = uniform,
) -> Tensor:
    r"""One unbiased draw of the denoising loss, a scalar.

    .. math:: E_{t \sim U[t_{\min}, 1]}\, \lambda(t)\, E\, \lVert s(x_t, t) - \nabla \log p(x_t \mid
    x_0) \rVert^2

    Its minimiser is the score of the diffused data; its minimum is not zero.

    Args:
        score: The score to be judged, usually a network.
        x0: A batch of data, shape ``(B, *event)``.
        weight: :math:`\lambda(t)`, by default :math:`\sigma(t)^2`: proportional to the inverse of
            the target's mean square, as the paper suggests. ``lambda t: sde.g(t) ** 2`` is the
            likelihood weighting.
        t_min: Smallest time, inside (0, 1); at 0 the target is infinite.
        generator: Source of the times and the noise.
        times: How the ``B`` times fill the interval: :func:`uniform` or :func:`low_discrepancy`.

    Raises:
        ValueError: if ``t_min`` lies outside (0, 1) or ``x0`` holds NaN or infinity.
    """
    return _mean(
        lambda t, z: dsm_error(score, sde, x0, t, z),
        sde,
        x0,
        weight,
        t_min,
        generator,
        times,
    )


def ism_error(score: Score, sde: SDE, x0: Tensor, t: Tensor, z: Tensor) -> Tensor:
    r"""The implicit loss of each datum, :math:`\sigma^2\,(\lVert s(x_t, t) \rVert^2 + 2\, \nabla
    \cdot s(x_t, t))`, shape ``(B,)``.

    The exact divergence takes one derivative pass for each of the ``d`` entries of a state, so this
    is for few dimensions; ``score`` must be differentiable in ``x`` by autograd, each row of its
    output a function of the same row of ``x``. In the mean over ``x0`` and ``z`` it is
    :func:`dsm_error` less ``d``, whatever the score.
    """
    graph, x_t = torch.is_grad_enabled(), sde.diffuse(x0, t, z)
    with torch.enable_grad():
        x_t.requires_grad_()
        s = score(x_t, t)
        divergence = torch.zeros_like(s.flatten(1)[:, 0])
        for i, column in enumerate(s.flatten(1).unbind(1)):
            row = torch.autograd.grad(column.sum(), x_t, create_graph=graph, retain_graph=True)[0]
            divergence = divergence + row.flatten(1)[:, i]
    return like(sde.sigma(t), divergence) ** 2 * (s.flatten(1).square().sum(1) + 2 * divergence)


def ssm_error(score: Score, sde: SDE, x0: Tensor, t: Tensor, z: Tensor, v: Tensor) -> Tensor:
    r"""The sliced loss of each datum, :math:`\sigma^2\,(\lVert s \rVert^2 + 2\, v^\top \nabla
    (v^\top s))` at :math:`x_t`, shape ``(B,)``.

    Args:
        v: Probes shaped like ``x0``, with :math:`E[v v^\top] = I` and independent of the data and
            the noise; the mean over them is :func:`ism_error`. Signs have less variance than normal
            numbers.
    """
    graph, x_t = torch.is_grad_enabled(), sde.diffuse(x0, t, z)
    with torch.enable_grad():
        x_t.requires_grad_()
        s = score(x_t, t)
        row = torch.autograd.grad((v * s).sum(), x_t, create_graph=graph)[0]
    slope = (v * row).flatten(1).sum(1)
    return like(sde.sigma(t), slope) ** 2 * (s.flatten(1).square().sum(1) + 2 * slope)


def ism_loss(
    score: Score,
    sde: SDE,
    x0: Tensor,
    weight: Callable[[Tensor], Tensor] | None = None,
    t_min: float = 1e-3,
    generator: torch.Generator | None = None,
    times: Times = uniform,
) -> Tensor:
    r"""One unbiased draw of the implicit loss (Hyvarinen 2005, Theorem 1, at every noise level), a
    scalar.

    .. math:: E_{t \sim U[t_{\min}, 1]}\, \lambda(t)\, E\,[\lVert s(x_t, t) \rVert^2 + 2\, \nabla
    \cdot s(x_t, t)]

    Same arguments, default weight, draws, errors and minimiser as :func:`dsm_loss`, and a minimum
    lower by the mean of :math:`\lambda(t)\, d / \sigma(t)^2`. Costs ``d`` derivative passes, see
    :func:`ism_error`.
    """
    return _mean(
        lambda t, z: ism_error(score, sde, x0, t, z),
        sde,
        x0,
        weight,
        t_min,
        generator,
        times,
    )


def ssm_loss(
    score: Score,
    sde: SDE,
    x0: Tensor,
    weight: Callable[[Tensor], Tensor] | None = None,
    t_min: float = 1e-3,
    generator: torch.Generator | None = None,
    times: Times = uniform,
) -> Tensor:
    r"""One unbiased draw of the sliced loss, a scalar: :func:`ism_loss` with its divergence probed
    by random signs.

    This is the variance-reduced form of Song et al. (2020), whose first term is the full
    :math:`\lVert s \rVert^2`. Same arguments and errors as :func:`dsm_loss`; one derivative pass in
    any dimension.
    """

    def error(t: Tensor, z: Tensor) -> Tensor:
        return ssm_error(score, sde, x0, t, z, randn_like(x0, generator).sign())

    return _mean(error, sde, x0, weight, t_min, generator, times)


def _mean(
    error: Callable[[Tensor, Tensor], Tensor],
    sde: SDE,
    x0: Tensor,
    weight: Callable[[Tensor], Tensor] | None,
    t_min: float,
    generator: torch.Generator | None,
    times: Times,
) -> Tensor:
    """The weighted mean of ``error(t, z)`` over fresh times and noise; errors carry the weight
    ``sigma^2`` already.
    """
    require(0 < t_min < 1, "t_min", t_min, "inside (0, 1)")
    require_finite("x0", x0)
    t = t_min + (1 - t_min) * times(x0, generator)
    errors = error(t, randn_like(x0, generator))
    return (errors if weight is None else weight(t) / sde.sigma(t) ** 2 * errors).mean()


def fit(
    net: nn.Module,
    loss: Callable[[nn.Module], Tensor],
    n_steps: int,
    optimizer: Optimizer | Sequence[Optimizer] | None = None,
    schedule: LRScheduler | Sequence[LRScheduler] | None = None,
    ema_decay: float = 0.0,
    progress: bool = True,
    checkpoint: Checkpoint | None = None,
) -> Tensor:
    """Minimise ``loss(net)`` in place.

    Args:
        net: The network; on return it holds the averaged weights if ``ema_decay > 0``.
        loss: Draws a scalar loss afresh at each call, minibatch included.
        n_steps: Number of steps. A fixed number, not a time, makes a run repeatable.
        optimizer: Adam at a rate of 1e-3 if ``None``. Several share the work when each has some of
            the parameters: Muon takes the matrices of hidden layers only.
        schedule: Learning-rate schedule of that optimizer, or one for each, stepped once a step.
        ema_decay: Decay of the exponential moving average of the weights, in [0, 1).
        progress: Show a progress bar.
        checkpoint: Where to keep the state, and go on from if it is there already; nothing is kept
            if ``None``.

    Returns:
        The loss at each step, shape ``(n_steps,)``, steps before an interruption included.

    Raises:
        ValueError: if ``n_steps < 1``, ``ema_decay`` lies outside [0, 1), or the checkpoint holds
            another run.
        FloatingPointError: if the loss stops being finite.
    """
    require(n_steps >= 1, "n_steps", n_steps, "at least 1")
    require(0 <= ema_decay < 1, "ema_decay", ema_decay, "in [0, 1)")
    optimizer = optimizer or torch.optim.Adam(net.parameters(), lr=1e-3)
    optimizers = [optimizer] if isinstance(optimizer, Optimizer) else list(optimizer)
    schedules = [schedule] if isinstance(schedule, LRScheduler) else list(schedule or ())
    parts = [net, *optimizers, *schedules]
    if ema_decay:
        average = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(ema_decay))
        parts.append(average)
    run = {"n_steps": n_steps, "ema_decay": ema_decay}
    device = next(net.parameters()).device
    past = checkpoint.read(run, parts) if checkpoint else []
    history = [value.to(device) for value in past]
    steps = range(len(past), n_steps)
    if progress:
        steps = tqdm(steps, desc="training", initial=len(past), total=n_steps)
    for i in steps:
        for part in optimizers:
            part.zero_grad()
        value = loss(net)
        value.backward()
        for part in (*optimizers, *schedules):
            part.step()
        if ema_decay:
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
            if progress:
                steps.set_postfix(loss=f"{recent:.4f}")
        if keep:
            checkpoint.write(run, parts, history)
    if ema_decay:
        net.load_state_dict(average.module.state_dict())
    return torch.stack(history)
