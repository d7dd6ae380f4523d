"""Public callables held to their annotations, and what a module looks at besides at its border.

A module ends in :func:`guard`. A *border* is a function ``(value, name)`` that returns an argument,
perhaps in a better form, or refuses it by its name.
"""

import inspect
import sys
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from functools import partial, update_wrapper, wraps
from numbers import Integral, Real
from operator import ge
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ._checks import require, require_shape, require_tensor, require_type

__all__ = ["at_least_single", "bare", "bare_or", "guard", "leads_down", "returns_numbers"]


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


_SURELY: dict[Any, tuple[type, ...]] = {
    bool: (bool,),
    Integral: (int,),
    Real: (int, float),
    Callable: (types.FunctionType, types.MethodType, partial),
    type(None): (type(None),),
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


def _as_it_is(value: Any) -> Any:
    return value


def _check(name: str, hint: Any, border: Callable[..., Any] | None) -> Callable[[Any], Any]:
    """A function that returns an argument, seen to by ``border(value, name)``, or refuses it."""
    if hint is Any and border is None:
        return _as_it_is
    rules = _rules(hint)
    optional = type(None) in [rule.kind for rule in rules]
    # as the most frequent arguments are: to ask an abstract class takes ten times as long
    surely = {kind for rule in rules for kind in _SURELY.get(rule.kind, ())} if not border else ()

    def check(value: Any) -> Any:
        if type(value) in surely:
            return value
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
    beyond = _as_it_is  # arguments that the function does not take
    for name, parameter in inspect.signature(function).parameters.items():
        border = borders.get(name, False)
        hint = Any if border is None else hints.get(name, Any)
        checks[name] = _check(name, hint, border or None)
        if parameter.kind is parameter.VAR_POSITIONAL:
            beyond = checks[name]
        elif parameter.kind is not parameter.KEYWORD_ONLY:
            in_order.append(checks[name])
    made = typing.get_args(hints.get("return"))[:1]  # of Callable[[...], ...], the first dots

    def seen(args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        first = [check(value) for check, value in zip(in_order, args)]
        first += map(beyond, args[len(in_order) :])
        return first, kwargs and {k: checks.get(k, _as_it_is)(v) for k, v in kwargs.items()}

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
        if made and isinstance(out, types.FunctionType | Made):
            out = vars(out)["__wrapped__"] if isinstance(out, Made) else out
            kinds = made[0] if isinstance(made[0], list) else ()
            return Made(out, kinds, partial(held, *args, **kwargs))
        return out

    vars(held)["seen"] = seen
    vars(function)["is_within"] = True
    function.__qualname__ += ".__wrapped__"  # where pickle finds it
    return held


class Made:
    """A function that a public one has returned: held to its annotations as well, and pickled as
    the call that made it.
    """

    def __init__(self, function: Callable[..., Any], kinds: Sequence[Any], call: partial):
        names = inspect.signature(function).parameters
        self.held, self.call = _held(function, dict(zip(names, kinds))), call
        self.seen = vars(self.held)["seen"]
        update_wrapper(self, function)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.held(*args, **kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        return self.call, ()


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
    return partial(_number, function, f"{name}(t)")


def _number(function: Any, call: str, t: Tensor) -> Any:
    out: Any = function(t)
    if isinstance(out, Real):
        return t.new_tensor(out)
    require_tensor(call, out)
    if out.ndim:
        require_shape(call, out, *t.shape[:1])
    return out


def at_least_single(x: Tensor, name: str) -> Tensor:
    """A border: the tensor, in single precision if it is half."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def leads_down(path: list[Any], name: str) -> list[Any]:
    """A border: the path, if no instant of it is later than the one before."""
    times = [t.time for t in path]
    falls = len(times) >= 2 and all(map(ge, times, times[1:]))
    require(falls, name, times, "of two instants or more, none later than the one before")
    return path


def bare(function: Any, otherwise: Callable[..., Any] = _as_it_is) -> Callable[..., Any]:
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


def bare_or(otherwise: Callable[[Any, str], Any]) -> Callable[[Any, str], Any]:
    """A border: what :func:`guard` has wrapped, bare; else ``otherwise(function, name)``."""
    return lambda function, name: bare(function, lambda inner: otherwise(inner, name))
