"""Figures and listings of the chapters.

Each function draws on an Axes it is given, so that a chapter composes its own panels.
"""

import ast
import functools
import inspect
import textwrap
from collections.abc import Callable
from importlib.resources import files
from typing import Any

import torch
from IPython.display import Markdown
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib_inline.backend_inline import set_matplotlib_formats
from torch import Tensor

BLUE, ORANGE, GREEN, RED, PURPLE = "#3b82c4", "#e07b39", "#3a9d6e", "#c2476b", "#8e6bbf"
GREY = "#808080"

FADE = LinearSegmentedColormap.from_list("fade", [(*to_rgb(BLUE), 0.0), (*to_rgb(BLUE), 1.0)])
"""From nothing to blue, for densities; where there is no density the page shows, light or dark."""

DIVERGING = LinearSegmentedColormap.from_list(
    "diverging",
    [
        (0.0, (*to_rgb(BLUE), 1.0)),
        (0.5, (*to_rgb(BLUE), 0.0)),
        (0.5, (*to_rgb(ORANGE), 0.0)),
        (1.0, (*to_rgb(ORANGE), 1.0)),
    ],
)
"""From blue over nothing at zero to orange, for signed quantities."""


def use_style() -> None:
    """The book's figure style, at a fixed size: cropped to its ink, a figure would move with every
    tick label.
    """
    plt.style.use(str(files("sdelib") / "book.mplstyle"))
    set_matplotlib_formats("png", bbox_inches=None)


def show_source(*objects: Callable | type | property) -> Markdown:
    """The library's own source, as it is tested; docstrings are left to the page on the library.

    Args:
        objects: Functions, methods, properties, classes, or partial applications of them.

    Raises:
        TypeError: for an object that was not written in Python, or has no source of its own.
    """
    return Markdown("\n\n".join(_listing(item) for item in objects))


def _listing(item: Any) -> str:
    """An object's source without docstrings, under the name of its file."""
    if isinstance(item, functools.partial):
        item = item.func
    if isinstance(item, property):
        item = item.fget
    source = textwrap.dedent(inspect.getsource(item))
    lines, dropped = source.splitlines(), set()
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        if ast.get_docstring(node) is None or len(node.body) == 1:  # without it there is no body
            continue
        first, last = node.body[0].lineno, node.body[0].end_lineno or node.body[0].lineno
        dropped |= set(range(first, last + 1))
        if not lines[last].strip():  # the blank line that parts it from what follows
            dropped.add(last + 1)
    kept = [line for number, line in enumerate(lines, 1) if number not in dropped]
    path = (inspect.unwrap(item).__module__ or "").replace(".", "/")
    return "\n".join(["```python", f"# {path}.py", *kept, "```"])


def density_over_time(
    ax: Axes, log_prob: Callable[[Tensor, Tensor], Tensor], extent: float, n: int = 240
) -> None:
    """Shade the density of a one-dimensional state over time, each instant by its own maximum.

    Args:
        ax: Where to draw.
        log_prob: Log-density at states ``(n, 1)`` and one time, shape ``(n,)``.
        extent: The states shown run from ``-extent`` to ``extent``.
        n: Number of states, and of times.
    """
    x = torch.linspace(-extent, extent, n)[:, None]
    columns = [log_prob(x, t) for t in torch.linspace(1e-3, 1, n)]
    density = torch.stack([(column - column.max()).exp() for column in columns], dim=1)
    ax.imshow(
        density.numpy(force=True),
        extent=(0, 1, -extent, extent),
        cmap=FADE,
        vmin=0,
        vmax=1.3,
        interpolation="bilinear",
    )
    ax.set(xlabel="time $t$", ylabel="state $x$")


def histogram(
    ax: Axes, x: Tensor, bins: Tensor, label: str | None = None, colour: str = BLUE
) -> None:
    """Fill a density histogram of points.

    Args:
        ax: Where to draw.
        x: Points, shape ``(n, 1)``.
        bins: Edges of the bins, increasing.
        label: Name in a legend.
        colour: Colour of the bars.
    """
    ax.hist(
        x[:, 0].numpy(force=True),
        bins=bins.tolist(),
        density=True,
        color=colour,
        alpha=0.45,
        linewidth=0,
        label=label,
    )
