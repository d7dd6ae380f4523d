"""Two processes train as one does on the same batch, from the start and from the other's file."""

import os
import subprocess
import sys

import pytest
import torch
import train_digits
from safetensors.torch import load_file
from torch.testing import assert_close

OPTIONS = ["--steps", "8", "--batch", "8", "--width", "8", "--every", "4", "--double"]
# One start of two processes for both questions: most of the time here goes into importing torch
TWICE = """
import sys
import train_digits

train, runs = train_digits.train, sys.argv[1:]
error = train_digits.dsm_error

def of_half(net, sde, x0, *rest):
    # or each of the two might train on the whole batch, with the same numbers
    assert train_digits.distributed.get_world_size() == 2 and len(x0) == 4
    return error(net, sde, x0, *rest)

def train_each(args):
    for args.checkpoint in runs:
        args.weights = args.checkpoint + ".weights"
        train(args)

sys.argv[1:], train_digits.train, train_digits.dsm_error = {options}, train_each, of_half
train_digits.main()
"""
CAN_JOIN = torch.distributed.is_available() and torch.distributed.is_gloo_available()


def one_process(run):
    words = [*OPTIONS, "--checkpoint", str(run), "--weights", f"{run}.weights"]
    return train_digits.train(train_digits.options(words))


@pytest.mark.skipif(not CAN_JOIN, reason="this torch cannot join processes")
def test_two_processes_follow_the_trajectory_of_one(tmp_path, monkeypatch):
    (tmp_path / "twice.py").write_text(TWICE.format(options=OPTIONS), encoding="utf-8")
    alone = one_process(tmp_path / "alone")
    calls = []

    def stop_in_step_6(*args):
        calls.append(None)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return low_discrepancy(*args)

    low_discrepancy = train_digits.low_discrepancy
    monkeypatch.setattr(train_digits, "low_discrepancy", stop_in_step_6)
    n_threads = torch.get_num_threads()
    torch.set_num_threads(2)  # the two processes have one each, and know the data's variance again
    with pytest.raises(KeyboardInterrupt):
        one_process(tmp_path / "cut")
    torch.set_num_threads(n_threads)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    process = subprocess.run(
        [*command, "--nproc-per-node", "2", *(tmp_path / n for n in ("twice.py", "fresh", "cut"))],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(sys.path),
            "OMP_NUM_THREADS": "1",
            "CUDA_VISIBLE_DEVICES": "",
        },
        capture_output=True,
        encoding="utf-8",
        timeout=200,
    )
    assert process.returncode == 0, process.stderr
    for run in ("fresh", "cut"):
        # The same sums in another order, in double precision: the differences start near 1e-16 and
        # grow a little each step
        state, weights = load_file(tmp_path / run), load_file(tmp_path / f"{run}.weights")
        assert_close(state["run/history"], alone, rtol=1e-12, atol=0)
        # Adam divides by small gradients, which magnifies
        assert_close(weights, load_file(tmp_path / "alone.weights"), rtol=1e-6, atol=1e-9)
