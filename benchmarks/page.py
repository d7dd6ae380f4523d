"""Make the book's page `book/benchmarks.md`, its figure and `benchmarks/results.md` from
`template.md` and `results.json`; no number is typed.

    python benchmarks/page.py
"""

import json
import re
from pathlib import Path

HERE = Path(__file__).parent
RESULTS, BOOK = HERE / "results.json", HERE.parent / "book"
PAGE, FIGURE = BOOK / "benchmarks.md", BOOK / "_static" / "benchmarks.svg"
TABLES, TEMPLATE = HERE / "results.md", HERE / "template.md"
OURS, DEFAULT = "sdelib", "Adams 4"
AIM = 12  # microseconds a call beyond the network


def table(rows: list[dict], columns: dict[str, str]) -> str:
    """A table of ``columns``: their heads, and how a row of the results fills their cells."""
    lines = [list(columns), ["---"] * len(columns)]
    lines += [[cell.format_map(row) for cell in columns.values()] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def pivot(rows: list[dict], names: dict[str, str], key: str, head: str, value: str) -> str:
    """A table with a column for each value of ``key``, and a line for what shares its names."""
    lines: dict[tuple, dict] = {}
    for row in rows:
        line = lines.setdefault(tuple(name.format_map(row) for name in names.values()), dict(row))
        line[head.format(row[key])] = value.format_map(row)
    heads = [head.format(item) for item in sorted({row[key] for row in rows})]
    return table(list(lines.values()), names | {name: f"{{{name}}}" for name in heads})


def best(rows: list[dict], budget: int) -> dict[str, dict]:
    """Each peer's best row within a budget of calls."""
    found: dict[str, dict] = {}
    for row in rows:
        peer = row["peer"]
        if row["budget"] == budget and row.get("w1", 1e9) < found.get(peer, {"w1": 1e9})["w1"]:
            found[peer] = row
    return found


def budgets(results: dict) -> list[int]:
    return sorted({row["budget"] for row in results["errors"]})


def losses(results: dict) -> list[str]:
    """Where a peer does better than this library, in sentences."""
    parts = errors_lost, noise_lost, training_lost, divergence_lost, memory_lost, likelihood_lost
    return [said for part in parts for said in part(results)] + slow(results["overhead"])


def errors_lost(results):
    """Of the best here, whose grid may be tuned, and of the default, on which nothing is."""
    for budget in budgets(results):
        found, default = best(results["errors"], budget), by_default(results["errors"])[budget]
        ours = found.pop(OURS)
        row = min(found.values(), key=lambda row: row["w1"])
        theirs = f"At {budget} calls {row['peer']} ({row['sampler']}) has the smaller error: "
        for mine, name in ((ours, ours["sampler"]), (default, f"{DEFAULT} on the default grid")):
            if row["w1"] < mine["w1"]:
                yield f"{theirs}{row['w1']:.5f}, against {mine['w1']:.5f} here ({name})."


def by_default(errors):
    """The library's default solver on its default grid, by budget."""
    return {row["budget"]: row for row in errors if row["sampler"] == DEFAULT}


def noise_lost(results):
    noisy = results["noisy errors"]
    for own in (row for row in noisy if row["sampler"] == "ancestral"):
        same = [row for row in noisy if "DDPM" in row["sampler"] and row["calls"] == own["calls"]]
        better = [f"{r['peer']} ({r['w1']:.4f})" for r in same if r["w1"] < 0.99 * own["w1"]]
        if better:
            yield f"Ancestral sampling, DDPM's, at {own['calls']} calls: {own['w1']:.4f} here;" + (
                f" smaller is the error of {', '.join(better)}, on grids of their own."
            )


def training_lost(results):
    loops = {row["loop"]: row for row in results["training"]}
    others = {name: row["us_per_step"] for name, row in loops.items() if OURS not in name}
    for ending in ("", ", fused Adam"):
        fit = loops[f"sdelib fit{ending}"]
        faster = {name: us for name, us in others.items() if us < fit["us_per_step"]}
        if faster:
            names = ", ".join(f"{name} ({us:.0f})" for name, us in faster.items())
            yield (
                f"A training step of `fit`{ending} takes {fit['us_per_step']:.0f} microseconds"
                + (
                    f", in the median round {fit['ratio']:.3f} times the bare loop's; faster are: "
                    f"{names}."
                )
            )


def divergence_lost(results):
    for d in sorted({row["dim"] for row in results["divergence"]}):
        rows = [row for row in results["divergence"] if row["dim"] == d]
        ours = next(row for row in rows if OURS in row["method"])
        first = min(rows, key=lambda row: row["ms"])
        if first is not ours:
            yield f"In {d} dimensions the divergence is faster by {first['method']}: " + (
                f"{first['ms']:.2f} ms, against {ours['ms']:.2f}."
            )


def memory_lost(results):
    rows = results["memory"]
    least = min((row for row in rows if row["peer"] != OURS), key=lambda row: row["states"])
    for row in rows:
        if row["peer"] == OURS and row["states"] > least["states"]:
            yield f"{row['sampler']} holds {row['states']:.0f} states at once, " + (
                f"{least['peer']} ({least['sampler']}) {least['states']:.0f}."
            )


def likelihood_lost(results):
    ours = {row["tol"]: row for row in results["likelihood"] if row["peer"] == OURS}
    for row in results["likelihood"]:
        own = ours[row["tol"]]
        if row["seconds"] < own["seconds"] and row["nats"] < own["nats"]:
            yield f"At tolerance {row['tol']:.0e} the likelihood by {row['peer']} " + (
                f"({row['method']}) is both faster and closer."
            )


def slow(rows: list[dict]) -> list[str]:
    """Where the overhead a call exceeds the aim, or a peer's with as much noise."""
    said = []
    torch = {(r["sampler"], r["batch"]): r["us_per_call"] for r in rows if r["peer"] == "torch"}
    ours = [row for row in rows if row["peer"] == OURS]
    for name in dict.fromkeys(row["sampler"] for row in ours):
        above = [row for row in ours if row["sampler"] == name and row["us_per_call"] > AIM]
        if not above:
            continue
        worst = max(above, key=lambda row: row["us_per_call"])
        batch, noise = worst["batch"], torch["random numbers", worst["batch"]]
        drawn = f", one of them the random numbers ({noise:.1f} microseconds)"
        said.append(
            f"{name} needs more than the {AIM} microseconds a call aimed at, for batches of "
            f"{', '.join(str(row['batch']) for row in above)}; at {batch}, "
            f"{worst['us_per_call']:.1f}. Its loop asks torch for {worst['operations']:.3g} "
            f"operations a call{drawn if worst['noisy'] else ''}; a product and sum takes "
            f"{torch['one product and sum', batch]:.1f}."
        )
    rivals = [row for row in rows if row["peer"] not in (OURS, "torch", "bare loop")]
    for row in ours:
        like = [r for r in rivals if (r["batch"], r["noisy"]) == (row["batch"], row["noisy"])]
        said += [
            f"At batch {row['batch']} {r['peer']} ({r['sampler']}) has less overhead than "
            f"{row['sampler']}: {r['us_per_call']:.1f}, against {row['us_per_call']:.1f} "
            "microseconds a call."
            for r in like
            if r["us_per_call"] < row["us_per_call"]
        ]
    return said


def errors_table(results: dict) -> str:
    errors = results["errors"]
    peers = sorted({row["peer"] for row in errors}, key=lambda p: (p != OURS, p))
    rows = []
    for budget in budgets(results):
        default = by_default(errors)[budget]
        cells = {"calls": str(budget), f"{OURS}, {DEFAULT}": f"{default['w1']:.5f}"}
        found = {p: f"{r['w1']:.5f} ({r['sampler']})" for p, r in best(errors, budget).items()}
        rows.append(cells | {peer: found.get(peer, "") for peer in peers})
    return table(rows, {name: f"{{{name}}}" for name in rows[0]})


def scores_table(rows: list[dict]) -> str:
    """What the scores of the library cost, after a sentence; nothing where it was not measured."""
    if not rows:
        return ""
    says = "What a call of the library's own scores takes, in microseconds; in brackets, the"
    cell = "{us:.0f} ({network:.0f})"
    return f"{says}\nnetwork's share:\n\n" + pivot(
        rows, {"score": "{score}"}, "batch", "batch {}", cell
    )


def page(results: dict) -> str:
    """The template with its places filled."""
    overhead = [
        row | {"count": f"{row['operations']:.3g}" if row["operations"] else ""}
        for row in results["overhead"]
    ]
    growth = [row | {"all": ", ".join(map(str, row["sizes"]))} for row in results["growth"]]
    versions = [{"package": name, "version": v} for name, v in results["versions"].items()]
    sampler = {"library": "{peer}", "sampler": "{sampler}"}
    filled = results["machine"] | {
        "aim": AIM,
        "default": DEFAULT,
        "floor": f"{results['floor']:.4f}",
        "losses": "\n".join(f"- {said}" for said in losses(results)) or "Nowhere in this run.",
        "errors": errors_table(results),
        "noisy": table(
            results["noisy errors"], sampler | {"calls": "{calls}", "$W_1$": "{w1:.4f}"}
        ),
        "overhead": pivot(
            overhead, sampler | {"operations": "{count}"}, "batch", "batch {}", "{us_per_call:.1f}"
        ),
        "scores": scores_table(results.get("scores", [])),
        "likelihood": table(
            results["likelihood"],
            {"library": "{peer}", "method": "{method}", "tolerance": "{tol:.0e}"}
            | {"calls": "{calls}", "seconds": "{seconds:.3f}", "nats": "{nats:.1e}"},
        ),
        "divergence": pivot(
            results["divergence"], {"method": "{method}"}, "dim", "{} dimensions", "{ms:.2f}"
        ),
        "training": table(
            results["training"],
            {"loop": "{loop}", "microseconds": "{us_per_step:.0f}", "ratio": "{ratio:.3f}"},
        ),
        "deck": table(
            [row | {"mb": row["bytes"] / 1e6} for row in results["deck"]],
            {"scheme": "{scheme}", "evaluations": "{evaluations}"}
            | {"ms a step": "{ms:.1f}", "MB of tensors": "{mb:.1f}"},
        ),
        "memory": table(results["memory"], sampler | {"states": "{states:.1f}"}),
        "growth": table(
            growth,
            {"what grows": "{what}", "sizes": "{all}"}
            | {name: f"{{{name}:.2f}}" for name in ("time exponent", "memory exponent")},
        ),
        "versions": table(versions, {name: f"{{{name}}}" for name in ("package", "version")}),
    }
    template = TEMPLATE.read_text(encoding="utf-8")
    return re.sub(r"<<(\w+)>>", lambda place: str(filled[place[1]]), template)


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
    xs, errors = budgets(results), results["errors"]
    found = {budget: best(errors, budget) for budget in xs}
    peers = sorted({row["peer"] for row in errors} - {OURS})
    for peer, colour in zip([OURS, *peers], (BLUE, ORANGE, GREEN, PURPLE, RED, "grey")):
        points = [(b, found[b][peer]["w1"]) for b in xs if peer in found[b]]
        style = {"color": colour, "markersize": 4, "linewidth": 2 if peer == OURS else 1.2}
        ax.loglog(*zip(*points), "o-", label=peer, **style)
    default = by_default(errors)
    ax.loglog(xs, [default[b]["w1"] for b in xs], "--", color=BLUE, label=f"{OURS}, {DEFAULT}")
    ax.axhline(results["floor"], linestyle=":", color="grey")
    ax.set(xlabel="score calls", ylabel="$W_1$ to the data")
    ax.set_xticks(xs, [str(b) for b in xs])
    ax.minorticks_off()
    ax.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5))
    fig.savefig(FIGURE, metadata={"Date": None}, bbox_inches="tight")


if __name__ == "__main__":
    results = json.loads(RESULTS.read_text(encoding="utf-8"))
    PAGE.write_text(page(results), encoding="utf-8", newline="\n")
    TABLES.write_text(tables(page(results)), encoding="utf-8", newline="\n")
    draw(results)
    print("wrote", *(path.relative_to(HERE.parent) for path in (PAGE, FIGURE, TABLES)))
