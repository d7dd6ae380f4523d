"""Write the figures of the page on trust: what holds this book, each with its date and command.

    python tools/trust.py      or `make trust`

Nothing is measured here: figures come from what is stored, and a campaign that has not been run has
no place on the page.
"""

import json
import re
from collections import Counter

import equations
import execute
import nbformat

ROOT = execute.BOOK.parent
FIGURES = execute.BOOK / "_trust.md"  # included by the page
EVERY_RUN = "at every `make test`"
CAMPAIGNS = {  # what a command of its own stores, dates included
    "tests/mutants.md": ("Mutants of the library", "make mutants"),
    "tests/bad_calls.md": ("Bad calls", "make bad-calls"),
    "tests/kills.md": ("Kills", "make kills"),
    "tests/flakes.md": ("Repetitions", "make flakes"),
    "tests/edges.md": ("Numbers at the edge", "make edges"),
    "tests/versions.md": (
        "Other versions",
        "make test-oldest`, `make test-newest`, `make test-colab` and `make test-sphinx",
    ),
}


def cells() -> list[nbformat.NotebookNode]:
    """The code cells of all chapters."""
    chapters = [nbformat.read(path, 4) for path in execute.chapters()]
    return [cell for nb in chapters for cell in nb.cells if cell.cell_type == "code"]


def rows() -> list[tuple[str, str, str]]:
    """What is checked, the figure, and when."""
    code, said = cells(), equations.counts()
    printed = "".join(out.get("text", "") for cell in code for out in cell.outputs)
    ((caught, wrong),) = re.findall(r"(\d+) of (\d+) wrong formulas are caught", printed)
    verdicts = Counter(cell.metadata.claim.verdict for cell in code if "claim" in cell.metadata)
    golden = json.loads(
        (ROOT / "tests" / "browser" / "lab_golden.json").read_text(encoding="utf-8")
    )
    oracles = json.loads((ROOT / "tests" / "oracles.json").read_text(encoding="utf-8"))
    others = ", ".join(v for v in oracles["versions"] if v != "score_sde_pytorch")
    bench = json.loads((ROOT / "benchmarks" / "results.json").read_text(encoding="utf-8"))
    peers = ", ".join(f"{name} {v}" for name, v in bench["versions"].items() if name != "torch")
    return [
        (
            "code cells executed again, what they print and draw compared",
            f"{len(code)} cells, {sum('assert ' in cell.source for cell in code)} with assertions",
            EVERY_RUN,
        ),
        (
            "claims of the literature and of this book that a cell asserts: "
            "{ref}`the ledger <ledger>`",
            ", ".join(f"{n} {verdict}" for verdict, n in verdicts.most_common()),
            EVERY_RUN,
        ),
        (
            "labelled equations with a test or cell that fails if they are wrong: "
            "{ref}`the ledger <ledger>`",
            f"{said['checked']} of {said['equations']}",
            EVERY_RUN,
        ),
        (
            "wrong formulas put in place of the right ones and caught: {ref}`ch-errata`",
            f"{caught} of {wrong}, in {said['with a slip']} of the equations",
            EVERY_RUN,
        ),
        (
            "values of the library that the laboratory repeats in a browser, to 1e-5",
            f"{len(golden)} cases",
            f"{EVERY_RUN} for the library, at `make test-lab` for the page",
        ),
        (
            "steps, walks, kernels and densities compared with what other people's code gave",
            f"{len(oracles['rows'])} cases, of the paper's authors and of {others}",
            EVERY_RUN,
        ),
        (
            "the same work by other people's code: {doc}`benchmarks`",
            f"{len(bench['versions']) - 1} libraries: {peers}",
            f"at `make bench`, last with torch {bench['versions']['torch']}",
        ),
    ]


def figures() -> str:
    """The page's generated part."""
    lines = ["| what | figure | checked |", "|---|---|---|"]
    lines += [f"| {' | '.join(row)} |" for row in rows()]
    for name, (title, command) in CAMPAIGNS.items():
        path = ROOT / name
        if path.is_file():
            stored = re.sub(r"^#.*\n+", "", path.read_text(encoding="utf-8")).strip()
            lines += ["", f"## {title}", "", f"Stored by `{command}` in `{name}`:", "", stored]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    execute.write(FIGURES, figures())
