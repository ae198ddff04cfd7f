"""Composition root: the names in a config become data, tokenizer and objective."""

import importlib
import pkgutil
from pathlib import Path

from ml_collections import ConfigDict

import codir_jax.objectives
from codir_jax.data import dataset, tokenizer
from codir_jax.data.batch import Dataset
from codir_jax.data.corpus import demo_text
from codir_jax.data.sets import demo, glue, text_classification
from codir_jax.objectives.contract import Objective, Setting
from codir_jax.processes.user_error import MissingFileError, UserError

# Methods that have no teacher.
WITHOUT_TEACHER = ("finetune", "masked_lm")


def objective_module(name: str):
    """The module `objectives/NAME.py`; an unknown name lists the known ones."""
    known = []
    for module in pkgutil.iter_modules(codir_jax.objectives.__path__):
        imported = importlib.import_module(f"codir_jax.objectives.{module.name}")
        if hasattr(imported, "make") and hasattr(imported, "default_config"):
            known.append(module.name)
            if module.name == name:
                return imported
    raise UserError(f"objective.name={name!r}; known: {', '.join(known)}")


def make_objective(config: ConfigDict, setting: Setting) -> Objective:
    """The objective that the config names, for this setting."""
    return objective_module(config.name).make(config, setting)


def model_folder(path: str, purpose: str) -> str:
    """`path`, or its `best/` or `export/` if it is a workdir; a hub name is returned as it is.

    Raises:
      MissingFileError: a workdir without a finished model; it says which stage makes it.
    """
    folder = Path(path).expanduser()
    if not folder.is_dir() or (folder / "model.safetensors").exists():
        return path
    for inner in ("best", "export"):
        if (folder / inner / "config.json").exists():
            return str(folder / inner)
    if (folder / "metrics.jsonl").exists() or (folder / "checkpoints").exists():
        raise MissingFileError(
            f"{purpose} {path} is a workdir without best/: its training has not reached an evaluation"
        )
    return path


def make_tokenizer(config: ConfigDict):
    """The tokenizer that the config names, or the teacher's, or the student's; for the demo it is trained."""
    teacher_path = model_folder(config.teacher.path, "teacher.path") if config.teacher.path else ""
    path = config.tokenizer_path or teacher_path or config.student.path
    if path:
        return tokenizer.load_tokenizer(model_folder(path, "tokenizer_path"))
    if config.data.name == "demo":
        raw, *_ = demo.read(config.data)
        return tokenizer.train_wordpiece(raw["train"].texts_a, vocab_size=2000)
    if config.data.name == "corpus" and config.data.sources.startswith(demo_text.PREFIX):
        number = int(config.data.sources.removeprefix(demo_text.PREFIX))
        return tokenizer.train_wordpiece(demo_text.documents(number), vocab_size=2000)
    hint = "; train one on your text: codir tokenizer --help" if config.data.name == "corpus" else ""
    raise UserError(
        f"tokenizer_path is empty, and there is neither a teacher.path nor a student.path to take it from{hint}"
    )


def read_data(config: ConfigDict, text_tokenizer) -> Dataset:
    """The tokenised data set that the config names, checked in full before it is returned."""
    if config.data.name == "demo":
        raw, label_names, is_regression, metrics = demo.read(config.data)
        return dataset.tokenize_dataset(
            "demo",
            raw,
            label_names=label_names,
            is_regression=is_regression,
            metrics=metrics,
            tokenizer=text_tokenizer,
            max_length=config.data.max_length,
            unlabelled=text_classification.read_unlabelled(config.data, is_pair=False),
            num_train_examples=config.data.num_train_examples,
        )
    if config.data.name == "text_classification":
        return text_classification.load(config.data, text_tokenizer)
    return glue.load(config.data, text_tokenizer)


def make_setting(data: Dataset, student, teacher, num_steps: int, num_microbatches: int = 1) -> Setting:
    """What a method is made for, from a labelled data set and two `partners.Model`s (the teacher may be None)."""
    train = data.splits["train"]
    return Setting(
        student=student.module,
        teacher=teacher.module if teacher else None,
        info=data.info,
        labels=train.labels,
        is_labelled=train.is_labelled,
        text_ids=train.text_ids,
        num_steps=num_steps,
        num_microbatches=num_microbatches,
    )
