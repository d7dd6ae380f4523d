"""Run the benchmarks and write `results.json`, or with --quick smaller ones that only show that all
of it works.

    python benchmarks/run.py [--quick] [--only errors | --only times]    in .venv-bench

Errors are the same on every machine; times want an idle one. What is not run stays as it was.
"""

import argparse
import json
import logging
import os
import platform
import time
import warnings
from importlib.metadata import version
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported
os.environ["KINETO_LOG_LEVEL"] = "99"  # its profiler would say when it starts and stops
warnings.simplefilter("ignore")
logging.disable(logging.WARNING)

import errors  # noqa: E402
import likelihood  # noqa: E402
import overhead  # noqa: E402
import torch  # noqa: E402
import training  # noqa: E402

RESULTS = Path(__file__).parent / "results.json"
PEERS = ("azula", "diffusers", "k-diffusion", "smalldiffusion", "torchdiffeq", "torchsde", "zuko")


def processor() -> str:
    """The model of the processor, as the system names it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = (line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def errors_of(quick: bool) -> dict:
    """Jobs whose results do not depend on the machine."""
    budgets = (10,) if quick else (10, 15, 20, 30, 50)
    some = {"names": ("deck",), "processes": ("VP",)} if quick else {}
    n_samples = 5000 if quick else 200_000
    return {
        "errors": lambda: errors.deterministic(budgets, **some),
        "ablation": lambda: errors.ablation((10,) if quick else (10, 20, 30), **some),
        **({} if quick else {"last step": errors.last_step}),
        "noisy errors": lambda: errors.noisy((20,) if quick else (20, 50), n_samples),
        "floors": lambda: errors.floors(n_samples),
    }


def times_of(quick: bool) -> dict:
    """Jobs that are timed, or counted beside what is timed."""
    repeats, batches = (3, (1, 64)) if quick else (9, (1, 64, 512, 4096))
    return {
        "overhead": lambda: overhead.overhead(batches, 100, repeats),
        "scores": lambda: overhead.scores((1, 64), 20 if quick else 500),
        "likelihood": lambda: likelihood.likelihood(1),
        "divergence": lambda: likelihood.divergence(repeats),
        "training": lambda: training.training(20 if quick else 100, repeats if quick else 31),
        "memory": training.memory,
        "growth": lambda: training.growth(2),
        "deck": lambda: training.deck_scheme(repeats),
        "machine": lambda: {
            "processor": processor(),
            "cores": os.cpu_count(),
            "threads": 1,
            "python": platform.python_version(),
        },
    }


def main(quick: bool, only: str | None) -> dict:
    torch.set_num_threads(1)
    start = time.perf_counter()
    results = {}
    for part, jobs in (("errors", errors_of(quick)), ("times", times_of(quick))):
        for name, job in jobs.items() if only in (None, part) else ():
            results[name] = job()
            print(f"{name}: done at {time.perf_counter() - start:.0f} s", flush=True)
    results["versions"] = {name: version(name) for name in ("torch", *PEERS)}
    return results


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", choices=("errors", "times"))
    chosen = parser.parse_args()
    results = main(chosen.quick, chosen.only)
    if not chosen.quick:
        before = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
        text = json.dumps(before | results, indent=1) + "\n"
        RESULTS.write_text(text, encoding="utf-8", newline="\n")
