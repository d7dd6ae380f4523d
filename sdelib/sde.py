r"""Forward SDEs with an affine drift, on the time interval [0, 1] (0 is data, 1 is noise).

.. math:: \mathrm{d}x = f(t)\,x\,\mathrm{d}t + g(t)\,\mathrm{d}w

An affine drift keeps Gaussians Gaussian, so the perturbation kernel is known in closed form,

.. math:: p(x_t \mid x_0) = \mathcal N(\alpha(t)\,x_0,\ \sigma(t)^2 I),

where :math:`\alpha' = f\alpha` and :math:`(\sigma^2)' = 2f\sigma^2 + g^2` with
:math:`\alpha(0) = 1`, :math:`\sigma(0) = 0` (Song et al. 2021, Eq. 29; Särkkä and Solin 2019,
Eqs. 5.50-5.51). Read the other way, :math:`\alpha` and :math:`\sigma` say all:

.. math:: f = \alpha' / \alpha, \qquad g^2 = (\sigma^2)' - 2 f \sigma^2 .

States ``x`` have shape ``(B, *event)``; times ``t`` have shape ``()`` or ``(B,)``. Dtype and device
follow the states.
"""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ._checks import (
    all_finite,
    require,
    require_finite,
    require_like,
    require_shape,
    require_states,
    require_tensor,
    require_times,
    require_type,
    same,
    values_can_be_read,
)
from ._guard import at_least_single, guard


def like(c: Tensor, x: Tensor) -> Tensor:
    """View a coefficient of shape ``()`` or ``(B,)`` so that it multiplies a state ``x``.

    Args:
        c: Coefficient, one for all states or one for each; it takes the dtype and device of ``x``.
        x: States, shape ``(B, *event)``.

    Raises:
        ValueError: if ``c`` has any other shape, as broadcasting would then mix states or events.
    """
    if c.dtype != x.dtype or c.device != x.device:
        c = c.to(x)
    if c.ndim == 0:
        return c
    if c.shape != x.shape[:1]:
        allowed = f"of shape () or {tuple(x.shape[:1])}"
        require(False, "t or c", f"shape {tuple(c.shape)}", allowed)
    return c.view(-1, *(1,) * (x.ndim - 1))


def randn_like(x: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Standard normal noise shaped like ``x``, whatever its memory layout, from any generator."""
    layout = torch.contiguous_format
    if generator is None:
        return torch.randn_like(x, memory_format=layout)
    return torch.empty_like(x, memory_format=layout).normal_(generator=generator)


class Instant(NamedTuple):
    """A time of a process and what its formulas say there.

    ``time``, ``f``, ``g``, ``alpha`` and ``sigma`` are Python's numbers, of double precision for
    every state. (At times of shape ``(B,)`` they are tensors shaped to multiply the states.)

    Attributes:
        now: The time as a score takes it: a tensor in the dtype and on the device of the states.
        sde: The process.
    """

    time: float
    f: float
    g: float
    alpha: float
    sigma: float
    now: Tensor
    sde: "SDE"

    def __eq__(self, other: object) -> bool:
        return same(self, other)

    def __ne__(self, other: object) -> bool:
        return not same(self, other)

    __hash__ = None  # pyright: ignore[reportAssignmentType]


def transition(s: Instant, t: Instant) -> tuple[float, float]:
    """Scale ``r`` and standard deviation ``q`` of the step ``p(x_t | x_s) = N(r x_s, q^2 I)``.

    Since the path is Markov, ``alpha_t = r alpha_s`` and ``sigma_t^2 = r^2 sigma_s^2 + q^2``.

    Args:
        s: The earlier instant.
        t: The later one, or the same.

    Raises:
        ValueError: if ``s`` is later than ``t``.
    """
    require_order(s, t)
    r = t.alpha / s.alpha
    return r, abs(t.sigma**2 - (r * s.sigma) ** 2) ** 0.5  # a difference that may round below 0


def require_order(s: Instant, t: Instant) -> None:
    """Raise ``ValueError`` if ``s`` is later than ``t``."""
    try:
        late = s.time > t.time
    except (AttributeError, TypeError):
        for name, instant in (("s", s), ("t", t)):
            require_type(name, instant, Instant, "an instant, as sde.at gives it")
        raise
    if late if isinstance(late, bool) else late.any():
        require(False, "s", f"{s.time}", f"an instant not later than t = {t.time}")


class SDE:
    """A diffusion with affine drift, given by the kernel's scale and standard deviation.

    A subclass writes ``alpha`` and ``sigma``, functions of a tensor of times that return a tensor
    of the same shape; ``f`` and ``g`` follow by differentiation. It may write these and ``time_of``
    as well, for speed or to show them. Formulas that contradict each other are refused where they
    are first used: by :meth:`at`, :meth:`path` and :meth:`prior_sample`.

    At the end of time some of the datum must be left, ``alpha(1) > 2e-16``: steps divide by it.
    """

    def alpha(self, t: Tensor) -> Tensor:
        """Scale of the kernel's mean: ``E[x_t | x_0] = alpha(t) x_0``."""
        raise NotImplementedError(f"{type(self).__name__} must define alpha(self, t)")

    def sigma(self, t: Tensor) -> Tensor:
        """Standard deviation of the kernel ``p(x_t | x_0)``."""
        raise NotImplementedError(f"{type(self).__name__} must define sigma(self, t)")

    def f(self, t: Tensor) -> Tensor:
        """Drift coefficient: the drift is ``f(t) x``."""
        alpha, slope = _with_slope(self.alpha, t)
        return slope / alpha

    def g(self, t: Tensor) -> Tensor:
        """Diffusion coefficient, a standard deviation per square root of time."""
        # sigma often starts like a square root, whose slope is infinite at 0 itself, and where
        # rounding leaves no sigma, as in sqrt(1 - alpha^2)
        eps = torch.finfo(torch.float64).eps
        early = t.double().clamp(min=eps)
        early = torch.where(self.sigma(early) > 0, early, early.clamp(min=eps**0.5))
        variance, slope = _with_slope(lambda t: self.sigma(t) ** 2, early)
        return (slope - 2 * self.f(early) * variance).clamp(min=0).sqrt().to(t.dtype)

    def time_of(self, ratio: Tensor) -> Tensor:
        """The time at which ``sigma / alpha``, the noise-to-signal ratio, is ``ratio``, at most 1.

        Found by bisection, since the ratio grows with time.
        """
        wanted = ratio.double()
        before, after = torch.zeros_like(wanted), torch.ones_like(wanted)
        for _ in range(math.ceil(math.log2(1 / torch.finfo(wanted.dtype).eps))):
            middle = (before + after) / 2
            late = self.sigma(middle) > wanted * self.alpha(middle)
            before = torch.where(late, before, middle)
            after = torch.where(late, middle, after)
        return after.to(ratio)

    def at(self, t: Tensor | float, x: Tensor | None = None) -> Instant:
        """The instant ``t`` in numbers, or for times ``(B,)`` in tensors shaped to multiply ``x``.

        Args:
            t: Time or times in [0, 1].
            x: States, shape ``(B, *event)``, for shape, dtype and device; by default ``t`` itself.

        Raises:
            ValueError: if a time lies outside [0, 1] or the formulas contradict each other.
        """
        t = t if isinstance(t, Tensor) else torch.as_tensor(t, dtype=torch.float64)
        require_times(t)
        x = t if x is None else x
        if t.ndim == 0:
            return self._instants(t.reshape(1), x)[0]
        require_consistent(self)
        columns = (like(c, x) for c in self._formulas(t.double()))
        return Instant._make([*columns, t.to(x), self])

    def path(self, ts: Tensor, x: Tensor) -> list[Instant]:
        """The instants ``ts``, the formulas evaluated once for all: what a solver walks.

        Args:
            ts: Strictly decreasing times in [0, 1], shape ``(n + 1,)``.
            x: States, for the dtype and the device of the times that a score is given.

        Raises:
            ValueError: if ``ts`` is not as above or the formulas contradict each other.
        """
        require_tensor("ts", ts)
        require_shape("ts", ts, "n + 1")
        require(len(ts) >= 2, "ts", f"{len(ts)} time", "at least two times")
        times = ts.tolist()
        for t, s in itertools.pairwise(times):
            if not t > s:
                require(False, "ts", f"{t} followed by {s}", "strictly decreasing")
        require(times[0] <= 1 and times[-1] >= 0, "ts", f"{times[0]} to {times[-1]}", "in [0, 1]")
        return self._instants(ts, x)

    def _formulas(self, t: Tensor) -> tuple[Tensor, ...]:
        return t, self.f(t), self.g(t), self.alpha(t), self.sigma(t)

    def _instants(self, ts: Tensor, x: Tensor) -> list[Instant]:
        require_consistent(self)
        columns = torch.stack(self._formulas(ts.double()))
        if not all_finite(columns):
            bad = f"others at t = {ts[~columns.isfinite().all(0)][0].item():g}"
            require(False, "f, g, alpha and sigma", bad, "finite")
        now = columns[0].to(x).unbind()
        return list(map(Instant, *columns.tolist(), now, itertools.repeat(self)))

    def drift(self, x: Tensor, t: Tensor) -> Tensor:
        """``f(t) x``, shaped like ``x``."""
        require_times(t)
        return like(self.f(t), x) * x

    def diffuse(self, x0: Tensor, t: Tensor, z: Tensor) -> Tensor:
        """``alpha(t) x_0 + sigma(t) z``: where the noise ``z`` takes the datum ``x_0`` by ``t``."""
        require_times(t)
        require_like("z", z, x0)
        if t.element_size() < 4:  # on the way to a coefficient, half precision may overflow
            t = t.float()
        return like(self.alpha(t), x0) * x0 + like(self.sigma(t), x0) * z

    def perturb(
        self, x0: Tensor, t: Tensor, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Draw ``x_t = alpha(t) x_0 + sigma(t) z`` from the kernel; no path is simulated.

        Args:
            x0: Data, shape ``(B, *event)``.
            t: Times, shape ``()`` or ``(B,)``.
            generator: Source of the noise ``z``.

        Returns:
            ``(x_t, z)``, both shaped like ``x0``.

        Raises:
            ValueError: if ``x0`` holds NaN or infinity, or ``t`` does not fit ``x0`` or [0, 1].
            TypeError: if ``x0`` or ``t`` is not a floating-point tensor.
        """
        require_finite("x0", x0)
        z = randn_like(x0, generator)
        return self.diffuse(x0, t, z), z

    def prior_sample(
        self,
        shape: tuple[int, ...],
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor:
        """Draw ``x_1`` from the prior ``N(0, sigma(1)^2 I)``, the kernel without its mean.

        (For VP the paper writes ``N(0, I)``; ``sigma(1)`` differs from 1 by less than 3e-5 there.)
        """
        require_consistent(self)
        z = torch.randn(shape, generator=generator, dtype=dtype, device=device)
        return like(self.sigma(_one()), z) * z

    def prior_log_prob(self, x: Tensor) -> Tensor:
        """Log-density of the prior at ``x`` of shape ``(B, *event)``, in nats, shape ``(B,)``."""
        require_states("x", x)
        sigma = self.sigma(_one()).item()
        log_density = -((x / sigma) ** 2) / 2 - math.log(sigma * math.sqrt(2 * math.pi))
        return log_density.flatten(1).sum(1)


def _one() -> Tensor:
    return torch.ones((), dtype=torch.float64)


def _with_slope(function: Callable[[Tensor], Tensor], t: Tensor) -> tuple[Tensor, Tensor]:
    """``function(t)`` and its derivative, for a function of each time alone."""
    t = t.contiguous()  # an expanded one is refused
    value, slope = torch.func.jvp(function, (t,), (torch.ones_like(t),))[:2]
    return value, slope


def require_consistent(sde: SDE) -> None:
    """Refuse formulas that do not belong together, by central differences, once for each SDE."""
    if vars(sde).get("_consistent"):
        return
    name, step = type(sde).__name__, 1e-5
    t = torch.tensor([0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0], dtype=torch.float64)
    for formula in ("alpha", "sigma", "f", "g"):
        out = getattr(sde, formula)(t)
        require_tensor(f"{name}.{formula}(t)", out)
        require_shape(f"{name}.{formula}(t) at times of shape ({len(t)},)", out, len(t))
        require(out.dtype == t.dtype, f"{name}.{formula}(t)", out.dtype, f"of t's dtype, {t.dtype}")
    alpha, sigma = sde.alpha(t), sde.sigma(t)
    start = f"alpha = {alpha[0]:g}, sigma = {sigma[0]:g}"
    is_data = (alpha[0] - 1).abs() < 1e-3 and 0 <= sigma[0] <= 1e-2 * sigma[-1]
    require(bool(is_data), f"{name} at t = 0", start, "the data: alpha = 1, sigma = 0")
    require(
        bool(alpha[-1] > torch.finfo(t.dtype).eps),
        f"{name}.alpha(1)",
        f"{alpha[-1]:.2g}",
        "above 2e-16, so that some of the datum is left; let the schedule end a little earlier, "
        "for instance alpha(0.999 t) and sigma(0.999 t)",
    )
    t = t[1:-1]
    high, low = t + step, t - step
    slope = (sde.alpha(high) - sde.alpha(low)) / (2 * step)
    growth = (sde.sigma(high) ** 2 - sde.sigma(low) ** 2) / (2 * step)
    f = slope / sde.alpha(t)
    for formula, found, wanted, rule in (
        ("f(t)", sde.f(t), f, "alpha' / alpha"),
        ("g(t)^2", sde.g(t) ** 2, growth - 2 * f * sde.sigma(t) ** 2, "(sigma^2)' - 2 f sigma^2"),
        ("time_of(sigma(t) / alpha(t))", sde.time_of(sde.sigma(t) / sde.alpha(t)), t, "t"),
    ):
        off = (found - wanted).abs() > 1e-3 * (wanted.abs() + wanted.abs().max())
        if off.any():
            i = int(off.nonzero()[0])
            allowed = f"{rule} = {wanted[i]:.4g} at t = {t[i]:g}, to fit alpha and sigma"
            require(False, f"{name}.{formula}", f"{found[i]:.4g}", allowed)
    vars(sde)["_consistent"] = True  # also where the class is frozen


@dataclass(frozen=True)
class VESDE(SDE):
    r"""Variance exploding SDE, the limit of SMLD (Song et al. 2021, Eqs. 9 and 30).

    With the geometric schedule
    :math:`\varsigma(t) = \sigma_{\min}(\sigma_{\max}/\sigma_{\min})^t` the SDE
    :math:`\mathrm dx = \sqrt{\mathrm d\varsigma^2/\mathrm dt}\,\mathrm dw` has the kernel variance
    :math:`\varsigma(t)^2 - \varsigma(0)^2`. That is the ``sigma(t)**2`` here, so ``sigma(0) = 0``;
    the paper's Eq. 31 counts the jump from 0 to :math:`\varsigma(0)` as well (its App. C), which
    matters only near ``t = 0``.

    Args:
        sigma_min: Noise scale at ``t = 0``, positive.
        sigma_max: Noise scale at ``t = 1``, above ``sigma_min``; about the largest distance between
            data points.

    Raises:
        ValueError: unless ``0 < sigma_min < sigma_max < inf``.
    """

    sigma_min: float = 0.01
    sigma_max: float = 50.0

    def __post_init__(self):
        require(self.sigma_min > 0, "sigma_min", self.sigma_min, "positive")
        allowed = f"finite and above sigma_min = {self.sigma_min}"
        require(self.sigma_min < self.sigma_max < math.inf, "sigma_max", self.sigma_max, allowed)

    @property
    def log_ratio(self) -> float:
        """``log(sigma_max / sigma_min)``."""
        return math.log(self.sigma_max / self.sigma_min)

    def f(self, t: Tensor) -> Tensor:
        return torch.zeros_like(t)

    def g(self, t: Tensor) -> Tensor:
        return self.sigma_min * torch.exp(t * self.log_ratio) * math.sqrt(2 * self.log_ratio)

    def alpha(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def sigma(self, t: Tensor) -> Tensor:
        # the exponential stays out of the root, where its square would overflow half precision
        grown = t * self.log_ratio
        return self.sigma_min * grown.exp() * (-torch.expm1(-2 * grown)).sqrt()

    def time_of(self, ratio: Tensor) -> Tensor:
        return (torch.log1p((ratio / self.sigma_min) ** 2) / (2 * self.log_ratio)).clamp(max=1)


@dataclass(frozen=True)
class VPSDE(SDE):
    r"""Variance preserving SDE, the limit of DDPM (Song et al. 2021, Eqs. 11 and 32-33).

    :math:`\mathrm dx = -\tfrac12\beta(t)\,x\,\mathrm dt + \sqrt{\beta(t)}\,\mathrm dw` with
    :math:`\beta(t) = \beta_{\min} + t(\beta_{\max} - \beta_{\min})` and
    :math:`B(t) = \int_0^t \beta`; the kernel has :math:`\alpha = e^{-B/2}` and
    :math:`\sigma^2 = 1 - e^{-B}`.

    Args:
        beta_min: Noise rate at ``t = 0``, positive.
        beta_max: Noise rate at ``t = 1``, at least ``beta_min``.

    Raises:
        ValueError: unless ``0 < beta_min <= beta_max < inf``.
    """

    beta_min: float = 0.1
    beta_max: float = 20.0

    def __post_init__(self):
        require(self.beta_min > 0, "beta_min", self.beta_min, "positive")
        allowed = f"finite and at least beta_min = {self.beta_min}"
        require(self.beta_min <= self.beta_max < math.inf, "beta_max", self.beta_max, allowed)

    def beta(self, t: Tensor) -> Tensor:
        """Noise rate ``beta(t)``."""
        return self.beta_min + t * (self.beta_max - self.beta_min)

    def int_beta(self, t: Tensor) -> Tensor:
        """``B(t)``, the integral of beta from 0 to t."""
        return t * self.beta_min + t * t * ((self.beta_max - self.beta_min) / 2)

    def f(self, t: Tensor) -> Tensor:
        return -self.beta(t) / 2

    def g(self, t: Tensor) -> Tensor:
        return self.beta(t).sqrt()

    def alpha(self, t: Tensor) -> Tensor:
        return torch.exp(self.int_beta(t) / -2)

    def sigma(self, t: Tensor) -> Tensor:
        return (-torch.expm1(-self.int_beta(t))).sqrt()

    def time_of(self, ratio: Tensor) -> Tensor:
        return self._time_of_int_beta(torch.log1p(ratio**2))

    def _time_of_int_beta(self, b: Tensor) -> Tensor:
        """The time at which ``B(t) = b``, at most 1: the root of a quadratic equation."""
        root = (self.beta_min**2 + 2 * (self.beta_max - self.beta_min) * b).sqrt()
        return (2 * b / (self.beta_min + root)).clamp(max=1)


@dataclass(frozen=True)
class SubVPSDE(VPSDE):
    r"""Sub-VP SDE: the VP drift with less noise (Song et al. 2021, Eq. 12 and App. B).

    :math:`g^2 = \beta(1 - e^{-2B})` gives :math:`\sigma = 1 - e^{-B}`, so its variance never
    exceeds VP's.
    """

    def g(self, t: Tensor) -> Tensor:
        return (self.beta(t) * -torch.expm1(-2 * self.int_beta(t))).sqrt()

    def sigma(self, t: Tensor) -> Tensor:
        return -torch.expm1(-self.int_beta(t))

    def time_of(self, ratio: Tensor) -> Tensor:
        return self._time_of_int_beta(2 * torch.asinh(ratio / 2))  # the ratio is 2 sinh(B / 2)


@dataclass(frozen=True)
class CosineSDE(SDE):
    r"""The variance preserving SDE of the cosine schedule (Nichol and Dhariwal 2021, Eq. 17).

    :math:`\alpha = \cos\omega t`, :math:`\sigma = \sin\omega t`: the angle of noise to signal grows
    evenly, up to :math:`\omega = \arccos\alpha(1)`. (Their offset at the start is left out.)

    Args:
        alpha_end: ``alpha(1)``, in (0, 1).

    Raises:
        ValueError: if ``alpha_end`` lies outside (0, 1).
    """

    alpha_end: float = 1e-3

    def __post_init__(self):
        require(0 < self.alpha_end < 1, "alpha_end", self.alpha_end, "inside (0, 1)")

    def alpha(self, t: Tensor) -> Tensor:
        return torch.cos(math.acos(self.alpha_end) * t)

    def sigma(self, t: Tensor) -> Tensor:
        return torch.sin(math.acos(self.alpha_end) * t)

    def time_of(self, ratio: Tensor) -> Tensor:
        return (torch.atan(ratio) / math.acos(self.alpha_end)).clamp(max=1)


@dataclass(frozen=True)
class FlowSDE(SDE):
    r"""The SDE whose flow is that of straight paths, :math:`\alpha = 1 - t`, :math:`\sigma = t`.

    This is flow matching with a Gaussian source (Lipman et al. 2023, their optimal transport paths;
    Liu et al. 2023), with time running from data to noise. The straight line ends just above 0, at
    ``alpha(1) = alpha_end``: at 0 the drift would be infinite.

    Args:
        alpha_end: ``alpha(1)``, in (0, 1).

    Raises:
        ValueError: if ``alpha_end`` lies outside (0, 1).
    """

    alpha_end: float = 1e-3

    def __post_init__(self):
        require(0 < self.alpha_end < 1, "alpha_end", self.alpha_end, "inside (0, 1)")

    def alpha(self, t: Tensor) -> Tensor:
        return 1 - (1 - self.alpha_end) * t

    def sigma(self, t: Tensor) -> Tensor:
        return 1 * t

    def time_of(self, ratio: Tensor) -> Tensor:
        return (ratio / (1 + (1 - self.alpha_end) * ratio)).clamp(max=1)


def _ratio(ratio: Tensor, name: str) -> Tensor:
    if values_can_be_read(ratio) and not (ratio >= 0).all():
        require(False, name, "others", "at least 0 everywhere")
    return at_least_single(ratio, name).clamp(max=1e15)  # its square is finite, the time 1 there


guard(__name__, ratio=_ratio, late=("like", "randn_like"), inner=("transition", "require_order"))
