"""A Sphinx extension: what every page has around its text.

A head that says what the page is about, for search engines and shared links; the meaning of a word
from the glossary, where one rests on it; the place of a chapter in the whole picture; pictures that
load when they are reached, in few bytes; links that open the laboratory at a setting; ways to the
plain notebook, for download and on Colab, where the workflow pushes them to a branch of their own;
and, last, a policy by which a page runs no script but the book's.
"""

import base64
import hashlib
import html
import re
from pathlib import Path

import plain
from docutils import nodes
from execute import repository
from folds import shortened
from PIL import Image
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.util import logging
from weights import as_script

from sdelib.plotting import _lighter

BRANCH = "notebooks"
PLACES = {  # what of the whole picture a chapter is about
    "01": "score",
    "02": "forward",
    "03": "reverse",
    "04": "reverse",
    "05": "reverse",
    "06": "reverse",
    "10": "reverse",
    "11": "score",
}
PARTS = {
    "forward": '<path d="M52 24C110 12 210 12 268 24"/><path d="M262 18l7 6 -9 3"/>'
    '<text x="160" y="9">forward</text>',
    "score": '<text x="160" y="34">score</text>',
    "reverse": '<path d="M268 37C210 49 110 49 52 37"/><path d="M58 43l-7 -6 9 -3"/>'
    '<text x="160" y="59">reverse</text>',
}


def known() -> bool:
    """Whether the repository's owner has been named."""
    return "/OWNER/" not in repository()["url"]


def set_address(app: Sphinx, config: Config) -> None:
    """Tell Sphinx the book's address, for canonical links, once its owner is known."""
    if known() and not config.html_baseurl:
        config.html_baseurl = plain.pages().removesuffix("book")


def add_head(app: Sphinx, page: str, template: str, context: dict, document) -> None:
    """Give a page what search engines and shared links show: its first words and a picture."""
    first = next((p.astext() for p in document.findall(nodes.paragraph)), "") if document else ""
    first = re.sub(r"\\(?=\w)|[{}$]", "", first.replace("\\nabla", "∇"))  # TeX, as words
    words = html.escape(shortened(first) or app.config.html_title)
    title = html.escape(re.sub("<.*?>", "", context.get("title", "")))
    up = context["pathto"]("_static/cover.png", 1)
    context["metatags"] = context.get("metatags", "") + (
        f'<meta name="description" content="{words}"/>\n'
        f'<meta property="og:title" content="{title}"/>\n'
        f'<meta property="og:description" content="{words}"/>\n'
        f'<meta property="og:image" content="{up}"/>\n'
    )


def keep_out_of_searches(app: Sphinx, doctree: nodes.document) -> None:
    """Make no entries of the glossary's words, as a search shows these before the chapters."""
    if app.env.docname == "book/glossary":
        for entry in list(doctree.findall(addnodes.index)):
            entry.parent.remove(entry)


def explain_words(app: Sphinx, doctree: nodes.document, page: str) -> None:
    """Say what a word means to who rests on it, where it is a link to the glossary."""
    meanings = glosses(app.env.get_doctree("book/glossary"))
    for link in doctree.findall(nodes.reference):
        anchor = link.get("refuri", "").partition("#")[2]
        if anchor in meanings:
            link["reftitle"] = meanings[anchor]


def glosses(glossary: nodes.document) -> dict[str, str]:
    """The meanings of a glossary's words by their anchors, without the chapters that they name."""
    found = {}
    for item in glossary.findall(nodes.definition_list_item):
        words = [id for term in item.findall(nodes.term) for id in term["ids"]]
        (meaning,) = item.findall(nodes.definition)
        meaning = meaning.deepcopy()
        for chapter in list(meaning.findall(addnodes.pending_xref)):
            chapter.parent.remove(chapter)
        said = " ".join(meaning.astext().split()).replace("\\", "")  # of formulas, their text
        found |= dict.fromkeys(words, said.rstrip(":,. ") + ".")
    return found


def put_glosses_aside(app: Sphinx, page: str, template: str, context: dict, document) -> None:
    """Leave a word's meaning to the style sheet, which shows it in the margin."""
    titled = r'(href="[^"]*glossary\.html#term-[^"]*") title='
    context["body"] = re.sub(titled, r"\1 aria-description=", context.get("body", ""))


def place(name: str) -> str:
    """The whole picture, small, with one part marked: where a chapter stands."""
    parts = "".join(
        f'<g class="{"here" if part == name else "there"}">{drawn}</g>'
        for part, drawn in PARTS.items()
    )
    return (
        f'<svg class="place" viewBox="0 0 320 62" role="img" aria-label="Of data, forward SDE, '
        f'noise, score and reverse process, this chapter is about: {name}">'
        f'<text x="26" y="34">data</text>{parts}<text x="295" y="34">noise</text></svg>'
    )


def add_place(app: Sphinx, page: str, template: str, context: dict, document) -> None:
    """Put the chapter's place below its title."""
    number = re.match(r"\d\d(?=_)", Path(page).name)
    if number and number[0] in PLACES:
        drawn = place(PLACES[number[0]])
        context["body"] = context["body"].replace("</h1>", f"</h1>\n{drawn}", 1)


def load_late(app: Sphinx, page: str, template: str, context: dict, document) -> None:
    """Let pictures load when they are reached, all but the first, which stands at the top."""
    above, *below = context.get("body", "").split("<img ")
    if below:
        context["body"] = "<img ".join([above, below[0]]) + "".join(
            f'<img loading="lazy" {picture}' for picture in below[1:]
        )


def numbers_of(env) -> dict[str, str]:
    """The numbers that Sphinx gave, by label."""
    return {
        label.removeprefix("equation-"): str(number[0])
        for kinds in env.toc_fignumbers.values()
        for ids in kinds.values()
        for label, number in ids.items()
    }


def offer_downloads(app: Sphinx, exception: Exception | None) -> None:
    """Put plain notebooks where a page's download button leads; warn of numbers unlike Sphinx's."""
    if exception is not None or app.builder.name != "html":
        return
    plain.write_all(Path(app.outdir) / "_sources" / "book")
    numbers = numbers_of(app.env)
    for label, target in plain.targets().items():
        number = target.words.strip("()").split()[-1]
        if numbers.get(label, number) != number:
            logging.getLogger(__name__).warning(
                "plain notebooks say %s of %s, pages %s", number, label, numbers[label]
            )


def offer_colab(app: Sphinx, page: str, template: str, context: dict, document) -> None:
    """Let the Colab button open the plain notebook. Until the owner is known there is no button
    that leads to the repository.
    """
    old, new = f"/blob/{repository()['branch']}/book/", f"/blob/{BRANCH}/"

    def mended(button: dict) -> dict | None:
        if "buttons" in button:
            inside = [kept for kept in map(mended, button["buttons"]) if kept]
            return {**button, "buttons": inside} if inside else None
        url = button.get("url", "")
        if "colab" in url:
            button = {**button, "url": url.replace(old, new)}
        return button if known() or "/OWNER/" not in url else None

    context["header_buttons"] = [
        kept for kept in map(mended, context.get("header_buttons", [])) if kept
    ]


def offer_digits(app: Sphinx, exception: Exception | None) -> None:
    """Put the digits' weights where the laboratory fetches them."""
    if exception is None and app.builder.name == "html":
        script = Path(app.outdir) / "_static" / "lab" / "digits_weights.js"
        script.write_text(as_script("digits", "digits_weights"), encoding="utf-8")


def lighten_pictures(app: Sphinx, exception: Exception | None) -> None:
    """Let pages show pictures in fewer bytes: as lossless WebP, colours and opacity rounded by at
    most 2 of 255. The page gives each its place, one pixel for two of the picture's.
    """
    if exception is not None or app.builder.name != "html":
        return
    for path in (Path(app.outdir) / "_images").glob("*.png"):
        with Image.open(path) as picture:
            _lighter(picture).save(path.with_suffix(".webp"), lossless=True, quality=80)
        path.unlink()

    def placed(source: re.Match) -> str:
        name = f"{source[2]}.webp"
        with Image.open(Path(app.outdir) / "_images" / name) as picture:
            width, height = (n // 2 for n in picture.size)
        return f'{source[1]}{name}" width="{width}" height="{height}"'

    for path in Path(app.outdir).rglob("*.html"):
        page = path.read_text(encoding="utf-8")
        if (shown := PNG.sub(placed, page)) != page:
            path.write_text(shown, encoding="utf-8", newline="\n")


INLINE = re.compile(r"<script\b(?![^>]*\bsrc=)[^>]*>(.*?)</script>", re.DOTALL)
PNG = re.compile(r'(\bsrc="(?:\.\./)*_images/)([^"/]+)\.png"')
HANDLER = re.compile(r'\son[a-z]+="([^"]*)"')
CHARSET = re.compile(r'<meta charset="utf-8" ?/?>')


def policy(page: str) -> str:
    """The Content-Security-Policy of a finished page.

    Scripts come from the book's own files, or are those that the theme wrote into this very page,
    known by their hashes. Styles may stand in the page: MathJax writes its own.
    """
    code = INLINE.findall(page) + [html.unescape(handler) for handler in HANDLER.findall(page)]
    hashes = {base64.b64encode(hashlib.sha256(c.encode()).digest()).decode() for c in code}
    rules = {
        "default-src": "'none'",
        "script-src": " ".join(
            ["'self' 'unsafe-hashes'", *(f"'sha256-{h}'" for h in sorted(hashes))]
        ),
        "style-src": "'self' 'unsafe-inline'",
        "img-src": "'self' data: blob:",
        "font-src": "'self' data:",
        "connect-src": "'self'",
        "form-action": "'self'",
        "base-uri": "'none'",
    }
    return "; ".join(f"{what} {allowed}" for what, allowed in rules.items())


def set_policies(app: Sphinx, exception: Exception | None) -> None:
    """Write each page's policy into it, before anything that it rules."""
    if exception is not None or app.builder.name != "html":
        return
    for path in Path(app.outdir).rglob("*.html"):
        page = path.read_text(encoding="utf-8")
        start = CHARSET.search(page)
        if start and "_static" not in path.parts and 'http-equiv="Content-Sec' not in page:
            meta = f'\n<meta http-equiv="Content-Security-Policy" content="{policy(page)}"/>'
            page = page[: start.end()] + meta + page[start.end() :]
            path.write_text(page, encoding="utf-8", newline="\n")


def laboratory(name, rawtext, text, lineno, inliner, options=None, content=None):
    """Role of a link that opens the laboratory at a setting: ``{lab}`words <target=line>` ``."""
    words, setting = plain.link(text)
    return [nodes.reference(rawtext, words, refuri=f"laboratory.html?{setting}")], []


def number(name, rawtext, text, lineno, inliner, options=None, content=None):
    """Role of a number that a sentence takes from what this chapter's cells printed."""
    path = Path(inliner.document.settings.env.doc2path(inliner.document.settings.env.docname))
    try:
        return [nodes.Text(plain.number(text, plain.printed(plain.cells_of(path))))], []
    except ValueError as problem:
        message = inliner.reporter.error(str(problem), line=lineno)
        return [inliner.problematic(rawtext, rawtext, message)], [message]


def setup(app: Sphinx) -> dict:
    """Register with Sphinx."""
    app.add_role("lab", laboratory)
    app.add_role("number", number)
    app.connect("config-inited", set_address)
    app.connect("doctree-read", keep_out_of_searches)
    app.connect("doctree-resolved", explain_words)
    app.connect("html-page-context", add_head)
    app.connect("html-page-context", put_glosses_aside)
    app.connect("html-page-context", add_place)
    app.connect("html-page-context", load_late)
    app.connect("html-page-context", offer_colab, priority=900)  # after the theme's own buttons
    app.connect("build-finished", offer_downloads)
    app.connect("build-finished", offer_digits)
    app.connect("build-finished", lighten_pictures)
    app.connect("build-finished", set_policies, priority=900)  # after whatever writes pages
    return {"parallel_read_safe": True, "parallel_write_safe": True}
