"""Two processes train as one does on the same batch, from the start and from the other's
checkpoint.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import train_digits
from torch.testing import assert_close

from sdelib import training
from sdelib.checkpoints import load

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

train_digits.dsm_error = of_half

def train_each(args):
    for args.checkpoint in runs:
        args.weights = args.checkpoint + ".weights"
        train(args)

sys.argv[1:], train_digits.train = {options}, train_each
train_digits.main()
"""


def one_process(run):
    words = [*OPTIONS, "--checkpoint", str(run), "--weights", f"{run}.weights"]
    return train_digits.train(train_digits.options(words))


CAN_JOIN = torch.distributed.is_available() and torch.distributed.is_gloo_available()


@pytest.mark.skipif(not CAN_JOIN, reason="this torch cannot join processes")
def test_two_processes_follow_the_trajectory_of_one(tmp_path, monkeypatch):
    (tmp_path / "twice.py").write_text(TWICE.format(options=OPTIONS))

    def stop_after_the_first_writing(*args):
        if (tmp_path / "cut").exists():
            raise KeyboardInterrupt
        return training.low_discrepancy(*args)

    alone = one_process(tmp_path / "alone")
    monkeypatch.setattr(train_digits, "low_discrepancy", stop_after_the_first_writing)
    with pytest.raises(KeyboardInterrupt):
        one_process(tmp_path / "cut")
    assert len(load(tmp_path / "cut")["history"]) == 4
    launch = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        tmp_path / "twice.py",
    ]
    process = subprocess.run(
        [*launch, tmp_path / "fresh", tmp_path / "cut"],
        env={
            **os.environ,
            "PYTHONPATH": str(Path(train_digits.__file__).parent),
            "OMP_NUM_THREADS": "1",
            "CUDA_VISIBLE_DEVICES": "",
        },
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert process.returncode == 0, process.stderr
    for run in ("fresh", "cut"):
        # The same sums in another order, in double precision: the differences start near 1e-16 and
        # grow a little each step
        assert_close(load(tmp_path / run)["history"], alone, rtol=1e-12, atol=0)
        weights, expected = load(tmp_path / f"{run}.weights"), load(tmp_path / "alone.weights")
        assert_close(
            weights, expected, rtol=1e-6, atol=1e-9
        )  # Adam divides by small gradients, which magnifies
