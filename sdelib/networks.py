"""Small networks of state, time and label: a perceptron for points, a U-Net for images."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from ._checks import as_integers, require, require_shape, values_can_be_read
from ._guard import guard
from .sde import like


class GaussianFourierFeatures(nn.Module):
    r"""Waves of fixed random frequencies, :math:`t \mapsto (\sin 2\pi w_k t, \cos 2\pi w_k t)_k`.

    A network sees sharp changes in time far more easily through these than through the number ``t``
    itself (Tancik et al. 2020; Song et al. 2021, App. H.2). Plane waves do the same for a point:
    with ``dim`` given, :math:`w_k` is a vector and :math:`w_k t` a scalar product.

    Args:
        n_features: Number of frequencies :math:`w_k \sim \mathcal N(0, \mathrm{scale}^2)`; the
            output is twice as wide.
        scale: Their standard deviation, in cycles per unit of the input.
        dim: Dimension of the input; ``None`` for one number, such as a time.

    Raises:
        ValueError: unless all are positive.
    """

    def __init__(self, n_features: int, scale: float = 1.0, dim: int | None = None):
        super().__init__()
        require(n_features >= 1, "n_features", n_features, "at least 1")
        require(scale > 0, "scale", scale, "positive")
        require(dim is None or dim >= 1, "dim", dim, "at least 1")
        shape = (n_features,) if dim is None else (n_features, dim)
        self.frequencies: Tensor
        self.register_buffer("frequencies", scale * torch.randn(shape))

    def forward(self, x: Tensor) -> Tensor:
        """Numbers ``(B,)`` or points ``(B, dim)`` to features ``(B, 2 n_features)``."""
        points = self.frequencies.ndim == 2
        _require_input(x, self.frequencies, *self.frequencies.shape[1:])
        turns = x @ self.frequencies.T if points else x[:, None] * self.frequencies
        phase = 2 * math.pi * turns
        return torch.cat([phase.sin(), phase.cos()], 1)


class MLP(nn.Module):
    """A multilayer perceptron of state, time and, if wanted, a label, for points.

    Args:
        dim: Dimension ``d`` of the points.
        width: Width of the hidden layers.
        depth: Number of hidden layers.
        n_features: Number of Gaussian Fourier frequencies of time.
        scale: Their standard deviation, in cycles per unit of time.
        n_waves: Number of Gaussian Fourier frequencies of the state, vectors in ``dim`` dimensions.
            With them the network can follow detail much finer than the spread of the points.
        wave_scale: Their standard deviation, in cycles per unit of the state.
        n_labels: Number of labels; at 0 the network takes none.

    Raises:
        ValueError: unless sizes are positive and counts at least 0.
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
        n_labels: int = 0,
    ):
        super().__init__()
        for name, value in (("dim", dim), ("width", width), ("depth", depth)):
            require(value >= 1, name, value, "at least 1")
        for name, value in (("n_waves", n_waves), ("n_labels", n_labels)):
            require(value >= 0, name, value, "at least 0")
        self.dim, self.n_labels = dim, n_labels
        self.time = GaussianFourierFeatures(n_features, scale)
        self.waves = GaussianFourierFeatures(n_waves, wave_scale, dim) if n_waves else None
        n_inputs = dim + 2 * n_waves + 1 + 2 * n_features
        if n_labels:
            self.embed_label = nn.Embedding(n_labels + 1, 16)
            n_inputs += 16
        widths = [n_inputs] + [width] * depth
        hidden = [layer for a, b in pairwise(widths) for layer in (nn.Linear(a, b), nn.SiLU())]
        self.layers = nn.Sequential(*hidden, nn.Linear(width, dim))

    def forward(self, x: Tensor, t: Tensor, label: Any = None) -> Tensor:
        """States ``(B, d)``, times and labels of shape ``()`` or ``(B,)`` to numbers like ``x``.

        Labels are integers from 0; ``n_labels``, the same as ``None``, means that none is known.

        Raises:
            ValueError: if an argument has another shape, or a label another value.
            TypeError: if ``x`` is not of the weights' dtype, or a label no integer.
        """
        _require_input(x, self.layers[-1].weight, self.dim)  # pyright: ignore[reportArgumentType]
        t = _times(t, x)
        inputs = [x, (2 * t[:, None] - 1).expand(len(x), 1), self.time(t).expand(len(x), -1)]
        if self.waves is not None:
            inputs.append(self.waves(x))
        if self.n_labels or label is not None:
            index = label_indices(label, self.n_labels, x)
            inputs.append(self.embed_label(index))
        return self.layers(torch.cat(inputs, 1))


class MatrixConv(nn.Module):
    """A 3x3 convolution with zero padding whose kernel is one matrix, ``(n_out, 9 n_in)``.

    So it acts on a patch, and optimisers that treat a weight as a linear map
    (``torch.optim.Muon``) take it as it is.
    """

    def __init__(self, n_in: int, n_out: int):
        super().__init__()
        require(n_in >= 1, "n_in", n_in, "at least 1")
        require(n_out >= 1, "n_out", n_out, "at least 1")
        bound = 1 / math.sqrt(9 * n_in)  # as torch.nn.Conv2d
        self.weight = nn.Parameter(torch.empty(n_out, 9 * n_in).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(n_out))

    def forward(self, x: Tensor) -> Tensor:
        """Images ``(B, n_in, H, W)`` to ``(B, n_out, H, W)``."""
        _require_input(x, self.weight, self.weight.shape[1] // 9, "H", "W")
        kernel = self.weight.reshape(len(self.weight), x.shape[1], 3, 3)
        return nn.functional.conv2d(x, kernel, self.bias, padding=1)


class ResidualBlock(nn.Module):
    """Two convolutions around a shift and a scale that depend on time and label, and a shortcut.

    (FiLM; Perez et al. 2018.) The second convolution starts at zero, so a new block passes its
    input on.
    """

    def __init__(self, n_in: int, n_out: int, n_embedding: int, groups: int = 8):
        super().__init__()
        require(groups >= 1, "groups", groups, "at least 1")
        for name, value in (("n_in", n_in), ("n_out", n_out)):
            require(value >= 1 and value % groups == 0, name, value, f"a multiple of {groups}")
        require(n_embedding >= 1, "n_embedding", n_embedding, "at least 1")
        self.norm_in = nn.GroupNorm(groups, n_in)
        self.conv_in = MatrixConv(n_in, n_out)
        self.film = nn.Linear(n_embedding, 2 * n_out)
        self.norm_out = nn.GroupNorm(groups, n_out)
        self.conv_out = _zeroed(MatrixConv(n_out, n_out))
        self.shortcut = nn.Conv2d(n_in, n_out, 1) if n_in != n_out else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Images ``(B, n_in, H, W)``, embeddings ``(B, n_embedding)`` to ``(B, n_out, H, W)``."""
        _require_input(x, self.film.weight, self.conv_in.weight.shape[1] // 9, "H", "W")
        _require_input(embedding, self.film.weight, self.film.in_features, name="embedding")
        require_shape("embedding", embedding, len(x), self.film.in_features)
        scale, shift = self.film(embedding)[..., None, None].chunk(2, 1)
        h = self.conv_in(nn.functional.silu(self.norm_in(x)))
        h = torch.addcmul(shift, self.norm_out(h), 1 + scale)
        return self.shortcut(x) + self.conv_out(nn.functional.silu(h))


class Levels(nn.Module):
    """A block, coarser levels at half the resolution, and a block that joins their results.

    Args:
        widths: Channels at this level and at the coarser ones, two or more.
        n_embedding: Width of the embedding of time and label.
    """

    def __init__(self, widths: Sequence[int], n_embedding: int):
        super().__init__()
        self.add_levels(widths, n_embedding)

    def add_levels(self, widths: Sequence[int], n_embedding: int) -> None:
        """Make the blocks."""
        _require_widths(widths)
        wide, deep = widths[:2]
        coarser = [Levels(widths[1:], n_embedding)] if len(widths) > 2 else []
        self.down = ResidualBlock(wide, wide, n_embedding)
        first = ResidualBlock(wide, deep, n_embedding)
        self.middle = nn.ModuleList([first, *coarser, ResidualBlock(deep, deep, n_embedding)])
        self.narrow = nn.Conv2d(deep, wide, 1)
        self.up = ResidualBlock(wide, wide, n_embedding)

    def through_levels(self, x: Tensor, embedding: Tensor) -> Tensor:
        """Images ``(B, widths[0], H, W)`` to images of that shape."""
        _require_sides(x, 2)
        fine = self.down(x, embedding)
        h = nn.functional.avg_pool2d(fine, 2)
        for block in self.middle:
            h = block(h, embedding)
        h = self.narrow(h).repeat_interleave(2, 2).repeat_interleave(2, 3)
        return self.up(h + fine, embedding)

    forward = through_levels


class UNet(Levels):
    """A convolutional network of image, time and, if wanted, a label.

    Time enters through Gaussian Fourier features (Song et al. 2021, App. H.2) and, added to
    an embedding of the label, sets the shift and the scale of every block. Two channels of
    coordinates tell the centre from the rim. The last layer starts at zero, so under
    :class:`~sdelib.learned.ResidualScore` the untrained network is the score of a Gaussian.

    Args:
        channels: Channels of the image.
        n_hints: Further channels of the input, shaped like the image, which are not returned.
        widths: Channels at full, half, a quarter, ... of the resolution, two or more multiples
            of 8.
        n_labels: Number of labels; at 0 the network takes none.
        n_features: Number of Gaussian Fourier frequencies of time; there are twice as many
            features.
        scale: Their standard deviation, in cycles per unit of time.
        n_embedding: Width of the embedding of time and label.

    Raises:
        ValueError: if a number is not as above.
    """

    def __init__(
        self,
        channels: int = 1,
        n_hints: int = 0,
        widths: Sequence[int] = (32, 64),
        n_labels: int = 0,
        n_features: int = 128,
        scale: float = 4.0,
        n_embedding: int = 64,
    ):
        require(channels >= 1, "channels", channels, "at least 1")
        _require_widths(widths)
        for name, value in (("n_hints", n_hints), ("n_labels", n_labels)):
            require(value >= 0, name, value, "at least 0")
        require(n_embedding >= 1, "n_embedding", n_embedding, "at least 1")
        nn.Module.__init__(self)
        self.n_inputs, self.n_labels = channels + n_hints, n_labels
        self.side = 2 ** (len(widths) - 1)
        self.time = GaussianFourierFeatures(n_features, scale)
        self.embed_time = nn.Linear(2 * n_features, n_embedding)
        if n_labels:
            self.embed_label = nn.Embedding(n_labels + 1, n_embedding)
        self.enter = MatrixConv(channels + n_hints + 2, widths[0])
        self.add_levels(widths, n_embedding)
        self.norm = nn.GroupNorm(8, widths[0])
        self.leave = _zeroed(MatrixConv(widths[0], channels))

    def forward(self, x: Tensor, t: Tensor, label: Any = None) -> Tensor:
        """Images with their hints, times and labels ``()`` or ``(B,)`` to images ``(B, C, H, W)``.

        ``x`` has shape ``(B, C + n_hints, H, W)`` and sides that can be halved from level to level.
        Labels and errors are those of :class:`MLP`.
        """
        _require_input(x, self.leave.weight, self.n_inputs, "H", "W")
        _require_sides(x, self.side)
        embedding = self.embed_time(self.time(_times(t, x)).expand(len(x), -1))
        if self.n_labels or label is not None:
            index = label_indices(label, self.n_labels, x)
            embedding = embedding + self.embed_label(index)
        embedding = nn.functional.silu(embedding)
        rows, columns = (torch.linspace(-1, 1, n).to(x) for n in x.shape[2:])
        place = torch.stack(torch.meshgrid(rows, columns, indexing="ij"))
        h = self.enter(torch.cat([x, place.expand(len(x), -1, -1, -1)], 1))
        h = self.through_levels(h, embedding)
        return self.leave(nn.functional.silu(self.norm(h)))


def _require_widths(widths: Sequence[int]) -> None:
    multiples = len(widths) >= 2 and all(w >= 8 and w % 8 == 0 for w in widths)
    require(multiples, "widths", widths, "two or more positive multiples of 8")


def _require_sides(x: Tensor, side: int) -> None:
    if any(n % side for n in x.shape[2:]):
        allowed = f"of height and width that are multiples of {side}"
        require(False, "x", f"shape {tuple(x.shape)}", allowed)


def _zeroed(layer: MatrixConv) -> MatrixConv:
    nn.init.zeros_(layer.weight)
    return layer


def label_indices(label: Any, n_labels: int, x: Tensor) -> Tensor:
    """The label of each state, an integer, shape ``(B,)``; ``n_labels`` stands for ``None``.

    Raises:
        ValueError: if ``label`` is not of shape ``()`` or ``(B,)``, or not from 0 to ``n_labels``;
            if there are no labels and it is not ``None``.
        TypeError: if it is no integer.
    """
    if label is None:
        return torch.full((), n_labels, device=x.device).expand(len(x))
    require(n_labels > 0, "label", label, "None, as there are no labels")
    require(x.ndim >= 1, "x", "a scalar", "of shape (B, *event)")
    label = as_integers("label", label)
    if label.ndim > 1 or (label.ndim and len(label) != len(x)):
        got, allowed = f"shape {tuple(label.shape)}", f"of shape () or ({len(x)},), as the states"
        require(False, "label", got, allowed)
    if label.numel() and values_can_be_read(label):
        low, high = label.min().item(), label.max().item()
        got = f"{low}" if low == high else f"values from {low} to {high}"
        require(low >= 0 and high <= n_labels, "label", got, f"from 0 to {n_labels} (none known)")
    return label.to(x.device).expand(len(x))


def _times(t: Tensor, x: Tensor) -> Tensor:
    """Times for the states ``x``, of their dtype, shape ``(1,)`` or ``(B,)``."""
    return like(t, x).reshape(-1)


def _require_input(x: Tensor, weight: Tensor, *event: int | str, name: str = "x") -> None:
    """Refuse, by name, states that the layers could not take."""
    require_shape(name, x, "B", *event)
    require(x.shape[1:].numel() > 0, name, "states without entries", "of at least one")
    if x.dtype != weight.dtype and not torch.is_autocast_enabled(x.device.type):
        raise TypeError(
            f"{name} must be of {weight.dtype} like the network's weights, got {x.dtype}"
        )


guard(__name__)
