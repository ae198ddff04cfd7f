"""The config of a stage: every field, and the cross-field checks that need no device and no data."""

from ml_collections import ConfigDict

from codir_jax.config import DURATION_UNITS, duration_steps
from codir_jax.data import pipeline, teacher_cache
from codir_jax.data.corpus import settings as corpus_settings
from codir_jax.data.sets import demo
from codir_jax.models.transformer import REMAT
from codir_jax.processes.user_error import UserError
from codir_jax.sharding import mesh
from codir_jax.stage import build
from codir_jax.training import loop, optimizer

GLUE_TASKS = ("cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte", "wnli", "ax")


def default_config(objective: ConfigDict) -> ConfigDict:
    """Every field of a fine-tuning stage; `objective` is the `default_config()` of its method."""
    data = pipeline.default_config()
    data.update(demo.default_config())
    return _config(objective, data)


def pretraining_config(objective: ConfigDict) -> ConfigDict:
    """Every field of a stage on a corpus. Masks change from epoch to epoch, so that no teacher cache can serve it."""
    config = _config(objective, corpus_settings.default_config())
    config.teacher.cache = "off"
    return config


def is_pretraining(config: ConfigDict) -> bool:
    """Whether a stage trains masked language models on a corpus, and not classifiers on a task."""
    return config.data.name == "corpus"


def _config(objective: ConfigDict, data: ConfigDict) -> ConfigDict:
    return ConfigDict(
        {
            "seed": 0,  # of initialisation, data order, dropout and sampling
            "data": data,
            "tokenizer_path": "",  # folder or hub name; empty: the teacher's, else the student's (demo: trained)
            "teacher": {
                "path": "",  # fine-tuned model: Hugging Face folder, workdir of a finetune stage, or hub name
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
                "num_layers": 0,  # 0: half of the teacher's; with "pretrained": as in the checkpoint
                "init_layers": "uniform",  # with "teacher": "uniform", "first", "last" or a list such as "2,4,6"
                # Sizes with init "random"; 0 or empty: as the teacher's.
                "family": "",
                "hidden_size": 0,
                "num_heads": 0,
                "intermediate_size": 0,
                "initializer_range": 0.02,  # standard deviation of random weights
                "dropout": -1.0,  # all dropout rates; -1: as in the checkpoint
                "dtype": "float32",  # of its computation; parameters are always float32
                # What is kept for the backward pass: "none" recomputes nothing, "block" keeps one state a layer (a
                # third more time, a fraction of the memory), "dots" also the products with weights.
                "remat": "none",
            },
            "objective": objective,
            "optimizer": optimizer.default_config(),
            "train": loop.default_config(),
            "mesh": mesh.default_config(),
        }
    )


def check(config: ConfigDict) -> None:
    """Cross-field checks that need no device and no data.

    Raises:
      UserError: what was expected, what came, what to do.
    """
    name, distils = config.objective.name, config.objective.name not in build.WITHOUT_TEACHER
    build.objective_module(name)
    optimizer.check(config.optimizer)
    if config.student.init not in ("teacher", "pretrained", "random"):
        raise UserError(f"student.init={config.student.init!r}; known: teacher, pretrained, random")
    if (distils or config.student.init == "teacher") and not config.teacher.path:
        raise UserError(
            f"teacher.path is empty; give a {'masked' if is_pretraining(config) else 'fine-tuned'} model: a "
            "Hugging Face folder, or the workdir of `codir train --config=configs/codir/"
            f"{'pretrain' if is_pretraining(config) else 'finetune'}_teacher.py`"
        )
    if config.student.init == "pretrained" and not config.student.path:
        raise UserError("student.init='pretrained' needs student.path: a Hugging Face folder or a hub name")
    for side in ("teacher", "student"):
        if config[side].dtype not in ("float32", "bfloat16"):
            raise UserError(f"{side}.dtype={config[side].dtype!r}; known: float32, bfloat16")
    if config.student.remat not in REMAT:
        raise UserError(f"student.remat={config.student.remat!r}; known: {', '.join(REMAT)}")
    for field, known in (("cache", ("auto", "on", "off")), ("cache_dtype", tuple(teacher_cache.DTYPES))):
        if config.teacher[field] not in known:
            raise UserError(f"teacher.{field}={config.teacher[field]!r}; known: {', '.join(known)}")
    needs_cache = name == "codir" and "teacher_cache" in config.objective.negatives.source
    if needs_cache and config.teacher.cache == "off":
        raise UserError(
            f"objective.negatives.source={config.objective.negatives.source!r} takes rows from the teacher cache, and "
            "teacher.cache='off'; use 'auto' or 'on'"
        )
    if is_pretraining(config):
        _check_pretraining(config)
    else:
        _check_task(config)
    for section, duration in (("train", "total"), ("train", "eval_every"), ("train", "checkpoint_every")):
        duration_steps(config[section], duration, steps_per_epoch=1, num_steps=1)
    duration_steps(config.optimizer, "warmup", steps_per_epoch=1, num_steps=1)
    for field, least in (
        ("log_every_steps", 1),
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


def _check_task(config: ConfigDict) -> None:
    data = config.data
    if config.objective.get("pooling") == "none" and config.teacher.cache != "off":
        raise UserError(
            f"objective.pooling='none' with teacher.cache={config.teacher.cache!r}: the states of every token are not "
            "kept; set teacher.cache=off, or pool them (mean, first)"
        )
    if config.objective.name == "masked_lm":
        raise UserError("objective.name='masked_lm' trains on a corpus: start from configs/codir/pretrain_teacher.py")
    if data.name not in (*GLUE_TASKS, "text_classification", "demo"):
        raise UserError(
            f"data.name={data.name!r}; known: {', '.join(GLUE_TASKS)}, text_classification (own files), demo"
        )
    for field in ("batch_size", "eval_batch_size", "max_length", "bucket_window", "num_length_buckets"):
        if data[field] < 1:
            raise UserError(f"data.{field} must be >= 1, got {data[field]}")


def _check_pretraining(config: ConfigDict) -> None:
    corpus_settings.check(config.data)
    if config.objective.name == "finetune":
        raise UserError("objective.name='finetune' trains on labels and a corpus has none; use 'masked_lm'")
    if config.teacher.cache != "off":
        raise UserError(
            f"teacher.cache={config.teacher.cache!r}: the masks of a corpus change with the epoch, so that its "
            "outputs cannot be kept; use 'off'"
        )
