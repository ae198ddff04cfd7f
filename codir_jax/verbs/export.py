"""`codir export`: a model as a Hugging Face folder."""

import argparse

HELP = "a Hugging Face folder with a parity verdict"
EXAMPLES = """example:
  codir export --model=runs/student --output=my-small-model"""
OVERRIDES = ()


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", required=True, help="workdir or Hugging Face folder")
    parser.add_argument("--output", required=True, help="folder to write")


def run(overrides, *, model: str, output: str) -> int:
    """Prints the parity verdict."""
    del overrides
    from codir_jax.jobs.export import export_model

    print(export_model(model, output))
    return 0
