"""What a model family and a head state about themselves; a family is found by its name.

A family is one file, `models/NAME.py`, that defines `FAMILY`. NAME is the `model_type` of its checkpoints, with "_" for
"-". No list names the files: what lies in this folder is known.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from codir_jax.models import layer_selection
from codir_jax.models.hf_keys import HfKey, Path
from codir_jax.processes.user_error import UserError

# `max_length` of a family that reads texts of any length.
NO_LIMIT = 1 << 30


class Family(NamedTuple):
    """A model family.

    Its config is a frozen dataclass. Other modules read these fields of it: `family` (the name), `vocab_size`,
    `hidden_size`, `num_layers`, `pad_token_id`, `max_length` (longest input in tokens, or NO_LIMIT),
    `initializer_range` and `in_words` ("12 layers, ...", for a model card).

    Attributes:
        name: `model_type` in a config.json.
        title: as people write it: "BERT".
        sizes: named config -> config, so that it can be measured and planned without its weights.
        from_scratch: (vocab_size, pad_token_id, **sizes) -> config of a randomly started model; `sizes` are fields.
        read_config: content of a config.json -> config; UserError for a variant that the encoder is not.
        write_config: config -> the architecture's part of a config.json, `model_type` included.
        keys: (config, head) -> for every weight of `build_model(config, head)` its place in a checkpoint.
        prefix: of the encoder's names there, which a checkpoint without a head leaves out: "bert.".
        roots: how the encoder's names begin where the prefix is left out, but for a pooler's: "embeddings.".
        tied: head -> {name: path}: where a checkpoint may keep a second copy of the weight at `path`, which is one
            weight here.
        class_prefix: of a class name in `architectures`: "Bert" of "BertForMaskedLM".
        encoder: (config, dtype, remat) -> Linen module, called as `transformer.Encoder` is. One that reads a stream
            takes a `carry` beside it and returns one, see `recurrent_encoder.Encoder`.
        shrink: name of a way -> (config, params, **options) -> (smaller config, its first params). With params None
            only the sizes change. "layers" is `layer_selection.shrink`, "units" `unit_selection.shrink`, "width"
            `width_selection.shrink`.
        start_layers: (rule, config, number of layers) -> the layers that a student of `shrink["layers"]` starts from,
            counted from 1; UserError where it cannot. As `layer_selection.select`, unless layers are of several kinds.
        flops: (config, seq_len) -> operations of one text through the encoder; None: not modelled.
        heads: of `heads.HEADS`, those that the encoder serves; () is all.
        moved: content of a config.json -> {how names begin in its checkpoint: how they begin in `keys`}.
    """

    name: str
    title: str
    sizes: Mapping[str, Any]
    from_scratch: Callable[..., Any]
    read_config: Callable[[Mapping[str, Any]], Any]
    write_config: Callable[[Any], dict[str, Any]]
    keys: Callable[[Any, str], dict[Path, HfKey]]
    prefix: str
    tied: Mapping[str, Mapping[str, Path]]
    class_prefix: str
    encoder: Callable[[Any, Any, str], Any]
    shrink: Mapping[str, Callable[..., tuple[Any, dict | None]]]
    start_layers: Callable[[str, Any, int], tuple[int, ...]] = layer_selection.select
    flops: Callable[[Any, int], float] | None = None
    heads: tuple[str, ...] = ()
    roots: tuple[str, ...] = ()
    moved: Callable[[Mapping[str, Any]], Mapping[str, str]] = lambda hf_config: {}


class Card(NamedTuple):
    """What the model card of an exported model says about its head.

    Attributes:
        pipeline_tag: of the Hugging Face hub.
        does: (label names or None, is it a regression, has a text any number of labels, is it for pairs of texts or
            None) -> what the model does, after "This BERT encoder ...".
        library: of the hub's list, that serves it.
        auto_class: of transformers, that loads it.
        usage: lines of Python that use the folder with `library`.
        in_jax: the same with `codir_jax.load`; () where that makes no function of it.
        pair_usage, pair_in_jax: both, of a model of pairs of texts.
    """

    pipeline_tag: str
    does: Callable[[Sequence[str] | None, bool, bool, bool | None], str]
    library: str
    auto_class: str
    usage: Sequence[str]
    in_jax: Sequence[str]
    pair_usage: Sequence[str] = ()
    pair_in_jax: Sequence[str] = ()


class HeadSpec(NamedTuple):
    """A head on an encoder.

    Attributes:
        build: (config, num_labels, dtype, remat) -> Linen module.
        weights: config -> its own weights: name in our tree -> a kind of `hf_keys.head_keys`.
        labels: path of the weight that has one entry for each label; None for a head without labels.
        architecture: end of the class name of a checkpoint with this head: "ForMaskedLM"; "Model" is an encoder alone,
            whose names lack the family's prefix.
        answer: what a served model gives, a field of the module's output.
        counts: what its operations grow with, a field of `evaluation.cost.Outputs`: "num_labels", "num_predictions";
            "" where they are the same for all.
        flops: (config, that number) -> operations of the head for one text.
        card: for an exported model.
        is_served: the head is what a model is used for, not only what it learned from: its cost counts.
    """

    build: Callable[[Any, int, Any, str], Any]
    weights: Callable[[Any], Mapping[str, str]]
    labels: Path | None
    architecture: str
    answer: str
    counts: str
    flops: Callable[[Any, int], float]
    card: Card
    is_served: bool = True

    @property
    def is_base(self) -> bool:
        """Whether a checkpoint with this head is an encoder alone."""
        return self.architecture == "Model"


def family(name: str) -> Family:
    """The family of that `model_type`.

    Raises:
        UserError: no file of this folder has it; the message lists those that are known.
    """
    found = _of_file(str(name).replace("-", "_"))
    if found is None or found.name != name:
        raise UserError(f"model family {name!r} is not supported; known: {', '.join(families())}")
    return found


def families() -> dict[str, Family]:
    """Every family of this folder by its name, in the order of their files."""
    folders = sys.modules[__package__].__path__
    found = [_of_file(module.name) for module in pkgutil.iter_modules(folders)]
    return {one.name: one for one in found if one is not None}


def _of_file(stem: str) -> Family | None:
    module = f"{__package__}.{stem}"
    # The name may come from somebody's config.json: a dot in it would lead out of this folder.
    if not stem.isidentifier() or importlib.util.find_spec(module) is None:
        return None
    return getattr(importlib.import_module(module), "FAMILY", None)
