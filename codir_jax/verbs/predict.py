"""`codir predict`: texts in, labels and probabilities out."""

import argparse
import json
from pathlib import Path

from codir_jax.processes.user_error import UserError
from codir_jax.verbs.flag_types import add_data, add_input, add_model, add_runtime, check_batch_size

HELP = "labels and probabilities of texts, or GLUE submission files"
EXAMPLES = """examples:
  echo 'a charming and often affecting journey' | codir predict --model=runs/student
  codir predict --model=runs/student --input=texts.tsv --text_column=sentence --output=answers.jsonl
  codir predict --model=runs/nli --input=pairs.csv --text_column=a --text_pair_column=b --echo --id_column=id
  codir predict --model=served --format=onnx-int8 --input=texts.txt --output=answers.jsonl
  codir predict --model=runs/student --split=test --output=answers.jsonl
  codir predict --model=runs/student --glue_submission=submission --config=configs/codir/finetune_distill.py:cola

Line i of the output answers row i of the input; of a .txt file and of standard input that is line i, empty lines
included. --echo puts the line's number, its id and its texts before the answer. The output appears whole or not at all:
where the input is refused, the answers of before stay."""
OVERRIDES = ("config",)


def add_flags(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    add_input(parser, "text")
    parser.add_argument("--output", default="-", help="JSON lines (default: standard output)")
    parser.add_argument("--text_column", default="", help="(default: the run's, else sentence)")
    parser.add_argument("--text_pair_column", default="", help="second text, for models of pairs (default: the run's)")
    parser.add_argument("--id_column", default="", help="of a .tsv, .csv or .jsonl: what --echo tells as id")
    parser.add_argument("--echo", action="store_true", help="answers with the line, the id and the texts they are for")
    parser.add_argument("--glue_submission", default="", help="folder for the leaderboard's TSV files of the task")
    add_runtime(parser)
    add_data(parser, split="", no_split="none, but --input", batch_size=32)


def run(
    overrides,
    *,
    model: str,
    input: str,
    output: str,
    text_column: str,
    text_pair_column: str,
    id_column: str,
    echo: bool,
    format: str,
    batch_size: int,
    glue_submission: str,
    config: str,
    split: str,
) -> int:
    """Writes a JSON line a text, or the files of a submission."""
    from codir_jax.data import compressed, text_stream
    from codir_jax.data.delimited import TABLE_SUFFIXES
    from codir_jax.processes import claims, whole

    of_data = split or glue_submission
    if split and input != "-":
        raise UserError("--split and --input both say what to predict; give one")
    if glue_submission and (input != "-" or output != "-" or split):
        raise UserError("--glue_submission is of a whole task and a folder; leave out --input, --output and --split")
    if (config or overrides["config"]) and not of_data:
        raise UserError("--config names the data that --split is of; give --split, or leave --config out")
    if of_data and (text_column or text_pair_column):
        raise UserError("--text_column and --text_pair_column are of --input; leave them out")
    if of_data and (echo or id_column):
        raise UserError("--echo and --id_column are of --input; the rows of a split have a number only")
    if id_column and not echo:
        raise UserError("--id_column is told by --echo; give that too")
    text_stream.check(input)
    if glue_submission:
        claims.check(glue_submission, claims.SUBMISSION, "--glue_submission")
    else:
        whole.check_output(output, inputs=[model, input, config.partition(":")[0]])
    from codir_jax.predict import classifier as predictor

    check_batch_size(batch_size)
    classifier = predictor.load(model, batch_size=batch_size, format=format)
    if not of_data:
        from codir_jax.jobs.evaluate import text_columns

        if not text_column and compressed.kind_of(Path(input)) in TABLE_SUFFIXES:
            text_column, saved = text_columns(model)
            text_pair_column = text_pair_column or saved
        text_column = text_column or "sentence"
        classifier.check_kind(bool(text_pair_column))
        columns = (text_column, text_pair_column) if text_pair_column else (text_column,)
        found = predictor.predict_rows(classifier, text_stream.rows(input, columns, id_column))
        answers = ((_echo(row, id_column) if echo else {}) | answer for row, answer in found)
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
    with whole.file(output) as file:
        for answer in answers:
            file.write(json.dumps(answer, ensure_ascii=False, default=str) + "\n")
    if output != "-":
        print(f"written: {output}")
    return 0


def _echo(row, id_column: str) -> dict:
    """What of a row stands before its answer."""
    ids = {"id": row.id} if id_column else {}
    return {"line": row.line, **ids, **dict(zip(("text", "text_pair"), row.texts, strict=False))}
