"""LSTM language models: their config.json, the names of their weights, named sizes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from codir_jax.models import layer_selection
from codir_jax.models.contract import Family
from codir_jax.models.hf_keys import HfKey, Path
from codir_jax.models.recurrent_encoder import RANGES, BothDirections, Encoder, LSTMConfig
from codir_jax.processes.user_error import UserError


def build_encoder(config: LSTMConfig, dtype: Any, remat: str) -> Encoder:
    """The encoder of a config; its layers are recomputed nowhere."""
    if remat != "none":
        raise UserError(f"student.remat={remat!r} is of transformers; an LSTM has 'none', and shorter windows")
    if config.bidirectional:
        return BothDirections(config, dtype)
    return Encoder(config, dtype)


def from_scratch(vocab_size: int, pad_token_id: int, **sizes: Any) -> LSTMConfig:
    """The config of a randomly started model."""
    return LSTMConfig(vocab_size, pad_token_id, **sizes)


def read_config(told: Mapping[str, Any]) -> LSTMConfig:
    """The configuration in a `config.json` of model_type "lstm".

    Raises:
        UserError: a size is missing or no number.
    """
    fields = {field.name: field for field in dataclasses.fields(LSTMConfig) if field.name != "family"}
    values = {}
    for name, field in fields.items():
        if name not in told:
            if field.default is dataclasses.MISSING:
                raise UserError(f"an LSTM needs {name!r}, which is not there")
            continue
        if name in RANGES:
            values[name] = RANGES[name].check(name, told[name])
        elif isinstance(told[name], bool):
            values[name] = told[name]
        else:
            raise UserError(f"{name}: expected true or false, got {told[name]!r}")
    return LSTMConfig(**values)


def write_config(config: LSTMConfig) -> dict[str, Any]:
    """The architecture's part of a `config.json`."""
    fields = dataclasses.asdict(config)
    return {"model_type": fields.pop("family"), **fields}


def keys(config: LSTMConfig, head: str) -> dict[Path, HfKey]:
    """For every weight by its path in our tree its name in the file: those of torch.nn.LSTM, with one bias."""
    del head
    found = {("encoder", "embedding"): HfKey("embedding.weight", False)}
    stacks = (("layer", "lstm"), ("backward_layer", "backward_lstm"))
    for layer, stack in stacks if config.bidirectional else stacks[:1]:
        for i in range(config.num_layers):
            for ours, theirs in (("input_kernel", "weight_ih"), ("recurrent_kernel", "weight_hh")):
                found["encoder", f"{layer}_{i}", ours] = HfKey(f"{stack}.{theirs}_l{i}", True)
            found["encoder", f"{layer}_{i}", "bias"] = HfKey(f"{stack}.bias_ih_l{i}", False)
    if config.bidirectional:
        for side in ("left", "right"):
            found["encoder", f"{side}_kernel"] = HfKey(f"{side}.weight", True)
    if not config.tie_embeddings:
        found[("output_embedding",)] = HfKey("output.weight", False)
    return {**found, ("output_bias",): HfKey("output.bias", False)}


def flops(config: LSTMConfig, seq_len: int) -> float:
    """Operations of `seq_len` tokens through the layers, a multiply-add counts 2: 8 H (in + H) a token and layer.

    A second direction doubles them, and mixing both takes 4 H E.
    """
    hidden = config.hidden_size
    in_sizes = config.input_size + (config.num_layers - 1) * hidden
    one = 8.0 * seq_len * hidden * (in_sizes + config.num_layers * hidden)
    return 2 * one + 4.0 * seq_len * hidden * config.decoder_size if config.bidirectional else one


# Zaremba et al., Table 1, with the vocabulary of the Penn Treebank.
SIZES = {
    "lstm-small": LSTMConfig(10_000, 0),
    "lstm-medium": LSTMConfig(10_000, 0, hidden_size=650, hidden_dropout=0.5, initializer_range=0.05),
    "lstm-large": LSTMConfig(10_000, 0, hidden_size=1500, hidden_dropout=0.65, initializer_range=0.04),
}

FAMILY = Family(
    name="lstm",
    title="long short-term memory (LSTM)",
    sizes=SIZES,
    from_scratch=from_scratch,
    read_config=read_config,
    write_config=write_config,
    keys=keys,
    prefix="",
    tied={},
    class_prefix="LSTM",
    encoder=build_encoder,
    shrink={"layers": layer_selection.shrink},
    flops=flops,
    heads=("language_model", "sentence_score"),
)
