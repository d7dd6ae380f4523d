"""Repeat the tests in random order, and the chapters, and count the failures.

    python tools/flakes.py [--tests 30] [--chapters 10]     or `make flakes`

Each repetition takes the next number of threads and set of the processor's instructions, and the
tests another order. `tests/flakes.md` adds up what came out, also of a run that is stopped; until
then the table is with the logs in `_build/flakes`, as the tests hold the page of trust to theirs.
"""

from __future__ import annotations

import argparse
import itertools
import os
import re
import signal
import subprocess
import sys
from datetime import date
from pathlib import Path

import torch
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
LOGS = ROOT / "_build" / "flakes"
RESULTS, SO_FAR = ROOT / "tests" / "flakes.md", LOGS / "flakes.md"
# what the libraries under torch call the same sets: Intel's, and oneDNN, which convolves
BELOW = {
    "DEFAULT": ("SSE4_2", "SSE41"),
    "AVX2": ("AVX2", "AVX2"),
    "AVX512": ("AVX512", "AVX512_CORE"),
}
LONGEST = 3600  # seconds for one repetition
HEAD = ["repeated", "threads", "instructions", "times", "since", "last", "failures"]


def conditions() -> list[tuple[str, str]]:
    """Numbers of threads, with the plain instructions and each better set of the processor."""
    sets = ["DEFAULT", "AVX2", "AVX512"]
    best = torch.backends.cpu.get_cpu_capability()
    known = sets[: sets.index(best) + 1] if best in sets else ["DEFAULT", best]
    return [*itertools.product("12", known)]


def stored() -> dict[tuple[str, ...], list[str]]:
    """The other columns of the table, by the first three."""
    table = SO_FAR if SO_FAR.is_file() else RESULTS
    text = table.read_text(encoding="utf-8") if table.is_file() else ""
    rows = [line.strip("| ").split(" | ") for line in text.splitlines()[2:]]
    return {tuple(row[:3]): row[3:] for row in rows}


def store(key: tuple[str, ...], failures: list[str]) -> None:
    """Add one repetition to the table."""
    rows, today = stored(), str(date.today())
    times, since, _, before = rows.get(key, ["0", today, today, "none"])
    named = sorted({*before.split("; "), *failures} - {"none"}) or ["none"]
    rows[key] = [str(int(times) + 1), since, today, "; ".join(named)]
    table = [HEAD, ["---"] * len(HEAD), *([*key, *row] for key, row in sorted(rows.items()))]
    SO_FAR.write_text("".join(f"| {' | '.join(row)} |\n" for row in table), encoding="utf-8")


def failures_in(said: str) -> list[str]:
    """Which tests failed, by what pytest said."""
    found = re.findall(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", said, re.MULTILINE)
    return [name.replace("|", "/") for name in found]


def repeated(what: str, number: int, threads: str, instructions: str) -> list[str]:
    """The failures of one repetition."""
    workers = max(1, (os.cpu_count() or 1) // int(threads))
    command = [sys.executable, "-m", "pytest", "-q", f"-n{workers}", "-p", "no:cacheprovider"]
    mkl, onednn = BELOW.get(instructions, ("", ""))
    chosen = {
        "OMP_NUM_THREADS": threads,
        "ATEN_CPU_CAPABILITY": instructions.lower(),
        "MKL_ENABLE_INSTRUCTIONS": mkl,
        "ONEDNN_MAX_CPU_ISA": onednn,
    }
    tests = ["tests", "-p", "randomly", f"--randomly-seed={number}"]
    run = subprocess.Popen(
        [*command, *(tests if what == "tests" else ["book", "--nbval"])],
        cwd=ROOT,
        env=os.environ | {name: value for name, value in chosen.items() if value},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        start_new_session=True,  # its workers end with it
    )
    log = LOGS / f"{what}-{number}.log"
    try:
        said, _ = run.communicate(timeout=LONGEST)
    except subprocess.TimeoutExpired:
        os.killpg(run.pid, signal.SIGKILL)
        log.write_text(run.communicate()[0], encoding="utf-8")
        return [f"no end within {LONGEST} seconds"]
    log.write_text(said, encoding="utf-8")
    if run.returncode not in (0, 1):  # 1: all were run, and some failed
        sys.exit(f"{said}\nThe repetition did not come to its end.")
    return failures_in(said)


def main() -> None:
    """Repeat what is asked for, and store the failures after each."""
    parser = argparse.ArgumentParser(description="Repeat the tests and the chapters.")
    parser.add_argument("--tests", type=int, default=30, help="how many times the library's tests")
    parser.add_argument("--chapters", type=int, default=10, help="how many times the chapters")
    given = vars(parser.parse_args())
    LOGS.mkdir(parents=True, exist_ok=True)
    try:
        for what in tqdm([what for what, times in given.items() for _ in range(times)]):
            number = sum(int(row[0]) for key, row in stored().items() if key[0] == what)
            condition = conditions()[number % len(conditions())]
            store((what, *condition), repeated(what, number, *condition))
    finally:
        if SO_FAR.is_file():
            SO_FAR.replace(RESULTS)
    print(RESULTS.read_text(encoding="utf-8"))
    sys.exit(any(row[-1] != "none" for row in stored().values()))


if __name__ == "__main__":
    main()
