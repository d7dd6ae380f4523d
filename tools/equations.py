"""What fails where a labelled equation of the book is wrong, as the ledger's table.

`book/equations.yml` names for each label a test or a cell that asserts. A cell is named by a piece
of its code, so that the entry goes stale when the cell does.
"""

import re
from collections import Counter
from functools import cache
from pathlib import Path
from typing import NamedTuple

import nbformat
import yaml

ROOT = Path(__file__).resolve().parents[1]
TABLE = ROOT / "book" / "_equations.md"  # included by the page of all claims
LABELLED = re.compile(r"^ *\$\$ *\((eq-[\w-]+)\)$", re.MULTILINE)


class Check(NamedTuple):
    """One thing that fails: where it stands, and what it is there; or why there is none."""

    kind: str  # "test", "cell" or "none"
    place: str  # a file of tests, or a chapter and the section of the cell
    what: str


def labels() -> dict[str, list[str]]:
    """The labels of each page's equations, in their order."""
    texts = {path.stem: path.read_text(encoding="utf-8") for path in (ROOT / "book").glob("*.md")}
    found = {page: LABELLED.findall(text) for page, text in sorted(texts.items())}
    return {page: some for page, some in found.items() if some}


def entries() -> dict[str, dict[str, list]]:
    """What `book/equations.yml` says: the checks of each label of each chapter."""
    return yaml.safe_load((ROOT / "book" / "equations.yml").read_text(encoding="utf-8"))


def check_of(entry: str | dict, chapter: str) -> Check:
    """The check that an entry names; ``ValueError`` where it does not exist."""
    if isinstance(entry, dict):
        (kind, why), *rest = entry.items()
        if kind != "none" or rest:
            raise ValueError(f"an entry must be a test, a cell's code or none: why, got {entry}")
        return Check("none", "", why)
    if found := re.fullmatch(r"(test_\w+\.py)::(test_\w+)", entry):
        file, name = found.groups()
        path = ROOT / "tests" / file
        defined = path.is_file() and f"\ndef {name}(" in path.read_text(encoding="utf-8")
        if not defined:
            raise ValueError(f"a test must exist, got {entry}")
        return Check("test", file, name)
    if elsewhere := re.match(r"(\d\d_\w+): ", entry):
        chapter, entry = elsewhere[1], entry[elsewhere.end() :]
    found = [section for section, code in asserting(chapter) if entry in code]
    if len(found) != 1:
        raise ValueError(f"code must be in one cell that asserts, got {len(found)}: {entry}")
    return Check("cell", f"{{doc}}`{chapter}`: {found[0]}", entry)


@cache
def asserting(chapter: str) -> list[tuple[str, str]]:
    """The cells of a chapter with an `assert`, each as its section and its code."""
    section, found = "", []
    for cell in nbformat.read(ROOT / "book" / f"{chapter}.ipynb", 4).cells:
        if cell.cell_type == "markdown":
            section = (re.findall(r"^#+ (.*)$", cell.source, re.MULTILINE) or [section])[-1]
        elif "assert " in cell.source:
            found.append((section, cell.source))
    return found


def checks() -> dict[str, list[Check]]:
    """The checks of each label, in the order of the book; none where none is named."""
    named = entries()
    return {
        label: [check_of(entry, chapter) for entry in named.get(chapter, {}).get(label, [])]
        for chapter, found in labels().items()
        for label in found
    }


def slips() -> Counter:
    """How many wrong formulas of `tests/test_wrong_formulas.py` garble each equation."""
    source = (ROOT / "tests" / "test_wrong_formulas.py").read_text(encoding="utf-8")
    return Counter(re.findall(r'"(eq-[\w-]+)"', source))


def counts() -> dict[str, int]:
    """How many equations there are, how many have a check, and how many a wrong formula."""
    found, wrong = checks(), slips()
    checked = [label for label, some in found.items() if any(c.kind != "none" for c in some)]
    return {
        "equations": len(found),
        "checked": len(checked),
        "with a slip": len(wrong),
    }


def table() -> str:
    """The ledger's table: each equation, what fails where it is wrong, and its wrong formulas."""
    said, wrong = counts(), slips()
    lines = [
        f"Of {said['equations']} labelled equations {said['checked']} name a test or a cell that "
        f"fails where they are wrong. In {said['with a slip']} of them wrong formulas were put, to "
        "see a test fail.",
        "",
        "### Equation by equation",
        "",
        "<!-- fold: The labelled equations in order, each with what fails if it is wrong -->",
        "",
        "| equation | what fails | wrong formulas caught |",
        "|---|---|---|",
    ]
    for label, some in checks().items():
        shown = {
            "test": lambda c: f"`{c.place}::{c.what}`",
            "cell": lambda c: c.place,
            "none": lambda c: f"*no check*: {c.what}",
        }
        name = label.removeprefix("eq-").replace("-", " ")
        fails = "; ".join(dict.fromkeys(shown[c.kind](c).replace("|", r"\|") for c in some))
        lines.append(f"| {{eq}}`{label}` {name} | {fails} | {wrong[label] or ''} |")
    return "\n".join(lines) + "\n"
