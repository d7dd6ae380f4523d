"""Compare a notebook's outputs as a reader would: numbers within a tolerance, figures by what
moved, words exactly.

nbval as shipped compares text to the last digit and figures not at all, passes a cell that was
never run, and fails when a warning changes. Here

- numbers written with a point or an exponent agree within 1 %, integers and words exactly; an
  integer never agrees with a float, nor `nan` or `inf` with anything but itself;
- figures agree when at most 2 % of their ink lies elsewhere, with half a pixel's grace for
  rounding;
- a cell that was never run fails; whatever goes to stderr is ignored; a trailing `;` hides a
  result, as in Jupyter.

Tags on a cell change its limits: `rtol=0.05`, `atol=1e-6`, `ink=0.1`. Of figures that differ, the
stored one, the new one and the difference are written to `_build/nbval-diff`, where that can be.
"""

from __future__ import annotations

import base64
import io
import math
import re

import numpy as np
from nbformat import NotebookNode
from nbval.kernel import RunningKernel
from nbval.plugin import IPyNbCell
from PIL import Image
from scipy.ndimage import maximum_filter, minimum_filter

LIMITS = {"rtol": 1e-2, "atol": 1e-12, "ink": 2e-2}  # atol only forgives rounding around zero

NUMBER = re.compile(
    r"""(?<![\w.])                             # not inside a word or a version
        [-+−]?
        (?>(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)    # 1,234 or 1234,
           (?:\.\d+|\.(?=\s*[-\d,\])]))?       # then .5, or a bare point, as in [1. 2.]
           |\.\d+)
        (?>(?:[eE][-+−]?\d+)?)
        (?!\w|\.\d)""",
    re.VERBOSE,
)
PICTURE_IN_HTML = re.compile(r"data:image/png;base64,([A-Za-z0-9+/=]+)")
FILM_IN_HTML = re.compile(r"frames&quot;: &quot;([A-Za-z0-9+/=]+)")
FILM_STEP = 3  # of 255: smaller differences of a film's numbers are not seen
COLOUR_STEP = 8  # of 255: smaller differences of colour are not seen


def is_integer(number: str) -> bool:
    """Whether a number is written as an integer."""
    return number.lstrip("+-−").replace(",", "").isdigit()


def value(number: str) -> float:
    """What a written number means."""
    return float(number.replace(",", "").replace("−", "-"))


def text_difference(stored: str, rerun: str, rtol: float, atol: float) -> str:
    """Say what differs between two texts, or return an empty string. The amount of blank space does
    not matter.
    """
    words = [[" ".join(piece.split()) for piece in NUMBER.split(text)] for text in (stored, rerun)]
    if words[0] != words[1]:
        return f"the words differ\n--- stored\n{stored}\n--- rerun\n{rerun}"
    for a, b in zip(NUMBER.findall(stored), NUMBER.findall(rerun), strict=True):
        if is_integer(a) or is_integer(b):
            same = a == b
        else:
            same = math.isclose(value(a), value(b), rel_tol=rtol, abs_tol=atol)
        if not same:
            return f"stored {a}, rerun {b}\n--- stored\n{stored}\n--- rerun\n{rerun}"
    return ""


def pixels(picture: str) -> np.ndarray:
    """The picture's colours and opacity, with colour counting only as far as it is opaque."""
    image = Image.open(io.BytesIO(base64.b64decode(picture)))
    return np.asarray(image.convert("RGBA").convert("RGBa"), dtype=np.int16)


def moved(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Where either picture has a colour that the other would not show there if shifted by up to
    half a pixel.
    """

    def foreign(p, q):
        low = (q + minimum_filter(q, size=(3, 3, 1))) / 2
        high = (q + maximum_filter(q, size=(3, 3, 1))) / 2
        return ((p < low - COLOUR_STEP) | (p > high + COLOUR_STEP)).any(axis=2)

    return foreign(a, b) | foreign(b, a)


def ink(a: np.ndarray) -> np.ndarray:
    """Where the picture shows anything but its commonest colour."""
    colours, counts = np.unique(a.reshape(-1, a.shape[2]), axis=0, return_counts=True)
    return (abs(a - colours[counts.argmax()]) > COLOUR_STEP).any(axis=2)


def picture_difference(stored: str, rerun: str, limit: float, save) -> str:
    """Say by how much two pictures differ, or return an empty string; `save` is given the pictures
    that do.
    """
    a, b = pixels(stored), pixels(rerun)
    if a.shape != b.shape:
        return f"figure of {b.shape[1]} x {b.shape[0]} pixels, stored {a.shape[1]} x {a.shape[0]}"
    where = moved(a, b)
    share = where.sum() / max(1, (ink(a) | ink(b)).sum())
    if share <= limit:
        return ""
    difference = io.BytesIO()
    Image.fromarray(
        np.where(where[..., None], [220, 0, 0], 255 - a[..., 3:] // 4).astype(np.uint8)
    ).save(difference, "PNG")
    places = save(
        stored=base64.b64decode(stored),
        rerun=base64.b64decode(rerun),
        difference=difference.getvalue(),
    )
    return f"figure: {share:.2%} of the ink moved, limit {limit:.2%}; see {places}"


def film_difference(stored: str, rerun: str, limit: float) -> str:
    """Say by how much the frames of two films differ, or return an empty string."""
    a, b = (np.frombuffer(base64.b64decode(film), np.uint8).astype(int) for film in (stored, rerun))
    if a.shape != b.shape:
        return f"film of {len(b)} numbers, stored {len(a)}"
    share = (abs(a - b) > FILM_STEP).mean()
    return f"film: {share:.2%} of it moved, limit {limit:.2%}" if share > limit else ""


def settled(outputs: list) -> list:
    """The outputs without stderr, and with what was printed in several pieces joined."""
    kept = []
    for out in outputs:
        if out["output_type"] == "stream":
            if out["name"] == "stderr":
                continue
            if kept and kept[-1]["output_type"] == "stream":
                out = NotebookNode(
                    output_type="stream", name="stdout", text=kept.pop()["text"] + out["text"]
                )
        kept.append(out)
    return kept


def parts(out) -> dict:
    """What of an output is compared: kind of content -> content."""
    if out["output_type"] == "stream":
        return {"stdout": out["text"]}
    if out["output_type"] == "error":
        return {"error": f"{out['ename']}: {out['evalue']}"}
    return dict(out["data"])


def part_difference(cell: IPyNbCell, kind: str, stored, rerun) -> str:
    """Say what differs between a stored and a new part of an output, or return an empty string."""
    if stored == rerun:
        return ""
    tags = [tag.partition("=") for tag in cell.cell.metadata.get("tags", [])]
    limits = LIMITS | {name: float(number) for name, _, number in tags if name in LIMITS}

    def save(**pictures):
        folder = cell.config.rootpath / "_build" / "nbval-diff"
        stem = f"{cell.path.stem}-cell{cell.cell_num}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name, content in pictures.items():
                (folder / f"{stem}-{name}.png").write_bytes(content)
        except OSError as problem:  # as in a checkout that may only be read
            return f"no picture of it, which could not be written ({problem})"
        return folder / f"{stem}-{{{','.join(pictures)}}}.png"

    if kind in ("image/png", "image/jpeg"):
        return picture_difference(stored, rerun, limits["ink"], save)
    if not (isinstance(stored, str) and isinstance(rerun, str)):
        return f"{kind}: stored {stored}, rerun {rerun}"
    if kind == "text/html":
        pictures = [PICTURE_IN_HTML.findall(html) for html in (stored, rerun)]
        if len(pictures[0]) != len(pictures[1]):
            return f"{len(pictures[1])} pictures, stored {len(pictures[0])}"
        for a, b in zip(*pictures):
            if a != b and (difference := picture_difference(a, b, limits["ink"], save)):
                return difference
        films = [FILM_IN_HTML.findall(html) for html in (stored, rerun)]
        for a, b in zip(*films):
            if a != b and (difference := film_difference(a, b, limits["ink"])):
                return difference
        for inside in (PICTURE_IN_HTML, FILM_IN_HTML):
            stored, rerun = (inside.sub("", html) for html in (stored, rerun))
    return text_difference(stored, rerun, limits["rtol"], limits["atol"])


def compare_outputs(self: IPyNbCell, test: list, ref: list, skip_compare=None) -> bool:
    """Replace nbval's comparison: output by output, in order, and part by part."""
    stored, rerun = ([parts(out) for out in settled(outputs)] for outputs in (ref, test))
    self.comparison_traceback = []
    if [sorted(out) for out in stored] != [sorted(out) for out in rerun]:
        kinds = [[sorted(out) for out in outputs] for outputs in (stored, rerun)]
        self.comparison_traceback.append(f"stored outputs: {kinds[0]}, rerun: {kinds[1]}")
        return False
    for a, b in zip(stored, rerun):
        for kind in a:
            if difference := part_difference(self, kind, a[kind], b[kind]):
                self.comparison_traceback.append(difference)
    return not self.comparison_traceback


def runtest(self: IPyNbCell) -> None:
    """Run the cell as nbval does, but refuse one that holds code and was never run: there is
    nothing to compare.
    """
    if self.cell.source.strip() and self.cell.execution_count is None:
        self.raise_cell_error("this cell was stored without having been run")
    nbval_runtest(self)


def execute_cell_input(self: RunningKernel, cell_input: str, allow_stdin=None):
    """Execute with history, without which IPython does not honour a trailing `;`."""
    return self.kc.execute(
        cell_input, store_history=True, allow_stdin=allow_stdin, stop_on_error=False
    )


# Methods are replaced on nbval's own classes, because nbval's collector names its cell class and so
# would ignore another.
nbval_runtest = IPyNbCell.runtest
IPyNbCell.runtest = runtest
IPyNbCell.compare_outputs = compare_outputs
RunningKernel.execute_cell_input = execute_cell_input
