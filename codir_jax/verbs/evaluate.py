"""`codir evaluate`: scores of a model on a split, of a sentence encoder by files."""

import argparse
import json

from codir_jax.verbs.flag_types import add_data, add_model

HELP = "scores of a model on a split, of a masked language model on held-out text, or of a sentence encoder"
EXAMPLES = """examples:
  codir evaluate --model=runs/student --split=dev
  codir evaluate --model=runs/mine/export --input=new.csv --text_column=review --label_column=stars
  codir evaluate --model=runs/teacher --input=reviews.csv --domain_column=shop
  codir evaluate --model=runs/mlm_student --config.teacher.path=runs/mlm_teacher
  codir evaluate --model=FOLDER --config=configs/codir/finetune_distill.py:rte --config.data.glue_dir=glue
  codir evaluate --model=runs/encoder --sts='sts/*.tsv',stsb --clustering=topics.csv --output=scores.json
  codir evaluate --model=runs/encoder --classification=reviews.tsv,topics.csv

On dev the distance to the teacher is told too, where teacher.path of the config is a folder that is here.

A sentence encoder: --sts takes files of two texts and a score, --clustering and --classification files of a text and a
label, comma separated, also patterns and folders; stsb is GLUE's STS-B, dev split. Files whose names agree up to the
first dot (2012.MSRpar.tsv, 2012.OnWN.tsv) are one set. Columns are sentence1, sentence2, score and text, label; or
those of a table with three or two columns, whatever their names. Told are Spearman's correlation of cosine and score,
accuracy and NMI of k-means, accuracy and Matthews correlation of a linear classifier of the vectors on rows that it was
not fitted on, and what TF-IDF reaches on the same texts."""
OVERRIDES = ("config",)
_BY_VECTORS = ("sts", "clustering", "classification")


def add_flags(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    add_data(parser, split="dev", no_split="", batch_size=0)
    parser.add_argument("--input", default="", help="a .tsv, .csv or .jsonl with labels, instead of a split")
    parser.add_argument("--text_column", default="", help="of --input (default: the run's, else sentence)")
    parser.add_argument("--text_pair_column", default="", help="of --input, for models of pairs (default: the run's)")
    parser.add_argument("--label_column", default="", help="of --input (default: the run's, else label)")
    parser.add_argument("--domain_column", default="", help="of --input: scores by domain, and a probe for the domain")
    parser.add_argument("--sts", default="", help="of a sentence encoder: files of two texts and a score, or stsb")
    parser.add_argument("--clustering", default="", help="of a sentence encoder: files of a text and a label")
    parser.add_argument("--classification", default="", help="the same, for a linear classifier of its vectors")
    parser.add_argument("--cluster_seeds", type=int, default=10, help="of k-means (default: %(default)s)")
    parser.add_argument("--output", default="", help="a file for the scores as JSON")


def run(overrides, *, output: str, **flags) -> int:
    """Prints one line of JSON, of a sentence encoder tables; the flags are the arguments of the function `evaluate`."""
    from codir_jax.processes import whole

    if output:
        given = [flags["model"], flags["input"], flags["config"].partition(":")[0]]
        lists = [path for name in _BY_VECTORS for path in flags[name].split(",")]
        whole.check_output(output, inputs=[path for path in (*given, *lists) if path])
    from codir_jax.jobs.evaluate import evaluate
    from codir_jax.processes.user_error import UserError

    if flags["cluster_seeds"] < 1:
        raise UserError(f"--cluster_seeds must be at least 1, got {flags['cluster_seeds']}")

    scores = evaluate(**flags, overrides=overrides["config"])
    if output:
        with whole.file(output) as file:
            file.write(json.dumps(scores, indent=2) + "\n")
    if any(flags[name] for name in _BY_VECTORS):
        from codir_jax.jobs.sentence_scores import tables

        print(tables(scores))
    else:
        print(json.dumps(scores))
    return 0
