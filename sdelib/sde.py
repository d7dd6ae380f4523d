r"""Forward SDEs with an affine drift, on the time interval [0, 1] (0 is data, 1 is noise).

.. math:: \mathrm{d}x = f(t)\,x\,\mathrm{d}t + g(t)\,\mathrm{d}w

An affine drift keeps Gaussians Gaussian, so the perturbation kernel is known in closed form,

.. math:: p(x_t \mid x_0) = \mathcal N(\alpha(t)\,x_0,\ \sigma(t)^2 I),

where :math:`\alpha' = f\alpha` and :math:`(\sigma^2)' = 2f\sigma^2 + g^2` with :math:`\alpha(0) =
1`, :math:`\sigma(0) = 0` (Song et al. 2021, Eq. 29; Särkkä and Solin 2019, Eqs. 5.50-5.51). An SDE
is therefore four functions of time: ``f``, ``g``, ``alpha``, ``sigma``.

States ``x`` have shape ``(B, *event)``; times ``t`` have shape ``()`` or ``(B,)``. Dtype and device
follow the tensors passed in.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ._checks import require, require_finite, require_times


def like(c: Tensor, x: Tensor) -> Tensor:
    """View a coefficient of shape ``()`` or ``(B,)`` so that it multiplies a state ``x`` of shape
    ``(B, *event)``.

    Raises:
        ValueError: if ``c`` has any other shape, since broadcasting would then mix states or
            events.
    """
    if c.ndim == 0:
        return c
    if c.shape != x.shape[:1]:
        allowed = f"of shape () or {tuple(x.shape[:1])}"
        require(False, "time", f"shape {tuple(c.shape)}", allowed)
    return c.view(-1, *(1,) * (x.ndim - 1))


def randn_like(x: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Standard normal noise shaped like ``x``, from an explicit generator (``torch.randn_like``
    takes none).
    """
    return torch.empty_like(x, memory_format=torch.contiguous_format).normal_(generator=generator)


def _on_unit_interval(coefficient: Callable) -> Callable:
    """Make a coefficient refuse times outside [0, 1], where its formula means nothing."""

    @functools.wraps(coefficient)
    def checked(self, t: Tensor) -> Tensor:
        require_times(t)
        return coefficient(self, t)

    return checked


class SDE:
    """A diffusion with affine drift, given by four functions of time.

    A subclass writes ``f``, ``g``, ``alpha`` and ``sigma``; each takes times of shape ``()`` or
    ``(B,)`` and returns a tensor of that shape. Times outside [0, 1] raise ``ValueError``, anything
    but a floating-point tensor ``TypeError``.
    """

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        own = vars(cls)
        for name in {"f", "g", "alpha", "sigma", "kernel"} & own.keys():
            setattr(cls, name, _on_unit_interval(own[name]))
        if {"alpha", "sigma"} & own.keys():  # inherited ones have other formulas
            for name in {"kernel", "time_of"} - own.keys():
                setattr(cls, name, vars(SDE)[name])

    def f(self, t: Tensor) -> Tensor:
        """Drift coefficient: the drift is ``f(t) x``."""
        raise NotImplementedError

    def g(self, t: Tensor) -> Tensor:
        """Diffusion coefficient, a standard deviation per square root of time."""
        raise NotImplementedError

    def alpha(self, t: Tensor) -> Tensor:
        """Scale of the kernel's mean: ``E[x_t | x_0] = alpha(t) x_0``."""
        raise NotImplementedError

    def sigma(self, t: Tensor) -> Tensor:
        """Standard deviation of the kernel ``p(x_t | x_0)``."""
        raise NotImplementedError

    def kernel(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """``alpha(t)`` and ``sigma(t)`` together, for a subclass to write as well where they have
        work in common.
        """
        return self.alpha(t), self.sigma(t)

    def time_of(self, ratio: Tensor) -> Tensor:
        """The time at which ``sigma(t) / alpha(t)``, the noise-to-signal ratio, is ``ratio``; 1 if
        it never gets so large.

        Found by bisection, since the ratio grows with time; a subclass may write a closed form as
        well.
        """
        wanted = ratio.double()
        before, after = torch.zeros_like(wanted), torch.ones_like(wanted)
        for _ in range(math.ceil(math.log2(1 / torch.finfo(wanted.dtype).eps))):
            middle = (before + after) / 2
            alpha, sigma = self.kernel(middle)
            late = sigma > wanted * alpha
            before = torch.where(late, before, middle)
            after = torch.where(late, middle, after)
        return after.to(ratio)

    def drift(self, x: Tensor, t: Tensor) -> Tensor:
        """``f(t) x``, shaped like ``x``."""
        return like(self.f(t), x) * x

    def diffuse(self, x0: Tensor, t: Tensor, z: Tensor) -> Tensor:
        """``alpha(t) x_0 + sigma(t) z``: where the noise ``z`` takes the datum ``x_0`` by time
        ``t``, shaped like both.
        """
        alpha, sigma = self.kernel(t)
        return like(alpha, x0) * x0 + like(sigma, x0) * z

    def perturb(
        self, x0: Tensor, t: Tensor, generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """Draw ``x_t = alpha(t) x_0 + sigma(t) z`` from the kernel, in one normal draw; no path is
        simulated.

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

    def transition(self, s: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Scale ``r`` and standard deviation ``q`` of the step ``p(x_t | x_s) = N(r x_s, q^2 I)``,
        for ``s <= t``.

        Since the path is Markov, ``alpha(t) = r alpha(s)`` and ``sigma(t)^2 = r^2 sigma(s)^2 +
        q^2``; ``q^2`` is a small difference of large numbers, hence the double precision inside.

        Raises:
            ValueError: if ``s > t`` or a time lies outside [0, 1].
        """
        require_times(s, "s")
        require_times(t, "t")
        if s.device.type == "cpu" and not (s <= t).all():
            require(False, "s", f"values up to {s.max():g}", f"at most t = {t.min():g}")
        dtype = torch.promote_types(s.dtype, t.dtype)
        s, t = s.double(), t.double()
        (alpha_s, sigma_s), (alpha_t, sigma_t) = self.kernel(s), self.kernel(t)
        r = alpha_t / alpha_s
        q = (sigma_t**2 - (r * sigma_s) ** 2).clamp(min=0).sqrt()
        return r.to(dtype), q.to(dtype)

    def prior_sample(
        self,
        shape: tuple[int, ...],
        generator: torch.Generator | None = None,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> Tensor:
        """Draw ``x_1`` from the prior ``N(0, sigma(1)^2 I)``, what is left of the kernel once
        ``alpha(1)`` is neglected.

        (For VP the paper writes ``N(0, I)``; ``sigma(1)`` differs from 1 by less than 3e-5 there.)
        """
        z = torch.randn(shape, generator=generator, dtype=dtype, device=device)
        return self.sigma(z.new_ones(())) * z

    def prior_log_prob(self, x: Tensor) -> Tensor:
        """Log-density of the prior at ``x`` of shape ``(B, *event)``, in nats, shape ``(B,)``."""
        return (
            torch.distributions.Normal(0.0, self.sigma(x.new_ones(())))
            .log_prob(x)
            .flatten(1)
            .sum(1)
        )


@dataclass(frozen=True)
class VESDE(SDE):
    r"""Variance exploding SDE, the limit of SMLD (Song et al. 2021, Eqs. 9 and 30).

    With the geometric schedule :math:`\varsigma(t) = \sigma_{\min}(\sigma_{\max}/\sigma_{\min})^t`
    the SDE :math:`\mathrm dx = \sqrt{\mathrm d\varsigma^2/\mathrm dt}\,\mathrm dw` has the kernel
    variance :math:`\varsigma(t)^2 - \varsigma(0)^2`. That is the ``sigma(t)**2`` here, so
    ``sigma(0) = 0``; the paper's Eq. 31 counts the jump from 0 to :math:`\varsigma(0)` as well (its
    App. C), which matters only near ``t = 0``.

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
        require(
            self.sigma_min < self.sigma_max < math.inf,
            "sigma_max",
            self.sigma_max,
            f"finite and above sigma_min = {self.sigma_min}",
        )

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
        return self.sigma_min * torch.expm1(2 * t * self.log_ratio).sqrt()


@dataclass(frozen=True)
class VPSDE(SDE):
    r"""Variance preserving SDE, the limit of DDPM (Song et al. 2021, Eqs. 11 and 32-33).

    :math:`\mathrm dx = -\tfrac12\beta(t)\,x\,\mathrm dt + \sqrt{\beta(t)}\,\mathrm dw` with
    :math:`\beta(t) = \beta_{\min} + t(\beta_{\max} - \beta_{\min})` and :math:`B(t) = \int_0^t
    \beta`; the kernel has :math:`\alpha = e^{-B/2}` and :math:`\sigma^2 = 1 - e^{-B}`.

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
        require(
            self.beta_min <= self.beta_max < math.inf,
            "beta_max",
            self.beta_max,
            f"finite and at least beta_min = {self.beta_min}",
        )

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

    def kernel(self, t: Tensor) -> tuple[Tensor, Tensor]:
        b = self.int_beta(t)
        return torch.exp(b / -2), (-torch.expm1(-b)).sqrt()

    def time_of(self, ratio: Tensor) -> Tensor:
        b = torch.log1p(ratio**2)  # int_beta at that time
        slope = self.beta_max - self.beta_min
        root = (self.beta_min**2 + 2 * slope * b).sqrt()
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
