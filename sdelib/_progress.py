"""The progress bar of long work: widgets where Jupyter has them, text elsewhere, and no warning
about the difference.
"""

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from tqdm.auto import tqdm

__all__ = ["tqdm"]
