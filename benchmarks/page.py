"""Make the book's page `book/benchmarks.md`, its figure and `benchmarks/results.md` from
`results.json`; no number is typed.

python benchmarks/page.py
"""

import json
import re
from pathlib import Path

HERE = Path(__file__).parent
RESULTS, BOOK = HERE / "results.json", HERE.parent / "book"
PAGE, FIGURE = BOOK / "benchmarks.md", BOOK / "_static" / "benchmarks.svg"
TABLES = HERE / "results.md"
OURS = "sdelib"
AIM = 12  # microseconds a call beyond the network


def table(header: list[str], rows: list[list]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def best(rows: list[dict], budget: int) -> dict[str, dict]:
    """Each peer's best row within a budget of calls."""
    found: dict[str, dict] = {}
    for row in rows:
        if (
            row["budget"] == budget
            and "w1" in row
            and (row["peer"] not in found or row["w1"] < found[row["peer"]]["w1"])
        ):
            found[row["peer"]] = row
    return found


def budgets(results: dict) -> list[int]:
    return sorted({row["budget"] for row in results["errors"]})


def losses(results: dict) -> list[str]:
    """Where the best of a peer does better than the best here, or the same method of a peer, in
    sentences.
    """
    said = []
    for budget in budgets(results):
        found = best(results["errors"], budget)
        ours = found.pop(OURS)
        peer, row = min(found.items(), key=lambda item: item[1]["w1"])
        if row["w1"] < ours["w1"]:
            said.append(
                f"At {budget} calls {peer} ({row['sampler']}) has the smaller error: {row['w1']:.5f}, against {ours['w1']:.5f} here."
            )
    noisy = results["noisy errors"]
    for own in (row for row in noisy if row["sampler"] == "ancestral"):
        same = [row for row in noisy if "DDPM" in row["sampler"] and row["calls"] == own["calls"]]
        better = [
            f"{row['peer']} ({row['w1']:.4f})" for row in same if row["w1"] < 0.99 * own["w1"]
        ]
        if better:
            said.append(
                f"Ancestral sampling, DDPM's, at {own['calls']} calls: {own['w1']:.4f} here; smaller is the error of"
                f" {', '.join(better)}, on grids of their own."
            )
    loops = {row["loop"]: row for row in results["training"]}
    for ending in ("", ", fused Adam"):
        fit = loops[f"sdelib fit{ending}"]
        faster = [
            row
            for row in loops.values()
            if row["us_per_step"] < fit["us_per_step"] and OURS not in row["loop"]
        ]
        if faster:
            names = ", ".join(f"{row['loop']} ({row['us_per_step']:.0f})" for row in faster)
            said.append(
                f"A training step of `fit`{ending} takes {fit['us_per_step']:.0f} microseconds, in the median round"
                f" {fit['ratio']:.3f} times the bare loop's; faster are: {names}."
            )
    for d in sorted({row["dim"] for row in results["divergence"]}):
        rows = [row for row in results["divergence"] if row["dim"] == d]
        ours = next(row for row in rows if OURS in row["method"])
        first = min(rows, key=lambda row: row["ms"])
        if first is not ours:
            said.append(
                f"In {d} dimensions the divergence is faster by {first['method']}: {first['ms']:.2f} ms, against {ours['ms']:.2f}."
            )
    hungry = {row["sampler"]: row["states"] for row in results["memory"] if row["peer"] == OURS}
    thrifty = min(
        (row for row in results["memory"] if row["peer"] != OURS), key=lambda row: row["states"]
    )
    for name, states in hungry.items():
        if states > thrifty["states"]:
            said.append(
                f"{name} holds {states:.0f} states at once, {thrifty['peer']} ({thrifty['sampler']}) {thrifty['states']:.0f}."
            )
    for row in results["likelihood"]:
        same = [r for r in results["likelihood"] if r["tol"] == row["tol"]]
        ours = next(r for r in same if r["peer"] == OURS)
        if row["seconds"] < ours["seconds"] and row["nats"] < ours["nats"]:
            said.append(
                f"At tolerance {row['tol']:.0e} the likelihood by {row['peer']} ({row['method']}) is both faster and closer."
            )
    return said + slow(results["overhead"])


def slow(rows: list[dict]) -> list[str]:
    """Where the overhead a call exceeds the aim, or a peer's with as much noise."""
    said, torch = (
        [],
        {
            (row["sampler"], row["batch"]): row["us_per_call"]
            for row in rows
            if row["peer"] == "torch"
        },
    )
    ours = [row for row in rows if row["peer"] == OURS]
    for name in dict.fromkeys(row["sampler"] for row in ours):
        above = [row for row in ours if row["sampler"] == name and row["us_per_call"] > AIM]
        if not above:
            continue
        worst = max(above, key=lambda row: row["us_per_call"])
        batch, count = worst["batch"], worst["operations"]
        noise = torch["random numbers", batch]
        said.append(
            f"{name} needs more than the {AIM} microseconds a call aimed at, for batches of"
            f" {', '.join(str(row['batch']) for row in above)}; at {batch}, {worst['us_per_call']:.1f}. Its loop asks torch for"
            f" {count:.3g} operations a call"
            + (
                f", one of them the random numbers ({noise:.1f} microseconds)"
                if worst["noisy"]
                else ""
            )
            + f"; a product and sum takes {torch['one product and sum', batch]:.1f}."
        )
    for row in ours:
        rivals = [r for r in rows if r["peer"] not in (OURS, "torch", "bare loop")]
        rivals = [r for r in rivals if (r["batch"], r["noisy"]) == (row["batch"], row["noisy"])]
        said += [
            f"At batch {row['batch']} {r['peer']} ({r['sampler']}) has less overhead than {row['sampler']}:"
            f" {r['us_per_call']:.1f}, against {row['us_per_call']:.1f} microseconds a call."
            for r in rivals
            if r["us_per_call"] < row["us_per_call"]
        ]
    return said


def page(results: dict) -> str:
    machine, versions = results["machine"], results["versions"]
    errors, floor = results["errors"], results["floor"]
    parts = [
        "# Benchmarks",
        "The same work done by this library and by its peers, in one run on one machine. This page is generated from the"
        " run's results (`make bench`); no measured number on it is typed. Times are processor time of one thread: medians of"
        " jobs run in turn, in random order, but for the likelihoods, which run once, and the growth, twice.",
        "## Where this library loses",
        "Listed is where the best of a peer beats the best of this library, or the same sampler of a peer this library's; for"
        f" likelihoods, where a peer is both faster and closer; and where overhead exceeds {AIM} microseconds a call, the goal set"
        " for this library.",
        "\n".join(f"- {sentence}" for sentence in losses(results)) or "Nowhere in this run.",
        "## Error against score calls",
        "The exact score of the deck's mixture under VP; the start is the prior, and the distance to the data, $W_1$, has no"
        f" Monte Carlo noise. For scale: that of 50 000 exact points is {floor:.4f}. Each cell is the peer's best solver and"
        " grid within the calls; the last call, which reaches time 0, counts. Of the library's rows the first is its default"
        " grid, and the others may use a grid optimised for the number of calls (three numbers, found by"
        " {func}`~sdelib.grids.optimised` on this very target; the peers' grids are not tuned).",
        f"```{{figure}} _static/{FIGURE.name}\n:alt: Error against calls on logarithmic axes, one line a library; the library of this book"
        " lies lowest at few calls, and all meet a floor at many.\n:name: fig-benchmarks\n\nEach library's best error against"
        " its number of score calls; dashed, this library on its default grid; dotted, fifty thousand exact points.\n```",
    ]
    header = ["calls", "sdelib, Adams 4, equal steps"] + sorted(
        {row["peer"] for row in errors}, key=lambda p: (p != OURS, p)
    )
    rows = []
    for budget in budgets(results):
        found = best(errors, budget)
        plain = next(r for r in errors if r["budget"] == budget and r["sampler"] == "Adams 4")
        cells = [
            f"{found[p]['w1']:.5f} ({found[p]['sampler']})" if p in found else ""
            for p in header[2:]
        ]
        rows.append([budget, f"{plain['w1']:.5f}", *cells])
    parts.append(table(header, rows))
    parts.append(
        "Samplers of the reverse SDE, by fifty thousand samples, whose own error is the floor above:"
    )
    parts.append(
        table(
            ["library", "sampler", "calls", "$W_1$"],
            [
                [r["peer"], r["sampler"], r["calls"], f"{r['w1']:.4f}"]
                for r in results["noisy errors"]
            ],
        )
    )
    parts.append("## Overhead beyond the network")
    parts.append(
        "Microseconds a score call when the network is free, in a run of a hundred steps: for this library with drawing the start,"
        " making the grid and all coefficients; the peers' loops are given a start, and some of them the grid. The bare loop is"
        " Euler-Maruyama with constants for coefficients. The first two rows are what torch itself"
        " takes for a sum and product of states, and for random numbers; the first column of numbers counts such operations in"
        " the library's loops."
    )
    batches = sorted({row["batch"] for row in results["overhead"]})
    names = list(dict.fromkeys((row["peer"], row["sampler"]) for row in results["overhead"]))
    value = {(r["peer"], r["sampler"], r["batch"]): r["us_per_call"] for r in results["overhead"]}
    counts = {
        (r["peer"], r["sampler"]): f"{r['operations']:.3g}"
        for r in results["overhead"]
        if r["operations"]
    }
    parts.append(
        table(
            ["library", "sampler", "operations", *(f"batch {b}" for b in batches)],
            [
                [*name, counts.get(name, ""), *(f"{value[*name, b]:.1f}" for b in batches)]
                for name in names
            ],
        )
    )
    parts.append("## Likelihood")
    parts.append(
        "Log-likelihood of 64 points under the flow of the exact score, with the exact law at time 1 except where said; largest error."
    )
    parts.append(
        table(
            ["library", "method", "tolerance", "calls", "seconds", "nats"],
            [
                [
                    r["peer"],
                    r["method"],
                    f"{r['tol']:.0e}",
                    r["calls"],
                    f"{r['seconds']:.3f}",
                    f"{r['nats']:.1e}",
                ]
                for r in results["likelihood"]
            ],
        )
    )
    parts.append("The exact divergence of a network of 128 units at 64 states, in milliseconds:")
    dims = sorted({row["dim"] for row in results["divergence"]})
    methods = list(dict.fromkeys(row["method"] for row in results["divergence"]))
    value = {(r["method"], r["dim"]): r["ms"] for r in results["divergence"]}
    parts.append(
        table(
            ["method", *(f"{d} dimensions" for d in dims)],
            [[m, *(f"{value[m, d]:.2f}" for d in dims)] for m in methods],
        )
    )
    parts.append("## Training")
    parts.append(
        "A step on 256 points, the same network. The ratio, the median over rounds and so not the quotient of the medians, is to"
        " the bare loop, written by hand for this one loss: with fused Adam for fused Adam, else with Adam (the peers' loops use"
        " AdamW)."
    )
    parts.append(
        table(
            ["loop", "microseconds", "ratio"],
            [
                [r["loop"], f"{r['us_per_step']:.0f}", f"{r['ratio']:.3f}"]
                for r in results["training"]
            ],
        )
    )
    parts.append(
        "The deck's scheme evaluates 4 points at 150 times with 10 draws each in one step (see {ref}`ch-cost`):"
    )
    parts.append(
        table(
            ["scheme", "evaluations", "ms a step", "MB of tensors"],
            [
                [r["scheme"], r["evaluations"], f"{r['ms']:.1f}", f"{r['bytes'] / 1e6:.1f}"]
                for r in results["deck"]
            ],
        )
    )
    parts.append("## Memory and growth")
    parts.append(
        "Most tensor memory held at once in a run of twenty steps, in states of the whole batch; the peers' includes what their"
        " adapters to this score need:"
    )
    parts.append(
        table(
            ["library", "sampler", "states"],
            [[r["peer"], r["sampler"], f"{r['states']:.1f}"] for r in results["memory"]],
        )
    )
    parts.append("Time and memory grow with a power of the size, fitted on logarithms:")
    parts.append(
        table(
            ["what grows", "sizes", "time exponent", "memory exponent"],
            [
                [
                    r["what"],
                    ", ".join(map(str, r["sizes"])),
                    f"{r['time exponent']:.2f}",
                    f"{r['memory exponent']:.2f}",
                ]
                for r in results["growth"]
            ],
        )
    )
    parts.append("## The run")
    parts.append(
        f"Processor: {machine['processor']}, {machine['cores']} cores, {machine['threads']} thread; Python {machine['python']}."
    )
    parts.append(table(["package", "version"], [[name, v] for name, v in versions.items()]))
    return "\n\n".join(parts) + "\n"


def tables(page: str) -> str:
    """The page for readers of the repository: no figure, and names instead of the book's links."""
    parts = [part for part in page.split("\n\n") if "```" not in part and "{numref}" not in part]
    return re.sub(r"\{\w+\}`~?([^`]*)`", r"`\1`", "\n\n".join(parts))


def draw(results: dict) -> None:
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "benchmarks"  # the same file for the same numbers
    import matplotlib.pyplot as plt

    from sdelib.plotting import BLUE, GREEN, ORANGE, PURPLE, RED, use_style

    use_style()
    fig, ax = plt.subplots(figsize=(7.4, 4))
    xs = budgets(results)
    peers = sorted({row["peer"] for row in results["errors"]} - {OURS})
    for peer, colour in zip([OURS, *peers], (BLUE, ORANGE, GREEN, PURPLE, RED, "grey")):
        points = [
            (b, best(results["errors"], b)[peer]["w1"])
            for b in xs
            if peer in best(results["errors"], b)
        ]
        ax.loglog(
            *zip(*points),
            "o-",
            color=colour,
            markersize=4,
            linewidth=2 if peer == OURS else 1.2,
            label=peer,
        )
    plain = [
        next(r["w1"] for r in results["errors"] if r["budget"] == b and r["sampler"] == "Adams 4")
        for b in xs
    ]
    ax.loglog(xs, plain, "--", color=BLUE, label=f"{OURS}, equal steps")
    ax.axhline(results["floor"], linestyle=":", color="grey")
    ax.set(xlabel="score calls", ylabel="$W_1$ to the data")
    ax.set_xticks(xs, [str(b) for b in xs])
    ax.minorticks_off()
    ax.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5))
    fig.savefig(FIGURE, metadata={"Date": None}, bbox_inches="tight")


if __name__ == "__main__":
    results = json.loads(RESULTS.read_text())
    PAGE.write_text(page(results))
    TABLES.write_text(tables(PAGE.read_text()))
    draw(results)
    print("wrote", *(path.relative_to(HERE.parent) for path in (PAGE, FIGURE, TABLES)))
