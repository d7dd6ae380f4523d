"""Figures and listings of the chapters. Each function draws on an Axes it is given, so a chapter
composes its own panels.
"""

import ast
import inspect
import re
import textwrap
from collections.abc import Callable
from importlib.resources import files

import torch
from IPython.display import Markdown
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib_inline.backend_inline import set_matplotlib_formats
from torch import Tensor

BLUE, ORANGE, GREEN, RED, PURPLE = (
    "#3b82c4",
    "#e07b39",
    "#3a9d6e",
    "#c2476b",
    "#8e6bbf",
)
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
    """The book's figure style, at a fixed size: a figure cropped to its ink would move when a tick
    label changes.
    """
    plt.style.use(str(files("sdelib") / "book.mplstyle"))
    set_matplotlib_formats("png", bbox_inches=None)


def show_source(*objects: Callable | type) -> Markdown:
    """The library's own source, as it is tested, for the page; docstrings are left to the API
    page.
    """
    listings = []
    for item in objects:
        source = textwrap.dedent(inspect.getsource(item))
        lines = source.splitlines()
        for node in ast.walk(ast.parse(source)):
            documented = isinstance(node, ast.FunctionDef | ast.ClassDef) and ast.get_docstring(
                node
            )
            if documented and len(node.body) > 1:
                doc = node.body[0]
                lines[doc.lineno - 1 : doc.end_lineno] = [None] * (doc.end_lineno - doc.lineno + 1)
        kept = re.sub(
            r"(class .*:\n)\n",
            r"\1",
            "\n".join(line for line in lines if line is not None),
        )
        listings.append(
            f"```python\n# sdelib/{inspect.getmodule(item).__name__.split('.')[-1]}.py\n{kept}\n```"
        )
    return Markdown("\n\n".join(listings))


def density_over_time(
    ax: Axes,
    log_prob: Callable[[Tensor, Tensor], Tensor],
    extent: float,
    n: int = 240,
) -> None:
    """Shade the density of a one-dimensional state over time; each instant is scaled to its own
    maximum.

    Args:
        log_prob: Log-density at states ``(n, 1)`` and one time, shape ``(n,)``.
        extent: The states shown run from ``-extent`` to ``extent``.
    """
    x = torch.linspace(-extent, extent, n)[:, None]
    columns = [log_prob(x, t) for t in torch.linspace(1e-3, 1, n)]
    density = torch.stack([(column - column.max()).exp() for column in columns], dim=1)
    ax.imshow(
        density,
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
    """A filled density histogram of the points ``x`` of shape ``(n, 1)``."""
    ax.hist(
        x[:, 0],
        bins=bins,
        density=True,
        color=colour,
        alpha=0.45,
        linewidth=0,
        label=label,
    )
