"""Whatever pytest runs here compares notebooks with tolerances, runs the cells of a notebook in
order, and computes on one thread unless told otherwise.
"""

import os
import sys
from pathlib import Path

# before torch is imported, here and in the notebooks' kernels
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Here rather than in pyproject.toml, so that the tests also run from a folder above this one, where
# a line `pytest_plugins` is not allowed either. The import is what changes the comparison.
ROOT = Path(__file__).parent
sys.path[:0] = [str(ROOT / folder) for folder in ("tests", "tools", "benchmarks")]
import nbval_tolerance  # noqa: E402, F401


def pytest_configure(config):
    """Let pytest-xdist, where it shares out the tests, keep the cells of a notebook together."""
    if getattr(config.option, "dist", "no") in ("load", "worksteal"):
        config.option.dist = "loadscope"
