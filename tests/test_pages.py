"""What stands around a page's text: its place, its pictures, its buttons, its numbers."""

import base64
import hashlib
import itertools
import re
from types import SimpleNamespace

import numpy as np
import pages
import pytest
import yaml
from docutils import nodes
from execute import BOOK
from PIL import Image
from sphinx import addnodes

COLAB = "https://colab.research.google.com/github/{}/book/blob/main/book/03_x.ipynb"


def buttons(owner):
    """Buttons as the theme makes them."""
    return [
        {"type": "link", "url": COLAB.format(owner), "text": "Colab"},
        {"type": "group", "buttons": [{"url": f"https://github.com/{owner}/book/issues"}]},
        {"type": "javascript", "onclick": "toggle()"},
    ]


def offered(monkeypatch, owner):
    config = {"url": f"https://github.com/{owner}/book", "branch": "main"}
    monkeypatch.setattr(pages, "repository", lambda: config)
    context = {"header_buttons": buttons(owner)}
    pages.offer_colab(None, "book/03_x", "page.html", context, None)
    return context["header_buttons"]


def test_colab_opens_the_plain_notebook(monkeypatch):
    first, *rest = offered(monkeypatch, "jane")
    assert first["url"] == COLAB.format("jane").replace("/main/book/", "/notebooks/")
    assert rest == buttons("jane")[1:]


def test_without_an_owner_no_button_leads_nowhere(monkeypatch):
    assert offered(monkeypatch, "OWNER") == buttons("OWNER")[2:]


@pytest.mark.parametrize("owner, base", [("OWNER", ""), ("Jane", "https://jane.github.io/book/")])
def test_pages_have_an_address_once_the_owner_is_known(monkeypatch, owner, base):
    config = {"url": f"https://github.com/{owner}/book", "branch": "main"}
    for module in pages, pages.plain:
        monkeypatch.setattr(module, "repository", lambda: config)
    settings = SimpleNamespace(html_baseurl="")
    pages.set_address(None, settings)
    assert settings.html_baseurl == base


def test_a_chapter_shows_its_place_and_loads_far_pictures_late():
    body = '<h1>Title</h1><p>Text</p><img src="a"><img src="b"><img src="c">'
    context = {"body": body}
    pages.add_place(None, "book/03_reverse_sde", "page.html", context, None)
    pages.load_late(None, "book/03_reverse_sde", "page.html", context, None)
    title, rest = context["body"].split("</h1>\n")
    assert rest.startswith('<svg class="place"') and "is about: reverse" in rest
    assert rest.count('class="here"') == 1
    assert rest.endswith('<img src="a"><img loading="lazy" src="b"><img loading="lazy" src="c">')
    context = {"body": body}
    pages.add_place(None, "book/glossary", "page.html", context, None)
    assert context["body"] == body
    for text in ("", "<p>Text</p>", '<img src="a">'):
        context = {"body": text}
        pages.load_late(None, "book/glossary", "page.html", context, None)
        assert context["body"] == text


def test_every_place_is_a_chapters_and_a_part_of_the_picture():
    chapters = {path.name[:2] for path in BOOK.glob("[0-9][0-9]_*.md")}
    assert set(pages.PLACES) <= chapters
    assert set(pages.PLACES.values()) == set(pages.PARTS)


def test_numbers_unlike_the_pages_are_noticed(monkeypatch, tmp_path):
    """A warning stops the build, so that plain notebooks never differ from their pages."""
    said = []
    logger = SimpleNamespace(warning=lambda text, *words: said.append(text % words))
    monkeypatch.setattr(pages.logging, "getLogger", lambda name: logger)
    monkeypatch.setattr(pages.plain, "write_all", lambda folder: None)
    found = {
        "thm-a": pages.plain.Target("Theorem 2", ""),
        "eq-b": pages.plain.Target("(3)", ""),
        "ch-c": pages.plain.Target("A chapter", ""),
    }
    monkeypatch.setattr(pages.plain, "targets", lambda: found)
    numbers = {"book/01": {"theorem": {"thm-a": (2,)}, "displaymath": {"equation-eq-b": (4,)}}}
    env = SimpleNamespace(toc_fignumbers=numbers)
    app = SimpleNamespace(builder=SimpleNamespace(name="html"), outdir=tmp_path, env=env)
    pages.offer_downloads(app, None)
    assert said == ["plain notebooks say 3 of eq-b, pages 4"]


PAGE = """<html><head>
<meta charset="utf-8" />
<script>run("mode");</script><script src="own.js"></script><script async="async">
start()</script>
</head><body><button class="a" onclick="go(&quot;up&quot;)">Up</button><p>on="no"</p></body></html>
"""


def hashed(code):
    return f"'sha256-{base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()}'"


def test_a_page_runs_no_script_but_the_books(tmp_path):
    app = SimpleNamespace(builder=SimpleNamespace(name="html"), outdir=tmp_path)
    theme = tmp_path / "_static" / "a.html"
    theme.parent.mkdir()
    for path in (tmp_path / "page.html", theme):
        path.write_text(PAGE, encoding="utf-8")
    for _ in range(2):  # a page that was not written anew keeps the one it has
        pages.set_policies(app, None)
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    (written,) = re.findall(r'<meta http-equiv="Content-Security-Policy" content="(.*?)"/>', page)
    rules = dict(rule.split(" ", 1) for rule in written.split("; "))
    inline = {hashed(code) for code in ('run("mode");', "\nstart()", 'go("up")')}
    assert set(rules["script-src"].split()) == {"'self'", "'unsafe-hashes'", *inline}
    assert rules["default-src"] == rules["base-uri"] == "'none'"
    assert page.index("Content-Security-Policy") < page.index("<script")
    assert theme.read_text(encoding="utf-8") == PAGE
    assert (
        page.replace(f'\n<meta http-equiv="Content-Security-Policy" content="{written}"/>', "")
        == PAGE
    )


def test_pictures_keep_their_looks_in_fewer_bytes(tmp_path):
    app = SimpleNamespace(builder=SimpleNamespace(name="html"), outdir=tmp_path)
    (tmp_path / "_images").mkdir()
    (tmp_path / "book").mkdir()
    shade = np.linspace(0, 255, 60 * 200).reshape(60, 200)
    pixels = np.stack([59 + 0 * shade, 130 + 0 * shade, 196 + 0 * shade, shade], 2).astype("uint8")
    Image.fromarray(pixels).save(tmp_path / "_images" / "shade.png")
    bytes_before = (tmp_path / "_images" / "shade.png").stat().st_size
    page = tmp_path / "book" / "page.html"
    page.write_text('<img src="../_images/shade.png"> _images/shade.png', encoding="utf-8")
    for _ in range(2):  # a page that was not written anew keeps what it has
        pages.lighten_pictures(app, None)
        assert (
            page.read_text(encoding="utf-8")
            == '<img src="../_images/shade.webp" width="100" height="30"> _images/shade.png'
        )
    (path,) = (tmp_path / "_images").iterdir()
    assert path.name == "shade.webp" and path.stat().st_size < bytes_before
    stored = np.asarray(Image.open(path).convert("RGBA"))
    off = abs(stored.astype(int) - pixels)
    seen = stored[..., 3] > 0  # what is wholly transparent may have any colour
    assert off[seen].max() == 2 and off[..., 3].max() == 2
    assert (stored[..., 3] == 255)[pixels[..., 3] == 255].all()


def test_the_configuration_uses_the_pages():
    config = yaml.safe_load((BOOK.parent / "_config.yml").read_text(encoding="utf-8"))
    assert {"folds", "pages"} <= set(config["sphinx"]["config"]["extensions"])


def test_a_link_opens_the_laboratory_at_its_setting():
    (link,), problems = pages.laboratory("lab", "", "a\nface <n=9&a.eta=0>", 1, None)
    assert problems == []
    assert link.astext() == "a\nface"
    assert link["refuri"] == "laboratory.html?n=9&a.eta=0"
    with pytest.raises(ValueError, match="a link must be words <address>, got a face"):
        pages.laboratory("lab", "", "a face", 1, None)


def luminance(colour):
    """Relative luminance of `#rrggbb`, by WCAG 2."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_terms_have_the_drawings_colours_and_can_be_read():
    """A formula names the colour of the light page; the stylesheet knows it on the dark one."""
    style = (BOOK / "_static" / "book.css").read_text(encoding="utf-8")
    rules = (
        re.search(rf"^{on} {{( --data.*)}}$", style, re.M)[1] for on in (":root", "html.*dark.*")
    )
    light, dark = (dict(re.findall(r"--(\w+): (#\w{6});", rule)) for rule in rules)
    assert light.keys() == dark.keys()
    for colours, grounds in (  # of pages, tables' rows, and the tint of a theorem
        (light, ("#ffffff", "#f3f4f5", "#ecf3ff")),
        (dark, ("#121212", "#222832", "#29313d")),
    ):
        for colour, ground in itertools.product(colours.values(), grounds):
            low, high = sorted((luminance(colour), luminance(ground)))
            assert (high + 0.05) / (low + 0.05) >= 4.5, (colour, ground)
    pages_of_words = BOOK.glob("*.md")
    named = {
        c
        for p in pages_of_words
        for c in re.findall(r"\\color\{(.*?)\}", p.read_text(encoding="utf-8"))
    }
    names = {value: name for name, value in light.items()}
    assert named == {light["drift"], light["score"], light["noise"]}
    for colour in named:
        rgb = ", ".join(str(int(colour[i : i + 2], 16)) for i in (1, 3, 5))
        assert f'[style*="rgb({rgb})"] {{ color: var(--{names[colour]}) !important; }}' in style


def test_a_drawing_says_in_words_what_it_shows():
    drawings = [p for p in BOOK.glob("_*.html") if "<svg" in p.read_text(encoding="utf-8")]
    assert drawings
    for path in drawings:
        drawing = path.read_text(encoding="utf-8")
        name, says = re.search(r'<title id="([\w-]+)">(.*?)</title>', drawing).groups()
        assert f'aria-labelledby="{name}"' in drawing and len(says.split()) > 20
        shown = re.sub("<title.*?</title>", "", drawing)
        assert not re.findall(r"#\w{3,6}\b|rgb\(", shown), "colours are the stylesheet's"


def test_a_word_of_the_glossary_has_its_meaning_without_the_chapter():
    chapter = addnodes.pending_xref("", nodes.inline("", "ch-quality"))
    said = nodes.paragraph("", "", nodes.Text("A grid from\nthe score: "), chapter, nodes.Text("."))
    item = nodes.definition_list_item("", nodes.term("", "Pilot", ids=["term-Pilot"]))
    item += nodes.definition("", said)
    glossary = nodes.section("", nodes.definition_list("", item))
    assert pages.glosses(glossary) == {"term-Pilot": "A grid from the score."}
    assert chapter.parent is said  # the page itself keeps it


def test_the_meaning_of_a_word_is_left_to_the_style_sheet_and_other_titles_stay():
    link = '<a class="reference" href="../book/glossary.html#term-Nat" {}="A unit.">nat</a>'
    other = '<a href="glossary.html" title="all words">words</a>'
    context = {"body": link.format("title") + other}
    pages.put_glosses_aside(None, "", "", context, None)
    assert context["body"] == link.format("aria-description") + other
    assert "content: attr(aria-description)" in (BOOK / "_static/book.css").read_text(
        encoding="utf-8"
    )
