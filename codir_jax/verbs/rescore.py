"""`codir rescore`: n-best lists in, the best candidates out."""

import argparse
import math
import sys

from codir_jax.processes.user_error import UserError
from codir_jax.verbs.flag_types import add_model, add_runtime, check_batch_size

HELP = "the best of n-best lists, by acoustic scores and a model of sentences"
EXAMPLES = """examples:
  codir rescore --model=runs/small --input=test.jsonl --output=best.jsonl --tune_on=dev.jsonl
  codir rescore --model=runs/bi_nce --input=nbest.txt --reference=text --output=best.jsonl --model_weight=0.5

JSON lines: {"id": "a-1", "candidates": ["...", ...], "scores": [acoustic, ...], "reference": "..."}, the last two may
be left out ("gold": 3 names the reference by its place). Any other file is Kaldi text, KEY-N ACOUSTIC_SCORE WORDS, with
references, KEY WORDS, in a file of their own. Candidates are ranked by

  acoustic score + model_weight * log score + length_weight * words

--tune_on chooses both weights of a grid by word errors; they are written to OUTPUT.weights.json, with the word error
rate where references are known. Output files appear whole or not at all."""
OVERRIDES = ()
# Of the log score, and of a word.
_WEIGHTS = (1.0, 0.0)


def add_flags(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    parser.add_argument("--input", required=True, help="n-best lists: .jsonl, or Kaldi text")
    parser.add_argument("--output", required=True, help="JSON lines to write, or - for the screen")
    parser.add_argument("--reference", default="", help="Kaldi text with what was said; else that in the lists")
    parser.add_argument("--tune_on", default="", help="n-best lists with references, by which weights are chosen")
    parser.add_argument("--tune_reference", default="", help="Kaldi text of --tune_on")
    log_score, words = _WEIGHTS
    parser.add_argument("--model_weight", type=float, default=log_score, help="of the log score (default: %(default)s)")
    parser.add_argument("--length_weight", type=float, default=words, help="nats a word (default: %(default)s)")
    add_runtime(parser)
    parser.add_argument("--batch_size", type=int, default=32, help="sentences run together (default: %(default)s)")


def run(overrides, *, model: str, model_weight: float, length_weight: float, batch_size: int, **flags) -> int:
    """Writes a line a list, and prints what is known of the whole."""
    del overrides

    check_batch_size(batch_size)
    from codir_jax.evaluation.rescoring import Weights
    from codir_jax.jobs import scoring

    for name, weight in (("model_weight", model_weight), ("length_weight", length_weight)):
        if not math.isfinite(weight):
            raise UserError(f"--{name} must be finite, got {weight}")
    if flags["tune_reference"] and not flags["tune_on"]:
        raise UserError("--tune_reference says what was said in --tune_on; give that too")
    if flags["tune_on"] and (model_weight, length_weight) != _WEIGHTS:
        raise UserError("--tune_on chooses both weights; leave out --model_weight and --length_weight, or it")
    input_path, output = flags.pop("input"), flags.pop("output")
    weights = Weights(model_weight, length_weight)
    told = scoring.rescore(model, input_path, output, weights=weights, batch_size=batch_size, **flags)
    for name, value in told.items():
        line = f"{name}: {value:.4f}" if isinstance(value, float) else f"{name}: {value}"
        print(line, file=sys.stderr if output == "-" else sys.stdout)
    return 0
