"""`codir export`: a model as a Hugging Face folder."""

import argparse
from pathlib import Path

from codir_jax.verbs.flag_types import add_card, add_format, add_model

HELP = "a Hugging Face folder with a parity verdict; ONNX, int8 and StableHLO beside it"
EXAMPLES = """examples:
  codir export --model=runs/student --output=my-small-model
  codir export --model=runs/mine/export --output=served --format=onnx,onnx-int8,stablehlo
  codir export --model=runs/student --output=my-small-model --push_to_hub=my-name/my-small-model

Each format is run by its own runtime and compared with the model: onnx/model.onnx and onnx/model_quantized.onnx by
onnxruntime (pip install 'codir-jax[onnx]'), stablehlo/model.bin by jax.export. All take any batch and length. One that
computes something else is left out, and the command ends with 1.

The folder is new, empty, or an export already, which is replaced; one with anything else in it is refused."""
OVERRIDES = ()


def add_flags(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    parser.add_argument("--output", required=True, help="folder to write")
    add_format(parser)
    parser.add_argument("--push_to_hub", default="", help="name on the Hugging Face hub, private if it is new")
    add_card(parser)


def run(overrides, *, model: str, output: str, format: tuple[str, ...], push_to_hub: str, **card: str) -> int:
    """Prints the parity verdicts, sizes and times, and where it is written."""
    del overrides
    from codir_jax.processes import claims

    claims.check(output, claims.EXPORT, "--output")
    from codir_jax.convert.formats import contract
    from codir_jax.jobs import export, served

    print(export.export_model(model, output, format, **card))
    there = contract.present(Path(output).expanduser(), format)
    if there:
        print(served.screen_table(served.measure(output, there)))
    print(f"written: {output}")
    if push_to_hub:
        print(f"uploaded: {export.push(output, push_to_hub)}")
    return int(len(there) < len(set(format)))
