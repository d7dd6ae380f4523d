"""Train the book's three experiments and store the weights inside the library, where
`sdelib.pretrained` finds them.

    python tools/weights.py [mixture smile digits]        all three when none is named, or `make
    weights`

Each chapter's own cells tagged `experiment` are executed; a test compares the fingerprint of their
code, stored with the weights, with the chapter's, and another holds the weights to the quality that
the chapter reaches.
"""

import argparse

from seeds import fingerprint, names_after, tagged_code

CHAPTERS = {
    "mixture": "07_gaussian_mixture",
    "smile": "08_smile",
    "digits": "09_digits",
}
SEED = 0  # the chapters' own


def main(words: list[str] | None = None) -> None:
    """Train the experiments that the command line names, or all of them."""
    parser = argparse.ArgumentParser(
        description="Train the book's experiments and store their weights."
    )
    # not by `choices`, with which argparse (Python 3.11) refuses an empty list
    parser.add_argument(
        "names",
        nargs="*",
        metavar="name",
        help=f"among {', '.join(CHAPTERS)}; all when none is named",
    )
    names = parser.parse_args(words).names
    for name in names:
        if name not in CHAPTERS:
            parser.error(f"there is no experiment {name}, only {', '.join(CHAPTERS)}")

    from sdelib.checkpoints import save
    from sdelib.pretrained import path

    for name in names or CHAPTERS:
        code = tagged_code(CHAPTERS[name], "experiment")
        _, score, *_ = names_after(code, CHAPTERS[name])["experiment"](SEED)
        save({"weights": score.state_dict(), "seed": SEED, "code": fingerprint(code)}, path(name))
        print(f"{name}: {path(name).stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
