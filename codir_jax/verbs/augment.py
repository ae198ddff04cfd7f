"""`codir augment`: further texts without labels, by a masked language model."""

import argparse

from codir_jax.processes.user_error import UserError
from codir_jax.verbs.flag_types import add_input, add_model, check_batch_size

HELP = "further texts without labels: copies of yours with words that a masked LM puts there"
EXAMPLES = """examples:
  codir augment --model=roberta-base --input=train.tsv --text_column=review --copies=4 --output=more.jsonl
  codir augment --model=roberta-base --input=pairs.csv --text_column=a --text_pair_column=b --output=more.jsonl
  codir compress --teacher=roberta-base --train=train.tsv --unlabelled=more.jsonl --output=runs/mine

A student learns its teacher's answers on the copies, as `--unlabelled` of compress takes them; their labels are not
known, since another word may make another class. The model is any with a masked-LM head; not the one that was
fine-tuned on the task, which has none. `codir compress --augment=4` does both, and knows which rows are dev: where
compress draws dev from your file, copies of the whole file would have those of dev among them."""
OVERRIDES = ()


def add_flags(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    add_input(parser, "text")
    parser.add_argument("--output", required=True, help=".jsonl with the same columns, or .txt")
    parser.add_argument("--text_column", default="sentence", help="of a .tsv, .csv or .jsonl (default: %(default)s)")
    parser.add_argument("--text_pair_column", default="", help="second text, of pairs")
    parser.add_argument("--copies", type=int, default=4, help="of each text (default: %(default)s)")
    parser.add_argument(
        "--share", type=float, default=0.15, help="of the words that are replaced (default: %(default)s)"
    )
    parser.add_argument("--top", type=int, default=15, help="likeliest words to draw among (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn (default: %(default)s)")
    parser.add_argument("--batch_size", type=int, default=32, help="texts that are run together (default: %(default)s)")


def run(
    overrides,
    *,
    model: str,
    input: str,
    output: str,
    text_column: str,
    text_pair_column: str,
    copies: int,
    share: float,
    top: int,
    seed: int,
    batch_size: int,
) -> int:
    """Writes the copies."""
    del overrides
    from codir_jax.data import text_stream
    from codir_jax.processes import whole

    text_stream.check(input)
    whole.check_output(output, inputs=[model, input], may_replace=False)
    check_batch_size(batch_size)
    if seed < 0:
        raise UserError(f"--seed={seed}: expected 0 or more")
    from codir_jax.jobs import augment
    from codir_jax.predict import word_replacer

    columns = [text_column, *([text_pair_column] if text_pair_column else [])]
    augment.check(output, columns, copies, share, top)
    replacer = word_replacer.load(model, batch_size=batch_size, share=share, top=top)
    made = augment.augment(replacer, input, output, columns=columns, copies=copies, seed=seed)
    left_out = f"; {made.num_left_out:,} left out, equal to others" if made.num_left_out else ""
    print(f"written: {output}, {made.num_copies:,} copies of {made.num_rows:,} texts{left_out}")
    return 0
