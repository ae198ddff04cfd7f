"""`codir evaluate`: scores of a model on a split."""

import argparse
import json

from codir_jax.verbs.flag_types import add_data, add_model

HELP = "scores of a model on a split, or of a masked language model on held-out text"
EXAMPLES = """examples:
  codir evaluate --model=runs/student --split=dev
  codir evaluate --model=runs/mlm_student --config.teacher.path=runs/mlm_teacher
  codir evaluate --model=FOLDER --config=configs/codir/finetune_distill.py:rte --config.data.glue_dir=glue

On dev the distance to the teacher is told too, where teacher.path of the config is a folder that is here."""
OVERRIDES = ("config",)


def add_flags(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    add_data(parser, split="dev", no_split="", batch_size=0)


def run(overrides, **flags) -> int:
    """Prints one line of JSON; the flags are the arguments of the function of the same name."""
    from codir_jax.jobs.evaluate import evaluate

    print(json.dumps(evaluate(**flags, overrides=overrides["config"])))
    return 0
