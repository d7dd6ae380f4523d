"""Whatever pytest runs here compares notebooks with tolerances and computes on one thread, unless
told otherwise.
"""

import os

os.environ.setdefault(
    "OMP_NUM_THREADS", "1"
)  # before torch is imported, here and in the notebooks' kernels

pytest_plugins = ["nbval_tolerance"]
