"""What `learn` reaches: distances in floors on small sets in the plane, labels, densities, digits.

`make learn-table` writes `tools/learn.md`. A distance is the energy distance that two samples of
5000 points have on average, in floors: 1 for two of the law itself, and 1.5 is aimed at. Each is a
mean over four pairs of samples, as one pair alone errs by a quarter of a floor. `copies` is what
training points drawn with replacement score, as no model can know more than its points: of 5000
they would score 1.5. `far` counts samples farther out than 1.5 times the farthest of Heun's method
at 100 calls, over three SDEs and 10, 20, 30, 50 calls of both fast solvers.
"""

import argparse
import itertools
import math
import time
from datetime import date

import torch

from sdelib.data import DIGIT_LEVELS, deck_mixture, digits
from sdelib.learned import Model, learn
from sdelib.likelihood import bits_per_dimension
from sdelib.metrics import energy_distance
from sdelib.samplers import adams, dpm_solver_2m, walk
from sdelib.sde import VESDE, VPSDE, SubVPSDE
from sdelib.steps import heun

N = 5000
MANY = 4 * N  # the points to learn from, and those to compare
PAIRS = 4  # of samples that are compared


def on_circle(angle, radius=1.0):
    """Points at that angle from the first axis."""
    return radius * torch.stack([angle.cos(), angle.sin()], 1)


def moons(n):
    """Two interlocking half circles."""
    angle, up = math.pi * torch.rand(n), torch.rand(n)[:, None] < 0.5
    lower = torch.tensor([1.0, 0.5]) - on_circle(angle)
    return torch.where(up, on_circle(angle), lower) + 0.05 * torch.randn(n, 2)


def spiral(n):
    """One arm, denser outwards."""
    angle = 3 * math.pi * torch.rand(n).sqrt()
    return on_circle(angle, angle[:, None] / 3) + 0.05 * torch.randn(n, 2)


def checkerboard(n):
    """Eight unit squares."""
    column = torch.randint(4, (n,))
    row = 2 * torch.randint(2, (n,)) + column % 2
    return torch.stack([column, row], 1) + torch.rand(n, 2) - 2


def rings(n):
    """Four rings around one centre."""
    radius = 0.5 * torch.randint(1, 5, (n, 1))
    return on_circle(2 * math.pi * torch.rand(n), radius) + 0.05 * torch.randn(n, 2)


def eight_gaussians(n):
    """Eight round modes on a circle."""
    return on_circle(math.pi / 4 * torch.randint(8, (n,)), 2.0) + 0.1 * torch.randn(n, 2)


def pinwheel(n):
    """Five bent arms."""
    r, w = 1 + 0.3 * torch.randn(n, 1), 0.05 * torch.randn(n, 1)
    angle = 2 * math.pi / 5 * torch.randint(5, (n,)) + 0.25 * r[:, 0].exp()
    return on_circle(angle, r) + on_circle(angle + math.pi / 2, w)


def deck(n):
    """The mixture of chapter 7, on the line."""
    return deck_mixture().sample(n)


SETS = (moons, spiral, checkerboard, rings, eight_gaussians, pinwheel, deck)


def floors(sample, fresh):
    """The mean energy distance of two samples of ``N`` points in floors, from larger ones.

    A sample's part in the distance is the floor, which falls as one over its size. Samples of a law
    itself have 1, give or take a quarter, so several pairs are compared.

    Args:
        sample: A function that draws a sample anew, for each of ``fresh``.
        fresh: Samples of the law.
    """
    excess = 0.0
    for other in fresh:
        found = energy_distance(sample().double(), other.double())
        excess += (found.value - found.floor) / (found.floor * len(other) / N)
    return 1 + excess / len(fresh)


def timed(*args, **kwargs):
    """A learned model and the processor's seconds that it took."""
    start = time.process_time()
    model = learn(*args, progress=False, **kwargs)
    return model, time.process_time() - start


def on_set(draw, seed, scale=1.0, shift=0.0):
    """The row of one set, learned in other units, and the model."""
    torch.manual_seed(1000 + seed)
    x, *fresh = (draw(MANY) for _ in range(1 + PAIRS))
    model, seconds = timed(scale * x.double() + shift, seed=seed)
    row = {"CPU s": seconds}
    for name, how in (("default", {}), ("20 calls", {"n_steps": 19})):
        row[name] = floors(lambda how=how: (model.sample(MANY, **how) - shift) / scale, fresh)
    row["copies"] = floors(lambda: x[torch.randint(MANY, (MANY,))], fresh)
    return row, model


def far(model):
    """Samples far out, under three SDEs: the network's clock is the same for all."""
    return sum(far_under(sde, model) for sde in (VPSDE(), VESDE(), SubVPSDE()))


def far_under(sde, model):
    """Samples far out with both fast solvers, by the limit that Heun's method sets."""
    twin = Model(torch.eye(2), sde=sde)
    twin.load_state_dict(model.state_dict())
    generator = torch.Generator().manual_seed(7)

    def radii(solver, n_steps):
        y = twin.sample(N, solver=solver, n_steps=n_steps, generator=generator)
        return (y - twin.mean).norm(dim=1)

    limit = 1.5 * radii(walk(heun), 50).max()
    ways = itertools.product((adams(), dpm_solver_2m), (10, 20, 30, 50))
    return sum(int((~(radii(solver, calls - 1) <= limit)).sum()) for solver, calls in ways)


def classes(n):
    """Two arcs and a ring that touch nowhere, labelled 7, 17 and 27."""
    kind, angle = torch.randint(3, (n,)), math.pi * torch.rand(n)
    angle = torch.where(kind == 2, 2 * angle, torch.where(kind == 1, -angle, angle))
    centre = torch.tensor([[0.0, 0.0], [1.0, 0.5], [2.5, 1.5]])[kind]
    radius = torch.where(kind == 2, 0.3, 1.0)[:, None]
    return centre + on_circle(angle, radius) + 0.05 * torch.randn(n, 2), 10 * kind + 7


def on_classes(seed):
    """The row of labelled points in the plane."""
    torch.manual_seed(1000 + seed)
    (x, labels), (fresh, kinds) = classes(MANY), classes(4 * PAIRS * MANY)
    model, seconds = timed(x, labels, seed=seed)
    row = {"CPU s": seconds}
    asked = kinds[:N]
    y = model.sample(N, label=asked)
    some = fresh[: 4 * MANY]
    nearest = torch.cat([torch.cdist(part, some).argmin(1) for part in y.split(500)])
    row["right, mixed batch"] = (kinds[nearest] == asked).double().mean().item()
    copies = 0.0
    for k in (7, 17, 27):
        others, own = fresh[kinds == k][: PAIRS * MANY].split(MANY), x[labels == k]
        row[f"label {k}"] = floors(lambda k=k: model.sample(MANY, label=k), others)
        copies += floors(lambda own=own: own[torch.randint(len(own), (MANY,))], others) / 3
    return row | {"copies": copies}


def on_gaussian(seed):
    """The row of a Gaussian whose density is known."""
    torch.manual_seed(1000 + seed)
    a, centre = torch.randn(10, 10).double(), 5 * torch.randn(10).double()
    cov = a @ a.T / 10 + 0.1 * torch.eye(10)
    law = torch.distributions.MultivariateNormal(centre, cov)
    x, fresh = law.sample((20_000,)), law.sample((500,))
    model, seconds = timed(x, seed=seed)
    error = model.log_prob(fresh) - law.log_prob(fresh)
    return {
        "CPU s": seconds,
        "mean error": error.mean().item(),
        "mean absolute error": error.abs().mean(),
    }


def on_digits(seed):
    """The row of the digits of chapter 9."""
    torch.manual_seed(seed)
    (x, labels), (held_out, _), _ = digits(1197, 300, 300)
    width = 2 / DIGIT_LEVELS
    model, seconds = timed(x, labels, level_width=width, seed=seed)
    noisy = held_out + width * (torch.rand(held_out.shape) - 0.5)
    log_prob = model.log_prob(noisy, rtol=1e-2, atol=1e-2)
    bits = bits_per_dimension(log_prob.float(), 64, width)
    return {"CPU s": seconds, "bits/pixel held out": bits.mean().item()}


def table(title, rows):
    """Print rows of numbers as Markdown, each as soon as it is measured."""
    for i, (name, row) in enumerate(rows):
        if i == 0:
            print(
                f"\n### {title}\n\n| | " + " | ".join(row) + " |\n" + "|---" * (1 + len(row)) + "|"
            )
        values = " | ".join(f"{value:.4g}" for value in row.values())
        print(f"| {name} | {values} |", flush=True)


def rows_of_sets(draws, seeds):
    """The rows of the small sets."""
    for draw, seed in itertools.product(draws, seeds):
        row, model = on_set(draw, seed)
        row["far"] = far(model) if draw is not deck else 0
        yield f"{draw.__name__}, seed {seed}", row


def main():
    """Measure what was asked for and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--sets", nargs="*", default=[draw.__name__ for draw in SETS])
    parser.add_argument(
        "--parts", nargs="*", default=["sets", "units", "classes", "gaussian", "digits"]
    )
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    draws = [draw for draw in SETS if draw.__name__ in chosen.sets]
    print(
        "# What `learn` reaches\n\nMade on",
        date.today(),
        "with one thread. A distance is that of 5000 points, in floors.",
    )
    if "sets" in chosen.parts:
        table(f"Sets of {MANY} points", rows_of_sets(draws, chosen.seeds))
    if "units" in chosen.parts:
        ways = [(1.0, 0.0), (0.01, 0.0), (0.01, 500.0), (100.0, 500.0)]
        rows = ((f"x {a:g} + {b:g}", on_set(draws[0], 0, a, b)[0]) for a, b in ways)
        table(f"{draws[0].__name__} in other units", rows)
    for part, measure, title in (
        ("classes", on_classes, f"Three labelled classes, {MANY} points"),
        ("gaussian", on_gaussian, "Log-density of a Gaussian in 10 dimensions, nats"),
        ("digits", on_digits, "Digits, 1197 images"),
    ):
        if part in chosen.parts:
            table(title, ((f"seed {seed}", measure(seed)) for seed in chosen.seeds))


if __name__ == "__main__":
    main()
