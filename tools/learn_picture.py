"""Run the README's example of `learn` and draw its picture, `book/_static/learn.png`.

python tools/learn_picture.py          or `make picture`
"""

import re
from pathlib import Path

import matplotlib as mpl

mpl.use("agg")

from matplotlib import pyplot as plt

from sdelib.plotting import BLUE, GREY, ORANGE

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "book" / "_static" / "learn.png"


def main() -> None:
    """Draw the data `x` and the samples `y` of the example side by side."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    names: dict = {}
    exec(re.search(r"```python\n(.*?)```", readme, re.DOTALL)[1], names)
    fig, axes = plt.subplots(1, 2, figsize=(6, 3), sharex=True, sharey=True, layout="constrained")
    panels = ("x: five thousand data", names["x"]), ("y: five thousand samples", names["y"])
    for ax, (title, points), colour in zip(axes, panels, (BLUE, ORANGE)):
        ax.plot(*points.cpu().T, ".", markersize=1.5, markeredgewidth=0, color=colour)
        ax.set_title(title, fontsize=10, color=GREY)
        ax.set_aspect("equal")
        ax.axis("off")
    fig.savefig(PICTURE, dpi=200, transparent=True)


if __name__ == "__main__":
    main()
