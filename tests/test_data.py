"""The data of the experiments: what is promised of each, against the source or a closed form."""

import math

import pytest
import torch
from sklearn.datasets import load_digits
from torch.testing import assert_close

from sdelib.data import (
    DIGIT_LEVELS,
    _smile_arcs,
    deck_mixture,
    digits,
    smile,
    smile_curve,
    smile_distance,
)


def test_the_deck_mixture_has_the_moments_written_on_the_slide():
    # mean (-3 + 3) / 2 = 0; variance (1/4 + 1) / 2 + 9, with 1/4 and 1 read as variances
    mixture = deck_mixture()
    assert_close(mixture.mean, torch.zeros(1))
    assert_close(mixture.cov, torch.full((1, 1), 9.625))


def test_the_parts_of_the_digits_are_disjoint_and_together_the_whole_set():
    levels, labels = load_digits(return_X_y=True)
    parts = digits(1197, 300, 300)
    assert [len(images) for images, _ in parts] == [1197, 300, 300]
    back = torch.cat([((images + 1) * DIGIT_LEVELS - 1) / 2 for images, _ in parts])
    rows = torch.cat([back.flatten(1), torch.cat([k for _, k in parts])[:, None]], 1).round().long()
    truth = torch.cat([torch.as_tensor(levels), torch.as_tensor(labels)[:, None]], 1).long()
    assert torch.equal(rows.unique(dim=0), truth.unique(dim=0)) and len(truth.unique(dim=0)) == 1797


def test_every_part_holds_the_digits_in_the_same_proportions():
    shares = torch.bincount(torch.as_tensor(load_digits().target)) / 1797
    for _, labels in digits(900, 400, 100, seed=3):
        assert ((torch.bincount(labels) - len(labels) * shares).abs() <= 1).all()


def test_images_are_upright_and_levels_are_the_middles_of_17_cells():
    (images, labels), source = digits(1797)[0], load_digits()
    for k in range(10):  # the mean image of a digit, row by row as the source draws it
        mean = torch.as_tensor(source.images[source.target == k].mean(0))
        assert_close(images[labels == k].mean(0)[0], (2 * mean + 1) / 17 - 1)
    edges = (torch.arange(18) * 2 / DIGIT_LEVELS) - 1
    assert_close(images.unique(), (edges[:-1] + edges[1:]) / 2)
    assert edges[0] == -1 and edges[-1] == 1


def test_the_seed_alone_decides_who_goes_where():
    a, b, c = (digits(100, 50, seed=seed) for seed in (0, 0, 1))
    assert all(torch.equal(x, y) for x, y in zip(a[0] + a[1], b[0] + b[1]))
    assert not torch.equal(a[1][0], c[1][0])


def test_shapes_and_types():
    images, labels = digits(10)[0]
    assert images.shape == (10, 1, 8, 8) and images.dtype == torch.get_default_dtype()
    assert (
        labels.shape == (10,)
        and labels.dtype == torch.int64
        and torch.equal(labels.sort().values, torch.arange(10))
    )


def test_the_seed_is_0_unless_given_and_may_be_the_largest_of_numpy():
    assert torch.equal(digits(20)[0][0], digits(20, seed=0)[0][0])
    assert not torch.equal(digits(20)[0][0], digits(20, seed=2**32 - 1)[0][0])


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_seeds_out_of_range_are_refused(seed):
    with pytest.raises(ValueError, match=r"^seed must be from 0 to 2\^32 - 1, got"):
        digits(10, seed=seed)


def test_as_few_as_ten_may_be_left_over():
    assert [len(labels) for _, labels in digits(1000, 787)] == [1000, 787]


@pytest.mark.parametrize("sizes", [(), (1798,), (1000, 9), (1000, 788), (10.5,), ("10",)])
def test_sizes_that_cannot_be_had_are_refused(sizes):
    with pytest.raises(ValueError, match="sizes must be integers, each at least 10"):
        digits(*sizes)


def test_the_smile_is_drawn_at_constant_speed():
    """Chords of small equal pieces are equal, but for the five jumps from arc to arc."""
    points = smile_curve(torch.arange(20_000) / 20_000)
    steps = (points[1:] - points[:-1]).norm(dim=1)
    jumps = steps > 2 * steps.median()
    assert jumps.sum() == 5
    assert abs(steps[~jumps] / steps.median() - 1).quantile(0.999) < 1e-6
    degrees = torch.tensor([360 * 1.0, 360 * 0.13, 130 * 0.2, 130 * 0.62, 2 * 100 * 0.14])
    assert_close(steps.median() * 20_000, degrees.sum() * torch.pi / 180, rtol=1e-6, atol=0)


def test_the_smile_smiles():
    """It is one circle around features inside it, a mouth lower in the middle than at its ends, and
    one open eye.
    """
    points = smile_curve(torch.arange(20_000) / 20_000)
    inside = points[points.norm(dim=1) < 0.999]
    assert points.norm(dim=1).max() < 1 + 1e-9 and inside.norm(dim=1).max() < 0.8
    mouth = inside[inside[:, 1] < 0]
    assert mouth[mouth[:, 0].abs() < 0.05][:, 1].max() < mouth[mouth[:, 0].abs() > 0.5][:, 1].min()
    left, right = (inside[(inside[:, 1] > 0) & (side * inside[:, 0] > 0)] for side in (-1, 1))
    assert (left[:, 1].max() - left[:, 1].min()) > 2 * (right[:, 1].max() - right[:, 1].min())


def test_every_feature_of_the_smile_is_where_it_is_drawn():
    tops = [(0, 1), (-0.36, 0.3 + 0.13), (0.36, 0.22 + 0.2)]  # outline, open and closed eye
    tops += [(side * 0.503, -0.309 + 0.14) for side in (-1, 1)]  # the corners of the mouth
    points = torch.tensor([*tops, (0, 0.08 - 0.62)])  # and its bottom
    assert smile_distance(points).max() < 1e-12


def test_the_curve_runs_from_the_right_of_the_outline_to_the_end_of_the_last_corner():
    first_and_last = smile_curve(torch.tensor([0.0, math.nextafter(1, 0)]))
    end = math.radians(115)
    corner = [0.503 + 0.14 * math.cos(end), -0.309 + 0.14 * math.sin(end)]
    assert_close(first_and_last, torch.tensor([[1.0, 0.0], corner]))


def test_where_an_arc_ends_the_next_begins():
    x, y, radius, start, end = _smile_arcs(torch.zeros(1))
    stops = (radius * (end - start)).cumsum(0)
    begins = torch.stack([x + radius * start.cos(), y + radius * start.sin()], 1)
    assert_close(smile_curve(stops[:-1] / stops[-1]), begins[1:])


def test_distance_to_the_smile_is_that_to_its_nearest_point():
    x = 2.4 * torch.rand(500, 2) - 1.2
    nodes = smile_curve(torch.arange(100_000) / 100_000)
    nearest = torch.cdist(x, nodes, compute_mode="donot_use_mm_for_euclid_dist").amin(1)
    assert (smile_distance(x) - nearest).abs().max() < 1e-4  # half the spacing of the nodes
    assert smile_distance(nodes).max() < 1e-12
    # from above, from the eye's centre, and from the face's, where the same eye is nearest
    x = torch.tensor([[0.0, 2.0], [-0.36, 0.3], [0.0, 0.0]])
    assert_close(smile_distance(x), torch.tensor([1.0, 0.13, math.hypot(0.36, 0.3) - 0.13]))


def test_the_smile_is_uniform_on_its_curve():
    n, noise = 20_000, 0.01
    points = smile(n, noise, torch.Generator().manual_seed(0))
    nodes = smile_curve((torch.arange(n) + 0.5) / n)
    assert ((points.mean(0) - nodes.mean(0)).abs() < 6 * nodes.std(0) / math.sqrt(n)).all()
    bound = 6 * nodes.square().std(0) / math.sqrt(n)
    assert ((points.square().mean(0) - nodes.square().mean(0) - noise**2).abs() < bound).all()
    # across a line of small curvature the distance is that of one normal number
    rim = smile_distance(points[points.norm(dim=1) > 0.9])
    assert abs(rim.square().mean() / noise**2 - 1) < 6 * math.sqrt(2 / len(rim))
    assert smile_distance(smile(100, noise=0)).max() < 1e-12


def test_a_smile_is_its_curve_at_random_places_plus_a_hundredth_of_noise():
    generator = torch.Generator().manual_seed(0)
    points = smile_curve(torch.rand(5, generator=generator))
    points = points + 0.01 * torch.randn(5, 2, generator=generator)
    assert torch.equal(smile(5, generator=torch.Generator().manual_seed(0)), points)


def test_the_noise_of_the_smile_is_white_and_its_draws_repeat():
    rough, thin = (smile(20_000, noise, torch.Generator().manual_seed(0)) for noise in (0.5, 0.0))
    z = (rough - thin) / 0.5
    assert (torch.cov(z.T) - torch.eye(2)).abs().max() < 6 * math.sqrt(2 / 20_000)
    assert torch.equal(rough, smile(20_000, 0.5, torch.Generator().manual_seed(0)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n", [0, 1, 3])
def test_the_curve_keeps_dtype_and_device(n, dtype, device):
    points = smile_curve(torch.rand(n, dtype=dtype, device=device))
    distance = smile_distance(points)
    assert points.shape == smile(n).shape == (n, 2) and distance.shape == (n,)
    assert points.dtype == distance.dtype == dtype and points.device == distance.device
    assert distance.device.type == torch.device(device).type


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: smile(-1), "n must be at least 0, got -1"),
        (lambda: smile(5, noise=-0.1), "noise must be at least 0 and finite, got -0.1"),
        (
            lambda: smile_curve(torch.tensor([0.5, 1.0])),
            r"u must be in \[0, 1\), got values from 0.5 to 1",
        ),
        (lambda: smile_curve(torch.tensor([0.5, math.nan])), "u must be finite everywhere"),
        (lambda: smile_curve(torch.zeros(2, 1)), r"u must be of shape \(n,\)"),
        (lambda: smile_distance(torch.zeros(3, 3)), r"points must be of shape \(n, 2\)"),
        (lambda: smile_distance(torch.full((3, 2), math.nan)), "points must be finite everywhere"),
    ],
)
def test_bad_values_of_the_smile_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_noise_without_bounds_is_refused():
    with pytest.raises(ValueError, match="noise must be at least 0 and finite, got inf"):
        smile(3, math.inf)


def test_the_curve_can_be_differentiated_forwards():
    # Its speed is its length: the arcs are drawn one after the other, at constant speed
    u = torch.rand(50)
    _, velocity = torch.func.jvp(smile_curve, (u,), (torch.ones(50),))
    high, low = smile_curve(u + 1e-7), smile_curve(u - 1e-7)
    assert_close(velocity, (high - low) / 2e-7, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_curve_in_half_precision_is_rounded_only_at_its_ends(dtype):
    u = (torch.arange(64) / 64).to(dtype)
    points = smile_curve(u)
    assert points.dtype == dtype
    assert_close(points.double(), smile_curve(u.double()), rtol=0, atol=4e-3)


def test_a_number_of_points_is_an_integer():
    with pytest.raises(TypeError, match="^n must be an integer, got float"):
        smile(2.5)
