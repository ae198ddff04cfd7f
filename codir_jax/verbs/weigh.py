"""`codir weigh`: how typical each text is of its domain and of the others, for Meta-KD."""

import argparse

from codir_jax.verbs.flag_types import names

HELP = "weigh texts of several domains by prototypes, and write one folder a domain (Meta-KD)"
EXAMPLES = """examples:
  codir weigh --model=bert-base-uncased --train=train.tsv --dev=dev.tsv --domain_column=domain --output=runs/weighed
  codir weigh --model=runs/encoder --train=train.tsv --dev=dev.tsv --domain_column=shop --by=class --centred \\
    --output=runs/weighed

The files that it writes have the columns domain_number and weight; the stages of configs/meta_kd read them. Do not give
a model that was fine-tuned on the task."""
OVERRIDES = ("config",)


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", required=True, help="Hugging Face folder, workdir or hub name of an encoder")
    parser.add_argument("--train", required=True, help="your .tsv, .csv or .jsonl with a header line")
    parser.add_argument("--dev", required=True, help="a file like --train")
    parser.add_argument("--test", default="", help="a file like --train")
    parser.add_argument("--unlabelled", default="", help="texts without labels, with their domain (.tsv, .csv, .jsonl)")
    parser.add_argument("--domain_column", required=True, help="column with the name of each text's domain")
    parser.add_argument("--domains", type=names, default=(), help="those that get a folder (default: all)")
    parser.add_argument("--text_column", default="", help="(default: sentence)")
    parser.add_argument("--text_pair_column", default="", help="second text, for tasks on pairs")
    parser.add_argument("--label_column", default="", help="(default: label)")
    parser.add_argument("--by", default="domain", help="prototypes of each 'domain' or of each 'class' in it")
    parser.add_argument("--centred", action="store_true", help="without what all texts share; with --by=class")
    parser.add_argument("--output", required=True, help="folder of the files")


def run(overrides, *, model, domain_column, domains, by, centred, output, **files) -> int:
    """Writes the files."""
    from codir_jax.processes import claims

    claims.check(output, claims.WEIGHED, "--output")
    from codir_jax.jobs import sources
    from codir_jax.jobs.weigh import config_of, weigh

    settings = [(f"data.{sources.FIELDS[flag]}", text) for flag, text in files.items() if text]
    changes = [("student.path", model), *settings, *overrides["config"]]
    weigh(config_of(changes), domain_column, output, by=by, centred=centred, domains=domains)
    print(f"written: {output}")
    return 0
