"""Make plain notebooks of the chapters: what Colab, GitHub, Kaggle and Jupyter show without MyST.

    python tools/plain.py [--revision COMMIT] [FOLDER]      or `make notebooks`

Numbers of equations, theorems, figures and exercises are those of the rendered page, references
become links to it, citations become author and year, solutions fold, films become stills, drawings
words. Code and outputs stay as they are. `--revision` pins the version that the set-up cell
fetches.
"""

from __future__ import annotations

import argparse
import html
import re
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import nbformat
from execute import BOOK, PICTURE, chapters, documents, repository, setup_cell
from pybtex.database import parse_file

ROOT = BOOK.parent
ROLE = re.compile(r"\{([a-z:]+)\}`([^`]+)`")
FENCE = re.compile(r"^(:{3,}|`{3,})\{([\w:-]+)\}[ ]*(.*)$")
OPTION = re.compile(r"^:([\w-]+):\s*(.*)$")
LABEL = re.compile(r"^\(([\w-]+)\)=$")
HEADING = re.compile(r"^#+ (.*)$")
DISPLAY = re.compile(r"\$\$(.+?)\$\$(?:[ ]*\(([\w-]+)\))?", re.DOTALL)
THEOREMS = ("theorem", "proposition", "lemma", "corollary", "algorithm", "definition")
VERBATIM = re.compile(r"^(`{3,})(?!\{).*?^\1`*$", re.MULTILINE | re.DOTALL)


class Target(NamedTuple):
    """Where a label points: the words that stand for it, and the page that has it."""

    words: str
    link: str


def printed(cells: list[nbformat.NotebookNode]) -> str:
    """What the cells printed, one blank for many."""
    outputs = [out for cell in cells for out in cell.get("outputs", [])]
    texts = [out.get("text") or out.get("data", {}).get("text/plain", "") for out in outputs]
    return "\n".join(" ".join(line.split()) for text in texts for line in text.splitlines())


def number(pattern: str, text: str) -> str:
    """The number that a sentence says: the group of a pattern, found once in what was printed."""
    found = [match.groups() for match in re.finditer(pattern, text, re.MULTILINE)]
    if len(found) != 1 or len(found[0]) != 1:
        raise ValueError(f"{pattern!r} must have one group and be printed once, found {found}")
    return found[0][0]


def pages() -> str:
    """The address of the rendered book, by GitHub's rule."""
    owner, name = repository()["url"].rstrip("/").split("/")[-2:]
    return f"https://{owner.lower()}.github.io/{name}/book"


def link(text: str) -> tuple[str, str]:
    """The words and the address of ``words <address>``."""
    parts = re.fullmatch(r"(.+?)\s*<(.*)>", text, re.DOTALL)
    if not parts:
        raise ValueError(f"a link must be words <address>, got {text}")
    return parts[1], parts[2]


def cells_of(path: Path) -> list[nbformat.NotebookNode]:
    """The page's cells: a page without code is one cell of words."""
    if path.suffix == ".ipynb":
        return nbformat.read(path, 4).cells
    return [nbformat.v4.new_markdown_cell(path.read_text(encoding="utf-8"))]


def targets() -> dict[str, Target]:
    """Every label of the book. Kinds are counted through the whole book, as Sphinx does."""
    found, count = {}, Counter()

    def add(label: str, kind: str, words: str, page: str) -> None:
        count[kind] += 1
        found[label] = Target(words.format(count[kind]), f"{page}#{label}")

    for path in documents():
        page = f"{pages()}/{path.stem}.html"
        for cell in cells_of(path):
            shown = cell.metadata.get("mystnb", {}).get("figure", {})
            if cell.cell_type == "code":
                if "name" in shown:
                    add(shown["name"], "figure", "Fig. {}", page)
                continue
            lines = VERBATIM.sub("", cell.source).splitlines()
            for i, line in enumerate(lines):
                if label := LABEL.match(line):
                    title = next(m for m in map(HEADING.match, lines[i + 1 :]) if m)
                    found[label[1]] = Target(title[1], f"{page}#{label[1]}")
                elif fence := FENCE.match(line):
                    options = options_after(lines, i + 1)
                    name = options.get("label") or options.get("name")
                    kind = fence[2].removeprefix("prf:")
                    if name and kind == "figure":
                        add(name, kind, "Fig. {}", page)
                    elif name and kind in ("exercise", *THEOREMS):
                        add(name, kind, kind.capitalize() + " {}", page)
            for _, label in DISPLAY.findall(cell.source):
                if label:
                    add(label, "equation", "({})", page)
    return found


def options_after(lines: list[str], start: int) -> dict[str, str]:
    """The options of a directive: the lines `:name: value` from `start` on."""
    options = {}
    for line in lines[start:]:
        if (option := OPTION.match(line)) is None:
            break
        options[option[1]] = option[2]
    return options


def citations() -> dict[str, tuple[str, str, str]]:
    """Authors, year and address of each source."""
    found = {}
    for key, entry in parse_file(BOOK / "references.bib").entries.items():
        people = entry.persons.get("author") or entry.persons["editor"]
        names = [re.sub(r"[{}]", "", " ".join(p.prelast_names + p.last_names)) for p in people]
        who = f"{names[0]} et al." if len(names) > 2 else " and ".join(names)
        fields = entry.fields
        url = fields.get("url", "")
        for field, site in ("eprint", "https://arxiv.org/abs/"), ("doi", "https://doi.org/"):
            if not url and field in fields:
                url = site + fields[field]
        found[key] = who, fields["year"], url or f"{pages()}/references.html"
    return found


class Plain:
    """One chapter on its way to a plain notebook: `printed` is what its cells have printed,
    `solution` says whose solution is being read.
    """

    def __init__(self, page: str, found: dict[str, Target], sources: dict, printed: str = ""):
        self.page, self.targets, self.sources, self.printed = page, found, sources, printed
        self.solution = ""

    def role(self, match: re.Match) -> str:
        """What a role becomes."""
        name, text = match.groups()
        if name in ("cite:p", "cite:t"):
            cited = [self.sources[key.strip()] for key in text.split(",")]
            if name == "cite:t":
                return ", ".join(f"[{who} ({year})]({url})" for who, year, url in cited)
            return "(" + "; ".join(f"[{who}, {year}]({url})" for who, year, url in cited) + ")"
        if name in ("func", "class", "meth", "mod"):
            full = text.lstrip("~")
            short = full.rsplit(".", 1)[-1] if text.startswith("~") else full
            return f"[`{short}`]({pages()}/api.html#{full})"
        if name == "lab":
            words, setting = link(text)
            return f"[{words}]({pages()}/laboratory.html?{setting})"
        if name == "number":
            return number(text, self.printed)
        if name in ("doc", "term"):
            return text.split("<")[0].strip()
        words, label = re.fullmatch(r"(?:(.*?)\s*<)?([\w-]+)>?", text).groups()
        target = self.targets[label]
        return f"[{words or target.words}]({target.link})"

    def words(self, text: str) -> str:
        """Prose and formulas without what only MyST reads."""
        text = re.sub(r"<!--.*?-->\n?", "", text, flags=re.DOTALL)
        text = re.sub(r"^\([\w-]+\)=\n", "", text, flags=re.MULTILINE)
        text = re.sub(r"^%.*\n", "", text, flags=re.MULTILINE)
        return ROLE.sub(self.role, DISPLAY.sub(self.formula, text))

    def formula(self, match: re.Match) -> str:
        """A displayed formula with its number."""
        inside, label = match.groups()
        if label is None:
            return match[0]
        number = self.targets[label].words.strip("()")
        return f"$${inside.rstrip()} \\tag{{{number}}}\n$$"

    def directive(self, kind: str, title: str, options: dict[str, str], body: str) -> str:
        """A block with its title; what the page folds as an answer is folded here too."""
        kind = kind.removeprefix("prf:")
        label = options.get("label") or options.get("name", "")
        if kind == "solution-start":
            self.solution = self.targets[title].words.lower()
            return f"<details><summary>Solution to {self.solution}</summary>\n"
        if kind == "solution-end":
            self.solution = ""
            return "\n</details>"
        inside = self.text(body)
        if kind == "solution":
            title = f"Solution to {self.targets[title].words.lower()}"
        if kind in ("dropdown", "solution") or "dropdown" in options.get("class", ""):
            summary = re.sub(r"\*\*|`", "", title)
            return f"<details><summary>{summary}</summary>\n\n{inside}\n\n</details>"
        if kind == "proof":
            end = "" if inside.endswith("$$") else " $\\square$"
            return f"*Proof.* {inside}{end}"
        if kind in ("exercise", *THEOREMS):
            name = self.targets[label].words if label in self.targets else kind.capitalize()
            return f"**{name}{f' ({self.words(title)})' if title else ''}.** {inside}"
        if kind in ("admonition", "note", "tip", "warning", "important", "seealso"):
            return f"**{self.words(title) or kind.capitalize()}.** {inside}"
        if kind == "math":
            return f"$$\n{body}\n$$"
        if kind == "raw":  # a drawing, which carries its own words
            drawing = (BOOK / options["file"]).read_text(encoding="utf-8")
            says = html.unescape(re.search(r"<title\b[^>]*>(.*?)</title>", drawing)[1])
            return f"*Drawn on the [page]({self.page}).* {says}"
        raise ValueError(
            f"no plain form of the directive {kind!r} is known; add it to tools/plain.py"
        )

    def text(self, source: str) -> str:
        """The words of a cell, or of a block, with all directives resolved."""
        lines, out, prose, i = source.splitlines(), [], [], 0
        while i < len(lines):
            fence = FENCE.match(lines[i])
            verbatim = re.match(r"^(`{3,})(?!\{)", lines[i])
            if not fence and not verbatim:
                prose.append(lines[i])
                i += 1
                continue
            mark = (fence or verbatim)[1]
            end = next(
                j for j in range(i + 1, len(lines)) if re.fullmatch(f"{mark}{mark[0]}*", lines[j])
            )
            out += [self.words("\n".join(prose))]
            if fence:
                options = options_after(lines, i + 1)
                body = "\n".join(lines[i + 1 + len(options) : end]).strip()
                out += [self.directive(fence[2], fence[3].strip(), options, body)]
            else:
                out += ["\n".join(lines[i : end + 1])]
            prose, i = [], end + 1
        return "\n".join([*out, self.words("\n".join(prose))]).strip()

    def cell_of_words(self, source: str) -> str:
        """A cell of words; a solution that goes on over several cells folds in each."""
        before = self.solution
        text = self.text(source)
        if before and text.startswith("</details>"):
            text = text.removeprefix("</details>").strip()
        elif before:
            text = f"<details><summary>Solution to {before}, continued</summary>\n\n{text}"
        return f"{text}\n\n</details>" if self.solution else text

    def cells(self, nb: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
        """The notebook's cells, made plain."""
        made = []
        for cell in nb.cells:
            if cell.cell_type == "markdown":
                if text := self.cell_of_words(cell.source):
                    made.append(nbformat.v4.new_markdown_cell(text, id=cell.id))
                continue
            shown = cell.metadata.pop("mystnb", {}).get("figure", {})
            cell.metadata.pop("claim", None)
            if self.solution:
                cell.metadata["jupyter"] = {"source_hidden": True, "outputs_hidden": True}
            films = [i for i, out in enumerate(cell.outputs) if is_film(out)]
            cell.outputs = [still(out) if i in films else out for i, out in enumerate(cell.outputs)]
            made.append(cell)
            below = [f"The [page]({self.page}) plays this film."] if films else []
            if "caption" in shown:
                number = self.targets[shown["name"]].words if "name" in shown else "Figure"
                below.append(f"**{number}.** {self.words(shown['caption']).strip()}")
            if below:
                made.append(nbformat.v4.new_markdown_cell("\n\n".join(below), id=f"{cell.id}-c"))
        return made


def is_film(output: nbformat.NotebookNode) -> bool:
    """Whether an output is a film of the page's player."""
    return 'class="player"' in output.get("data", {}).get("text/html", "")


def still(output: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """A film's still picture."""
    picture = PICTURE.search(output.data["text/html"])[1]
    output.data = {"image/png": picture, "text/plain": output.data["text/plain"]}
    return output


def plain(path: Path, found: dict[str, Target], sources: dict, revision: str = "") -> str:
    """The plain notebook of a chapter, as JSON."""
    nb = nbformat.read(path, 4)
    page = f"{pages()}/{path.stem}.html"
    nb.cells = Plain(page, found, sources, printed(nb.cells)).cells(nb)
    first = next(cell for cell in nb.cells if cell.cell_type == "markdown")
    title, _, rest = first.source.partition("\n")
    first.source = (
        f"{title}\n\n*The [rendered page]({page}) of this notebook has films and folds.*\n{rest}"
    )
    setup = next(cell for cell in nb.cells if "remove-cell" in cell.metadata.get("tags", []))
    setup.source = setup_cell(revision)
    nb.metadata = {"kernelspec": nb.metadata["kernelspec"]}
    return nbformat.writes(nb) + "\n"


def write_all(folder: Path, revision: str = "") -> None:
    """Write all plain notebooks into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    found, sources = targets(), citations()
    for path in chapters():
        text = plain(path, found, sources, revision)
        (folder / path.name).write_text(text, encoding="utf-8", newline="\n")


def main() -> None:
    """Write the plain notebooks."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", nargs="?", type=Path, default=ROOT / "_build" / "notebooks")
    parser.add_argument("--revision", default="", help="the commit or tag that the notebooks fetch")
    args = parser.parse_args()
    write_all(args.folder, args.revision)


if __name__ == "__main__":
    main()
