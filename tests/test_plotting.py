"""Listings show the code without docstrings and checks; figures show the numbers given."""

import ast
import base64
import functools
import html
import io
import itertools
import json
import math
import re

import pytest
import torch
from markdown_it import MarkdownIt
from matplotlib import pyplot as plt
from matplotlib.colors import to_rgb
from torch.testing import assert_close

from sdelib._checks import require, require_type
from sdelib.plotting import (
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    RED,
    Player,
    density_over_time,
    histogram,
    ink,
    show_source,
    table,
    use_style,
)
from sdelib.sde import VPSDE
from sdelib.steps import ancestral


def decorated(function):
    @functools.wraps(function)
    def inner(*args):
        return function(*args)

    return inner


@decorated
def documented(x):
    """Words.

    More words, with a "quote" and a # sign.
    """

    def within(y):
        """Inner words."""
        return y  # a comment stays

    return within(x)


def plain(x):
    return 2 * x


class Documented:
    """Words about the class."""

    text = """not a docstring"""

    def method(self):
        """Words about the method."""
        return self.text

    @property
    def nothing(self):
        """Only words: without them there would be no body."""


def guarded(x, n):
    """Words."""
    require_type("n", n, int, "an integer")
    allowed = "positive"
    if n < 1:
        require(False, "n", n, allowed)
    for part in x:
        if part is None:
            raise ValueError("x must be full")
    y = n * x
    if n > 5:
        y = y + 1
    return y


LISTINGS = {
    "without checks of arguments, nor what only they read": (
        guarded,
        """\
def guarded(x, n):
    y = n * x
    if n > 5:
        y = y + 1
    return y""",
    ),
    "a decorated function": (
        documented,
        """\
@decorated
def documented(x):
    def within(y):
        return y  # a comment stays

    return within(x)""",
    ),
    "a function without a docstring": (plain, "def plain(x):\n    return 2 * x"),
    "a partial application": (
        functools.partial(plain, 3),
        "def plain(x):\n    return 2 * x",
    ),
    "a method": (Documented.method, "def method(self):\n    return self.text"),
    "a property": (
        Documented.nothing,
        '@property\ndef nothing(self):\n    """Only words: without them there would be no body."""',
    ),
    "a class": (
        Documented,
        '''\
class Documented:
    text = """not a docstring"""

    def method(self):
        return self.text

    @property
    def nothing(self):
        """Only words: without them there would be no body."""''',
    ),
}


@pytest.mark.parametrize("item, code", LISTINGS.values(), ids=LISTINGS)
def test_a_listing_is_the_code_without_docstrings(item, code):
    assert show_source(item).data == f"```python\n# test_plotting.py\n{code}\n```"


def test_several_objects_give_several_listings():
    both = show_source(plain, Documented.method).data
    assert both == f"{show_source(plain).data}\n\n{show_source(Documented.method).data}"


def test_the_listing_of_a_step_is_its_formula():
    code = (
        show_source(ancestral)
        .data.removeprefix("```python\n# sdelib/steps.py\n")
        .removesuffix("```")
    )
    (step,) = ast.parse(code).body
    assert isinstance(step, ast.FunctionDef)
    names = {"score", "x", "t", "s", "noise"}
    assert {argument.arg for argument in step.args.args} == names
    assert len(step.body) <= 4 and isinstance(step.body[-1], ast.Return)
    used = {n.id for line in step.body for n in ast.walk(line) if isinstance(n, ast.Name)}
    assert names <= used


def test_what_has_no_source_is_refused():
    with pytest.raises(TypeError):
        show_source(math.sin)


@pytest.fixture
def ax():
    fig, ax = plt.subplots()
    yield ax
    plt.close(fig)


def shown(monkeypatch, *args, **settings):
    """The forms of a table, by their kind."""
    found = []
    monkeypatch.setattr("sdelib.plotting.display", lambda forms, raw: found.append(forms))
    table(*args, **settings)
    return found[0]


def test_a_table_is_one_on_a_page_and_in_a_terminal(monkeypatch):
    rows = [["VE", 12, torch.tensor(0.5), "-"], ["sub-VP", 7, 10.0, "1.5e-02 ± 10 %"]]
    forms = shown(monkeypatch, ["SDE", "calls", "$|x|$", "error"], rows, ".2f")
    assert forms["text/plain"].splitlines() == [
        "SDE     calls  $|x|$           error",
        "VE         12   0.50               -",
        "sub-VP      7  10.00  1.5e-02 ± 10 %",
    ]
    html = MarkdownIt("gfm-like", {"linkify": False}).render(forms["text/markdown"])
    cells = re.findall(r"<t([hd])(?: style=\"text-align:(right)\")?>(.*?)</t", html)
    assert cells == [
        *(
            ("h", "", "SDE"),
            ("h", "right", "calls"),
            ("h", "right", "$|x|$"),
            ("h", "right", "error"),
        ),
        *(("d", "", "VE"), ("d", "right", "12"), ("d", "right", "0.50"), ("d", "right", "-")),
        *(("d", "", "sub-VP"), ("d", "right", "7"), ("d", "right", "10.00")),
        ("d", "right", "1.5e-02 ± 10 %"),
    ]


@pytest.mark.parametrize(
    ("rows", "digits", "error", "message"),
    [
        ([["a"]], ".3f", ValueError, "rows must be of 2 members each"),
        ([["a", [1.0]]], ".3f", TypeError, "rows must be text and numbers only, got list"),
        ([["a", torch.ones(2)]], ".3f", TypeError, "rows must be text .*, got Tensor"),
        ([["a", 1.0]], "three", ValueError, "digits must be a number's format.*'three'"),
    ],
)
def test_a_table_names_what_it_cannot_show(rows, digits, error, message):
    with pytest.raises(error, match=message):
        table(["one", "two"], rows, digits)


def test_a_histogram_is_a_density(ax):
    x = torch.tensor([[0.1], [0.2], [0.6], [1.7]], requires_grad=True)
    histogram(ax, x, torch.tensor([0.0, 0.5, 1.0, 2.0]))
    heights = torch.tensor([bar.get_height() for bar in ax.patches])
    assert_close(heights, torch.tensor([2 / 4 / 0.5, 1 / 4 / 0.5, 1 / 4 / 1.0]))


def test_the_density_over_time_is_scaled_at_every_instant(ax):
    sde = VPSDE()

    def log_prob(x, t):
        return -0.5 * (x[:, 0] / (sde.alpha(t) + 2 * sde.sigma(t))) ** 2 + 7

    density_over_time(ax, log_prob, extent=3.0, n=11)
    shown = torch.as_tensor(ax.images[0].get_array().data)
    assert shown.shape == (11, 11)  # states down, times across
    assert_close(shown[5], torch.ones(11))  # the middle, where each instant has its maximum
    x, times = torch.linspace(-3, 3, 11), torch.linspace(1e-3, 1, 11)
    widths = sde.alpha(times) + 2 * sde.sigma(times)
    assert_close(shown, torch.exp(-0.5 * (x[:, None] / widths) ** 2))


def film(page):
    """The film's data and the frames of its first series, as the page reads them."""
    data = json.loads(html.unescape(re.search(r'data-player="([^"]*)"', page)[1]))
    raw = base64.b64decode(data["series"][0]["frames"])
    return data, torch.frombuffer(bytearray(raw), dtype=torch.uint8).reshape(data["shape"])


def test_a_film_holds_its_frames():
    points = torch.linspace(-2.5, 2.5, 3 * 5 * 2).reshape(3, 5, 2)  # to the very edge
    times = torch.tensor([1.0, 0.5, 0.0])
    player = Player({"a": points, "b": -points}, times, "a < b", "some points", extent=2.5)
    page = player._repr_mimebundle_()["text/html"]
    assert "<figcaption>a &lt; b</figcaption>" in page
    data, frames = film(page)
    assert (data["kind"], data["times"]) == ("points", times.tolist())
    assert [series["label"] for series in data["series"]] == ["a", "b"]
    # 127 levels from the middle to the edge
    assert_close((frames.to(points) - 128) / 127 * 2.5, points, rtol=0, atol=0.51 * 2.5 / 127)


def test_a_film_of_pictures_holds_its_frames():
    pictures = torch.linspace(0, 1, 2 * 4 * 3).reshape(2, 4, 3)
    page = Player(
        {"a": pictures}, torch.tensor([1.0, 0.0]), "words", "a <square>"
    )._repr_mimebundle_()
    data, frames = film(page["text/html"])
    assert data["kind"] == "pictures"
    assert_close(frames.to(pictures) / 255, pictures, rtol=0, atol=0.51 / 255)
    assert "alt=&lt;" not in page["text/html"] and "a &lt;square&gt;" in page["text/html"]


def test_a_film_needs_a_time_for_each_frame():
    with pytest.raises(ValueError, match="series"):
        Player({"a": torch.zeros(3, 5, 2)}, torch.zeros(2), "words", "points")


def test_a_still_of_wide_pictures_stacks_them_upright():
    """As in the player, the first row is the upper one, whatever the style says of images."""
    wide = torch.zeros(5, 4, 16)
    wide[:, :2] = 1  # ink above
    film = Player({"a": wide}, torch.linspace(1, 0, 5), "words", "some squares")
    with plt.rc_context({"image.origin": "lower", "figure.facecolor": "none"}):
        page = film._repr_mimebundle_()["text/html"]
    picture = re.search(r'data:image/png;base64,([^"]*)', page)[1]
    pixels = torch.as_tensor(plt.imread(io.BytesIO(base64.b64decode(picture)), "png"))
    column = pixels[:, pixels.shape[1] // 4]  # beside the titles
    dark = [bool(pixel[0] < 0.5) for pixel in column if pixel[3] > 0.99]
    assert [key for key, _ in itertools.groupby(dark)] == [True, False] * 5


def test_a_film_says_what_its_times_count():
    points, steps = torch.zeros(2, 5, 2), torch.tensor([0, 300])
    page = Player({"a": points}, steps, "words", "points", clock="step")._repr_mimebundle_()
    assert film(page["text/html"])[0]["clock"] == "step"


@pytest.mark.parametrize(
    "colour", [BLUE, ORANGE, GREEN, RED, PURPLE, GREY, "white", "#777777", "k"]
)
def test_ink_is_read_on_white_and_no_darker_than_it_must_be(colour):
    def contrast(colour):  # https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio
        r, g, b = (
            c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)
        )
        return 1.05 / (0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05)

    if contrast(colour) >= 4.5:
        assert to_rgb(ink(colour)) == pytest.approx(to_rgb(colour))
    else:
        assert 4.4 < contrast(ink(colour)) < 4.75
    with pytest.raises(ValueError, match="^colour must be a colour of matplotlib's, got 'rust'"):
        ink("rust")


def test_the_style_writes_in_an_ink():
    with plt.rc_context():
        use_style()
        for what in ("text.color", "axes.labelcolor", "axes.titlecolor", "xtick.color"):
            assert to_rgb(ink(plt.rcParams[what])) == pytest.approx(to_rgb(plt.rcParams[what]))


def test_a_film_over_a_density_holds_it_from_the_top_row_on():
    points, under = torch.zeros(2, 5, 2), torch.tensor([[0.0, 1.0], [0.5, 0.2]])
    film_of = Player(
        {"0": points, "1": points},
        torch.zeros(2),
        "words",
        "points",
        colours=(GREEN,),
        under=under,
        trail=7,
    )
    data, _ = film(film_of._repr_mimebundle_()["text/html"])
    assert [series["colour"] for series in data["series"]] == [GREEN, GREEN]
    assert data["trail"] == 7 and data["under"]["shape"] == [2, 2]
    assert [*base64.b64decode(data["under"]["frames"])] == [0, 255, 128, 51]
    with pytest.raises(ValueError, match="^under must be of shape"):
        Player({"a": points}, torch.zeros(2), "words", "points", under=torch.zeros(3))
