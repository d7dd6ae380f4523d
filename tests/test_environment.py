"""The project's files agree with one another: the environment that several of them describe and the
tests run in, the version, the modules and their order.
"""

import ast
import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path

import nbformat
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

import sdelib

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
LOCK_LINES = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
LOCK = [Requirement(line) for line in LOCK_LINES if not line.startswith("#")]
LOCKED_PYTHON = SpecifierSet(LOCK_LINES[0].removeprefix("# Python "))
LOCKED = {canonicalize_name(entry.name): next(iter(entry.specifier)).version for entry in LOCK}


def wanted() -> list[Requirement]:
    """What the library and the book ask for directly."""
    return [
        Requirement(line)
        for line in PROJECT["dependencies"] + PROJECT["optional-dependencies"]["book"]
    ]


def test_lock_states_exact_versions_once():
    assert all(str(entry.specifier).startswith("==") for entry in LOCK)
    assert len(LOCKED) == len(LOCK)


def test_lock_honours_the_project():
    for requirement in wanted():
        assert LOCKED[canonicalize_name(requirement.name)] in requirement.specifier, requirement


def test_project_states_lower_bounds():
    """Readers of one notebook, on Colab for example, keep the versions they have."""
    for line in PROJECT["dependencies"]:
        assert [bound.operator for bound in Requirement(line).specifier] == [">="], line


def test_on_colab_nothing_is_replaced():
    """Its versions, which `make test-colab` runs, are all within the bounds."""
    lines = (ROOT / "tools" / "colab.txt").read_text(encoding="utf-8").splitlines()
    theirs = {pin.name: pin for pin in map(Requirement, lines[1:])}
    for bound in map(Requirement, PROJECT["dependencies"]):
        version = next(iter(theirs[bound.name].specifier)).version
        assert version in bound.specifier, f"{bound}, Colab has {version}"


# One entry of requirements.lock a line: name, version, where it is wanted, and hashes of its files
HASHED = [
    line.partition(" --hash=")[::2]
    for line in (ROOT / "requirements.lock")
    .read_text(encoding="utf-8")
    .replace(" \\\n   ", "")
    .splitlines()
    if not line.startswith("#")
]
MACHINES = {
    "linux x86_64": ("posix", "linux", "Linux"),
    "linux aarch64": ("posix", "linux", "Linux"),
    "darwin arm64": ("posix", "darwin", "Darwin"),
    "win32 AMD64": ("nt", "win32", "Windows"),
}


def test_every_entry_of_the_hashed_lock_has_a_version_and_hashes():
    """And nothing that holds on one machine only: no path, and no address of an index."""
    for entry, hashes in HASHED:
        requirement = Requirement(entry)
        assert str(requirement.specifier).startswith("==") and not requirement.url, entry
        assert re.fullmatch(r"sha256:[0-9a-f]{64}( --hash=sha256:[0-9a-f]{64})*", hashes), entry


def test_both_locks_name_the_same_versions():
    """The hashed one has more: CUDA's libraries, JupyterLab, what only Windows needs."""
    hashed = {canonicalize_name(r.name): r for r in (Requirement(entry) for entry, _ in HASHED)}
    assert len(hashed) == len(HASHED)
    for name, locked in LOCKED.items():
        assert str(hashed[name].specifier) == f"=={locked}", name


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("python", ["3.11.5", "3.12.0", "3.13.0", "3.14.0"])
def test_the_hashed_lock_serves_every_system_and_python(machine, python):
    assert python in LOCKED_PYTHON
    os_name, sys_platform, platform_system = MACHINES[machine]
    environment = {
        "os_name": os_name,
        "sys_platform": sys_platform,
        "platform_system": platform_system,
        "platform_machine": machine.split()[1],
        "python_full_version": python,
        "python_version": python.rpartition(".")[0],
    }
    entries = [Requirement(entry) for entry, _ in HASHED]
    names = {
        canonicalize_name(entry.name)
        for entry in entries
        if entry.marker is None or entry.marker.evaluate(environment)
    }
    direct = wanted() + list(map(Requirement, PROJECT["optional-dependencies"]["jupyter"]))
    missing = {canonicalize_name(requirement.name) for requirement in direct} - names
    assert not missing
    assert ("colorama" in names) == (sys_platform == "win32")
    assert ("triton" in names) == (sys_platform == "linux")


@pytest.mark.lock
def test_lock_covers_everything_needed_at_the_installed_version():
    """Walk what the project needs, and what that needs. Below torch the answer depends on the
    machine, so stop there.
    """
    queue, seen = wanted(), set()
    while queue:
        requirement = queue.pop()
        name = canonicalize_name(requirement.name)
        key = (name, frozenset(requirement.extras))
        if key in seen:
            continue
        seen.add(key)
        assert name in LOCKED, f"{requirement} is missing from constraints.txt"
        assert Version(version(name)).public == LOCKED[name], (
            f"{name} is installed at {version(name)}"
        )
        if name == "torch":
            continue
        for line in distribution(name).requires or []:
            needed = Requirement(line)
            if needed.marker is None or any(
                needed.marker.evaluate({"extra": extra}) for extra in ["", *requirement.extras]
            ):
                queue.append(needed)


@pytest.mark.lock
def test_whatever_else_of_the_lock_is_installed_has_its_version():
    for name, locked in LOCKED.items():
        try:
            assert Version(version(name)).public == locked, name
        except PackageNotFoundError:
            continue  # another platform's


def test_conda_environment_is_python_and_the_lock():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    *conda, pip = environment["dependencies"]
    packages = {requirement.name: requirement.specifier for requirement in map(Requirement, conda)}
    assert packages == {"python": LOCKED_PYTHON, "pip": SpecifierSet()}
    assert pip == {"pip": ["-c constraints.txt", "-e .[book]"]}


def test_every_file_names_the_same_pythons():
    first, end = (spec.version for spec in sorted(LOCKED_PYTHON, key=lambda spec: spec.version))
    assert SpecifierSet(f">={first},<{end}") == LOCKED_PYTHON
    assert PROJECT["requires-python"] == f">={first}"
    bounds = [f"({version.replace('.', ', ')})" for version in (first, end)]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert f"{bounds[0]} <= sys.version_info < {bounds[1]}" in makefile
    major, minor = end.split(".")
    said = f"Python {first} to {major}.{int(minor) - 1}"
    for name in ("Makefile", "README.md", "book/intro.md"):
        text = " ".join((ROOT / name).read_text(encoding="utf-8").split())
        assert said in text, name
        assert not re.findall(rf"Python 3\.\d+(?!\.?\d)(?<!{said})", text), name


def test_every_file_names_the_same_version():
    assert PYPROJECT["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "sdelib.__version__"}
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.search(r"^## ([\d.]+)", changes, re.MULTILINE)
    assert newest is not None
    assert citation["version"] == newest[1] == sdelib.__version__


PYTHON_FILES = sorted(
    path
    for folder in ("", "sdelib", "tests", "tools", "benchmarks")
    for path in (ROOT / folder).glob("*.py")
)


def opens_text_in_an_encoding_of_the_system(call: ast.Call) -> bool:
    """Whether a call reads or writes text and leaves the encoding to the system's settings."""
    name = getattr(call.func, "attr", getattr(call.func, "id", ""))
    given = {keyword.arg: getattr(keyword.value, "value", None) for keyword in call.keywords}
    constants = [arg.value for arg in call.args if isinstance(arg, ast.Constant)]
    binary = any("b" in str(mode) for mode in [*constants[-1:], given.get("mode", "")])
    is_picture = getattr(getattr(call.func, "value", None), "id", "") == "Image"
    if name in ("read_text", "write_text") or (name == "open" and not binary and not is_picture):
        return "encoding" not in given
    return bool(given.get("text") or given.get("universal_newlines")) and "encoding" not in given


@pytest.mark.parametrize(
    "code, careless",
    [
        ("path.read_text()", True),
        ("path.read_text(encoding='utf-8')", False),
        ("path.write_text(text)", True),
        ("open(name)", True),
        ("path.open('w')", True),
        ("open(name, 'rb')", False),
        ("path.open(mode='wb')", False),
        ("Image.open(file)", False),
        ("subprocess.run(command, text=True)", True),
        ("subprocess.run(command, encoding='utf-8')", False),
    ],
)
def test_a_text_of_no_stated_encoding_is_noticed(code, careless):
    call = ast.parse(code, mode="eval").body
    assert isinstance(call, ast.Call)
    assert opens_text_in_an_encoding_of_the_system(call) == careless


@pytest.mark.parametrize("path", PYTHON_FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_text_is_read_and_written_alike_on_every_system(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    careless = [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and opens_text_in_an_encoding_of_the_system(node)
    ]
    assert not careless, f"state encoding='utf-8' in {path.name}, lines {careless}"


@pytest.mark.parametrize("path", PYTHON_FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_who_forks_has_one_thread(path):
    """A fork has none of torch's other threads, and may wait for them for ever."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    lines = [ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.stmt)]
    alone = ("os.environ['OMP_NUM_THREADS'] = '1'", "torch.set_num_threads(1)")
    forks = any(re.search(r"\bos\.fork\(\)", line) for line in lines)
    assert not forks or any(line in alone for line in lines)


MODULES = re.findall(r"``(\w+)``", sdelib.__doc__ or "")
"""The library's modules, in the order in which data flow through them."""


def test_the_package_lists_its_modules_once():
    there = [path.stem for path in (ROOT / "sdelib").glob("*.py") if path.stem != "__init__"]
    assert sorted(MODULES) == sorted(there)


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_only_those_before_it(module):
    tree = ast.parse((ROOT / "sdelib" / f"{module}.py").read_text(encoding="utf-8"))
    imported = {
        node.module or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.level == 1
        for alias in node.names
    }
    assert imported <= {*MODULES[: MODULES.index(module)], "_checks", "_guard"}


def test_a_fresh_start_loads_little_but_torch():
    """What only some functions use is loaded when they are called; plotting is for notebooks."""
    modules = [f"sdelib.{name}" for name in MODULES if name != "plotting"]
    code = f"import sys, {', '.join(modules)}; print(*sys.modules)"
    python = [sys.executable, "-c", code]
    run = subprocess.run(python, cwd=ROOT, check=True, stdout=-1, encoding="utf-8")
    loaded = set(run.stdout.split())
    assert loaded >= set(modules)
    parts = ("optimize", "stats", "signal", "interpolate", "special", "linalg")
    assert not loaded & {"sklearn", "matplotlib", "IPython", *(f"scipy.{part}" for part in parts)}


def test_cells_run_in_order_on_one_of_two_workers(tmp_path):
    """Two notebooks beside many short tests: each cell needs all those before it. What tests of one
    file share is made once where that file is kept together.
    """
    cells = [nbformat.v4.new_code_cell("before = [0]", execution_count=1)] + [
        nbformat.v4.new_code_cell(
            f"before.append({i})\nassert before == list(range({i + 1}))", execution_count=i + 1
        )
        for i in range(1, 8)
    ]
    nb = nbformat.v4.new_notebook(cells=cells)
    nb.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    for name in "ab":
        nbformat.write(nb, tmp_path / f"{name}.ipynb")
    (tmp_path / "test_short.py").write_text(
        "import pytest\n@pytest.mark.parametrize('i', range(40))\ndef test(i): pass\n",
        encoding="utf-8",
    )
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_package.py").write_text(
        "import pathlib, pytest\n"
        "@pytest.fixture(scope='module')\n"
        "def made(): pathlib.Path('made').mkdir()\n"
        "@pytest.mark.parametrize('i', range(20))\ndef test(i, made): pass\n",
        encoding="utf-8",
    )
    (tmp_path / "conftest.py").write_text(
        (ROOT / "conftest.py")
        .read_text(encoding="utf-8")
        .replace("__file__", repr(str(ROOT / "conftest.py"))),
        encoding="utf-8",
    )
    run = [sys.executable, "-m", "pytest", "--nbval", "--nbval-current-env", "-q", "-n", "2"]
    run += ["-p", "no:randomly"]  # as pyproject.toml has it, which is not read there
    done = subprocess.run(
        [*run, "-p", "no:cacheprovider", "."], cwd=tmp_path, capture_output=True, encoding="utf-8"
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert "76 passed" in done.stdout


WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_call_what_is_there(path):
    """Each `make` target and script exists, and each action is named at a version."""
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = " ".join(re.findall(r"^([a-z -]+):", makefile, re.MULTILINE)).split()
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    for step in steps:
        assert re.fullmatch(r"actions/[\w-]+@v\d+", step.get("uses", "actions/none@v1"))
        words = step.get("run", "").split()
        if words[:1] == ["make"]:
            assert words[1] in [*targets, ".venv/.installed"], words
        elif words and words[0] != "gh" and not words[0].startswith(".venv/bin/"):
            assert os.access(ROOT / words[0], os.X_OK), words


@pytest.mark.parametrize("name, job", [("test", "book"), ("publish", "publish")])
def test_what_tests_and_publishes_the_book_installs_by_hash(name, job):
    """Before anything else runs there, and from PyPI alone, whose files the hashes are."""
    path = ROOT / ".github" / "workflows" / f"{name}.yml"
    workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
    runs = [step["run"] for step in workflow["jobs"][job]["steps"] if "run" in step]
    assert runs[0] == "make locked"
    assert "env" not in workflow and "env" not in workflow["jobs"][job]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    recipe = re.search(r"^locked:.*\n((?:\t.*\n)+)", makefile, re.MULTILINE)
    assert recipe
    for line in recipe[1].splitlines():
        if "PIP_INSTALL" in line:
            assert "--require-hashes" in line or "--no-deps --no-build-isolation -e ." in line
