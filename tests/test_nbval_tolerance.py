"""The comparison of notebooks passes an honest rerun and fails everything else.

One notebook is stored from one set of sources and rerun from another, a cell per case, so that two
kernels serve all.
"""

import base64
import io
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple, cast
from xml.etree import ElementTree

import nbformat
import pytest
from nbclient import NotebookClient
from nbval.plugin import IPyNbCell
from nbval_tolerance import film_difference, part_difference
from PIL import Image

TESTS = Path(__file__).parent

SETUP = """\
import io
import sys
import matplotlib.pyplot as plt
import numpy as np
from IPython.display import HTML, Image

def blank(width):
    file = io.BytesIO()
    plt.imsave(file, np.zeros((8, width, 3)), format="png")
    return Image(file.getvalue())

def draw(rate=1.0, noise=0.0, title="decay"):
    t = np.linspace(0, 4, 200)
    fig, ax = plt.subplots(figsize=(5, 3), layout="constrained")
    ax.plot(t, np.exp(-rate * t) * (1 + noise * np.sin(1e4 * t)))
    ax.set_title(title)
    plt.show()"""


class Case(NamedTuple):
    stored: str
    rerun: str
    passes: bool
    tags: tuple[str, ...] = ()


CASES = {
    "set-up": Case(SETUP, SETUP, True),
    "the same number": Case("print(0.1234)", "print(0.1234)", True),
    "a number within 1 %": Case("print(0.1234)", "print(0.1240)", True),
    "a number moved by 2 %": Case("print(0.1234)", "print(0.1259)", False),
    "a number moved by 20 %": Case("0.5", "0.6", False),
    "a move that a tag allows": Case("0.5", "0.6", True, ("rtol=0.2",)),
    "a number near zero": Case("print('3.1e-08')", "print('5.0e-08')", False),
    "a number near zero that a tag allows": Case(
        "print('3.1e-08')", "print('5.0e-08')", True, ("atol=1e-7",)
    ),
    "an exponent": Case("print('1e-05')", "print('1e-06')", False),
    "an exponent within 1 %": Case("print('1.000e-05')", "print('1.001e-05')", True),
    "a sign": Case("print(-0.5)", "print(0.5)", False),
    "a typographic minus": Case("print('−0.5')", "print('-0.501')", True),
    "percent": Case("print('12.3%')", "print('15.3%')", False),
    "percent within 1 %": Case("print('12.3%')", "print('12.4%')", True),
    "thousands within 1 %": Case("print('1,999.9')", "print('2,000.1')", True),
    "thousands": Case("print('1,999.9')", "print('2,999.9')", False),
    "an integer": Case("print('1000 samples')", "print('1001 samples')", False),
    "an integer at a sentence's end": Case(
        "print('Drew 1000. Done')", "print('Drew 1001. Done')", False
    ),
    "an integer that became a float": Case("print(3)", "print(3.0)", False),
    "whole numbers in an array": Case(
        "print(np.array([9.99, 1000.]))", "print(np.array([10., 1001.]))", True
    ),
    "not a number": Case("print(float('nan'))", "print(0.5)", False),
    "an infinity's sign": Case("print(float('inf'))", "print(-float('inf'))", False),
    "an equal nan": Case("print(float('nan'))", "print(float('nan'))", True),
    "a word": Case("print('up to 0.5')", "print('down to 0.5')", False),
    "a version": Case("print('2.13.0')", "print('2.12.0')", False),
    "a table's number": Case("HTML('<td>0.50</td>')", "HTML('<td>0.60</td>')", False),
    "a table's number within 1 %": Case("HTML('<td>0.500</td>')", "HTML('<td>0.501</td>')", True),
    "missing output": Case("print('a')", "pass", False),
    "extra output": Case("pass", "print('a')", False),
    "one output of two": Case("print('a'); draw()", "draw()", False),
    "another warning": Case("print('old', file=sys.stderr)", "print('new', file=sys.stderr)", True),
    "a warning between prints": Case(
        "print('a')\nprint('b')",
        "print('a', flush=True)\nprint('w', file=sys.stderr, flush=True)\nprint('b')",
        True,
    ),
    "an error": Case("pass", "1 / 0", False),
    "an error that was stored too": Case("1 / 0", "1 / 0", False),
    "a trailing semicolon": Case("0.5;", "0.5;", True),
    "the same figure": Case("draw()", "draw()", True),
    "a figure with another machine's rounding": Case("draw()", "draw(noise=3e-3)", True),
    "a rate moved by 5 %": Case("draw()", "draw(rate=1.05)", False),
    "a rate moved by 2 %": Case("draw()", "draw(rate=1.02)", False),
    "a moved rate that a tag allows": Case("draw()", "draw(rate=1.05)", True, ("ink=0.5",)),
    "another title": Case("draw()", "draw(title='rise')", False),
    "another size": Case("blank(8)", "blank(9)", False),
    "never run": Case("0.5", "0.5", False),
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Folder of the run, its printed report, and which cases passed."""
    folder = tmp_path_factory.mktemp("notebook")
    nb = nbformat.v4.new_notebook()
    nb.cells = [
        nbformat.v4.new_code_cell(case.stored, metadata={"tags": list(case.tags)})
        for case in CASES.values()
    ]
    NotebookClient(nb, kernel_name="python3", allow_errors=True).execute(stderr=subprocess.DEVNULL)
    for cell, case in zip(nb.cells, CASES.values(), strict=True):
        cell.source = case.rerun
    nb.cells[-1].update(outputs=[], execution_count=None)
    nbformat.write(nb, folder / "cases.ipynb")
    (folder / "pytest.ini").touch()
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:randomly",  # as pyproject.toml has it, which is not read there
        "-p",
        "nbval_tolerance",
        "--nbval",
        "--nbval-current-env",
        "--junitxml=report.xml",
    ]
    result = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(TESTS)},
        capture_output=True,
        encoding="utf-8",
    )
    report = ElementTree.parse(folder / "report.xml").iter("testcase")
    return (
        folder,
        result.stdout,
        {name: not len(entry) for name, entry in zip(CASES, report, strict=True)},
    )


@pytest.mark.parametrize("name", CASES)
def test_verdict(run, name):
    _, report, passed = run
    assert passed[name] == CASES[name].passes, report


def test_pictures_of_a_difference_are_kept_and_named(run):
    folder, report, _ = run
    cell = list(CASES).index("a rate moved by 5 %")
    assert {p.name for p in (folder / "_build/nbval-diff").glob(f"cases-cell{cell}-*")} == {
        f"cases-cell{cell}-{which}.png" for which in ("stored", "rerun", "difference")
    }
    assert f"cases-cell{cell}-" in report


def test_a_difference_is_said_where_no_picture_can_be_written(tmp_path):
    (tmp_path / "_build").touch()  # a file where the folder should be: nothing can be written there
    cell = SimpleNamespace(
        cell=SimpleNamespace(metadata={}),
        cell_num=3,
        config=SimpleNamespace(rootpath=tmp_path),
        path=tmp_path / "cases.ipynb",
    )

    def picture(position):
        image, file = Image.new("RGB", (40, 40)), io.BytesIO()
        image.paste((255, 0, 0), (position, 0, position + 10, 40))
        image.save(file, "PNG")
        return base64.b64encode(file.getvalue()).decode()

    said = part_difference(cast(IPyNbCell, cell), "image/png", picture(0), picture(20))
    assert said.startswith("figure: 100.00% of the ink moved") and "could not be written" in said


def test_films_are_compared_number_by_number():
    film = bytes(range(200))
    stored, near = (base64.b64encode(f).decode() for f in (film, bytes(n + 2 for n in film)))
    far = base64.b64encode(bytes([n + 9 * (n < 20) for n in film])).decode()
    assert not film_difference(stored, near, 0.02)
    assert "10.00%" in film_difference(stored, far, 0.02)
    assert "numbers" in film_difference(stored, base64.b64encode(film[:-1]).decode(), 1.0)
