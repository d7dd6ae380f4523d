"""Train the book's three experiments and store the weights inside the library.

    python tools/weights.py [mixture smile digits]        or `make weights`; all when none is named

Each chapter's own cells tagged `experiment` are executed; a test compares the fingerprint of their
code, stored with the weights, with the chapter's, and another holds the weights to the quality that
the chapter reaches. `sdelib.learned` reads the files: a state dict each, and in the metadata `code`
and `seed`.
"""

import argparse
import base64
import json

from seeds import CHAPTERS, WEIGHTS, fingerprint, names_after, tagged_code

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

    import safetensors.torch

    for name in names or CHAPTERS:
        code = tagged_code(CHAPTERS[name], "experiment")
        _, score, *_ = names_after(code, CHAPTERS[name])["experiment"](SEED)
        path = WEIGHTS / f"{name}.safetensors"
        metadata = {"code": fingerprint(code), "seed": str(SEED)}
        # axes may be views, which safetensors refuses
        tensors = {key: value.contiguous() for key, value in score.state_dict().items()}
        path.write_bytes(safetensors.torch.save(tensors, metadata))
        print(f"{name}: {path.stat().st_size / 1024:.0f} KiB")


def as_script(name: str, variable: str) -> str:
    """An experiment's weights as a script of the laboratory, which sets ``sdelib.<variable>``."""
    import safetensors.numpy

    weights = safetensors.numpy.load_file(WEIGHTS / f"{name}.safetensors")
    sizes = {key: value.size for key, value in weights.items()}
    data = b"".join(value.astype("<f4").tobytes() for value in weights.values())
    return (
        f"// The weights of sdelib/weights/{name}.safetensors, single precision in base64.\n"
        f"sdelib.{variable} = {{\n  shapes: {json.dumps(sizes)},\n"
        f"  data: '{base64.b64encode(data).decode()}',\n}};\n"
    )


if __name__ == "__main__":
    main()
