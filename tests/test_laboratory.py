"""The laboratory's weights and the values it is held to in a browser are the library's."""

import json
import re
from contextlib import redirect_stdout
from functools import partial
from inspect import signature
from io import StringIO
from pathlib import Path

import laboratory
import pytest
import torch
from test_wrong_formulas import plus_for_minus

from sdelib import metrics, samplers, steps
from sdelib.data import smile
from sdelib.sde import VPSDE


@pytest.fixture(scope="module")
def stored():
    return json.loads(laboratory.GOLDEN.read_text(encoding="utf-8"))


def differing(stored: list[dict], now: list[dict]) -> list[str]:
    """The names of cases whose stored value is not today's, up to the digits that are stored."""
    return [
        old["name"]
        for old, new in zip(stored, now, strict=True)
        if old | {"out": 0} != new | {"out": 0}
        or new["out"] != pytest.approx(old["out"], rel=1e-6, abs=1e-9 * max(map(abs, old["out"])))
    ]


def test_the_face_is_the_network_that_ships():
    assert laboratory.FACE.read_text(encoding="utf-8") == laboratory.as_script("smile", "face")


def test_the_page_says_how_large_and_how_thin_things_are():
    book = Path(__file__).resolve().parents[1] / "book"
    page = " ".join((book / "laboratory.md").read_text(encoding="utf-8").split())
    script = laboratory.as_script("digits", "digits_weights")
    assert f"Its weights ({len(script) / 1e6:.1f} MB) come" in page
    run = (book / "_static" / "lab" / "run.js").read_text(encoding="utf-8")
    shown = re.search(r"FACE = {.*\bstd: ([\d.]+) }", run)[1]
    assert f"of noise {signature(smile).parameters['noise'].default} instead of {shown}" in page


def test_what_the_page_is_held_to_is_the_library(stored):
    assert differing(stored, laboratory.cases()) == []


@pytest.mark.parametrize(
    "owner, name, wrong, caught",
    [
        (samplers, "log_linear", partial(samplers.log_linear, bend=0.021), "grid log_linear"),
        (steps, "euler_maruyama", plus_for_minus, "euler_maruyama, plane, VPSDE"),
        (metrics, "_binomial_deviation", lambda n, p: 0 * p, "wasserstein"),
    ],
)
def test_a_changed_formula_of_the_library_is_caught_by_name(
    stored, monkeypatch, owner, name, wrong, caught
):
    monkeypatch.setattr(owner, name, wrong)
    monkeypatch.setattr(laboratory, "PROCESSES", [VPSDE()])
    monkeypatch.setattr(
        laboratory, "NOISY", {"euler_maruyama": laboratory.walk(steps.euler_maruyama)}
    )
    now = {case["name"]: case for case in laboratory.cases()}
    old = [case for case in stored if case["name"] in now]
    found = differing(old, [now[case["name"]] for case in old])
    assert any(case.startswith(caught) for case in found)


PROGRAMS = json.loads((laboratory.GOLDEN.parent / "lab_python.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_program_that_the_page_shows_runs_and_agrees_with_the_page(name):
    shown, said = PROGRAMS[name], StringIO()
    torch.set_default_dtype(torch.float32)  # as readers have it
    if shown["lost"]:
        with pytest.raises(FloatingPointError):
            exec(shown["program"], {})
        return
    with redirect_stdout(said):
        exec(shown["program"], {})
    if "deviation" in shown:  # of nine images, whose means differ by a tenth of it or so
        mean, deviation = map(float, re.findall(r"-?[\d.]+", said.getvalue()))
        assert mean == pytest.approx(shown["mean"], abs=0.2 * shown["deviation"])
        assert deviation == pytest.approx(shown["deviation"], rel=0.2)
        return
    if "value" not in shown:
        assert "t = 1.00: standard deviation" in said.getvalue()
        return
    value, floor = map(float, re.findall(r"[\d.]+(?:e[+-]\d+)?", said.getvalue()))
    assert floor == pytest.approx(shown["floor"], rel=0.15)
    # Other random numbers: a few floors apart near the law; far from it, where wrong formulas lead,
    # up to a factor (f and g at 1 - t have heavy tails: over twelve seeds, from 0.04 to 0.22).
    assert value < 4 * shown["value"] + 3 * floor
    assert shown["value"] < 4 * value + 3 * floor
