"""Small networks, and the wrapper that makes a network a score."""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ._checks import require
from .sde import SDE, like


class GaussianFourierFeatures(nn.Module):
    r"""The map :math:`t \mapsto (\sin 2\pi w_k t, \cos 2\pi w_k t)_k` with fixed random :math:`w_k
    \sim \mathcal N(0, \mathrm{scale}^2)`.

    A network sees sharp changes in time far more easily through these waves than through the number
    ``t`` itself (Tancik et al. 2020; Song et al. 2021, App. H.2). Plane waves do the same for a
    point: with ``dim`` given, :math:`w_k` is a vector and :math:`w_k t` a scalar product.

    Args:
        n_features: Number of frequencies; the output is twice as wide.
        scale: Standard deviation of the frequencies, in cycles per unit of the input.
        dim: Dimension of the input; ``None`` for one number, such as a time.
    """

    def __init__(self, n_features: int, scale: float = 1.0, dim: int | None = None):
        super().__init__()
        require(n_features >= 1, "n_features", n_features, "at least 1")
        require(scale > 0, "scale", scale, "positive")
        shape = (n_features,) if dim is None else (n_features, dim)
        self.register_buffer("frequencies", scale * torch.randn(shape))

    def forward(self, x: Tensor) -> Tensor:
        """Numbers of shape ``(B,)``, or points ``(B, dim)``, to features of shape ``(B, 2
        n_features)``.
        """
        points = self.frequencies.ndim == 2
        turns = x @ self.frequencies.T if points else x[:, None] * self.frequencies
        phase = 2 * math.pi * turns
        return torch.cat([phase.sin(), phase.cos()], 1)


class MLP(nn.Module):
    """A multilayer perceptron of state and time, for points in ``dim`` dimensions.

    Args:
        dim: Dimension ``d`` of the points.
        width: Width of the hidden layers.
        depth: Number of hidden layers.
        n_features: Number of Gaussian Fourier frequencies of time.
        scale: Their standard deviation, in cycles per unit of time.
        n_waves: Number of Gaussian Fourier frequencies of the state, as many vectors in ``dim``
            dimensions. With them the network can follow detail much finer than the spread of the
            points.
        wave_scale: Their standard deviation, in cycles per unit of the state; under
            :class:`ResidualScore` that is the standardised one.
    """

    def __init__(
        self,
        dim: int,
        width: int = 64,
        depth: int = 3,
        n_features: int = 8,
        scale: float = 1.0,
        n_waves: int = 0,
        wave_scale: float = 1.5,
    ):
        super().__init__()
        for name, value in (("dim", dim), ("width", width), ("depth", depth)):
            require(value >= 1, name, value, "at least 1")
        require(n_waves >= 0, "n_waves", n_waves, "at least 0")
        self.time = GaussianFourierFeatures(n_features, scale)
        self.waves = GaussianFourierFeatures(n_waves, wave_scale, dim) if n_waves else None
        widths = [dim + 2 * n_waves + 1 + 2 * n_features] + [width] * depth
        hidden = [
            layer for a, b in zip(widths, widths[1:]) for layer in (nn.Linear(a, b), nn.SiLU())
        ]
        self.layers = nn.Sequential(*hidden, nn.Linear(width, dim))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """States ``(B, d)`` and times ``()`` or ``(B,)`` to a tensor shaped like ``x``."""
        t = t.expand(len(x))
        inputs = [x, 2 * t[:, None] - 1, self.time(t)]
        if self.waves is not None:
            inputs.append(self.waves(x))
        return self.layers(torch.cat(inputs, 1))


class MatrixConv(nn.Module):
    """A 3x3 convolution with zero padding whose kernel is one matrix, ``(n_out, 9 n_in)``, as it
    acts on a patch.

    Optimisers that treat a weight as a linear map (``torch.optim.Muon``) take it as it is.
    """

    def __init__(self, n_in: int, n_out: int):
        super().__init__()
        bound = 1 / math.sqrt(9 * n_in)  # as torch.nn.Conv2d
        self.weight = nn.Parameter(torch.empty(n_out, 9 * n_in).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(n_out))

    def forward(self, x: Tensor) -> Tensor:
        """Images ``(B, n_in, H, W)`` to ``(B, n_out, H, W)``."""
        kernel = self.weight.reshape(len(self.weight), x.shape[1], 3, 3)
        return nn.functional.conv2d(x, kernel, self.bias, padding=1)


class ResidualBlock(nn.Module):
    """Two convolutions around a shift and a scale that depend on time and label (FiLM), added to
    their input.

    The second convolution starts at zero, so a new block passes its input on.
    """

    def __init__(self, n_in: int, n_out: int, n_embedding: int, groups: int = 8):
        super().__init__()
        self.norm_in = nn.GroupNorm(groups, n_in)
        self.conv_in = MatrixConv(n_in, n_out)
        self.film = nn.Linear(n_embedding, 2 * n_out)
        self.norm_out = nn.GroupNorm(groups, n_out)
        self.conv_out = _zeroed(MatrixConv(n_out, n_out))
        self.shortcut = nn.Conv2d(n_in, n_out, 1) if n_in != n_out else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Images ``(B, n_in, H, W)`` and embeddings ``(B, n_embedding)`` to ``(B, n_out, H,
        W)``.
        """
        scale, shift = self.film(embedding)[..., None, None].chunk(2, 1)
        h = self.conv_in(nn.functional.silu(self.norm_in(x)))
        h = torch.addcmul(shift, self.norm_out(h), 1 + scale)
        return self.shortcut(x) + self.conv_out(nn.functional.silu(h))


class UNet(nn.Module):
    """A convolutional network of image, time and, if wanted, a label: two resolutions, for images
    of even size.

    Time enters through Gaussian Fourier features (Song et al. 2021, App. C and H.2) and, added to
    an embedding of the label, sets the shift and the scale of every block. Two channels of
    coordinates tell the centre from the rim. The last layer starts at zero, so under
    :class:`ResidualScore` the untrained network is the score of a Gaussian.

    Args:
        channels: Channels of the image.
        n_hints: Further channels of the input, shaped like the image, which are not returned.
        widths: Channels at full and at half resolution, multiples of 8.
        n_labels: Number of labels; at 0 the network takes none.
        n_features: Number of Gaussian Fourier frequencies of time; there are twice as many
            features.
        scale: Their standard deviation, in cycles per unit of time.
        n_embedding: Width of the embedding of time and label.
    """

    def __init__(
        self,
        channels: int = 1,
        n_hints: int = 0,
        widths: tuple[int, int] = (32, 64),
        n_labels: int = 0,
        n_features: int = 128,
        scale: float = 4.0,
        n_embedding: int = 64,
    ):
        super().__init__()
        require(channels >= 1, "channels", channels, "at least 1")
        require(
            all(w >= 8 and w % 8 == 0 for w in widths),
            "widths",
            widths,
            "positive multiples of 8",
        )
        for name, value in (("n_hints", n_hints), ("n_labels", n_labels)):
            require(value >= 0, name, value, "at least 0")
        wide, deep = widths
        self.n_labels = n_labels
        self.time = GaussianFourierFeatures(n_features, scale)
        self.embed_time = nn.Linear(2 * n_features, n_embedding)
        self.embed_label = nn.Embedding(n_labels + 1, n_embedding) if n_labels else None
        self.enter = MatrixConv(channels + n_hints + 2, wide)
        self.down = ResidualBlock(wide, wide, n_embedding)
        self.middle = nn.ModuleList(
            [
                ResidualBlock(wide, deep, n_embedding),
                ResidualBlock(deep, deep, n_embedding),
            ]
        )
        self.narrow = nn.Conv2d(deep, wide, 1)
        self.up = ResidualBlock(wide, wide, n_embedding)
        self.norm = nn.GroupNorm(8, wide)
        self.leave = _zeroed(MatrixConv(wide, channels))

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        """Images and hints ``(B, C + n_hints, H, W)``, times and labels of shape ``()`` or ``(B,)``
        to ``(B, C, H, W)``.

        Labels are integers from 0; ``n_labels``, the same as ``None``, is the null label: none
        known.

        Raises:
            ValueError: if the image's height or width is odd, or a label is given to a network
                without labels.
        """
        height, width = x.shape[2:]
        require(
            height % 2 == width % 2 == 0,
            "x",
            f"shape {tuple(x.shape)}",
            "of even height and width",
        )
        require(
            label is None or self.n_labels > 0,
            "label",
            label,
            "None for a network without labels",
        )
        embedding = self.embed_time(self.time(t.expand(len(x))))
        if self.embed_label is not None:
            null = torch.full((), self.n_labels, device=x.device)
            embedding = embedding + self.embed_label(
                (null if label is None else label).expand(len(x))
            )
        embedding = nn.functional.silu(embedding)
        rows, columns = (torch.linspace(-1, 1, n).to(x) for n in (height, width))
        place = torch.stack(torch.meshgrid(rows, columns, indexing="ij"))
        fine = self.down(
            self.enter(torch.cat([x, place.expand(len(x), -1, -1, -1)], 1)),
            embedding,
        )
        h = nn.functional.avg_pool2d(fine, 2)
        for block in self.middle:
            h = block(h, embedding)
        h = self.narrow(h).repeat_interleave(2, 2).repeat_interleave(2, 3)
        h = self.up(h + fine, embedding)
        return self.leave(nn.functional.silu(self.norm(h)))


def _zeroed(layer: MatrixConv) -> MatrixConv:
    nn.init.zeros_(layer.weight)
    return layer


class ResidualScore(nn.Module):
    r"""A score: that of the one Gaussian with the data's mean and variance, plus what a network
    adds to it.

    With :math:`m, v` the mean and variance of the data, :math:`c(t) = (\alpha^2 v +
    \sigma^2)^{-1/2}` makes :math:`u = c\,(x_t - \alpha m)` a state of unit variance at every time,
    and

    .. math:: s(x, t) = c\,[\gamma(t)\,\mathrm{net}(u, t) - u].

    With ``net = 0`` this is the exact score of Gaussian data. At a gain :math:`\gamma = 1` the
    network sees and returns numbers of order 1 while the data have a density, and has least to do
    at large times, where every law is nearly Gaussian.

    Near data on a curve or another thin set the score itself is of order :math:`1/\sigma`. A gain
    in proportion to :math:`\alpha/\sigma` takes that growth off the network: it then predicts the
    part of the datum :math:`x_0` that no Gaussian knows, at most of order 1 (the preconditioning of
    Karras et al. 2022, up to constants).

    Args:
        net: Maps standardised states ``(B, *event)`` and times to a tensor shaped like the states.
        sde: The SDE whose score is learned.
        data: The training data, shape ``(n, *event)``; only their overall mean and variance are
            used.
        gain: What multiplies the network, a function of time to a tensor of the same shape; 1 if
            ``None``.
    """

    def __init__(
        self,
        net: nn.Module,
        sde: SDE,
        data: Tensor,
        gain: Callable[[Tensor], Tensor] | None = None,
    ):
        super().__init__()
        self.net, self.sde, self.gain = net, sde, gain
        self.register_buffer("mean", data.mean(0))
        self.register_buffer("variance", (data - self.mean).square().mean())

    def forward(self, x: Tensor, t: Tensor, label: Tensor | None = None) -> Tensor:
        """The score at states ``(B, *event)`` and times ``()`` or ``(B,)``, shaped like ``x``.

        A network with labels takes its ``label`` third; as a score of ``x`` and ``t`` alone that is
        ``functools.partial(score, label=label)``.
        """
        alpha, sigma = self.sde.kernel(t)
        scale = like((alpha**2 * self.variance + sigma**2).rsqrt(), x)
        u = scale * (x - like(alpha, x) * self.mean)
        out = self.net(u, t) if label is None else self.net(u, t, label)
        if self.gain is not None:
            out = like(self.gain(t), x) * out
        return scale * (out - u)
