"""One way to refuse bad input: every message names the argument, its value and what is allowed."""

import math
import warnings
from contextlib import suppress
from numbers import Integral
from typing import Any

import numpy as np
import torch
from torch import Tensor

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # about widgets that are not installed
    from tqdm.auto import tqdm

__all__ = [
    "all_finite",
    "as_integers",
    "from_array",
    "require",
    "require_finite",
    "require_like",
    "require_shape",
    "require_states",
    "require_tensor",
    "require_times",
    "require_type",
    "same",
    "tqdm",
    "values_can_be_read",
]


def require(holds: bool, name: str, value: object, allowed: str) -> None:
    """Raise ``ValueError`` unless ``holds``."""
    if not holds:
        raise ValueError(f"{name} must be {allowed}, got {value}")


def require_type(name: str, value: object, kind: Any, allowed: str) -> None:
    """Raise ``TypeError`` unless ``value`` is an instance of ``kind``."""
    if not isinstance(value, kind):
        shown = value.__name__ if isinstance(value, type) else type(value).__name__
        raise TypeError(f"{name} must be {allowed}, got {shown}")


def require_shape(name: str, value: Tensor, *shape: int | str) -> None:
    """Raise ``ValueError`` unless ``value`` has that shape; a letter stands for any size."""
    fits = value.ndim == len(shape) and all(
        isinstance(wanted, str) or wanted == size
        for wanted, size in zip(shape, value.shape, strict=True)
    )
    if not fits:
        allowed = ", ".join(map(str, shape)) + ("," if len(shape) == 1 else "")
        require(False, name, f"shape {tuple(value.shape)}", f"of shape ({allowed})")


def require_tensor(name: str, value: object) -> None:
    """Raise ``TypeError`` unless ``value`` is a floating-point tensor.

    A bare float would become single precision wherever it meets a tensor, whatever that one's.
    """
    if not isinstance(value, Tensor) or not value.is_floating_point() or value.is_meta:
        kind = value.dtype if isinstance(value, Tensor) else type(value).__name__
        place = " on the device meta" if isinstance(value, Tensor) and value.is_meta else ""
        raise TypeError(f"{name} must be a floating-point tensor, got {kind}{place}")


def require_like(name: str, value: Any, x: Tensor) -> None:
    """Refuse what is not a floating-point tensor, or would silently be broadcast to ``x``."""
    require_tensor(name, value)
    if value.shape != x.shape:
        require_shape(name, value, *x.shape)


def require_states(name: str, x: Tensor) -> None:
    """Raise ``ValueError`` unless ``x`` is of shape ``(B, *event)``, with entries in an event."""
    fits = x.ndim >= 2 and x.shape[1:].numel() > 0
    require(fits, name, f"shape {tuple(x.shape)}", "of shape (B, *event)")


def require_finite(name: str, value: Tensor) -> None:
    """Raise unless ``value`` is a floating-point tensor without NaN or infinity."""
    require_tensor(name, value)
    finite = not values_can_be_read(value) or all_finite(value.detach())
    require(finite, name, "NaN or infinity", "finite everywhere")


def require_times(t: Tensor, name: str = "t") -> None:
    """Raise unless ``t`` is a tensor of times in [0, 1], of shape ``()`` or ``(B,)``."""
    require_tensor(name, t)
    if t.ndim > 1:  # asked first, here and below: a message takes longer to write
        require(False, name, f"shape {tuple(t.shape)}", "of shape () or (B,)")
    low, high = _bounds(t)
    if not (low >= 0 and high <= 1):
        require(False, name, f"values from {low:g} to {high:g}", "in [0, 1]")


def from_array(value: Any) -> Any:
    """An array as a tensor, whatever its strides and order of bytes; anything else as it is."""
    if isinstance(value, Tensor) or not hasattr(value, "__array__"):
        return value
    array = np.asarray(value)
    return torch.from_numpy(array.astype(array.dtype.newbyteorder("="), "C"))


def as_integers(name: str, value: Any) -> Tensor:
    """Integers as a tensor of 64 bits, or ``TypeError``."""
    found, listed = value, isinstance(value, list | tuple)
    with suppress(RuntimeError, TypeError, ValueError):  # of lists and arrays of anything else
        found = (
            torch.as_tensor(value) if listed or isinstance(value, Integral) else from_array(value)
        )
    if listed and not value:  # torch takes nothing for floats
        found = found.long()
    kind = found.dtype if isinstance(found, Tensor) else type(found).__name__
    inexact = not isinstance(found, Tensor) or found.is_floating_point() or found.is_complex()
    if inexact or found.is_meta or found.dtype == torch.bool:
        raise TypeError(f"{name} must be an integer or a tensor of integers, got {kind}")
    return found.long()


def same(a: tuple[Any, ...], b: object) -> bool:
    """Whether tuples of one kind hold the same, tensors by their values, all of them."""
    return type(a) is type(b) and all(
        torch.equal(x, y) if isinstance(x, Tensor) and isinstance(y, Tensor) else x is y or x == y
        for x, y in zip(a, b, strict=True)  # pyright: ignore[reportArgumentType]
    )


def values_can_be_read(value: Tensor) -> bool:
    """Whether looking at the values costs nothing and is allowed.

    On a GPU it would make every step wait for the device; under ``torch.func`` and
    ``torch.compile`` there are no values yet.
    """
    return (
        value.device.type == "cpu"
        and not torch.compiler.is_compiling()
        and not torch._C._functorch.is_functorch_wrapped_tensor(value)  # pyright: ignore
    )


def all_finite(value: Tensor) -> bool:
    """Whether all numbers are; their sum says so three times as fast, if it does not overflow."""
    return math.isfinite(value.sum().item()) or bool(value.isfinite().all())


def _bounds(value: Tensor) -> tuple[float, float]:
    """The least and the largest value, NaN if any is; zeros where there is none to be read."""
    if not value.numel() or not values_can_be_read(value):
        return 0.0, 0.0
    low, high = torch.aminmax(value.detach())  # it has no forward derivative before torch 2.13
    return low.item(), high.item()
