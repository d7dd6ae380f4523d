"""What the tests share: every SDE, a correlated target in the plane, double precision and a fixed
seed.
"""

import pytest
import torch

from sdelib.mixtures import GaussianMixture
from sdelib.sde import VESDE, VPSDE, CosineSDE, FlowSDE, SubVPSDE

SDES = [
    VESDE(),
    VESDE(0.1, 10.0),
    VPSDE(),
    VPSDE(1.0, 1.0),
    SubVPSDE(),
    CosineSDE(0.01),
    FlowSDE(0.01),
]


@pytest.fixture(params=SDES, ids=str)
def sde(request):
    return request.param


@pytest.fixture(params=["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"])
def device(request):
    return request.param


@pytest.fixture
def target():
    return GaussianMixture.from_covs(
        torch.tensor([0.3, 0.7]),
        torch.tensor([[-1.0, 0.5], [1.0, -0.3]]),
        torch.tensor([[[0.2, 0.05], [0.05, 0.1]], [[0.1, -0.06], [-0.06, 0.15]]]),
    )


@pytest.fixture(autouse=True)
def double_precision():
    torch.set_default_dtype(torch.float64)
    torch.manual_seed(0)
    yield
    torch.set_default_dtype(torch.float32)
