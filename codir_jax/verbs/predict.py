"""`codir predict`: texts in, labels and probabilities out."""

import argparse
import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from codir_jax.processes.user_error import MissingFileError, UserError
from codir_jax.verbs.flag_types import add_data, add_model

HELP = "labels and probabilities of texts, or GLUE submission files"
EXAMPLES = """examples:
  echo 'a charming and often affecting journey' | codir predict --model=runs/student
  codir predict --model=runs/student --input=texts.tsv --text_column=sentence --output=answers.jsonl
  codir predict --model=runs/student --split=test --output=answers.jsonl
  codir predict --model=runs/student --glue_submission=submission --config=configs/codir/finetune_distill.py:cola"""
OVERRIDES = ("config",)


def add_flags(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    parser.add_argument("--input", default="-", help=".txt (one text a line), .tsv, .csv, .jsonl, or - (default)")
    parser.add_argument("--output", default="-", help="JSON lines (default: standard output)")
    parser.add_argument("--text_column", default="sentence", help="(default: %(default)s)")
    parser.add_argument("--text_pair_column", default="", help="second text, for models of pairs")
    parser.add_argument("--glue_submission", default="", help="folder for the leaderboard's TSV files of the task")
    add_data(parser, split="", no_split="none, but --input", batch_size=32)


def run(
    overrides,
    *,
    model: str,
    input: str,
    output: str,
    text_column: str,
    text_pair_column: str,
    batch_size: int,
    glue_submission: str,
    config: str,
    split: str,
) -> int:
    """Writes a JSON line a text, or the files of a submission."""
    from codir_jax.predict import classifier as predictor

    if split and input != "-":
        raise UserError("--split and --input both say what to predict; give one")
    classifier = predictor.load(model, batch_size=batch_size)
    if not (split or glue_submission):
        answers = predictor.predict_lines(classifier, _read_texts(input, text_column, text_pair_column))
    else:
        from codir_jax.jobs.evaluate import data_config

        named = data_config(model, config, overrides["config"])
        data = classifier.read_data(named)
        if glue_submission:
            from codir_jax.evaluation import glue_submission as submission

            for path in submission.write(glue_submission, named.data.name, data, classifier.logits):
                print(f"written: {path}")
            return 0
        answers = classifier.of_split(data, split)
    to_screen = output == "-"
    with contextlib.nullcontext(sys.stdout) if to_screen else open(output, "w", encoding="utf-8") as file:
        for answer in answers:
            file.write(json.dumps(answer, ensure_ascii=False) + "\n")
    if not to_screen:
        print(f"written: {output}")
    return 0


def _read_texts(path: str, text_column: str, text_pair_column: str) -> Iterator[tuple[str, str | None]]:
    """(text, second text or None) of each line of standard input or a file."""
    if path != "-" and not path.endswith(".txt"):
        from codir_jax.data import delimited
        from codir_jax.data.batch import DataError

        columns = [c for c in (text_column, text_pair_column) if c]
        problems: list[str] = []
        table = delimited.read_table(Path(path), columns, problems)
        if problems:
            raise DataError(problems)
        seconds = table.columns[columns[1]] if len(columns) > 1 else [None] * len(table.lines)
        yield from zip(table.columns[columns[0]], seconds, strict=True)
        return
    if text_pair_column:
        raise UserError("pairs need --input with columns: a .tsv, .csv or .jsonl file")
    if path != "-" and not Path(path).is_file():
        raise MissingFileError(f"--input {path} does not exist")
    with contextlib.nullcontext(sys.stdin) if path == "-" else open(path, encoding="utf-8") as file:
        yield from ((line.rstrip("\n"), None) for line in file if line.strip())
