"""`codir evaluate`: scores of a model on a split."""

import argparse
import json

HELP = "scores of a model on a split, or of a masked language model on held-out text"
EXAMPLES = """examples:
  codir evaluate --model=runs/student --split=dev
  codir evaluate --model=runs/mlm_student --config.teacher.path=runs/mlm_teacher
  codir evaluate --model=FOLDER --config=configs/codir/finetune_distill.py:rte --config.data.glue_dir=glue

On dev the distance to the teacher is told too, where teacher.path of the config is a folder that is here."""
OVERRIDES = ("config",)


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", required=True, help="workdir, Hugging Face folder or hub name")
    parser.add_argument("--config", default="", help="names the data (default: the workdir's config.json)")
    parser.add_argument("--split", default="dev", help="(default: %(default)s)")
    parser.add_argument("--batch_size", type=int, default=0, help="(default: data.eval_batch_size of the config)")


def run(overrides, **flags) -> int:
    """Prints one line of JSON; the flags are the arguments of the function of the same name."""
    from codir_jax.jobs.evaluate import evaluate

    print(json.dumps(evaluate(**flags, overrides=overrides["config"])))
    return 0
