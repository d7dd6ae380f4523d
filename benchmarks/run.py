"""Run every benchmark and write `results.json`, or with --quick a smaller one that only shows that
all of it works.

    python benchmarks/run.py [--quick]      in .venv-bench, as `make bench` does
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


def main(quick: bool) -> dict:
    torch.set_num_threads(1)
    start, repeats = time.perf_counter(), 3 if quick else 9
    budgets = (10,) if quick else (10, 15, 20, 50, 100)
    batches = (1, 64) if quick else (1, 64, 512, 4096)
    jobs = {
        "errors": lambda: errors.deterministic(budgets),
        "noisy errors": lambda: errors.noisy((20,) if quick else (20, 50, 100)),
        "floor": errors.floor,
        "overhead": lambda: overhead.overhead(batches, 100, repeats),
        "scores": lambda: overhead.scores((1, 64), 20 if quick else 500),
        "likelihood": lambda: likelihood.likelihood(1),
        "divergence": lambda: likelihood.divergence(repeats),
        "training": lambda: training.training(20 if quick else 100, repeats if quick else 31),
        "memory": training.memory,
        "growth": lambda: training.growth(2),
        "deck": lambda: training.deck_scheme(repeats),
    }
    results = {}
    for name, job in jobs.items():
        results[name] = job()
        print(f"{name}: done at {time.perf_counter() - start:.0f} s", flush=True)
    results["machine"] = {
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": 1,
        "python": platform.python_version(),
    }
    results["versions"] = {name: version(name) for name in ("torch", *PEERS)}
    return results


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    results = main(quick)
    if not quick:
        text = json.dumps(results, indent=1) + "\n"
        RESULTS.write_text(text, encoding="utf-8", newline="\n")
