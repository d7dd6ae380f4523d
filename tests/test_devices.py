"""All of the library on another device than the CPU, which here need not be there.

A pretended one stands in. Its tensors compute on the CPU, but say that they lie elsewhere, and
refuse what a GPU refuses: to meet tensors of the CPU, but for single numbers, to draw from a
generator of the CPU, and to become numpy's. So whatever the library makes on the wrong device
fails, and what it returns is there and has the CPU's values, up to rounding.
"""

from functools import partial

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.quasirandom import SobolEngine
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

from sdelib import guidance, metrics
from sdelib.data import deck_mixture, digits, smile, smile_distance
from sdelib.laws import sampler_law
from sdelib.learned import ResidualScore, digits_score, learn
from sdelib.likelihood import (
    decode,
    encode,
    exact_divergence,
    hutchinson,
    log_likelihood,
    rademacher,
)
from sdelib.mixtures import GaussianMixture
from sdelib.networks import MLP
from sdelib.samplers import adams, dpm_solver_2m, pilot, reverse, sample, uniform, walk
from sdelib.score import exact_score, translate
from sdelib.sde import VPSDE, SubVPSDE
from sdelib.steps import ancestral, ancestral_2s, annealed_langevin, euler_maruyama, heun, rk4
from sdelib.training import (
    Checkpoint,
    dsm_error,
    edm_weight,
    expected,
    fit,
    ism_error,
    log_normal_times,
    low_discrepancy,
    quasi_random,
    ssm_error,
)

THERE = "lazy"  # a device that torch names and has not built


class There(torch.Tensor):
    """A tensor that says it lies there; its numbers are `here`."""

    @staticmethod
    def __new__(cls, here):
        layout = {"strides": here.stride(), "storage_offset": here.storage_offset()}
        kind = {"dtype": here.dtype, "device": f"{THERE}:0"}
        return torch.Tensor._make_wrapper_subclass(cls, here.shape, **layout, **kind)

    def __init__(self, here):
        self.here = here

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return compute(func, args, kwargs or {})

    # what torch does without asking the dispatcher
    def __format__(self, spec):
        return self.here.__format__(spec)

    def tolist(self):
        return self.here.tolist()

    def new_tensor(self, *args, **kwargs):
        return There(self.here.new_tensor(*args, **kwargs))

    def numpy(self, force=False):
        if not force:
            raise TypeError("a tensor there cannot become numpy's")
        return self.here.numpy(force=True)

    __array__ = numpy


MOVES = (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)


def compute(func, args, kwargs):
    """One operation of torch, its result where the arguments are, or where it is asked for."""
    tensors = [a for a in tree_flatten((args, kwargs))[0] if isinstance(a, torch.Tensor)]
    there = {id(t.here): t for t in tensors if isinstance(t, There)}
    here = {id(t): t for t in tensors if not isinstance(t, There)}
    if there and func not in MOVES and any(t.ndim for t in here.values()):
        raise RuntimeError(f"{func} of tensors on two devices")
    goes_there = bool(there)
    if kwargs.get("device") is not None:
        goes_there = torch.device(kwargs["device"]).type == THERE
        kwargs = {**kwargs, "device": torch.device("cpu")}
    args, kwargs = tree_map(lambda a: a.here if isinstance(a, There) else a, (args, kwargs))

    def place(out):
        if not isinstance(out, torch.Tensor) or id(out) in here:
            return out
        if id(out) in there:
            return there[id(out)]
        return There(out) if goes_there else out

    return tree_map(place, func(*args, **kwargs))


class Pretend(TorchDispatchMode):
    """Operations without a tensor there, such as those that make one."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return compute(func, args, kwargs or {})


class Generator(torch.Generator):
    """A generator that remembers where it was wanted."""

    def __new__(cls, device="cpu"):
        made = super().__new__(cls)
        made.where = torch.device(device).type
        return made


class OwnGenerators(TorchFunctionMode):
    """Random numbers come from a generator of their own device."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        out, source = func(*args, **(kwargs or {})), (kwargs or {}).get("generator")
        if source is not None and out.device.type != getattr(source, "where", "cpu"):
            raise RuntimeError(f"{func} on {out.device} by a generator of another device")
        return out


@pytest.fixture
def agrees(monkeypatch):
    """Holds what `work(device)` returns there to what it returns here."""
    torch.set_default_dtype(torch.float32)
    monkeypatch.setattr(torch, "Generator", Generator)

    def check(work, **tolerance):
        results = []
        for device in "cpu", THERE:
            torch.manual_seed(0)
            with Pretend(), OwnGenerators():
                found = work(device)
                assert {value.device.type for value in found} == {device}
                results.append([value.cpu() for value in found])
        assert_close(*results, **tolerance)

    return check


SDE = VPSDE()
X = torch.linspace(-2, 2, 20).reshape(10, 2).sin()
TARGET = GaussianMixture.from_covs(
    torch.tensor([0.3, 0.7]),
    torch.tensor([[-1.0, 0.5], [1.0, -0.3]]),
    torch.tensor([[[0.2, 0.05], [0.05, 0.1]], [[0.1, -0.06], [-0.06, 0.15]]]),
)
SCORE = exact_score(SDE, TARGET)


def own(device):
    return torch.Generator(device).manual_seed(0)


def test_the_stand_in_refuses_what_a_gpu_refuses(agrees):
    with Pretend(), OwnGenerators():
        x = torch.ones(3, device=THERE)
        assert x.device.type == (2 * x).device.type == THERE and x.cpu().device.type == "cpu"
        assert (x * torch.tensor(2.0)).sum().item() == 6
        for work in (
            lambda: x + torch.ones(3),
            lambda: torch.cat([x, torch.ones(3)]),
            lambda: torch.randn(3, device=THERE, generator=own("cpu")),
            lambda: x.normal_(generator=own("cpu")),
            lambda: torch.randn(3, generator=own(THERE)),
        ):
            with pytest.raises(RuntimeError, match="two devices|another device"):
                work()
        with pytest.raises(TypeError, match="numpy"):
            x.numpy()
    with pytest.raises(AssertionError):
        agrees(lambda device: [torch.ones(3)])
    with pytest.raises(AssertionError):
        agrees(lambda device: [torch.full((3,), len(device), device=device)])


@pytest.mark.parametrize(
    "solver",
    [
        walk(euler_maruyama),
        walk(ancestral, annealed_langevin),
        walk(ancestral_2s),
        walk(heun),
        walk(rk4),
        dpm_solver_2m,
        adams(),
    ],
)
def test_sampling(agrees, solver):
    draw = partial(sample, SCORE, SDE, (8, 2), solver, n_steps=3)
    agrees(lambda device: [draw(device=device)])
    agrees(lambda device: [draw(device=device, generator=own(device), batch_size=5)])
    ts = uniform(SDE, 2)
    agrees(lambda device: list(reverse(SCORE, SDE, X.to(device), ts, solver)))


def test_a_pilot(agrees):
    def work(device):
        solver = pilot(SCORE, SDE, (16, 2), generator=own(device), device=device)
        return [sample(SCORE, SDE, (8, 2), solver, n_steps=6, device=device)]

    agrees(work)


def test_the_flow(agrees):
    rough = {"t_min": 1e-2, "rtol": 1e-2, "atol": 1e-2}
    agrees(lambda d: [way(SCORE, SDE, X.to(d), **rough) for way in (encode, decode)])
    for trace in (lambda d: exact_divergence, lambda d: hutchinson(rademacher(X.to(d), own(d)))):
        nats = partial(log_likelihood, SCORE, SDE, **rough)
        agrees(lambda d, trace=trace, nats=nats: [nats(X.to(d), divergence=trace(d))])


def test_guidance(agrees):
    A, y = torch.ones(1, 2), torch.ones(1)
    weights, known = torch.arange(4.0), torch.tensor([True, False])
    for guided in (
        guidance.add(SCORE, guidance.tweedie_likelihood(SCORE, SDE, A, y, 0.3, torch.eye(2))),
        guidance.classifier_free(SCORE, SCORE, weights),
        guidance.inpaint(SCORE, SDE, X[0], known),
    ):
        agrees(lambda device, s=guided: [sample(s, SDE, (4, 2), n_steps=4, device=device)])
    other = SubVPSDE()
    translated = translate(SCORE, SDE, other)
    agrees(lambda device: [sample(translated, other, (4, 2), n_steps=4, device=device)])


def test_mixtures_and_laws(agrees):
    line = deck_mixture()
    levels, labels = torch.tensor([0.1, 0.6]), torch.arange(10) // 5

    def mixtures(device):
        x = X.to(device)
        target, deck = TARGET.to(x), line.to(x)
        given = target.condition(torch.ones(1, 2).to(x), torch.ones(1).to(x), 0.1)
        fitted = GaussianMixture.from_classes(x, labels.to(device))
        drawn = [target.sample(7), target.sample(7, own(device))]
        on_the_line = [deck.cdf(x[:, :1]), deck.quantile(levels.to(device))]
        return [*drawn, target.log_prob(x), given.mean, fitted.covs, *on_the_line]

    agrees(mixtures)
    for solver in (walk(euler_maruyama), dpm_solver_2m):
        law = partial(sampler_law, exact_score(SDE, line), SDE, solver, n_steps=8, t_min=0.05)
        agrees(lambda device, law=law: law(device=device))


def test_metrics(agrees):
    def work(device):
        x, law = X.to(device), deck_mixture()
        values = (
            *metrics.energy_distance(x, -x),
            metrics.sliced_wasserstein(x, -x, 5, own(device)),
            metrics.frechet_distance(x, -x),
            *metrics.density_coverage(x, -x),
            metrics.nearer_training(x, -x, 2 * x),
            *metrics.wasserstein(x[:, :1], law.to(x).quantile),
            *metrics.kolmogorov_smirnov(x[:, :1], law.to(x).cdf),
        )
        return [torch.tensor(values).to(device), smile_distance(x)]

    agrees(work)


@pytest.mark.parametrize("error", [dsm_error, ism_error, ssm_error])
def test_errors(agrees, error):
    loss = partial(expected, error, SCORE, SDE, weight=lambda t: SDE.g(t) ** 2)
    agrees(lambda device: [loss(X.to(device))])
    agrees(lambda device: [loss(X.to(device), times=low_discrepancy, generator=own(device))])


@pytest.mark.parametrize("ema_decay", [0.0, 0.9])
def test_training_goes_on(agrees, ema_decay, tmp_path):
    def work(device):
        cube, x = SobolEngine(4, scramble=True, seed=0), X.to(device)
        net = ResidualScore(MLP(2, width=16, n_waves=4), SDE, X).to(device)

        def loss(net):
            i, u, z = (value.to(device) for value in quasi_random(cube, len(x), 16))
            t = log_normal_times(SDE, u)
            return (edm_weight(SDE, t) * dsm_error(net, SDE, x[i], t, z)).mean()

        file = tmp_path / f"{device}.safetensors"
        for n_steps in 3, 5:  # the second run goes on with the first
            checkpoint = Checkpoint(file, sources=[cube])
            done = fit(net, loss, n_steps, None, None, ema_decay, False, checkpoint)
        return [done, *net.state_dict().values()]

    agrees(work, rtol=1e-3, atol=1e-5)


def test_learning_points(agrees):
    x = smile(64, generator=torch.Generator().manual_seed(0))
    labels = (x[:, 0] > 0).long()

    def work(device):
        model = learn(x, labels, n_steps=2, batch=16, device=device, progress=False)
        drawn = [model.sample(5, n_steps=3)]
        drawn += [model.sample(4, [0, 1, 1, 0], 2.0, n_steps=3, generator=own(device))]
        given = model.log_prob(x[:3], torch.tensor([0, 1, 1]), rtol=0.01, atol=0.01)
        return [model.history, *drawn, given]

    agrees(work, rtol=1e-3, atol=1e-4)


def test_learning_images(agrees):
    x, labels = digits(30)[0]

    def work(device):
        how = {"n_steps": 2, "batch": 8, "device": device, "progress": False}
        model = learn(x, labels, level_width=2 / 17, **how)
        return [
            model.history,
            model.sample(2, label=7, n_steps=4),
            model.log_prob(x[:2], None, 0.1, 0.1),
        ]

    agrees(work, rtol=1e-3, atol=1e-3)


def test_what_ships(agrees):
    states, labels = torch.ones(3, 1, 8, 8), torch.tensor([1, 2, 10])

    def work(device):
        score = digits_score().to(device)
        return [score(states.to(device), torch.full((3,), 0.5).to(device), labels)]

    agrees(work, rtol=1e-3, atol=1e-4)
