"""`codir score`: sentences in, one log score each out."""

import argparse

from codir_jax.verbs.flag_types import add_input, add_model, add_runtime, check_batch_size

HELP = "log scores of sentences, by a language model, a sentence scorer or a masked LM"
EXAMPLES = """examples:
  codir score --model=runs/small --input=sentences.txt --output=scores.tsv
  codir score --model=runs/bi_nce --input=rows.jsonl --text_column=sentence
  echo 'the cats that the dog sees sleep' | codir score --model=runs/small

One sentence a line; the output has a header and, apart by tabs, log score (nats), the same per word (of a language
model the end is a word too), words, unknown words, and the sentence. It appears whole or not at all. Scores of a
bi-directional model, of a masked LM (every token masked by itself, Salazar et al. 2020) or of an unnormalised one are
no probabilities; this is said, with ln Z where the folder has a noise model to measure it by."""
OVERRIDES = ()


def add_flags(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    add_input(parser, "sentence")
    parser.add_argument("--output", default="-", help="a .tsv to write, or - for the screen (default)")
    parser.add_argument("--text_column", default="sentence", help="of a .tsv, .csv or .jsonl (default: %(default)s)")
    add_runtime(parser)
    parser.add_argument("--batch_size", type=int, default=32, help="sentences run together (default: %(default)s)")


def run(overrides, *, model: str, input: str, output: str, text_column: str, format: str, batch_size: int) -> int:
    """Writes a line a sentence."""
    del overrides
    from codir_jax.data import text_stream
    from codir_jax.processes import whole

    text_stream.check(input)
    whole.check_output(output, inputs=[model, input], may_replace=False)
    check_batch_size(batch_size)
    from codir_jax.jobs import scoring

    how = {"text_column": text_column, "batch_size": batch_size, "format": format}
    count = scoring.score(model, input, output, **how)
    if output != "-":
        print(f"written: {output}, {count:,} sentences")
    return 0
