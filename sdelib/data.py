"""The data of the three experiments."""

import math
from numbers import Integral

import torch
from torch import Tensor

from ._checks import require, require_finite, require_shape, values_can_be_read
from ._guard import guard
from .mixtures import GaussianMixture


def deck_mixture() -> GaussianMixture:
    """The first experiment's target, 1/2 N(-3, 1/4) + 1/2 N(3, 1), given as variances."""
    weights, means = torch.full((2,), 0.5), torch.tensor([[-3.0], [3.0]])
    return GaussianMixture(weights, means, torch.tensor([[0.25], [1.0]]))


_SMILE = (
    (0.0, 0.0, 1.0, 0, 360),  # outline
    (-0.36, 0.3, 0.13, 0, 360),  # open eye
    (0.36, 0.22, 0.2, 25, 155),  # closed eye
    (0.0, 0.08, 0.62, 205, 335),  # mouth
    (-0.503, -0.309, 0.14, 65, 165),  # its corners
    (0.503, -0.309, 0.14, 15, 115),
)  # arcs: centre x, y, radius, from and to which angle, in degrees


def smile_curve(u: Tensor) -> Tensor:
    """The curve of the second experiment, a winking face of radius 1, drawn at constant speed.

    Args:
        u: Places along the curve in [0, 1), shape ``(n,)``; equal lengths hold equal shares, so
            uniform places are uniform on the curve.

    Returns:
        Points, shape ``(n, 2)``.
    """
    require_finite("u", u)
    require_shape("u", u, "n")
    if u.element_size() < 4:  # too coarse for places on a curve
        return smile_curve(u.float()).to(u)
    if len(u) and values_can_be_read(u):
        low, high = (value.item() for value in torch.aminmax(u.detach()))
        require(low >= 0 and high < 1, "u", f"values from {low:g} to {high:g}", "in [0, 1)")
    x, y, radius, start, end = _smile_arcs(u)
    stops = (radius * (end - start)).cumsum(0)
    length = u * stops[-1]
    arc = torch.searchsorted(stops, length.detach(), right=True)
    angle = end[arc] - (stops[arc] - length) / radius[arc]
    return torch.stack([x[arc] + radius[arc] * angle.cos(), y[arc] + radius[arc] * angle.sin()], 1)


def smile(n: int, noise: float = 0.01, generator: torch.Generator | None = None) -> Tensor:
    """The second experiment's data, uniform on :func:`smile_curve` plus noise, shape ``(n, 2)``.

    They lie on the CPU and have torch's default dtype.

    Args:
        n: Number of points.
        noise: Standard deviation of the noise in each direction; the face has radius 1.
        generator: Source of places and noise, on the CPU; torch's own if ``None``.
    """
    require(n >= 0, "n", n, "at least 0")
    require(0 <= noise < math.inf, "noise", noise, "at least 0 and finite")
    points = smile_curve(torch.rand(n, generator=generator))
    return points + noise * torch.randn(points.shape, generator=generator)


def smile_distance(points: Tensor) -> Tensor:
    """Distance of points, shape ``(n, 2)``, to their nearest on :func:`smile_curve`, ``(n,)``."""
    require_finite("points", points)
    require_shape("points", points, "n", 2)
    x, y, radius, start, end = _smile_arcs(points)
    dx, dy = points[:, :1] - x, points[:, 1:] - y
    angle = (torch.atan2(dy, dx) - start) % (2 * torch.pi)
    to_circle = (torch.hypot(dx, dy) - radius).abs()
    to_ends = [torch.hypot(dx - radius * a.cos(), dy - radius * a.sin()) for a in (start, end)]
    beside = angle <= end - start
    return torch.where(beside, to_circle, torch.minimum(*to_ends)).amin(1)


def _smile_arcs(reference: Tensor) -> Tensor:
    """The arcs' centres, radii and angles in radians, shape ``(5, n_arcs)``, like ``reference``."""
    arcs = reference.new_tensor(_SMILE).T
    return torch.cat([arcs[:3], torch.deg2rad(arcs[3:])])


DIGIT_LEVELS = 17
"""Grey levels of the digits; on [-1, 1] each has a cell of width 2 / 17."""


def digits(*sizes: int, seed: int = 0) -> list[tuple[Tensor, Tensor]]:
    """Disjoint parts of scikit-learn's 1797 handwritten digits, each as ``(images, labels)``.

    Every part holds the ten digits in the same proportions, up to rounding. An image has 8 x 8
    pixels of levels 0 to 16; level ``k`` becomes ``(2 k + 1) / 17 - 1``, the middle of its cell
    when [-1, 1] is cut into 17. Uniform noise over one cell then makes the levels continuous and
    fills the interval, and no two cells overlap.

    Args:
        sizes: Number of images of each part, each at least 10. Together 1797, or fewer by at least
            10: a part for each digit to be in, which is not returned.
        seed: Which images go where.

    Returns:
        For each part, images of shape ``(n, 1, 8, 8)`` and integer labels of shape ``(n,)``.

    Raises:
        ValueError: if ``sizes`` are not as above.
    """
    require(0 <= seed < 2**32, "seed", seed, "from 0 to 2^32 - 1")
    # here, because they take long to import
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    levels, labels = load_digits(return_X_y=True)
    fits = all(isinstance(size, Integral) and size >= 10 for size in sizes) and len(sizes) > 0
    allowed = f"integers, each at least 10 and {len(labels)} together, or fewer by 10 or more"
    fits = fits and (sum(sizes) == len(labels) or sum(sizes) <= len(labels) - 10)
    require(fits, "sizes", sizes, allowed)
    images = (2 * torch.as_tensor(levels).reshape(-1, 1, 8, 8) + 1) / DIGIT_LEVELS - 1
    images, labels = images.to(torch.get_default_dtype()), torch.as_tensor(labels)
    parts, rest = [], torch.arange(len(labels))
    for size in sizes:
        part = rest
        if size < len(rest):
            part, rest = train_test_split(
                rest, train_size=size, stratify=labels[rest], random_state=seed
            )
        parts.append((images[part], labels[part]))
    return parts


guard(__name__, sizes=None)
