"""Networks as scores, learned from data: :func:`learn` in one call, and the three that ship.

A score is learned as what is missing from one that is known exactly: that of a Gaussian
(:class:`ResidualScore`) or of a Gaussian mixture (:class:`MixtureResidualScore`).

The three experiments' scores are what a chapter trains, without the training; `make weights` trains
them by the chapters' own code. They are for use and not for training: in evaluation mode, without
gradients of their weights, in torch's default precision on the CPU. Move one elsewhere by ``.to``.
"""

import json
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.quasirandom import SobolEngine

from ._checks import (
    as_integers,
    from_array,
    require,
    require_finite,
    require_like,
    require_shape,
    require_states,
    require_times,
    require_type,
    tqdm,
)
from ._guard import guard, returns_numbers
from .guidance import classifier_free
from .likelihood import exact_divergence, hutchinson, log_likelihood, rademacher
from .mixtures import GaussianMixture
from .networks import MLP, UNet, label_indices
from .samplers import Grid, Solver, adams, sample
from .score import Score
from .sde import SDE, VPSDE, like, randn_like
from .training import (
    dsm_error,
    edm_weight,
    falling,
    fit,
    log_normal_times,
    muon_and_adam,
    quasi_random,
)


class ResidualScore(nn.Module):
    r"""A score: that of the Gaussian with the data's mean and variance, plus what a network adds.

    With :math:`m, v` the mean and variance of the data,
    :math:`c(t) = (\alpha^2 v + \sigma^2)^{-1/2}` makes :math:`u = c\,(x_t - \alpha m)` a state of
    unit variance at every time, and

    .. math:: s(x, t) = c\,[\gamma(t)\,\mathrm{net}(u, t) - u].

    With ``net = 0`` this is the exact score of Gaussian data. At a gain :math:`\gamma = 1` the
    network sees and returns numbers of order 1 while the data have a density, and has least to do
    at large times, where every law is nearly Gaussian.

    Near data on a curve or another thin set the score itself is of order :math:`1/\sigma`. A gain
    in proportion to :math:`\alpha/\sigma` takes that growth off the network: it then predicts the
    part of the datum :math:`x_0` that no Gaussian knows, at most of order 1 (the preconditioning of
    Karras et al. 2022, up to constants). An error of the network is then an error of the same size
    at every time, in what fast solvers integrate; without a gain it grows with the noise.

    Args:
        net: Maps standardised states ``(B, *event)`` and times to a tensor shaped like the states.
        sde: The SDE whose score is learned.
        data: The training data, shape ``(n, *event)``; only their mean and overall variance are
            used.
        gain: What multiplies the network: ``"alpha/sigma"``, or a function of time to a tensor of
            the same shape; 1 if ``None``.

    Raises:
        ValueError: if there are no data, or they hold NaN or infinity.
        TypeError: if an argument is of another kind.
    """

    mean: Tensor
    variance: Tensor

    def __init__(
        self,
        net: nn.Module,
        sde: SDE,
        data: Tensor,
        gain: str | Callable[[Tensor], Tensor] | None = None,
    ):
        super().__init__()
        require_finite("data", data)
        fits = data.ndim >= 2 and len(data) > 0
        require(fits, "data", f"shape {tuple(data.shape)}", "of shape (n, *event), n at least 1")
        if gain not in (None, "alpha/sigma") and not callable(gain):
            raise TypeError(f"gain must be 'alpha/sigma', a function of time or None, got {gain!r}")
        self.net, self.sde, self.gain = net, sde, gain
        data = data.detach().to(next(net.parameters(), data))
        self.register_buffer("mean", data.mean(0))
        self.register_buffer("variance", (data - self.mean).square().mean())

    def forward(self, x: Tensor, t: Tensor, label: Any = None) -> Tensor:
        """The score at states ``(B, *event)`` and times ``()`` or ``(B,)``, shaped like ``x``.

        A network with labels takes its ``label`` third; as a score of ``x`` and ``t`` alone that is
        ``functools.partial(score, label=label)``.
        """
        require_shape("x", x, "B", *self.mean.shape)
        require_times(t)
        alpha, sigma = self.sde.alpha(t), self.sde.sigma(t)
        scale = like((alpha**2 * self.variance + sigma**2).rsqrt(), x)
        u = scale * (x - like(alpha, x) * self.mean)
        out = self.net(u, t) if label is None else self.net(u, t, label)
        require_like("net(u, t)", out, x)
        if self.gain is not None:
            out = like(self.gain(t) if callable(self.gain) else alpha / sigma, x) * out
        return scale * (out - u)


class MixtureResidualScore(nn.Module):
    r"""A score: that of a Gaussian mixture, one component a label, plus what a network adds to it.

    Let :math:`s_0` be the score of the mixture carried forward by the SDE,
    :math:`D_0 = (x + \sigma^2 s_0)/\alpha` the posterior mean of the datum it implies, and
    :math:`v` the mixture's mean variance. Then

    .. math::
        s(x, t) = s_0(x, t) + \frac{\alpha \sqrt v}{\sigma \sqrt{\alpha^2 v + \sigma^2}}\,
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

    Raises:
        ValueError: if the mixture has no axes of its own.
        TypeError: if an argument is of another kind.
    """

    weights: Tensor
    variance: Tensor

    def __init__(self, net: nn.Module, sde: SDE, mixture: GaussianMixture):
        super().__init__()
        require(mixture.axes is not None, "mixture.axes", None, "given")
        self.net, self.sde, self._start = net, sde, mixture
        for name, value in vars(mixture).items():
            self.register_buffer(name, value)
        self.register_buffer("variance", mixture.cov.diagonal().mean())

    def forward(self, x: Tensor, t: Tensor, label: Any = None) -> Tensor:
        """The score at states ``(B, *event)`` and times ``()`` or ``(B,)``, shaped like ``x``.

        Labels are integers of shape ``()`` or ``(B,)``; ``K`` and ``None`` say that none is known.
        As a score of ``x`` and ``t`` alone, the conditional one is
        ``functools.partial(score, label=label)``.
        """
        alpha, sigma = like(self.sde.alpha(t), x), like(self.sde.sigma(t), x)
        start = self.mixture_score(x, t, label)
        denoised = (x + sigma**2 * start) / alpha
        std = (alpha**2 * self.variance + sigma**2).sqrt()
        u = torch.cat([x / std, denoised / self.variance.sqrt()], 1)
        scale = alpha * self.variance.sqrt() / (sigma * std)
        out = self.net(u, t, label)
        require_like("net(u, t, label)", out, x)
        return start + scale * out

    def mixture_score(self, x: Tensor, t: Tensor, label: Any = None) -> Tensor:
        """The score that training starts from, exact for the mixture; arguments as in forward."""
        now = {name: getattr(self, name) for name in vars(self._start)}
        require_states("x", x)
        require_times(t)
        law = self._start._with(**now).perturb(self.sde.alpha(t), self.sde.sigma(t))
        points = x.flatten(1)
        log_joint = law.log_joint(points)
        if label is not None:
            n_labels = len(self.weights)
            k = label_indices(label, n_labels, x)[:, None]
            ruled_out = (k != torch.arange(n_labels, device=x.device)) & (k < n_labels)
            log_joint = log_joint.masked_fill(ruled_out, -torch.inf)
        responsibility = log_joint.softmax(-1)[..., None]
        return (responsibility * law.pulls(points)).sum(-2).reshape(x.shape)


class StandardScore(nn.Module):
    r"""A score of standardised data: that of N(0, I) plus what a network adds.

    It is :class:`ResidualScore` at mean 0, variance 1 and the gain :math:`\alpha/\sigma`, with
    :math:`\log(\sigma/\alpha)` for the network's time: a clock on which all SDEs agree.

    Args:
        net: Maps states ``(B, *event)`` of unit variance, times and labels to a tensor like the
            states. Its times, ``0.5 + log(sigma / alpha) / 12``, lie in about [0, 1].
        sde: The SDE whose score is learned.
    """

    variance = 1.0

    def __init__(self, net: nn.Module, sde: SDE):
        super().__init__()
        self.net, self.sde = net, sde

    def forward(self, x: Tensor, t: Tensor, label: Any = None) -> Tensor:
        """The score at states ``(B, *event)`` and times ``()`` or ``(B,)``, shaped like ``x``."""
        require_times(t)
        alpha, sigma = self.sde.alpha(t), self.sde.sigma(t)
        ratio = sigma / alpha
        scale = like(torch.hypot(alpha, sigma), x)
        clock = 0.5 + ratio.log() / 12
        out = self.net(x / scale, clock) if label is None else self.net(x / scale, clock, label)
        require_like("net(u, t)", out, x)
        return (out / like(ratio, x) - x / scale) / scale


class Recipe(NamedTuple):
    """How :func:`learn` trains, in units of the data's standard deviation."""

    n_steps: int
    batch: int
    centre: float  # of the logarithm of the noise-to-signal ratio
    spread: float  # its standard deviation
    finest: float  # the least ratio that is learned and sampled from
    dropped: float  # the share of labels that are hidden


POINTS = Recipe(4000, 1024, centre=-1.0, spread=1.3, finest=0.003, dropped=0.2)
IMAGES = Recipe(2200, 64, centre=-0.3, spread=1.2, finest=0.01, dropped=0.3)
FOLDS = 6  # parts of small images, each trained with the mixture of the others
FEW_PIXELS = 256  # numbers an image may have for Gaussians of full covariance to pay


class Model(nn.Module):
    """A law learned from data, see :func:`learn`; what it returns is in the data's own units.

    ``Model(x, labels, sde)`` is untrained. Made of any data of the same shape and labels, it takes
    the ``state_dict`` of a trained one.

    Args:
        x: Data, as for :func:`learn`, like all other arguments.
        labels: Their labels.
        sde: The SDE of :attr:`score`.
        net: The network.
        level_width: The distance of the data's levels.

    Attributes:
        history: The loss at each step of training.
    """

    mean: Tensor
    root: Tensor
    classes: Tensor

    def __init__(
        self,
        x: Any,
        labels: Any = None,
        sde: SDE = VPSDE(),
        net: nn.Module | None = None,
        level_width: float = 0.0,
    ):
        super().__init__()
        x, labels = _checked(x, labels)
        require(0 <= level_width < math.inf, "level_width", level_width, "at least 0 and finite")
        images, self.sde, self.history = x.ndim == 4, sde, torch.zeros(0)
        self.recipe = IMAGES if images else POINTS
        self.t_min = float(sde.time_of(torch.tensor(self.recipe.finest, dtype=torch.float64)))
        self.dtype = x.dtype if x.is_floating_point() else torch.get_default_dtype()
        mean, root = _moments(x.double())
        self.register_buffer("mean", mean)
        self.register_buffer("root", root)
        classes, counts = labels.unique(return_counts=True)
        self.register_buffer("classes", classes)
        self.level_width = level_width / root.max().item()  # that of standardised data
        few_pixels = images and not net and mean.numel() <= FEW_PIXELS and counts.min() > 2
        net = net or _network(x, x.shape[1] if few_pixels else 0, self.n_labels)
        self.inner = StandardScore(net, sde)
        if few_pixels:
            u = self.standardise(x.to(mean))
            self.inner = self.with_mixture(u, torch.searchsorted(classes, labels))

    @property
    def n_labels(self) -> int:
        """Number of labels; none if all data have the same."""
        return len(self.classes) if len(self.classes) > 1 else 0

    def with_mixture(self, u: Tensor, index: Tensor) -> MixtureResidualScore:
        """The network on top of the Gaussians of standardised data, one for each label."""
        require_finite("u", u)
        require_states("u", u)
        index = as_integers("index", index)
        require_shape("index", index, len(u))
        known = bool(((index >= 0) & (index < len(u))).all())
        require(known, "index", "others", f"from 0 to below {len(u)}, their number")
        noise = self.level_width**2 / 12 + 1e-4  # the least is for constant pixels
        mixture = GaussianMixture.from_classes(u, index, noise=noise)
        return MixtureResidualScore(self.inner.net, self.sde, mixture)

    def standardise(self, x: Tensor) -> Tensor:
        """Data to states: of mean 0 and variance 1, for points uncorrelated as well."""
        require_shape("x", x, "n", *self.mean.shape)
        centred = x.to(self.mean) - self.mean
        u = torch.linalg.solve(self.root.T, centred.T).T if self.root.ndim else centred / self.root
        return u.to(next(self.inner.parameters()).dtype)

    def score(self, x: Tensor, t: Tensor, label: Any = None) -> Tensor:
        """The score of standardised data at states ``x``, given a label, or one for each state."""
        return self.given(label)(x, t)

    def given(self, label: Any = None, scale: float = 1.0) -> Score:
        """The score given a label of the data, stressed by ``scale``; that of all data if ``None``.

        Raises:
            ValueError: if the label is none of the data's, or there is none to stress.
            TypeError: if it is no integer.
        """
        if label is None:
            require(scale == 1, "scale", scale, "1 without a label")
            return self.inner
        require(self.n_labels > 0, "label", label, "None, as the data have no labels")
        label = as_integers("label", label).to(self.classes)
        index = torch.searchsorted(self.classes, label).clamp(max=self.n_labels - 1)
        unknown = label[self.classes[index] != label]
        allowed = f"one of the data's, {self.classes[:20].tolist()}"
        require(not unknown.numel(), "label", unknown[:20].tolist(), allowed)
        conditional = partial(self.inner, label=index)
        return conditional if scale == 1 else classifier_free(conditional, self.inner, scale)

    def sample(
        self,
        n: int,
        label: Any = None,
        scale: float = 1.0,
        solver: Solver | None = None,
        n_steps: int = 40,
        grid: Grid | None = None,
        generator: torch.Generator | None = None,
        batch_size: int | None = None,
        progress: bool = False,
    ) -> Tensor:
        """Draw ``n`` new data.

        Args:
            n: Number of data.
            label: A label of the data, or ``n`` of them; any if ``None``.
            scale: Stress on the label by classifier-free guidance; 1 is the law given it.
            solver: As for :func:`~sdelib.samplers.sample`; by default Adams's method.
            n_steps: Number of its steps, besides the last one to 0.
            grid: Where they are taken, as for :func:`~sdelib.samplers.sample`.
            generator: Source of all noise, on the model's device.
            batch_size: How many to draw at a time; so many that memory stays flat if ``None``.
            progress: Show a progress bar.

        Returns:
            Data of the shape, units and dtype of those learned from, on the model's device.

        Raises:
            ValueError: if a number or a label is not as above.
        """
        require(n >= 0, "n", n, "at least 0")
        if batch_size is None:
            batch_size = max(16, 2**16 // self.mean.numel())
        require(batch_size >= 1, "batch_size", batch_size, "at least 1")
        batch_size = int(batch_size)  # numpy's are not for torch to split by
        labels = None if label is None else as_integers("label", label)
        if labels is not None and labels.ndim:
            require_shape("label", labels, n)
            labels = labels.split(batch_size)
        dtype, device = next(self.inner.parameters()).dtype, self.mean.device
        out = self.mean.new_empty(n, *self.mean.shape, dtype=self.dtype)
        with tqdm(total=n, desc="sampling", disable=not progress) as bar:
            for i, part in enumerate(out.split(batch_size)):
                score = self.given(labels[i] if isinstance(labels, tuple) else labels, scale)
                how = (
                    solver or adams(reach=math.inf),
                    n_steps,
                    self.t_min,
                    grid,
                    generator,
                    dtype,
                    device,
                )
                u = sample(score, self.sde, part.shape, *how).to(self.mean)
                part.copy_(self.mean + (u @ self.root if self.root.ndim else u * self.root))
                bar.update(len(part))
        return out

    def log_prob(self, x: Any, label: Any = None, rtol: float = 1e-4, atol: float = 1e-4) -> Tensor:
        """Log-density of data by the flow, in nats, in their units: shape ``(n,)``.

        Beyond 32 numbers a datum, the divergence is estimated along one direction for each, the
        same at every call. Data on levels get their noise from the caller.

        Args:
            x: Data, shape ``(n, *event)``.
            label: A label of the data, or ``n`` of them; any if ``None``.
            rtol: Relative tolerance of the flow's solution.
            atol: Absolute tolerance.

        Raises:
            ValueError: if ``x`` or ``label`` does not fit the data learned from.
        """
        x = _tensor("x", x)
        u, d = self.standardise(x.to(self.mean)), self.mean.numel()
        generator = torch.Generator(u.device).manual_seed(0)
        trace = exact_divergence if d <= 32 else hutchinson(rademacher(u, generator))
        alpha = float(self.sde.alpha(torch.tensor(self.t_min, dtype=torch.float64)))
        how = self.t_min, None, trace, rtol, atol
        log_prob = log_likelihood(self.given(label), self.sde, alpha * u, *how)
        volume = self.root.slogdet()[1] if self.root.ndim else d * self.root.log()
        return log_prob + d * math.log(alpha) - volume


def learn(
    x: Any,
    labels: Any = None,
    sde: SDE = VPSDE(),
    *,
    n_steps: int | None = None,
    batch: int | None = None,
    net: nn.Module | None = None,
    level_width: float = 0.0,
    seed: int = 0,
    device: torch.device | str | None = None,
    progress: bool = True,
) -> Model:
    """Learn the law of data, to sample from it and to ask for its density.

    The recipe of chapters 8 and 9: data are standardised; the score is learned as what is missing
    from a Gaussian's, or for small images from that of a Gaussian mixture, one component a label;
    noise levels are log-normal and weigh alike; the rate falls to 0; a share of the labels is
    hidden, for the score of all data. The caller's random state is left alone.

    Args:
        x: Points ``(n, d)`` or images ``(n, channels, height, width)``, a tensor or an array of any
            units; ``n`` at least 2. For images of whole levels, say how far these lie apart.
        labels: Integers, ``n`` of them, for samples and densities given one.
        sde: The SDE that diffuses the standardised data.
        n_steps: Steps of training, by default 4000 for points and 2200 for images.
        batch: Data a step, by default 1024 points or 64 images.
        net: A network of states, times in about [0, 1] and, where there are labels, label indices;
            by default an ``MLP`` or a ``UNet``.
        level_width: Distance of the levels of quantised data; a draw gets uniform noise over one.
        seed: Of everything random; the same seed gives the same model on the same machine.
        device: Where to train; the GPU if there is one, or else the CPU, if ``None``.
        progress: Show a progress bar.

    Raises:
        ValueError: if the data are fewer than two, all the same, or not finite; if a shape or a
            number is not as above.
        TypeError: if an argument is of another kind.
    """
    seed = int(seed)  # numpy's are not for Sobol engines
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        model = Model(x, labels, sde, net, level_width).to(device)
        x, labels = _checked(x, labels)
        # neighbours in Sobol's cube are to be of one label and neighbours in space
        order = x.flatten(1)[:, 0].argsort()
        order = order[labels[order].argsort(stable=True)]
        u = model.standardise(x[order].to(model.mean))
        index = torch.searchsorted(model.classes, labels[order].to(device))
        recipe, inner = model.recipe, model.inner
        n_steps = recipe.n_steps if n_steps is None else n_steps
        batch, points = recipe.batch if batch is None else batch, x.ndim == 2
        cube = SobolEngine(2 + x.shape[1] if points else 2, scramble=True, seed=seed)
        folds = [(inner, torch.arange(len(u), device=device))]
        if isinstance(inner, MixtureResidualScore):
            fold = _folds(index)
            folds = [
                (model.with_mixture(u[fold != j], index[fold != j]), torch.where(fold == j)[0])
                for j in fold.unique()
            ]

        def loss(_: nn.Module) -> Tensor:
            score, members = folds[int(torch.randint(len(folds), ())) if len(folds) > 1 else 0]
            i, uniform, z = (v.to(device) for v in quasi_random(cube, len(members), batch))
            t = log_normal_times(sde, uniform, recipe.centre, recipe.spread, model.t_min).to(u)
            i = members[i]
            x0 = u[i] + model.level_width * (torch.rand_like(u[i]) - 0.5)
            label = None
            if model.n_labels:
                hidden = torch.rand(batch, device=device) < recipe.dropped
                label = torch.where(hidden, model.n_labels, index[i])
            z = z.to(u) if points else randn_like(x0)
            error = dsm_error(partial(score, label=label), sde, x0, t, z)
            return (edm_weight(sde, t, score.variance) * error).mean() / x0[0].numel()

        optimizers = muon_and_adam(inner.net) if isinstance(inner.net, UNet) else None
        rates = falling(optimizers, n_steps) if optimizers else None
        model.history = fit(inner.net, loss, n_steps, optimizers, rates, progress=progress)
    return model.eval().requires_grad_(False)


def _tensor(name: str, value: Any) -> Tensor:
    """Numbers as a tensor without a graph: a tensor, or what numpy holds."""
    value = from_array(value)
    require_type(name, value, Tensor, "a tensor or a numpy array")
    if value.is_complex() or value.dtype == torch.bool:
        raise TypeError(f"{name} must be real numbers, got {value.dtype}")
    require_finite(name, value.detach().double())
    return value.detach()


def _checked(x: Any, labels: Any) -> tuple[Tensor, Tensor]:
    """Data and their labels; without labels, zeros."""
    x = _tensor("x", x)
    got = f"shape {tuple(x.shape)}"
    require(x.ndim in (2, 4), "x", got, "points (n, d) or images (n, channels, height, width)")
    require(len(x) > 1 and x[0].numel() > 0, "x", got, "at least two data of at least one number")
    if labels is None:
        return x, torch.zeros(len(x), dtype=torch.long, device=x.device)
    labels = as_integers("labels", labels)
    require_shape("labels", labels, len(x))
    return x, labels.to(x.device)


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """The mean of data and a root of their covariance: a matrix for points, a number for images.

    A direction without spread keeps a thousandth of the others'.
    """
    mean = x.mean(0)
    centred = x - mean
    most = centred.square().flatten(1).mean(0).max().sqrt()
    require(most.item() > 1e-12 * x.abs().max().item(), "x", "the same datum every time", "varied")
    if x.ndim == 4:
        return mean, centred.square().mean().sqrt()
    std = centred.square().mean(0).sqrt()
    std = torch.where(std > 1e-12 * x.abs().amax(0), std, most)  # each coordinate has its own unit
    v, axes = torch.linalg.eigh((centred / std).T @ (centred / std) / len(x))
    return mean, axes * v.clamp(min=1e-6).sqrt() @ axes.T * std


def _network(x: Tensor, n_hints: int, n_labels: int) -> nn.Module:
    """The network that suits the data, returning zeros as long as it is untrained."""
    if x.ndim == 4:
        sides = x.shape[2:]
        halvings = 2 if all(n % 4 == 0 and n >= 16 for n in sides) else 1
        return UNet(x.shape[1], n_hints, (32, 64, 96)[: halvings + 1], n_labels, scale=8.0)
    net = MLP(x.shape[1], n_waves=64, wave_scale=1.0, n_labels=n_labels)
    for p in net.layers[-1].parameters():
        nn.init.zeros_(p)
    return net


def _folds(index: Tensor) -> Tensor:
    """The fold of each datum: the members of each class are dealt out in turn."""
    fold = torch.empty_like(index)
    for k in index.unique():
        members = torch.where(index == k)[0]
        members = members[torch.randperm(len(members)).to(members)]
        fold[members] = torch.arange(len(members)).to(members) % FOLDS
    return fold


# What the chapters train


def mixture_score() -> ResidualScore:
    """The score of chapter 7: the mixture of two Gaussians under :class:`~sdelib.sde.VPSDE`.

    Its states have shape ``(B, 1)``.
    """
    with torch.random.fork_rng([]):
        net = MLP(1, width=32, n_features=4, scale=0.25)
        return _filled(ResidualScore(net, VPSDE(), torch.zeros(2, 1)), "mixture")


def smile_score() -> ResidualScore:
    """The score of chapter 8: the face in the plane under :class:`~sdelib.sde.VPSDE`.

    Its states have shape ``(B, 2)``, its times go down to 1e-4.
    """
    with torch.random.fork_rng([]):
        net = MLP(2, n_waves=64, wave_scale=1.5)
        return _filled(ResidualScore(net, VPSDE(), torch.zeros(2, 2), "alpha/sigma"), "smile")


def digits_score() -> MixtureResidualScore:
    """The score of chapter 9: digits under :class:`~sdelib.sde.VPSDE`.

    Its states have shape ``(B, 1, 8, 8)``, its labels are 0 to 9, and 10 for none.
    """
    weights, zeros = torch.full((10,), 0.1), torch.zeros(10, 64)
    axes = torch.eye(64).repeat(10, 1, 1)
    with torch.random.fork_rng([]):
        net = UNet(n_hints=1, n_labels=10, scale=8.0)
        blank = GaussianMixture(weights, zeros, zeros + 1, axes)
        return _filled(MixtureResidualScore(net, VPSDE(), blank), "digits")


def path(name: str) -> Path:
    """Where the weights of the experiment ``mixture``, ``smile`` or ``digits`` lie."""
    return Path(__file__).parent / "weights" / f"{name}.safetensors"


def runs(name: str) -> list[dict[str, Any]]:
    """What chapter's experiment measured for each seed, as stored by `make seeds`.

    Args:
        name: ``mixture``, ``smile`` or ``digits``.

    Returns:
        For each seed a dictionary with ``seed`` and what was measured.

    Raises:
        ValueError: if there is no such experiment.
    """
    file = path(name).with_suffix(".json")
    require(file.exists(), "name", name, "mixture, smile or digits")
    return json.loads(file.read_text(encoding="utf-8"))["runs"]


def _filled(score: Any, name: str) -> Any:
    score.load_state_dict(load_file(path(name)))
    return score.eval().requires_grad_(False)


guard(__name__, index=None, gain=returns_numbers)
