"""Train a score of the digits on one device or on many, and go on where an interruption left it.

    python tools/train_digits.py                                       one process
    torchrun --standalone --nproc-per-node 8 tools/train_digits.py     eight processes, each with a
    GPU if there are GPUs

Every process holds the whole network, computes the gradient of its share of each batch, and the
shares are averaged before the step: the arithmetic is that of one process on the whole batch. Start
it again after an interruption, by the same command or with another number of processes, and it goes
on from the checkpoint; with more steps it goes on from the end.

The data are the training part of chapter 9 and the recipe is that chapter's, without its labels and
its mixture. Three lines turn the weights into a picture:

    score = ResidualScore(UNet(), VPSDE(), torch.zeros(2, 1, 8, 8)).eval()
    score.load_state_dict(safetensors.torch.load_file("digits-weights.safetensors"))
    plt.imshow(torch.hstack([*sample(score, VPSDE(), (12, 1, 8, 8), dpm_solver_2m, 30)[:, 0]]))
"""

import argparse
import os
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, distributed
from torch.nn.parallel import DistributedDataParallel

from sdelib.data import digits
from sdelib.learned import ResidualScore
from sdelib.networks import UNet
from sdelib.sde import VPSDE, randn_like
from sdelib.training import (
    Checkpoint,
    dsm_error,
    edm_weight,
    falling,
    fit,
    log_normal_times,
    low_discrepancy,
    muon_and_adam,
)


def options(words: list[str] | None = None) -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description="Train a score of the digits.")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=64, help="of all processes together")
    parser.add_argument("--rate", type=float, default=3e-3, help="of Adam")
    parser.add_argument("--rate-muon", type=float, default=0.02)
    parser.add_argument("--width", type=int, default=32, help="channels at full resolution")
    parser.add_argument("--checkpoint", default="digits-run.safetensors")
    parser.add_argument(
        "--every", type=int, default=100, help="steps between two writings of the checkpoint"
    )
    parser.add_argument("--weights", default="digits-weights.safetensors")
    parser.add_argument("--double", action="store_true", help="compute in double precision")
    return parser.parse_args(words)


def train(args: argparse.Namespace) -> Tensor:
    """Train by this process's share of the work; returns the loss of the whole batch at each
    step.
    """
    together = distributed.is_available() and distributed.is_initialized()
    rank, world = (distributed.get_rank(), distributed.get_world_size()) if together else (0, 1)
    device = torch.device(
        "cuda" if torch.cuda.is_available() else "cpu"
    )  # the current GPU, as main chose it
    if args.batch % world:
        raise ValueError(f"a batch of {args.batch} does not divide among {world} processes")

    torch.manual_seed(0)
    images, _ = digits(1197, 300, 300)[0]
    sde, net = VPSDE(), UNet(widths=(args.width, 2 * args.width))
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the data's variance rounds alike however many processes go on
    score = ResidualScore(net, sde, images).to(device)
    torch.set_num_threads(n_threads)
    # the same parameters, whose gradients are averaged over the processes as soon as they are known
    parallel = DistributedDataParallel(score, broadcast_buffers=False) if together else score
    generator = torch.Generator().manual_seed(1)

    def loss(_: torch.nn.Module) -> Tensor:
        # Every process draws the whole batch alike and keeps its share. Drawing costs little beside
        # the network, and all have the same random state at every step, so one checkpoint serves
        # any number of processes.
        x0 = images[torch.randint(len(images), (args.batch,), generator=generator)]
        t = log_normal_times(sde, low_discrepancy(x0, generator), centre=-0.9, spread=1.2)
        z = randn_like(x0, generator)
        x0, t, z = (whole[rank::world].to(device) for whole in (x0, t, z))
        weight = edm_weight(sde, t, score.variance) / score.variance
        return of_all((weight * dsm_error(parallel, sde, x0, t, z)).mean() / x0[0].numel(), world)

    optimizers = muon_and_adam(net, args.rate_muon, args.rate)
    schedules = falling(optimizers, args.steps)
    names = "rate", "rate_muon", "batch", "width", "double"
    settings = {name: getattr(args, name) for name in names}
    checkpoint = Checkpoint(args.checkpoint, args.every, [generator], settings)
    history = fit(
        score, loss, args.steps, optimizers, schedules, progress=rank == 0, checkpoint=checkpoint
    )
    if rank == 0:
        Path(args.weights).write_bytes(safetensors.torch.save(score.state_dict()))
    return history


def of_all(mine: Tensor, world: int) -> Tensor:
    """A scalar with the value of the mean over all processes, and the gradient of this one's
    alone.
    """
    if world == 1:
        return mine
    mean = mine.detach().clone()
    distributed.all_reduce(mean)
    return mine + (mean / world - mine.detach())


def main() -> None:
    """Join the other processes, if there are any, and train."""
    args = options()
    if args.double:
        torch.set_default_dtype(torch.float64)
    if distributed.is_available() and distributed.is_torchelastic_launched():
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    try:
        train(args)
    finally:
        if distributed.is_available() and distributed.is_initialized():
            distributed.destroy_process_group()


if __name__ == "__main__":
    main()
