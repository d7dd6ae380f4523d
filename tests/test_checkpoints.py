"""An interrupted run ends as an uninterrupted one, and its file is whole at every moment."""

import copy
import functools
import math
import os
import pickle
import random
import signal
import subprocess
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn
from torch.optim import lr_scheduler
from torch.quasirandom import SobolEngine

from sdelib import training
from sdelib.training import Checkpoint, falling, fit


class Net(nn.Module):
    """Three layers, and the data's mean as what does not change."""

    def __init__(self, mean=0.25):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 2)
        )
        self.register_buffer("mean", torch.full((2,), mean))

    def forward(self, x):
        return self.layers(x - self.mean)


def adam(net):
    return [torch.optim.Adam(net.parameters(), lr=1e-2, betas=(0.9, 0.99), fused=True)]


def sgd(net):
    return [torch.optim.SGD(net.parameters(), lr=1e-3, momentum=0.9)]


def muon_and_adam(net):
    hidden = [p for p in net.parameters() if p.ndim == 2]
    rest = [p for p in net.parameters() if p.ndim != 2]
    return [torch.optim.Muon(hidden, lr=0.02), torch.optim.AdamW(rest, lr=3e-3, amsgrad=True)]


def linear(optimizer, n_steps):
    return falling(optimizer, n_steps)[0]


def one_cycle(optimizer, n_steps):
    return lr_scheduler.OneCycleLR(
        optimizer, 0.01, total_steps=n_steps + 1, cycle_momentum="momentum" in optimizer.defaults
    )


def in_sequence(optimizer, n_steps):
    warm = lr_scheduler.LinearLR(optimizer, 0.1, 1.0, 5)
    cosine = lr_scheduler.CosineAnnealingLR(optimizer, n_steps - 5)
    return lr_scheduler.SequentialLR(optimizer, [warm, cosine], [5])


def in_stairs(optimizer, n_steps):
    return lr_scheduler.MultiStepLR(optimizer, [10, 30], 0.5)


RECIPES = {
    "adam": (adam, linear, 0.0),
    "adam, averaged": (adam, in_stairs, 0.9),
    "sgd": (sgd, in_sequence, 0.5),
    "sgd, one cycle": (sgd, one_cycle, 0.5),
    "muon and adam": (muon_and_adam, linear, 0.9),
    "default": (None, None, 0.0),
}


def run(
    path=None,
    recipe="muon and adam",
    stop=None,
    every=7,
    n_steps=40,
    sources=lambda generator, cube: (generator, cube),
    settings=(),
    net=None,
    **other,
):
    """A small training that draws from the default generator, one of its own and a Sobol engine.

    ``stop`` interrupts it at the loss of that step, as a power cut would.
    """
    torch.manual_seed(0)
    make, make_schedule, ema_decay = RECIPES[recipe]
    fresh = Net(**other)
    net = fresh if net is None else net
    optimizers = make(net) if make else None
    schedules = [make_schedule(o, n_steps) for o in optimizers] if make else None
    generator, cube = torch.Generator().manual_seed(1), SobolEngine(2, scramble=True, seed=2)
    calls = []

    def loss(net):
        calls.append(None)
        if len(calls) == stop:
            raise KeyboardInterrupt
        x = torch.randn(4, 2) + torch.randn(4, 2, generator=generator) + cube.draw(4)
        return (net(x) - x.sin()).square().mean()

    checkpoint = Checkpoint(path, every, sources(generator, cube), dict(settings)) if path else None
    history = fit(net, loss, n_steps, optimizers, schedules, ema_decay, False, checkpoint)
    # the draws after training too: what follows a resumed training is as it would have been
    after = torch.rand(3), torch.rand(3, generator=generator), cube.draw(3)
    return [history, *net.state_dict().values(), *after]


def cut(path, *stops, **how):
    for stop in stops:
        with pytest.raises(KeyboardInterrupt):
            run(path, stop=stop, **how)


def same(a, b):
    return all(map(torch.equal, a, b)) and len(a) == len(b)


@functools.cache
def uninterrupted(recipe="muon and adam", n_steps=40):
    return run(recipe=recipe, n_steps=n_steps)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.safetensors"


# Going on


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("stops", [[3], [20], [25, 17], [40]], ids=str)
def test_interrupted_and_resumed_training_ends_bitwise_alike(recipe, stops, path):
    cut(path, *stops, recipe=recipe)
    assert same(run(path, recipe), uninterrupted(recipe))


def test_a_finished_run_is_read_and_not_repeated(path):
    run(path)
    assert same(run(path, stop=1), uninterrupted())


def test_the_same_network_goes_on_after_an_interrupt_at_the_keyboard(path):
    # as in a notebook, where only the cell of `fit` is repeated
    net = Net()  # of the same seed as in `run`
    cut(path, 20, net=net)
    assert same(run(path, net=net), uninterrupted())


@pytest.mark.parametrize(
    "forget", ["a source", "the default generator", "an optimizer", "the average"]
)
def test_each_part_of_the_state_is_needed(forget, path, monkeypatch):
    # The comparison above can fail: without any one part the resumed run ends elsewhere
    how = {"sources": lambda generator, cube: (cube,)} if forget == "a source" else {}
    cut(path, 20, **how)
    nothing = lambda *args: None
    if forget == "the default generator":
        monkeypatch.setattr(torch, "set_rng_state", nothing)
    if forget == "an optimizer":
        monkeypatch.setattr(torch.optim.Muon, "load_state_dict", nothing)
    if forget == "the average":
        monkeypatch.setattr(training.AveragedModel, "load_state_dict", nothing)
    assert not same(run(path, **how), uninterrupted())


@pytest.mark.parametrize("stop", [None, 20])
def test_a_run_of_constant_rate_may_be_prolonged(stop, path, monkeypatch):
    monkeypatch.setitem(RECIPES, "constant", (sgd, lambda o, n: lr_scheduler.ConstantLR(o, 1), 0.9))
    whole = run(recipe="constant", n_steps=60)
    run(path, "constant") if stop is None else cut(path, stop, recipe="constant")
    assert same(run(path, "constant", n_steps=60), whole)


def test_a_prolonged_run_follows_the_schedule_now_given(path):
    # SGD on a loss of slope 1 sums the rates: 1, 3/4, 1/2, 1/4 of the first run, then those of a
    # fall over 8 steps from its step 4 on: 4/8, 3/8, 2/8, 1/8
    def train(n_steps):
        net = nn.ParameterList([torch.zeros(())])
        optimizer = torch.optim.SGD(net.parameters(), lr=1.0)
        schedule = falling(optimizer, n_steps)
        fit(net, lambda net: net[0], n_steps, optimizer, schedule, 0, False, Checkpoint(path))
        return net[0].item()

    assert train(4) == -2.5
    assert train(8) == -2.5 - 10 / 8
    with pytest.raises(
        ValueError,
        match=r"n_steps must be at least the 8 in .*run, got 7".replace("run", "run.safetensors"),
    ):
        train(7)


def test_a_rate_now_given_is_used(path):
    def train(rate, n_steps):
        net = nn.ParameterList([torch.zeros(())])
        optimizer = torch.optim.SGD(net.parameters(), lr=rate)
        fit(net, lambda net: net[0], n_steps, optimizer, None, 0, False, Checkpoint(path))
        return net[0].item()

    assert train(1.0, 2) == -2 and train(10.0, 3) == -12


def test_a_resumed_run_warns_of_nothing_and_its_bar_begins_where_it_was(path, capsys):
    def train(n_steps):
        net = nn.ParameterList([torch.zeros(())])
        optimizer = torch.optim.SGD(net.parameters(), lr=1.0)
        schedule = falling(optimizer, n_steps)
        fit(net, lambda net: net[0], n_steps, optimizer, schedule, 0, True, Checkpoint(path))

    train(4)
    capsys.readouterr()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train(8)
    shown = capsys.readouterr().err
    assert "4/8" in shown.split("\r")[1] and "8/8" in shown.split("\r")[-1]


def test_a_chain_of_schedules_goes_on(path):
    def train(stop=None):
        net, calls = nn.ParameterList([torch.zeros(())]), []
        optimizer = torch.optim.SGD(net.parameters(), lr=1.0)
        parts = [lr_scheduler.ExponentialLR(optimizer, 0.5), falling(optimizer, 4)[0]]

        def loss(net):
            calls.append(None)
            if len(calls) == stop:
                raise KeyboardInterrupt
            return net[0]

        schedule, file = lr_scheduler.ChainedScheduler(parts), Checkpoint(path, 1)
        fit(net, loss, 4, optimizer, schedule, 0, False, file)
        return net[0].item()

    with pytest.raises(KeyboardInterrupt):
        train(3)
    assert train() == -(1 + 3 / 8 + 2 / 16 + 1 / 32)


def test_sources_that_have_been_drawn_from_are_brought_back(path):
    # as in a notebook, where the generator and the cube are made in another cell than `fit` is
    generator, cube = torch.Generator().manual_seed(1), SobolEngine(2, scramble=True, seed=2)

    def train(stop=None):
        torch.manual_seed(0)
        net, calls = Net(), []

        def loss(net):
            calls.append(None)
            if len(calls) == stop:
                raise KeyboardInterrupt
            x = torch.randn(4, 2, generator=generator) + cube.draw(4)
            return (net(x) - x.sin()).square().mean()

        fit(net, loss, 12, progress=False, checkpoint=Checkpoint(path, 5, (generator, cube)))
        return [*net.state_dict().values()]

    begin = generator.get_state()
    whole = train()
    path.unlink()
    generator.set_state(begin)
    cube.reset()
    for stop in (3, 8):
        with pytest.raises(KeyboardInterrupt):
            train(stop)
    assert same(train(), whole)


def test_the_stream_of_the_gpu_is_kept_where_there_is_one(path, monkeypatch):
    # a stand-in for a GPU, with a stream of one byte
    states, there = [torch.tensor([3], dtype=torch.uint8)], [True]
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: there[0])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there[0])
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda: states[0])
    monkeypatch.setattr(torch.cuda, "set_rng_state", states.append)
    net = Net()
    with_gpu, without = Checkpoint(path), Checkpoint(path.with_name("without"))

    def begin(checkpoint, has):
        there[0] = has
        checkpoint.begin(training.Run(copy.deepcopy(net), [], [], 0.0, None), 1)

    begin(with_gpu, True)  # writes the first state
    begin(without, False)
    begin(with_gpu, False)
    begin(without, True)
    assert len(states) == 1
    begin(with_gpu, True)
    assert len(states) == 2 and torch.equal(*states)


# Whose file it is


@pytest.mark.parametrize(
    "change, message",
    [
        ({"mean": 0.5}, "network and data at the start in .*run.safetensors must be"),
        ({"recipe": "adam, averaged"}, "ema_decay in .*run.safetensors must be 0.9, got 0.0"),
        ({"recipe": "sgd"}, "ema_decay in .* must be 0.5"),
        ({"settings": {"rate": 0.02}}, r"settings in .* must be {\"rate\": 0.02}, got {}"),
        ({"sources": lambda g, c: [g]}, "sources in .* must be Generator, got Generator, SobolEng"),
        ({"recipe": "default"}, None),
    ],
    ids=["data", "average", "optimizer", "settings", "sources", "the same"],
)
def test_another_runs_file_is_refused(change, message, path):
    run(path, "adam")
    if message is None:  # Adam of the same six tensors
        run(path, "default")
        return
    with pytest.raises(ValueError, match=message):
        run(path, **{"recipe": "adam", **change})


def test_another_optimizer_is_refused(path, monkeypatch):
    monkeypatch.setitem(RECIPES, "sgd", (sgd, linear, 0.0))
    run(path, "adam")
    with pytest.raises(ValueError, match=r"optimizers in .* must be SGD of 6, got Adam of 6"):
        run(path, "sgd")


def test_another_initialisation_is_refused(path):
    cut(path, 20)
    torch.manual_seed(1)
    with pytest.raises(ValueError, match="network and data at the start"):
        run(path, net=Net())


def test_the_same_settings_are_accepted(path):
    settings = {"rate": math.nan, "widths": (8, 16), "double": False, "of": {"a": None}}
    first, second = (run(path, settings=settings) for _ in range(2))
    assert same(first, second)
    assert same(run(path, settings=[*settings.items()][::-1]), first)  # in whatever order


def test_a_schedule_that_has_made_steps_is_refused(path):
    net = Net()
    (optimizer,) = sgd(net)
    schedule = falling(optimizer, 10)
    go = lambda n: fit(
        net,
        lambda net: net(torch.ones(1, 2)).sum(),
        n,
        optimizer,
        schedule,
        0,
        False,
        Checkpoint(path),
    )
    go(5)
    with pytest.raises(
        ValueError, match="schedule must be new, to go on with a run, got one at st"
    ):
        go(10)


# What lies in the file


@pytest.mark.parametrize("recipe", ["adam", "adam, averaged"])
def test_the_weights_are_read_by_safetensors(recipe, path):
    torch.manual_seed(0)
    trained, read = Net(), Net()
    run(path, recipe, net=trained)
    result = read.load_state_dict(safetensors.torch.load_file(path), strict=False)
    assert not result.missing_keys
    assert all(name.startswith("run/") for name in result.unexpected_keys)
    assert same([*trained.state_dict().values()], [*read.state_dict().values()])


def test_tied_weights_are_kept_and_not_untied(path):
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    net[1].weight = net[0].weight
    loss = lambda net: net(torch.ones(1, 3)).square().sum()
    fit(net, loss, 3, progress=False, checkpoint=Checkpoint(path))
    before = net[1].weight.clone()
    fit(net, loss, 3, progress=False, checkpoint=Checkpoint(path))
    assert net[1].weight is net[0].weight and torch.equal(net[1].weight, before)
    assert torch.equal(safetensors.torch.load_file(path)["1.weight"], before)


def test_the_same_run_is_written_byte_for_byte(tmp_path):
    for name in ("one", "two"):
        run(tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_the_file_is_written_at_the_start_now_and_then_and_at_the_end(path, monkeypatch):
    written = []
    monkeypatch.setattr(Checkpoint, "write", lambda self, run: written.append(len(run.history)))
    run(path, every=7, n_steps=20)
    assert written == [0, 7, 14, 20]
    assert Checkpoint(path).every == 1000
    written.clear()
    run(path, every=1, n_steps=2)
    assert written == [0, 1, 2]


def test_weights_of_another_memory_format_are_kept(path):
    net = nn.Conv2d(2, 2, 2).to(memory_format=torch.channels_last)
    loss = lambda net: net(torch.ones(1, 2, 2, 2)).sum()
    fit(net, loss, 1, progress=False, checkpoint=Checkpoint(path))
    assert torch.equal(safetensors.torch.load_file(path)["weight"], net.weight)


def test_a_checkpoint_shows_what_it_was_given(path):
    shown = f"Checkpoint(path={path!r}, every=1000, sources=[], settings={{}})"
    assert repr(Checkpoint(path)) == shown
    with pytest.raises(TypeError):
        Checkpoint(path, 1, (), {}, path)


def test_a_loss_that_stops_being_finite_spares_the_last_good_file(path):
    net, calls = Net(), []

    def loss(net):
        calls.append(None)
        value = net(torch.randn(4, 2)).square().mean()
        return value * math.nan if len(calls) == 8 else value

    with pytest.raises(FloatingPointError, match="before step 10"):
        fit(net, loss, 20, progress=False, checkpoint=Checkpoint(path, 5))
    assert all(value.isfinite().all() for value in safetensors.torch.load_file(path).values())


class Bomb:
    def __reduce__(self):
        return os.system, ("touch executed",)


def truncated(data):
    return data[: len(data) // 2]


def flipped(data):
    return data[:-5] + bytes([data[-5] ^ 1]) + data[-4:]


@pytest.mark.parametrize(
    "damage",
    [
        truncated,
        flipped,
        lambda data: data[:4],
        lambda data: b"",
        lambda data: pickle.dumps(Bomb()),
        lambda data: safetensors.torch.save({"weight": torch.zeros(2)}),
        lambda data: safetensors.torch.save({"weight": torch.zeros(2)}, {"run": "3"}),
        lambda data: data.replace(b"layers", b"player"),
    ],
    ids=["half", "a bit", "header", "empty", "pickle", "weights", "other", "names"],
)
def test_files_damaged_or_of_others_are_refused_by_name_and_none_is_executed(
    damage, path, monkeypatch
):
    monkeypatch.chdir(path.parent)
    run(path)
    path.write_bytes(damage(path.read_bytes()))
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"path must be a whole file .* got .*run\.safetensors: "):
        run(path)
    assert path.read_bytes() == before and not Path("executed").exists()


def test_a_file_with_one_bit_flipped_is_refused_wherever_it_lies(path):
    run(path)
    data, draws = path.read_bytes(), random.Random(0)
    header = 8 + int.from_bytes(data[:8], "little")
    places = [draws.randrange(8 * header) for _ in range(60)]
    for place in places + [draws.randrange(8 * header, 8 * len(data)) for _ in range(60)]:
        damaged = bytearray(data)
        damaged[place // 8] ^= 1 << place % 8
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="path must be a whole file"):
            Checkpoint(path)._read()
    path.write_bytes(data)
    Checkpoint(path)._read()


# What is noticed before the first step


def never(net):
    raise AssertionError("a step was made")


@pytest.mark.parametrize(
    "error, message, make",
    [
        (ValueError, "every must be at least 1, got 0", lambda p: Checkpoint(p, 0)),
        (TypeError, "every must be an integer, got float", lambda p: Checkpoint(p, 1.5)),
        (TypeError, "path must be a path, got int", lambda p: Checkpoint(3)),
        (
            ValueError,
            "path must be in a folder that exists, got .*no",
            lambda p: Checkpoint(p / "no/x"),
        ),
        (ValueError, "path must be a file, not a folder", lambda p: Checkpoint(p.parent)),
        (TypeError, "sources must be .* got int", lambda p: Checkpoint(p, sources=[1])),
        (
            TypeError,
            "sources must be .* got Generator",
            lambda p: Checkpoint(p, sources=np.random.default_rng()),
        ),
        (
            TypeError,
            "settings must be JSON .*int64",
            lambda p: Checkpoint(p, settings={"a": np.int64(3)}),
        ),
        (
            TypeError,
            "settings must be JSON .*dtype",
            lambda p: Checkpoint(p, settings={"a": torch.float32}),
        ),
        (
            TypeError,
            "settings must be JSON .*not supported between",
            lambda p: Checkpoint(p, settings={"a": 3, 1: 2}),
        ),
        (
            TypeError,
            "settings must be a dictionary, got list",
            lambda p: Checkpoint(p, settings=[3]),
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_kept_is_named_at_once(error, message, make, path):
    with pytest.raises(error, match=message):
        make(path)


@pytest.mark.parametrize(
    "buffer, message",
    [
        (torch.zeros(2, dtype=torch.complex128), "odd must be a dense tensor .* got torch.strided"),
        (torch.zeros(2).to_sparse(), "odd must be a dense tensor .* got torch.sparse_coo"),
    ],
)
def test_tensors_that_cannot_be_kept_are_named_before_the_first_step(buffer, message, path):
    net = Net()
    net.register_buffer("odd", buffer)
    with pytest.raises(TypeError, match=message):
        fit(net, never, 5, progress=False, checkpoint=Checkpoint(path))
    assert not list(path.parent.iterdir())


def test_a_state_that_is_no_tensor_is_named_before_the_first_step(path):
    class Odd(Net):
        def get_extra_state(self):
            return {"a": 1}

        def set_extra_state(self, state):
            pass

    with pytest.raises(
        TypeError, match="_extra_state must be a dense tensor .* got <class 'dict'>"
    ):
        fit(Odd(), never, 5, progress=False, checkpoint=Checkpoint(path))


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_is_not_writable_is_noticed_before_the_first_step(path):
    path.parent.chmod(0o500)
    with pytest.raises(PermissionError, match="run.safetensors"):
        fit(Net(), never, 5, progress=False, checkpoint=Checkpoint(path))


# How it is written


def test_a_generator_needs_no_list_and_home_no_name(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    run("~/run", sources=lambda generator, cube: generator)
    assert [file.name for file in tmp_path.iterdir()] == ["run"]


def test_a_link_is_followed(tmp_path):
    (tmp_path / "scratch").mkdir()
    link, target = tmp_path / "run", tmp_path / "scratch" / "run"
    link.symlink_to(target)
    cut(link, 20)
    assert link.is_symlink() and target.is_file()
    assert same(run(link), uninterrupted()) and link.is_symlink()


@pytest.mark.skipif(os.name == "nt", reason="this system has other permissions")
def test_who_may_read_and_write_the_file_stays_as_it_was_set(path):
    cut(path, 20)
    path.chmod(0o620)
    run(path)
    assert path.stat().st_mode & 0o777 == 0o620


@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_a_writing_that_fails_leaves_the_old_file(function, path, monkeypatch):
    cut(path, 20)
    before = path.read_bytes()

    def no_space(*_):
        raise OSError("no space left")

    monkeypatch.setattr(os, function, no_space)
    with pytest.raises(OSError, match="no space left"):
        run(path)
    assert path.read_bytes() == before and list(path.parent.iterdir()) == [path]
    with pytest.raises(OSError, match="no space left"):  # before the first step of a new run
        fit(Net(), never, 5, progress=False, checkpoint=Checkpoint(path.with_name("new")))


@pytest.mark.skipif(os.name == "nt", reason="this system has no such limit")
def test_a_disk_that_fills_in_the_midst_of_writing_leaves_the_old_file(path):
    import resource

    cut(path, 20)
    before, limits = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            run(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert path.read_bytes() == before and list(path.parent.iterdir()) == [path]
    assert same(run(path), uninterrupted())


def test_a_write_takes_time_in_proportion_to_the_history(path):
    # 10 times the losses take about 10 times as long on a processor; a square would be 100 times
    def seconds(n):
        net = nn.ParameterList([torch.zeros(())])
        progress = training.Run(net, [], [], 0.0, None, [torch.zeros(())] * n)
        checkpoint, taken = Checkpoint(path), []
        training._STARTS[net] = {checkpoint._file: ""}
        for _ in range(3):
            begun = time.process_time()
            checkpoint.write(progress)
            taken.append(time.process_time() - begun)
        return min(taken), path.stat().st_size

    (short, small), (long, large) = seconds(10_000), seconds(100_000)
    assert long < 40 * short and abs(large - small - 90_000 * 8) < 64  # the header is padded


def test_the_bytes_are_on_disk_before_the_file_has_its_name(path, monkeypatch):
    seen = []
    monkeypatch.setattr(os, "fsync", lambda f: seen.append((os.fstat(f).st_size, path.exists())))
    training._replace(path, b"few bytes")
    assert seen == [(9, False)]


def test_what_killed_writings_left_is_removed_when_it_is_old(path):
    old, new, foreign = (
        path.parent / n for n in (f".{path.name}.a.tmp", f".{path.name}.b.tmp", "c.tmp")
    )
    for file in (old, new, foreign):
        file.touch()
    for file in (old, foreign):
        os.utime(file, (time.time() - 1e5,) * 2)
    run(path)
    assert sorted(path.parent.iterdir()) == sorted([path, new, foreign])


def steps_in(path):
    """How many steps a reader finds, who would fail at less than a whole file."""
    return len(safetensors.torch.load(path.read_bytes())["run/history"])


CHILD = """
import sys
sys.path.insert(0, {tests!r})
import torch
torch.set_default_dtype(torch.float64)
import test_checkpoints as t
t.run({path!r}, every=1, n_steps=400)
"""


def test_two_writers_and_a_reader_meet_whole_files_and_a_killed_one_is_resumed(path):
    # Both write after every step, so most of the time goes into that, and the killed one tidies
    # nothing up
    code = CHILD.format(tests=str(Path(__file__).parent), path=str(path))
    command = [sys.executable, "-W", "ignore", "-c", code]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, encoding="utf-8")
    while not path.exists():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)
    stop = threading.Event()

    def read():
        seen = set()
        while not stop.is_set():
            seen.add(steps_in(path))
        return seen

    with ThreadPoolExecutor() as pool:
        reading = pool.submit(read)
        cut(path, 30, every=1, n_steps=400)
        stop.set()
    assert process.poll() is None, process.stderr.read()
    process.kill()
    process.communicate()
    assert len(reading.result()) > 5 and 0 < steps_in(path) < 400
    assert same(run(path, n_steps=400), uninterrupted(n_steps=400))


def test_two_threads_write_under_names_of_their_own(path):
    states = [bytes([k]) * 100_000 for k in range(2)]
    failed = []

    def write(data):
        try:
            for _ in range(100):
                training._replace(path, data)
        except OSError as error:
            failed.append(error)

    threads = [threading.Thread(target=write, args=(data,)) for data in states]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert not path.exists() or path.read_bytes() in states
    assert not failed and list(path.parent.iterdir()) == [path]


# Killed at any moment


def killed(action, after_lines=None, after_bytes=None):
    """Whether ``action`` in a fork of this process was killed.

    At a line of the module, by its count, or by the system, when a file has grown to so many bytes.
    """
    pid = os.fork()
    if pid:
        return os.WIFSIGNALED(os.waitpid(pid, 0)[1])
    try:
        if after_bytes is not None:
            import resource  # not on Windows

            signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
            resource.setrlimit(resource.RLIMIT_FSIZE, (after_bytes, resource.RLIM_INFINITY))
        left = [after_lines or math.inf]

        def follow(frame, event, _):
            if frame.f_code.co_filename != training.__file__:
                return None
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return follow

        sys.settrace(follow)
        action()
        os._exit(0)
    finally:
        os._exit(1)


@pytest.fixture
def one_thread():
    """A fork of a process with more may wait for ever, for the threads that it has not got."""
    n = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(n)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_run_killed_twenty_times_loses_no_step_on_disk_and_ends_byte_for_byte_alike(
    path, one_thread
):
    # Ten times at a line, and each time again in the midst of the next writing
    draws, how, whole = random.Random(0), {"every": 1, "n_steps": 40}, path.with_name("whole")
    run(whole, **how)
    size, done = whole.stat().st_size, 0
    for _ in range(10):
        assert killed(lambda: run(path, **how), after_lines=draws.randrange(300, 3000))
        assert killed(lambda: run(path, **how), after_bytes=draws.randrange(size // 2))
        found = steps_in(path) if path.exists() else 0
        assert done <= found < 40
        done = found
    assert len(list(path.parent.glob(".*.tmp"))) >= 10  # what writings cut short have left
    run(path, **how)
    assert path.read_bytes() == whole.read_bytes() and done > 10


def test_what_a_run_of_another_file_has_made_of_the_network_is_its_start(tmp_path):
    # training before fine tuning, each with a file; then the first is prolonged
    def trained(first, second):
        torch.manual_seed(0)
        net = Net()
        for name, n_steps in (("first", first), ("second", second)):
            schedule = lambda o: lr_scheduler.ConstantLR(o, 1)
            optimizer = sgd(net)[0]
            loss = lambda net: net(torch.randn(4, 2)).square().mean()
            file = Checkpoint(tmp_path / name)
            fit(net, loss, n_steps, optimizer, schedule(optimizer), 0, False, file)
        return [p.detach().clone() for p in net.parameters()]

    whole = trained(6, 4)
    assert all(map(torch.equal, trained(6, 4), whole))
    with pytest.raises(ValueError, match="network and data at the start in .*second must be"):
        trained(30, 4)
