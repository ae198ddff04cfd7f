"""`codir evaluate`: task metrics of a model on a split."""

import argparse
import json
from pathlib import Path

from codir_jax.processes.user_error import UserError

HELP = "task metrics of a model on a split, or of a masked language model on held-out text"
EXAMPLES = """examples:
  codir evaluate --model=runs/student --split=dev
  codir evaluate --model=runs/mlm_student --config.teacher.path=runs/mlm_teacher
  codir evaluate --model=FOLDER --config=configs/codir/finetune_distill.py:rte --config.data.glue_dir=glue"""
OVERRIDES = ("config",)


def add_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", required=True, help="workdir, Hugging Face folder or hub name")
    parser.add_argument("--config", default="", help="names the data (default: the workdir's config.json)")
    parser.add_argument("--split", default="dev", help="(default: %(default)s)")


def run(overrides, *, model: str, config: str, split: str) -> int:
    """Prints one line of JSON."""
    from codir_jax.stage.evaluate import evaluate

    data = data_config(model, config, overrides["config"])
    scores = evaluate(data, model, split)
    print(json.dumps({"model": model, "task": data.data.name, "split": split, **scores}))
    return 0


def data_config(model: str, spec: str, overrides):
    """The config that names the data: that of `--config`, else the one saved in the model's workdir."""
    from codir_jax import config as config_lib

    saved = Path(model) / "config.json"
    if not spec and (Path(model) / "best").is_dir() and saved.exists():
        spec = str(saved)
    if not spec:
        raise UserError("--config is needed to name the data, e.g. --config=configs/codir/finetune_distill.py:cola")
    return config_lib.load(spec, overrides)
