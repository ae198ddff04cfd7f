"""The config of a stage: every field, and the cross-field checks that need no device and no data."""

from ml_collections import ConfigDict

from codir_jax.config import DURATION_UNITS, duration_steps
from codir_jax.data import teacher_cache
from codir_jax.models.pooling import POOLINGS
from codir_jax.models.transformer import REMAT
from codir_jax.objectives import contract as objectives
from codir_jax.objectives import transform
from codir_jax.processes.user_error import UserError
from codir_jax.sharding import mesh
from codir_jax.stage.seen_words import MODES as WORD_ROWS
from codir_jax.tasks.contract import task_module
from codir_jax.training import loop, optimizer


def default_config(objective: ConfigDict, task: str = "classification") -> ConfigDict:
    """Every field of a stage.

    Args:
      objective: the `default_config()` of its method.
      task: name of a file in `tasks/`.
    """
    return ConfigDict(
        {
            "seed": 0,  # of initialisation, data order, dropout and sampling
            "task": {"name": task},  # what is trained on and judged by: a file of codir_jax/tasks
            "data": task_module(task).default_data(),
            "tokenizer_path": "",  # folder or hub name; empty: the teacher's, else the student's (demo: trained)
            "teacher": {
                "path": "",  # a model trained on the task: Hugging Face folder, workdir of a stage, or hub name
                # Where path is empty: PATH.py:ARG of the stage that makes it; it is trained first, in WORKDIR/teacher.
                "config": "",
                "allow_weak": False,  # go on although it is no better than always answering the majority class
                "dtype": "float32",  # of its computation: float32 or bfloat16
                # Run it once over the train set and keep its outputs: "on", "off" (it runs in every step), or "auto":
                # on where the run is longer than an epoch and they fit (a third of the free disk, cache_limit_gib).
                "cache": "auto",
                "cache_dir": "",  # where they are kept and shared by runs; empty: a folder in the user's cache
                "cache_dtype": "float32",  # "bfloat16" halves disk and transfer; training then differs by its rounding
                "cache_limit_gib": 20.0,  # for "auto"
            },
            "student": {
                "init": "teacher",  # "teacher": from its layers; "pretrained": from student.path; "random"
                "path": "",  # of a pretrained model, for init "pretrained"
                "num_layers": 0,  # 0: half of the teacher's, -1: all; with "pretrained": as in the checkpoint
                "init_layers": "uniform",  # with "teacher": "uniform", "first", "last" or a list such as "2,4,6"
                # Sizes with init "random"; 0 or empty: as the teacher's.
                "family": "",
                "hidden_size": 0,
                "num_heads": 0,
                "intermediate_size": 0,
                "embedding_size": 0,  # of an LSTM; 0: as hidden_size
                "tie_embeddings": False,  # of an LSTM: one table for words that are read and words that are predicted
                "bidirectional": False,  # of an LSTM: words are predicted from both sides, for the task "sentences"
                "unnormalised": False,  # of an LSTM: scores are sums of logits, for noise-contrastive training
                "residual": False,  # of an LSTM: to which ln q of the noise model is added
                "initializer_range": 0.02,  # standard deviation of random weights; of an LSTM they are uniform in +-
                "dropout": -1.0,  # all dropout rates; -1: as in the checkpoint
                # Of a sentence encoder: "mean", "cls" or "pooler", see models/pooling.py; empty: as in the checkpoint,
                # and the mean where it says nothing.
                "pooling": "",
                "dtype": "float32",  # of its computation; parameters are always float32
                # Rows of the word embedding that are trained: "seen", those of the train set's words, or "all".
                # Of the others AdamW would only decay the weights; so they stay as they are. See stage/seen_words.py.
                "word_rows": "seen",
                # What is kept for the backward pass: "none" recomputes nothing, "block" keeps one state a layer (a
                # third more time, a fraction of the memory), "dots" also the products with weights.
                "remat": "none",
            },
            "objective": objective,
            "compression": transform.default_config(),
            "optimizer": optimizer.default_config(),
            "train": loop.default_config(),
            "mesh": mesh.default_config(),
        }
    )


def needs_teacher(config: ConfigDict) -> bool:
    """Whether there is no stage without a teacher: its method has one, or the student starts from its layers."""
    return objectives.needs_teacher(config.objective.name) or config.student.init == "teacher"


def check(config: ConfigDict) -> None:
    """Cross-field checks that need no device and no data.

    Raises:
      UserError: what was expected, what came, what to do.
    """
    task = task_module(config.task.name)
    module = objectives.objective_module(config.objective.name)
    optimizer.check(config.optimizer)
    if config.student.init not in ("teacher", "pretrained", "random"):
        raise UserError(f"student.init={config.student.init!r}; known: teacher, pretrained, random")
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
    for side in ("teacher", "student"):
        if config[side].dtype not in ("float32", "bfloat16"):
            raise UserError(f"{side}.dtype={config[side].dtype!r}; known: float32, bfloat16")
    if config.optimizer.gradient_dtype == "bfloat16" and config.student.dtype != "bfloat16":
        raise UserError(
            f"optimizer.gradient_dtype='bfloat16' is of bfloat16 models, and student.dtype={config.student.dtype!r}; "
            "set student.dtype=bfloat16, or leave it 'float32'"
        )
    if config.student.pooling not in ("", *POOLINGS):
        raise UserError(f"student.pooling={config.student.pooling!r}; known: {', '.join(POOLINGS)}, or empty")
    if config.student.word_rows not in WORD_ROWS:
        raise UserError(f"student.word_rows={config.student.word_rows!r}; known: {', '.join(WORD_ROWS)}")
    if config.student.remat not in REMAT:
        raise UserError(f"student.remat={config.student.remat!r}; known: {', '.join(REMAT)}")
    for field, known in (("cache", ("auto", "on", "off")), ("cache_dtype", tuple(teacher_cache.DTYPES))):
        if config.teacher[field] not in known:
            raise UserError(f"teacher.{field}={config.teacher[field]!r}; known: {', '.join(known)}")
    if objectives.needs_cache(config.objective) and config.teacher.cache == "off":
        raise UserError(
            f"objective.negatives.source={config.objective.negatives.source!r} takes rows from the teacher cache, and "
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
    for section, duration in (("train", "total"), ("train", "eval_every"), ("train", "checkpoint_every")):
        duration_steps(config[section], duration, steps_per_epoch=1, num_steps=1)
    duration_steps(config.optimizer, "warmup", steps_per_epoch=1, num_steps=1)
    for field, least in (
        ("log_every_steps", 1),
        ("patience", 0),
        ("num_microbatches", 1),
        ("keep_last", 1),
        ("keep_every_steps", 0),
        ("keep_best", 0),
        ("max_skipped_updates", 0),
    ):
        if config.train[field] < least:
            raise UserError(f"train.{field} must be >= {least}, got {config.train[field]}")
    for unit in DURATION_UNITS:
        if config.train.get(f"total_{unit}", -1) == 0:
            raise UserError(f"train.total_{unit} is 0; give at least one step")
