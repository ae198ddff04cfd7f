"""Teacher and student of a stage, with the weights that they start from."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from ml_collections import ConfigDict

from codir_jax.convert import huggingface
from codir_jax.convert.huggingface import Pretrained
from codir_jax.data.batch import DatasetInfo
from codir_jax.models.contract import family
from codir_jax.models.heads import abstract_params, build_model
from codir_jax.models.transformer import TransformerConfig
from codir_jax.processes.user_error import UserError
from codir_jax.sharding import rules
from codir_jax.stage.build import model_folder

DEFAULT_FAMILY = "bert"  # of a randomly started student without a teacher


class Head(NamedTuple):
    """What the models of a stage end in.

    Attributes:
      kind: of `models.heads.HEADS`. num_labels: outputs of a classifier, 1 for a regression; a masked LM has none.
    """

    kind: str
    num_labels: int = 0

    def load(self, path: str, purpose: str, seed: int = 0) -> Pretrained:
        """The checkpoint in a folder, a workdir or of a hub name, read for this head; `seed` draws what it lacks."""
        folder = model_folder(path, purpose)
        return huggingface.load_pretrained(folder, head=self.kind, num_labels=self.num_labels or None, rng_seed=seed)

    def module(self, sizes: TransformerConfig, dtype: str, remat: str = "none"):
        """The Linen module of such a model."""
        return build_model(sizes, self.kind, max(self.num_labels, 1), jnp.dtype(dtype), remat)


@dataclasses.dataclass(frozen=True)
class Model:
    """A Linen model with its weights.

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


def make_teacher(config: ConfigDict, head: Head) -> Model:
    """The teacher with its weights; it must have a trained head of that kind.

    Raises:
      UserError: it has none; it says which stage trains one.
    """
    path = config.teacher.path
    source = head.load(path, "teacher.path")
    if not source.has_head:
        if head.kind == "masked_lm":
            lacks, stage = (
                "masked-LM head",
                "pretrain_teacher.py --config.student.init=pretrained --config.student.num_layers=0",
            )
        else:
            task = "own" if config.data.name == "text_classification" else config.data.name
            lacks, stage = f"head for the {head.num_labels} classes of {task}", f"finetune_teacher.py:{task}"
        raise UserError(
            f"teacher {path} has no {lacks}; train it first: codir train --config=configs/codir/{stage} "
            f"--config.student.path={path} --workdir=DIR"
        )
    return Model(head.module(source.config, config.teacher.dtype), source.params, source.config, source)


def has_classes(source: Pretrained, info: DatasetInfo) -> bool:
    """Whether the model's classes are the data's, in its order, as far as both have names for them."""
    return not (source.label_names and info.label_names) or tuple(source.label_names) == tuple(info.label_names)


def check_label_names(source: Pretrained, info: DatasetInfo, path: str) -> None:
    """Refuses a model whose classes have the same names in another order, or other names."""
    if not has_classes(source, info):
        raise UserError(
            f"model {path} has classes {list(source.label_names)}, data {info.name} has {list(info.label_names)}; "
            "give data.label_names in the model's order, or fine-tune the model on this data"
        )


def make_student(config: ConfigDict, head: Head, teacher: Model | None, text_tokenizer) -> Model:
    """The student with its starting weights: from the teacher's layers, a checkpoint, or random (params None)."""
    options = config.student
    if options.init == "teacher":
        shrink = family(teacher.config.family).shrink["layers"]
        sizes, params = shrink(
            teacher.config, teacher.params, num_layers=options.num_layers, layers=options.init_layers
        )
        source = teacher.source
    elif options.init == "pretrained":
        source = head.load(options.path, "student.path", config.seed)
        if options.num_layers not in (0, source.config.num_layers):
            raise UserError(
                f"student.num_layers={options.num_layers}, but {options.path} has {source.config.num_layers} layers; "
                "leave it 0, or use student.init='teacher' with this model as teacher.path"
            )
        sizes, params = source.config, source.params
    else:
        sizes, params, source = random_sizes(options, teacher.config if teacher else None, text_tokenizer), None, None
    if options.dropout >= 0:
        sizes = dataclasses.replace(sizes, hidden_dropout=options.dropout, attention_dropout=options.dropout)
    return Model(head.module(sizes, options.dtype, options.remat), params, sizes, source)


def random_sizes(options: ConfigDict, teacher: TransformerConfig | None, text_tokenizer) -> TransformerConfig:
    """Sizes of a randomly started student; what is 0 is as the teacher's."""
    given = {n: options[n] for n in ("num_layers", "hidden_size", "num_heads", "intermediate_size") if options[n]}
    if teacher is not None:
        if options.family not in ("", teacher.family):
            raise UserError(f"student.family={options.family!r}, but it shares the tokenizer of a {teacher.family}")
        given.setdefault("num_layers", max(teacher.num_layers // 2, 1))
        given["initializer_range"] = options.initializer_range
        return dataclasses.replace(teacher, **given)
    missing = [n for n in ("num_layers", "hidden_size", "num_heads", "intermediate_size") if n not in given]
    if missing:
        raise UserError(f"student.init='random' without a teacher needs {', '.join(f'student.{n}' for n in missing)}")
    return family(options.family or DEFAULT_FAMILY).from_scratch(
        vocab_size=len(text_tokenizer),
        pad_token_id=int(text_tokenizer.pad_token_id),
        initializer_range=options.initializer_range,
        **given,
    )
