"""Networks as scores: what a score is without a network, what a network is asked for, and learn."""

import copy
import math
import pickle
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.testing import assert_close

from sdelib.data import deck_mixture
from sdelib.guidance import classifier_free
from sdelib.learned import (
    MixtureResidualScore,
    Model,
    ResidualScore,
    StandardScore,
    digits_score,
    learn,
    mixture_score,
    runs,
    smile_score,
)
from sdelib.likelihood import exact_divergence
from sdelib.metrics import energy_distance
from sdelib.mixtures import GaussianMixture
from sdelib.networks import MLP, UNet
from sdelib.samplers import adams, dpm_solver_2m, walk
from sdelib.score import denoise, exact_score
from sdelib.sde import VESDE, VPSDE, FlowSDE, SubVPSDE
from sdelib.steps import ddim, euler_maruyama
from sdelib.training import dsm_error, expected, fit


class Zero(nn.Module):
    def forward(self, x, t):
        return torch.zeros_like(x)


class One(nn.Module):
    def forward(self, x, t):
        return torch.ones_like(x)


def alive(net):
    """The network with random numbers where it starts at zero, which hides what comes before."""
    for p in net.parameters():
        if not p.any():
            nn.init.normal_(p, std=0.2)
    return net


def test_the_gain_multiplies_the_network_only(sde):
    data, x, t = torch.randn(50, 2), torch.randn(7, 2), torch.linspace(0.1, 1, 7)
    scores = [
        ResidualScore(One(), sde, data, gain)(x, t)
        for gain in (None, torch.ones_like, lambda t: 3 * t, "alpha/sigma")
    ]
    nothing = ResidualScore(Zero(), sde, data)(x, t)
    assert_close(scores[0], scores[1])
    assert_close(scores[2] - nothing, 3 * t[:, None] * (scores[0] - nothing))
    ratio = sde.alpha(t) / sde.sigma(t)
    assert_close(scores[3] - nothing, ratio[:, None] * (scores[0] - nothing))


def test_at_a_gain_of_alpha_over_sigma_the_network_denoises(sde):
    """The denoised point is the Gaussian's guess plus sigma / sqrt(alpha^2 v + sigma^2) times the
    network.
    """

    data, x, t = 2 + 3 * torch.randn(50, 2), torch.randn(7, 2), torch.linspace(0.1, 1, 7)
    score = ResidualScore(One(), sde, data, "alpha/sigma")
    guess, denoised = (denoise(s, sde, x, t) for s in (ResidualScore(Zero(), sde, data), score))
    missed = sde.sigma(t) / (sde.alpha(t) ** 2 * score.variance + sde.sigma(t) ** 2).sqrt()
    assert_close(denoised - guess, missed[:, None].expand_as(x))


def test_without_a_network_the_residual_score_is_that_of_a_gaussian(sde):
    data = 2 + 3 * torch.randn(1000, 2)
    mean, variance = data.mean(0), (data - data.mean(0)).square().mean()
    gaussian = GaussianMixture(torch.ones(1), mean[None], variance.expand(1, 2))
    x, t = torch.randn(7, 2), torch.linspace(0.1, 1, 7)
    assert_close(ResidualScore(Zero(), sde, data)(x, t), exact_score(sde, gaussian)(x, t))


def test_the_network_sees_states_of_unit_variance(sde):
    data, seen = 5 + 0.1 * torch.randn(20_000, 1), []

    class Spy(Zero):
        def forward(self, x, t):
            seen.append(x)
            return super().forward(x, t)

    score = ResidualScore(Spy(), sde, data)
    for t in torch.tensor([0.0, 0.5, 1.0]):
        score(sde.perturb(data, t)[0], t)
        assert abs(seen[-1].var() - 1) < 6 * math.sqrt(2 / len(data)) and abs(
            seen[-1].mean()
        ) < 6 / math.sqrt(len(data))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("batch", [0, 1, 5])
def test_a_network_score_keeps_shape_dtype_and_device(sde, dtype, batch, device):
    score = ResidualScore(MLP(2, width=8, n_waves=4), sde, torch.randn(50, 2)).to(device, dtype)
    x, t = (
        torch.randn(batch, 2, dtype=dtype, device=device),
        torch.rand(batch, dtype=dtype, device=device),
    )
    assert (
        score(x, t).shape == x.shape
        and score(x, t).dtype == dtype
        and score(x, t).device == x.device
    )
    assert_close(
        torch.cat([score(x[i : i + 1], t[i]) for i in range(batch)] + [x[:0]]), score(x, t)
    )


def test_a_saved_and_reloaded_network_is_the_same_score(sde):
    a, b = (ResidualScore(MLP(1), sde, torch.randn(50, 1)) for _ in range(2))
    x, t = torch.randn(5, 1), torch.rand(5)
    assert not torch.equal(a(x, t), b(x, t))
    b.load_state_dict(a.state_dict())
    assert torch.equal(a(x, t), b(x, t))


def test_an_untrained_unet_is_the_score_of_a_gaussian(sde):
    data = 2 + 3 * torch.randn(100, 1, 8, 8)
    x, t = torch.randn(4, 1, 8, 8), torch.linspace(0.1, 1, 4)
    assert torch.equal(
        ResidualScore(UNet(), sde, data)(x, t), ResidualScore(Zero(), sde, data)(x, t)
    )


def test_a_label_travels_in_a_partial_score(sde):
    score = ResidualScore(alive(UNet(widths=(8, 16), n_labels=3)), sde, torch.randn(50, 1, 8, 8))
    x, t, label = torch.randn(2, 1, 8, 8), torch.rand(2), torch.tensor([2, 0])
    assert torch.equal(partial(score, label=label)(x, t), score(x, t, label))
    assert not torch.equal(score(x, t), score(x, t, label))


# From a mixture


class Guess(nn.Module):
    """Nothing, like the first half of the channels; the others are a guess at the datum."""

    def forward(self, u, t, label):
        return torch.zeros_like(u[:, : u.shape[1] // 2])


class Spy(Guess):
    def forward(self, u, t, label):
        self.seen = u, t, label
        return super().forward(u, t, label)


@pytest.fixture
def images():
    """Three classes of correlated 2 x 2 images, shape ``(300, 1, 2, 2)``, and their labels."""
    labels = torch.arange(300) % 3
    mix = torch.randn(3, 4, 4)
    x = torch.einsum("nij,nj->ni", mix[labels], torch.randn(300, 4)) + 3 * torch.randn(3, 4)[labels]
    return x.reshape(-1, 1, 2, 2), labels


@pytest.fixture
def mixture(images):
    return GaussianMixture.from_classes(*images)


def test_without_a_network_the_score_is_the_mixtures(sde, mixture):
    score, x, t = (
        MixtureResidualScore(Guess(), sde, mixture),
        torch.randn(6, 1, 2, 2),
        torch.linspace(0.1, 1, 6),
    )
    exact = exact_score(sde, mixture)(x.flatten(1), t).reshape(x.shape)
    assert_close(score(x, t), exact)
    assert_close(score(x, t, torch.tensor(3)), exact)  # the null label
    assert_close(score(x, t[0]), exact_score(sde, mixture)(x.flatten(1), t[0]).reshape(x.shape))


def test_a_label_chooses_its_component(sde, mixture):
    score, x, t = (
        MixtureResidualScore(Guess(), sde, mixture),
        torch.randn(4, 1, 2, 2),
        torch.linspace(0.1, 1, 4),
    )
    label = torch.tensor([2, 0, 3, 1])
    for i, k in enumerate(label):
        law = mixture
        if k < 3:
            law = GaussianMixture(
                torch.ones(1),
                mixture.means[k][None],
                mixture.variances[k][None],
                mixture.axes[k][None],
            )
        alone = exact_score(sde, law)(x[i : i + 1].flatten(1), t[i])
        assert_close(partial(score, label=label)(x, t)[i].flatten(), alone[0])
        assert_close(score(x[i : i + 1], t[i], k).flatten(), alone[0])


def test_the_network_sees_state_and_guess_on_a_scale_of_order_one(sde, mixture, images):
    score = MixtureResidualScore(Spy(), sde, mixture)
    t = torch.full((300,), 0.4)
    x, _ = sde.perturb(images[0], t)
    score(x, t, images[1])
    u, t_seen, label = score.net.seen
    alpha, sigma, v = sde.alpha(t[0]), sde.sigma(t[0]), mixture.cov.trace() / 4
    assert_close(u[:, :1] * (alpha**2 * v + sigma**2).sqrt(), x)
    guess = denoise(partial(score, label=images[1]), sde, x, t)
    assert_close(u[:, 1:] * v.sqrt(), guess)
    assert t_seen is t and label is images[1]


def test_the_network_is_asked_for_numbers_of_order_one_when_the_mixture_is_one_gaussian(sde):
    # what is left of an isotropic Gaussian datum, (x0 - D0) / (factor sigma^2 / alpha), has
    # variance 1 at every time
    v = 2.5
    one = GaussianMixture(
        torch.ones(1), torch.zeros(1, 4), torch.full((1, 4), v), torch.eye(4)[None]
    )
    x0 = v**0.5 * torch.randn(100_000, 1, 2, 2)

    class Ones(Guess):
        def forward(self, u, t, label):
            return torch.ones_like(u[:, :1])

    for t in torch.tensor([0.01, 0.3, 1.0]):
        x, _ = sde.perturb(x0, t)
        start, shifted = (
            denoise(MixtureResidualScore(net, sde, one), sde, x, t) for net in (Guess(), Ones())
        )
        target = (x0 - start) / (shifted - start)
        assert abs(target.var() - 1) < 6 * (2 / target.numel()) ** 0.5


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("batch", [0, 1, 4])
def test_shape_dtype_device_and_independent_rows(sde, dtype, batch, device, images):
    mixture = GaussianMixture.from_classes(
        images[0].repeat_interleave(2, 2).repeat_interleave(2, 3), images[1], noise=0.1
    )
    net = UNet(n_hints=1, n_labels=3, widths=(8, 16))
    nn.init.normal_(net.leave.weight)
    score = MixtureResidualScore(net, sde, mixture).to(device, dtype)
    x, t = (
        torch.randn(batch, 1, 4, 4, dtype=dtype, device=device),
        torch.rand(batch, dtype=dtype, device=device),
    )
    label = torch.arange(batch, device=device) % 4
    out = score(x, 0.1 + 0.9 * t, label)
    assert out.shape == x.shape and out.dtype == dtype and out.device == x.device
    alone = [score(x[i : i + 1], 0.1 + 0.9 * t[i], label[i]) for i in range(batch)]
    assert_close(torch.cat([*alone, x[:0]]), out)


def test_everything_it_needs_travels_with_its_state(sde, mixture, images):
    other = GaussianMixture.from_classes(images[0] + 1, images[1], pooled=0.9)
    a, b = (MixtureResidualScore(Guess(), sde, m) for m in (mixture, other))
    x, t = torch.randn(5, 1, 2, 2), torch.rand(5)
    assert not torch.equal(a(x, t), b(x, t))
    b.load_state_dict(a.state_dict())
    assert torch.equal(a(x, t), b(x, t))


def test_a_mixture_without_axes_is_refused(sde):
    plain = GaussianMixture(torch.ones(1), torch.zeros(1, 4), torch.ones(1, 4))
    with pytest.raises(ValueError, match="mixture.axes must be given, got None"):
        MixtureResidualScore(Guess(), sde, plain)


# What both refuse, and what can be done with them


@pytest.mark.parametrize(
    "make, error, message",
    [
        (
            lambda: ResidualScore(VPSDE(), MLP(2), torch.zeros(2, 2)),
            TypeError,
            "net must be a torch",
        ),
        (lambda: ResidualScore(MLP(2), VPSDE, torch.zeros(2, 2)), TypeError, "sde must be an SDE"),
        (lambda: ResidualScore(MLP(2), VPSDE(), np.zeros((2, 2))), TypeError, "data must be a flo"),
        (
            lambda: ResidualScore(MLP(2), VPSDE(), torch.zeros(2, 2).long()),
            TypeError,
            "got torch.int64",
        ),
        (
            lambda: ResidualScore(MLP(2), VPSDE(), torch.zeros(0, 2)),
            ValueError,
            r"got shape \(0, 2\)",
        ),
        (lambda: ResidualScore(MLP(2), VPSDE(), torch.zeros(2)), ValueError, r"got shape \(2,\)"),
        (
            lambda: ResidualScore(MLP(2), VPSDE(), torch.full((2, 2), torch.nan)),
            ValueError,
            "data must",
        ),
        (
            lambda: ResidualScore(MLP(2), VPSDE(), torch.zeros(2, 2), 2.0),
            TypeError,
            "gain must be a str or a function or None, got float",
        ),
        (
            lambda: MixtureResidualScore(MLP(2), deck_mixture(), VPSDE()),
            TypeError,
            "sde must be an SDE",
        ),
        (
            lambda: MixtureResidualScore(MLP(2), VPSDE(), 3),
            TypeError,
            "mixture must be a GaussianM",
        ),
        (
            lambda: digits_score()(torch.zeros(2, 1, 8, 8).float(), torch.rand(2), 11),
            ValueError,
            "label",
        ),
        (
            lambda: digits_score()(torch.zeros(2, 1, 8, 8), torch.rand(2), 0.5),
            TypeError,
            "label must",
        ),
        (
            lambda: digits_score()(torch.zeros(2, 64), torch.rand(2)),
            ValueError,
            r"x must be of shape",
        ),
        (lambda: mixture_score()(torch.zeros(2), torch.rand(2)), ValueError, "x must be of shape"),
        (
            lambda: mixture_score()(torch.zeros(2, 2), torch.rand(2)),
            ValueError,
            "x must be of shape",
        ),
        (lambda: runs("faces"), ValueError, "name must be mixture, smile or digits, got faces"),
    ],
)
def test_arguments_of_another_kind_are_named(make, error, message):
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize("make", [mixture_score, smile_score, digits_score])
def test_a_shipped_score_travels_by_pickle_and_copy_and_leaves_the_random_state_alone(make):
    torch.manual_seed(3)
    wanted = torch.randn(3)
    torch.manual_seed(3)
    score = make()
    assert torch.equal(torch.randn(3), wanted)
    event = {mixture_score: (1,), smile_score: (2,), digits_score: (1, 8, 8)}[make]
    x, t = torch.randn(2, *event), torch.rand(2)
    for twin in (pickle.loads(pickle.dumps(score)), copy.deepcopy(score)):
        assert torch.equal(twin(x, t), score(x, t))


def test_a_score_of_data_with_a_graph_can_be_averaged():
    data = torch.randn(20, 2, requires_grad=True)
    score = ResidualScore(MLP(2, width=4), VPSDE(), 2 * data)
    loss = lambda s: expected(dsm_error, s, s.sde, data.detach())
    assert fit(score, loss, 3, ema_decay=0.5, progress=False).isfinite().all()


def test_the_runs_of_every_seed_are_stored():
    for name in ("mixture", "smile", "digits"):
        assert [run["seed"] for run in runs(name)] == list(range(len(runs(name)))) and runs(name)


# learn


@pytest.fixture
def single():
    """Networks in single precision, as out of the box; the next test sets its own again."""
    torch.set_default_dtype(torch.float32)


def correlated(n):
    """Points of a Gaussian, in units that differ and far from 0."""
    law = torch.distributions.MultivariateNormal(
        torch.tensor([500.0, -3e-3]).double(),
        torch.tensor([[100.0, 6e-3], [6e-3, 1e-6]]).double(),
    )
    return law.sample((n,))


def test_the_standard_score_is_the_residual_score_at_mean_0_and_variance_1(sde):
    class Clockless(nn.Module):
        def forward(self, x, t):
            return x.sin()

    data, x, t = (
        torch.tensor([[1.0, -1.0], [-1.0, 1.0]]),
        torch.randn(5, 2),
        torch.linspace(0.1, 1, 5),
    )
    wanted = ResidualScore(Clockless(), sde, data, "alpha/sigma")
    assert_close(StandardScore(Clockless(), sde)(x, t), wanted(x, t))


@pytest.mark.parametrize("sde", [VPSDE(), VESDE(), SubVPSDE(), FlowSDE()], ids=str)
def test_an_untrained_model_is_the_gaussian_of_the_data(sde):
    """Density and samples; the prior's variance is not quite that of the diffused data."""
    x = correlated(4000)
    model, law = Model(x, sde=sde), torch.distributions.MultivariateNormal(x.mean(0), x.T.cov())
    prior_error = (
        2 / min(float(sde.sigma(torch.ones(()))) / float(sde.alpha(torch.ones(()))), 1e3) ** 2
    )
    error = model.log_prob(x[:20]) - law.log_prob(x[:20])
    assert error.abs().max() < 2e-3 + 10 * prior_error
    torch.manual_seed(0)
    y = model.sample(4000)
    z = torch.linalg.solve(torch.linalg.cholesky(x.T.cov()), (y - x.mean(0)).T)
    # whitened samples: six standard errors of a mean and of a covariance
    assert z.mean(1).abs().max() < 6 / 4000**0.5
    assert (z.cov() - torch.eye(2)).abs().max() < 6 * (2 / 4000) ** 0.5


def test_an_untrained_model_of_small_images_is_the_mixture_of_its_classes():
    torch.manual_seed(0)
    mix, labels = torch.randn(2, 16, 16), torch.arange(400) % 2
    x = 3 + torch.einsum("nij,nj->ni", mix[labels], torch.randn(400, 16)).reshape(-1, 1, 4, 4)
    model = Model(x, 5 + labels)
    law = GaussianMixture.from_classes(x, labels, noise=1e-4 * model.root.item() ** 2)
    u = model.standardise(x[:5])
    t = torch.tensor(0.3)
    alone = GaussianMixture(torch.ones(1), law.means[:1], law.variances[:1], law.axes[:1])
    for label, wanted in ((None, law), (5, alone)):
        moved = wanted.means - model.mean.flatten()
        centred = GaussianMixture(
            wanted.weights,
            moved / model.root,
            wanted.variances / model.root**2,
            wanted.axes,
        )
        exact = exact_score(model.sde, centred)(u.flatten(1), t).reshape(u.shape)
        assert_close(model.score(u, t, label), exact, rtol=1e-5, atol=1e-5)


def test_units_do_not_matter(single):
    """Standardised data differ by rounding, which fifty steps of training hardly amplify."""
    torch.manual_seed(0)
    x = torch.rand(500, 2).double() ** 2
    ways = [
        (1.0, 0.0),
        (0.01, 500.0),
        (100.0, 500.0),
        (torch.tensor([1e3, 1e-3]), torch.tensor([1.0, 0])),
    ]
    outs = []
    for scale, shift in ways:
        model = learn(scale * x + shift, n_steps=50, batch=64, progress=False)
        g = torch.Generator().manual_seed(1)
        outs.append((model.sample(200, n_steps=20, generator=g) - shift) / scale)
    for out in outs[1:]:
        assert_close(out, outs[0], rtol=1e-3, atol=1e-3)


def test_learning_finds_what_is_not_gaussian_and_repeats_itself(single):
    """Two narrow modes far apart; the Gaussian that training starts from is 50 floors away."""
    torch.manual_seed(0)
    draw = lambda n: torch.randint(2, (n, 1)) * 4.0 + 0.2 * torch.randn(n, 1)
    x, fresh = draw(2000), draw(2000)
    torch.manual_seed(5)
    wanted = torch.rand(2)
    torch.manual_seed(5)
    model = learn(x, n_steps=300, batch=256, seed=3, progress=False)
    assert torch.equal(torch.rand(2), wanted)  # the caller's random state is left alone
    assert len(model.history) == 300
    histories = [learn(x, n_steps=3, batch=256, seed=k, progress=False).history for k in (3, 3, 4)]
    assert torch.equal(histories[0], histories[1]) and not torch.equal(*histories[1:])
    distance = energy_distance(model.sample(2000), fresh)
    start = energy_distance(Model(x).sample(2000), fresh)
    # so short a training leaves a few floors
    assert distance.value < 6 * distance.floor and start.value > 30 * start.floor
    law = torch.distributions.Normal(torch.tensor([0.0, 4.0]), 0.2)
    exact = (law.log_prob(fresh[:50]).exp().mean(1)).log()
    assert (model.log_prob(fresh[:50]) - exact).mean().abs() < 0.3  # the Gaussian's is 1 nat away


def test_labels_of_any_value_are_learned(single):
    torch.manual_seed(0)
    labels = torch.tensor([-7, 12, 40], dtype=torch.int16)[torch.randint(3, (1500,))]
    centre = {-7: [0.0, 0.0], 12: [3.0, 0.0], 40: [0.0, 3.0]}
    x = torch.tensor([centre[int(k)] for k in labels]) + 0.3 * torch.randn(1500, 2)
    model = learn(x, labels, n_steps=300, batch=256, progress=False)
    asked = labels[torch.randperm(1500)][:300]
    y = model.sample(300, label=asked, batch_size=70)
    nearest = torch.cdist(y, torch.tensor(list(centre.values()))).argmin(1)
    right = torch.tensor(list(centre))[nearest] == asked
    assert right.double().mean() > 0.95  # classes 10 standard deviations apart; chance is 1/3
    y = model.sample(200, label=12, scale=2.0)
    assert (y[:, 0] > 1.5).double().mean() > 0.95
    one, other = model.log_prob(x[:20], label=labels[:20]), model.log_prob(x[:20], label=40)
    away = labels[:20] != 40
    assert (one > other + 3)[away].double().mean() > 0.9


@pytest.mark.parametrize(
    "x", [np.arange(60.0).reshape(20, 3) % 7, torch.arange(60).reshape(20, 3) % 7]
)
def test_arrays_and_integers_are_data(x):
    model = learn(x, n_steps=2, batch=8, progress=False)
    y = model.sample(5)
    assert y.shape == (5, 3) and y.dtype == torch.get_default_dtype() and y.isfinite().all()
    assert model.log_prob(x).shape == (20,)


def test_samples_have_the_type_of_the_data():
    x = torch.randn(50, 2, dtype=torch.float32)
    assert Model(x).sample(3).dtype == torch.float32 and Model(x).sample(0).shape == (0, 2)


@pytest.mark.parametrize("event, n_labels", [((1, 4, 6), 0), ((3, 4, 4), 2), ((1, 20, 16), 2)])
def test_images_of_any_size_can_be_learned(event, n_labels, single):
    torch.manual_seed(0)
    x = torch.rand(40, *event) * 255
    labels = torch.arange(40) % 2 if n_labels else None
    model = learn(x, labels, n_steps=2, batch=4, level_width=1.0, progress=False)
    y = model.sample(3, label=1 if n_labels else None, n_steps=3)
    assert y.shape == (3, *event) and model.log_prob(x[:2], rtol=1e-2, atol=1e-2).isfinite().all()


def test_a_constant_coordinate_stays_what_it_is():
    x = torch.randn(100, 2) * torch.tensor([1.0, 0.0]) + torch.tensor([0.0, 7.0])
    y = Model(x).sample(50)
    assert (y[:, 1] - 7).abs().max() < 0.01 and abs(y[:, 0].std() - 1) < 0.5


def test_a_model_travels_by_state_copy_and_pickle():
    x, labels = torch.randn(60, 2), torch.arange(60) % 2
    model = learn(3 + x, labels, n_steps=3, batch=8, progress=False)
    other = Model(torch.randn(10, 2), torch.arange(10) % 2 + 5)
    other.load_state_dict(model.state_dict())
    draw = lambda m: m.sample(4, label=1, generator=torch.Generator().manual_seed(0))
    for twin in (other, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(draw(twin), draw(model))
    assert not model.training and not any(p.requires_grad for p in model.parameters())


def test_any_solver_samples_and_batches_are_independent_draws():
    model = Model(torch.randn(50, 2))
    for solver in (dpm_solver_2m, walk(euler_maruyama)):
        assert model.sample(5, solver=solver, n_steps=3).shape == (5, 2)
    y = model.sample(7, batch_size=2, n_steps=3)
    assert len(y) == 7 and len(y.unique(dim=0)) == 7


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: learn([[1.0], [2.0]]), TypeError, "x must be a tensor or a numpy array, got list"),
        (lambda: learn(torch.randn(5)), ValueError, r"x must be points \(n, d\) or images"),
        (lambda: learn(torch.randn(1, 2)), ValueError, "x must be at least two data"),
        (lambda: learn(torch.ones(5, 2)), ValueError, "x must be varied, got the same datum every"),
        (
            lambda: learn(torch.tensor([[1.0], [torch.nan]])),
            ValueError,
            "x must be finite everywhere",
        ),
        (
            lambda: learn(torch.ones(5, 2).bool()),
            TypeError,
            "x must be real numbers, got torch.bool",
        ),
        (
            lambda: learn(torch.randn(5, 2), torch.rand(5)),
            TypeError,
            "labels must be an integer or",
        ),
        (
            lambda: learn(torch.randn(5, 2), torch.arange(4)),
            ValueError,
            r"labels must be of shape \(5,",
        ),
        (lambda: learn(torch.randn(5, 2), sde=VPSDE), TypeError, "sde must be an SDE"),
        (
            lambda: learn(torch.randn(5, 2), n_steps=0),
            ValueError,
            "n_steps must be at least 1, got 0",
        ),
        (lambda: learn(torch.randn(5, 2), batch=0), ValueError, "batch must be at least 1, got 0"),
        (lambda: learn(torch.randn(5, 2), net=3), TypeError, "net must be a torch.nn.Module"),
        (
            lambda: learn(torch.randn(5, 2), level_width=-1.0),
            ValueError,
            "level_width must be at least",
        ),
        (
            lambda: learn(torch.randn(5, 1, 5, 4), n_steps=1),
            ValueError,
            "x must be of height and width",
        ),
        (
            lambda: Model(torch.randn(5, 2)).sample(3, label=1),
            ValueError,
            "label must be None, as the",
        ),
        (
            lambda: Model(torch.randn(5, 2)).sample(3, scale=2.0),
            ValueError,
            "scale must be 1 without",
        ),
        (lambda: Model(torch.randn(5, 2)).sample(-1), ValueError, "n must be at least 0, got -1"),
        (
            lambda: Model(torch.randn(5, 2)).sample(2, batch_size=0),
            ValueError,
            "batch_size must be",
        ),
        (
            lambda: Model(torch.randn(5, 2)).log_prob(torch.randn(5, 3)),
            ValueError,
            "x must be of sh",
        ),
        (
            lambda: two_classes().sample(3, label=2),
            ValueError,
            r"label must be one of the data's, \[1, 5",
        ),
        (lambda: two_classes().sample(3, label=1.0), TypeError, "label must be an integer"),
        (
            lambda: two_classes().sample(3, label=[1, 5]),
            ValueError,
            r"label must be of shape \(3,\)",
        ),
    ],
)
def test_bad_values_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


def two_classes():
    return Model(torch.randn(10, 2), 1 + 4 * (torch.arange(10) % 2))


@pytest.mark.parametrize("shape", [(8, 1), (8,), (1, 2), ()])
@pytest.mark.parametrize("make", ["residual", "standard", "mixture", "learn"])
def test_a_network_whose_value_would_be_broadcast_is_refused(make, shape):
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.one = torch.nn.Parameter(torch.ones(()))

        def forward(self, x, t, label=None):
            return self.one.expand(shape)

    x = torch.randn(8, 2)
    mixture = GaussianMixture.from_classes(x, torch.arange(8) % 2)
    scores = {
        "residual": lambda: ResidualScore(Net(), VPSDE(), x),
        "standard": lambda: StandardScore(Net(), VPSDE()),
        "mixture": lambda: MixtureResidualScore(Net(), VPSDE(), mixture),
        "learn": lambda: learn(x, net=Net(), n_steps=1, batch=8, progress=False).inner,
    }
    with pytest.raises(ValueError, match=r"net\(u, t.*\) must be of shape \(8, 2\), got shape"):
        scores[make]()(x, torch.tensor(0.5))


def test_a_network_that_takes_one_dtype_gets_times_of_it():
    class Net(torch.nn.Module):
        def forward(self, x, t, label=None):
            return torch.nn.functional.linear(torch.cat([x, t.expand(len(x))[:, None]], 1), W)

    W, x, t = torch.ones(2, 3), torch.randn(4, 2), torch.tensor(0.5, dtype=torch.float64)
    bare, scores = Net(), (ResidualScore(Net(), VPSDE(), x), StandardScore(Net(), VPSDE()))
    for score in (bare, *scores):
        found = denoise(score, VPSDE(), x, t)
        assert_close(found, denoise(score, VPSDE(), x, t.float()), rtol=1e-5, atol=1e-5)
    t, s = VPSDE().at(0.5), VPSDE().at(0.4)  # of double precision
    assert ddim(bare, x, t, s).dtype == x.dtype
    assert classifier_free(bare, bare, 2.0)(x, t.now).dtype == x.dtype


@pytest.mark.parametrize(
    "gain, error, said",
    [
        (lambda t: None, TypeError, "a floating-point tensor, got NoneType"),
        (lambda t: t[:2], ValueError, r"of shape \(3,\), got shape \(2,\)"),
    ],
)
def test_a_gain_that_is_no_number_for_each_time_is_refused(gain, error, said):
    score = ResidualScore(MLP(2), VPSDE(), torch.randn(9, 2), gain=gain)
    with pytest.raises(error, match=r"gain\(t\) must be " + said):
        score(torch.randn(3, 2), torch.rand(3))


def gain_of_a_reader(t):
    return 1 - t


def test_a_score_with_a_gain_of_ones_own_can_be_pickled():
    score = ResidualScore(MLP(2, width=4), VPSDE(), torch.randn(9, 2), gain=gain_of_a_reader)
    x, t = torch.randn(3, 2), torch.rand(3)
    assert torch.equal(pickle.loads(pickle.dumps(score))(x, t), score(x, t))


@pytest.mark.parametrize("form", ["turned", "transposed", "big-endian", "strided"])
def test_arrays_of_any_layout_are_learned_from(form):
    x, labels = np.random.default_rng(0).normal(size=(40, 2)), np.arange(40) % 2
    forms = {
        "turned": lambda a: a[::-1].copy()[::-1],
        "transposed": lambda a: a.T.copy().T,
        "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
        "strided": lambda a: np.repeat(a, 2, 0)[::2],
    }
    change = forms[form]
    one, other = (
        learn(a, b, n_steps=1, batch=8, progress=False)
        for a, b in ((x, labels), (change(x), change(labels)))
    )
    assert torch.equal(one.mean, other.mean) and torch.equal(one.classes, other.classes)
    draw = partial(one.sample, 4, n_steps=2, generator=torch.Generator().manual_seed(0))
    again = draw.keywords | {"generator": torch.Generator().manual_seed(0)}
    assert torch.equal(draw(label=labels[:4]), one.sample(4, **again, label=change(labels[:4])))


# How learn learns, and by default samples


class Watcher(nn.Module):
    """A network that adds nothing, and keeps what it was shown."""

    def __init__(self):
        super().__init__()
        self.nothing, self.seen = nn.Parameter(torch.zeros(())), []

    def forward(self, u, clock, label=None):
        self.seen.append((u.detach(), clock, label))
        return self.nothing * u


@pytest.fixture
def rehearse(monkeypatch):
    """Call learn without training: the model, how fit was called, and the arguments and values of
    dsm_error in some losses.
    """

    def rehearsed(*data, times=20, **how):
        called, drawn = {}, []

        def no_fit(net, loss, n_steps, *rest, **more):
            called.update(n_steps=n_steps, loss=[loss(net).detach() for _ in range(times)])
            return torch.zeros(n_steps)

        def watched(*arguments):
            error = dsm_error(*arguments)
            drawn.append((*arguments, error.detach()))
            return error

        monkeypatch.setattr("sdelib.learned.fit", no_fit)
        monkeypatch.setattr("sdelib.learned.dsm_error", watched)
        return learn(*data, **how), called, drawn

    return rehearsed


def test_points_are_learned_at_the_stated_levels_from_even_draws(rehearse):
    x, labels = correlated(3000), torch.arange(3000) % 3 % 2
    net = Watcher()
    model, called, drawn = rehearse(x, labels, net=net)
    assert called["n_steps"] == 4000 and all(len(u) == 1024 for u, *_ in net.seen)
    seen = torch.stack([12 * (clock - 0.5) for _, clock, _ in net.seen])  # log(sigma / alpha)
    # a Sobol sequence has these moments to about 1/1024
    assert abs(seen.mean() + 1) < 0.01 and abs(seen.std() - 1.3) < 0.01
    finest = torch.tensor(model.t_min)
    assert_close(model.sde.sigma(finest) / model.sde.alpha(finest), torch.tensor(0.003))
    given = torch.stack([label for *_, label in net.seen])
    for value, share in ((2, 0.2), (0, 0.8 * 2 / 3), (1, 0.8 / 3)):
        # six standard errors of a share
        error = 6 * (share * (1 - share) / given.numel()) ** 0.5
        assert abs((given == value).double().mean() - share) < error
    for _, _, _, _, z, _ in drawn:
        assert z.mean(0).abs().max() < 0.01  # of independent draws the error is 0.03
    assert torch.cat([z for *_, z, _ in drawn]).std(0).sub(1).abs().max() < 0.01


def test_a_datum_goes_with_its_label(rehearse):
    x, labels = torch.randn(50, 2), torch.arange(50) % 2
    net = Watcher()
    model, _, drawn = rehearse(x, 5 - 2 * labels, net=net, batch=32)
    own = dict(zip(map(tuple, model.standardise(x).tolist()), (1 - labels).tolist()))
    for (*_, label), (_, _, x0, *_) in zip(net.seen, drawn):
        wanted = torch.tensor([own[tuple(row)] for row in x0.tolist()])
        assert ((label == wanted) | (label == 2)).all() and (label != 2).any()


def test_the_loss_is_1_in_each_dimension_as_long_as_nothing_is_learned(rehearse):
    """Of data of unit variance the Gaussian's denoised datum misses by as much as it says."""
    for x in (correlated(3000), 7 + 3 * torch.randn(500, 3, 4, 4)):
        _, called, _ = rehearse(x, net=Watcher())
        # 20 losses of 1024 x 2 or 64 x 48 squared normal numbers each
        assert abs(torch.stack(called["loss"]).mean() - 1) < 6 * (2 / 20 / 2048) ** 0.5


def test_images_are_learned_at_the_stated_levels(rehearse):
    x, net = torch.randn(100, 1, 4, 4), Watcher()
    model, called, drawn = rehearse(x, net=net, times=50)
    assert called["n_steps"] == 2200 and all(len(u) == 64 for u, *_ in net.seen)
    seen = torch.stack([12 * (clock - 0.5) for _, clock, _ in net.seen])
    assert abs(seen.mean() + 0.3) < 0.02 and abs(seen.std() - 1.2) < 0.02
    finest = torch.tensor(model.t_min)
    assert_close(model.sde.sigma(finest) / model.sde.alpha(finest), torch.tensor(0.01))
    labelled = Watcher()
    rehearse(x, torch.arange(100) % 2, net=labelled, times=200)
    hidden = torch.stack([label == 2 for *_, label in labelled.seen]).double()
    assert abs(hidden.mean() - 0.3) < 6 * (0.21 / hidden.numel()) ** 0.5  # standard errors


def test_noise_fills_the_levels_of_quantised_data(rehearse):
    x = 10.0 * torch.randint(2, (300, 1, 4, 4))
    model, _, drawn = rehearse(x, net=Watcher(), level_width=3.0)
    noise = torch.cat([x0 for _, _, x0, *_ in drawn]) * model.root + model.mean
    noise = torch.where(noise > 5, noise - 10, noise)
    assert 1.49 < noise.max() <= 1.5 and -1.5 <= noise.min() < -1.49
    # a mean of as many uniform numbers, and 3^2 / 12
    assert noise.mean().abs() < 6 * (0.75 / noise.numel()) ** 0.5
    assert abs(noise.var() - 0.75) < 0.02


def test_small_images_are_learned_with_the_mixture_of_the_other_folds(rehearse):
    x = torch.randn(60, 1, 4, 4)
    model, _, drawn = rehearse(x, batch=64, n_steps=1, times=30)
    u, folds = model.standardise(x), []
    for score, _, x0, *_ in drawn:
        own = x0.unique(dim=0)
        assert len(own) == 10  # one of six parts
        assert_close(score.func.means[0], (u.sum(0) - own.sum(0)).flatten() / 50)
        folds.append(own.flatten()[0].item())
    assert len(set(folds)) == 6


def test_the_mixture_of_small_images_holds_the_noise_of_their_levels():
    """A constant pixel has no variance but that, and 1e-4 so that there is some."""
    x = torch.randn(50, 1, 4, 4)
    x[..., 1, 2] = 3.0
    for width in (0.0, 0.6):
        model = Model(x, level_width=width)
        wanted = (width / model.root) ** 2 / 12 + 1e-4
        assert_close(model.inner.variances.min(), wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("shape, per_class, small", [
    ((1, 16, 16), 50, True),
    ((1, 16, 18), 50, False),
    ((1, 4, 4), 3, True),
    ((1, 4, 4), 2, False),
])  # fmt: skip
def test_small_images_are_those_of_256_numbers_and_three_a_class(shape, per_class, small):
    labels = torch.tensor([0] * per_class + [1] * 50)
    model = Model(torch.randn(len(labels), *shape), labels)
    assert isinstance(model.inner, MixtureResidualScore if small else StandardScore)
    given = Model(torch.randn(len(labels), *shape), labels, net=Watcher())
    assert isinstance(given.inner, StandardScore)


@pytest.mark.parametrize("shape, halvings", [
    ((4, 4), 1),
    ((8, 16), 1),
    ((16, 8), 1),
    ((12, 12), 1),
    ((16, 16), 2),
    ((18, 18), 1),
    ((16, 18), 1),
    ((20, 24), 2),
])  # fmt: skip
def test_a_network_of_images_halves_them_once_or_twice(shape, halvings):
    torch.manual_seed(1)
    net = Model(torch.randn(9, 3, *shape), torch.tensor([0, 0, 0, 0, 0, 0, 0, 1, 1])).inner.net
    torch.manual_seed(1)
    torch.randn(9, 3, *shape)
    wanted = UNet(3, 0, (32, 64, 96)[: halvings + 1], 2, scale=8.0)
    assert net.state_dict().keys() == wanted.state_dict().keys()
    for name, value in wanted.state_dict().items():
        assert torch.equal(net.state_dict()[name], value)


def test_a_network_of_points_is_the_documented_one_and_begins_with_zeros():
    x = torch.randn(9, 3)
    torch.manual_seed(1)
    net = Model(x, torch.arange(9) % 2).inner.net
    torch.manual_seed(1)
    wanted = MLP(3, n_waves=64, wave_scale=1.0, n_labels=2)
    for name, value in wanted.state_dict().items():
        last = name.startswith(f"layers.{len(wanted.layers) - 1}.")
        assert torch.equal(net.state_dict()[name], 0 * value if last else value)


def test_the_standard_score_shows_its_network_states_of_unit_variance_and_the_clock(sde):
    net, x, t = Watcher(), torch.randn(5, 2), torch.linspace(0.1, 1, 5)
    for label in (None, torch.arange(5)):
        StandardScore(net, sde)(x, t, label)
        u, clock, shown = net.seen[-1]
        assert_close(u * (sde.alpha(t) ** 2 + sde.sigma(t) ** 2).sqrt()[:, None], x)
        assert_close(clock, 0.5 + (sde.sigma(t) / sde.alpha(t)).log() / 12)
        assert shown is label


def test_a_direction_without_spread_keeps_a_thousandth():
    x = torch.randn(100, 1)
    spread = lambda v: v.std(0, correction=0)
    constant = Model(torch.cat([x, 2 * x.flip(0), torch.full((100, 1), 7.0)], 1)).root
    assert_close(constant[2, 2], 2e-3 * spread(x).squeeze())  # the largest there is
    same = Model(torch.cat([x, x], 1)).root
    across = torch.tensor([1.0, -1.0])
    assert_close(across @ same, 1e-3 * spread(x) * across, rtol=1e-6, atol=1e-9)
    image = x.reshape(100, 1, 1, 1) * torch.tensor([[1.0, 2.0], [1.0, 2.0]])
    wanted = (image - image.mean(0)).square().mean().sqrt()
    assert_close(Model(image).root, wanted)


def test_what_is_constant_is_told_by_rounding_not_by_units():
    x = torch.randn(100, 1)
    rounding = 1e6 + 1e-9 * torch.randn(100, 1)
    for constant in (rounding, torch.cat([torch.zeros(100, 1), rounding], 1)):
        with pytest.raises(ValueError, match="x must be varied"):
            Model(constant)
    root = Model(torch.cat([x, rounding], 1)).root
    assert_close(root[1, 1], 1e-3 * root[0, 0], rtol=1e-6, atol=0)
    small = Model(1e-9 * x).root
    assert_close(small.squeeze(), 1e-9 * x.std(correction=0), rtol=1e-9, atol=0)
    both = Model(torch.cat([x, 1e-9 * x.flip(0) ** 3], 1)).root
    scale = (x**3).std(correction=0) * 1e-9
    assert 0.5 < both[1, 1] / scale < 2


def test_seeds_choose_all_that_is_random():
    x = torch.randn(40, 1, 4, 4)
    history = lambda **how: learn(x, n_steps=2, batch=4, progress=False, **how).history
    first = history()
    torch.rand(3)  # another state of the caller's
    assert torch.equal(first, history(seed=0)) and not torch.equal(first, history(seed=1))
    points = lambda seed: learn(x[:, 0, 0], n_steps=1, net=Watcher(), seed=seed, progress=False)
    times = [points(seed).inner.net.seen[0][1] for seed in (0, 1)]
    assert not torch.equal(*times)


def test_the_least_noise_is_found_in_double_precision(single):
    t = torch.tensor(Model(torch.randn(9, 2)).t_min, dtype=torch.float64)
    ratio = VPSDE().sigma(t) / VPSDE().alpha(t)
    assert_close(ratio, torch.tensor(0.003, dtype=torch.float64), rtol=1e-10, atol=0)


def test_two_data_suffice_and_an_untrained_model_has_no_history():
    model = Model(torch.tensor([[0.0], [1.0]]))
    assert model.sample(3).isfinite().all() and len(model.history) == 0
    one = ResidualScore(Watcher(), VPSDE(), torch.ones(1, 2))
    assert one(torch.zeros(3, 2), torch.tensor(0.5)).shape == (3, 2)


def test_a_stressed_label_is_classifier_free_guidance():
    model, x, t = two_classes(), torch.randn(4, 2), torch.tensor(0.3)
    for layer in model.inner.net.layers[-1:]:
        alive(layer)
    given, any_label = model.given(5)(x, t), model.given()(x, t)
    assert not torch.allclose(given, any_label)
    for scale in (0.0, 1.0, 2.0):
        assert_close(model.given(5, scale)(x, t), any_label + scale * (given - any_label))


def test_the_density_of_images_has_the_volume_of_their_unit():
    x = 5 + 3 * torch.randn(200, 1, 2, 2)
    model = Model(x, net=Watcher())
    law = torch.distributions.Normal(model.mean, model.root)
    error = model.log_prob(x[:10]) - law.log_prob(x[:10]).flatten(1).sum(1)
    assert error.abs().max() < 2e-3  # the flow's tolerance, and the prior's variance
    y = model.sample(2000)
    assert abs(y.std() / 3 - 1) < 6 * (1 / 2 / 8000) ** 0.5 + 0.03  # of 2000 x 4, and of the data


def test_densities_are_exact_up_to_32_numbers_and_the_same_at_every_call(monkeypatch):
    asked = []

    def exact(*arguments):
        asked.append(arguments[1].shape[1])
        return exact_divergence(*arguments)

    monkeypatch.setattr("sdelib.learned.exact_divergence", exact)
    for d in (32, 33):
        model, x = Model(torch.randn(80, d)), torch.randn(2, d)
        alive(model.inner.net.layers[-1])
        found = model.log_prob(x, rtol=1e-2, atol=1e-2)
        assert torch.equal(found, model.log_prob(x, rtol=1e-2, atol=1e-2))
    assert set(asked) == {32}


def test_documented_defaults_of_a_model():
    model = Model(torch.randn(60, 2))
    alive(model.inner.net.layers[-1])
    draw = lambda **how: model.sample(4, generator=torch.Generator().manual_seed(0), **how)
    wanted = draw(solver=adams(reach=math.inf), n_steps=40, scale=1.0, batch_size=100)
    assert torch.equal(draw(), wanted) and not torch.equal(draw(solver=adams()), wanted)
    assert torch.equal(draw(solver=adams(reach=math.inf)), wanted)
    x = torch.randn(3, 2)
    assert torch.equal(model.log_prob(x), model.log_prob(x, rtol=1e-4, atol=1e-4))
    assert not torch.equal(model.log_prob(x), model.log_prob(x, rtol=1.25e-4))
    assert not torch.equal(model.log_prob(x), model.log_prob(x, atol=1.25e-4))


@pytest.mark.parametrize("event, most", [((2,), 2**15), ((1, 32, 64), 32), ((1, 64, 128), 16)])
def test_a_batch_holds_65536_numbers_and_at_least_16_data(event, most, monkeypatch):
    model, drawn = Model(torch.randn(3, *event), net=Watcher()), []

    def zeros(score, sde, shape, *how):
        drawn.append(shape[0])
        return torch.zeros(shape)

    monkeypatch.setattr("sdelib.learned.sample", zeros)
    model.sample(2 * most + 1)
    assert drawn == [most, most, 1]
    drawn.clear()
    model.sample(3, batch_size=1)
    assert drawn == [1, 1, 1]


def test_progress_is_shown_where_it_is_asked_for(capsys):
    x = torch.randn(20, 2)
    model = learn(x, n_steps=2, batch=4, progress=False)
    model.sample(5)
    assert capsys.readouterr().err == ""
    model.sample(5, batch_size=2, progress=True)
    said = capsys.readouterr().err
    assert "sampling: 100%" in said and "5/5" in said
    learn(x, n_steps=2, batch=4)
    assert "2/2" in capsys.readouterr().err


@pytest.mark.parametrize("call, message", [
    (lambda m: Model(torch.randn(5, 2), level_width=math.inf), "level_width must be .* finite"),
    (lambda m: Model(torch.zeros(5, 0)), "x must be at least two data of at least one number"),
    (lambda m: m.sample(3, label=9), "label must be one of the data's"),
    (lambda m: m.standardise(torch.randn(3, 1)), r"x must be of shape \(n, 2\)"),
    (lambda m: m.with_mixture(torch.randn(6, 2), torch.arange(5) % 2), "index must be of shape"),
    (lambda m: m.with_mixture(torch.randn(6, 2), torch.arange(6) % 2 - 1), "index must be from 0"),
    (lambda m: m.with_mixture(torch.randn(6, 2), torch.tensor([0, 0, 6, 6, 0, 6])), "index must"),
    (lambda m: m.with_mixture(torch.full((6, 2), math.nan), torch.arange(6) % 2), "u must be fin"),
    (lambda m: m.with_mixture(torch.randn(6), torch.arange(6) % 2), "u must be of shape"),
    (lambda m: ResidualScore(Watcher(), VPSDE(), torch.ones(3, 1))(torch.ones(5, 2), torch.ones(5)),
     "x must be of shape"),
    (lambda m: digits_score().mixture_score(torch.ones(64), torch.ones(())), "x must be of shape"),
])  # fmt: skip
def test_what_a_model_cannot_take_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(two_classes())
