"""Train a score of the digits on one device or on many, and go on where an interruption left it.

    python tools/train_digits.py                                       one process
    torchrun --standalone --nproc-per-node 8 tools/train_digits.py     eight processes, each with a
    GPU if there are GPUs

Every process holds the whole network, computes the gradient of its share of each batch, and the
shares are averaged before the step: the arithmetic is that of one process on the whole batch. Start
it again after an interruption, by the same command or with another number of processes, and it goes
on from the checkpoint.
"""

import argparse
import os

import torch
from torch import Tensor, distributed
from torch.nn.parallel import DistributedDataParallel

from sdelib.checkpoints import Checkpoint, save
from sdelib.data import digits
from sdelib.networks import ResidualScore, UNet
from sdelib.sde import VPSDE, randn_like
from sdelib.training import dsm_error, fit, low_discrepancy

T_MIN = 1e-3


def options(words: list[str] | None = None) -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description="Train a score of the digits.")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--batch", type=int, default=64, help="of all processes together")
    parser.add_argument("--rate", type=float, default=2e-3)
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
    ((images, _),) = digits(1440)
    sde = VPSDE()
    score = ResidualScore(UNet(widths=(args.width, 2 * args.width)), sde, images).to(device)
    # the same parameters, whose gradients are averaged over the processes as soon as they are known
    parallel = DistributedDataParallel(score, broadcast_buffers=False) if together else score
    generator = torch.Generator().manual_seed(1)

    def loss(_: torch.nn.Module) -> Tensor:
        # Every process draws the whole batch alike and keeps its share. Drawing costs little beside
        # the network, and all have the same random state at every step, so one checkpoint serves
        # any number of processes.
        x0 = images[torch.randint(len(images), (args.batch,), generator=generator)]
        t = T_MIN + (1 - T_MIN) * low_discrepancy(x0, generator)
        z = randn_like(x0, generator)
        x0, t, z = (whole[rank::world].to(device) for whole in (x0, t, z))
        return of_all(dsm_error(parallel, sde, x0, t, z).mean(), world)

    optimizer = torch.optim.Adam(score.parameters(), lr=args.rate, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, args.steps)
    settings = {name: getattr(args, name) for name in ("rate", "batch", "width", "double")}
    checkpoint = Checkpoint(args.checkpoint, args.every, [generator], settings)
    history = fit(
        score, loss, args.steps, optimizer, schedule, progress=rank == 0, checkpoint=checkpoint
    )
    if rank == 0:
        save({"weights": score.state_dict()}, args.weights)
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
