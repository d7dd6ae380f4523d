"""Time grids: their ends, their definitions, and an optimum that is known."""

from functools import partial

import pytest
import torch
from torch.testing import assert_close

from sdelib.grids import edm, log_snr, optimised, uniform, warped
from sdelib.sde import VPSDE

GRIDS = {
    "uniform": uniform,
    "log_snr": log_snr,
    "edm": edm,
    "warped": partial(warped, bends=(-0.5, 1.0, 0.3)),
}


def ratio(sde, ts):
    """The noise-to-signal ratio."""
    return sde.sigma(ts) / sde.alpha(ts)


@pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)
@pytest.mark.parametrize("n", [1, 2, 30])
def test_a_grid_falls_from_one_to_t_min(sde, grid, n):
    ts = grid(sde, n, 1e-3)
    assert ts.shape == (n + 1,) and ts.dtype == torch.float64
    assert ts[0] == 1 and ts[-1] == 1e-3 and (ts.diff() < 0).all()


def test_equal_steps_are_equal_in_what_each_grid_names(sde):
    ends = torch.tensor([1.0, 0.01])
    for grid, measure in (
        (uniform, lambda t: t),
        (log_snr, lambda t: ratio(sde, t).log()),
        (edm, lambda t: ratio(sde, t) ** (1 / 7)),
        (partial(edm, rho=2.0), lambda t: ratio(sde, t) ** (1 / 2)),
    ):
        high, low = measure(ends)
        steps = measure(grid(sde, 12, 0.01)).diff()
        # a ratio of 1e-3 is known to the rounding of the times over it, which bisection cannot beat
        assert_close(steps, (low - high).expand(12) / 12, rtol=1e-6, atol=1e-9)


def test_edm_lies_between_equal_noise_and_log_snr():
    # EDM, Eq. 5, where alpha = 1 makes the ratio its sigma; for large rho the steps become those of
    # log_snr
    sde = VPSDE()
    assert_close(edm(sde, 10, rho=1e6), log_snr(sde, 10), rtol=1e-4, atol=1e-6)
    steps = ratio(sde, edm(sde, 10, rho=1.0)).diff()
    assert_close(steps, steps[:1].expand(10), rtol=1e-6, atol=0)


def test_bends_shape_the_steps():
    sde, v = VPSDE(), torch.linspace(-1, 1, 100)[1:] - 1 / 99
    assert_close(warped(sde, 30, 0.01), uniform(sde, 30, 0.01))
    log_steps = (-warped(sde, 99, 0.01, (-0.7, 0.4)).diff()).log()
    assert_close((log_steps + 0.7 * v - 0.4 * v**2).std(), torch.zeros(()), atol=1e-9, rtol=0)
    ts = warped(sde, 20, 0.01, (-1.0,))
    assert ts[-2] - ts[-1] < ts[0] - ts[1]  # as documented: short steps near the data


def test_the_optimum_is_found_where_it_is_known():
    # The sum of squared steps, weighted: the best grid under "be like warped(1, -0.5)" is that one
    sde = VPSDE()
    wanted = warped(sde, 15, 0.01, (1.0, -0.5))
    tried = []

    def error(grid):
        tried.append((grid(sde, 15, 0.01) - wanted).square().sum().item())
        return tried[-1]

    best = optimised(error, n_bends=2, n_trials=150)
    assert_close(torch.tensor(best.keywords["bends"]), torch.tensor([1.0, -0.5]), atol=1e-3, rtol=0)
    assert len(tried) <= 160 and error(best) == min(tried)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: uniform(VPSDE(), 0), "n_steps must be at least 1, got 0"),
        (lambda: log_snr(VPSDE(), 3, 0.0), r"t_min must be inside \(0, 1\), got 0.0"),
        (lambda: edm(VPSDE(), 3, rho=0.0), "rho must be positive, got 0.0"),
        (lambda: optimised(lambda grid: 0.0, n_bends=0), "n_bends must be at least 1, got 0"),
    ],
)
def test_bad_values_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
