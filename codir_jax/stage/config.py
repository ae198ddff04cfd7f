"""The config of a stage: every field, and the cross-field checks that need no device and no data."""

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from codir_jax import config as config_lib
from codir_jax.config import duration_steps
from codir_jax.data import teacher_cache
from codir_jax.models.contract import family
from codir_jax.models.layer_selection import parse_start
from codir_jax.models.pooling import POOLINGS
from codir_jax.models.remat import REMAT
from codir_jax.objectives import contract as objectives
from codir_jax.objectives import transform
from codir_jax.processes import console
from codir_jax.processes.fields import MAX_SEED, Field, Fields, completed, defaults, faults, field, flat, refuse
from codir_jax.processes.user_error import UserError
from codir_jax.sharding import mesh
from codir_jax.stage.seen_words import MODES as WORD_ROWS
from codir_jax.tasks.contract import task_module
from codir_jax.training import loop, optimizer

_DTYPES = ("float32", "bfloat16")
_SIZE = {"at_least": 0, "at_most": 65_536}
# Sections that an earlier version may not have had: they do not say what is trained on what.
SECTIONS = ("teacher", "student", "compression", "optimizer", "train", "mesh")
SEED = field(0, "of initialisation, data order, dropout and sampling", at_least=0, at_most=MAX_SEED)
TEACHER = {
    # A Hugging Face folder, workdir of a stage, or hub name.
    "path": field("", "a model trained on the task"),
    # PATH.py:ARG; where path is empty it is trained first, in WORKDIR/teacher.
    "config": field("", "config of the stage that makes the teacher"),
    "allow_weak": field(False, "go on although it is no better than always answering the majority class", binds=False),
    "dtype": field("float32", "of the teacher's computation", words=_DTYPES),
    # Run it once over the train set and keep its outputs: "on", "off" (it runs in every step), or "auto": on where the
    # run is longer than an epoch and they fit (a third of the free disk, cache_limit_gib).
    "cache": field("auto", "whether the teacher's outputs are kept", words=("auto", "on", "off")),
    # Shared by runs; empty: a folder in the user's cache.
    "cache_dir": field("", "where the teacher's outputs are kept", binds=False),
    # "bfloat16" halves disk and transfer; training then differs by its rounding.
    "cache_dtype": field("float32", "of the kept outputs", words=tuple(teacher_cache.DTYPES)),
    "cache_limit_gib": field(
        20.0, 'largest size of the kept outputs, for "auto"', at_least=0, at_most=1e9, binds=False
    ),
}
STUDENT = {
    # "teacher": from its layers; "pretrained": from student.path; "random".
    "init": field("teacher", "what the student starts from", words=("teacher", "pretrained", "random")),
    "path": field("", "a pretrained model, for student.init='pretrained'"),
    # With "pretrained": as in the checkpoint.
    "num_layers": field(0, "layers; 0: half of the teacher's, -1: all", at_least=0, at_most=10_000, also=(-1,)),
    # With "teacher": "uniform", "first", "last" or a list such as "2,4,6".
    "init_layers": field("uniform", "teacher layers that the student starts from", reads=parse_start),
    # Sizes with init "random"; with "teacher" the widths, of features, heads and units that weigh most
    # (models/width_selection.py). 0 or empty: as the teacher's.
    "family": field(
        "", "model family, a file of codir_jax/models; empty: the teacher's", reads=lambda name: name and family(name)
    ),
    "hidden_size": field(0, "numbers of a state; 0: as the teacher's", **_SIZE),
    "num_heads": field(0, "attention heads; 0: as the teacher's", **_SIZE),
    "intermediate_size": field(0, "of a feed-forward block; 0: as the teacher's", at_least=0, at_most=2**20),
    "embedding_size": field(0, "of an LSTM: numbers of a word; 0: as hidden_size", **_SIZE),
    "tie_embeddings": field(False, "of an LSTM: one table for words that are read and words that are predicted"),
    # For the task "sentences".
    "bidirectional": field(False, "of an LSTM: words are predicted from both sides"),
    # For noise-contrastive training.
    "unnormalised": field(False, "of an LSTM: scores are sums of logits"),
    "residual": field(False, "of an LSTM: scores are added to ln q of the noise model"),
    # Of an LSTM they are uniform in +-.
    "initializer_range": field(0.02, "standard deviation of random weights", above=0, at_most=100),
    "dropout": field(-1.0, "all dropout rates; -1: as in the checkpoint", at_least=0, below=1, also=(-1,)),
    # See models/pooling.py; empty: as in the checkpoint, and the mean where it says nothing.
    "pooling": field("", "how a sentence encoder makes a vector of states", words=("", *POOLINGS)),
    # Parameters are always float32.
    "dtype": field("float32", "of the student's computation", words=_DTYPES),
    # "seen", those of the train set's words, or "all". Of the others AdamW would only decay the weights; so they stay
    # as they are. See stage/seen_words.py.
    "word_rows": field("seen", "rows of the word embedding that are trained", words=tuple(WORD_ROWS)),
    # "none" recomputes nothing, "block" keeps one state a layer (a third more time, a fraction of the memory), "dots"
    # also the products with weights.
    "remat": field("none", "what is kept for the backward pass", words=tuple(REMAT)),
}


def fields(objective: str, task: str) -> Fields:
    """The schema of a stage: every field.

    Args:
      objective: name of a file in `objectives/`. task: name of a file in `tasks/`.

    Raises:
      UserError: there is no such file.
    """
    return {
        "seed": SEED,
        "task": {"name": field(task, "what is trained on and judged by, a file of codir_jax/tasks")},
        "data": task_module(task).data_fields(),
        # Empty: the teacher's, else the student's (demo: trained).
        "tokenizer_path": field("", "folder or hub name of a tokenizer"),
        "teacher": TEACHER,
        "student": STUDENT,
        "objective": objectives.objective_module(objective).FIELDS,
        "compression": transform.FIELDS,
        "optimizer": optimizer.FIELDS,
        "train": loop.FIELDS,
        "mesh": mesh.FIELDS,
    }


def default_config(objective: ConfigDict, task: str = "classification") -> ConfigDict:
    """Every field of a stage with its default.

    Args:
      objective: the `default_config()` of its method.
      task: name of a file in `tasks/`.
    """
    config = ConfigDict(defaults(fields(objective.name, task)))
    config.objective = objective
    return config


def load(spec: str, overrides: Sequence[tuple[str, str]] = ()) -> ConfigDict:
    """The locked config of a stage with `overrides` applied; each of its fields can be what it is.

    Args:
      spec, overrides: as of `config.load`. A saved config of before a field was there gets its default, which is told.
        A length of the run, or a learning rate, among the overrides is taken as it is: then `train.at_least_steps`, or
        `optimizer.of_width`, is 0.

    Raises:
      UserError: as `config.load`, and all fields of a wrong type or outside their range.
    """
    given = {key for key, _ in overrides}
    if given & {"train.total_steps", "train.total_epochs"} and "train.at_least_steps" not in given:
        overrides = [*overrides, ("train.at_least_steps", "0")]
    if "optimizer.learning_rate" in given and "optimizer.of_width" not in given:
        overrides = [*overrides, ("optimizer.of_width", "0")]
    if not spec.partition(":")[0].endswith(".json"):
        config = config_lib.load(spec, overrides)
        check_fields(config)
        return config

    def complete(saved: Mapping[str, Any]) -> dict[str, Any]:
        schema = schema_of(saved)
        whole, added = completed(schema, {name: {} for name in schema if name in SECTIONS} | saved)
        check_fields(whole)
        if added:
            console.note(f"{spec} is of an earlier version and has no {', '.join(added)}: these are the defaults")
        return whole

    config = config_lib.load(spec, overrides, complete)
    check_fields(config)
    return config


def schema_of(config: ConfigDict | Mapping[str, Any]) -> Fields:
    """The schema that the names of its objective and its task stand for.

    Raises:
      UserError: they are not there, or unknown: then it is no config of a stage.
    """
    names = []
    for group in ("objective", "task"):
        found = config.get(group) if hasattr(config, "get") else None
        name = found.get("name") if hasattr(found, "get") else None
        if not isinstance(name, str):
            raise UserError(
                f"{group}.name is {'missing' if name is None else f'{name!r}, no text'}: this is no config of a stage; "
                "expected a config.json that `codir train` saved, or a get_config that begins with "
                "stage.config.default_config"
            )
        names.append(name)
    return fields(*names)


def check_fields(config: ConfigDict | Mapping[str, Any]) -> None:
    """Refuses a config with a field that cannot be what it is; all of them are told.

    Raises:
      UserError: key, value, what was expected.
    """
    refuse(faults(schema_of(config), config))


def differing(ours: ConfigDict, theirs: Mapping[str, Any]) -> list[str]:
    """One line for each field that binds a run in which two configs differ; two spellings of a path are one.

    Args:
      theirs: as it was saved; what it lacks, as of an earlier version, has its default.
    """
    with contextlib.suppress(UserError):  # no config of a stage: it differs in all that it has not
        theirs, _ = completed(schema_of(theirs), theirs)
    free = {key for key, one in flat(schema_of(ours)) if not one.binds}
    alike = _alike_paths(ours, theirs)
    return [line for line in config_lib.differences(alike, theirs) if line.partition(":")[0] not in free]


def _alike_paths(ours: ConfigDict | Mapping, theirs: Mapping[str, Any]) -> dict[str, Any]:
    """`ours`, each path as `theirs` has it where both name one place: "./train.tsv" and "train.tsv"."""

    def of(name: str, value: Any, other: Any) -> Any:
        if isinstance(value, Mapping):
            there = other if isinstance(other, Mapping) else {}
            return {inner: of(inner, one, there.get(inner)) for inner, one in value.items()}
        is_path = name.endswith("path") and isinstance(other, str)
        return other if is_path and is_same_place(value, other) else value

    return of("", ours.to_dict() if isinstance(ours, ConfigDict) else ours, theirs)


def is_same_place(a: str, b: str) -> bool:
    """Whether two paths, or "", name one file or folder, as seen from the working directory; no link is followed."""
    return a == b or bool(a and b and os.path.abspath(os.path.expanduser(a)) == os.path.abspath(os.path.expanduser(b)))


def binding(config: ConfigDict) -> dict[str, Any]:
    """The fields of a config that bind a run, a nested dict."""

    def of(fields: Fields, values: Mapping[str, Any]) -> dict[str, Any]:
        return {
            name: values[name] if isinstance(one, Field) else of(one, values[name])
            for name, one in fields.items()
            if not isinstance(one, Field) or one.binds
        }

    return of(schema_of(config), config.to_dict())


def fingerprint(config: ConfigDict) -> str:
    """SHA-256 of the fields that bind a run."""
    return hashlib.sha256(json.dumps(binding(config), sort_keys=True).encode()).hexdigest()


def needs_teacher(config: ConfigDict) -> bool:
    """Whether there is no stage without a teacher: its method has one, or the student starts from its layers."""
    return objectives.needs_teacher(config.objective.name) or config.student.init == "teacher"


def check(config: ConfigDict) -> None:
    """Cross-field checks that need no device and no data.

    Raises:
      UserError: what was expected, what came, what to do.
    """
    check_fields(config)
    task = task_module(config.task.name)
    module = objectives.objective_module(config.objective.name)
    optimizer.check(config.optimizer)
    if getattr(module, "IS_WHOLE_TEACHER", False) and (config.student.init, config.student.num_layers) != (
        "teacher",
        -1,
    ):
        raise UserError(
            f"objective.name={config.objective.name!r} goes on with the whole teacher; set student.init='teacher' and "
            f"student.num_layers=-1, got {config.student.init!r} and {config.student.num_layers}"
        )
    if needs_teacher(config) and not config.teacher.path:
        called, trained_by = task.TEACHER
        raise UserError(
            f"teacher.path is empty; give a {called}: a Hugging Face folder, or the workdir of `codir train "
            f"--config={trained_by}`"
        )
    if config.student.init == "pretrained" and not config.student.path:
        raise UserError("student.init='pretrained' needs student.path: a Hugging Face folder or a hub name")
    if config.optimizer.gradient_dtype == "bfloat16" and config.student.dtype != "bfloat16":
        raise UserError(
            f"optimizer.gradient_dtype='bfloat16' is of bfloat16 models, and student.dtype={config.student.dtype!r}; "
            "set student.dtype=bfloat16, or leave it 'float32'"
        )
    if objectives.needs_cache(config.objective) and config.teacher.cache == "off":
        raise UserError(
            f"objective.name={config.objective.name!r}, as it is set, takes rows from the teacher cache, and "
            "teacher.cache='off'; use 'auto' or 'on'"
        )
    transform.check(config.compression)
    task.check(config)
    if config.data.batch_size < (least := getattr(module, "LEAST_BATCH", 1)):
        raise UserError(
            f"data.batch_size={config.data.batch_size}: objective.name={config.objective.name!r} tells a text apart "
            f"from the others of its batch, so a batch needs at least {least} rows; 64 or more are usual"
        )
    if hasattr(module, "check"):
        module.check(config.objective)
    if config.data.batch_size % (parts := config.train.num_microbatches):
        raise UserError(
            f"data.batch_size={config.data.batch_size} is not divisible by train.num_microbatches={parts}; a batch is "
            "cut into equal parts"
        )
    for unit in ("steps", "epochs"):
        warmup, total = config.optimizer[f"warmup_{unit}"], config.train[f"total_{unit}"]
        if total >= 0 and warmup > total:
            raise UserError(f"optimizer.warmup_{unit}={warmup} is longer than the run, train.total_{unit}={total}")
    for section, duration in (
        ("train", "total"), ("train", "eval_every"), ("train", "checkpoint_every"), ("optimizer", "warmup"),
    ):  # fmt: skip
        try:
            duration_steps(config[section], duration, steps_per_epoch=1, num_steps=1)
        except UserError as error:
            raise UserError(f"{section}.{duration}_*: {error}") from error
