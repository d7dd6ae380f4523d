"""A Sphinx extension: proofs and verifying code fold away under a line that says what holds.

The rules, so that no cell needs a tag of its own:

- a proof folds under *Proof*;
- a cell with an `assert` folds under *Checked: ...* (or under another verdict), which is the cell's
  `code_prompt_show`, its claim, or else the first line that it printed, the number beside its
  bound; where it printed a table or drew a figure, that stays in view and the code folds. A
  `{number}` of a title is taken from what the cell printed;
- imports, the code of figures, cells tagged `hide-input` and listings of many lines fold as well;
- a section whose heading is followed by `<!-- fold: what it holds -->` folds under these words.

The page is written with all of it open: without JavaScript, in print and in the notebook nothing is
hidden. `folds.js` closes the folds and has the switch that opens them all.
"""

import ast
import re
from pathlib import Path

import nbformat
import plain
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import logging
from sphinx_proof.nodes import proof_node

logger = logging.getLogger(__name__)
LISTING_IN_VIEW = 14  # lines of the library's source
TABLE = 3  # printed lines from which on an output is a table
TITLE = 150  # characters of a printed line that a title takes
NUMBER = re.compile(r"\{number\}`([^`]+)`")
FOLD_MARK = re.compile(r"<!--\s*fold:\s*(.*?)\s*-->\s*$", re.DOTALL)


class Fold(nodes.Element):
    """What folds away: `kind` is its class, `title` the line that stays."""


def visit(writer, node: Fold) -> None:
    """Open the HTML of a fold."""
    title = writer.encode(node["title"])
    title = re.sub(r"`([^`]+)`", r"<code>\1</code>", title)
    title = re.sub(
        r"\$([^$]+)\$", r'<span class="math notranslate nohighlight">\(\1\)</span>', title
    )
    writer.body.append(f'<details class="fold {node["kind"]}" open><summary>{title}</summary>\n')


def depart(writer, node: Fold) -> None:
    """Close the HTML of a fold."""
    writer.body.append("</details>\n")


class FoldAway(SphinxPostTransform):
    """Put a fold around each proof and each cell that is to have one."""

    default_priority = 150  # before myst_nb hides cells by their tags
    formats = ("html",)

    def run(self, **kwargs) -> None:
        for node in list(self.document.findall(is_proof)):
            wrap([node], "proof", "Proof")
        for node in list(self.document.findall(is_fold_mark)):
            section = node.parent
            place = section.index(node)
            section.remove(node)
            if section.children[place:]:
                title = FOLD_MARK.match(node.astext()).group(1)
                wrap(section.children[place:], "aside", title)
        path = Path(self.env.doc2path(self.env.docname))
        if path.suffix != ".ipynb":
            return
        cells = {cell.source.strip(): cell for cell in nbformat.read(path, 4).cells}
        for node in list(self.document.findall(is_cell)):
            source = node.children[0].astext().strip()
            fold_cell(node, source, cells.get(source, {}))


def is_proof(node: nodes.Node) -> bool:
    """Whether a node is a proof."""
    return isinstance(node, proof_node)


def is_picture(node: nodes.Node) -> bool:
    """Whether a node is an image or a film."""
    film = isinstance(node, nodes.raw) and 'class="player"' in node.astext()
    return film or isinstance(node, nodes.image)


def is_fold_mark(node: nodes.Node) -> bool:
    """Whether a node is the comment that folds the rest of its section."""
    return isinstance(node, nodes.raw) and FOLD_MARK.match(node.astext()) is not None


def is_cell(node: nodes.Node) -> bool:
    """Whether a node is a code cell whose source is shown."""
    return (
        isinstance(node, nodes.container)
        and node.get("nb_element") == "cell_code"
        and bool(node.children)
        and node.children[0].get("nb_element") == "cell_code_source"
    )


def title_of(cell: dict) -> str:
    """The title that a cell gives itself, or nothing, with the numbers that it printed."""
    title = cell.get("metadata", {}).get("mystnb", {}).get("code_prompt_show", "")
    return NUMBER.sub(lambda found: plain.number(found[1], plain.printed([cell])), title)


def claim_of(cell: dict) -> dict:
    """The claim that a cell makes, or an empty one."""
    return cell.get("metadata", {}).get("claim", {"says": "", "verdict": "verified"})


def said_by(cell: dict, printed: list[str]) -> str:
    """What a check holds, by its title, its claim, or what it printed if that is no table."""
    line = printed[0].strip() if 0 < len(printed) < TABLE else ""
    return title_of(cell) or claim_of(cell)["says"] or line


def fold_cell(node: nodes.container, source: str, cell: dict) -> None:
    """Fold a cell, or its source alone, by what it does."""
    code = node.children[0]
    outputs = node.children[1:]
    printed = [line for line in "\n".join(o.astext() for o in outputs).splitlines() if line.strip()]
    has_picture = any(is_picture(n) for o in outputs for n in o.findall())
    hidden = node.attributes.pop("hide_mode", None)
    named = title_of(cell)
    verdict = claim_of(cell)["verdict"]
    holds = bool(named) or verdict == "verified"
    word, kind = ("Checked", "checked") if holds else (verdict.capitalize(), "refuted")
    if source.startswith("show_source("):
        names = ", ".join(f"`{name.strip()}`" for name in source[12:-1].split(","))
        lines = "\n".join(o.astext() for o in outputs).count("\n")
        if lines > LISTING_IN_VIEW:
            wrap(node.children[:], "listing", f"Source: {names}")
        else:
            node.remove(code)
    elif "assert " in source and not has_picture:
        says = said_by(cell, printed)
        if not says:
            logger.warning("a check needs a code_prompt_show that says what it holds:\n%s", source)
        folded = node.children[:] if len(printed) < TABLE else [code]
        wrap(folded, kind, f"{word}: {shortened(says)}")
    elif has_picture:
        wrap([code], "code", named or "Code of the figure")
    elif is_preparation(source):
        wrap(node.children[:], "code", "Imports")
    elif hidden:
        wrap([code] if outputs and hidden == "input" else node.children[:], "code", named or "Code")


def shortened(text: str) -> str:
    """A title of a printed line: one space for many, and no more than fits."""
    text = re.sub(r"\s+", " ", text)
    if len(text) <= TITLE:
        return text
    text = text[: TITLE - 2].rsplit(" ", 1)[0]
    if text.count("$") % 2:  # no half of a formula
        text = text.rpartition("$")[0].rstrip()
    return text + " …"


def is_preparation(source: str) -> bool:
    """Whether a cell begins with imports and goes on with calls and numbers, if at all."""
    body = ast.parse(source).body
    imports = [isinstance(node, ast.Import | ast.ImportFrom) for node in body]
    rest = body[sum(imports) :]
    plain = all(isinstance(node, ast.Expr | ast.Assign) for node in rest)
    return all(imports[: sum(imports)]) and sum(imports) >= 3 and plain and len(rest) <= 6


def wrap(children: list, kind: str, title: str) -> None:
    """Put a fold around neighbouring nodes."""
    parent = children[0].parent
    place, fold = parent.index(children[0]), Fold(kind=kind, title=title)
    for child in children:
        parent.remove(child)
        fold.append(child)
    parent.insert(place, fold)


def setup(app: Sphinx) -> dict:
    """Register folds and scripts with Sphinx."""
    app.add_node(Fold, html=(visit, depart))
    app.add_post_transform(FoldAway)
    for name in ("access.js", "folds.js", "ledger.js", "player.js"):
        app.add_js_file(name)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
