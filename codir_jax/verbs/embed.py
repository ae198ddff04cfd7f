"""`codir embed`: texts in, one vector each out."""

import argparse

from codir_jax.verbs.flag_types import add_input, add_model, add_runtime, check_batch_size

HELP = "vectors of texts, by a sentence encoder"
EXAMPLES = """examples:
  codir embed --model=runs/encoder --input=texts.txt --output=vectors.npy
  codir embed --model=runs/encoder --input=rows.tsv --text_column=question --output=vectors.safetensors --normalize
  echo 'the cats that the dog sees sleep' | codir embed --model=runs/encoder --output=-

Row i of the vectors is text i; of a .txt file and of standard input that is line i, empty lines included. The output
appears whole or not at all. A folder of sentence-transformers tells its own pooling, length and normalisation; of any
other encoder the vector is the mean of the tokens' states."""
OVERRIDES = ()


def add_flags(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    add_input(parser, "text")
    parser.add_argument("--output", required=True, help=".npy, .safetensors, .jsonl, or - for JSON lines on the screen")
    parser.add_argument("--text_column", default="sentence", help="of a .tsv, .csv or .jsonl (default: %(default)s)")
    parser.add_argument("--normalize", action="store_true", help="vectors of norm 1, whatever the folder says")
    add_runtime(parser)
    parser.add_argument("--batch_size", type=int, default=32, help="texts that are run together (default: %(default)s)")


def run(
    overrides, *, model: str, input: str, output: str, text_column: str, normalize: bool, format: str, batch_size: int
) -> int:
    """Writes a vector a text."""
    from codir_jax.data import text_stream
    from codir_jax.predict import vector_files
    from codir_jax.processes import console

    text_stream.check(input)
    vector_files.check(output, [model, input])
    check_batch_size(batch_size)
    from codir_jax.predict import sentence_encoder

    encoder = sentence_encoder.load(model, batch_size=batch_size, format=format)
    num_texts = 0
    with (
        console.progress_bar("embed", 0, None, unit="text") as bar,
        vector_files.writer(output, encoder.width) as append,
    ):
        for texts, vectors in encoder.encode_stream(text_stream.texts(input, text_column), normalize=normalize):
            append(texts, vectors)
            num_texts += len(texts)
            bar.update(len(texts))
    if output != "-":
        print(f"written: {output}, float32 [{num_texts}, {encoder.width}]")
    return 0
