"""A family whose encoder is `transformer.Encoder`, made of what sets it apart: sizes, words of a config.json, names."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

from codir_jax.models import hf_keys, layer_selection, transformer, unit_selection, width_selection
from codir_jax.models.contract import Family
from codir_jax.models.heads import head_spec
from codir_jax.models.hf_keys import HfKey, Path
from codir_jax.models.ranges import Range
from codir_jax.models.transformer import TransformerConfig
from codir_jax.models.word_table import WORD_TABLE
from codir_jax.processes.user_error import UserError

# The encoder's weights by their path in our tree, "/" between its parts; a family names those that it has.
EMBEDDINGS = {
    "embeddings/word": hf_keys.table,
    "embeddings/position": hf_keys.table,
    "embeddings/token_type": hf_keys.table,
    "embeddings/norm": hf_keys.norm,
    "embeddings/projection": hf_keys.linear,
    "relative_bias": hf_keys.table,
    "distances": hf_keys.table,
    "distances/norm": hf_keys.norm,
}
# Those of a layer, by their path in it.
LAYER = {
    "attention/query": hf_keys.linear,
    "attention/key": hf_keys.linear,
    "attention/value": hf_keys.linear,
    "attention/output": hf_keys.linear,
    "attention_norm": hf_keys.norm,
    "mlp_in": hf_keys.linear,
    "mlp_out": hf_keys.linear,
    "mlp_norm": hf_keys.norm,
}


class Names(NamedTuple):
    """What a family calls its weights in a checkpoint.

    Attributes:
        prefix: of the encoder's names: "bert.".
        embeddings: weight of EMBEDDINGS -> its name behind the prefix.
        layers: of all layers, behind the prefix: "encoder.layer.", which a number follows.
        layer: weight of LAYER -> its name behind that number.
        heads: head -> {its weight: its name, whole}; what is not in it has our name there too.
        copies: of the masked LM's decoder, which is the word embedding: names that a checkpoint may keep it under.
        bias_copies: the same of the decoder's bias.
    """

    prefix: str
    embeddings: Mapping[str, str]
    layers: str
    layer: Mapping[str, str]
    heads: Mapping[str, Mapping[str, str]]
    copies: tuple[str, ...] = ()
    bias_copies: tuple[str, ...] = ()

    @property
    def roots(self) -> tuple[str, ...]:
        """How the encoder's names begin where the prefix is left out: "embeddings.", "encoder."."""
        return tuple(sorted({f"{name.partition('.')[0]}." for name in (*self.embeddings.values(), self.layers)}))


def encoder_family(
    *,
    title: str,
    class_prefix: str,
    base: TransformerConfig,
    sizes: Mapping[str, TransformerConfig],
    fields: Mapping[str, tuple[str, Any]],
    names: Names,
    fixed: Mapping[str, Any] | None = None,
) -> Family:
    """The family.

    Args:
        title, class_prefix, sizes: as of `contract.Family`.
        base: of every config of the family, where nothing else is said.
        fields: our field -> (key in config.json, value that transformers assumes when the key is absent).
        names: of its weights.
        fixed: field -> the one value that transformers' code has for it, whatever a config.json says.
    """

    def made(**given: Any) -> TransformerConfig:
        for name, value in (fixed or {}).items():
            if given.get(name, value) != value:
                raise UserError(f"{name} {given[name]!r} is not supported: {title} has {value!r} built in")
        if base.positions_skip_padding:
            given["position_offset"] = given["pad_token_id"] + 1
        return dataclasses.replace(base, **given)

    def from_scratch(vocab_size: int, pad_token_id: int, **of_user: Any) -> TransformerConfig:
        return made(vocab_size=vocab_size, pad_token_id=pad_token_id, **of_user)

    def keys(config: TransformerConfig, head: str) -> dict[Path, HfKey]:
        of_head = hf_keys.head_keys(head_spec(head).weights(config), names.heads.get(head, {}))
        return {**encoder_keys(config, names), **of_head}

    tied = {name: WORD_TABLE for name in names.copies} | {name: ("decoder_bias",) for name in names.bias_copies}
    return Family(
        name=base.family,
        title=title,
        sizes=sizes,
        from_scratch=from_scratch,
        read_config=lambda hf_config: made(**read_fields(hf_config, fields)),
        write_config=lambda config: write_fields(config, fields),
        keys=keys,
        prefix=names.prefix,
        roots=names.roots,
        tied={"masked_lm": tied},
        class_prefix=class_prefix,
        encoder=transformer.Encoder,
        shrink={
            "layers": layer_selection.shrink,
            "units": unit_selection.shrink,
            "width": width_selection.shrink,
        },
        flops=transformer.flops,
    )


def read_fields(hf_config: Mapping[str, Any], fields: Mapping[str, tuple[str, Any]]) -> dict[str, Any]:
    """The fields of a `TransformerConfig` in a config.json.

    Raises:
        UserError: a variant that the encoder is not: relative positions of BERT, a decoder, an unknown activation; or
            a number out of its range.
    """
    positions = hf_config.get("position_embedding_type", "absolute")
    if positions != "absolute":
        raise UserError(f"position_embedding_type {positions!r} is not supported; expected 'absolute'")
    return read_numbers(hf_config, fields, transformer.RANGES)


def read_numbers(
    hf_config: Mapping[str, Any], fields: Mapping[str, tuple[str, Any]], ranges: Mapping[str, Range]
) -> dict[str, Any]:
    """Our field -> its value in the config.json of an encoder.

    Args:
        fields: our field -> (key in config.json, value when the key is absent).
        ranges: of those fields that are numbers; where the value when absent is None, it may be None.

    Raises:
        UserError: a decoder, or a number out of its range.
    """
    if hf_config.get("is_decoder") or hf_config.get("add_cross_attention"):
        raise UserError("config.json describes a decoder (is_decoder or add_cross_attention); expected an encoder")
    values = {ours: hf_config.get(theirs, default) for ours, (theirs, default) in fields.items()}
    for name, (theirs, default) in fields.items():
        if name in ranges and not (values[name] is None and default is None):
            values[name] = ranges[name].check(theirs, values[name])
    return values


def check_fixed(hf_config: Mapping[str, Any], fixed: Mapping[str, tuple[Any, Any]], models: str) -> None:
    """Refuses another value of a key in a config.json than the one that is computed here.

    Args:
        fixed: key -> (that value, what transformers assumes when the key is absent).
        models: those that have it, in words.

    Raises:
        UserError: naming the key.
    """
    for key, (value, assumed) in fixed.items():
        if (found := hf_config.get(key, assumed)) != value:
            raise UserError(f"{key} {found!r} is not supported: {models} have {value!r}")


def write_fields(config: TransformerConfig, fields: Mapping[str, tuple[str, Any]]) -> dict[str, Any]:
    """The inverse of `read_fields`, with the model_type."""
    return {"model_type": config.family, **{theirs: getattr(config, ours) for ours, (theirs, _) in fields.items()}}


def encoder_keys(config: TransformerConfig, names: Names) -> dict[Path, HfKey]:
    """The encoder's part of a family's table."""
    found: dict[Path, HfKey] = {}
    for ours, theirs in names.embeddings.items():
        if ours != "embeddings/projection" or config.has_projection:
            found |= EMBEDDINGS[ours](("encoder", *ours.split("/")), names.prefix + theirs)
    for i in range(config.num_layers):
        layer = f"{names.prefix}{names.layers}{i}."
        for ours, theirs in names.layer.items():
            found |= LAYER[ours](("encoder", f"layer_{i}", *ours.split("/")), layer + theirs)
    return found
