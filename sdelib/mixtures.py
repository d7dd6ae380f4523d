"""The Gaussian mixture, exact in every way: densities, scores, diffusion and conditioning are
closed forms.
"""

import math
from dataclasses import dataclass, replace

import torch
from scipy.optimize import elementwise
from torch import Tensor

from ._checks import require, require_finite, require_shape


@dataclass(frozen=True)
class GaussianMixture:
    r"""The mixture :math:`\sum_k w_k \mathcal N(m_k, Q_k \operatorname{diag}(v_k) Q_k^\top)` in
    ``d`` dimensions.

    Covariances are kept as principal axes and variances: isotropic noise moves the variances and
    leaves the axes alone, so :meth:`perturb` costs nothing. (A mixture perturbed at times of shape
    ``(B,)`` holds one mixture a row.)

    Args:
        weights: ``w``, shape ``(K,)``, positive, summing to 1.
        means: ``m``, shape ``(K, d)``.
        variances: ``v``, along the axes, shape ``(K, d)``, positive. Variances, not standard
            deviations.
        axes: ``Q``, orthonormal, in columns, shape ``(K, d, d)``; ``None`` means the coordinate
            axes.

    Raises:
        ValueError: naming the argument whose shape or values are not as above.
        TypeError: if an argument is not a floating-point tensor.
    """

    weights: Tensor
    means: Tensor
    variances: Tensor
    axes: Tensor | None = None

    def __post_init__(self):
        for name in ("weights", "means", "variances"):
            require_finite(name, getattr(self, name))
        w, m, v, q = self.weights, self.means, self.variances, self.axes
        require_shape("weights", w, "K")
        require(
            m.ndim >= 2 and m.shape[-2] == len(w),
            "means",
            f"shape {tuple(m.shape)}",
            f"of shape (K, d), K = {len(w)}",
        )
        require_shape("variances", v, *m.shape)
        if q is not None:
            require_shape("axes", q, len(w), self.dim, self.dim)
        if w.device.type == "cpu" and v.numel():
            require(bool((w > 0).all()), "weights", w.tolist(), "positive")
            require(
                abs(w.sum().item() - 1) < 1e-5,
                "weights",
                f"{w.tolist()}, of sum {w.sum():g}",
                "of sum 1",
            )
            require(
                bool((v > 0).all()),
                "variances",
                f"values down to {v.min():g}",
                "positive",
            )

    @classmethod
    def from_covs(cls, weights: Tensor, means: Tensor, covs: Tensor) -> "GaussianMixture":
        """The mixture with covariance matrices ``covs`` of shape ``(K, d, d)``, symmetric and
        positive definite.
        """
        require_finite("covs", covs)
        require(
            torch.allclose(covs, covs.mT),
            "covs",
            "matrices that are not",
            "symmetric",
        )
        variances, axes = torch.linalg.eigh(covs)
        require(
            bool((variances > 0).all()),
            "covs",
            f"an eigenvalue of {variances.min():g}",
            "positive definite",
        )
        return cls(weights, means, variances, axes)

    @classmethod
    def from_classes(
        cls, x: Tensor, labels: Tensor, pooled: float = 0.3, noise: float = 0.0
    ) -> "GaussianMixture":
        r"""One Gaussian for each class of the data, with the class's share, mean and covariance.

        A class of few points has an unreliable covariance, so part of it is replaced by the mean
        covariance of all classes (regularised discriminant analysis; Friedman 1989).

        Args:
            x: Data, shape ``(n, *event)``; the mixture is one of flattened events.
            labels: Integers from 0 to ``K - 1``, shape ``(n,)``; every class needs at least two
                points.
            pooled: That part, in [0, 1].
            noise: Variance of white noise to be added to the data.

        Raises:
            ValueError: if an argument is not as above or a covariance is singular.
        """
        require_finite("x", x)
        require_shape("labels", labels, len(x))
        require(0 <= pooled <= 1, "pooled", pooled, "in [0, 1]")
        require(noise >= 0, "noise", noise, "at least 0")
        counts, points = torch.bincount(labels), x.flatten(1).double()
        enough, sizes = bool((counts >= 2).all()), f"classes of {counts.tolist()}"
        require(enough, "labels", sizes, "two or more points a class")
        classes = [points[labels == k] for k in range(len(counts))]
        covs = torch.stack([torch.cov(part.T).reshape(2 * points.shape[1:]) for part in classes])
        covs = torch.lerp(covs, covs.mean(0, keepdim=True), pooled)
        means = torch.stack([part.mean(0) for part in classes])
        white = noise * torch.eye(points.shape[1]).to(points)
        return cls.from_covs(counts / counts.sum().double(), means, covs + white).to(x)

    @property
    def dim(self) -> int:
        """Dimension ``d`` of the points."""
        return self.means.shape[-1]

    @property
    def covs(self) -> Tensor:
        """Covariance matrices of the components, shape ``(K, d, d)``."""
        if self.axes is None:
            return torch.diag_embed(self.variances)
        return self.axes @ (self.variances[..., None] * self.axes.mT)

    @property
    def mean(self) -> Tensor:
        """Mean of the mixture, shape ``(d,)``."""
        return (self.weights[:, None] * self.means).sum(-2)

    @property
    def cov(self) -> Tensor:
        """Covariance of the mixture, shape ``(d, d)``: within the components plus between them."""
        between = self.means - self.mean
        return torch.einsum(
            "k,kij->ij",
            self.weights,
            self.covs + between[:, :, None] * between[:, None, :],
        )

    def to(self, x: Tensor) -> "GaussianMixture":
        """The same mixture in the dtype and on the device of ``x``."""
        if self.means.dtype == x.dtype and self.means.device == x.device:
            return self
        axes = None if self.axes is None else self.axes.to(x)
        return GaussianMixture(self.weights.to(x), self.means.to(x), self.variances.to(x), axes)

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw ``n`` points, shape ``(n, d)``."""
        require(n >= 0, "n", n, "at least 0")
        if n == 0:
            return self.means.new_empty(0, self.dim)
        k = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        z = torch.randn(
            n,
            self.dim,
            generator=generator,
            dtype=self.means.dtype,
            device=self.means.device,
        )
        return self.means[k] + self._from_axes((self.variances[k].sqrt() * z)[:, None], k)[:, 0]

    def log_joint(self, x: Tensor) -> Tensor:
        """``log w_k + log N(x; m_k, C_k)`` at ``x`` of shape ``(B, d)``: shape ``(B, K)``."""
        u = self._to_axes(self._offsets(x))
        log_normal = -0.5 * (u**2 / self.variances + torch.log(2 * math.pi * self.variances)).sum(
            -1
        )
        return self.weights.log() + log_normal

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-density at ``x`` of shape ``(B, d)``, in nats: shape ``(B,)``."""
        return self.log_joint(x).logsumexp(-1)

    def score(self, x: Tensor) -> Tensor:
        """Gradient of the log-density at ``x``, shape ``(B, d)``: each component's pull, weighted
        by responsibility.
        """
        responsibility = self.log_joint(x).softmax(-1)
        return (responsibility[..., None] * self.pulls(x)).sum(-2)

    def pulls(self, x: Tensor) -> Tensor:
        """Gradient of each component's log-density at ``x`` of shape ``(B, d)``: shape ``(B, K,
        d)``.
        """
        return self._from_axes(-self._to_axes(self._offsets(x)) / self.variances)

    def perturb(self, alpha: Tensor, sigma: Tensor) -> "GaussianMixture":
        """The law of ``alpha X + sigma Z``, ``Z ~ N(0, I)``; ``alpha`` and ``sigma`` have shape
        ``()`` or ``(B,)``.
        """
        a, s = alpha[..., None, None], sigma[..., None, None]
        return replace(self, means=a * self.means, variances=a**2 * self.variances + s**2)

    def condition(self, A: Tensor, y: Tensor, std: float) -> "GaussianMixture":
        """The law of ``X`` given ``y = A X + std N(0, I)``, again a mixture (Bayes' rule, component
        by component).

        Args:
            A: Linear map, shape ``(m, d)``.
            y: Observation, shape ``(m,)``.
            std: Standard deviation of the observation's noise, positive.
        """
        require_shape("A", A, "m", self.dim)
        require_shape("y", y, len(A))
        require(std > 0, "std", std, "positive")
        # Posterior variances are small differences of large numbers; double precision keeps them.
        A, y, covs, means = (
            A.double(),
            y.double(),
            self.covs.double(),
            self.means.double(),
        )
        eye_y, eye_x = torch.eye(len(A)).to(A), torch.eye(self.dim).to(A)
        evidence_covs = A @ covs @ A.mT + std**2 * eye_y
        gain = torch.linalg.solve(evidence_covs, A @ covs).mT
        residual = y - means @ A.mT
        evidence = torch.distributions.MultivariateNormal(
            torch.zeros_like(y), evidence_covs
        ).log_prob(residual)
        shrink = eye_x - gain @ A
        posterior = GaussianMixture.from_covs(
            (self.weights.double().log() + evidence).softmax(-1),
            means + torch.einsum("kij,kj->ki", gain, residual),
            shrink @ covs @ shrink.mT
            + std**2 * gain @ gain.mT,  # Joseph's form stays positive definite
        )
        return posterior.to(self.means)

    def cdf(self, x: Tensor) -> Tensor:
        """Distribution function at points of shape ``(B, 1)``: shape ``(B,)``. In one dimension
        only.
        """
        require(
            self.dim == 1,
            "the mixture's dimension",
            self.dim,
            "1 to have a distribution function",
        )
        u = self._offsets(x)[..., 0] / self.variances[..., 0].sqrt()
        return (self.weights * torch.special.ndtr(u)).sum(-1)

    def quantile(self, u: Tensor) -> Tensor:
        """The points of shape ``(n, 1)`` with ``cdf(x) = u``, for levels ``u`` of shape ``(n,)``
        inside (0, 1).
        """
        require_shape("u", u, "n")
        require(
            bool(((u > 0) & (u < 1)).all()),
            "u",
            f"values from {u.min():g} to {u.max():g}",
            "inside (0, 1)",
        )
        double = self.to(u.double())
        reach = (
            40 * double.variances.sqrt()
        )  # beyond it the distribution function is 0 or 1 to the last bit
        low, high = (
            (double.means - reach).min().item(),
            (double.means + reach).max().item(),
        )

        def excess(x, level):
            return double.cdf(torch.as_tensor(x)[:, None].to(double.means)).cpu().numpy() - level

        root = elementwise.find_root(excess, (low, high), args=(u.double().cpu().numpy(),))
        return torch.as_tensor(root.x).to(u)[:, None]

    def _offsets(self, x: Tensor) -> Tensor:
        """``x - m_k`` for every component, shape ``(B, K, d)``."""
        require_shape("x", x, "B", self.dim)
        return x[:, None] - self.means

    def _to_axes(self, u: Tensor) -> Tensor:
        return u if self.axes is None else torch.einsum("kij,bki->bkj", self.axes, u)

    def _from_axes(self, u: Tensor, k: Tensor | slice = slice(None)) -> Tensor:
        if self.axes is None:
            return u
        axes = self.axes[k]
        return torch.einsum("bij,bkj->bki" if isinstance(k, Tensor) else "kij,bkj->bki", axes, u)
