"""Repeat the three experiments over several seeds and store what each run reaches.

    python tools/seeds.py [chapter ...]        or `make seeds`; e.g. 08_smile, all without a name

The chapters' own cells are executed, so there is no second copy of an experiment: those tagged
`experiment` train, `experiment(seed)`, and those tagged `measurement` judge, `measure(data,
score)`. The results go into the library, where `sdelib.learned.runs` finds them, with a fingerprint
of the code that a test compares with the chapter's. `weights.py` does the same for the weights.
"""

import hashlib
import json
import os
import sys
from pathlib import Path

import jupytext

os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).resolve().parents[1]
BOOK, WEIGHTS = ROOT / "book", ROOT / "sdelib" / "weights"
CHAPTERS = {"mixture": "07_gaussian_mixture", "smile": "08_smile", "digits": "09_digits"}
N_SEEDS = {
    "07_gaussian_mixture": 20,
    "08_smile": 8,
    "09_digits": 8,
}  # about a third, one and three minutes a seed


def tagged_code(chapter: str, *tags: str) -> str:
    """The source of the chapter's cells that have one of the tags."""
    cells = jupytext.read(BOOK / f"{chapter}.md").cells
    return "\n\n".join(
        cell.source for cell in cells if set(tags) & set(cell.metadata.get("tags", []))
    )


def repeated_code(chapter: str) -> str:
    """All that a run over seeds executes."""
    return tagged_code(chapter, "experiment", "measurement")


def fingerprint(code: str) -> str:
    """What changes when the code does, its layout apart."""
    return hashlib.sha256("".join(code.split()).encode()).hexdigest()[:16]


def names_after(code: str, chapter: str) -> dict:
    """What the chapter's cells with that code define: `experiment`, `measure` and what they use."""
    names: dict = {}
    exec(compile(code, chapter, "exec"), names)
    return names


def results(chapter: str) -> Path:
    """Where the library keeps the chapter's runs."""
    (name,) = (name for name, its_chapter in CHAPTERS.items() if its_chapter == chapter)
    return WEIGHTS / f"{name}.json"


def main(chapters: list[str]) -> None:
    """Run every seed of the chapters and write the results."""
    for chapter in chapters:
        if chapter not in N_SEEDS:
            sys.exit(f"there is no experiment {chapter}, only {', '.join(N_SEEDS)}")

    from tqdm.auto import tqdm

    for chapter in chapters or N_SEEDS:
        code = repeated_code(chapter)
        names = names_after(code, chapter)
        runs = []
        for seed in tqdm(range(N_SEEDS[chapter]), desc=chapter):
            data, score, _ = names["experiment"](seed)
            runs.append({"seed": seed, **names["measure"](data, score)})
        results(chapter).write_text(
            json.dumps({"code": fingerprint(code), "runs": runs}, indent=1) + "\n",
            encoding="utf-8",
            newline="\n",
        )


if __name__ == "__main__":
    main(sys.argv[1:])
