"""`codir compress`: the whole job."""

import argparse

from codir_jax.verbs.flag_types import add_card, add_format, names

HELP = "the whole job: fine-tune the teacher where needed, distil, evaluate, export, report"
EXAMPLES = """examples:
  codir compress --teacher=roberta-base --train=train.tsv --dev=dev.tsv --layers=6 --output=runs/mine
  codir compress --teacher=roberta-base --task=sst2 --layers=6 --output=runs/sst2
  codir compress --teacher=roberta-base --text='books/*.txt' --layers=6 --output=runs/any_task
  codir compress --teacher=roberta-base --train=train.tsv --augment=4 --output=runs/more_texts
  codir compress --teacher=roberta-base --train=news.csv --label_column=tags --multi_label --output=runs/tags
  codir compress --demo --compare=finetune,distill,codir --output=runs/quickstart
  codir compress --demo --compare=finetune --seeds=5 --price_per_hour=0.4 --output=runs/quickstart
  codir compress --demo --then=int8,prune50+int4,rank32 --max_loss_percent=3 --output=runs/smaller

With --text a masked language model is compressed on running text, for any task later. A teacher without a masked-LM
head first goes on pre-training; without --teacher a tokenizer and a small teacher are trained on the text first.

Stopped, the same command goes on where it was; with more to --compare, or more --seeds, a finished job trains that
alone. report.html in the job's folder tells what was found.

--train.KEY=VALUE and --data.KEY=VALUE change all stages, e.g. --train.patience=2 (a stage ends where its dev score has
not risen for two evaluations) or --data.max_length=64. --config.KEY=VALUE changes all but the teacher's, e.g.
--config.train.total_epochs=10; --config.STAGE.KEY=VALUE one stage of the recipe, and --teacher_config.KEY=VALUE the
training of the teacher."""
OVERRIDES = ("config", "teacher_config", "data", "train")


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", required=True, help="folder of the job: stages, report, export")
    parser.add_argument(
        "--teacher",
        "--model",
        default="",
        help="Hugging Face folder, workdir or hub name of the model that is given: the big one, or what to start from",
    )
    parser.add_argument("--layers", type=int, default=0, help="layers of the student (default: half)")
    parser.add_argument(
        "--train", default="", help="your .tsv, .csv, .jsonl, .parquet, datasets folder or its hub name"
    )
    parser.add_argument("--dev", default="", help="like --train, to choose by (default: a tenth of --train, by class)")
    parser.add_argument("--test", default="", help="like --train; judged once, at the end, if it has labels")
    parser.add_argument("--unlabelled", default="", help="texts of your domain without labels (.txt, .tsv, ...)")
    parser.add_argument(
        "--augment",
        type=int,
        default=0,
        help="instead of --unlabelled: so many copies of each train text with other words, by a masked LM",
    )
    parser.add_argument("--augment_by", default="", help="the masked LM of --augment (default: --teacher)")
    parser.add_argument("--text_column", default="", help="(default: found and told)")
    parser.add_argument("--text_pair_column", default="", help="second text, for tasks on pairs")
    parser.add_argument(
        "--label_column", default="", help="(default: found, told); of --multi_label also a,b,c: columns of 0 and 1"
    )
    parser.add_argument("--regression", action="store_true", help="labels are numbers, not class names")
    parser.add_argument(
        "--multi_label", action="store_true", help="a text has any number of labels: joined names, a list, or none"
    )
    parser.add_argument(
        "--label_separator", default="", help="of --multi_label: what joins them (default: found, told)"
    )
    parser.add_argument("--text", default="", help="running text instead: files, folders, globs, comma separated")
    parser.add_argument("--task", default="", help="a GLUE task instead of your files: cola, sst2, ...")
    parser.add_argument("--glue_dir", default="", help="GLUE in the official layout; empty: download")
    parser.add_argument("--domain_column", default="", help="of --recipe=meta_kd: each text's domain")
    parser.add_argument("--domains", type=names, default=(), help="domains that get a student (default: all)")
    parser.add_argument("--demo", action="store_true", help="embedded data and a small model from scratch")
    parser.add_argument(
        "--compare",
        type=names,
        default=(),
        help="baselines of the recipe to train as well; of codir: finetune, distill, released, codir; with "
        "--text masked_lm, distill, l2, codir",
    )
    parser.add_argument(
        "--then",
        type=names,
        default=(),
        help="ways to make the trained model smaller at once, a row of the table each: int8 int6 int4 int3 (also "
        "int8_tensor, int8_affine), prune50 (prune50_together), rank64, tt8, units50; joined by + as in rank64+int4; "
        "@PATTERN for some weights only",
    )
    parser.add_argument("--max_bytes", default="", help="copy the best model up to this size, as 5MB, to picked/")
    parser.add_argument(
        "--max_loss_percent",
        type=float,
        default=None,
        help="copy the smallest model that loses at most so many percent of the first row's score to picked/",
    )
    parser.add_argument(
        "--export",
        default="best",
        help="what becomes export/: the best on dev of what is compared, or its name: l2, finetune, ... "
        "(default: %(default)s)",
    )
    add_format(parser)
    parser.add_argument(
        "--prune_vocabulary", action="store_true", help="export the words of --train alone: a smaller file (not of BPE)"
    )
    parser.add_argument("--recipe", default="codir", help="folder of configs/ with the recipe (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
    parser.add_argument(
        "--seeds",
        type=int,
        default=1,
        help="train the students with so many seeds, from --seed upwards: means and intervals (default: %(default)s)",
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=1,
        help="stages that are trained at once where they need nothing of each other, as students of several domains or "
        "seeds, each on its own cards or cores; 0: one a card, or one per two cores (default: %(default)s, on all of "
        "them)",
    )
    add_card(parser)
    parser.add_argument(
        "--price_per_hour",
        type=float,
        default=None,
        help="of this machine, in any currency: the report tells the cost of a million texts",
    )


def run(overrides, **flags) -> int:
    """The flags are the arguments of the function of the same name."""
    from codir_jax.processes import claims

    claims.check(flags["output"], claims.JOB, "--output")
    from codir_jax.jobs.compress import compress

    of_data, of_training = ([(f"{kind}.{key}", text) for key, text in overrides[kind]] for kind in ("data", "train"))
    compress(
        **flags,
        overrides=[*of_data, *of_training, *overrides["config"]],
        teacher_overrides=[*of_training, *overrides["teacher_config"]],
    )
    return 0
