"""One way to refuse bad input, so that every message names the argument, its value and what is
allowed.
"""

import math

import torch
from torch import Tensor


def require(holds: bool, name: str, value: object, allowed: str) -> None:
    """Raise ``ValueError`` unless ``holds``."""
    if not holds:
        raise ValueError(f"{name} must be {allowed}, got {value}")


def require_shape(name: str, value: Tensor, *shape: int | str) -> None:
    """Raise ``ValueError`` unless ``value`` has that shape; a number must match, a letter stands
    for any size.
    """
    fits = value.ndim == len(shape) and all(
        isinstance(wanted, str) or wanted == size for wanted, size in zip(shape, value.shape)
    )
    allowed = ", ".join(map(str, shape)) + ("," if len(shape) == 1 else "")
    require(fits, name, f"shape {tuple(value.shape)}", f"of shape ({allowed})")


def require_tensor(name: str, value: object) -> None:
    """Raise ``TypeError`` unless ``value`` is a floating-point tensor.

    A bare float would become single precision wherever it meets a tensor, whatever the precision of
    the states.
    """
    if not isinstance(value, Tensor) or not value.is_floating_point():
        kind = value.dtype if isinstance(value, Tensor) else type(value).__name__
        raise TypeError(f"{name} must be a floating-point tensor, got {kind}")


def require_finite(name: str, value: Tensor) -> None:
    """Raise unless ``value`` is a floating-point tensor without NaN or infinity; reads no value on
    a GPU, see below.
    """
    require_tensor(name, value)
    low, high = _bounds(value)
    finite = math.isfinite(low) and math.isfinite(high)
    require(finite, name, "NaN or infinity", "finite everywhere")


def require_times(t: Tensor, name: str = "t") -> None:
    """Raise unless ``t`` is a tensor of times in [0, 1], of shape ``()`` or ``(B,)``.

    The values are read on the CPU only: reading them on a GPU would make every step wait for the
    device.
    """
    require_tensor(name, t)
    if t.ndim > 1:  # asked first, here and below: a message takes longer to write
        require(False, name, f"shape {tuple(t.shape)}", "of shape () or (B,)")
    low, high = _bounds(t)
    if not (low >= 0 and high <= 1):
        require(False, name, f"values from {low:g} to {high:g}", "in [0, 1]")


def _bounds(value: Tensor) -> tuple[float, float]:
    """The least and the largest value, NaN if any is; zeros where there is none, or on a GPU."""
    if value.device.type != "cpu" or not value.numel():
        return 0.0, 0.0
    low, high = torch.aminmax(value.detach() if value.requires_grad else value)
    return low.item(), high.item()
