"""What a job compresses on: labelled texts or running text, as the user gave them. All that differs by it is here."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ml_collections import ConfigDict

from codir_jax.data.sets import glue
from codir_jax.processes import console
from codir_jax.processes.user_error import UserError
from codir_jax.stage import workdir

# Of a tokenizer trained here: what hundred novels fill.
VOCAB_SIZE = 8192


class Source(NamedTuple):
    """The data of a job.

    Attributes:
      task: name of a file in `codir_jax/tasks`. argument: what the configs call the data, {data} of a recipe.
      overrides: (dotted key, text) of every stage.
      has_own_model: a teacher can be made of nothing, by the teacher's config.
      trains_tokenizer: without a teacher a tokenizer is trained on the data first.
      keeps_weak: a teacher that is made here may turn out weak, and there is a student all the same.
    """

    task: str
    argument: str
    overrides: tuple[tuple[str, str], ...]
    has_own_model: bool
    trains_tokenizer: bool = False
    keeps_weak: bool = False


def source_of(
    *, text: str, train: str, dev: str, task: str, demo: bool, teacher: str, fields: dict[str, str | bool]
) -> Source:
    """The one source that was given.

    Args:
      text, train, dev, task, demo, teacher: of `compress`.
      fields: of labelled files, `data` field -> value; what is not empty is refused with running text.

    Raises:
      UserError: none or several sources, no dev file, no teacher where one is needed.
    """
    given = {"--train": train, "--task": task, "--demo": demo, "--text": text}
    named = [flag for flag, value in given.items() if value]
    if len(named) != 1:
        raise UserError(f"give one of --train (with --dev), --task, --demo or --text, got {', '.join(named) or 'none'}")
    if text:
        if unused := [flag for flag, value in {"--dev": dev, **fields}.items() if value]:
            raise UserError(f"--text is of no task: leave out {', '.join(unused)}")
        return Source("masked_lm", "", (("data.sources", text),), True, trains_tokenizer=True, keeps_weak=True)
    if train and not dev:
        raise UserError("--dev is empty; the student is chosen and reported by a dev file")
    if task and task not in glue.TRAINABLE_TASKS:
        raise UserError(f"--task={task}; known: {', '.join(glue.TRAINABLE_TASKS)}")
    if not demo and not teacher:
        raise UserError("--teacher is empty; give a Hugging Face folder, a workdir or a hub name such as roberta-base")
    overrides = [("data.train_path", train), ("data.dev_path", dev)]
    overrides += [(DATA_FIELDS[flag], str(value)) for flag, value in fields.items() if value]
    return Source("classification", "demo" if demo else task or "own", tuple(overrides), demo)


# Flag -> the field of `data` that it sets.
DATA_FIELDS = {
    "--test": "data.test_path",
    "--unlabelled": "data.unlabelled_path",
    "--text_column": "data.text_column",
    "--text_pair_column": "data.text_pair_column",
    "--label_column": "data.label_column",
    "--regression": "data.is_regression",
    "--glue_dir": "data.glue_dir",
}


def teacher_start(source: Source, teacher: str, tokenizer: Path) -> Sequence[tuple[str, str]]:
    """Overrides of the teacher's stage: what it starts from."""
    if teacher:
        return [("student.init", "pretrained"), ("student.path", teacher), ("student.num_layers", "0")]
    return [("tokenizer_path", str(tokenizer))] if source.trains_tokenizer else []


def make_tokenizer(config: ConfigDict, folder: Path) -> None:
    """Trains a tokenizer on the job's running text, where that was not done before."""
    from codir_jax.data.corpus import vocabulary
    from codir_jax.data.tokenizer import save_tokenizer

    if (folder / "tokenizer.json").exists():
        return
    console.say(f"== training a tokenizer -> {folder}")
    aside = folder.with_name("tokenizer.part")
    save_tokenizer(vocabulary.train("wordpiece", config.data, VOCAB_SIZE), aside)
    workdir.replace_folder(aside, folder)
