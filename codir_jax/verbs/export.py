"""`codir export`: a model as a Hugging Face folder."""

import argparse

from codir_jax.verbs.flag_types import add_card, add_model

HELP = "a Hugging Face folder with a parity verdict"
EXAMPLES = """example:
  codir export --model=runs/student --output=my-small-model

The folder is new, empty, or an export already, which is replaced; one with anything else in it is refused."""
OVERRIDES = ()


def add_flags(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    parser.add_argument("--output", required=True, help="folder to write")
    add_card(parser)


def run(overrides, *, model: str, output: str, **card: str) -> int:
    """Prints the parity verdict and where it is written."""
    del overrides
    from codir_jax.processes import claims

    claims.check(output, claims.EXPORT, "--output")
    from codir_jax.jobs.export import export_model

    print(export_model(model, output, **card))
    print(f"written: {output}")
    return 0
