"""The scores that the three experiments learned, as shipped with the library: what a chapter
trains, without the training.

`make weights` trains them by the chapters' own code. Each function builds the chapter's network and
fills it; a network of another shape would be refused. The scores are for use and not for training:
in evaluation mode, without gradients of their weights, in torch's default precision on the CPU.
Move one elsewhere by ``.to``.
"""

from pathlib import Path

import torch
from torch import Tensor, nn

from .checkpoints import load
from .mixtures import GaussianMixture
from .networks import MLP, ResidualScore, UNet
from .residual import MixtureResidualScore
from .sde import VPSDE


def path(name: str) -> Path:
    """Where the weights of the experiment ``mixture``, ``smile`` or ``digits`` lie."""
    return Path(__file__).parent / "weights" / f"{name}.safetensors"


def mixture_score() -> ResidualScore:
    """The score of chapter 7: the mixture of two Gaussians under :class:`~sdelib.sde.VPSDE`, states
    of shape ``(B, 1)``.
    """
    net = MLP(1, width=32, n_features=4, scale=0.25)
    return _filled(ResidualScore(net, VPSDE(), torch.zeros(2, 1)), "mixture")


def smile_score() -> ResidualScore:
    """The score of chapter 8: the face in the plane under :class:`~sdelib.sde.VPSDE`, states of
    shape ``(B, 2)``, times from 1e-4.
    """
    sde = VPSDE()

    def gain(t: Tensor) -> Tensor:
        return sde.alpha(t) / sde.sigma(t)

    net = MLP(2, n_waves=64, wave_scale=1.5)
    return _filled(ResidualScore(net, sde, torch.zeros(2, 2), gain), "smile")


def digits_score() -> MixtureResidualScore:
    """The score of chapter 9: digits under :class:`~sdelib.sde.VPSDE`, states ``(B, 1, 8, 8)``;
    takes labels 0 to 9, and 10 for none.
    """
    blank = GaussianMixture(
        torch.full((10,), 0.1),
        torch.zeros(10, 64),
        torch.ones(10, 64),
        torch.eye(64).repeat(10, 1, 1),
    )
    net = UNet(n_hints=1, n_labels=10, scale=8.0)
    return _filled(MixtureResidualScore(net, VPSDE(), blank), "digits")


def _filled(score: nn.Module, name: str) -> nn.Module:
    score.load_state_dict(load(path(name))["weights"])
    return score.eval().requires_grad_(False)
