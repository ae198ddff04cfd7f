"""A narrower model that starts from the features, heads and inner units of a wider one that weigh most.

Heads keep their size, so states of H' features have H' / head size heads. What is kept:

    features    of the states, the same everywhere: the sum over norms of scale_d^2 |rows d of the kernels behind it|^2,
                which is what feature d, of variance 1 before the scale, adds to the products
    heads       of each layer: |value kernel of the head| |its rows of the output kernel|; one choice for all layers
                where they share a bias for distances
    units       of each layer, as `unit_selection` weighs them
    pooled      what a classifier reads: |column of the pooler| |row of the classifier|

It is an ordinary model and a start only: a norm over fewer features, and sums of fewer terms, move its states.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from codir_jax.models.unit_selection import kept_units, strongest
from codir_jax.processes.user_error import UserError

WIDTHS = ("hidden_size", "num_heads", "intermediate_size")


def shrink(
    config: Any,
    params: Mapping[str, Any] | None,
    *,
    hidden_size: int = 0,
    num_heads: int = 0,
    intermediate_size: int = 0,
) -> tuple[Any, dict[str, Any] | None]:
    """(config, params) of the narrower model.

    Args:
        config: of a transformer. params: its weights, nested dict of arrays; None: only the sizes change.
        hidden_size, num_heads, intermediate_size: of the narrower model; 0: as they are, or as the other one asks.

    Raises:
        UserError: a size above the model's, or states that are not whole heads.
    """
    size = config.head_size
    hidden_size = hidden_size or (num_heads or config.num_heads) * size
    num_heads = num_heads or hidden_size // size
    if num_heads * size != hidden_size:
        raise UserError(
            f"hidden_size {hidden_size} is not {num_heads} heads of {size}: a student that starts from its teacher "
            f"keeps the size of its heads; give a multiple of {size}, or student.init='random'"
        )
    smaller = dataclasses.replace(
        config,
        hidden_size=hidden_size,
        num_heads=num_heads,
        intermediate_size=intermediate_size or config.intermediate_size,
        embedding_width=config.embedding_width and (config.embedding_width if config.has_projection else hidden_size),
    )
    for name in WIDTHS:
        if getattr(smaller, name) > getattr(config, name):
            raise UserError(f"{name} {getattr(smaller, name)} is above the {getattr(config, name)} of the teacher")
    return smaller, None if params is None else _cut(config, smaller, params)


def _cut(config: Any, smaller: Any, params: Mapping[str, Any]) -> dict[str, Any]:
    encoder = params["encoder"]
    layers = [encoder[f"layer_{i}"] for i in range(config.num_layers)]
    states = strongest(_features(config, encoder, layers), smaller.hidden_size)
    heads = [_head_weights(layer["attention"], config.num_heads) for layer in layers]
    if "relative_bias" in encoder:
        heads = [sum(heads)] * len(heads)
    chosen = [strongest(weights, smaller.num_heads) for weights in heads]
    made = {
        f"layer_{i}": _layer(layer, states, _columns(kept, config.head_size), smaller.intermediate_size)
        for i, (layer, kept) in enumerate(zip(layers, chosen, strict=True))
    }
    made["embeddings"] = _embeddings(config, encoder["embeddings"], states)
    if "relative_bias" in encoder:
        made["relative_bias"] = {"embedding": encoder["relative_bias"]["embedding"][:, chosen[0]]}
    if "distances" in encoder:
        table, norm = encoder["distances"]["embedding"], encoder["distances"]["norm"]
        made["distances"] = {"embedding": table[:, states], "norm": _vectors(norm, states)}
    return {**_head(config, params, states, smaller.hidden_size), "encoder": made}


def _features(config: Any, encoder: Mapping[str, Any], layers: list[Mapping[str, Any]]) -> np.ndarray:
    embeddings = encoder["embeddings"]
    if config.has_projection:
        square = (embeddings["projection"]["kernel"] ** 2).sum(axis=0)
    else:
        square = embeddings["norm"]["scale"] ** 2
    total = np.zeros(config.hidden_size)
    for layer in layers:
        for name in ("query", "key", "value"):
            total += square * (layer["attention"][name]["kernel"] ** 2).sum(axis=1)
        total += layer["attention_norm"]["scale"] ** 2 * (layer["mlp_in"]["kernel"] ** 2).sum(axis=1)
        square = layer["mlp_norm"]["scale"] ** 2
    return total


def _head_weights(attention: Mapping[str, Any], num_heads: int) -> np.ndarray:
    value, output = attention["value"]["kernel"], attention["output"]["kernel"]
    by_head = value.reshape(len(value), num_heads, -1), output.reshape(num_heads, -1, output.shape[1])
    return np.linalg.norm(by_head[0], axis=(0, 2)) * np.linalg.norm(by_head[1], axis=(1, 2))


def _columns(heads: np.ndarray, size: int) -> np.ndarray:
    return (heads[:, None] * size + np.arange(size)).reshape(-1)


def _layer(layer: Mapping[str, Any], states: np.ndarray, columns: np.ndarray, num_units: int) -> dict[str, Any]:
    attention = {name: _linear(layer["attention"][name], states, columns) for name in ("query", "key", "value")}
    units = kept_units(layer["mlp_in"]["kernel"], layer["mlp_out"]["kernel"], num_units)
    return {
        "attention": {**attention, "output": _linear(layer["attention"]["output"], columns, states)},
        "attention_norm": _vectors(layer["attention_norm"], states),
        "mlp_in": _linear(layer["mlp_in"], states, units),
        "mlp_out": _linear(layer["mlp_out"], units, states),
        "mlp_norm": _vectors(layer["mlp_norm"], states),
    }


def _embeddings(config: Any, embeddings: Mapping[str, Any], states: np.ndarray) -> dict[str, Any]:
    if config.has_projection:
        every = np.arange(config.word_width)
        return {**embeddings, "projection": _linear(embeddings["projection"], every, states)}
    tables = {name: {"embedding": of["embedding"][:, states]} for name, of in embeddings.items() if name != "norm"}
    return {**tables, "norm": _vectors(embeddings["norm"], states)}


def _head(config: Any, params: Mapping[str, Any], states: np.ndarray, num_pooled: int) -> dict[str, Any]:
    made = {name: value for name, value in params.items() if name != "encoder"}
    if "pooler" in made:
        pooled = states
        if "classifier" in made:
            pooled = kept_units(made["pooler"]["kernel"], made["classifier"]["kernel"], num_pooled)
            made["classifier"] = {**made["classifier"], "kernel": made["classifier"]["kernel"][pooled]}
        made["pooler"] = _linear(made["pooler"], states, pooled)
    if "transform" in made:  # its result meets the word table
        words = np.arange(config.word_width) if config.has_projection else states
        made["transform"] = _linear(made["transform"], states, words)
        made["transform_norm"] = _vectors(made["transform_norm"], words)
    return made


def _linear(layer: Mapping[str, Any], rows: np.ndarray, columns: np.ndarray) -> dict[str, Any]:
    return {"kernel": layer["kernel"][np.ix_(rows, columns)], "bias": layer["bias"][columns]}


def _vectors(norm: Mapping[str, Any], kept: np.ndarray) -> dict[str, Any]:
    return {name: vector[kept] for name, vector in norm.items()}
