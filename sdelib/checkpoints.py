r"""Weights and unfinished runs on disk: nested states as one safetensors file, and the checkpoint
that :func:`~sdelib.training.fit` keeps.

A safetensors file holds named arrays and a header of text. Here the header holds the rest of the
state as JSON. Reading one executes nothing, unlike a pickle, so a file may come from anywhere.
Writing is atomic: whoever opens the path finds the old state or the new one, never half of one.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import safetensors
import safetensors.torch
import torch
from torch import Tensor
from torch.quasirandom import SobolEngine

from ._checks import require

Source = torch.Generator | SobolEngine
"""What a loss may draw from, besides torch's default generator."""


class Stateful(Protocol):
    """Networks, optimizers and schedules."""

    def state_dict(self) -> dict: ...

    def load_state_dict(self, state: dict) -> Any: ...


def save(state: Any, path: str | os.PathLike) -> None:
    """Write a nested state to ``path``, replacing what was there in one stroke.

    Args:
        state: Dictionaries (keyed by strings or integers), lists and tuples of tensors, numbers,
            strings and ``None``, as ``state_dict`` of any module or optimizer returns. Tensors that
            share memory are written one by one.

    Raises:
        TypeError: if anything else is found inside, as a value or a key; the message names its
            place.
    """
    tensors: dict[str, Tensor] = {}
    tree = _put_aside(state, "state", tensors)
    data = safetensors.torch.save(tensors, {"tree": json.dumps(tree)})
    path = Path(path)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(beside, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())  # or the name might reach the disk first
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def load(path: str | os.PathLike) -> Any:
    """The state that :func:`save` wrote to ``path``: equal in every value, type and bit, its
    tensors on the CPU.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is a safetensors file that :func:`save` did not write.
        safetensors.SafetensorError: if it is no safetensors file.
    """
    with safetensors.safe_open(path, "pt") as file:
        tree = (file.metadata() or {}).get("tree")
        require(tree is not None, "path", path, "a file written by save")
        tensors = {name: file.get_tensor(name) for name in file.keys()}
    return _put_back(json.loads(tree), tensors)


@dataclass(frozen=True)
class Checkpoint:
    """Where and how often a training run keeps its state; passed to :func:`~sdelib.training.fit`.

    A run that finds its own file goes on from there and ends as it would have without the
    interruption, bit for bit on the same machine. For that, start it by the same code: the file
    holds what training changes (weights, their average, optimizers, schedules, losses, random
    streams), and not what was made before it, such as the data.

    Every draw of the loss must come from torch's default generator (of the CPU, and of the current
    GPU) or from ``sources``; Python's and numpy's generators are not kept. Of several processes
    only the first one writes, and all read, so they should draw alike: see
    ``tools/train_digits.py``.

    Args:
        path: The file.
        every: Number of steps from one writing to the next; the end is written in any case.
        sources: The generators and Sobol engines that the loss draws from, always in the same
            order.
        settings: What tells this run from another, as JSON values: rate, batch size, width. A file
            with others is refused. Without it a changed rate would go unnoticed, as the optimizer's
            state brings the old one back.

    Raises:
        ValueError: if ``every < 1``.
    """

    path: str | os.PathLike
    every: int = 1000
    sources: Sequence[Source] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        require(self.every >= 1, "every", self.every, "at least 1")

    def write(self, run: dict, parts: Sequence[Stateful], history: list[Tensor]) -> None:
        """Save the state of the run so far.

        Args:
            run: Numbers that say which run it is; a file with others is refused by :meth:`read`.
            parts: Whatever changes during the run.
            history: The loss at each step so far.
        """
        together = (  # a torch built without it has no is_initialized
            torch.distributed.is_available() and torch.distributed.is_initialized()
        )
        if together and torch.distributed.get_rank():
            return
        gpu = torch.cuda.is_initialized()
        state = {
            "run": {**run, "settings": dict(self.settings)},
            "parts": [(type(part).__name__, part.state_dict()) for part in parts],
            "history": torch.stack(history),
            "cpu": torch.get_rng_state(),
            "gpu": torch.cuda.get_rng_state() if gpu else None,
            "sources": [
                source.get_state() if isinstance(source, torch.Generator) else source.num_generated
                for source in self.sources
            ],
        }
        save(state, self.path)

    def read(self, run: dict, parts: Sequence[Stateful]) -> list[Tensor]:
        """Put a saved run's state into its ``parts`` and random streams, and return its losses;
        none without a file.

        Raises:
            ValueError: if the file holds another run: other numbers or settings, other kinds of
                parts or another number of sources.
        """
        if not Path(self.path).exists():
            return []
        state = load(self.path)
        kinds = [type(part).__name__ for part in parts]
        for name, found, wanted in (
            ("run", state["run"], {**run, "settings": dict(self.settings)}),
            ("parts", [kind for kind, _ in state["parts"]], kinds),
            ("number of sources", len(state["sources"]), len(self.sources)),
        ):
            require(found == wanted, f"{name} in {self.path}", found, wanted)
        for part, (_, saved) in zip(parts, state["parts"]):
            part.load_state_dict(saved)
        torch.set_rng_state(state["cpu"])
        if state["gpu"] is not None and torch.cuda.is_available():
            torch.cuda.set_rng_state(state["gpu"])
        for source, saved in zip(self.sources, state["sources"]):
            if isinstance(source, torch.Generator):
                source.set_state(saved)
            else:
                source.reset()
                if saved:  # by 0 it cannot be forwarded
                    source.fast_forward(saved)
        return list(state["history"])


def _put_aside(value: Any, place: str, tensors: dict[str, Tensor]) -> Any:
    """``value`` as JSON, its tensors put into ``tensors`` under their places.

    JSON has neither tuples nor keys that are numbers, hence a tag for each kind.
    """
    if isinstance(value, Tensor):
        require(place not in tensors, "place of a tensor", place, "unique")
        # a copy, since safetensors refuses tensors that share memory
        tensors[place] = value.detach().cpu().clone().contiguous()
        return {"tensor": place}
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str | int):
                raise TypeError(
                    f"a key in {place} must be a string or an integer, got {type(key).__name__}"
                )
        return {
            "dict": [
                [key, _put_aside(item, f"{place}/{key}", tensors)] for key, item in value.items()
            ]
        }
    if isinstance(value, list | tuple):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {kind: [_put_aside(item, f"{place}/{i}", tensors) for i, item in enumerate(value)]}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(
        f"{place} must be a tensor, a number, a string, None, or a dict, list or tuple of them, got {type(value).__name__}"
    )


def _put_back(tree: Any, tensors: dict[str, Tensor]) -> Any:
    if not isinstance(tree, dict):
        return tree
    ((kind, inside),) = tree.items()
    if kind == "tensor":
        return tensors[inside]
    if kind == "dict":
        return {key: _put_back(item, tensors) for key, item in inside}
    return (tuple if kind == "tuple" else list)(_put_back(item, tensors) for item in inside)
