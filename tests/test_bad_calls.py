"""Whatever is wrong with an argument, the library says so, or is right all the same."""

import itertools

import bad_calls
import pytest
import torch
from bad_calls import ALLOWED, CALLS, GOOD, is_allowed, outcome
from hypothesis import HealthCheck, Phase, given, settings

from sdelib._checks import require


def test_every_public_callable_has_a_good_call():
    """Add a new name to `CALLS` in tools/bad_calls.py."""
    assert {label.partition("(")[0] for label in CALLS} == bad_calls.public_names()


@pytest.mark.parametrize("label", CALLS)
def test_a_good_call_is_good(label):
    bad_calls.called(*CALLS[label]())


@settings(
    max_examples=300,
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.generate],  # what is found is small
    suppress_health_check=list(HealthCheck),
)
@given(bad_calls.bad_calls())
def test_a_bad_argument_is_named_or_does_no_harm(case):
    found, said = outcome(*case)
    assert found in GOOD, said


def test_every_allowance_is_for_a_call_that_may_be_drawn():
    cases = [
        f"{label}({argument}): {kind}"
        for label, make in CALLS.items()
        for argument, good in make()[1].items()
        for kind, _ in bad_calls.bad_values(bad_calls.argument_name(argument), good)
    ]
    for pattern in itertools.chain(*ALLOWED.values()):
        assert any(is_allowed(case, {"": [pattern]}) for case in cases), pattern


X = torch.arange(6.0).reshape(3, 2)


def careless(x, n):
    return torch.zeros(3, 2) + x * n


def obscure(x, n):
    return x.sin() + [0.0] * n


def wrong_name(x, n):
    require(x is None, "y", n, "at least 1")


def endless(x, n):
    while True:
        pass


def precise(x, n):
    require(isinstance(x, torch.Tensor) and x.shape == (3, 2), "x", "another", "of shape (3, 2)")
    return x * n


@pytest.mark.parametrize(
    "function, kind, value, found",
    [
        (precise, "shape: narrower", torch.ones(3, 1), "named"),
        (precise, "dtype: single", X.float(), "right"),
        (precise, "value: NaN", torch.full((3, 2), torch.nan), "visible"),
        (careless, "shape: narrower", torch.ones(3, 1), "silent"),
        (careless, "shape: fewer dimensions", torch.ones(2) * 2, "silent"),
        (obscure, "type: None", None, "obscure"),
        (obscure, "type: number", torch.ones(3, 2), "obscure"),
        (wrong_name, "type: number", 0.5, "misnamed"),
        (endless, "type: None", None, "hang"),
    ],
)
def test_what_comes_of_a_call_is_recognised(function, kind, value, found, monkeypatch):
    monkeypatch.setattr(bad_calls, "SECONDS", 0.1)
    monkeypatch.setitem(CALLS, "f", lambda: (function, {"x": X.to(torch.zeros(0)), "n": 2}))
    assert outcome("f", "x", kind, value)[0] == found
