"""Make the book's page `book/benchmarks.md`, its figure and `benchmarks/results.md` from
`template.md` and `results.json`; no number is typed.

    python benchmarks/page.py
"""

import json
import re
from pathlib import Path
from statistics import median

HERE = Path(__file__).parent
RESULTS, BOOK = HERE / "results.json", HERE.parent / "book"
PAGE, FIGURE = BOOK / "benchmarks.md", BOOK / "_static" / "benchmarks.svg"
TABLES, TEMPLATE = HERE / "results.md", HERE / "template.md"
OURS, ADVISED = "sdelib", "Adams, pilot"
PLAIN = "Adams 4"  # on the default grid
NEAR = 1.05  # as good as first
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


def cells(errors: list[dict]) -> dict[tuple, list[dict]]:
    """The rows of each target, process and budget."""
    found: dict[tuple, list[dict]] = {}
    for row in errors:
        found.setdefault((row["target"], row["process"], row["budget"]), []).append(row)
    return found


def ours(rows: list[dict], sampler: str = ADVISED) -> dict:
    return next(row for row in rows if (row["peer"], row["sampler"]) == (OURS, sampler))


def rival(rows: list[dict], kind: str) -> dict:
    """The best row of any peer, as documented or in hindsight."""
    return min((row for row in rows if row["kind"] == kind), key=lambda row: row["error"])


def ratio(rows: list[dict], kind: str) -> float:
    return ours(rows)["error"] / rival(rows, kind)["error"]


def budgets(results: dict) -> list[int]:
    return sorted({row["budget"] for row in results["errors"]})


def losses(results: dict) -> list[str]:
    """Where a peer does better than this library, in sentences."""
    parts = errors_lost, noise_lost, training_lost, divergence_lost, memory_lost, likelihood_lost
    return [said for part in parts for said in part(results)] + slow(results["overhead"])


def errors_lost(results):
    """Where a peer is ahead, as documented, or with its settings chosen on the target."""
    for (target, process, budget), rows in cells(results["errors"]).items():
        for kind, how in (("documented", ""), ("hindsight", ", its settings chosen in hindsight,")):
            row, mine = rival(rows, kind), ours(rows)["error"]
            if row["error"] < mine:
                yield f"{target}, {process}, {budget} calls: {row['peer']} " + (
                    f"({row['sampler']}){how} has the smaller error: {row['error']:.3g}, against "
                    f"{mine:.3g} here."
                )
                break  # in hindsight it is ahead as well
    plain = [
        ours(rows, PLAIN)["error"] / rival(rows, "documented")["error"]
        for rows in cells(results["errors"]).values()
    ]
    behind = [r for r in plain if r > 1]
    if behind:
        yield (
            f"Without a pilot, {PLAIN} on the default grid is behind the best documented rival in "
            f"{len(behind)} of {len(plain)} cells, by a factor of {median(behind):.1f} in their "
            f"median and {max(behind):.0f} in the worst."
        )


def standing(errors: list[dict], kind: str) -> str:
    """How often Adams with a pilot is first, and how far it is ahead."""
    ratios = [ratio(rows, kind) for rows in cells(errors).values()]
    first, near = (sum(r <= bound for r in ratios) for bound in (1, NEAR))
    return (
        f"first in {first} of {len(ratios)} cells and within 5 % of the first in {near}, with "
        + (
            f"{median(ratios):.2f} times the best rival's error in the median cell, and "
            f"{max(ratios):.2f} in the worst"
        )
    )


def noise_lost(results):
    rows = results["noisy errors"]
    for target, budget in dict.fromkeys((row["target"], row["budget"]) for row in rows):
        here = [row for row in rows if (row["target"], row["budget"]) == (target, budget)]
        mine = min((row for row in here if row["peer"] == OURS), key=lambda row: row["w1"])
        for row in here:
            if row["w1"] < 0.99 * mine["w1"]:
                yield f"{target}, reverse SDE, {budget} calls: {row['peer']} " + (
                    f"({row['sampler']}) has the smaller distance: {row['w1']:.4f}, against "
                    f"{mine['w1']:.4f} here ({mine['sampler']})."
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


def ratios_table(errors: list[dict]) -> str:
    """Of each target and process: our error over the best rival's, by budget."""
    rows = [
        {"target": target, "process": process, "budget": budget}
        | {kind: ratio(found, kind) for kind in ("documented", "hindsight")}
        for (target, process, budget), found in cells(errors).items()
    ]
    names = {"target": "{target}", "process": "{process}"}
    return pivot(rows, names, "budget", "{} calls", "{documented:.2f} / {hindsight:.2f}")


def errors_table(errors: list[dict], kind: str) -> str:
    """Every error, and with what settings."""
    peers = sorted({row["peer"] for row in errors} - {OURS})
    rows = []
    for (target, process, budget), found in cells(errors).items():
        mine = {f"{OURS}, {name}": f"{ours(found, name)['error']:.2g}" for name in (ADVISED, PLAIN)}
        chosen = {row["peer"]: row for row in found if row["kind"] == kind}
        theirs = {p: f"{chosen[p]['error']:.2g} ({chosen[p]['sampler']})" for p in peers}
        rows.append({"target": target, "process": process, "calls": str(budget)} | mine | theirs)
    return table(rows, {name: f"{{{name}}}" for name in rows[0]})


def ablation_table(rows: list[dict]) -> str:
    says = [row | {"corrector": "free" if row["correct"] else "none"} for row in rows]
    names = {"grid": "{grid}", "clock": "{clock}", "corrector": "{corrector}"}
    return pivot(says, names, "budget", "{} calls", "{ratio:.1f}")


def scores_table(rows: list[dict]) -> str:
    """What the scores of the library cost, after a sentence; nothing where it was not measured."""
    if not rows:
        return ""
    says = "What a call of the library's own scores takes, in microseconds; in brackets, the"
    cell = "{us:.0f} ({network:.0f})"
    return f"{says}\nnetwork's share:\n\n" + pivot(
        rows, {"score": "{score}"}, "batch", "batch {}", cell
    )


def last_step(rows: list[dict]) -> str:
    """Why more calls help little on the face under VP."""
    if not rows:
        return ""
    late, early = rows
    return (
        f"On the face under VP the last step limits what {late['budget']} calls reach: at "
        f"$t = {late['t_min']:g}$ there is still noise of {late['noise']:.3f}, about as much as "
        f"the line is wide. From $t = {early['t_min']:g}$ on, at noise of {early['noise']:.4f}, "
        f"the error is {early['error']:.1e} in place of {late['error']:.1e}."
    )


def page(results: dict) -> str:
    """The template with its places filled."""
    overhead = [
        row | {"count": f"{row['operations']:.3g}" if row["operations"] else ""}
        for row in results["overhead"]
    ]
    growth = [row | {"all": ", ".join(map(str, row["sizes"]))} for row in results["growth"]]
    versions = [{"package": name, "version": v} for name, v in results["versions"].items()]
    hindsight = [row for row in results["errors"] if row["kind"] == "hindsight"]
    sampler = {"library": "{peer}", "sampler": "{sampler}"}
    filled = results["machine"] | {
        "aim": AIM,
        "floors": " and ".join(f"{row['w1']:.4f} ({row['target']})" for row in results["floors"]),
        "samples": results["floors"][0]["samples"],
        "documented": standing(results["errors"], "documented"),
        "hindsight": standing(results["errors"], "hindsight"),
        "targets": "; ".join(dict.fromkeys(row["target"] for row in results["errors"])),
        "tried": sum(row["settings"] for row in hindsight),
        "last_step": last_step(results.get("last step", [])),
        "losses": "\n".join(f"- {said}" for said in losses(results)) or "Nowhere in this run.",
        "ratios": ratios_table(results["errors"]),
        "errors_documented": errors_table(results["errors"], "documented"),
        "errors_hindsight": errors_table(results["errors"], "hindsight"),
        "ablation": ablation_table(results["ablation"]),
        "noisy": pivot(
            [row | {"at": f"{row['target']}, {row['budget']}"} for row in results["noisy errors"]],
            sampler,
            "at",
            "{} calls",
            "{w1:.4f}",
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
    titles = re.sub(r"^:::\{admonition\} (.*)\n:class: dropdown$", r"\1:", page, flags=re.MULTILINE)
    parts = titles.replace("\n:::\n", "").split("\n\n")
    parts = [part for part in parts if "```" not in part and "{numref}" not in part]
    return re.sub(r"\{\w+\}`~?([^`]*)`", r"`\1`", "\n\n".join(parts))


def draw(results: dict) -> None:
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "benchmarks"  # the same file for the same numbers
    import matplotlib.pyplot as plt

    from sdelib.plotting import BLUE, GREEN, ORANGE, PURPLE, RED, use_style

    use_style()
    found = cells(results["errors"])
    names = list(dict.fromkeys((target, process) for target, process, _ in found))
    fig, ax = plt.subplots(figsize=(4.7, 6))  # so narrow that a phone can show its words
    for budget, colour in zip(budgets(results), (PURPLE, BLUE, GREEN, ORANGE, RED)):
        for kind, face in (("documented", colour), ("hindsight", "none")):
            at = [ratio(found[*name, budget], kind) for name in names]
            label = str(budget) if kind == "documented" else None
            style = {"s": 22, "facecolors": face, "edgecolors": colour, "linewidths": 0.8}
            ax.scatter(at, range(len(names)), label=label, **style)
    ax.axvline(1, color="grey", linewidth=0.8)
    ax.set(xscale="log", xlabel="error over the best rival's")
    ax.set_yticks(range(len(names)), [f"{target}, {process}" for target, process in names])
    ax.invert_yaxis()
    fig.legend(ncols=5, title="calls", loc="outside upper center", handletextpad=0, columnspacing=1)
    fig.savefig(FIGURE, metadata={"Date": None}, bbox_inches="tight")


if __name__ == "__main__":
    results = json.loads(RESULTS.read_text(encoding="utf-8"))
    PAGE.write_text(page(results), encoding="utf-8", newline="\n")
    TABLES.write_text(tables(page(results)), encoding="utf-8", newline="\n")
    draw(results)
    print("wrote", *(path.relative_to(HERE.parent) for path in (PAGE, FIGURE, TABLES)))
