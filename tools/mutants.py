"""Change the library in one place at a time, and see whether a test notices.

    python tools/mutants.py [--every n] [module ...]      or `make mutants`, for the whole library

A mutant is one operator, number, comparison, argument, condition or function changed in one line of
the modules that hold the mathematics. The tests that reach that line run against it, fastest first,
until one fails. `tests/mutants.md` keeps the counts and each survivor, with the reason for which it
may live; a survivor of unknown reason makes the command fail.

Processes are forked from one that has imported torch, since that takes longer than most tests. To
know which tests reach a line they run once under a trace, kept in `_build` until a file changes.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import io
import itertools
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter, defaultdict
from contextlib import redirect_stderr, redirect_stdout
from datetime import date
from pathlib import Path
from typing import NamedTuple

os.environ["OMP_NUM_THREADS"] = "1"
ROOT = Path(__file__).resolve().parents[1]
LIBRARY, TESTS, BUILD = ROOT / "sdelib", ROOT / "tests", ROOT / "_build" / "mutants"
RESULTS = TESTS / "mutants.md"
MODULES = [
    *("sde", "mixtures", "score", "guidance", "steps", "samplers", "laws", "likelihood"),
    *("networks", "training", "learned", "metrics", "data"),
]
TEST_FILES = [TESTS / f"test_{name}.py" for name in (*MODULES, "weights", "checkpoints")]
OPERATORS = {
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "/"),
    ast.Div: ("/", "*"),
    ast.Pow: ("**", "*"),
    ast.FloorDiv: ("//", "/"),
    ast.BitAnd: ("&", "|"),
    ast.BitOr: ("|", "&"),
    ast.Lt: ("<", "<="),
    ast.LtE: ("<=", "<"),
    ast.Gt: (">", ">="),
    ast.GtE: (">=", ">"),
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.And: ("and", "or"),
    ast.Or: ("or", "and"),
}
PAIRS = ("sin cos", "min max", "amin amax", "sum mean", "exp expm1", "log log1p", "sqrt square")
NAMES = {a: b for pair in PAIRS for a, b in itertools.permutations(pair.split())}
UNKNOWN = "not yet looked at"


class Mutant(NamedTuple):
    """A change of the text between two offsets of a module."""

    module: str
    function: str
    line: int
    start: int
    end: int
    new: str
    says: str

    @property
    def key(self) -> str:
        """What it is, wherever its line may move."""
        return f"{self.module}.{self.function}: {self.says}"


def mutants(module: str) -> list[Mutant]:
    """Every change of a module."""
    text = (LIBRARY / f"{module}.py").read_text(encoding="utf-8")
    lines = [0]
    for line in text.encode().splitlines(keepends=True):
        lines.append(lines[-1] + len(line))
    data, found = text.encode(), []

    def offset(line: int, column: int) -> int:
        return lines[line - 1] + column

    def span(node: ast.AST) -> tuple[int, int]:
        return (
            offset(node.lineno, node.col_offset),
            offset(node.end_lineno, node.end_col_offset),
        )

    def visit(node: ast.AST, function: str) -> None:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            function = f"{function}.{node.name}".lstrip(".")
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            return
        for start, end, new in changes(node):
            old = data[start:end].decode()
            line = data[:start].count(b"\n") + 1
            whole = " ".join(data[lines[line - 1] : lines[line] - 1].decode().split())
            says = f"`{' '.join(old.split())}` to `{new}` in `{whole}`"
            found.append(Mutant(module, function, line, start, end, new, says))
        for name, field in ast.iter_fields(node):
            if name in ("annotation", "returns", "decorator_list"):
                continue
            for child in field if isinstance(field, list) else [field]:
                if isinstance(child, ast.AST):
                    visit(child, function)

    def between(left: ast.AST, right: ast.AST, operator: ast.AST):
        if type(operator) in OPERATORS:
            old, new = OPERATORS[type(operator)]
            start = data.index(old.encode(), span(left)[1], span(right)[0])
            yield start, start + len(old), new

    def changes(node: ast.AST):
        match node:
            case ast.BinOp(left=left, op=op, right=right):
                yield from between(left, right, op)
            case ast.AugAssign(target=left, op=op, value=right):
                yield from between(left, right, op)
            case ast.Compare(left=left, ops=ops, comparators=rest):
                for a, op, b in zip([left, *rest], ops, rest):
                    yield from between(a, b, op)
            case ast.BoolOp(op=op, values=values):
                for a, b in itertools.pairwise(values):
                    yield from between(a, b, op)
            case ast.UnaryOp(op=ast.USub() | ast.Not(), operand=operand):
                yield span(node)[0], span(operand)[0], ""
            case ast.Constant(value=bool() as value):
                yield *span(node), str(not value)
            case ast.Constant(value=int() as value):
                yield *span(node), str(value + 1)
            case ast.Constant(value=float() as value):
                yield *span(node), repr(1.25 * value if value else 1.0)
            case ast.If(test=test) | ast.IfExp(test=test):
                yield *span(test), f"not ({data[slice(*span(test))].decode()})"
            case ast.Call(keywords=[_, *_] as keywords):
                for k in keywords:
                    kept = ast.Call(
                        node.func, node.args, [other for other in keywords if other != k]
                    )
                    yield *span(node), ast.unparse(kept)
            case ast.Expr(value=ast.Call()):
                yield *span(node), "pass"
            case ast.Attribute(attr=name) if name in NAMES:
                end = span(node)[1]
                yield end - len(name), end, NAMES[name]

    visit(ast.parse(text), "")
    return found


def state() -> str:
    """A fingerprint of what the trace depends on."""
    files = sorted([*LIBRARY.glob("*.py"), *TESTS.glob("*.py"), ROOT / "conftest.py"])
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


class Trace:
    """A pytest plugin that notes which lines each test reaches, and how long it takes."""

    def __init__(self):
        self.reached, self.seconds, self.lines = defaultdict(set), {}, set()

    def follow(self, frame, event, _):
        """Trace the library's own frames."""
        if not frame.f_code.co_filename.startswith(str(LIBRARY)):
            return None
        module = Path(frame.f_code.co_filename).stem

        def note(frame, event, _):
            self.lines.add((module, frame.f_lineno))
            return note

        return note(frame, event, _)

    def pytest_runtest_setup(self, item):
        self.lines, self.begun = set(), time.perf_counter()
        sys.settrace(self.follow)

    def pytest_runtest_teardown(self, item):
        sys.settrace(None)
        self.seconds[item.nodeid] = time.perf_counter() - self.begun
        for module, line in self.lines:
            self.reached[f"{module}:{line}"].add(item.nodeid)


class Only:
    """A pytest plugin that runs some tests only, in their order."""

    def __init__(self, names: list[str]):
        self.order = {name: i for i, name in enumerate(names)}

    def pytest_collection_modifyitems(self, items):
        items[:] = sorted(
            (item for item in items if item.nodeid in self.order),
            key=lambda item: self.order[item.nodeid],
        )


def tested(files: list[str], plugin: object, *options: str) -> int:
    """Run pytest in this process, in silence."""
    import pytest

    os.chdir(ROOT)
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        quiet = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:warnings", *options]
        return int(pytest.main([*files, *quiet], plugins=[plugin]))


def traced() -> dict:
    """Which tests reach each line, and their seconds; the tests must pass."""
    kept = BUILD / "trace.json"
    if kept.exists() and json.loads(kept.read_text(encoding="utf-8"))["state"] == state():
        return json.loads(kept.read_text(encoding="utf-8"))
    print("tracing the tests, once")
    pid = os.fork()
    if not pid:
        trace = Trace()
        code = tested([str(path) for path in TEST_FILES if path.exists()], trace)
        reached = {line: sorted(names) for line, names in trace.reached.items()}
        kept.write_text(
            json.dumps({"state": state(), "reached": reached, "seconds": trace.seconds}),
            encoding="utf-8",
        )
        os._exit(code)
    if os.waitpid(pid, 0)[1]:
        sys.exit("The tests must pass before they are tried on mutants.")
    return json.loads(kept.read_text(encoding="utf-8"))


def tried(mutant: Mutant, names: list[str], seconds: float, folder: Path) -> None:
    """In a process of its own, end with pytest's exit status on a mutant."""
    signal.alarm(30 + int(20 * seconds))  # a mutant may not end
    path = LIBRARY / f"{mutant.module}.py"
    data = path.read_bytes()
    changed = data[: mutant.start] + mutant.new.encode() + data[mutant.end :]
    copy = folder / "sdelib"
    shutil.copytree(LIBRARY, copy, ignore=shutil.ignore_patterns("__pycache__"))
    (copy / path.name).write_bytes(changed)
    sys.path.insert(0, str(folder))
    nowhere = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, until the process ends
    os.dup2(nowhere.fileno(), 1)
    os.dup2(nowhere.fileno(), 2)
    try:
        import sdelib.learned  # noqa: F401, the mutant, before conftest finds the library
    except Exception:
        os._exit(1)
    files = list(dict.fromkeys(name.split("::")[0] for name in names))
    os._exit(tested(files, Only(names), "-x"))


def judged(chosen: list[Mutant], trace: dict) -> dict[str, list[Mutant]]:
    """The mutants by what became of them."""
    from tqdm import tqdm

    found, running = defaultdict(list), {}
    cores = len(os.sched_getaffinity(0))
    whole = {module: f"tests/test_{module}.py" for module in MODULES}

    def reap() -> None:
        pid, status = os.wait()
        mutant, folder = running.pop(pid)
        shutil.rmtree(folder, ignore_errors=True)
        late = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGALRM
        code = os.waitstatus_to_exitcode(status)
        found["late" if late else "survived" if code in (0, 5) else "killed"].append(mutant)

    for mutant in tqdm(chosen, desc="mutants"):
        names = trace["reached"].get(f"{mutant.module}:{mutant.line}", [])
        if not names:  # a line that runs on import: all tests of the module
            names = [name for name in trace["seconds"] if name.startswith(whole[mutant.module])]
        seconds = trace["seconds"]
        names = sorted(names, key=lambda n: (not n.startswith(whole[mutant.module]), seconds[n]))
        while len(running) >= cores:
            reap()
        folder = Path(tempfile.mkdtemp(prefix="mutant-"))
        pid = os.fork()
        if not pid:
            tried(mutant, names, sum(seconds[name] for name in names), folder)
        running[pid] = mutant, folder
    while running:
        reap()
    return found


def reasons() -> dict[str, str]:
    """Why survivors may live, by what they are."""
    if not RESULTS.exists():
        return {}
    rows = [line[2:].split(" | ") for line in RESULTS.read_text(encoding="utf-8").splitlines()
            if line.startswith("- ")]  # fmt: skip
    return dict(rows)


def main() -> None:
    """Try the mutants, and store what survived."""
    parser = argparse.ArgumentParser(description="Try whether tests notice a changed library.")
    parser.add_argument("modules", nargs="*", metavar="module", help=", ".join(MODULES))
    parser.add_argument("--every", type=int, default=1, help="only each n-th mutant")
    given = parser.parse_args()
    BUILD.mkdir(parents=True, exist_ok=True)
    # what takes long to import, but nothing of the library
    import matplotlib.pyplot  # noqa: F401
    import pytest  # noqa: F401
    import scipy.optimize  # noqa: F401
    import sklearn.datasets  # noqa: F401
    import torch  # noqa: F401

    trace, begun = traced(), time.monotonic()
    chosen = [m for module in given.modules or MODULES for m in mutants(module)][:: given.every]
    found = judged(chosen, trace)
    known = reasons()
    counts = {
        kind: Counter(m.module for m in found[kind]) for kind in ("killed", "late", "survived")
    }
    rows = [
        f"| {module} | {counts['killed'][module]} | {counts['late'][module]} "
        f"| {counts['survived'][module]} |"
        for module in given.modules or MODULES
    ]
    survivors = sorted({m.key for m in found["survived"]})
    listed = [f"- {key} | {known.get(key, UNKNOWN)}" for key in survivors]
    killed = len(chosen) - len(found["survived"])
    said = (
        f"{date.today()}: {killed} of {len(chosen)} mutants killed ({killed / len(chosen):.1%}), "
        f"{(time.monotonic() - begun) / 60:.0f} minutes."
    )
    text = "\n".join([said, "", "| module | killed | too long | survived |", "|---|---|---|---|",
                      *rows, "", *listed, ""])  # fmt: skip
    (BUILD / "last.md").write_text(text, encoding="utf-8")
    if not given.modules and given.every == 1:
        RESULTS.write_text(text, encoding="utf-8")
    print(text)
    sys.exit(any(row.endswith(UNKNOWN) for row in listed))


if __name__ == "__main__":
    main()
