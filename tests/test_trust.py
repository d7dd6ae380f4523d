"""The page on trust shows what is stored, and nothing that is not."""

import os

import flakes
import pytest
import trust


def test_the_page_shows_what_is_stored():
    stored = trust.FIGURES.read_text(encoding="utf-8")
    assert stored == trust.figures(), "what is stored changed: run `make trust`"


@pytest.mark.parametrize("name", trust.CAMPAIGNS)
def test_a_campaign_is_shown_once_it_has_been_run(name, monkeypatch, tmp_path):
    title = trust.CAMPAIGNS[name][0]
    monkeypatch.setattr(trust, "rows", list)
    monkeypatch.setattr(trust, "ROOT", tmp_path)
    assert title not in trust.figures()
    (tmp_path / "tests").mkdir()
    text = "# Heading\n\n| date | result |\n|---|---|\n| today | 3 |\n"
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert f"## {title}" in trust.figures() and "| today | 3 |" in trust.figures()
    assert "Heading" not in trust.figures()


def test_repetitions_add_up_and_name_what_failed(monkeypatch, tmp_path):
    monkeypatch.setattr(flakes, "RESULTS", tmp_path / "stored.md")
    monkeypatch.setattr(flakes, "SO_FAR", tmp_path / "so_far.md")
    assert flakes.stored() == {}
    key, other = ("tests", "1", "AVX2"), ("chapters", "2", "DEFAULT")
    said = "FAILED tests/a.py::test_b[x | y] - assert 1 - 1\nERROR tests/c.py\n2 failed in 3s\n"
    failures = flakes.failures_in(said)
    assert failures == ["tests/a.py::test_b[x / y]", "tests/c.py"]
    for found in ([], failures, failures[1:], []):
        flakes.store(key, found)
    flakes.store(other, [])
    rows = flakes.stored()
    assert list(rows) == [other, key]
    assert rows[key][0] == "4" and rows[key][-1] == "; ".join(failures)
    assert rows[other][0] == "1" and rows[other][-1] == "none"


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="this system has no groups of processes")
def test_a_repetition_without_end_is_a_failure(monkeypatch, tmp_path):
    monkeypatch.setattr(flakes, "LOGS", tmp_path)
    monkeypatch.setattr(flakes, "LONGEST", 0.01)
    assert flakes.repeated("tests", 0, "1", "DEFAULT") == ["no end within 0.01 seconds"]
