"""The page of benchmarks is what the stored results make of it, and nothing else."""

import copy
import json
import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = runpy.run_path(str(ROOT / "benchmarks" / "page.py"))


@pytest.fixture
def results():
    return json.loads(PAGE["RESULTS"].read_text())


def test_the_page_is_generated_from_the_stored_results(results):
    assert PAGE["PAGE"].read_text() == PAGE["page"](results), (
        "the results changed: run `python benchmarks/page.py`"
    )
    assert PAGE["FIGURE"].exists()
    assert PAGE["TABLES"].read_text() == PAGE["tables"](PAGE["PAGE"].read_text())


def test_the_tables_need_no_book(results):
    text = PAGE["tables"](PAGE["page"](results))
    assert "```" not in text and not re.search(r"\{\w+\}`", text)
    assert text.count("| --- |") == PAGE["page"](results).count("| --- |")


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
    before = set(re.findall(decimals, PAGE["page"](results | stub)))
    after = re.findall(decimals, PAGE["page"](shifted(copy.deepcopy(results)) | stub))
    values = len(re.findall(decimals, PAGE["page"](results | stub)))
    kept = [number for number in after if number in before]
    assert len(kept) < 0.2 * values, kept  # a shifted number may meet another by chance


def test_losses_are_said(results):
    for row in results["errors"]:
        if row["peer"] == "azula" and "w1" in row:
            row["w1"] = 1e-9
    assert any("azula" in sentence for sentence in PAGE["losses"](results))


def test_losses_of_the_same_noisy_sampler_are_said(results):
    def said():
        return [
            sentence
            for sentence in PAGE["losses"](results)
            if "smalldiffusion (0.0123)" in sentence
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
    noisy, slow, *beaten = PAGE["slow"](rows)
    assert "12.5" in noisy and "4 operations" in noisy and "4.5" in noisy
    assert "40.1" in slow and "6 operations" in slow and "1.5" in slow and "random" not in slow
    assert (
        len(beaten) == 2 and "12.4, against 12.5" in beaten[0] and "20.2, against 40.1" in beaten[1]
    )
