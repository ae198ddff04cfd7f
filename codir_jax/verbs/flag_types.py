"""Kinds of flag that argparse does not have, and flags that mean the same in several verbs."""

import argparse

from codir_jax.processes.user_error import UserError

_MOST_TEXTS = 65_536
_WEEK = 7 * 24 * 3600
CONFIG = "PATH.py[:ARG,ARG] or a saved config.json"


def names(text: str) -> tuple[str, ...]:
    """The names in a comma-separated list; "" is none."""
    return tuple(name for name in text.split(",") if name)


def numbers(text: str) -> tuple[int, ...]:
    """The whole numbers in a comma-separated list."""
    return tuple(int(number) for number in text.split(","))


def seconds(text: str) -> float:
    """A time to wait: above 0, a week at most.

    Raises:
      argparse.ArgumentTypeError: it is none.
    """
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= _WEEK:
        raise argparse.ArgumentTypeError(f"expected seconds, above 0 and at most {_WEEK}, got {text!r}")
    return value


def check_batch_size(batch_size: int) -> None:
    """Refuses a --batch_size that no device runs.

    Raises:
      UserError: it is below 1 or above 65,536.
    """
    if not 1 <= batch_size <= _MOST_TEXTS:
        raise UserError(f"--batch_size must be at least 1 and at most {_MOST_TEXTS:,}, got {batch_size}")


def add_model(parser: argparse.ArgumentParser) -> None:
    """--model: a finished one."""
    parser.add_argument(
        "--model", required=True, help="workdir of train, folder of compress, Hugging Face folder or hub name"
    )


def add_input(parser: argparse.ArgumentParser, what: str) -> None:
    """--input: texts that are read in their order; `what` is one of them."""
    told = f".txt (one {what} a line), .tsv, .csv, .jsonl, .parquet, also .gz, or - (default)"
    parser.add_argument("--input", default="-", help=told)


def add_format(parser: argparse.ArgumentParser) -> None:
    """--format: what an export has beside its Hugging Face files."""
    parser.add_argument("--format", type=names, default=(), help="of an export, too: onnx, onnx-int8, stablehlo")


def add_runtime(parser: argparse.ArgumentParser) -> None:
    """--format: the one of a finished model that answers."""
    parser.add_argument(
        "--format",
        default="huggingface",
        help="what of the folder answers: its weights in JAX, or onnx, onnx-int8, stablehlo, where codir export wrote "
        "them (default: %(default)s)",
    )


def add_data(parser: argparse.ArgumentParser, *, split: str, no_split: str, batch_size: int) -> None:
    """--config, --split and --batch_size, where a finished model meets data.

    Args:
      split, batch_size: defaults; "" and 0 have a meaning of their own. no_split: what an empty split means.
    """
    parser.add_argument("--config", default="", help=f"names the data: {CONFIG} (default: the workdir's)")
    parser.add_argument("--split", default=split, help=f"of that data (default: {split or no_split})")
    parser.add_argument(
        "--batch_size",
        type=int,
        default=batch_size,
        help=f"texts that are run together (default: {batch_size or 'data.eval_batch_size of the config'})",
    )


def add_card(parser: argparse.ArgumentParser) -> None:
    """--license and --language, for the card of an exported model."""
    parser.add_argument("--license", default="", help="for the model card: apache-2.0, ... (default: the base model's)")
    parser.add_argument("--language", default="", help="for the model card: en, or en,de (default: the base model's)")
