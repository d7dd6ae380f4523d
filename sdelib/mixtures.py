"""The Gaussian mixture: density, score, diffusion and conditioning are closed forms."""

import copy
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ._checks import as_integers, require, require_finite, require_shape, require_tensor
from ._guard import guard


def symmetrised(name: str, matrices: Tensor) -> Tensor:
    """``(C + C^T) / 2``, or ``ValueError`` if that is more than rounding away from ``C``."""
    got = f"shape {tuple(matrices.shape)}"
    square = matrices.ndim >= 2 and matrices.shape[-1] == matrices.shape[-2]
    require(square, name, got, "square matrices")
    scale = matrices.diagonal(dim1=-2, dim2=-1).abs().sqrt()
    rounding = 1e-4 * scale[..., :, None] * scale[..., None, :]
    symmetric = ((matrices - matrices.mT).abs() <= rounding).all()
    require(bool(symmetric), name, "another matrix", "symmetric")
    return (matrices + matrices.mT) / 2


@dataclass(frozen=True, eq=False)
class GaussianMixture:
    r"""The mixture :math:`\sum_k w_k \mathcal N(m_k, Q_k \operatorname{diag}(v_k) Q_k^\top)`.

    Covariances are kept as principal axes and variances: isotropic noise moves the variances and
    leaves the axes alone, so :meth:`perturb` costs nothing. Half precision is refused; states of
    half precision are served in single precision.

    Args:
        weights: ``w``, shape ``(K,)``, not negative, summing to 1.
        means: ``m``, shape ``(K, d)``.
        variances: ``v``, along the axes, shape ``(K, d)``, positive. Variances, not standard
            deviations.
        axes: ``Q``, orthonormal, in columns, shape ``(K, d, d)``; ``None`` means the coordinates'.

    Raises:
        ValueError: naming the argument whose shape or values are not as above.
        TypeError: if an argument is not a tensor of single or double precision.
    """

    weights: Tensor
    means: Tensor
    variances: Tensor
    axes: Tensor | None = None

    def __post_init__(self):
        given = {name: value for name, value in vars(self).items() if value is not None}
        for name, value in given.items():
            require_finite(name, value)
            if value.element_size() < 4:
                raise TypeError(f"{name} must be of single or double precision, got {value.dtype}")
        w, m, v, q = self.weights, self.means, self.variances, self.axes
        require_shape("weights", w, "K")
        fits = m.ndim == 2 and len(m) == len(w) and m.shape[1] > 0
        require(fits, "means", f"shape {tuple(m.shape)}", f"of shape (K, d), K = {len(w)}")
        require_shape("variances", v, *m.shape)
        require(bool((w >= 0).all()), "weights", w.tolist(), "at least 0")
        total = w.sum().item()
        require(abs(total - 1) < 1e-5, "weights", f"{w.tolist()}, of sum {total:g}", "of sum 1")
        require(bool((v > 0).all()), "variances", f"values down to {v.min():g}", "positive")
        if q is not None:
            require_shape("axes", q, len(w), self.dim, self.dim)
            off = (q.mT @ q - torch.eye(self.dim).to(q)).abs()
            require(bool((off < 1e-3).all()), "axes", "others", "orthonormal")
        widest = max((value.dtype for value in given.values()), key=lambda t: t.itemsize)
        vars(self).update({name: value.to(widest) for name, value in given.items()})

    @classmethod
    def from_covs(cls, weights: Tensor, means: Tensor, covs: Tensor) -> "GaussianMixture":
        """The mixture with covariance matrices ``covs``, positive definite, shape ``(K, d, d)``.

        They may be asymmetric by rounding.
        """
        require_finite("covs", covs)
        require_tensor("means", means)
        require(means.ndim == 2, "means", f"shape {tuple(means.shape)}", "of shape (K, d)")
        require_shape("covs", covs, *means.shape, means.shape[-1])
        if covs.element_size() < 4:
            raise TypeError(f"covs must be of single or double precision, got {covs.dtype}")
        variances, axes = torch.linalg.eigh(symmetrised("covs", covs).double())
        got = f"an eigenvalue of {variances.flatten().sort().values[:1].tolist()}"
        require(bool((variances > 0).all()), "covs", got, "positive definite")
        return cls(weights, means, variances.to(covs), axes.to(covs))

    @classmethod
    def from_classes(
        cls, x: Tensor, labels: Tensor, pooled: float = 0.3, noise: float = 0.0
    ) -> "GaussianMixture":
        r"""One Gaussian for each class of the data, with the class's share, mean and covariance.

        A class of few points has an unreliable covariance, so part of it is replaced by the mean
        covariance of all classes (regularised discriminant analysis; Friedman 1989).

        Args:
            x: Data, shape ``(n, *event)``; the mixture is one of flattened events.
            labels: Integers from 0 to ``K - 1``, shape ``(n,)``, at least two points for each.
            pooled: That part, in [0, 1].
            noise: Variance of white noise to be added to the data.

        Raises:
            ValueError: if an argument is not as above or a covariance is singular.
            TypeError: if ``x`` is not floating-point or ``labels`` are not integers.
        """
        require_finite("x", x)
        require(
            x.ndim >= 2 and x.numel() > 0, "x", f"shape {tuple(x.shape)}", "of shape (n, *event)"
        )
        if not (isinstance(labels, Tensor) and labels.dtype == torch.bool):  # of two classes
            labels = as_integers("labels", labels)
        require_shape("labels", labels, len(x))
        require(0 <= pooled <= 1, "pooled", pooled, "in [0, 1]")
        require(0 <= noise < math.inf, "noise", noise, "at least 0 and finite")
        labels, points = labels.long().to(x.device), x.flatten(1).double()
        low, high = labels.min().item(), labels.max().item()
        in_range = low >= 0 and high < len(x)  # counting needs memory for the largest
        require(in_range, "labels", f"values from {low} to {high}", "from 0 to K - 1")
        counts = torch.bincount(labels)
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
        between = self.means - self.mean[..., None, :]
        outer = between[..., :, None] * between[..., None, :]
        return (self.weights[:, None, None] * (self.covs + outer)).sum(-3)

    def to(self, x: Tensor) -> "GaussianMixture":
        """The same mixture on the device of ``x``, in its dtype, or in single if that is half."""
        dtype = torch.promote_types(x.dtype, torch.float32)
        if self.means.dtype == dtype and self.means.device == x.device:
            return self
        parts = {name: v.to(x.device, dtype) for name, v in vars(self).items() if v is not None}
        return GaussianMixture(**parts) if self.means.ndim == 2 else self._with(**parts)

    def _with(self, **values: Tensor) -> "GaussianMixture":
        """A copy with computed values in place, which need no check."""
        mixture = copy.copy(self)
        vars(mixture).update(values)
        return mixture

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw ``n`` points, shape ``(n, d)``."""
        require(n >= 0, "n", n, "at least 0")
        self._require_one("sampled")
        means = self.means
        if n == 0:
            return means.new_empty(0, self.dim)
        k = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        z = means.new_empty(n, self.dim).normal_(generator=generator)
        return means[k] + self._from_axes((self.variances[k].sqrt() * z)[:, None], k)[:, 0]

    def log_joint(self, x: Tensor) -> Tensor:
        """``log w_k + log N(x; m_k, C_k)`` at ``x`` of shape ``(B, d)``: shape ``(B, K)``."""
        u = self._to_axes(self._offsets(x))
        terms = u**2 / self.variances + torch.log(2 * math.pi * self.variances)
        return self.weights.log() - 0.5 * terms.sum(-1)

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-density at ``x`` of shape ``(B, d)``, in nats: shape ``(B,)``."""
        return self.log_joint(x).logsumexp(-1)

    def score(self, x: Tensor) -> Tensor:
        """Gradient of the log-density at ``x``, shape ``(B, d)``, in the dtype of ``x``.

        Each component's pull, weighted by responsibility.
        """
        responsibility = self.log_joint(x).softmax(-1)
        return (responsibility[..., None] * self.pulls(x)).sum(-2).to(x.dtype)

    def pulls(self, x: Tensor) -> Tensor:
        """Gradient of each component's log-density at ``x``, ``(B, d)``: shape ``(B, K, d)``."""
        return self._from_axes(-self._to_axes(self._offsets(x)) / self.variances)

    def perturb(self, alpha: Tensor | float, sigma: Tensor | float) -> "GaussianMixture":
        """The law of ``alpha X + sigma Z``, ``Z ~ N(0, I)``.

        Coefficients of shape ``(B,)`` make a mixture for each row of the points given to it. It has
        densities and moments; it cannot be sampled, conditioned or inverted.
        """
        a, s = self._coefficient("alpha", alpha), self._coefficient("sigma", sigma)
        counts = {len(c) for c in (a, s, self.means) if isinstance(c, Tensor) and c.ndim == 3}
        require(len(counts) <= 1, "alpha and sigma", f"{counts} of them", "of one number")
        return self._with(means=a * self.means, variances=a**2 * self.variances + s**2)

    def _coefficient(self, name: str, c: Tensor | float) -> Tensor | float:
        if not isinstance(c, Tensor):
            require(abs(c) < 1e100, name, c, "finite, and not that large")
            return c
        require(c.ndim <= 1, name, f"shape {tuple(c.shape)}", "of shape () or (B,)")
        return c.to(self.means)[..., None, None]

    def condition(self, A: Tensor, y: Tensor, std: float) -> "GaussianMixture":
        """The law of ``X`` given ``y = A X + std N(0, I)``, again a mixture (Bayes' rule).

        Args:
            A: Linear map, shape ``(m, d)``.
            y: Observation, shape ``(m,)``.
            std: Standard deviation of the observation's noise, positive.
        """
        self._require_one("conditioned")
        require_finite("A", A)
        require_finite("y", y)
        require_shape("A", A, "m", self.dim)
        require_shape("y", y, len(A))
        require(0 < std < math.inf, "std", std, "positive and finite")
        A, y, means = A.double() / std, y.double() / std, self.means.double()
        eye = torch.eye(self.dim).to(means)
        axes = eye if self.axes is None else self.axes.double()
        root = axes * self.variances.double().sqrt()[:, None]  # C = root root^T
        # With A root = W S U^T the evidence has covariance W (1 + S^2) W^T, the posterior
        # root U (1 + S^2)^-1 U^T root^T: sums only, so that no small difference loses its digits.
        W, S, Ut = torch.linalg.svd(A @ root)
        gap = ((y - means @ A.mT)[:, None] @ W)[:, 0]
        spread = 1 + torch.nn.functional.pad(S**2, (0, len(y) - S.shape[1]))
        evidence = -0.5 * (gap**2 / spread + spread.log()).sum(1)
        shrink = torch.nn.functional.pad(S, (0, self.dim - S.shape[1]))
        narrow = root @ Ut.mT / (1 + shrink**2).sqrt()[:, None]
        n = S.shape[1]
        pull = S * gap[:, :n] / spread[:, :n]
        axes, stds, _ = torch.linalg.svd(narrow)
        return GaussianMixture(
            (self.weights.double().log() + evidence).softmax(0),
            means + (root @ Ut.mT[:, :, :n] @ pull[..., None])[..., 0],
            stds**2,
            axes,
        ).to(self.means)

    def cdf(self, x: Tensor) -> Tensor:
        """Distribution function at points of shape ``(B, 1)``: shape ``(B,)``; in one dimension."""
        require(self.dim == 1, "the mixture's dimension", self.dim, "1 to have a cdf")
        u = self._offsets(x)[..., 0] / self.variances[..., 0].sqrt()
        return (self.weights * torch.special.ndtr(u)).sum(-1)

    def quantile(self, u: Tensor) -> Tensor:
        """Points of shape ``(n, 1)`` with ``cdf(x) = u``, for ``u`` inside (0, 1), ``(n,)``."""
        self._require_one("inverted")
        require_finite("u", u)
        require_shape("u", u, "n")
        if not len(u):
            return u[:, None]
        low, high = u.min().item(), u.max().item()
        require(low > 0 and high < 1, "u", f"values from {low:g} to {high:g}", "inside (0, 1)")
        from scipy.optimize import elementwise  # here, because it takes long to import

        double = self.to(u.double())
        # beyond 40 standard deviations the distribution function is 0 or 1 to the last bit
        reach = 40 * double.variances.sqrt()
        ends = (double.means - reach).min().item(), (double.means + reach).max().item()

        def excess(x, level):
            return double.cdf(torch.as_tensor(x)[:, None].to(double.means)).cpu().numpy() - level

        root = elementwise.find_root(excess, ends, args=(u.double().cpu().numpy(),))
        return torch.as_tensor(root.x).to(u)[:, None]

    def _require_one(self, done: str) -> None:
        one = self.means.ndim == 2
        require(one, "coefficients", "shape (B,)", f"of shape () for a mixture to be {done}")

    def _offsets(self, x: Tensor) -> Tensor:
        """``x - m_k`` for every component, shape ``(B, K, d)``."""
        require_shape("x", x, "B", self.dim)
        if self.means.ndim == 3:
            require_shape("x", x, len(self.means), self.dim)
        return x[:, None] - self.means

    def _to_axes(self, u: Tensor) -> Tensor:
        return u if self.axes is None else torch.einsum("kij,bki->bkj", self.axes.to(u), u)

    def _from_axes(self, u: Tensor, k: Tensor | slice = slice(None)) -> Tensor:
        if self.axes is None:
            return u
        rule = "bij,bkj->bki" if isinstance(k, Tensor) else "kij,bkj->bki"
        return torch.einsum(rule, self.axes[k].to(u), u)


guard(__name__, labels=None)
