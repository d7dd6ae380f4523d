"""What folds away in the rendered pages, and under which line."""

from html import escape
from types import SimpleNamespace

import folds
import pytest
from docutils import nodes
from folds import TITLE, Fold, fold_cell, is_preparation, shortened, title_of, visit

CHECK = "gap = 1e-12\nprint(gap)\nassert gap < 1e-10"


def cell(source, *outputs):
    """A code cell as the notebooks' reader builds it."""
    code = nodes.container("", nodes.literal_block(source, source), nb_element="cell_code_source")
    node = nodes.container("", code, nb_element="cell_code")
    if outputs:
        node += nodes.container("", *outputs, nb_element="cell_code_output")
    return node


def text(*lines):
    return nodes.literal_block("\n".join(lines), "\n".join(lines))


def picture():
    return nodes.image(uri="a.png", alt="a picture")


def listing(n):
    return "show_source(one, two)", text(*["x = 1"] * n)


CASES = {  # source, outputs, metadata -> kind and title of the fold, and whether outputs fold too
    "a check": ((CHECK, text("gap  1e-12")), {}, ("checked", "Checked: gap 1e-12", True)),
    "a claim": (
        (CHECK, text("1e-12")),
        {"claim": {"says": "It holds", "verdict": "verified"}},
        ("checked", "Checked: It holds", True),
    ),
    "a claim that fails": (
        (CHECK, text("1e-12")),
        {"claim": {"says": "It holds", "verdict": "contradicted"}},
        ("refuted", "Contradicted: It holds", True),
    ),
    "a check with a table": (
        (CHECK, text("a", "b", "c")),
        {"mystnb": {"code_prompt_show": "a is below b"}},
        ("checked", "Checked: a is below b", False),
    ),
    "a check with a figure": ((CHECK, picture()), {}, ("code", "Code of the figure", False)),
    "imports": (("import a\nimport b\nimport c\nuse_style()",), {}, ("code", "Imports", True)),
    "a long listing": (listing(40), {}, ("listing", "Source: `one`, `two`", True)),
    "a film": (
        ("Player(x)", nodes.raw("", '<figure class="player"></figure>', format="html")),
        {},
        ("code", "Code of the figure", False),
    ),
}


@pytest.mark.parametrize("parts, metadata, wanted", CASES.values(), ids=CASES)
def test_what_a_cell_folds_under(parts, metadata, wanted):
    node = cell(*parts)
    fold_cell(node, parts[0], {"metadata": metadata})
    (fold,) = node.findall(Fold)
    whole = len(node.children) == 1
    assert (fold["kind"], fold["title"], whole) == wanted


@pytest.mark.parametrize("source", ["x = f(2)\nprint(x)", "import a\nx = f(2)"])
def test_code_that_teaches_stays_in_view(source):
    node = cell(source, text("2"))
    fold_cell(node, source, {})
    assert not list(node.findall(Fold))


def test_a_short_listing_stays_in_view_and_its_call_goes():
    source, output = listing(8)
    node = cell(source, output)
    fold_cell(node, source, {})
    assert not list(node.findall(Fold))
    assert "show_source" not in node.astext()


def test_a_definition_among_imports_is_no_preparation():
    assert not is_preparation("import a\nimport b\nimport c\ndef f():\n    return 1")


def test_a_title_is_one_line_that_fits():
    assert shortened("a   b\n c") == "a b c"
    assert len(shortened("word " * 100)) <= TITLE
    assert shortened("word " * 100).endswith("word …")


def test_a_title_has_code_and_formulas():
    writer = SimpleNamespace(encode=escape, body=[])
    visit(writer, Fold(kind="checked", title="`f` is <= $a^2$ or $b$"))
    assert writer.body == [
        '<details class="fold checked" open><summary><code>f</code> is &lt;= '
        '<span class="math notranslate nohighlight">\\(a^2\\)</span> or '
        '<span class="math notranslate nohighlight">\\(b\\)</span></summary>\n'
    ]


def test_a_title_keeps_no_half_of_a_formula():
    long = "word " * 27 + "and $a + b + c + d + e$ are equal"
    assert shortened(long) == "word " * 27 + "and …"


def test_a_title_takes_its_numbers_from_what_its_own_cell_printed():
    title = r"a gap of {number}`^gap (\S+)` in {number}`of (\d+) trials` trials (allowed 1e-6)"
    cell = {
        "metadata": {"mystnb": {"code_prompt_show": title}},
        "outputs": [{"text": "gap    2e-9\nof 20 trials\n"}],
    }
    assert title_of(cell) == "a gap of 2e-9 in 20 trials (allowed 1e-6)"
    assert title_of({"metadata": {}}) == ""
    with pytest.raises(ValueError, match="must have one group and be printed once"):
        title_of(cell | {"outputs": []})


@pytest.mark.parametrize("outputs", [(), (text("a", "b", "c"),)], ids=["nothing", "a table"])
def test_a_check_that_does_not_say_what_holds_is_a_warning(outputs, monkeypatch):
    warnings = []
    monkeypatch.setattr(folds.logger, "warning", lambda *said: warnings.append(said))
    fold_cell(cell(CHECK, *outputs), CHECK, {})
    ((words, source),) = warnings
    assert "needs a code_prompt_show" in words and source == CHECK
