"""Give the book its owner's repository: every address in it follows, and no chapter runs.

    python tools/owner.py jane/score-sde-book       or `make owner REPO=jane/score-sde-book`

The files that state the address get the new one; the set-up cells are made anew from it.
"""

import re
import sys

from execute import BOOK, repository, retell

SITE = "https://github.com/"
STATED_IN = ("_config.yml", "README.md", "CITATION.cff", "pyproject.toml")


def main(new: str) -> None:
    """Replace the repository's name by `new`, owner and name."""
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", new):
        sys.exit(f"REPO must be owner/name, as in jane/score-sde-book, got {new!r}")
    old = repository()["url"].removeprefix(SITE)
    for name in STATED_IN:
        path = BOOK.parent / name
        text = path.read_text(encoding="utf-8").replace(f"github.com/{old}", f"github.com/{new}")
        path.write_text(text.replace(f"github/{old}", f"github/{new}"), encoding="utf-8")
    for path in sorted(BOOK.glob("[0-9][0-9]_*.md")):
        retell(path)
    print(f"The book's repository is {SITE}{new}")


if __name__ == "__main__":
    main(*sys.argv[1:] or [""])
