"""Every chapter's notebook agrees with its text, with the book's configuration and with the book's
own rules.
"""

import ast
import json
import re
import shutil
from pathlib import Path

import nbformat
import pytest
import seeds
import torch
import yaml
from execute import (
    CARDS,
    COVER,
    FILM,
    LEDGER,
    cards,
    figure,
    film,
    ledger,
    notebook,
    repository,
    with_setup,
)
from folds import claim_of, said_by, shortened, title_of
from jupytext.cli import jupytext
from plain import printed

import sdelib

ROOT = Path(__file__).resolve().parents[1]
BOOK = ROOT / "book"
CHAPTERS = sorted(
    {path.with_suffix("") for path in BOOK.glob("[0-9][0-9]_*") if path.suffix in (".md", ".ipynb")}
)
MACHINE_PATH = re.compile(
    r"(?<![\w./:])/(home|root|tmp|work|usr|opt|mnt|var|Users|content)\b|\b[A-Z]:\\"
)
MARKDOWN_IMAGE_WITHOUT_ALT = re.compile(r"!\[\s*\]\(")


@pytest.fixture(scope="module", params=CHAPTERS, ids=lambda path: path.name)
def chapter(request):
    """A chapter's text and its stored notebook."""
    text = request.param.with_suffix(".md").read_text(encoding="utf-8")
    return text, nbformat.read(request.param.with_suffix(".ipynb"), 4)


@pytest.fixture(scope="module")
def code_cells(chapter):
    """A chapter's stored code cells."""
    return [cell for cell in chapter[1].cells if cell.cell_type == "code"]


def test_there_are_chapters():
    assert CHAPTERS


def test_notebook_is_made_from_the_text(chapter):
    text, stored = chapter
    fresh = notebook(text)
    assert fresh.metadata == stored.metadata
    keys = ("cell_type", "id", "source", "metadata")
    assert [[cell[key] for key in keys] for cell in fresh.cells] == [
        [cell[key] for key in keys] for cell in stored.cells
    ]


def test_jupyter_does_not_rewrite_a_chapter(tmp_path):
    """When either file is saved, jupytext, where Jupyter has it, synchronises what is paired: it
    would write the text anew in a form of its own.
    """
    names = [f"{path.name}{suffix}" for path in CHAPTERS for suffix in (".md", ".ipynb")]
    for name in names:
        shutil.copy(BOOK / name, tmp_path)
    jupytext(["--quiet", "--sync", *(str(tmp_path / name) for name in names)])
    for name in names:
        assert (tmp_path / name).read_bytes() == (BOOK / name).read_bytes(), name


def test_set_up_cell_is_current(chapter):
    text, _ = chapter
    assert text == with_setup(text)


def test_chapter_was_executed_in_order_without_errors_or_warnings(code_cells):
    assert [cell.execution_count for cell in code_cells] == list(range(1, len(code_cells) + 1))
    outputs = [out for cell in code_cells for out in cell.outputs]
    assert not [out for out in outputs if out.output_type == "error" or out.get("name") == "stderr"]


def test_outputs_are_compared(code_cells):
    """No cell opts out of the comparison that `pytest --nbval` makes."""
    assert not [
        cell.source
        for cell in code_cells
        if re.search(r"#\s*(NBVAL|PYTEST_VALIDATE)_", cell.source)
    ]
    tags = {tag for cell in code_cells for tag in cell.metadata.get("tags", [])}
    assert not [tag for tag in tags if tag.startswith(("nbval-", "raises-"))]


def test_figures_have_alternative_text(chapter, code_cells):
    text, _ = chapter
    assert not MARKDOWN_IMAGE_WITHOUT_ALT.search(text)
    for cell in code_cells:
        figures = [
            out
            for out in cell.outputs
            if any(kind.startswith("image/") for kind in out.get("data", {}))
        ]
        assert len(figures) <= 1, (
            f"one figure to a cell, since the alternative text is the cell's:\n{cell.source}"
        )
        if figures:
            alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")
            assert len(alt.split()) >= 4, f"say in words what this figure shows:\n{cell.source}"


def test_a_fold_says_a_whole_sentence(code_cells):
    """What a cell asserts, in the words of its claim or of its own, is not cut in its title."""
    for cell in code_cells:
        title = title_of(cell) or claim_of(cell)["says"]
        assert shortened(title) == title, "give the cell a code_prompt_show that fits"


def test_a_check_says_what_it_holds(code_cells):
    """As the build of the book asks for, too."""
    for cell in code_cells:
        kinds = {kind for out in cell.outputs for kind in out.get("data", {})}
        if "assert " not in cell.source or kinds & {"image/png", "text/html"}:
            continue
        assert said_by(cell, [line for line in printed([cell]).splitlines() if line]), cell.source


def test_words_in_figures_are_written_in_ink(code_cells):
    """A palette's colour is too bright to be read on white; grey is an ink already."""
    writers = {"text", "annotate", "bar_label", "set_title", "set_xlabel", "set_ylabel", "suptitle"}
    for cell in code_cells:
        calls = [n for n in ast.walk(ast.parse(cell.source)) if isinstance(n, ast.Call)]
        for call in calls:
            if getattr(call.func, "attr", "") in writers:
                colours = [k.value for k in call.keywords if k.arg in ("color", "c")]
                for colour in colours:
                    inked = isinstance(colour, ast.Call) and getattr(colour.func, "id", "") == "ink"
                    grey = isinstance(colour, ast.Name) and colour.id == "GREY"
                    assert inked or grey, ast.unparse(call)


def test_exercises_have_a_title_a_grade_and_a_hint(chapter):
    exercises = re.findall(r"^(:{3,})\{exercise\}\n(.*?)^\1$", chapter[0], re.MULTILINE | re.DOTALL)
    for _, exercise in exercises:
        assert re.search(r"^\*[^*]+\*\.? \(\*{1,3}\) ", exercise, re.MULTILINE), exercise
        assert ":::{dropdown} Hint" in exercise, exercise


# Decimals that a chapter's prose has from elsewhere than its code, and whence.
FROM_ELSEWHERE = {
    "03_reverse_sde": {"0.289": "half of Euler's constant", "0.001": "t_min, 1e-3 in the code"},
    "04_predictor_corrector": {"0.00001": "t_min, 1e-5 in the code"},
    "05_probability_flow": {"99.98": "per cent, twice the 0.4999 of the code"},
    "07_gaussian_mixture": {"0.9999": "the paper's, App. H.1"},
    "10_how_good_is_sampling": {
        "2.3": "the tenth root of VE's range of noise",
        "0.82": "the maximum of 2 (1 - exp(-T))^2 / T",
        **dict.fromkeys(("3.06", "3.21", "3.23", "3.24", "3.59", "10.5", "20.4"), "Table 1"),
    },
}


def test_no_result_is_typed_into_prose(chapter, code_cells, request):
    """A decimal in a sentence is a setting, which stands in the code, or is known from elsewhere:
    a result comes from the run, and would go stale.
    """
    code = "\n".join(cell.source for cell in code_cells)
    known = FROM_ELSEWHERE.get(request.node.callspec.params["chapter"].name, {})
    for cell in chapter[1].cells:
        if cell.cell_type == "markdown":
            prose = re.sub(r"`[^`]*`|\$\$.*?\$\$", "", cell.source, flags=re.DOTALL)
            prose = re.sub(r"\b(Sec\.|Section|Sections|step)\s[\d.]+\d", "", prose)
            decimals = re.findall(r"(?<![\w.])\d+\.\d+(?![\w.]*\d)", prose)
            typed = [number for number in decimals if number not in code and number not in known]
            assert not typed, (
                f"let a cell print {typed}, and take it by the role `number`:\n{cell.source}"
            )


def test_code_is_short_plain_and_checked(code_cells):
    sources = [cell.source for cell in code_cells]
    for source in sources:
        assert len(source.splitlines()) <= 30, source
        assert not any(isinstance(node, ast.ClassDef) for node in ast.walk(ast.parse(source))), (
            source
        )
    assert any(
        isinstance(node, ast.Assert) for source in sources for node in ast.walk(ast.parse(source))
    )


def test_no_path_of_one_machine(chapter, code_cells):
    text, _ = chapter
    printed = [
        out.get("text", "") or out.get("data", {}).get("text/plain", "")
        for cell in code_cells
        for out in cell.outputs
    ]
    assert not [m[0] for part in [text, *printed] if (m := MACHINE_PATH.search(part))]


def test_no_address_in_an_output(code_cells):
    """Where an object lies in memory changes from run to run."""
    shown = [
        out.get("data", {}).get("text/plain", "") for cell in code_cells for out in cell.outputs
    ]
    assert not [text for text in shown if re.search(r"\b0x[0-9a-f]{6,}", text)]


def test_table_of_contents_lists_what_there_is():
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    parts = toc.get("parts", [toc])
    listed = [toc["root"]] + [entry["file"] for part in parts for entry in part["chapters"]]
    # A page is named without its suffix; a chapter with it, because of its two files Sphinx is to
    # read the executed one.
    assert sorted(name for name in listed if name.endswith(".ipynb")) == [
        f"book/{path.name}.ipynb" for path in CHAPTERS
    ]
    for entry in (entry for part in parts for entry in part["chapters"]):
        if entry["file"].endswith(".ipynb"):  # the side bar gives its number
            text = (ROOT / entry["file"]).with_suffix(".md").read_text(encoding="utf-8")
            (heading,) = re.findall(
                r"^# (.+)$", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S), re.M
            )
            assert entry["title"] == f"{int(Path(entry['file']).name[:2])}. {heading}"
    pages = {
        f"book/{path.stem}"
        for path in BOOK.glob("[!_]*.md")
        if path.with_suffix("") not in CHAPTERS
    }
    assert {name for name in listed if not name.endswith(".ipynb")} == pages


@pytest.mark.parametrize("name", ["README.md", "CITATION.cff", "pyproject.toml"])
def test_repository_is_named_as_in_the_configuration(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    named = re.findall(r"github(?:\.com)?/([\w.-]+/[\w-]+)", text)
    assert set(named) == {repository()["url"].removeprefix("https://github.com/")}


def test_readme_shows_a_figure_of_the_book():
    shown = re.search(r"!\[.*\]\((.*)\)", (ROOT / "README.md").read_text(encoding="utf-8"))[1]
    figures = [figure(nbformat.read(path.with_suffix(".ipynb"), 4), COVER) for path in CHAPTERS]
    assert (ROOT / shown).read_bytes() in figures


@pytest.mark.parametrize("name", ["README.md", "book/api.md"])
def test_examples_run_from_top_to_bottom(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    blocks = list(re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))
    assert blocks
    torch.set_default_dtype(torch.float32)  # as a reader has it
    session = {"__name__": "example"}
    for block in blocks:
        first_line = text[: block.start(1)].count("\n")
        exec(compile("\n" * first_line + block[1], name, "exec"), session)


def test_every_module_has_its_examples_and_its_reference():
    sections = (BOOK / "api.md").read_text(encoding="utf-8").split("\n## ")[1:]
    shown = [re.search(r"`sdelib\.(\w+)`", section.splitlines()[0]) for section in sections]
    names = [match[1] for match in shown if match]
    assert names == [name for name in re.findall(r"``(\w+)``", sdelib.__doc__) if name[0] != "_"]
    for name, section in zip(names, sections, strict=True):
        assert re.search(rf"^from sdelib\.{name} import", section, re.MULTILINE), name
        assert f".. automodule:: sdelib.{name}" in section


def test_ledger_is_current_and_its_claims_are_asserted(code_cells):
    assert LEDGER.read_text(encoding="utf-8") == ledger(), "the claims changed: run `make chapters`"
    for cell in code_cells:
        if claim := cell.metadata.get("claim"):
            assert set(claim) == {"says", "source", "verdict"}
            assert claim.verdict in (
                "verified",
                "contradicted",
                "otherwise here",
                "not at this scale",
            )
            assert "assert" in cell.source, (
                f"a claim is checked by an assertion in its own cell:\n{cell.source}"
            )


def test_the_first_page_shows_the_chapters_as_they_are():
    assert CARDS.read_text(encoding="utf-8") == cards(), "the chapters changed: run `make chapters`"
    assert FILM.read_text(encoding="utf-8") == film(), "the film changed: run `make chapters`"
    assert len(re.findall(r"^\*.* minutes\.", cards(), re.MULTILINE)) == len(CHAPTERS)


@pytest.mark.parametrize("chapter", seeds.N_SEEDS)
def test_stored_seeds_come_from_the_chapters_code(chapter):
    stored = json.loads(seeds.results(chapter).read_text(encoding="utf-8"))
    assert seeds.fingerprint(seeds.repeated_code(chapter)) == stored["code"], (
        "the experiment changed: run `make seeds`"
    )
    assert [run["seed"] for run in stored["runs"]] == list(range(seeds.N_SEEDS[chapter]))


def test_only_experiments_are_repeated():
    with pytest.raises(
        SystemExit,
        match="there is no experiment 01_score_matching, only 07_gaussian_mixture, 08_smile",
    ):
        seeds.main(["01_score_matching"])
