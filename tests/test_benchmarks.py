"""The page of benchmarks is what the stored results make of it, and nothing else; the grids that
the benchmarks optimise find an optimum that is known.
"""

import copy
import json
import re

import errors
import page
import pytest
import torch
from torch.testing import assert_close

from sdelib.samplers import sample, uniform
from sdelib.sde import VPSDE


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
    # every number in the results made odd: none of the old ones may be left on the page
    def shifted(value):
        if isinstance(value, dict):
            return {key: shifted(item) for key, item in value.items()}
        if isinstance(value, list):
            return [shifted(item) for item in value]
        return value * 1.7 if isinstance(value, float) else value

    decimals = r"\b\d+\.\d+(?:e-?\d+)?\b"
    for key in ("machine", "versions"):
        results.pop(key)
    stub = {"machine": {"processor": "P", "cores": 1, "threads": 1, "python": "3"}, "versions": {}}
    before = set(re.findall(decimals, page.page(results | stub)))
    after = re.findall(decimals, page.page(shifted(copy.deepcopy(results)) | stub))
    values = len(re.findall(decimals, page.page(results | stub)))
    kept = [number for number in after if number in before]
    assert len(kept) < 0.2 * values, kept  # a shifted number may meet another by chance


def test_losses_are_said(results):
    for row in results["errors"]:
        if row["peer"] == "azula" and "w1" in row:
            row["w1"] = 1e-9
    assert any("azula" in sentence for sentence in page.losses(results))


def test_what_the_default_grid_loses_is_said_where_a_tuned_one_wins(results):
    rows = {row["sampler"]: row for row in results["errors"] if row["budget"] == 10}
    rows["Adams 4, optimised grid"]["w1"], rows["Adams 4"]["w1"] = 1e-9, 1.0
    said = [sentence for sentence in page.losses(results) if sentence.startswith("At 10 calls")]
    assert len(said) == 1 and "against 1.00000 here (Adams 4 on the default grid)" in said[0]
    rows["Adams 4"]["w1"] = 1e-8
    assert not any(sentence.startswith("At 10 calls") for sentence in page.losses(results))


def test_losses_of_the_same_noisy_sampler_are_said(results):
    def said():
        return [
            sentence for sentence in page.losses(results) if "smalldiffusion (0.0123)" in sentence
        ]

    assert not said()
    next(row for row in results["noisy errors"] if row["peer"] == "smalldiffusion")["w1"] = 0.0123
    assert len(said()) == 1


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


@pytest.mark.parametrize("n", [1, 2, 30])
def test_a_warped_grid_falls_from_one_to_t_min(sde, n):
    ts = errors.warped(sde, n, 1e-3, bends=(-0.5, 1.0, 0.3))
    assert ts.shape == (n + 1,) and ts.dtype == torch.float64
    assert ts[0] == 1 and ts[-1] == 1e-3 and (ts.diff() < 0).all()


def test_bends_shape_the_steps():
    sde, v = VPSDE(), torch.linspace(-1, 1, 100)[1:] - 1 / 99
    assert_close(errors.warped(sde, 30, 0.01), uniform(sde, 30, 0.01))
    log_steps = (-errors.warped(sde, 99, 0.01, (-0.7, 0.4)).diff()).log()
    # rounding of the times, over steps of about a hundredth
    assert_close((log_steps + 0.7 * v - 0.4 * v**2).std(), torch.zeros(()), atol=1e-9, rtol=0)
    ts = errors.warped(sde, 20, 0.01, (-1.0,))
    assert ts[-2] - ts[-1] < ts[0] - ts[1]  # as documented: short steps near the data


def test_the_optimum_is_found_where_it_is_known():
    # the sum of squared differences from a warped grid is least for that one
    sde, bends = VPSDE(), (1.0, -0.5)
    wanted, tried = errors.warped(sde, 15, 0.01, bends), []

    def error(grid):
        tried.append((grid(sde, 15, 0.01) - wanted).square().sum().item())
        return tried[-1]

    best = errors.optimised(error, n_bends=2, n_trials=150)
    # Nelder and Mead's search stops where values or bends differ by less than 1e-4
    assert best.keywords["bends"] == pytest.approx(bends, abs=1e-3)
    assert len(tried) <= 160 and error(best) == min(tried)


def test_the_first_grid_is_the_default_of_sample():
    walked = []

    def solver(score, x, path, noise):
        walked.extend(t.time for t in path)
        return iter([x] * (len(path) - 1))

    sample(errors.SCORE, errors.sde, (1, 1), solver, n_steps=7)
    *times, end = walked
    assert end == 0
    assert_close(torch.tensor(times), errors.GRIDS[""](errors.sde, 7, 1e-3), rtol=0, atol=0)
