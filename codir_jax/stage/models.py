"""Teacher and student of a stage, with the weights that they start from."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from ml_collections import ConfigDict

from codir_jax.compression import methods
from codir_jax.convert import pretrained
from codir_jax.convert.folder import find_folder, model_folder
from codir_jax.convert.pretrained import Pretrained
from codir_jax.data import tokenizer as tokenizer_lib
from codir_jax.models import sizes as sizes_lib
from codir_jax.models.contract import family
from codir_jax.models.heads import abstract_params, build_model
from codir_jax.models.transformer import TransformerConfig
from codir_jax.models.weights import axes_of
from codir_jax.models.width_selection import WIDTHS
from codir_jax.objectives.contract import Head, needs_teacher
from codir_jax.processes.user_error import UserError
from codir_jax.sharding import rules

DEFAULT_FAMILY = "bert"  # of a randomly started student without a teacher
# Sizes of a randomly started student, those that a family knows: it must be told the first ones.
SIZES = ("num_layers", "hidden_size", "num_heads", "intermediate_size")
VARIANTS = ("embedding_size", "tie_embeddings", "bidirectional", "unnormalised", "residual")


def load_checkpoint(head: Head, path: str, purpose: str, seed: int = 0, pooling: str = "") -> Pretrained:
    """The checkpoint in a folder, a workdir or of a hub name, read for the head; `seed` draws what it lacks.

    Args:
      pooling: of a sentence encoder, in the place of the checkpoint's.
    """
    return pretrained.load_pretrained(
        model_folder(path, purpose),
        head=head.name,
        num_labels=head.num_labels or None,
        pooling=pooling or None,
        rng_seed=seed,
    )


def build(head: Head, sizes: TransformerConfig, dtype: str, remat: str = "none"):
    """The Linen module of a model with that head."""
    return build_model(sizes, head.name, max(head.num_labels, 1), jnp.dtype(dtype), remat)


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
        return jax.device_put(self.params, self.places(on_mesh, table))

    def places(self, on_mesh: Mesh, table: rules.Rules):
        """Where the weights lie on the devices, a tree of shardings."""
        return rules.shardings(axes_of(abstract_params(self.module), self.params), on_mesh, table)


def of_checkpoint(head: Head, source: Pretrained, dtype: str) -> Model:
    """The model of a checkpoint as it was read, whole."""
    return Model(build(head, source.config, dtype), source.params, source.config, source)


def make_teacher(config: ConfigDict, task) -> Model | None:
    """The teacher with its weights, None where no teacher.path is given.

    It must have a trained head for the task, unless a student only starts from its layers.

    Raises:
      UserError: it has none (which stage trains one), or its classes are not the task's.
    """
    path = config.teacher.path
    if not path:
        return None
    source = load_checkpoint(task.head, path, "teacher.path")
    if not source.has_head and needs_teacher(config.objective.name):
        lacks, trained_by = task.lacks_head()
        raise UserError(
            f"teacher {path} has no {lacks}; train it first: codir train --config={trained_by} "
            f"--config.student.path={path} --workdir=DIR"
        )
    if source.has_head:
        task.check_checkpoint(source, path)
    # Nothing is learned of a teacher's factors; the objectives' teachers have whole weights.
    params = methods.nested({path: weight.numbers() for path, weight in methods.weights_of(source.params).items()})
    return Model(build(task.head, source.config, config.teacher.dtype), params, source.config, source)


def check_vocabulary(tokenizer, path: str, model: Model) -> None:
    """Refuses a model that was trained with another vocabulary than the tokenizer's.

    Raises:
      UserError: with the id that is too large, or the first token that differs.
    """
    tokenizer_lib.check_ids(tokenizer, model.config.vocab_size, path)
    folder = model.source.folder
    if str(folder) == str(Path(tokenizer.name_or_path or "").expanduser()):
        return  # it is the model's own
    if not any((folder / name).exists() for name in ("tokenizer.json", "vocab.txt", "vocab.json")):
        return
    own, given = tokenizer_lib.load_tokenizer(str(folder)).get_vocab(), tokenizer.get_vocab()
    if own != given:
        word = min(own.keys() ^ given.keys() or (w for w in own if own[w] != given[w]))
        raise UserError(
            f"the tokenizer is not the one of {path}: {word!r} is {given.get(word)} here and {own.get(word)} there; "
            "leave tokenizer_path empty to take the model's own"
        )


def make_student(config: ConfigDict, head: Head, teacher: Model | None, text_tokenizer) -> Model:
    """The student with its starting weights: from the teacher's layers, a checkpoint, or random (params None)."""
    options = config.student
    if options.init == "teacher":
        ways = family(teacher.config.family).shrink
        sizes, params = ways["layers"](
            teacher.config, teacher.params, num_layers=options.num_layers, layers=options.init_layers
        )
        if narrower := {name: options[name] for name in WIDTHS if options[name]}:
            if "width" not in ways:
                raise UserError(
                    f"student.{min(narrower)}: {family(teacher.config.family).title} models are not made narrower; "
                    "leave it 0, or use student.init='random'"
                )
            sizes, params = ways["width"](sizes, params, **narrower)
        source = teacher.source
    elif options.init == "pretrained":
        source = load_checkpoint(head, options.path, "student.path", config.seed, options.pooling)
        if options.num_layers not in (0, source.config.num_layers):
            raise UserError(
                f"student.num_layers={options.num_layers}, but {options.path} has {source.config.num_layers} layers; "
                "leave it 0, or use student.init='teacher' with this model as teacher.path"
            )
        sizes, params = source.config, source.params
    else:
        sizes, params, source = random_sizes(options, teacher.config if teacher else None, text_tokenizer), None, None
    sizes = _with_dropout(sizes, options)
    return Model(build(head, sizes, options.dtype, options.remat), params, sizes, source)


def shapes_only(
    config: ConfigDict, head: Head, teacher: TransformerConfig | None, tokenizer, start: TransformerConfig | None = None
) -> tuple[Model, Model | None]:
    """(student, teacher) without weights, for a plan.

    Args:
      teacher: its sizes. tokenizer: of a student from scratch without a teacher.
      start: sizes of the checkpoint that the student starts from; None: they are read.
    """
    options = config.student
    taught = Model(build(head, teacher, config.teacher.dtype), None, teacher, None) if teacher else None
    if options.init != "pretrained":
        return make_student(config, head, taught, tokenizer), taught
    sizes = _with_dropout(start or read_sizes(options.path, "student.path"), options)
    return Model(build(head, sizes, options.dtype, options.remat), None, sizes, None), taught


def read_sizes(path: str, purpose: str) -> TransformerConfig:
    """The sizes of a name of `models.sizes.names()`, or in the config.json of a folder, a workdir or a hub name."""
    if path in sizes_lib.names() and not Path(path).is_dir():
        return sizes_lib.named(path)
    return pretrained.read_sizes(find_folder(model_folder(path, purpose)))


DROPOUT_RATES = {"hidden_dropout", "attention_dropout", "classifier_dropout"}


def _with_dropout(sizes: TransformerConfig, options: ConfigDict) -> TransformerConfig:
    if options.dropout < 0:
        return sizes
    known = {field.name for field in dataclasses.fields(sizes)}
    return dataclasses.replace(sizes, **dict.fromkeys(known & DROPOUT_RATES, options.dropout))


def random_sizes(options: ConfigDict, teacher: TransformerConfig | None, text_tokenizer) -> TransformerConfig:
    """Sizes of a randomly started student; what is 0 is as the teacher's."""
    own = family(teacher.family if teacher else options.family or DEFAULT_FAMILY)
    known = {field.name for field in dataclasses.fields(next(iter(own.sizes.values())))}
    given = {n: options[n] for n in (*SIZES, *VARIANTS) if options[n]}
    if unknown := given.keys() - known:
        raise UserError(f"student.{min(unknown)}={given[min(unknown)]!r}, but {own.title} models have no such size")
    pooling = {"pooling": options.pooling} if options.pooling else {}
    if teacher is not None:
        if options.family not in ("", teacher.family):
            raise UserError(f"student.family={options.family!r}, but it shares the tokenizer of a {teacher.family}")
        given.setdefault("num_layers", max(teacher.num_layers // 2, 1))
        given |= {"initializer_range": options.initializer_range, **pooling}
        return dataclasses.replace(teacher, **given)
    missing = [n for n in SIZES if n in known and n not in given]
    if missing:
        raise UserError(f"student.init='random' without a teacher needs {', '.join(f'student.{n}' for n in missing)}")
    return own.from_scratch(
        vocab_size=len(text_tokenizer),
        pad_token_id=int(text_tokenizer.pad_token_id),
        initializer_range=options.initializer_range,
        **given,
        **pooling,
    )
