"""The page of benchmarks is what the stored results make of it, and nothing else; and the errors
behind it are what they are said to be.
"""

import copy
import json
import re

import errors
import page
import pytest
import torch
from torch.testing import assert_close


@pytest.fixture
def results():
    return json.loads(page.RESULTS.read_text(encoding="utf-8"))


def test_the_page_is_generated_from_the_stored_results(results):
    made = page.page(results)
    stored = page.PAGE.read_text(encoding="utf-8")
    assert stored == made, "the results changed: run `python benchmarks/page.py`"
    assert page.FIGURE.exists()
    assert page.TABLES.read_text(encoding="utf-8") == page.tables(made)


def test_every_place_of_the_template_is_filled_and_each_table_has_rows(results):
    made = page.page(results)
    assert "<<" not in made and ">>" not in made
    heads = made.count("| --- |\n")
    assert heads >= 10 and len(re.findall(r"--- \|\n\| \S", made)) == heads


def test_the_tables_need_no_book(results):
    text = page.tables(page.page(results))
    assert "```" not in text and not re.search(r"\{\w+\}`", text)
    assert text.count("| --- |") == page.page(results).count("| --- |")


def test_no_number_of_the_page_is_typed(results):
    # every number in the results made another, and every ratio of two: the tables must not keep any
    def shifted(value):
        if isinstance(value, dict):
            return {key: shifted(item) for key, item in value.items()}
        if isinstance(value, list):
            return [shifted(item) for item in value]
        return 1.7 * value**1.1 if isinstance(value, float) else value

    def measured(results):
        lines = page.page(results | stub).splitlines()
        return [cell for row in lines if row[:1] == "|" for cell in row.split("|")]

    for key in ("machine", "versions"):
        results.pop(key)
    stub = {"machine": {"processor": "P", "cores": 1, "threads": 1, "python": "3"}, "versions": {}}
    pairs = zip(measured(results), measured(shifted(copy.deepcopy(results))), strict=True)
    same = [old == new for old, new in pairs if re.search(r"\d\.\d|e-\d", old)]
    assert len(same) > 800 and sum(same) < 0.05 * len(same)  # by rounding


def test_losses_are_said(results):
    rows = page.cells(results["errors"])["two narrow", "VE", 15]
    azula = [row for row in rows if row["peer"] == "azula"]
    mine = page.ours(rows)["error"]

    def said():
        return [
            line for line in page.losses(results) if line.startswith("two narrow, VE, 15 calls")
        ]

    for row in rows:
        if row["peer"] != page.OURS:
            row["error"] = 2 * mine
    assert not said()
    azula[1]["error"] = mine / 2  # in hindsight only
    assert azula[1]["kind"] == "hindsight"
    assert len(said()) == 1 and "azula" in said()[0] and "in hindsight" in said()[0]
    azula[0]["error"] = mine / 1.5
    assert len(said()) == 1 and "hindsight" not in said()[0]


def test_the_standing_counts_what_is_first_and_what_is_near():
    def cell(budget, mine, theirs):
        at = {"target": "t", "process": "p", "budget": budget}
        first = {"peer": page.OURS, "sampler": page.ADVISED, "kind": "untuned", "error": mine}
        other = {"peer": "azula", "sampler": "s", "kind": "documented", "error": theirs}
        return [at | first, at | other]

    said = page.standing(
        [*cell(1, 1.0, 2.0), *cell(2, 1.04, 1.0), *cell(3, 3.0, 1.0)], "documented"
    )
    assert said.startswith(
        "first in 1 of 3 cells and within 5 % of the first in 2, with 1.04 times"
    )
    assert said.endswith("and 3.00 in the worst")


def test_losses_of_noisy_samplers_are_said(results):
    row = next(row for row in results["noisy errors"] if row["peer"] == "smalldiffusion")
    row["w1"] = 1e-4
    said = [line for line in page.losses(results) if "smalldiffusion (DDPM, vp)" in line]
    assert len(said) == 1 and "0.0001" in said[0]


def test_slow_samplers_are_said_with_their_operations():
    def row(peer, sampler, us, noisy=False, operations=None):
        return {
            "peer": peer,
            "sampler": sampler,
            "batch": 7,
            "us_per_call": us,
            "noisy": noisy,
            "operations": operations,
        }

    rows = [
        row("torch", "one product and sum", 1.5),
        row("torch", "random numbers", 4.5),
        row("sdelib", "fast", 11.9, operations=2.0),
        row("sdelib", "noisy", 12.5, noisy=True, operations=4.0),
        row("sdelib", "slow", 40.1, operations=6.0),
        row("peer", "noisy too", 12.4, noisy=True),
        row("peer", "DDIM", 20.2),
    ]
    noisy, slow, *beaten = page.slow(rows)
    assert "12.5" in noisy and "4 operations" in noisy and "4.5" in noisy
    assert "40.1" in slow and "6 operations" in slow and "1.5" in slow and "random" not in slow
    assert (
        len(beaten) == 2 and "12.4, against 12.5" in beaten[0] and "20.2, against 40.1" in beaten[1]
    )


def test_a_table_fills_its_cells_from_the_rows_by_format():
    rows = [{"a b": 1.25, "c": "x"}, {"a b": 3.0, "c": "y"}]
    made = page.table(rows, {"number": "{a b:.1f}", "name": "{c}!"})
    assert made == "| number | name |\n| --- | --- |\n| 1.2 | x! |\n| 3.0 | y! |"


def test_a_pivot_has_a_column_for_each_value_in_order():
    rows = [
        {"name": n, "size": k, "v": i}
        for i, (n, k) in enumerate([("p", 9), ("p", 2), ("q", 9), ("q", 2)])
    ]
    made = page.pivot(rows, {"name": "{name}"}, "size", "size {}", "{v:.0f}")
    assert made.splitlines()[0] == "| name | size 2 | size 9 |"
    assert made.splitlines()[2:] == ["| p | 1 | 0 |", "| q | 3 | 2 |"]


def test_the_flows_own_end_is_the_data_of_the_same_quantile():
    # on the line the flow from p_1 is the quantile map; the prior is as near to p_1 as alpha(1)
    for name in ("deck, unit variance", "three unequal"):
        for process in errors.PROCESSES:
            here, target = errors.cell(name, process), errors.TARGETS[name]
            u = (torch.arange(len(here.end), dtype=torch.float64) + 0.5) / len(here.end)
            gap = (here.end - target.quantile(u)).abs().mean()
            assert gap < 2 * here.sde.alpha(torch.ones(())) / here.sde.sigma(torch.ones(())) + 1e-5


def test_the_ablation_in_full_is_the_librarys_solver():
    here = errors.cell("deck", "VP")
    for grid in (here.pilot.grid, errors.log_linear):
        wanted = here.walk(here.pilot, 12, grid)
        assert_close(here.walk(errors.multistep("angle", True, here.pilot.scale), 12, grid), wanted)


@pytest.mark.parametrize("clock", ["angle", "straight"])
@pytest.mark.parametrize("correct, order", [(True, 3), (False, 3)])
def test_the_ablations_solvers_converge(clock, correct, order):
    # their first steps know few values, so that 3 is the limit of every order from 3 on
    here = errors.cell("deck, unit variance", "VP")
    solver = errors.multistep(clock, correct, 1.0)
    low, high = (here.error(here.walk(solver, n, errors.log_linear)) for n in (150, 300))
    assert low / high > 2 ** (0.8 * order)


def test_an_error_is_infinite_where_a_sampler_refuses():
    def refuses(score, x, n, sde):
        score(x, torch.tensor(0.5))
        raise ValueError("too few steps")

    here = errors.cell("deck", "VP")
    assert here.measure(refuses, 3) == (float("inf"), 1)
    assert here.error(here.end * float("nan")) == float("inf")
    assert here.error(here.end + 0.5) == pytest.approx(0.5)
