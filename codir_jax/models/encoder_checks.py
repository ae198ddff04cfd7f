"""What the config of any encoder must fulfil."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from codir_jax.models.layers import ACTIVATIONS
from codir_jax.models.pooling import POOLINGS
from codir_jax.models.ranges import Range
from codir_jax.processes.user_error import UserError


def check(config: Any, ranges: Mapping[str, Range]) -> None:
    """Refuses sizes that no encoder has, or that do not fit each other.

    Args:
        config: a `TransformerConfig`, or one with the same names.
        ranges: what its fields may be, where they are not None.

    Raises:
        UserError: what was expected.
    """
    for name in ("hidden_act", "classifier_act", "masked_lm_act"):
        value = getattr(config, name) or config.hidden_act
        if not isinstance(value, str) or value not in ACTIVATIONS:
            raise UserError(f"{name} {value!r} is not supported; known: {', '.join(ACTIVATIONS)}")
    if config.pooling not in POOLINGS:
        raise UserError(f"pooling {config.pooling!r} is not supported; known: {', '.join(POOLINGS)}")
    if config.pooling == "pooler" and not config.has_pooler:
        others = ", ".join(repr(name) for name in POOLINGS if name != "pooler")
        raise UserError(f"pooling 'pooler' is not supported: {config.family} models have no pooler; use {others}")
    for name, known in ranges.items():
        if getattr(config, name) is not None:
            known.check(name, getattr(config, name))
    if config.pad_token_id >= config.vocab_size:
        raise UserError(f"pad_token_id {config.pad_token_id} is no word of the {config.vocab_size} of vocab_size")
    if config.hidden_size % config.num_heads:
        fits = [n for n in range(1, min(config.hidden_size, 64) + 1) if config.hidden_size % n == 0]
        raise UserError(
            f"num_heads {config.num_heads} does not divide hidden_size {config.hidden_size}; that do: {fits}"
        )
