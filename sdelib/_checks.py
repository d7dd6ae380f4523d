"""One way to refuse bad input: every message names the argument, its value and what is allowed."""

import inspect
import math
import sys
import types
import typing
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial, wraps
from numbers import Integral, Real
from operator import ge
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # about widgets that are not installed
    from tqdm.auto import tqdm

__all__ = [
    "at_least_single",
    "bare",
    "guard",
    "leads_down",
    "require",
    "require_finite",
    "require_like",
    "require_shape",
    "require_states",
    "require_tensor",
    "require_times",
    "require_type",
    "returns_numbers",
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
    low, high = _bounds(value)
    finite = math.isfinite(low) and math.isfinite(high)
    require(finite, name, "NaN or infinity", "finite everywhere")


def require_times(t: Tensor, name: str = "t") -> None:
    """Raise unless ``t`` is a tensor of times in [0, 1], of shape ``()`` or ``(B,)``."""
    require_tensor(name, t)
    if t.ndim > 1:  # asked first, here and below: a message takes longer to write
        require(False, name, f"shape {tuple(t.shape)}", "of shape () or (B,)")
    low, high = _bounds(t)
    if not (low >= 0 and high <= 1):
        require(False, name, f"values from {low:g} to {high:g}", "in [0, 1]")


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


def _bounds(value: Tensor) -> tuple[float, float]:
    """The least and the largest value, NaN if any is; zeros where there is none to be read."""
    if not value.numel() or not values_can_be_read(value):
        return 0.0, 0.0
    low, high = torch.aminmax(value.detach())  # it has no forward derivative before torch 2.13
    return low.item(), high.item()


# Public callables, held to their annotations


def _anything(value: Any) -> bool:
    return True


class Rule(NamedTuple):
    """What a value may be: of a kind and, if that is not all, such that ``holds(value)``."""

    kind: Any
    allowed: str
    holds: Callable[[Any], bool] = _anything

    def fits(self, value: Any) -> bool:
        """Whether a value is so."""
        return isinstance(value, self.kind) and self.holds(value)


def _is_there(device: torch.device | str) -> bool:
    try:
        return torch.empty(0, device=device).device.type != "meta"
    except (RuntimeError, AssertionError):  # torch has both for what is not there
        return False


_FLOATS = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
_INTEGER = Rule(Integral, "an integer", lambda n: not isinstance(n, bool))
_RULES: dict[Any, Rule] = {
    Any: Rule(object, "anything"),
    bool: Rule(bool, "True or False"),
    int: _INTEGER,
    float: Rule(Real, "a number", lambda c: not isinstance(c, bool)),
    Tensor: Rule(Tensor, "a floating-point tensor", lambda x: x.dtype in _FLOATS and not x.is_meta),
    Callable: Rule(Callable, "a function", lambda function: not isinstance(function, type)),
    tuple[int, ...]: Rule(
        tuple | list,
        "a shape, integers from 0",
        lambda shape: len(shape) > 0 and all(_INTEGER.fits(n) and n >= 0 for n in shape),
    ),
    torch.dtype: Rule(torch.dtype, "a floating-point dtype", lambda dtype: dtype in _FLOATS),
    torch.device: Rule(torch.device | str, "a device that is there", _is_there),
}


_WORDS = {
    "NoneType": "None",
    "SDE": "an SDE, for instance VPSDE()",
    "Module": "a torch.nn.Module",
    "Instant": "an instant, as sde.at gives it",
}


def _rules(hint: Any) -> list[Rule]:
    """What an annotation allows: one rule, or one for each member of a union."""
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        rules = [rule for part in parts for rule in _rules(part)]
        return [r for r in rules if r.kind is not str or _RULES[torch.device] not in rules]
    for known in (hint, origin):
        if known in _RULES:
            return [_RULES[known]]
    if origin in (tuple, list, Sequence):
        member = _rules(parts[0])[0]
        words = f"a list, each member {member.allowed}"
        if member.holds is _anything:  # as of instants, of which a path has many
            kinds = lambda values: {*map(type, values)}
            alike = lambda values: all(issubclass(kind, member.kind) for kind in kinds(values))
            return [Rule(tuple | list, words, alike)]
        return [Rule(tuple | list, words, lambda values: all(map(member.fits, values)))]
    kind = origin or hint
    return [Rule(kind, _WORDS.get(kind.__name__, f"a {kind.__name__}"))]


def _check(name: str, hint: Any, border: Callable[..., Any] | None) -> Callable[[Any], Any]:
    """A function that returns an argument, seen to by ``border(value, name)``, or refuses it."""
    rules = _rules(hint)
    optional = type(None) in [rule.kind for rule in rules]

    def check(value: Any) -> Any:
        for kind, _, holds in rules:
            if isinstance(value, kind) and holds(value):
                if border is None or (optional and value is None):
                    return value
                return border(value, name)
        allowed = " or ".join(rule.allowed for rule in rules)
        if isinstance(value, Tensor) and _RULES[Tensor] in rules:
            require_tensor(name, value)
        require(not any(isinstance(value, rule.kind) for rule in rules), name, repr(value), allowed)
        return require_type(name, value, (), allowed)

    return check


def _held(
    function: Callable[..., Any],
    hints: dict[str, Any],
    borders: Mapping[str, Any] = MappingProxyType({}),
    late: bool = False,
) -> Callable[..., Any]:
    """The function, which refuses arguments that are not as annotated, as does one it returns."""
    checks: dict[str, Callable[[Any], Any]] = {}
    in_order: list[Callable[[Any], Any]] = []
    for name, parameter in inspect.signature(function).parameters.items():
        border = borders.get(name, False)
        hint = Any if border is None else hints.get(name, Any)
        checks[name] = _check(name, hint, border or None)
        if parameter.kind is not parameter.KEYWORD_ONLY:
            in_order += [checks[name]] * (100 if parameter.kind is parameter.VAR_POSITIONAL else 1)
    made = typing.get_args(hints.get("return"))[:1]  # of Callable[[...], ...], the first dots

    def seen(args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        first = [check(value) for check, value in zip(in_order, args)]
        rest = {name: checks[name](v) if name in checks else v for name, v in kwargs.items()}
        return first + list(args[len(first) :]), rest

    @wraps(function)
    def held(*args: Any, **kwargs: Any) -> Any:
        if late:
            try:
                return function(*args, **kwargs)
            except Exception:
                seen(args, kwargs)
                raise
        args, kwargs = seen(args, kwargs)  # pyright: ignore[reportAssignmentType]
        out = function(*args, **kwargs)
        if made and isinstance(made[0], list) and inspect.isfunction(out):
            return _held(out, dict(zip(inspect.signature(out).parameters, made[0])))
        return out

    vars(held)["seen"] = seen
    vars(function)["is_within"] = True
    return held


def guard(
    module: str,
    late: Sequence[str] = (),
    inner: Sequence[str] = (),
    **borders: Callable[..., Any] | None,
) -> None:
    """Hold a module's public callables to their annotations, from outside of what they compute.

    What is of another type raises ``TypeError``. A parameter named in ``borders`` is replaced by
    ``border(value, name)``, or is left alone if that is ``None``. Functions in ``late`` look only
    once they have failed; those in ``inner``, of which loops are made, are left as they are.
    """
    names = vars(sys.modules[module])
    for name, item in list(names.items()):
        if name.startswith("_") or name in inner or getattr(item, "__module__", "") != module:
            continue
        if inspect.isfunction(item):
            names[name] = _held(item, typing.get_type_hints(item), borders, name in late)
        for part, method in list(vars(item).items()) if isinstance(item, type) else ():
            bound = isinstance(method, classmethod)
            function = method.__func__ if bound else method
            public = part in ("__init__", "__call__") or not part.startswith("_")
            if public and inspect.isfunction(function):
                held = _held(function, typing.get_type_hints(function), borders)
                setattr(item, part, classmethod(held) if bound else held)


def returns_numbers(function: Any, name: str) -> Any:
    """A border: the function, refusing values that are no number and no tensor, ``()`` or ``(B,)``.

    ``B`` is the length of its first argument.
    """
    if not callable(function):
        return function

    call = "times(x0, generator)" if name == "times" else f"{name}(t)"

    def checked(first: Tensor, *rest: Any) -> Any:
        out: Any = function(first, *rest)
        if isinstance(out, Real):
            return first.new_tensor(out)
        require_tensor(call, out)
        if out.ndim:
            require_shape(call, out, *first.shape[:1])
        return out

    return checked


def at_least_single(x: Tensor, name: str) -> Tensor:
    """A border: the tensor, in single precision if it is half."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def leads_down(path: list[Any], name: str) -> list[Any]:
    """A border: the path, if no instant of it is later than the one before."""
    times = [t.time for t in path]
    falls = len(times) >= 2 and all(map(ge, times, times[1:]))
    require(falls, name, times, "of two instants or more, none later than the one before")
    return path


def bare(function: Any, otherwise: Callable[..., Any]) -> Callable[..., Any]:
    """What :func:`guard` has wrapped, for a loop, or ``otherwise(function)`` if it has not.

    What a ``partial`` binds is looked at now.
    """
    inner: Any = function.func if isinstance(function, partial) else function
    if hasattr(inner, "seen"):
        within = vars(inner)["__wrapped__"]
        if inner is function:
            return within
        args, kwargs = inner.seen(function.args, function.keywords)
        return partial(within, *args, **kwargs)
    return function if hasattr(inner, "is_within") else otherwise(function)
