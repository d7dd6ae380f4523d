"""States survive the disk bit for bit, and an interrupted run ends as an uninterrupted one."""

import functools
import math
import os
import pickle
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import nn
from torch.quasirandom import SobolEngine

from sdelib import checkpoints
from sdelib.checkpoints import Checkpoint, load, save
from sdelib.networks import MLP, ResidualScore
from sdelib.samplers import sample
from sdelib.sde import VPSDE
from sdelib.training import dsm_loss, fit


def same(a, b):
    """Equality of nested states in type, value and bits."""
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.int64, torch.uint8, torch.bool)


@pytest.mark.parametrize(
    "state",
    [
        {"tensors": [torch.arange(6).reshape(2, 3).to(dtype) for dtype in DTYPES]},
        (torch.tensor(1 / 3), torch.empty(0, 2), torch.randn(3, 4, dtype=torch.float64).T),
        OrderedDict(
            betas=(0.9, 0.99),
            lr=0.1 + 0.2,
            huge=float("inf"),
            name='π "quoted"',
            flag=True,
            missing=None,
        ),
        {0: {"step": torch.tensor(3.0)}, "0": 1, 7: -1e-300},
        [],
        3,
    ],
    ids=lambda state: type(state).__name__,
)
def test_a_state_comes_back_as_it_was(state, tmp_path):
    save(state, tmp_path / "state.safetensors")
    assert same(
        load(tmp_path / "state.safetensors"),
        state if not isinstance(state, OrderedDict) else dict(state),
    )


def test_tied_weights_are_kept_and_not_untied(tmp_path):
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    net[1].weight = net[0].weight
    save(net.state_dict(), tmp_path / "net")
    net.load_state_dict(load(tmp_path / "net"))
    assert net[1].weight is net[0].weight


def test_what_is_no_state_is_named(tmp_path):
    with pytest.raises(
        TypeError, match="state/optimizer/1 must be a tensor, a number, .* got function"
    ):
        save({"optimizer": [1, lambda: 0]}, tmp_path / "state")
    with pytest.raises(ValueError, match="place of a tensor must be unique, got state/a/b"):
        save({"a/b": torch.zeros(1), "a": {"b": torch.zeros(1)}}, tmp_path / "state")
    with pytest.raises(
        TypeError, match=r"a key in state/a must be a string or an integer, got tuple"
    ):
        save({"a": {(1, 2): 3}}, tmp_path / "state")
    assert not list(tmp_path.iterdir())


def test_files_of_others_are_refused_and_none_is_executed(tmp_path):
    path = tmp_path / "state"
    with pytest.raises(FileNotFoundError):
        load(path)
    safetensors.torch.save_file({"weight": torch.zeros(2)}, path)
    with pytest.raises(ValueError, match="path must be a file written by save"):
        load(path)

    class Bomb:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path}/executed",)

    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(safetensors.SafetensorError):
        load(path)
    assert not (tmp_path / "executed").exists()


def test_the_same_state_is_written_byte_for_byte(tmp_path):
    state = {"b": torch.ones(2), "a": [torch.zeros(1), 2, "three"], "c": {"d": 4.0}}
    for name in ("one", "two"):
        save(state, tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_a_writing_that_fails_leaves_the_old_file(function, tmp_path, monkeypatch):
    path = tmp_path / "state"
    save({"step": 1}, path)

    def no_space(*_):
        raise OSError("no space left")

    monkeypatch.setattr(checkpoints.os, function, no_space)
    with pytest.raises(OSError, match="no space left"):
        save({"step": 2}, path)
    assert load(path) == {"step": 1} and list(tmp_path.iterdir()) == [path]


def test_the_new_file_is_on_disk_before_it_takes_the_name(tmp_path, monkeypatch):
    calls, path = [], tmp_path / "state"
    for name in ("fsync", "replace"):
        true = getattr(os, name)
        monkeypatch.setattr(
            checkpoints.os,
            name,
            lambda *a, name=name, true=true: (calls.append((name, path.exists())), true(*a)),
        )
    save({}, path)
    assert calls == [("fsync", False), ("replace", False)] and path.exists()


def test_a_saved_and_reloaded_network_gives_identical_samples(sde, tmp_path):
    a, b = (ResidualScore(MLP(2, width=8), sde, torch.randn(50, 2)) for _ in range(2))

    def draw(score):
        return sample(score, sde, (5, 2), n_steps=10, generator=torch.Generator().manual_seed(0))

    assert not torch.equal(draw(a), draw(b))
    save(a.state_dict(), tmp_path / "score")
    b.load_state_dict(load(tmp_path / "score"))
    assert torch.equal(draw(a), draw(b))


# Runs that are interrupted


def adam(net):
    return torch.optim.Adam(net.parameters(), lr=1e-2, betas=(0.9, 0.99), fused=True)


def sgd(net):
    return torch.optim.SGD(net.parameters(), lr=1e-3, momentum=0.9)


def muon_and_adam(net):
    hidden = [p for p in net.parameters() if p.ndim == 2]
    rest = [p for p in net.parameters() if p.ndim != 2]
    return [torch.optim.Muon(hidden, lr=0.02), torch.optim.AdamW(rest, lr=3e-3, amsgrad=True)]


def linear(optimizer):
    return torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, 40)


def one_cycle(optimizer):
    return torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 0.01, total_steps=41, cycle_momentum=False
    )


def in_sequence(optimizer):
    warm = torch.optim.lr_scheduler.LinearLR(optimizer, 0.1, 1.0, 5)
    return torch.optim.lr_scheduler.SequentialLR(
        optimizer, [warm, torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 35)], [5]
    )


RECIPES = {
    "adam": (adam, linear, 0.0),
    "adam, averaged": (adam, None, 0.9),
    "sgd": (sgd, in_sequence, 0.5),
    "muon and adam": (muon_and_adam, linear, 0.9),
    "muon and adam, one cycle": (muon_and_adam, one_cycle, 0.0),
}


class Stopped(Exception):
    pass


def run(path, recipe, stop=None, every=7, n_steps=40, make_sources=None, settings=()):
    """A small training that draws from the default generator, a generator of its own and a Sobol
    sequence.

    ``stop`` interrupts it at the loss of that step, as a power cut would.
    """
    torch.manual_seed(0)
    make, make_schedule, ema_decay = recipe
    net = MLP(2, width=8, depth=2)
    optimizers = make(net)
    optimizers = optimizers if isinstance(optimizers, list) else [optimizers]
    schedules = [make_schedule(optimizer) for optimizer in optimizers] if make_schedule else None
    generator, cube = torch.Generator().manual_seed(1), SobolEngine(2, scramble=True, seed=2)
    calls = []

    def loss(net):
        calls.append(None)
        if len(calls) == stop:
            raise Stopped
        x = torch.randn(4, 2) + torch.randn(4, 2, generator=generator) + cube.draw(4)
        return (net(x, torch.rand(4)) - x.sin()).square().mean()

    sources = (generator, cube) if make_sources is None else make_sources(generator, cube)
    checkpoint = Checkpoint(path, every, sources, dict(settings)) if path else None
    history = fit(
        net, loss, n_steps, optimizers, schedules, ema_decay, progress=False, checkpoint=checkpoint
    )
    return (
        history,
        net.state_dict(),
        torch.rand(3),
        torch.rand(3, generator=generator),
        cube.draw(3),
    )


@functools.cache
def uninterrupted(name):
    return run(None, RECIPES[name])


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("stops", [[3], [8], [20], [25, 17], [40], [41]], ids=str)
def test_interrupted_and_resumed_training_ends_bitwise_alike(name, stops, tmp_path):
    # The draws after training agree too, so what follows a resumed training is as it would have
    # been
    for stop in stops:
        try:
            run(tmp_path / "run", RECIPES[name], stop)
        except Stopped:
            pass
    assert same(run(tmp_path / "run", RECIPES[name]), uninterrupted(name))


def test_a_finished_run_is_read_and_not_repeated(tmp_path):
    run(tmp_path / "run", RECIPES["adam, averaged"])
    assert same(
        run(tmp_path / "run", RECIPES["adam, averaged"], stop=1), uninterrupted("adam, averaged")
    )


@pytest.mark.parametrize(
    "forget", ["a source", "the default generator", "an optimizer", "the average"]
)
def test_each_part_of_the_state_is_needed(forget, tmp_path, monkeypatch):
    # The comparison above can fail: without any one part the resumed run ends elsewhere
    name = "muon and adam"
    sources = (lambda g, c: (c,)) if forget == "a source" else None
    with pytest.raises(Stopped):
        run(tmp_path / "run", RECIPES[name], stop=20, make_sources=sources)
    if forget == "the default generator":
        monkeypatch.setattr(torch, "set_rng_state", lambda state: None)
    if forget == "an optimizer":
        monkeypatch.setattr(torch.optim.Muon, "load_state_dict", lambda self, state: None)
    if forget == "the average":
        monkeypatch.setattr(
            torch.optim.swa_utils.AveragedModel, "load_state_dict", lambda self, state: None
        )
    assert not same(run(tmp_path / "run", RECIPES[name], make_sources=sources), uninterrupted(name))


@pytest.mark.parametrize(
    "change, message",
    [
        (
            {"n_steps": 41},
            "run in .* must be {'n_steps': 41, 'ema_decay': 0.0, .*}, got {'n_steps': 40",
        ),
        (
            {"recipe": RECIPES["adam, averaged"]},
            "run in .* must be {'n_steps': 40, 'ema_decay': 0.9, ",
        ),
        (
            {"settings": {"rate": 0.02}},
            "run in .* must be .*'settings': {'rate': 0.02}}, got .*'settings': {}}",
        ),
        (
            {"recipe": (sgd, linear, 0.0)},
            r"parts in .* must be \['MLP', 'SGD', 'LinearLR'\], got \['MLP', 'Adam', 'LinearLR'\]",
        ),
        ({"make_sources": lambda g, c: (g,)}, "number of sources in .* must be 1, got 2"),
    ],
    ids=["steps", "average", "settings", "optimizer", "sources"],
)
def test_another_runs_file_is_refused(change, message, tmp_path):
    run(tmp_path / "run", RECIPES["adam"])
    with pytest.raises(ValueError, match=message):
        run(tmp_path / "run", **{"recipe": RECIPES["adam"], **change})
    with pytest.raises(ValueError, match="every must be at least 1, got 0"):
        Checkpoint("run", every=0)


def test_the_same_settings_are_accepted(tmp_path):
    settings = {"rate": 0.02, "widths": [8, 16], "double": False}
    first, second = (run(tmp_path / "run", RECIPES["adam"], settings=settings) for _ in range(2))
    assert same(first, second)


def test_a_loss_that_stops_being_finite_spares_the_last_good_file(tmp_path):
    net, calls = MLP(2, width=8, depth=2), []

    def loss(net):
        calls.append(None)
        value = net(torch.randn(4, 2), torch.rand(4)).square().mean()
        return value * math.nan if len(calls) == 8 else value

    with pytest.raises(FloatingPointError, match="before step 10"):
        fit(net, loss, 20, progress=False, checkpoint=Checkpoint(tmp_path / "run", 5))
    saved = load(tmp_path / "run")
    assert len(saved["history"]) == 5 and saved["history"].isfinite().all()
    assert all(weight.isfinite().all() for weight in saved["parts"][0][1].values())


def test_a_source_goes_back_to_where_it_was(tmp_path):
    # At its start too, to which a Sobol engine cannot be forwarded
    checkpoint = Checkpoint(tmp_path / "run", sources=[SobolEngine(2, scramble=True, seed=2)])
    (cube,), first = checkpoint.sources, []
    for n_drawn in (0, 3):
        cube.reset()
        if n_drawn:
            cube.draw(n_drawn)
        checkpoint.write({}, [], [torch.zeros(())])
        first.append(cube.draw(4))
        checkpoint.read({}, [])
        assert torch.equal(cube.draw(4), first[-1])
    assert not torch.equal(*first)


KILLED = """
import os, sys
sys.path.insert(0, {tests!r})
import torch
torch.set_default_dtype(torch.float64)
import test_checkpoints as t
from sdelib import checkpoints
write = checkpoints.Checkpoint.write
def write_and_die(self, run, parts, history):
    write(self, run, parts, history)
    if len(history) >= 21:
        os.kill(os.getpid(), 9)  # nothing is tidied up
checkpoints.Checkpoint.write = write_and_die
t.run({path!r}, t.RECIPES["muon and adam"])
"""


def test_a_killed_process_is_resumed_by_another(tmp_path):
    code = KILLED.format(tests=str(Path(__file__).parent), path=str(tmp_path / "run"))
    process = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=120
    )
    assert process.returncode == -9, process.stderr
    assert len(load(tmp_path / "run")["history"]) == 21
    assert same(run(tmp_path / "run", RECIPES["muon and adam"]), uninterrupted("muon and adam"))


def test_the_dsm_loss_resumes(target, tmp_path, device):
    # What a chapter does: minibatches and times from one generator
    def train(path, stop=None):
        torch.manual_seed(3)
        sde, generator, points = (
            VPSDE(),
            torch.Generator(device).manual_seed(4),
            target.sample(64).to(device),
        )
        net, calls = ResidualScore(MLP(2, width=8), sde, points.cpu()).to(device), []

        def loss(score):
            calls.append(None)
            if len(calls) == stop:
                raise Stopped
            batch = points[torch.randint(64, (8,), generator=generator, device=device)]
            return dsm_loss(score, sde, batch, generator=generator)

        history = fit(net, loss, 12, progress=False, checkpoint=Checkpoint(path, 5, [generator]))
        return history, net.state_dict()

    with pytest.raises(Stopped):
        train(tmp_path / "cut", stop=9)
    assert same(train(tmp_path / "cut"), train(tmp_path / "whole"))
