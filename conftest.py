"""Whatever pytest runs here compares notebooks with tolerances, runs the cells of a notebook in
order, and computes on one thread unless told otherwise.
"""

import os
import sys
from pathlib import Path

import pytest

# before torch is imported, here and in the notebooks' kernels
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Here rather than in pyproject.toml, so that the tests also run from a folder above this one, where
# a line `pytest_plugins` is not allowed either. The import is what changes the comparison.
ROOT = Path(__file__).parent
sys.path[:0] = [str(ROOT / folder) for folder in ("tests", "tools", "benchmarks")]
import nbval_tolerance  # noqa: E402, F401

if not (ROOT / "book").is_dir():  # a source distribution, which has the library's tests only
    others = """bad_calls benchmarks book environment equations folds laboratory mutants package
        pages plain trust weights"""
    collect_ignore = [f"tests/test_{name}.py" for name in others.split()]


# files whose tests share something that takes long to make: one process makes it, once
TOGETHER = ("tests/test_nbval_tolerance.py", "tests/test_package.py")


@pytest.hookimpl(optionalhook=True)  # pytest-xdist's, where it is installed
def pytest_xdist_make_scheduler(config, log):
    """Share out tests one by one, but whole some files and every notebook, whose cells run in
    order.
    """
    from xdist.scheduler import LoadScopeScheduling

    class TestsAndNotebooks(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            name, _, cell = nodeid.partition("::")
            whole = name in TOGETHER or (name.endswith(".ipynb") and cell)
            return name if whole else nodeid

    # what keeps files together already may do so
    return TestsAndNotebooks(config, log) if config.option.dist in ("load", "worksteal") else None
