"""Small networks, and the wrapper that makes a network a score."""

import math

import torch
from torch import Tensor, nn

from ._checks import require
from .sde import SDE, like


class GaussianFourierFeatures(nn.Module):
    r"""The map :math:`t \mapsto (\sin 2\pi w_k t, \cos 2\pi w_k t)_k` with fixed random :math:`w_k \sim \mathcal N(0, \mathrm{scale}^2)`.

    A network sees sharp changes in time far more easily through these waves than through the number ``t`` itself
    (Tancik et al. 2020; Song et al. 2021, App. H.2).

    Args:
        n_features: Number of frequencies; the output is twice as wide.
        scale: Standard deviation of the frequencies, in cycles per unit of time.
    """

    def __init__(self, n_features: int, scale: float = 1.0):
        super().__init__()
        require(n_features >= 1, "n_features", n_features, "at least 1")
        require(scale > 0, "scale", scale, "positive")
        self.register_buffer("frequencies", scale * torch.randn(n_features))

    def forward(self, t: Tensor) -> Tensor:
        """Times of shape ``(B,)`` to features of shape ``(B, 2 n_features)``."""
        phase = 2 * math.pi * t[:, None] * self.frequencies
        return torch.cat([phase.sin(), phase.cos()], 1)


class MLP(nn.Module):
    """A multilayer perceptron of state and time, for points in ``dim`` dimensions.

    Args:
        dim: Dimension ``d`` of the points.
        width: Width of the hidden layers.
        depth: Number of hidden layers.
        n_features: Number of Gaussian Fourier frequencies of time.
        scale: Their standard deviation, in cycles per unit of time.
    """

    def __init__(
        self,
        dim: int,
        width: int = 64,
        depth: int = 3,
        n_features: int = 8,
        scale: float = 1.0,
    ):
        super().__init__()
        for name, value in (("dim", dim), ("width", width), ("depth", depth)):
            require(value >= 1, name, value, "at least 1")
        self.time = GaussianFourierFeatures(n_features, scale)
        widths = [dim + 1 + 2 * n_features] + [width] * depth
        hidden = [
            layer
            for a, b in zip(widths, widths[1:])
            for layer in (nn.Linear(a, b), nn.SiLU())
        ]
        self.layers = nn.Sequential(*hidden, nn.Linear(width, dim))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """States ``(B, d)`` and times ``()`` or ``(B,)`` to a tensor shaped like ``x``."""
        t = t.expand(len(x))
        return self.layers(torch.cat([x, 2 * t[:, None] - 1, self.time(t)], 1))


class ResidualScore(nn.Module):
    r"""A score: that of the one Gaussian with the data's mean and variance, plus what a network adds to it.

    With :math:`m, v` the mean and variance of the data, :math:`c(t) = (\alpha^2 v + \sigma^2)^{-1/2}` makes
    :math:`u = c\,(x_t - \alpha m)` a state of unit variance at every time, and

    .. math:: s(x, t) = c\,[\mathrm{net}(u, t) - u].

    With ``net = 0`` this is the exact score of Gaussian data. The network sees and returns numbers of order 1, and has
    least to do at large times, where every law is nearly Gaussian.

    Args:
        net: Maps standardised states ``(B, *event)`` and times to a tensor shaped like the states.
        sde: The SDE whose score is learned.
        data: The training data, shape ``(n, *event)``; only their overall mean and variance are used.
    """

    def __init__(self, net: nn.Module, sde: SDE, data: Tensor):
        super().__init__()
        self.net, self.sde = net, sde
        self.register_buffer("mean", data.mean(0))
        self.register_buffer("variance", (data - self.mean).square().mean())

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """The score at states ``(B, *event)`` and times ``()`` or ``(B,)``, shaped like ``x``."""
        alpha, sigma = self.sde.alpha(t), self.sde.sigma(t)
        scale = like((alpha**2 * self.variance + sigma**2).rsqrt(), x)
        u = scale * (x - like(alpha, x) * self.mean)
        return scale * (self.net(u, t) - u)
