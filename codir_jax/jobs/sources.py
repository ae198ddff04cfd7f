"""What a job has to train on, as the user gave it: own files, running text, a GLUE task or the embedded data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from codir_jax.data.sets import glue
from codir_jax.processes import console, whole
from codir_jax.processes.user_error import UserError

# Of a tokenizer trained here: what hundred novels fill.
VOCAB_SIZE = 8192

# Flag of own files -> the field of `data` that it sets.
FIELDS = {
    "train": "train_path",
    "dev": "dev_path",
    "test": "test_path",
    "unlabelled": "unlabelled_path",
    "text_column": "text_column",
    "text_pair_column": "text_pair_column",
    "label_column": "label_column",
    "regression": "is_regression",
    "multi_label": "is_multi_label",
    "label_separator": "label_separator",
    "glue_dir": "glue_dir",
}


_TEST = "data.test_path"


class Source(NamedTuple):
    """The data of a job.

    Attributes:
      name: "own", "text", "demo" or a GLUE task, for a recipe and its configs.
      overrides: (dotted key, text) of every stage.
    """

    name: str
    overrides: tuple[tuple[str, str], ...]

    @property
    def test_path(self) -> str:
        """The own file to test by, "" without one."""
        return dict(self.overrides).get(_TEST, "")

    def with_test(self, path: str) -> Source:
        """Tested by a file that an earlier call named."""
        return self._replace(overrides=(*self.overrides, (_TEST, path)))


def with_overrides(flags: Mapping[str, Any], overrides: Sequence[tuple[str, str]]) -> dict[str, Any]:
    """The flags, and those of FIELDS that are given as `data.FIELD` instead."""
    of_data = dict(overrides)
    fields = {flag: of_data[f"data.{field}"] for flag, field in FIELDS.items() if f"data.{field}" in of_data}
    return {**flags, **{flag: text for flag, text in fields.items() if text not in ("", "False", "false", "0")}}


def name_of(train: Any) -> str:
    """What a report calls train data: the name of a file or folder, a hub name whole; "" of objects in memory."""
    if not isinstance(train, str | Path) or not str(train):
        return ""
    return Path(train).name if Path(train).expanduser().exists() else str(train)


def source_of(flags: Mapping[str, Any]) -> Source:
    """The one source that was given.

    Args:
      flags: arguments of `compress`: those of FIELDS, `text`, `task`, `demo` and `teacher`; empty is not given. With
        none of them the data are those of `demo`.

    Raises:
      UserError: none or several sources.
    """
    named = [f"--{flag}" for flag in ("train", "task", "demo", "text") if flags[flag]]
    if not named and not flags["teacher"] and not any(flags[flag] for flag in FIELDS):
        console.say("no --train, --task or --text: a demonstration on embedded data")
        return Source("demo", ())
    if len(named) != 1:
        raise UserError(f"give one of --train (with --dev), --task, --demo or --text, got {', '.join(named) or 'none'}")
    told = [flag for flag in FIELDS if flags[flag]]
    if flags["text"]:
        if told:
            raise UserError(f"--text is of no task: leave out {', '.join(f'--{flag}' for flag in told)}")
        return Source("text", (("data.sources", flags["text"]),))
    if flags["task"] and flags["task"] not in glue.TRAINABLE_TASKS:
        raise UserError(f"--task={flags['task']}; known: {', '.join(glue.TRAINABLE_TASKS)}")
    others = [flag for flag in told if flag != "glue_dir"] if flags["task"] else []
    if others and not flags["train"]:
        raise UserError(f"--task={flags['task']} brings its own data: leave out --{', --'.join(others)}, or --task")
    if flags["glue_dir"] and not flags["task"]:
        raise UserError(f"--glue_dir={flags['glue_dir']} is of --task, which is not given")
    overrides = tuple((f"data.{FIELDS[flag]}", str(flags[flag])) for flag in told)
    name = "demo" if flags["demo"] else flags["task"] or "own"
    return Source(name, overrides)


def domain_words(source: Source, domain_column: str, domains: Sequence[str]) -> list[str]:
    """The words of a recipe's argument that tell a column of domains, and those that get a student.

    Raises:
      UserError: --domains without a column, data that are no own files, or a domain that no file has.
    """
    from codir_jax.jobs import weigh

    if not domain_column:
        if domains:
            raise UserError("--domains needs --domain_column")
        return []
    if source.name != "own":
        raise UserError("--domain_column is of own files: give --train and --dev")
    if twice := sorted({name for name in domains if list(domains).count(name) > 1}):
        raise UserError(f"--domains names {', '.join(twice)} twice")
    found = weigh.domains_in(weigh.config_of(source.overrides).data, domain_column)
    if unknown := [name for name in domains if name not in found]:
        raise UserError(f"--domains has {', '.join(unknown)}, which no file has; it has: {', '.join(found)}")
    given = [split for split in ("test", "unlabelled") if f"data.{split}_path" in dict(source.overrides)]
    return [
        f"column={domain_column}",
        *(f"domain={name}" for name in domains or found),
        *(f"with={split}" for split in given),
    ]


def make_tokenizer(config: ConfigDict, folder: Path, kind: str) -> None:
    """Trains a tokenizer, of `vocabulary.KINDS`, on the job's running text."""
    from codir_jax.data.corpus import vocabulary
    from codir_jax.data.tokenizer import save_tokenizer

    console.say(f"== training a tokenizer -> {folder}")
    tokenizer = vocabulary.train(kind, config.data, VOCAB_SIZE)
    with whole.folder(folder) as aside:
        save_tokenizer(tokenizer, aside)
