"""Plain notebooks show what the chapters say, and nothing that only MyST can read; they find the
book wherever they are opened.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import execute
import nbformat
import owner
import pages
import plain
import pytest

CHAPTERS = execute.chapters()
MYST = re.compile(
    r"\{[a-zA-Z:]+\}`|^\s*[:`]{3,}\{|^:{3,}|^\([\w-]+\)=|^:[\w-]+:|<!--|^%|\$\$ *\([\w-]+\)",
    re.MULTILINE,
)


@pytest.fixture(scope="module")
def labels():
    return plain.targets()


@pytest.fixture(scope="module")
def sources():
    return plain.citations()


@pytest.fixture(params=CHAPTERS, ids=lambda path: path.stem)
def pair(request, labels, sources):
    """A chapter's notebook and its plain one."""
    made = plain.plain(request.param, labels, sources)
    return nbformat.read(request.param, 4), nbformat.reads(made, 4)


def words(nb):
    return "\n\n".join(cell.source for cell in nb.cells if cell.cell_type == "markdown")


def test_nothing_is_left_that_only_myst_reads(pair):
    _, made = pair
    nbformat.validate(made)
    assert not MYST.findall(plain.VERBATIM.sub("", words(made)))


@pytest.mark.parametrize(
    "text",
    [
        "{eq}`eq-x`",
        ":::{prf:proof}",
        ":::",
        "(ch-x)=",
        ":label: x",
        "<!-- fold: x -->",
        "$$ (eq-x)",
    ],
)
def test_what_only_myst_reads_is_noticed(text):
    assert MYST.search(f"before\n{text}\nafter")


def test_code_and_outputs_are_the_chapters(pair):
    chapter, made = pair
    code = [[c for c in nb.cells if c.cell_type == "code"] for nb in pair]
    assert [c.source for c in code[0][1:]] == [c.source for c in code[1][1:]]
    for before, after in zip(*code):
        films = [plain.is_film(out) for out in before.outputs]
        kept = [out for out, film in zip(before.outputs, films) if not film]
        assert kept == [out for out, film in zip(after.outputs, films) if not film]
        for out in [out for out, film in zip(after.outputs, films) if film]:
            assert set(out.data) == {"image/png", "text/plain"}


def test_every_number_and_caption_is_there_once(pair):
    chapter, made = pair
    text = words(made)
    numbered = sum(len(re.findall(r"\$\$ \([\w-]+\)", c.source)) for c in chapter.cells)
    tags = re.findall(r"\\tag\{(\d+)\}", text)
    assert len(tags) == len(set(tags)) == numbered
    figures = [c.metadata.get("mystnb", {}).get("figure", {}) for c in chapter.cells]
    named = [shown for shown in figures if "caption" in shown]
    captions = re.findall(r"^\*\*Fig\. (\d+)\.\*\*", text, re.MULTILINE)
    assert len(captions) == len(set(captions)) == len(named)


def test_folds_of_solutions_open_and_close_in_each_cell(pair):
    _, made = pair
    for cell in made.cells:
        if cell.cell_type == "markdown":
            marks = re.findall(r"</?details>", cell.source)
            assert marks == ["<details>", "</details>"] * (len(marks) // 2), cell.source


FOUND = {
    "eq-one": plain.Target("(7)", "page.html#eq-one"),
    "thm-one": plain.Target("Theorem 2", "page.html#thm-one"),
    "ex-one": plain.Target("Exercise 3", "page.html#ex-one"),
    "ch-one": plain.Target("The chapter", "page.html#ch-one"),
}
SOURCES = {"a2020": ("Ann and Bo", "2020", "u"), "b2021": ("Cy et al.", "2021", "v")}


@pytest.mark.parametrize(
    "myst, shown",
    [
        ("by {eq}`eq-one`", "by [(7)](page.html#eq-one)"),
        ("see {ref}`ch-one`", "see [The chapter](page.html#ch-one)"),
        ("see {ref}`above <ch-one>`", "see [above](page.html#ch-one)"),
        ("{lab}`play <n=9&a.eta=0>`", f"[play]({plain.pages()}/laboratory.html?n=9&a.eta=0)"),
        ("{cite:t}`a2020` say", "[Ann and Bo (2020)](u) say"),
        ("so {cite:p}`a2020,b2021`", "so ([Ann and Bo, 2020](u); [Cy et al., 2021](v))"),
        ("$$\nx = 1\n$$ (eq-one)", "$$\nx = 1 \\tag{7}\n$$"),
        ("$$\nx\n$$\n\n$$\ny\n$$ (eq-one)", "$$\nx\n$$\n\n$$\ny \\tag{7}\n$$"),
        (
            ":::{prf:theorem} A {eq}`eq-one`\n:label: thm-one\n\nIt holds.\n:::",
            "**Theorem 2 (A [(7)](page.html#eq-one)).** It holds.",
        ),
        (":::{prf:proof}\nClear.\n:::", "*Proof.* Clear. $\\square$"),
        (
            "::::{exercise}\n:label: ex-one\n\n*A title.* (**) Show it.\n\n"
            ":::{dropdown} Hint\nTry.\n:::\n::::",
            "**Exercise 3.** *A title.* (**) Show it.\n\n"
            "<details><summary>Hint</summary>\n\nTry.\n\n</details>",
        ),
        (
            "::::{dropdown} Why `x`?\nBecause\n:::{admonition} Note\nof this.\n:::\n::::",
            "<details><summary>Why x?</summary>\n\nBecause\n**Note.** of this.\n\n</details>",
        ),
        (
            ":::{admonition} More\n:class: tip dropdown\n\nText\n:::",
            "<details><summary>More</summary>\n\nText\n\n</details>",
        ),
        (
            "```{raw} html\n:file: _guidance.html\n```",
            "*Drawn on the [page](page.html).* Three arrows start from one noisy state. The score "
            "points towards all data, the score given y towards the class. Guidance goes from the "
            "tip of the first to the tip of the second, which is the scale 1, and with a larger "
            "scale beyond it.",
        ),
        ("```python\n{eq}`eq-one`\n```", "```python\n{eq}`eq-one`\n```"),
        ("(ch-one)=\n# Title\n<!-- fold: more -->\n\nText", "# Title\n\nText"),
    ],
)
def test_each_rule(myst, shown):
    assert plain.Plain("page.html", FOUND, SOURCES).text(myst) == shown


PRINTED = [
    nbformat.from_dict(
        {"output_type": "stream", "name": "stdout", "text": "VE    error 0.25\nVP    error 0.5\n"}
    ),
    nbformat.v4.new_output("display_data", data={"text/plain": "SDE  order\nVE   1.98"}),
]


def test_a_sentence_says_a_number_that_was_printed():
    text = plain.printed([nbformat.v4.new_code_cell("...", outputs=PRINTED)])
    chapter = plain.Plain("page.html", FOUND, SOURCES, text)
    myst = "The error is {number}`VE error (.*)`, the order {number}`^VE (1.*)$`."
    assert chapter.text(myst) == "The error is 0.25, the order 1.98."


@pytest.mark.parametrize("pattern", ["sub-VP error (.*)", "error (.*)", "VE error", "(VE) (error)"])
def test_a_number_is_printed_once(pattern):
    text = plain.printed([nbformat.v4.new_code_cell("...", outputs=PRINTED)])
    with pytest.raises(ValueError, match="must have one group and be printed once"):
        plain.number(pattern, text)


def test_a_solution_over_three_cells_folds_in_each():
    chapter = plain.Plain("page.html", FOUND, SOURCES)
    nb = nbformat.v4.new_notebook(
        cells=[
            nbformat.v4.new_markdown_cell(
                ":::{exercise}\n:label: ex-one\n\nShow it.\n:::\n\n"
                ":::{solution-start} ex-one\n:class: dropdown\n:::\n\nFirst."
            ),
            nbformat.v4.new_code_cell("1 + 1"),
            nbformat.v4.new_markdown_cell("Then.\n\n:::{solution-end}\n:::\n\n## After"),
        ]
    )
    first, code, last = chapter.cells(nb)
    assert re.sub(r"\n+", "\n", first.source) == (
        "**Exercise 3.** Show it.\n<details><summary>Solution to exercise 3</summary>\n"
        "First.\n</details>"
    )
    assert code.metadata.jupyter.source_hidden
    assert re.sub(r"\n+", "\n", last.source) == (
        "<details><summary>Solution to exercise 3, continued</summary>\nThen.\n</details>\n## After"
    )


def test_an_unknown_directive_is_an_error():
    with pytest.raises(ValueError, match="no plain form of the directive 'video'"):
        plain.Plain("page.html", FOUND, SOURCES).text(":::{video} film\n:::")


def git_in(folder: Path):
    """Git in that folder: what it prints."""
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]

    def git(*words):
        command = ["git", *identity, *words]
        run = subprocess.run(command, cwd=folder, check=True, stdout=-1, encoding="utf-8")
        return run.stdout

    return git


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository whose library says which version it is; two versions, the first one tagged."""
    folder = tmp_path / "origin"
    (folder / "sdelib").mkdir(parents=True)
    git = git_in(folder)
    git("init", "-q", "-b", "main")
    (folder / "sdelib" / "learned.py").write_text("", encoding="utf-8")
    for version in "12":
        (folder / "sdelib" / "__init__.py").write_text(f"v = {version}\n", encoding="utf-8")
        git("add", ".")
        git("commit", "-q", "-m", version)
        git("tag", f"v{version}")
    monkeypatch.setattr(execute, "repository", lambda: {"url": str(folder), "branch": "main"})
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return folder


def open_alone(folder: Path, revision: str = ""):
    """Run the set-up cell as the first of a notebook that lies alone in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    code = f"{execute.setup_cell(revision)}\nimport sdelib\nprint(sdelib.v)"
    command = [sys.executable, "-S", "-I", "-c", code]
    return subprocess.run(command, cwd=folder, capture_output=True, encoding="utf-8")


def test_a_notebook_alone_fetches_its_version(repository, tmp_path):
    for revision, version in ("", "2"), ("v1", "1"), ("main", "2"), ("v1", "1"):
        ran = open_alone(tmp_path / "alone" / "folder", revision)
        assert ran.stdout == f"{version}\n", ran.stderr


def test_a_fetch_that_was_interrupted_is_mended(repository, tmp_path):
    half = tmp_path / "home" / ".cache" / "origin-main.part"
    (half / ".git").mkdir(parents=True)
    (half / ".git" / "HEAD").write_text("", encoding="utf-8")
    assert open_alone(tmp_path / "alone").stdout == "2\n"


def test_a_fetch_that_fails_says_what_to_do(repository, tmp_path):
    shutil.rmtree(repository)
    ran = open_alone(tmp_path / "alone")
    assert ran.returncode == 1
    last = ran.stderr.splitlines()[-1]
    assert last == f"Nothing came from {repository}: is there git, and a network?"
    assert not (tmp_path / "home" / ".cache" / "origin-main").exists()


def test_in_the_book_itself_nothing_is_fetched(repository, tmp_path):
    (repository / "book").mkdir()
    assert open_alone(repository / "book").stdout == "2\n"
    assert not (tmp_path / "home").exists()


def test_the_owner_changes_everywhere_and_no_chapter_runs(tmp_path, monkeypatch):
    for name in owner.STATED_IN:
        shutil.copy(execute.BOOK.parent / name, tmp_path)
    book = tmp_path / "book"
    book.mkdir()
    for chapter in CHAPTERS:
        for path in chapter, chapter.with_suffix(".md"):
            shutil.copy(path, book)
    old = execute.repository()["url"].removeprefix(owner.SITE)
    for module in execute, owner:
        monkeypatch.setattr(module, "BOOK", book)
    owner.main("jane/my.book")
    for path in tmp_path.rglob("*.*"):
        assert old not in path.read_text(encoding="utf-8"), path.name
    made = nbformat.read(book / CHAPTERS[0].name, 4)
    assert [cell.get("outputs") for cell in made.cells] == [
        cell.get("outputs") for cell in nbformat.read(CHAPTERS[0], 4).cells
    ]
    assert "https://github.com/jane/my.book" in (tmp_path / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["", "jane", "https://github.com/jane/book", "jane/my book"])
def test_an_owner_that_is_none_is_refused(name):
    with pytest.raises(SystemExit, match="REPO must be owner/name, as in jane/score-sde-book, got"):
        owner.main(name)


def test_notebooks_are_pushed_to_a_branch_of_their_own(repository, tmp_path):
    """From a first push to notebooks that a Colab button finds, twice."""
    bare, made = tmp_path / "bare.git", tmp_path / "made"
    subprocess.run(["git", "init", "-q", "--bare", bare], check=True)
    git = git_in(repository)
    git("remote", "add", "origin", str(bare))
    git("push", "-q", "origin", "main")
    made.mkdir()
    script = execute.BOOK.parent / "tools" / "push_notebooks.sh"
    for text in ("first", "second"):
        (made / "00_a.ipynb").write_text(text, encoding="utf-8")
        subprocess.run([script, made], cwd=repository, check=True)
        there = git_in(bare)
        assert there("ls-tree", "--name-only", pages.BRANCH) == "00_a.ipynb\n"
        assert there("show", f"{pages.BRANCH}:00_a.ipynb") == text
    assert git("status", "--porcelain") == "", "the book's own files are as they were"
    assert git("branch", "--list") == "* main\n"
