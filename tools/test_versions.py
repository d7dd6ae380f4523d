"""Test the book with other versions than the lock's, and store what came out.

    python tools/test_versions.py oldest|newest|colab|sphinx      or `make test-oldest` and so on

- `oldest`: the library's tests with the lowest versions that `pyproject.toml` allows;
- `newest`: the same with the newest that can be installed;
- `colab`: every plain notebook, alone in a folder, with Colab's versions (`colab.txt`). It fetches
  the book from this repository's last commit; its numbers and words are compared with the stored
  ones, as in `make test`. Figures are not, because another matplotlib draws them otherwise;
- `sphinx`: the book with the newest Sphinx and without Jupyter Book, from the same configuration,
  for the day on which Jupyter Book 1 stops.

Each set has an environment of its own, made by uv with a Python that is on the machine.
`tests/versions.md` keeps the last result of each.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

import execute
import plain

ROOT = execute.BOOK.parent
RESULTS = ROOT / "tests" / "versions.md"
HEAD = "| set | date | versions | result |\n|---|---|---|---|\n"
PYTHONS = {"oldest": "3.11", "newest": "3", "colab": "3.13", "sphinx": "3"}
INSTALL = {
    "oldest": ["--resolution", "lowest-direct", "-e", ".[book]"],
    "newest": ["--upgrade", "-e", ".[book]"],
    "colab": ["-r", "tools/colab.txt"],
    "sphinx": ["--upgrade", "-r", "tools/sphinx.txt", "-e", "."],
}
SHOWN = dict.fromkeys(INSTALL, ("torch", "numpy", "scipy", "matplotlib", "scikit-learn", "ipython"))
SHOWN["sphinx"] = ("sphinx", "docutils", "myst-parser", "myst-nb", "sphinx-book-theme")
# a notebook's numbers and words, computed anew in an environment that has neither nbval nor pillow
RUN = """
import sys, nbformat
from nbclient import NotebookClient
nb = nbformat.read(sys.argv[1], 4)
NotebookClient(nb, kernel_name="python3", timeout=3600, coalesce_streams=True,
               resources={"metadata": {"path": sys.argv[2]}}).execute()
nbformat.write(nb, sys.argv[1])
"""


def environment(kind: str) -> Path:
    """The Python of an environment with that set of versions."""
    folder = ROOT / f".venv-{kind}"
    python, uv = folder / "bin" / "python", [sys.executable, "-m", "uv"]
    if not folder.exists():
        subprocess.run([*uv, "venv", "-q", "--python", PYTHONS[kind], folder], check=True)
    install = [*uv, "pip", "install", "-q", "--python", python, *INSTALL[kind]]
    subprocess.run(install, cwd=ROOT, check=True)
    return python


def versions(python: Path, names: tuple[str, ...]) -> str:
    """The versions that matter, as one text."""
    code = (
        "import platform; from importlib.metadata import version; "
        f"print('Python', platform.python_version(), *(f'{{n}} {{version(n)}}' for n in {names}))"
    )
    return subprocess.run([python, "-c", code], check=True, stdout=-1, encoding="utf-8").stdout


def run_library(python: Path) -> tuple[bool, str]:
    """Run the library's tests, all but those of the lock."""
    command = [python, "-m", "pytest", "tests", "-q", "-n", "logical", "-m", "not lock"]
    run = subprocess.run(command, cwd=ROOT, stdout=-1, encoding="utf-8")
    print(run.stdout[-6000:])
    return run.returncode == 0, run.stdout.strip().splitlines()[-1].strip("= ")


def differences(stored, rerun) -> list[str]:
    """What printed text differs between two notebooks."""
    from nbval_tolerance import LIMITS, text_difference

    found = []
    pairs = zip(*([c for c in nb.cells if c.cell_type == "code"] for nb in (stored, rerun)))
    for before, after in pairs:
        limits = {"rtol": LIMITS["rtol"], "atol": LIMITS["atol"]}
        for tag in before.metadata.get("tags", []):
            name, _, value = tag.partition("=")
            if name in limits:
                limits[name] = float(value)
        texts = [
            "".join(out.text for out in cell.outputs if out.get("name") == "stdout")
            for cell in (before, after)
        ]
        if difference := text_difference(*texts, **limits):
            found.append(difference)
    return found


def run_notebooks(python: Path) -> tuple[bool, str]:
    """Run every plain notebook, alone in a folder, and compare what it prints."""
    import nbformat

    failed, start = [], time.perf_counter()
    found, sources = plain.targets(), plain.citations()
    with tempfile.TemporaryDirectory() as folder:
        alone = Path(folder, "alone")
        alone.mkdir()
        fetched_from = {
            "HOME": folder,
            "TQDM_DISABLE": "1",
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": f"url.{ROOT}.insteadOf",
            "GIT_CONFIG_VALUE_0": execute.repository()["url"],
        }
        for path in execute.chapters():
            made = alone / path.name
            made.write_text(plain.plain(path, found, sources, "HEAD"), encoding="utf-8")
            stored = nbformat.read(made, 4)
            command = [python, "-c", RUN, made, alone]
            run = subprocess.run(
                command, env={**os.environ, **fetched_from}, stderr=-1, encoding="utf-8"
            )
            wrong = [run.stderr[-2000:]] if run.returncode else []
            wrong += differences(stored, nbformat.read(made, 4))
            print(f"{path.stem}: {wrong[0] if wrong else 'as stored'}", flush=True)
            failed += [path.stem] if wrong else []
            made.unlink()
    minutes = (time.perf_counter() - start) / 60
    n = len(execute.chapters())
    result = f"{n - len(failed)} of {n} notebooks print what is stored, {minutes:.0f} minutes"
    return not failed, result + (f"; not {', '.join(failed)}" if failed else "")


def run_sphinx(python: Path) -> tuple[bool, str]:
    """Build the book by Sphinx alone, from the same configuration."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "copy")
        for name in ("book", "sdelib", "tools"):
            shutil.copytree(ROOT / name, copy / name)
        for name in ("_config.yml", "_toc.yml"):
            shutil.copy(ROOT / name, copy)
        subprocess.run(
            [Path(sys.executable).with_name("jupyter-book"), "config", "sphinx", copy], check=True
        )
        settings = (copy / "conf.py").read_text(encoding="utf-8")
        execute.write(copy / "conf.py", settings.replace("'jupyter_book', ", ""))
        command = [python, "-m", "sphinx", "-q", "-n", "-b", "html", copy, Path(folder, "built")]
        path = {**os.environ, "PYTHONPATH": str(copy / "tools")}  # of the extensions
        run = subprocess.run(command, env=path, stderr=-1, encoding="utf-8")
        warned = [line for line in run.stderr.splitlines() if "WARNING" in line]
        print("\n".join(warned), run.stderr[-3000:] if run.returncode else "")
        made = len(list(Path(folder, "built", "book").glob("*.html")))
    return not run.returncode, f"{made} pages, {len(warned)} warnings"


def store(kind: str, words: str, result: str) -> None:
    """Put the result into the table in place of the last one of its kind."""
    text = RESULTS.read_text(encoding="utf-8") if RESULTS.exists() else HEAD
    rows = [row for row in text.splitlines(keepends=True) if not row.startswith(f"| {kind} |")]
    rows.append(f"| {kind} | {date.today()} | {words.strip()} | {result} |\n")
    execute.write(RESULTS, "".join([*rows[:2], *sorted(rows[2:])]))


def main(kind: str = "") -> None:
    """Test one set of versions."""
    if kind not in INSTALL:
        sys.exit(f"say which set: {', '.join(INSTALL)}")
    python = environment(kind)
    words = versions(python, SHOWN[kind])
    print(words)
    runs = {"colab": run_notebooks, "sphinx": run_sphinx}
    passed, result = runs.get(kind, run_library)(python)
    store(kind, words, re.sub(r" in [\d.]+s.*", "", result))
    print(result)
    sys.exit(not passed)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT / "tests"))
    main(*sys.argv[1:2])
