"""A model on a batch: the call that training, evaluation and the cache share."""

import jax
import jax.numpy as jnp

from codir_jax.models.attention import PROJECTIONS, SCORES


def apply_model(model, params, batch, rng: jax.Array | None = None, **more):
    """The model's output on a batch; dropout is on exactly where an rng is given.

    Word embeddings that were looked up before are taken from `batch["words"]`.

    Args:
      model: Linen module of `models.heads`.
      params: its weights.
      batch: of `data.batch`; only the three inputs, and "words", are read.
      rng: of dropout.
      more: arguments of the module's method; `method` names another one than `__call__`.
    """
    inputs = (batch["input_ids"], batch["attention_mask"], batch["token_type_ids"])
    if "words" in batch:
        more = {"words": batch["words"], **more}
    rngs = {} if rng is None else {"dropout": rng}
    return model.apply({"params": params}, *inputs, **more, deterministic=rng is None, rngs=rngs)


def apply_with_scores(model, params, batch, rng: jax.Array | None = None):
    """(output, raw attention scores) of a model whose layers are not recomputed; arguments as of `apply_model`.

    The scores are a tuple, a layer each, of float32 [batch, heads, queries, keys]: before mask, softmax and dropout.
    """
    output, kept = apply_model(model, params, batch, rng, mutable=[SCORES])
    layers = kept[SCORES]["encoder"]
    return output, tuple(layers[f"layer_{i}"]["attention"]["scores"][0] for i in range(len(layers)))


def projections_of(kept, layer: int) -> dict[str, jax.Array]:
    """Queries, keys and values of a layer, 1-based, by name: float [batch, tokens, heads * head size].

    Args:
      kept: what a model whose layers are not recomputed gives beside its output with `mutable=[PROJECTIONS]`.
    """
    (found,) = kept[PROJECTIONS]["encoder"][f"layer_{layer - 1}"]["attention"]["vectors"]
    # Inside [batch, heads, tokens, head size].
    return {name: jnp.moveaxis(x, 1, 2).reshape(x.shape[0], x.shape[2], -1) for name, x in found.items()}
