"""The page on trust shows what is stored, and nothing that is not."""

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
