"""Figures, tables and listings of the chapters.

Each function draws on an Axes it is given, so that a chapter composes its own panels.
"""

import ast
import base64
import functools
import html
import inspect
import io
import itertools
import json
import math
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from numbers import Integral, Real
from typing import Any

import torch
from IPython.display import Markdown, display
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, is_color_like, to_hex, to_rgb
from matplotlib_inline.backend_inline import set_matplotlib_formats
from PIL import Image
from torch import Tensor

from ._checks import (
    require,
    require_finite,
    require_like,
    require_shape,
    require_tensor,
    require_type,
)
from ._guard import at_least_single, guard

BLUE, ORANGE, GREEN, RED, PURPLE = "#3b82c4", "#e07b39", "#3a9d6e", "#c2476b", "#8e6bbf"
GREY = "#757575"

_NUMBER = re.compile(r"([-+±.,%\d\s]|\de[-+]?\d)*|nan|inf")  # or a dash, for none

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


def ink(colour: str) -> str:
    """The colour as words need it: no brighter than can be read on white, 4.5 to 1 (WCAG 2.2).

    Args:
        colour: Any colour of matplotlib's.

    Raises:
        ValueError: if it is none.
    """
    require(is_color_like(colour), "colour", repr(colour), "a colour of matplotlib's")
    r, g, b = to_rgb(colour)
    while _contrast(r, g, b) < 4.5:
        r, g, b = 0.98 * r, 0.98 * g, 0.98 * b
    return to_hex((r, g, b))


def _contrast(*rgb: float) -> float:
    """Of a colour with white, by the luminances of WCAG 2.2."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgb]
    return 1.05 / (0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2] + 0.05)


def use_style() -> None:
    """The book's figure style, sharp at twice the pixels, and of a fixed size: cropped to its ink,
    a figure would move with every tick label.
    """
    plt.style.use(str(files("sdelib") / "book.mplstyle"))
    set_matplotlib_formats("retina", bbox_inches=None)


def _lighter(picture: Image.Image) -> Image.Image:
    """A picture whose levels are rounded by at most 2 of 255, for a page: a quarter fewer bytes."""
    return picture.convert("RGBA").point(4 * [(level + 2) // 5 * 5 for level in range(256)])


def show_source(*objects: Callable | type | property) -> Markdown:
    """The library's own source, as it is tested, but for docstrings and checks of arguments.

    Args:
        objects: Functions, methods, properties, classes, or partial applications of them.

    Raises:
        TypeError: for an object that was not written in Python, or has no source of its own.
    """
    return Markdown("\n\n".join(_listing(item) for item in objects))


def table(head: Sequence[str], rows: Sequence[Sequence[Any]], digits: str = ".3f") -> None:
    """Show what a cell has found as a table: a true one on a page, aligned words in a terminal.

    Args:
        head: A title for each column; formulas stand between dollar signs.
        rows: The rows, each as long as the head. Text and integers are shown as they are, other
            numbers (of Python, numpy, or a tensor of one element) by ``digits``.
        digits: A format of Python's for one number, for instance ``".3f"`` or ``".1%"``.

    Raises:
        TypeError: for rows of anything but text and numbers.
        ValueError: for rows that are not as long as the head, or ``digits`` that are no format.
    """
    require(len(head) > 0, "head", head, "of one title or more")
    for row in rows:
        require(len(row) == len(head), "rows", row, f"of {len(head)} members each, as the head")
    display(_forms(head, [[_cell(value, digits) for value in row] for row in rows]), raw=True)


def _forms(head: Sequence[str], rows: Sequence[Sequence[str]]) -> dict[str, str]:
    """A table of words by the kind of what shows it; columns of numbers stand to the right."""
    columns = list(zip(head, *rows, strict=True))
    is_text = [not all(map(_NUMBER.fullmatch, cells)) for _, *cells in columns]
    widths = [max(map(len, column)) for column in columns]

    def line(cells: Sequence[str]) -> str:
        aligned = zip(cells, widths, is_text, strict=True)
        return "  ".join(c.ljust(n) if text else c.rjust(n) for c, n, text in aligned).rstrip()

    def bars(cells: Sequence[str]) -> str:
        return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"

    rule = ["---" if text else "--:" for text in is_text]
    return {
        "text/markdown": "\n".join(map(bars, [head, rule, *rows])),
        "text/plain": "\n".join(map(line, [head, *rows])),
    }


def _cell(value: Any, digits: str) -> str:
    """A value in a table."""
    if isinstance(value, Tensor) and value.numel() == 1:
        value = value.item()
    require_type("rows", value, str | Real, "text and numbers only")
    if isinstance(value, str | Integral):
        return str(value)
    try:
        return format(value, digits)
    except ValueError:
        raise ValueError(f"digits must be a number's format, as '.3f', got {digits!r}") from None


def _listing(item: Any) -> str:
    """An object's source without docstrings, under the name of its file."""
    if isinstance(item, functools.partial):
        item = item.func
    if isinstance(item, property):
        item = item.fget
    source = textwrap.dedent(inspect.getsource(item))
    lines, dropped = source.splitlines(), set()
    for aside in _asides(ast.parse(source)):
        first, last = aside.lineno, aside.end_lineno or aside.lineno
        dropped |= set(range(first, last + 1))
        if last < len(lines) and not lines[last].strip():  # that parts it from what follows
            dropped.add(last + 1)
    kept = [line for number, line in enumerate(lines, 1) if number not in dropped]
    path = (inspect.unwrap(item).__module__ or "").replace(".", "/")
    return "\n".join(["```python", f"# {path}.py", *kept, "```"])


def _asides(tree: ast.Module) -> set[ast.stmt]:
    """Docstrings, statements that only refuse bad arguments, and what is computed for these."""
    asides: set[ast.stmt] = set()

    def read(node: ast.AST) -> set[str]:
        """The names that a node reads outside of asides."""
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            return {node.id}
        rest = [child for child in ast.iter_child_nodes(node) if child not in asides]
        return set().union(*map(read, rest))

    def is_aside(node: ast.stmt, names: set[str]) -> bool:
        if isinstance(node, ast.If | ast.For):
            return asides.issuperset(node.body + node.orelse)
        if isinstance(node, ast.FunctionDef):
            return node.name == "__post_init__" and asides.issuperset(node.body)
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            return node.targets[0].id not in names
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            return ast.unparse(node.value.func).lstrip("_").startswith("require")
        docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        return docstring or isinstance(node, ast.Raise)

    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    inside = {child for node in functions for child in ast.walk(node) if child is not node}
    statements = [node for node in ast.walk(tree) if isinstance(node, ast.stmt)]
    before = -1
    while before < len(asides):
        before, names = len(asides), read(tree)
        asides |= {
            node
            for node in statements
            if is_aside(node, names) and (node in inside or not isinstance(node, ast.Assign))
        }
    for node in functions:  # without a body there is no function
        if asides.issuperset(node.body) and node.name != "__post_init__":
            asides.difference_update(node.body)
    return asides


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
    require(0 < extent < math.inf, "extent", extent, "positive and finite")
    require(n >= 2, "n", n, "at least 2")
    x = torch.linspace(-extent, extent, n)[:, None]
    columns = [log_prob(x, t) for t in torch.linspace(1e-3, 1, n)]
    for column in columns:
        require_like("log_prob(x, t)", column, x[:, 0])
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
    require_finite("x", x)
    require_shape("x", x, "n", 1)
    require_finite("bins", bins)
    increasing = bins.ndim == 1 and len(bins) >= 2 and bool((bins.diff() > 0).all())
    require(increasing, "bins", f"others, {tuple(bins.shape)}", "two or more, increasing")
    require(is_color_like(colour), "colour", repr(colour), "one that matplotlib knows")
    ax.hist(
        at_least_single(x, "x")[:, 0].numpy(force=True),
        bins=bins.tolist(),
        density=True,
        color=colour,
        alpha=0.45,
        linewidth=0,
        label=label,
    )


class Player:
    """A film that plays in the rendered book; print, notebooks and tests have a still picture.

    The page needs `player.js`. A notebook shows the still: some frames of the first series.

    Args:
        series: What to choose from, frames by label: points ``(F, n, 2)``, or pictures
            ``(F, height, width)`` of numbers in [0, 1].
        times: The time of each frame, shape ``(F,)``.
        caption: What the film is about.
        alt: What is to be seen, in words.
        extent: Points from ``-extent`` to ``extent`` are shown, in both directions.
        choice: The name of what the labels are values of.
        colours: Of the series' points, in turn.
        clock: What the times count, for instance ``"step"``.
        under: What points move over, as a density: numbers in [0, 1], shape ``(height, width)``,
            the top row first, over the whole of what is shown.
        trail: The number of frames for which a point's path stays in view.

    If all labels are numbers, they are chosen by a slider.

    Raises:
        ValueError: if the frames and times are not of one number.
        TypeError: if the times are not a tensor of numbers.
    """

    def __init__(
        self,
        series: Mapping[str, Tensor],
        times: Tensor,
        caption: str,
        alt: str,
        extent: float = 3.0,
        choice: str = "process",
        colours: tuple[str, ...] = (ORANGE, BLUE, GREEN),
        clock: str = "t",
        under: Tensor | None = None,
        trail: int = 0,
    ):
        if not isinstance(times, Tensor) or times.is_complex() or times.is_meta:
            raise TypeError(f"times must be a tensor of numbers, got {times!r}")
        require_shape("times", times, "F")
        for label, frames in series.items():
            require_tensor(f"series[{label!r}]", frames)
            require_shape(f"series[{label!r}]", frames, len(times), "n", "2 or width")
        self.series, self.times, self.caption, self.alt = series, times, caption, alt
        self.extent, self.choice, self.colours, self.clock = extent, choice, colours, clock
        if under is not None:
            require_tensor("under", under)
            require_shape("under", under, "height", "width")
        self.under, self.trail = under, trail

    def _is_points(self, frames: Tensor) -> bool:
        return frames.shape[2] == 2

    def _bytes(self, frames: Tensor) -> str:
        """Frames in 8 bits a number, as text."""
        if not self._is_points(frames):
            return _as_bytes(frames)
        return _as_bytes(((frames / self.extent).clamp(-1, 1) * 127 + 128) / 255)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        picture = self._still()
        first = next(iter(self.series.values()))
        data = {
            "kind": "points" if self._is_points(first) else "pictures",
            "shape": list(first.shape),
            "times": [round(t, 4) for t in self.times.tolist()],
            "choice": self.choice,
            "series": [
                {"label": label, "colour": colour, "frames": self._bytes(frames)}
                for (label, frames), colour in zip(
                    self.series.items(), itertools.cycle(self.colours)
                )
            ],
        }
        if self.clock != "t":
            data["clock"] = self.clock
        if self.under is not None:
            data["under"] = {"shape": list(self.under.shape), "frames": _as_bytes(self.under)}
        if self.trail:
            data["trail"] = self.trail
        page = (
            f'<figure class="player" data-player="{html.escape(json.dumps(data))}">'
            f'<img src="data:image/png;base64,{picture}" alt="{html.escape(self.alt)}">'
            f"<figcaption>{html.escape(self.caption)}</figcaption></figure>"
        )
        return {"text/html": page, "text/plain": self.alt}

    def _still(self, n_frames: int = 5) -> str:
        """The picture of some frames as base64."""
        label, frames = next(iter(self.series.items()))
        _, height, width = frames.shape
        if not self._is_points(frames) and width > 2 * height:
            fig, axes = plt.subplots(n_frames, 1, figsize=(4, 5))
        else:
            fig, axes = plt.subplots(1, n_frames, figsize=(7, 1.6))
        for ax, i in zip(axes, torch.linspace(0, len(frames) - 1, n_frames).round().int().tolist()):
            if self._is_points(frames):
                x, y = frames[i].T.numpy()
                if self.under is not None:
                    box = (-self.extent, self.extent, -self.extent, self.extent)
                    ax.imshow(self.under.numpy(), cmap=FADE, alpha=0.6, extent=box, origin="upper")
                ax.plot(x, y, ".", markersize=1.2, markeredgewidth=0, color=self.colours[0])
                ax.set(xlim=(-self.extent, self.extent), ylim=(-self.extent, self.extent))
            else:
                ax.imshow(frames[i].numpy(), cmap="gray_r", vmin=0, vmax=1, origin="upper")
            now = self.times[i].item()
            title = f"$t = {now:.2g}$" if self.clock == "t" else f"{self.clock} {now:g}"
            ax.set(title=title, aspect="equal")
            ax.axis("off")
        drawn, file = io.BytesIO(), io.BytesIO()
        fig.savefig(drawn, format="png")
        plt.close(fig)
        with Image.open(drawn) as picture:
            _lighter(picture).save(file, "PNG", optimize=True)
        return base64.b64encode(file.getvalue()).decode()


def _as_bytes(numbers: Tensor) -> str:
    """Numbers in [0, 1] in 8 bits each, as text."""
    levels = (numbers.clamp(0, 1) * 255).round().to(torch.uint8)
    return base64.b64encode(levels.contiguous().numpy().tobytes()).decode()


guard(__name__, times=None)
