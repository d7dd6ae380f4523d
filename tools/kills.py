"""Kill training and saving at random moments, and see whether a state on disk is lost.

    python tools/kills.py [training saving]      or `make kills`, 100 and 300 of them

The killed process is a fork of this one, SIGKILL its end. `tests/kills.md` keeps what came out.
"""

from __future__ import annotations

import itertools
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # a fork of a process with more threads may wait for ever
ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
RESULTS = ROOT / "tests" / "kills.md"


def killed(action: Callable[[], None], seconds: float) -> bool:
    """Whether a fork that runs ``action`` was killed after so many seconds, before its end."""
    pid = os.fork()
    if not pid:
        try:
            action()
            os._exit(0)
        finally:
            os._exit(1)
    time.sleep(seconds)
    os.kill(pid, signal.SIGKILL)
    status = os.waitpid(pid, 0)[1]
    if os.WIFEXITED(status) and os.WEXITSTATUS(status):
        sys.exit("The process failed before it was killed.")
    return os.WIFSIGNALED(status)


def leftovers(path: Path) -> int:
    """How many files cut short lie beside it; they are removed."""
    found = list(path.parent.glob(f".{path.name}.*.tmp"))
    for file in found:
        file.unlink()
    return len(found)


def while_training(n: int, folder: Path, draws: random.Random) -> list[int]:
    """Kills, of these in the midst of writing, damaged states, lost states; runs, ended alike."""
    from test_checkpoints import run, steps_in

    whole, path = folder / "whole", folder / "run"
    run(path, every=1)  # the first is slow
    begun = time.monotonic()
    run(whole, every=1)
    longest = time.monotonic() - begun
    kills = writing = damaged = lost = runs = alike = 0
    while kills < n:
        path.unlink(missing_ok=True)
        done = 0
        while killed(lambda: run(path, every=1), draws.uniform(0, longest)):
            kills += 1
            writing += leftovers(path)
            try:
                found = steps_in(path) if path.exists() else 0
            except Exception:
                damaged += 1
                break
            lost += found < done
            done = found
        runs += 1
        alike += path.read_bytes() == whole.read_bytes()
    return [kills, writing, damaged, lost, runs, alike]


def while_saving(n: int, folder: Path, draws: random.Random) -> list[int]:
    """Kills, of these in the midst of writing, damaged states, states lost."""
    from sdelib.training import _replace

    path = folder / "state"
    state = lambda k: k.to_bytes(8) * 100_000
    writing = damaged = lost = last = 0
    for _ in range(n):
        read, write = os.pipe()

        def save(first: int = last + 1, write: int = write) -> None:
            for k in itertools.count(first):
                _replace(path, state(k))
                os.write(write, k.to_bytes(8))

        assert killed(save, draws.uniform(0, 0.2))
        os.close(write)
        with open(read, "rb") as said:
            promised = int.from_bytes(said.read()[-8:]) or last  # the last that was saved
        writing += leftovers(path)
        data = path.read_bytes() if path.exists() else b""
        last = int.from_bytes(data[:8])
        damaged += bool(data) and data != state(last)
        lost += last < promised
    return [n, writing, damaged, lost]


def main() -> None:
    """Kill, and store the table."""
    n_training, n_saving = map(int, sys.argv[1:] or (100, 300))
    with tempfile.TemporaryDirectory() as name:
        *training, runs, alike = while_training(n_training, Path(name), random.Random(0))
        saving = while_saving(n_saving, Path(name), random.Random(1))
    lines = [
        f"{date.today()}: {alike} of {runs} runs that were killed and resumed ended byte for byte "
        "as one that was not.",
        "",
        "| killed at random | times | while it wrote | states damaged | states lost |",
        "|---|---|---|---|---|",
        f"| training that saves after each step | {' | '.join(map(str, training))} |",
        f"| saving | {' | '.join(map(str, saving))} |",
    ]
    RESULTS.write_text("\n".join([*lines, ""]), encoding="utf-8")
    print(RESULTS.read_text(encoding="utf-8"))
    sys.exit(any([*training[2:], *saving[2:], runs - alike]))


if __name__ == "__main__":
    main()
