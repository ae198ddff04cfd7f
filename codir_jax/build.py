"""Composition root: the names in a config become data, models, objective and optimizer."""

import dataclasses
import importlib
import pkgutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from ml_collections import ConfigDict

import codir_jax.objectives
from codir_jax.config import DURATION_UNITS, duration_steps
from codir_jax.convert import huggingface
from codir_jax.convert.huggingface import Pretrained
from codir_jax.data import dataset, demo, glue, pipeline, teacher_cache, text_classification, tokenizer
from codir_jax.data.batch import Dataset, DatasetInfo
from codir_jax.models.heads import abstract_params, build_model
from codir_jax.models.layer_selection import init_from_teacher, select_layers
from codir_jax.models.transformer import REMAT, TransformerConfig
from codir_jax.objectives.contract import Objective, Setting
from codir_jax.sharding import mesh, rules
from codir_jax.train import loop, optimizer

GLUE_TASKS = ("cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte", "wnli", "ax")


def default_config(objective: ConfigDict) -> ConfigDict:
    """Every field of a stage; `objective` is the `default_config()` of its method."""
    data = pipeline.default_config()
    data.update(demo.default_config())
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
      ValueError: what was expected, what came, what to do.
    """
    name, distils = config.objective.name, config.objective.name != "finetune"
    objective_module(name)
    optimizer.check(config.optimizer)
    if config.student.init not in ("teacher", "pretrained", "random"):
        raise ValueError(f"student.init={config.student.init!r}; known: teacher, pretrained, random")
    if (distils or config.student.init == "teacher") and not config.teacher.path:
        raise ValueError(
            "teacher.path is empty; give a fine-tuned model: a Hugging Face folder, or the workdir of "
            "`codir train --config=configs/codir/finetune_teacher.py`"
        )
    if config.student.init == "pretrained" and not config.student.path:
        raise ValueError("student.init='pretrained' needs student.path: a Hugging Face folder or a hub name")
    for side in ("teacher", "student"):
        if config[side].dtype not in ("float32", "bfloat16"):
            raise ValueError(f"{side}.dtype={config[side].dtype!r}; known: float32, bfloat16")
    if config.student.remat not in REMAT:
        raise ValueError(f"student.remat={config.student.remat!r}; known: {', '.join(REMAT)}")
    for field, known in (("cache", ("auto", "on", "off")), ("cache_dtype", tuple(teacher_cache.DTYPES))):
        if config.teacher[field] not in known:
            raise ValueError(f"teacher.{field}={config.teacher[field]!r}; known: {', '.join(known)}")
    needs_cache = name == "codir" and "teacher_cache" in config.objective.negatives.source
    if needs_cache and config.teacher.cache == "off":
        raise ValueError(
            f"objective.negatives.source={config.objective.negatives.source!r} takes rows from the teacher cache, and "
            "teacher.cache='off'; use 'auto' or 'on'"
        )
    data = config.data
    if data.name not in (*GLUE_TASKS, "text_classification", "demo"):
        raise ValueError(
            f"data.name={data.name!r}; known: {', '.join(GLUE_TASKS)}, text_classification (own files), demo"
        )
    for field in ("batch_size", "eval_batch_size", "max_length", "bucket_window", "num_length_buckets"):
        if data[field] < 1:
            raise ValueError(f"data.{field} must be >= 1, got {data[field]}")
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
            raise ValueError(f"train.{field} must be >= {least}, got {config.train[field]}")
    for unit in DURATION_UNITS:
        if config.train.get(f"total_{unit}", -1) == 0:
            raise ValueError(f"train.total_{unit} is 0; give at least one step")


def objective_module(name: str):
    """The module `objectives/NAME.py`; an unknown name lists the known ones."""
    known = []
    for module in pkgutil.iter_modules(codir_jax.objectives.__path__):
        imported = importlib.import_module(f"codir_jax.objectives.{module.name}")
        if hasattr(imported, "make") and hasattr(imported, "default_config"):
            known.append(module.name)
            if module.name == name:
                return imported
    raise ValueError(f"objective.name={name!r}; known: {', '.join(known)}")


def make_objective(config: ConfigDict, setting: Setting) -> Objective:
    """The objective that the config names, for this setting."""
    return objective_module(config.name).make(config, setting)


def model_folder(path: str, purpose: str) -> str:
    """`path`, or its `best/` or `export/` if it is a workdir; a hub name is returned as it is.

    Raises:
      FileNotFoundError: a workdir without a finished model; it says which stage makes it.
    """
    folder = Path(path).expanduser()
    if not folder.is_dir() or (folder / "model.safetensors").exists():
        return path
    for inner in ("best", "export"):
        if (folder / inner / "config.json").exists():
            return str(folder / inner)
    if (folder / "metrics.jsonl").exists() or (folder / "checkpoints").exists():
        raise FileNotFoundError(
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
    raise ValueError("tokenizer_path is empty, and there is neither a teacher.path nor a student.path to take it from")


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


@dataclasses.dataclass(frozen=True)
class Model:
    """A Linen classifier with its weights.

    Attributes:
      module: Linen module. params: numpy tree float32, None for a random start.
      config: the encoder's sizes.
      source: the checkpoint it came from, None for a random start.
    """

    module: Any
    params: Any | None
    config: TransformerConfig
    source: Pretrained | None

    def placed(self, on_mesh: Mesh, table: rules.Rules):
        """The weights on the devices, split as the sharding table says."""
        return jax.device_put(self.params, rules.shardings(abstract_params(self.module), on_mesh, table))


def make_setting(
    data: Dataset, student: Model, teacher: Model | None, num_steps: int, num_microbatches: int = 1
) -> Setting:
    """What a method is made for."""
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


def make_teacher(config: ConfigDict, info: DatasetInfo) -> Model:
    """The teacher with its weights; it must have a head for the task's classes, in the task's order."""
    path = model_folder(config.teacher.path, "teacher.path")
    source = huggingface.load_pretrained(path, num_labels=info.num_classes)
    if not source.has_head:
        raise ValueError(
            f"teacher {config.teacher.path} has no head for the {info.num_classes} classes of {info.name}; fine-tune "
            f"it first: codir train --config=configs/codir/finetune_teacher.py:{info.name} "
            f"--config.student.path={config.teacher.path} --workdir=DIR"
        )
    check_label_names(source, info, config.teacher.path)
    module = build_model(source.config, "classification", info.num_classes, jnp.dtype(config.teacher.dtype))
    return Model(module, source.params, source.config, source)


def has_classes(source: Pretrained, info: DatasetInfo) -> bool:
    """Whether the model's classes are the data's, in its order, as far as both have names for them."""
    return not (source.label_names and info.label_names) or tuple(source.label_names) == tuple(info.label_names)


def check_label_names(source: Pretrained, info: DatasetInfo, path: str) -> None:
    """Refuses a model whose classes have the same names in another order, or other names."""
    if not has_classes(source, info):
        raise ValueError(
            f"model {path} has classes {list(source.label_names)}, data {info.name} has {list(info.label_names)}; "
            "give data.label_names in the model's order, or fine-tune the model on this data"
        )


def make_student(config: ConfigDict, info: DatasetInfo, teacher: Model | None, text_tokenizer) -> Model:
    """The student with its starting weights: from the teacher's layers, a checkpoint, or random (params None)."""
    options = config.student
    if options.init == "teacher":
        num_layers = options.num_layers or max(teacher.config.num_layers // 2, 1)
        sizes = dataclasses.replace(teacher.config, num_layers=num_layers)
        layers = select_layers(options.init_layers, teacher.config.num_layers, num_layers)
        kept = {f"layer_{i}" for i in range(num_layers)}
        template = dict(teacher.params)
        template["encoder"] = {
            name: value
            for name, value in teacher.params["encoder"].items()
            if not name.startswith("layer_") or name in kept
        }
        params, source = init_from_teacher(teacher.params, template, layers), teacher.source
    elif options.init == "pretrained":
        folder = model_folder(options.path, "student.path")
        source = huggingface.load_pretrained(folder, num_labels=info.num_classes, rng_seed=config.seed)
        if options.num_layers not in (0, source.config.num_layers):
            raise ValueError(
                f"student.num_layers={options.num_layers}, but {options.path} has {source.config.num_layers} layers; "
                "leave it 0, or use student.init='teacher' with this model as teacher.path"
            )
        sizes, params = source.config, source.params
    else:
        sizes, params, source = random_sizes(options, teacher.config if teacher else None, text_tokenizer), None, None
    if options.dropout >= 0:
        sizes = dataclasses.replace(sizes, hidden_dropout=options.dropout, attention_dropout=options.dropout)
    return Model(
        build_model(sizes, "classification", info.num_classes, jnp.dtype(options.dtype), options.remat),
        params,
        sizes,
        source,
    )


def random_sizes(options: ConfigDict, teacher: TransformerConfig | None, text_tokenizer) -> TransformerConfig:
    """Sizes of a randomly started student; what is 0 is as the teacher's."""
    given = {n: options[n] for n in ("num_layers", "hidden_size", "num_heads", "intermediate_size") if options[n]}
    if teacher is not None:
        if options.family not in ("", teacher.family):
            raise ValueError(f"student.family={options.family!r}, but it shares the tokenizer of a {teacher.family}")
        given.setdefault("num_layers", max(teacher.num_layers // 2, 1))
        given["initializer_range"] = options.initializer_range
        return dataclasses.replace(teacher, **given)
    missing = [n for n in ("num_layers", "hidden_size", "num_heads", "intermediate_size") if n not in given]
    if missing:
        raise ValueError(f"student.init='random' without a teacher needs {', '.join(f'student.{n}' for n in missing)}")
    is_roberta = options.family == "roberta"
    pad = int(text_tokenizer.pad_token_id)
    return TransformerConfig(
        family=options.family or "bert",
        vocab_size=len(text_tokenizer),
        max_positions=514 if is_roberta else 512,
        type_vocab_size=1 if is_roberta else 2,
        layer_norm_eps=1e-5 if is_roberta else 1e-12,
        pad_token_id=pad,
        position_offset=pad + 1 if is_roberta else 0,
        initializer_range=options.initializer_range,
        **given,
    )
