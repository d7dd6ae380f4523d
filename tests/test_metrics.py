"""Distances and their floors against brute force."""

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from sdelib.data import deck_mixture
from sdelib.metrics import (
    _binomial_deviation,
    _distances,
    density_coverage,
    energy_distance,
    frechet_distance,
    kolmogorov_smirnov,
    nearer_training,
    sliced_wasserstein,
    wasserstein,
)
from sdelib.mixtures import GaussianMixture

UNIT = GaussianMixture(torch.ones(1), torch.zeros(1, 1), torch.ones(1, 1))


def test_wasserstein_of_shifted_quantiles_is_the_shift():
    x = deck_mixture().quantile((torch.arange(20_000) + 0.5) / 20_000) + 0.3
    assert math.isclose(wasserstein(x, deck_mixture().quantile).value, 0.3, rel_tol=1e-9)


def test_wasserstein_of_a_single_point_is_the_mean_distance():
    x = torch.tensor([[0.7]])
    exact = 2 * stats.norm.pdf(0.7) + 0.7 * (2 * stats.norm.cdf(0.7) - 1)  # E|Z - 0.7|
    assert math.isclose(wasserstein(x, UNIT.quantile).value, exact, rel_tol=1e-4)


def test_wasserstein_floor_is_the_mean_over_exact_samples():
    mixture, generator = deck_mixture(), torch.Generator().manual_seed(0)
    draws = [
        wasserstein(mixture.sample(200, generator), mixture.quantile, 1000) for _ in range(100)
    ]
    values = np.array([d.value for d in draws])
    assert abs(values.mean() - draws[0].floor) < 6 * values.std() / math.sqrt(len(values))


@pytest.mark.parametrize("n", [1, 7, 40])
def test_binomial_deviation_is_de_moivres(n):
    p = np.array([0.03, 0.25, 0.5, 0.9])
    k = np.arange(n + 1)
    brute = [(np.abs(k / n - q) * stats.binom.pmf(k, n, q)).sum() for q in p]
    np.testing.assert_allclose(_binomial_deviation(n, p), brute, rtol=1e-12)


def test_kolmogorov_smirnov_of_two_points():
    x = torch.tensor([[-0.5], [1.0]])
    steps = [
        stats.norm.cdf(-0.5),
        abs(0.5 - stats.norm.cdf(-0.5)),
        abs(stats.norm.cdf(1.0) - 0.5),
        stats.norm.sf(1.0),
    ]
    assert math.isclose(kolmogorov_smirnov(x, UNIT.cdf).value, max(steps), rel_tol=1e-12)


def test_kolmogorov_smirnov_floor_is_the_mean_over_exact_samples():
    u = np.random.default_rng(0).random((500, 50))
    u.sort(axis=1)
    steps = np.arange(51) / 50  # a jump of the empirical law starts and ends beside u
    values = np.maximum(steps[1:] - u, u - steps[:-1]).max(1)
    floor = kolmogorov_smirnov(torch.zeros(50, 1), UNIT.cdf).floor
    assert abs(values.mean() - floor) < 6 * values.std() / math.sqrt(len(values))


@pytest.mark.parametrize(
    "metric, law", [(wasserstein, UNIT.quantile), (kolmogorov_smirnov, UNIT.cdf)]
)
@pytest.mark.parametrize(
    "x, message",
    [
        (torch.tensor([[0.0], [math.nan]]), "x must be finite everywhere"),
        (torch.zeros(5), r"x must be of shape \(n, 1\)"),
        (torch.zeros(0, 1), "x must be at least one point, got no point"),
    ],
)
def test_bad_values_are_named(metric, law, x, message):
    with pytest.raises(ValueError, match=message):
        metric(x, law)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda x: wasserstein(x, UNIT.quantile, 1), "n_levels must be at least 2, got 1"),
        (
            lambda x: wasserstein(x, lambda u: u),
            r"quantile\(levels\) must be of shape \(20000, 1\)",
        ),
        (
            lambda x: wasserstein(x, lambda u: -u[:, None]),
            "must be increasing, got a fall by 5e-05",
        ),
        (
            lambda x: wasserstein(x, lambda u: u[:, None] / 0),
            "quantile.* must be finite everywhere",
        ),
        (lambda x: kolmogorov_smirnov(x, lambda x: x), r"cdf\(x\) must be of shape \(2,\)"),
        (lambda x: kolmogorov_smirnov(x, lambda x: -x[:, 0]), r"cdf\(x\) must be increasing"),
        (lambda x: kolmogorov_smirnov(x, lambda x: 9 * x[:, 0]), r"cdf\(x\) must be in \[0, 1\]"),
    ],
)
def test_laws_that_are_none_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(torch.tensor([[0.1], [0.2]]))


def test_two_levels_read_a_law_at_its_quarters_in_double_precision():
    torch.set_default_dtype(torch.float32)
    levels, quarters = [], torch.tensor([[-1.0], [3.0]]).double()
    distance = wasserstein(torch.zeros(1, 1), lambda u: levels.append(u) or quarters, 2)
    assert distance == (2.0, 0.5 * 4)  # the gap of 4 lies where F is 1/2
    assert levels[0].dtype == torch.float64 and levels[0].tolist() == [0.25, 0.75]


def test_a_point_may_be_the_law():
    x = normal(50, 1)
    distance = wasserstein(x, lambda u: torch.full((len(u), 1), 0.7))
    assert math.isclose(distance.value, (x - 0.7).abs().mean(), rel_tol=1e-12)
    assert distance.floor == 0


@pytest.mark.parametrize("fall, allowed", [(0.9e-6, True), (1.1e-6, False)])
def test_a_law_may_fall_by_the_rounding_of_single_precision(fall, allowed):
    quantile = lambda u: torch.tensor([[0.0], [1.0], [1.0 - fall]])
    if allowed:
        wasserstein(torch.zeros(1, 1), quantile, 3)
        return
    with pytest.raises(ValueError, match=r"^quantile\(levels\) must be increasing, got a fall by"):
        wasserstein(torch.zeros(1, 1), quantile, 3)


@pytest.mark.parametrize("beyond, allowed", [(0.9e-6, True), (1.1e-6, False)])
@pytest.mark.parametrize("end", ["low", "high"])
def test_levels_may_leave_the_unit_interval_by_rounding(end, beyond, allowed):
    levels = torch.tensor([-beyond, 0.5] if end == "low" else [0.5, 1 + beyond])
    if allowed:
        kolmogorov_smirnov(torch.zeros(2, 1), lambda x: levels)
        return
    with pytest.raises(ValueError, match=r"^cdf\(x\) must be in \[0, 1\], got others"):
        kolmogorov_smirnov(torch.zeros(2, 1), lambda x: levels)


def test_laws_that_are_being_trained_and_points_of_half_precision_are_read():
    shift = torch.zeros(1, requires_grad=True)
    x = normal(50, 1)
    law = UNIT.to(torch.zeros((), dtype=torch.float32))
    for points in (x.half(), x.clone().requires_grad_()):
        one = wasserstein(points, lambda u: law.quantile(u) + shift)
        assert abs(one.value - wasserstein(x, UNIT.quantile).value) < 1e-3
        two = kolmogorov_smirnov(points, lambda x: law.cdf(x + shift))
        assert abs(two.value - kolmogorov_smirnov(x, UNIT.cdf).value) < 1e-3


def test_integers_are_refused_by_name():
    for call in (wasserstein, energy_distance):
        with pytest.raises(TypeError, match=r"x must be a floating-point tensor, got torch.int64"):
            call(torch.ones(3, 1, dtype=torch.long), UNIT.quantile)


def normal(n, *event, seed=0, device="cpu", dtype=torch.float64):
    generator = torch.Generator(device).manual_seed(seed)
    return torch.randn(n, *event, generator=generator, dtype=dtype, device=device)


def pairs(n_pairs, n, m, d):
    """Fresh pairs of samples of one law."""
    return [(normal(n, d, seed=2 * i), normal(m, d, seed=2 * i + 1)) for i in range(n_pairs)]


def assert_mean_is(values, expected):
    values = np.asarray(values)
    assert abs(values.mean() - expected) < 6 * values.std() / math.sqrt(len(values))


def test_energy_distance_is_the_area_between_the_distribution_functions_squared():
    """In one dimension it is twice the integral of (F - G)^2; scipy returns the root."""
    x, y = normal(40, 1), normal(30, 1, seed=1) + 0.5
    assert math.isclose(
        energy_distance(x, y).value, stats.energy_distance(x[:, 0], y[:, 0]) ** 2, rel_tol=1e-9
    )
    two_points = energy_distance(
        torch.tensor([[0.0, 0.0]]), torch.tensor([[3.0, 4.0], [3.0, 4.0]])
    ).value
    assert math.isclose(two_points, 10.0)


def test_energy_distance_and_floor_of_one_point_and_two_by_hand():
    distance = energy_distance(torch.tensor([[0.0, 0.0]]), torch.tensor([[0.0, 0.0], [3.0, 4.0]]))
    assert distance == (2 * 5 / 2 - 2 * 5 / 4, (1 + 1 / 2) * 5)


def test_energy_distance_of_shifted_gaussians():
    """E|N(m, 2)| less E|N(0, 2)|, doubled, plus the bias from pairing points with themselves."""
    n, shift = 5000, 1.0
    levels = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    x = torch.special.ndtri(levels)[:, None]
    exact = 4 / math.sqrt(math.pi) * (math.exp(-(shift**2) / 4) - 1) + 2 * shift * math.erf(
        shift / 2
    )
    assert math.isclose(energy_distance(x, x + shift).value, exact, rel_tol=1e-3)


def test_energy_floor_is_the_mean_over_exact_samples():
    distances = [
        energy_distance(x, y) for x, y in pairs(1000, 6, 4, 2)
    ]  # few points, so that a bias shows
    assert_mean_is([d.value - d.floor for d in distances], 0)
    mean_distance = math.sqrt(math.pi)  # E|N(0, 2 I)| in the plane
    assert_mean_is([d.floor for d in distances], (1 / 6 + 1 / 4) * mean_distance)


def test_sliced_wasserstein_of_a_shift_is_its_length_over_the_root_of_the_dimension():
    x, shift = normal(50, 3), torch.tensor([1.0, -2.0, 2.0])
    value = sliced_wasserstein(x, x + shift, 20_000, torch.Generator().manual_seed(0))
    assert math.isclose(
        value, 3 / math.sqrt(3), rel_tol=0.02
    )  # 6 standard errors of the mean squared cosine
    line, moved = x[:, :1], normal(50, 1, seed=1) + 2
    paired = (line[:, 0].sort().values - moved[:, 0].sort().values).square().mean().sqrt()
    assert math.isclose(sliced_wasserstein(line, moved), paired, rel_tol=1e-12)


def test_sliced_wasserstein_takes_200_directions_from_its_generator():
    x, y, z = normal(5, 3), normal(5, 3, seed=1), normal(1, 3, seed=2)
    seeded = lambda: torch.Generator().manual_seed(2)
    assert sliced_wasserstein(x, y, generator=seeded()) == sliced_wasserstein(x, y, 200, seeded())
    u = z[0] / z.norm()
    one = ((x @ u).sort().values - (y @ u).sort().values).square().mean().sqrt()
    assert math.isclose(sliced_wasserstein(x, y, 1, seeded()), one, rel_tol=1e-12)


def with_moments(mean, cov, n=12, seed=0):
    """A sample of exactly that mean and covariance."""
    x = normal(n, len(mean), seed=seed)
    white = (x - x.mean(0)) @ torch.linalg.inv(torch.linalg.cholesky(torch.cov(x.T))).T
    return white @ torch.linalg.cholesky(cov).T + mean


def test_frechet_distance_of_commuting_covariances():
    u = torch.linalg.qr(normal(3, 3)).Q
    a, b = torch.tensor([0.5, 1.0, 4.0]), torch.tensor([2.0, 1.0, 9.0])
    x = with_moments(torch.zeros(3), u * a @ u.T)
    y = with_moments(torch.tensor([0.0, 3.0, 4.0]), u * b @ u.T, seed=1)
    exact = 25 + float((a.sqrt() - b.sqrt()).square().sum())
    assert math.isclose(frechet_distance(x, y), exact, rel_tol=1e-9)


def test_frechet_distance_in_the_plane():
    """For 2 x 2 matrices tr (A B)^(1/2) is (tr AB + 2 sqrt(det AB))^(1/2)."""
    a, b = (m @ m.T for m in (normal(2, 2), normal(2, 2, seed=1)))
    cross = torch.sqrt((a @ b).trace() + 2 * torch.sqrt(torch.det(a @ b)))
    exact = float(a.trace() + b.trace() - 2 * cross)
    x, y = with_moments(torch.zeros(2), a), with_moments(torch.zeros(2), b, n=15, seed=3)
    assert math.isclose(frechet_distance(x, y), exact, rel_tol=1e-9)
    assert math.isclose(frechet_distance(y, x), exact, rel_tol=1e-9)


def test_frechet_distance_on_the_line_and_of_flat_samples():
    x, y = normal(30, 4), 2 * normal(50, 4, seed=1) + 1
    line = frechet_distance(x[:, :1], y[:, :1])
    mean_gap, std_gap = x[:, 0].mean() - y[:, 0].mean(), x[:, 0].std() - y[:, 0].std()
    assert math.isclose(line, mean_gap**2 + std_gap**2, rel_tol=1e-9)
    flat = x * torch.tensor([1.0, 0.0, 0.0, 0.0])  # of a singular covariance
    assert math.isclose(
        frechet_distance(flat, 3 * flat), 4 * flat[:, 0].square().mean(), abs_tol=2 * 4 / 29
    )


def test_a_set_is_dense_in_itself_and_covers_itself():
    real = normal(50, 2)
    for k in (1, 5):
        assert density_coverage(real, real, k) == (1.0, 1.0)
    far = real + torch.tensor([100.0, 0.0])
    assert density_coverage(far, real) == (0.0, 0.0)
    assert density_coverage(torch.cat([real, far]), real) == (0.5, 1.0)
    assert density_coverage(real, torch.cat([real, far]))[1] == 0.5


def test_as_many_neighbours_as_other_real_points_and_by_default_five():
    real = torch.tensor([[0.0], [1.0], [3.0]])  # balls of radius 3, 2, 3
    assert density_coverage(torch.tensor([[2.5]]), real, k=2) == (1.5, 1.0)
    x, real = normal(30, 2), normal(40, 2, seed=1)
    assert density_coverage(x, real) == density_coverage(x, real, 5)
    assert density_coverage(x, real) != density_coverage(x, real, 6)


def test_frechet_distance_of_two_points_each():
    # on the line the variances are 2 and 8: (1 - 0)^2 + (sqrt(8) - sqrt(2))^2
    x, y = torch.tensor([[-1.0], [1.0]]), torch.tensor([[-1.0], [3.0]])
    assert math.isclose(frechet_distance(x, y), 1 + 2, rel_tol=1e-12)


def test_density_and_coverage_by_hand():
    """Balls of radius 1, 1, 2 around 0, 1, 3: the points .5 and .7 lie in the first two, 1.5 in the
    last two.
    """
    real, x = torch.tensor([[0.0], [1.0], [3.0]]), torch.tensor([[0.5], [0.7], [1.5], [9.0]])
    assert density_coverage(x, real, k=1) == (6 / 4, 1.0)
    assert density_coverage(x[:2], real, k=1) == (2.0, 2 / 3)


def test_density_and_coverage_of_exact_samples():
    n, m, k = 60, 40, 3
    values = np.array([density_coverage(x, real, k) for x, real in pairs(300, n, m, 2)])
    expected = 1 - math.prod((m - i) / (n + m - i) for i in range(1, k + 1))
    assert_mean_is(values[:, 0], 1)
    assert_mean_is(values[:, 1], expected)


def test_a_memory_lies_nearer_to_training():
    train, held_out = normal(40, 2), normal(40, 2, seed=1)
    assert nearer_training(train, train, held_out) == 1.0
    assert nearer_training(held_out, train, held_out) == 0.0
    assert nearer_training(train, train, train) == 0.5
    odd = held_out[:20]  # fewer points to judge than to be near to
    assert nearer_training(torch.cat([train[:5], odd]), train, held_out) == 0.2
    fresh = [
        nearer_training(normal(20, 2, seed=1000 + i), *pair)
        for i, pair in enumerate(pairs(200, 40, 40, 2))
    ]
    assert_mean_is(fresh, 0.5)


TWO_SAMPLES = {
    "energy": lambda x, y: energy_distance(x, y).value,
    "sliced": lambda x, y: sliced_wasserstein(x, y, 500, torch.Generator(x.device).manual_seed(0)),
    "frechet": lambda x, y: frechet_distance(x.flatten(1), y.flatten(1)),
    "density": lambda x, y: density_coverage(x, y)[0],
    "coverage": lambda x, y: density_coverage(x, y)[1],
    "nearer": lambda x, y: nearer_training(x, y, 1.1 * y - 0.1 * y.mean(0)),
}


@pytest.mark.parametrize("metric", TWO_SAMPLES.values(), ids=TWO_SAMPLES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_two_samples_of_images_as_of_points(metric, dtype, device):
    """The order of the points, a common shift and the layout of an event change nothing."""
    x, y = (normal(30, 1, 8, 8, seed=i, dtype=dtype, device=device) + i / 4 for i in (0, 1))
    value = metric(x, y)
    assert isinstance(value, float)
    # 35 of 64 directions have no variance: Frechet takes roots of what rounding leaves there, 1e-16
    rounding = 1e-7 if metric is TWO_SAMPLES["frechet"] else 1e-9
    assert math.isclose(metric(x.flatten(1), y.flatten(1)), value, rel_tol=rounding)
    assert math.isclose(metric(x.flip(0), y.flip(0)), value, rel_tol=rounding)
    assert math.isclose(metric(x + 1, y + 1), value, rel_tol=1e-4)


@pytest.mark.parametrize(
    "name, degree", [("energy", 1), ("sliced", 1), ("frechet", 2), ("density", 0), ("coverage", 0)]
)
def test_units(name, degree):
    x, y = normal(30, 2), normal(30, 2, seed=1) + 0.5
    assert math.isclose(
        TWO_SAMPLES[name](3 * x, 3 * y), 3**degree * TWO_SAMPLES[name](x, y), rel_tol=1e-9
    )


@pytest.mark.parametrize("name", ["energy", "sliced", "frechet"])
def test_equal_samples_are_at_distance_zero(name):
    x = normal(30, 2)
    assert abs(TWO_SAMPLES[name](x, x.flip(0))) < 1e-9 < TWO_SAMPLES[name](x, 1.1 * x)


def test_distances_in_blocks_are_the_distances():
    x, y = normal(7, 2), normal(5, 2, seed=1)
    exact = torch.linalg.vector_norm(x[:, None] - y, dim=2)
    for n_pairs in (1, 10, 1000):
        blocks = list(_distances(x, y, n_pairs))
        assert max(block.numel() for _, block in blocks) <= max(n_pairs, 5)
        torch.testing.assert_close(torch.cat([block for _, block in blocks]), exact)
        assert torch.equal(
            torch.cat([torch.arange(7)[rows] for rows, _ in blocks]), torch.arange(7)
        )


def test_distances_do_not_lose_digits_far_from_the_origin():
    # through scalar products of coordinates of 1e6 a distance would be known to 1e-2
    x, y = torch.randn(2, 40, 3, dtype=torch.float64).round(decimals=6)
    near, away = (energy_distance(x + shift, y + shift).value for shift in (0.0, 1e6))
    assert math.isclose(near, away, rel_tol=1e-6)


def test_the_kolmogorov_smirnov_distance_of_one_point_is_its_larger_side():
    x = torch.tensor([[0.7]])
    found = kolmogorov_smirnov(x, lambda x: UNIT.cdf(x))
    assert math.isclose(found.value, stats.norm.cdf(0.7), rel_tol=1e-6)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_a_quantile_function_may_fall_by_rounding_in_its_own_units(scale):
    def quantile(fall, levels):
        return scale * (levels - fall * (levels == levels[5]))[:, None]

    # of 20 000 levels: the fall is what exceeds their spacing
    x = scale * torch.rand(100, 1, dtype=torch.float64)
    assert wasserstein(x, lambda u: quantile(5e-5 + 5e-7, u)).value < scale
    with pytest.raises(ValueError, match="a fall by"):
        wasserstein(x, lambda u: quantile(5e-5 + 5e-6, u))


def test_a_few_million_distances_are_held_at_a_time():
    """Whole, the 8000 x 8000 distances are 512 MB; measured is the peak of a fresh process."""
    if not Path("/proc/self/status").exists():
        pytest.skip("the peak is read from Linux's /proc")
    code = """
import pathlib, re, torch
from sdelib.metrics import density_coverage
def peak():
    status = pathlib.Path("/proc/self/status").read_text(encoding="utf-8")
    return int(re.search(r"VmHWM:\\s+(\\d+)", status)[1]) / 1024
x = torch.randn(8000, 2)
density_coverage(x[:100], x[:100])
before = peak()
density_coverage(x, x)
print(peak() - before)
"""
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True
    )
    assert 20 < float(out.stdout) < 300  # a block is 40 MB; selecting the k-th needs a few of them


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda x: energy_distance(x[:0], x), "x must be at least one point, got no point"),
        (lambda x: energy_distance(x[:, :0], x), "x must be at least one point, got no point"),
        (lambda x: energy_distance(x, x[:, :1]), r"y must be of the event shape of x, \(2,\)"),
        (lambda x: nearer_training(x[:, 0], x, x), r"x must be of shape \(n, \*event\)"),
        (lambda x: nearer_training(x, x, x[:, :1]), "held_out must be of the event shape of x"),
        (lambda x: energy_distance(x, x[:1]), "y must be at least 2 points, got 1 point"),
        (lambda x: energy_distance(x, x / 0), "y must be finite everywhere"),
        (lambda x: energy_distance(x, x[:, 0]), r"y must be of shape \(n, \*event\)"),
        (lambda x: sliced_wasserstein(x, x[:4]), "y must be as many points as x, 5, got 4 points"),
        (lambda x: sliced_wasserstein(x, x, 0), "n_directions must be at least 1, got 0"),
        (lambda x: frechet_distance(x, x[:, :1]), r"y must be of the event shape of x, \(2,\)"),
        (lambda x: frechet_distance(x[:1], x), "x must be at least 2 points, got 1 point"),
        (lambda x: frechet_distance(x, x[:1]), "y must be at least 2 points, got 1 point"),
        (lambda x: density_coverage(x, x, k=0), "k must be from 1 to 4, for as many real, got 0"),
        (lambda x: density_coverage(x, x, k=5), "k must be from 1 to 4, for as many real, got 5"),
        (
            lambda x: nearer_training(x, x, x[:3]),
            "held_out must be as many points as train, 5, got 3 points",
        ),
    ],
)
def test_bad_samples_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(normal(5, 2))


def test_counts_are_integers():
    x = normal(5, 1)
    for name, call in (
        ("n_levels", lambda: wasserstein(x, UNIT.quantile, 2.5)),
        ("n_directions", lambda: sliced_wasserstein(x, x, 2.5)),
        ("k", lambda: density_coverage(x, x, 2.5)),
    ):
        with pytest.raises(TypeError, match=f"^{name} must be an integer, got float"):
            call()
