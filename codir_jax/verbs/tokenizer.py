"""`codir tokenizer`: a vocabulary of your own text."""

import argparse

from codir_jax.processes.user_error import UserError

HELP = "a tokenizer learned from text, in the Hugging Face layout"
EXAMPLES = """examples:
  codir tokenizer --sources='books/*.txt' --vocab_size=8192 --output=runs/tokenizer
  codir tokenizer --sources=reports.jsonl --text_field=body --kind=byte_level_bpe --output=runs/tokenizer
  codir tokenizer --sources='books/*.txt' --kind=word --vocab_size=10000 --output=runs/words
  codir tokenizer --words=words.txt --kind=word --output=runs/words

Sources are files, folders or globs of .txt and .jsonl (also .gz), or tfds:NAME:FIELD, comma separated. The folder is
what --config.tokenizer_path of `codir train` takes."""
OVERRIDES = ()
VOCAB_SIZE = 30_000


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--sources", default="", help="text to learn from")
    parser.add_argument("--words", default="", help="a word list of your own, one a line, in place of --sources")
    parser.add_argument("--output", required=True, help="folder to write")
    parser.add_argument(
        "--kind",
        choices=("wordpiece", "byte_level_bpe", "word", "character"),
        default="wordpiece",
        help="wordpiece: lower-cased, for a BERT; byte_level_bpe: any text, for a RoBERTa or an LSTM; word: the most "
        "frequent words, others are <unk>, and character, for an LSTM (default: %(default)s)",
    )
    parser.add_argument("--vocab_size", type=int, help=f"of --sources, entries at most (default: {VOCAB_SIZE:,})")
    parser.add_argument("--text_field", default="text", help="of .jsonl lines (default: %(default)s)")


def run(overrides, *, sources: str, words: str, output: str, kind: str, vocab_size: int | None, text_field: str) -> int:
    """Prints where it is written."""
    del overrides
    from pathlib import Path

    from codir_jax.processes import claims, whole

    claims.check(output, claims.TOKENIZER, "--output")
    if (folder := Path(output)).exists() and {path.name for path in folder.iterdir()} - {claims.TOKENIZER.marker}:
        raise UserError(f"--output={output} is not empty; models that were trained with a tokenizer need the same one")
    from codir_jax.data import word_vocabulary
    from codir_jax.data.corpus import settings, vocabulary
    from codir_jax.data.tokenizer import save_tokenizer
    from codir_jax.processes.console import progress_bar

    if bool(sources) == bool(words):
        raise UserError("give either --sources, text to learn from, or --words, a word list of your own")
    if not text_field.strip():
        raise UserError("--text_field is empty; name the field of .jsonl lines that holds the text")
    if words:
        if kind != "word":
            raise UserError(f"--words is a list for --kind=word, got --kind={kind}")
        if vocab_size is not None:
            raise UserError(
                f"--vocab_size={vocab_size} is of --sources, and --words has a size of its own; leave it out"
            )
        tokenizer = word_vocabulary.of_file(words)
    else:
        config = settings.default_config()
        config.update({"sources": sources, "text_field": text_field})
        tokenizer = vocabulary.train(
            kind, config, VOCAB_SIZE if vocab_size is None else vocab_size, progress=progress_bar
        )
    claims.claim(folder, claims.TOKENIZER, "--output")
    with whole.full_disk_told(folder):
        save_tokenizer(tokenizer, folder)
    print(f"written: {output}")
    return 0
