"""Execute chapters and store their outputs beside the text.

    python tools/execute.py [--text] [chapter ...]    e.g. 07_gaussian_mixture; all if none is named

The text `NN_name.md` is the source of truth. Each run gives it the set-up cell below, makes
`NN_name.ipynb` from it, executes that in a fresh kernel and stores the outputs. Nothing that
changes from run to run is kept, so a chapter whose code and results did not change is stored byte
for byte as before. With `--text` nothing runs: where words alone have changed, the outputs stay.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import equations
import jupytext
import nbformat
import yaml
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from PIL import Image

BOOK = Path(__file__).resolve().parents[1] / "book"
LEDGER = BOOK / "_ledger.md"  # included by the page of all claims
CARDS = BOOK / "_cards.md"  # included by the introduction, as is
FILM = BOOK / "_film.html"
FILMED = "00_from_noise_to_a_face"  # whose last film opens the book
COVER = "fig-mixture-paths"  # the figure that the README shows
CARD_PICTURES = BOOK / "_static" / "cards"
PICTURE = re.compile(r"(?:image/png': '|data:image/png;base64,)([A-Za-z0-9+/=\\n]+)")
CODE_CELL = re.compile(r"^```\{code-cell\}.*?^```$", re.MULTILINE | re.DOTALL)


def repository() -> dict:
    """The repository's address and branch, which only `_config.yml` states."""
    config = (BOOK.parent / "_config.yml").read_text(encoding="utf-8")
    return yaml.safe_load(config)["repository"]


def setup_cell(revision: str = "") -> str:
    """The hidden first cell of every chapter, which fetches a version of the book if need be."""
    url, revision = repository()["url"], revision or repository()["branch"]
    return f"""\
# One thread suits tensors this small; set OMP_NUM_THREADS beforehand to choose otherwise.
# Outside the book's own folder (Colab, Kaggle, a single notebook) the book is fetched.
import os
import shutil
import subprocess
import sys
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
home, url, version = Path.cwd().parent, "{url}", "{revision}"
if not (home / "sdelib" / "learned.py").is_file():
    home = Path.home() / ".cache" / f"{{url.rsplit('/', 1)[-1]}}-{{version}}"
    if not home.is_dir():  # a fetch that was interrupted has another name, and starts again
        part = home.with_name(home.name + ".part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        fetch = f"git fetch -q --depth 1 {{url}} {{version}} && git checkout -q FETCH_HEAD"
        if subprocess.run(f"git init -q && {{fetch}}", shell=True, cwd=part).returncode:
            raise SystemExit(f"Nothing came from {{url}}: is there git, and a network?")
        part.rename(home)
if str(home) not in sys.path:
    sys.path.insert(0, str(home))"""


def with_setup(text: str) -> str:
    """The chapter's text with its set-up cell in place: renewed where there is one, put before the
    first cell where not.
    """
    block = f"```{{code-cell}} ipython3\n:tags: [remove-cell]\n\n{setup_cell()}\n```"
    first = CODE_CELL.search(text)
    if first is None:
        raise ValueError("a chapter needs at least one code cell")
    if re.search(r"^:?tags:.*\bremove-cell\b", first[0], re.MULTILINE):
        return text[: first.start()] + block + text[first.end() :]
    return text[: first.start()] + block + "\n\n" + text[first.start() :]


def notebook(text: str) -> nbformat.NotebookNode:
    """The chapter's notebook, not yet run. Cells are named by their content: jupytext's own names
    change every time.
    """
    nb = jupytext.reads(text, fmt="md:myst")
    # describes the text; jupytext keeps it out of notebooks too
    nb.metadata.get("jupytext", {}).pop("text_representation", None)
    seen = Counter()
    for cell in nb.cells:
        digest = hashlib.sha256(cell.source.encode()).hexdigest()[:8]
        cell.id = f"{digest}-{seen[digest]}"
        seen[digest] += 1
    nb.nbformat, nb.nbformat_minor = 4, 5
    return nb


def figure(nb: nbformat.NotebookNode, name: str) -> bytes | None:
    """The PNG of the figure with that name, if the notebook has it."""
    for cell in nb.cells:
        if cell.metadata.get("mystnb", {}).get("figure", {}).get("name") == name:
            return base64.b64decode(cell.outputs[-1].data["image/png"])
    return None


def documents() -> list[Path]:
    """The book's pages in the order of the table of contents."""
    toc = yaml.safe_load((BOOK.parent / "_toc.yml").read_text(encoding="utf-8"))
    files = [toc["root"]] + [page["file"] for part in toc["parts"] for page in part["chapters"]]
    return [BOOK.parent / (name if name.endswith(".ipynb") else f"{name}.md") for name in files]


def chapters() -> list[Path]:
    """The notebooks among the pages."""
    return [path for path in documents() if path.suffix == ".ipynb"]


def ledger() -> str:
    """The table of claims: every cell whose metadata hold a `claim`, with the section in which it
    was checked.

    A cell is listed once it has run; its assertions stand in the cell, so that it ran means that
    they held.
    """
    rows = ["| claim | source | checked in | verdict |", "|---|---|---|---|"]
    for path in chapters():
        section = ""
        for cell in nbformat.read(path, 4).cells:
            if cell.cell_type == "markdown":
                section = (re.findall(r"^#+ (.*)$", cell.source, re.MULTILINE) or [section])[-1]
            elif (claim := cell.metadata.get("claim")) and cell.execution_count:
                place = f"{{doc}}`{path.stem}`: {section}"
                cells = [claim.says, claim.source, place, claim.verdict]
                rows.append("| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |")
    return "\n".join(rows) + "\n"


def film() -> str:
    """The last film of the chapter that is filmed."""
    nb = nbformat.read(BOOK / f"{FILMED}.ipynb", 4)
    pages = [
        out.data["text/html"]
        for cell in nb.cells
        for out in cell.get("outputs", [])
        if 'class="player"' in out.get("data", {}).get("text/html", "")
    ]
    return pages[-1] + "\n"


def cards() -> str:
    """A card for each chapter: its first picture, its question, and what it says it takes."""
    lines = ["::::{grid} 1 2 2 3", ":gutter: 3", ""]
    for path in chapters():
        nb = nbformat.read(path, 4)
        words = "\n\n".join(cell.source for cell in nb.cells if cell.cell_type == "markdown")
        title = re.search(r"^# (.*)$", words, re.MULTILINE)[1]
        question = words[words.index(title) + len(title) :].strip().split("\n\n")[0]
        takes = re.search(r"^\*([\w-]+ minutes)\.(?: (Before: .*?)\.)? ", words, re.MULTILINE)
        lines += [f":::{{grid-item-card}} {title}", f":link: {path.stem}", ":link-type: doc"]
        if found := first_picture(nb):
            lines += [f":img-top: _static/cards/{path.stem[:2]}.png", f":img-alt: {found[1]}"]
        lines += ["", question.strip("*")]
        if takes:
            lines += ["", "*" + ". ".join(part for part in takes.groups() if part) + ".*"]
        lines += [":::", ""]
    return "\n".join([*lines, "::::"]) + "\n"


def first_picture(nb: nbformat.NotebookNode) -> tuple[bytes, str] | None:
    """The notebook's first picture, a figure or the still of a film, and its description."""
    for cell in nb.cells:
        for out in cell.get("outputs", []):
            page = str(out.get("data", {}))
            if found := PICTURE.search(page):
                alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt")
                return base64.b64decode(found[1]), alt or re.search(r'alt="([^"]*)"', page)[1]
    return None


def draw_cards() -> None:
    """Store each chapter's first picture, small."""
    CARD_PICTURES.mkdir(exist_ok=True)
    for path in chapters():
        if found := first_picture(nbformat.read(path, 4)):
            picture = Image.open(io.BytesIO(found[0]))
            picture.thumbnail((480, 300))
            small = picture.quantize(256, method=Image.Quantize.FASTOCTREE)
            small.save(CARD_PICTURES / f"{path.stem[:2]}.png", optimize=True)


def write(path: Path, text: str) -> None:
    """Write a text file that is the same on every system."""
    path.write_text(text.removesuffix("\n") + "\n", encoding="utf-8", newline="\n")


def execute(path: Path) -> None:
    """Run the chapter whose text is at `path` and write its notebook; on an error, write
    nothing.
    """
    text = path.read_text(encoding="utf-8")
    if (renewed := with_setup(text)) != text:
        write(path, renewed)
    nb = notebook(renewed)
    client = NotebookClient(
        nb,
        kernel_name="python3",
        timeout=3600,
        record_timing=False,
        coalesce_streams=True,  # one text for what a cell prints, in however many pieces it arrives
        resources={"metadata": {"path": str(BOOK)}},
    )
    # the kernel's own log is not kept; what cells print to stderr still comes back
    client.execute(stderr=subprocess.DEVNULL)
    for cell in nb.cells:
        cell.metadata.pop("execution", None)
    nb.metadata.pop("language_info", None)
    write(path.with_suffix(".ipynb"), nbformat.writes(nb))
    if (cover := figure(nb, COVER)) is not None:
        (BOOK / "_static" / "cover.png").write_bytes(cover)


def retell(path: Path) -> None:
    """Renew the words and the set-up cell of a chapter whose code is as it was."""
    text = path.read_text(encoding="utf-8")
    if (renewed := with_setup(text)) != text:
        write(path, renewed)
    nb = notebook(renewed)
    stored = nbformat.read(path.with_suffix(".ipynb"), 4)
    ran = [cell for cell in stored.cells if cell.cell_type == "code"]
    code = [cell for cell in nb.cells if cell.cell_type == "code"]
    if [cell.source for cell in code[1:]] != [cell.source for cell in ran[1:]]:
        sys.exit(f"{path.name}: its code has changed, so it must be executed")
    for new, old in zip(code, ran):
        new.outputs, new.execution_count = old.outputs, old.execution_count
    write(path.with_suffix(".ipynb"), nbformat.writes(nb))


def main(names: list[str]) -> None:
    """Execute the chapters named, or all of them, and say what each took."""
    act = retell if "--text" in names else execute
    names = [name for name in names if name != "--text"]
    os.environ["TQDM_DISABLE"] = "1"  # progress bars are for someone watching
    paths = [BOOK / f"{Path(name).stem}.md" for name in names] or sorted(
        BOOK.glob("[0-9][0-9]_*.md")
    )
    for path in paths:
        start = time.perf_counter()
        try:
            act(path)
        except CellExecutionError as error:
            sys.exit(f"{path.name}: {error}")
        print(f"{path.stem}: {time.perf_counter() - start:.1f} s", flush=True)
    tables = (LEDGER, ledger), (equations.TABLE, equations.table), (CARDS, cards), (FILM, film)
    for path, made in tables:
        write(path, made())
    draw_cards()


if __name__ == "__main__":
    main(sys.argv[1:])
