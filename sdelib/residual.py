"""A score that starts from a Gaussian mixture and leaves the rest to a network."""

import torch
from torch import Tensor, nn

from ._checks import require
from .mixtures import GaussianMixture
from .sde import SDE, like


class MixtureResidualScore(nn.Module):
    r"""A score: that of a Gaussian mixture, one component for each label, plus what a network adds
    to it.

    Let :math:`s_0` be the score of the mixture carried forward by the SDE, :math:`D_0 = (x +
    \sigma^2 s_0)/\alpha` the posterior mean of the datum it implies, and :math:`v` the mixture's
    mean variance. Then

    .. math:: s(x, t) = s_0(x, t) + \frac{\alpha \sqrt v}{\sigma \sqrt{\alpha^2 v + \sigma^2}}\,
    \mathrm{net}(u, t),
        \qquad u = \Big(\frac{x}{\sqrt{\alpha^2 v + \sigma^2}}, \frac{D_0}{\sqrt v}\Big).

    The network sees the noisy state and the mixture's guess at the clean one. The factor is what
    one Gaussian of variance :math:`v` would leave unknown, so that the network works with numbers
    of order 1 at every time (Karras et al. 2022, Sec. 5; there :math:`s_0` is the score of one
    Gaussian). Given a label, :math:`s_0` is the score of its component.

    Args:
        net: Maps ``u``, shape ``(B, 2 C, ...)`` for events of shape ``(C, ...)``, times and labels
            to ``(B, C, ...)``.
        sde: The SDE whose score is learned.
        mixture: A mixture of flattened events, for instance
            :meth:`~sdelib.mixtures.GaussianMixture.from_classes`.
    """

    def __init__(self, net: nn.Module, sde: SDE, mixture: GaussianMixture):
        super().__init__()
        require(mixture.axes is not None, "mixture.axes", None, "given")
        self.net, self.sde = net, sde
        for name in ("weights", "means", "variances", "axes"):
            self.register_buffer(name, getattr(mixture, name))
        self.register_buffer("variance", mixture.cov.diagonal().mean())

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        """The score at states ``(B, *event)`` and times ``()`` or ``(B,)``, shaped like ``x``.

        Labels have shape ``()`` or ``(B,)``; as for ``None``, there is no condition where one is
        ``K``, the null label. As a score of ``x`` and ``t`` alone, the conditional one is
        ``functools.partial(score, label=label)``.
        """
        alpha, sigma = (like(c, x) for c in self.sde.kernel(t))
        start = self.mixture_score(x, t, label)
        denoised = (x + sigma**2 * start) / alpha
        std = (alpha**2 * self.variance + sigma**2).sqrt()
        u = torch.cat([x / std, denoised / self.variance.sqrt()], 1)
        scale = alpha * self.variance.sqrt() / (sigma * std)
        return start + scale * self.net(u, t, label)

    def mixture_score(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        """The score that training starts from, exact for the mixture; arguments as in
        :meth:`forward`.
        """
        mixture = GaussianMixture(self.weights, self.means, self.variances, self.axes)
        law, points = mixture.perturb(*self.sde.kernel(t)), x.flatten(1)
        log_joint = law.log_joint(points)
        if label is not None:
            k = torch.arange(len(self.weights), device=x.device)
            label = label.expand(len(x))[:, None]
            ruled_out = (label != k) & (label < len(k))
            log_joint = log_joint.masked_fill(ruled_out, -torch.inf)
        responsibility = log_joint.softmax(-1)[..., None]
        return (responsibility * law.pulls(points)).sum(-2).reshape(x.shape)
