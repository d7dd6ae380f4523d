"""Change the library in one place at a time, and see whether a test notices.

    python tools/mutants.py [--own] [--every n] [module ...]      or `make mutants`, for all

A mutant is one operator, number, comparison, argument, condition or function changed in one line of
the modules that hold the mathematics. The tests that reach that line run against it until one
fails, or until they have taken some seconds: those first that have killed most, then one case of
each, the fastest. First come the tests of the module's own file, and for what survives all others,
unless `--own` leaves these out. A test of more than three seconds is left out. `tests/mutants.md`
keeps each module's counts with their date, and each survivor with the reason for which it may live;
one of unknown reason makes the command fail. A sample does not take the place of a whole module.

Most tests are faster than their collection. So the tests are collected once, and each mutant is a
fork in which the changed function takes the place of the library's. What is no function, and what
survives in a function that the collection had called, is tried in a process that imports the
changed file: it too is a fork, of one that has imported torch. To know which tests reach a line
they run once under a trace, kept in `_build` until the library or their file changes.
"""

from __future__ import annotations

import argparse
import ast
import gc
import hashlib
import importlib
import io
import itertools
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout, suppress
from datetime import date
from pathlib import Path
from types import CodeType, FunctionType
from typing import NamedTuple

os.environ["OMP_NUM_THREADS"] = "1"
ROOT = Path(__file__).resolve().parents[1]
LIBRARY, TESTS, BUILD = ROOT / "sdelib", ROOT / "tests", ROOT / "_build" / "mutants"
RESULTS = TESTS / "mutants.md"
MODULES = [
    *("sde", "mixtures", "score", "guidance", "steps", "samplers", "laws", "likelihood"),
    *("networks", "training", "learned", "metrics", "data"),
]
OWN = {module: [f"test_{module}.py"] for module in MODULES} | {
    "steps": ["test_samplers.py"],
    "training": ["test_training.py", "test_checkpoints.py"],
    "learned": ["test_learned.py", "test_weights.py"],
}
ALL = list(dict.fromkeys(itertools.chain(*OWN.values())))
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
KINDS = ("alike", "argument check")
ENOUGH = {"own": 10.0, "all": 30.0}  # seconds of the tests that a mutant has to outlive
LONGEST = 3.0  # seconds of a single one
HEAVY = ("torch", "numpy", "scipy", "sklearn", "matplotlib")
UNSURE, BROKEN = 77, 78  # exit statuses: to be imported; this tool failed


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
            case ast.UnaryOp(op=ast.USub() | ast.Not() as op):
                start = span(node)[0]
                yield start, start + (1 if isinstance(op, ast.USub) else len("not ")), ""
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


def state(file: str) -> str:
    """A fingerprint of what the trace of a file of tests depends on."""
    files = [*sorted(LIBRARY.glob("*.py")), TESTS / "conftest.py", TESTS / file]
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


class Loop:
    """A pytest plugin that hands the collected tests to a function instead of running them."""

    def __init__(self, work: Callable[[list], None]):
        self.work = work

    def pytest_runtestloop(self, session):
        self.work(session.items)
        return True


def tested(files: list[str], work: Callable[[list], None]) -> int:
    """Collect tests in this process, in silence, and give them to ``work``."""
    import pytest

    os.chdir(ROOT)
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        quiet = ["-qs", "-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:warnings"]
        quick = ["--tb=native", "--assert=plain"]  # nobody reads why a test fails
        return int(pytest.main([*files, *quiet, *quick], plugins=[Loop(work)]))


def fails(item) -> bool:
    """Run one test."""
    from _pytest.runner import runtestprotocol

    return any(report.failed for report in runtestprotocol(item, log=False))


def one_fails(items: list, seconds: dict[str, float]) -> bool:
    """Whether one of the named tests fails, each within some times its seconds of a processor."""
    by_name = {item.nodeid: item for item in items}
    for name in seconds:
        limit = time.process_time() + 3 + 5 * seconds[name]
        resource.setrlimit(resource.RLIMIT_CPU, (int(limit), resource.RLIM_INFINITY))
        if name in by_name and fails(by_name[name]):
            killer_of(os.getpid()).write_text(name, encoding="utf-8")
            return True
    return False


def killer_of(pid: int) -> Path:
    """Where a process says which test has killed its mutant."""
    return BUILD / f"killer-{pid}"


def traced(items: list, file: str) -> dict:
    """Which tests of a file reach each line, and the seconds of a processor that they take."""
    reached, seconds, loaded = defaultdict(list), {}, set(sys.modules)
    library, unseen, end = f"{LIBRARY}{os.sep}", {}, 0.0

    def follow(frame, event, _):
        code = frame.f_code
        if not code.co_filename.startswith(library):
            return None
        if time.process_time() > end:
            raise TimeoutError
        if code not in unseen:
            unseen[code] = {line for *_, line in code.co_lines() if line}
        left = unseen[code]

        def note(frame, event, _):
            left.discard(frame.f_lineno)
            return note if left else None  # the rest of a long loop is not followed

        return note(frame, event, _)

    for item in items:
        unseen.clear()
        begun = time.process_time()
        end = begun + LONGEST
        sys.settrace(follow)
        failed = fails(item)
        sys.settrace(None)
        taken = time.process_time() - begun
        if taken > LONGEST:
            continue
        if failed:
            print(f"{item.nodeid} must pass before it is tried on mutants.", file=sys.__stderr__)
            os._exit(1)
        seconds[item.nodeid] = taken
        for code, left in unseen.items():
            for line in {line for *_, line in code.co_lines() if line} - left:
                reached[f"{Path(code.co_filename).stem}:{line}"].append(item.nodeid)
    late = [name for name in sys.modules if name.split(".")[0] in HEAVY and name not in loaded]
    return {"state": state(file), "reached": reached, "seconds": seconds, "modules": late}


def trace_of(files: list[str], items: list) -> dict:
    """The traces of files of tests in one, made where they are not kept."""
    both = {"reached": defaultdict(list), "seconds": {}, "modules": []}
    for file in files:
        kept = BUILD / f"{Path(file).stem}.json"
        if not kept.exists() or json.loads(kept.read_text(encoding="utf-8"))["state"] != state(
            file
        ):
            print(f"tracing {file}", file=sys.__stderr__, flush=True)
            pid = os.fork()
            if not pid:
                try:
                    own = [item for item in items if item.path.name == file]
                    kept.write_text(json.dumps(traced(own, file)), encoding="utf-8")
                    os._exit(0)
                finally:
                    os._exit(1)
            if os.waitpid(pid, 0)[1]:
                sys.exit("The tests must pass before they are tried on mutants.")
        trace = json.loads(kept.read_text(encoding="utf-8"))
        both["seconds"] |= trace["seconds"]
        both["modules"] += trace["modules"]
        for line, names in trace["reached"].items():
            both["reached"][line] += names
    return both


def load(names: list[str]) -> None:
    """Import what the tests import as they run, or each fork would, and seem to take too long."""
    for name in names:
        with suppress(Exception):
            importlib.import_module(name)


def tests_of(mutant: Mutant, trace: dict, kills: Counter[str], enough: float) -> dict[str, float]:
    """The tests that reach a mutant, those that promise most first, and their seconds."""
    seconds = trace["seconds"]
    names = trace["reached"].get(f"{mutant.module}:{mutant.line}", [])
    if not names:  # a line that runs on import: all tests of the module
        names = [name for name in seconds if name.split("::")[0][6:] in OWN[mutant.module]]
    case, cases = {}, Counter()
    for name in sorted(names, key=seconds.__getitem__):
        case[name] = cases[name.split("[")[0]]  # the first case of a test is its fastest
        cases[name.split("[")[0]] += 1
    names = sorted(names, key=lambda name: (-kills[name], case[name], seconds[name]))
    total = itertools.accumulate(seconds[name] for name in names)
    chosen = [name for name, s in zip(names, total) if s < enough] or names[:1]
    return {name: seconds[name] for name in chosen}


def silent() -> None:
    """Say nothing from here on, and end some time."""
    signal.alarm(3600)  # for a mutant that sleeps
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)


def changed(mutant: Mutant) -> bytes:
    """The text of the module with the mutant in it."""
    data = (LIBRARY / f"{mutant.module}.py").read_bytes()
    return data[: mutant.start] + mutant.new.encode() + data[mutant.end :]


def codes(code: CodeType):
    """A code object and those within, in order."""
    yield code
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from codes(inner)


def place(code: CodeType) -> tuple[str, str, int]:
    """Where a code object stands."""
    return code.co_filename, code.co_qualname, code.co_firstlineno


def functions() -> list[FunctionType]:
    """All functions of the library, while the garbage collector can find them."""
    found = (f for f in gc.get_objects() if isinstance(f, FunctionType))
    return [f for f in found if f.__code__.co_filename.startswith(f"{LIBRARY}{os.sep}")]


def patched(mutant: Mutant, library: list[FunctionType]) -> set[tuple[str, str, int]]:
    """Put the changed functions in place of the library's, and say where these stand.

    Nowhere, if the change is not in a function only.
    """
    path = LIBRARY / f"{mutant.module}.py"
    texts = path.read_bytes(), changed(mutant)
    old, new = (list(codes(compile(text, str(path), "exec"))) for text in texts)
    wanted, places = {}, Counter(map(place, old))
    for a, b in zip(old, new):
        if own(a) != own(b):
            # the text of a class or of the module, which ran on import, or one of two in a line
            if not a.co_flags & 1 or places[place(a)] > 1:
                return set()
            wanted[place(a)] = b
    for a, b in zip(old, new):  # a function made anew by another takes its code from there
        if a.co_flags & 1 and any(place(code) in wanted for code in codes(a)):
            wanted[place(a)] = b
    found = [function for function in library if place(function.__code__) in wanted]
    for function in found:
        code = wanted[place(function.__code__)]
        if code.co_freevars != function.__code__.co_freevars:
            return set()
        function.__code__ = code
    return set(wanted) if found else set()


def own(code: CodeType) -> tuple:
    """What a code object does, without those within it."""
    constants = [repr(value) for value in code.co_consts if not isinstance(value, CodeType)]
    return code.co_code, code.co_names, constants


def imported(mutant: Mutant, seconds: dict[str, float]) -> int:
    """The verdict of the named tests on a library that is the mutant, as an exit status."""
    folder = Path(tempfile.gettempdir(), f"mutant-{os.getpid()}")
    shutil.rmtree(folder, ignore_errors=True)
    copy, verdict = folder / "sdelib", []
    shutil.copytree(LIBRARY, copy, ignore=shutil.ignore_patterns("__pycache__"))
    (copy / f"{mutant.module}.py").write_bytes(changed(mutant))
    sys.path.insert(0, str(folder))
    try:
        import sdelib.learned  # noqa: F401, the mutant, before conftest finds the library
    except Exception:
        return 1
    files = list(dict.fromkeys(name.split("::")[0] for name in seconds))
    status = tested(files, lambda items: verdict.append(one_fails(items, seconds)))
    return verdict[0] if verdict else status not in (0, 5)


def judged(
    chosen: list[Mutant],
    trace: dict,
    attempt: Callable[[Mutant, dict[str, float]], int] = imported,
    enough: float = ENOUGH["own"],
) -> dict[str, list[Mutant]]:
    """The mutants by what became of them in a process of its own each."""
    from tqdm import tqdm

    BUILD.mkdir(parents=True, exist_ok=True)
    found, running, kills = defaultdict(list), {}, Counter()
    cores = len(os.sched_getaffinity(0))
    verdicts = {0: "survived", UNSURE: "unsure"}
    stopped = (-signal.SIGALRM, -signal.SIGXCPU, -signal.SIGKILL)

    def reap() -> None:
        pid, status = os.wait()
        code, mutant = os.waitstatus_to_exitcode(status), running.pop(pid)
        shutil.rmtree(Path(tempfile.gettempdir(), f"mutant-{pid}"), ignore_errors=True)
        if killer_of(pid).exists():
            kills[killer_of(pid).read_text(encoding="utf-8")] += 1
            killer_of(pid).unlink()
        if code == BROKEN:
            raise RuntimeError(f"{mutant} could not be tried")
        bar.set_postfix({kind: len(ms) for kind, ms in found.items()}, refresh=False)
        found["late" if code in stopped else verdicts.get(code, "killed")].append(mutant)

    for mutant in (bar := tqdm(chosen, desc=attempt.__name__, file=sys.__stderr__)):
        while len(running) >= cores:
            reap()
        pid = os.fork()
        if not pid:
            try:
                silent()
                os._exit(int(attempt(mutant, tests_of(mutant, trace, kills, enough))))
            finally:
                os._exit(BROKEN)
        running[pid] = mutant
    while running:
        reap()
    return found


def at_once(chosen: list[Mutant], files: list[str], enough: float) -> dict[str, list[Mutant]]:
    """The mutants by what became of them in forks of one process that collected the tests."""
    answer, called = BUILD / f"verdicts-{os.getpid()}.json", set()

    def work(items: list) -> None:
        sys.setprofile(None)
        before = {place(code) for code in called if code.co_filename.startswith(str(LIBRARY))}
        trace = trace_of(files, items)
        load(trace["modules"])
        gc.collect()
        library = functions()
        gc.freeze()  # memory that forks share

        def function(mutant: Mutant, seconds: dict[str, float]) -> int:
            places = patched(mutant, library)
            if not places:
                return UNSURE
            return one_fails(items, seconds) or (UNSURE if places & before else 0)

        found = judged(chosen, trace, function, enough)
        places = {verdict: [chosen.index(m) for m in ms] for verdict, ms in found.items()}
        answer.write_text(json.dumps([trace, places]), encoding="utf-8")

    pid = os.fork()
    if not pid:
        try:
            sys.setprofile(lambda frame, event, _: event == "call" and called.add(frame.f_code))
            tested([f"tests/{file}" for file in files], work)
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    if not answer.exists():
        sys.exit("The mutants could not be tried.")
    trace, found = json.loads(answer.read_text(encoding="utf-8"))
    answer.unlink()
    load(trace["modules"])
    found = {verdict: [chosen[i] for i in places] for verdict, places in found.items()}
    again = judged(found.pop("unsure", []), trace, imported, enough)
    return {kind: found.get(kind, []) + again[kind] for kind in ("killed", "late", "survived")}


def stored() -> tuple[dict[str, list[str]], dict[str, str]]:
    """The table's rows by module, and the reasons by what they speak of."""
    text = RESULTS.read_text(encoding="utf-8") if RESULTS.exists() else ""
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    reasons = [line[2:].rpartition(" | ") for line in text.splitlines() if line.startswith("- ")]
    table = {row[0]: row for row in rows if row[0] in MODULES}
    return table, {key: reason for key, _, reason in reasons}


def written(rows: dict[str, list[str]], reasons: dict[str, str]) -> str:
    """The text of the results."""
    rows = {module: rows[module] for module in MODULES if module in rows}
    of, killed = (sum(int(row[i]) for row in rows.values()) for i in (2, 3))
    same = sum(int(row[5]) for row in rows.values())
    lines = [
        f"{killed} of {of} mutants of {', '.join(rows)} are killed ({killed / of:.1%}), "
        f"{killed / (of - same):.1%} of those that differ from the library in what they do.",
        "",
        "| module | date | mutants | killed | so by time | alike | argument check | open |",
        "|---|---|---|---|---|---|---|---|",
        *(f"| {' | '.join(row)} |" for row in rows.values()),
        "",
        *(f"- {key} | {reasons[key]}" for key in sorted(reasons)),
        "",
    ]
    return "\n".join(lines)


def kind(reason: str) -> str:
    """Which column of the table a survivor belongs to."""
    return next((word for word in KINDS if reason.startswith(f"{word}: ")), "open")


def store(module: str, when: str, n: int, n_late: int, survived: list[Mutant]) -> None:
    """Put a module's counts and survivors in place of its older ones."""
    table, known = stored()
    if "one in" in when and module in table and "one in" not in table[module][1]:
        print(f"The whole of {module} stays, tried on {table[module][1]}; now survived", survived)
        return
    kept = {key: why for key, why in known.items() if key.split(".")[0] != module}
    found = {m.key: known.get(m.key, UNKNOWN) for m in survived}
    kinds = Counter(kind(found[m.key]) for m in survived)
    counts = [n, n - len(survived), n_late, *(kinds[name] for name in (*KINDS, "open"))]
    table[module] = [module, when, *map(str, counts)]
    RESULTS.write_text(written(table, kept | found), encoding="utf-8")


def main() -> None:
    """Try the mutants, and store what survived."""
    parser = argparse.ArgumentParser(description="Try whether tests notice a changed library.")
    parser.add_argument("modules", nargs="*", metavar="module", help=", ".join(MODULES))
    parser.add_argument("--every", type=int, default=1, help="only each n-th mutant")
    parser.add_argument("--own", action="store_true", help="only tests of the module's own file")
    given = parser.parse_args()
    BUILD.mkdir(parents=True, exist_ok=True)
    # what takes long to import, but nothing of the library
    import matplotlib.pyplot  # noqa: F401
    import pytest  # noqa: F401
    import scipy.optimize  # noqa: F401
    import sklearn.datasets  # noqa: F401
    import torch  # noqa: F401

    for module in given.modules or MODULES:
        begun = time.monotonic()
        chosen = mutants(module)[:: given.every]
        found = at_once(chosen, OWN[module], ENOUGH["own"])
        survived, late = found["survived"], found["late"]
        if survived and not given.own:
            found = at_once(survived, ALL, ENOUGH["all"])
            survived, late = found["survived"], late + found["late"]
        which = [f"one in {given.every}"] if given.every > 1 else []
        which += ["own tests"] if given.own else []
        store(module, ", ".join([str(date.today()), *which]), len(chosen), len(late), survived)
        print(f"{module}: {len(chosen)} mutants in {(time.monotonic() - begun) / 60:.0f} minutes")
    print(RESULTS.read_text(encoding="utf-8"))
    sys.exit(UNKNOWN in stored()[1].values())


if __name__ == "__main__":
    main()
