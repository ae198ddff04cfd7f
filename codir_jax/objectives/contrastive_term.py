"""The contrastive term of CoDIR: projections, candidates from batch, bank and queue, both anchors, new state."""

import jax
import jax.numpy as jnp

from codir_jax.losses import contrastive, nce
from codir_jax.negatives import in_batch, memory_bank
from codir_jax.objectives.contract import masked_sum

SIDES = ("student", "teacher")


def project(projection, pooled: jax.Array, config) -> jax.Array:
    """Unit features, float32 [batch, groups, projection_dim]; one group for "concat", one a layer for "per_layer".

    Args:
      projection: {"kernel" [groups, in, projection_dim], "bias" [groups, projection_dim]}.
      pooled: float32 [batch, matches, width].
    """
    if config.standardize_layers:
        centred = pooled - pooled.mean(-1, keepdims=True)
        pooled = centred * jax.lax.rsqrt(jnp.mean(centred**2, -1, keepdims=True) + 1e-6)
    if config.layer_aggregation == "concat":
        pooled = pooled.reshape(pooled.shape[0], 1, -1)
    projected = jnp.einsum("bgi,gid->bgd", pooled, projection["kernel"]) + projection["bias"]
    # 1e-12 under the root: a zero vector gets a zero, not a NaN, gradient; invisible in float32 otherwise.
    return projected * jax.lax.rsqrt(jnp.sum(projected**2, -1, keepdims=True) + 1e-12)


def init_projection(rng: jax.Array, config, num_matches: int, width: int):
    """A linear map per group, uniform(-1/sqrt(in), 1/sqrt(in)) as torch.nn.Linear starts in the released code."""
    concat = config.layer_aggregation == "concat"
    groups, size = (1, num_matches * width) if concat else (num_matches, width)
    kernel_rng, bias_rng = jax.random.split(rng)
    bound, dim = size**-0.5, config.projection_dim
    return {
        "kernel": jax.random.uniform(kernel_rng, (groups, size, dim), minval=-bound, maxval=bound),
        "bias": jax.random.uniform(bias_rng, (groups, dim), minval=-bound, maxval=bound),
    }


def init_state(rng: jax.Array, config, num_train: int, groups: int):
    """Banks [groups, num_train, dim] of both sides, queue and normalisers, as far as the config uses them."""
    state = {}
    if "bank" in config.negatives.source:
        rngs = jax.random.split(rng, (2, groups))
        make_bank = jax.vmap(lambda r: memory_bank.init_bank(r, num_train, config.projection_dim))
        state["bank"] = {side: make_bank(rngs[i]) for i, side in enumerate(SIDES)}
        state["bank_visited"] = jnp.zeros((num_train,), bool)
    if "queue" in config.negatives.source:
        # One row holds student and teacher features of an example, all groups side by side.
        state["queue"] = memory_bank.init_queue(config.negatives.queue_size, 2 * groups * config.projection_dim)
    if config.contrastive_loss == "nce":
        state["log_normaliser"] = {side: jnp.full((groups,), -jnp.inf) for side in SIDES}
    return state


def contrastive_term(config, features, state, frozen, batch, negative_ids):
    """The contrastive loss of each example and the state after the batch.

    Args:
      config: of `objectives.codir.default_config()`.
      features: {"student", "teacher": unit float32 [batch, groups, dim]}.
      state: as from `init_state`; other entries pass through.
      frozen: {"classes" int32 [num_train + 1], -1 = unlabelled; "text_ids" int32 [num_train]}.
      batch: of `data.batch`.
      negative_ids: int32 [batch, K] bank rows; None without a bank.

    Returns:
      (loss float32 [batch], new state, metrics).
    """
    cosines, mask = _candidates(config, features, state, frozen, batch, negative_ids)
    live = jnp.einsum("bgd,bgd->bg", features["student"], features["teacher"])
    positives = dict.fromkeys(SIDES, live) if config.positive == "live" else _stale_positives(features, state, batch)
    new_state = dict(state)
    if config.contrastive_loss == "nce":
        num_train, real = state["bank"]["student"].shape[1], batch["example_mask"] > 0
        counted = jnp.concatenate([real[:, None], mask], axis=1)
        scores = {
            s: jnp.concatenate([positives[s][..., None], cosines[s]], 2) / config.contrastive_temperature for s in SIDES
        }
        new_state["log_normaliser"] = _normalisers(config, scores, counted, state["log_normaliser"], num_train)
        num_negatives = config.negatives.num_negatives
        per_group = jax.vmap(
            lambda x, log_z: nce.nce(x, log_z, num_train, num_negatives, mask), in_axes=(1, 0), out_axes=1
        )
        per_side = {s: per_group(scores[s], new_state["log_normaliser"][s]).mean(1) for s in SIDES}
    else:
        per_group = jax.vmap(contrastive.info_nce, in_axes=(1, 1, None, None), out_axes=1)
        per_side = {s: per_group(positives[s], cosines[s], mask, config.contrastive_temperature).mean(1) for s in SIDES}
    anchors = SIDES if config.anchors == "both" else (config.anchors,)
    losses = sum(per_side[side] for side in anchors) / len(anchors)

    _store(config, features, new_state, frozen, batch)
    return losses, new_state, _metrics(losses, live, cosines["student"], mask, features, batch)


def _candidates(config, features, state, frozen, batch, negative_ids):
    """Every negative of every anchor: ({side: cosines [batch, groups, K]}, usable bool [batch, K]).

    The student anchor meets teacher rows, the teacher anchor student rows. In-batch negatives span the global batch:
    under jit the product of two sharded features makes XLA gather one of them from all devices.
    """
    options = config.negatives
    per_anchor = jax.vmap(memory_bank.row_scores, in_axes=(1, 2), out_axes=1)  # [B, G, D] x [B, K, G, D]
    shared = jax.vmap(in_batch.score_matrix, in_axes=1, out_axes=1)  # [B, G, D] x [Q, G, D]
    false_negatives = {"mask_same_label": options.mask_same_label, "mask_same_text": options.mask_same_text}
    anchor_classes, text_ids = frozen["classes"][batch["example_ids"]], batch["text_ids"]
    found = []  # (student-side rows, teacher-side rows, score function, usable)
    if "in_batch" in options.source:
        is_real, is_labelled = batch["example_mask"], anchor_classes >= 0
        usable = in_batch.false_negative_mask(anchor_classes, text_ids, is_real, is_labelled, **false_negatives)
        found.append((features["student"], features["teacher"], shared, usable))
    if "bank" in options.source:
        rows = [jnp.moveaxis(state["bank"][side][:, negative_ids], 0, 2) for side in SIDES]
        is_valid = negative_ids != batch["example_ids"][:, None]
        if options.mask_unvisited:
            is_valid &= state["bank_visited"][negative_ids]
        keys = frozen["classes"][negative_ids], frozen["text_ids"][negative_ids]
        usable = in_batch.usable_negatives(anchor_classes, text_ids, *keys, is_valid, **false_negatives)
        found.append((*rows, per_anchor, usable))
    if "queue" in options.source:
        queue = state["queue"]
        rows = queue["rows"].reshape(-1, 2, *features["student"].shape[1:])
        keys = queue["labels"], queue["text_ids"], queue["is_valid"]
        usable = in_batch.usable_negatives(anchor_classes, text_ids, *keys, **false_negatives)
        found.append((rows[:, 0], rows[:, 1], shared, usable))
    cosines = {
        "student": jnp.concatenate([score(features["student"], rows) for _, rows, score, _ in found], axis=2),
        "teacher": jnp.concatenate([score(features["teacher"], rows) for rows, _, score, _ in found], axis=2),
    }
    mask = jnp.concatenate([usable for *_, usable in found], axis=1)
    return cosines, mask & (batch["example_mask"] > 0)[:, None]


def _stale_positives(features, state, batch):
    """{side: cosine with the example's own bank row of the other side, float32 [batch, groups]} (released code)."""
    rows = {
        s: jax.vmap(memory_bank.lookup, in_axes=(0, None), out_axes=1)(state["bank"][s], batch["example_ids"])
        for s in SIDES
    }
    return {
        "student": jnp.einsum("bgd,bgd->bg", features["student"], rows["teacher"]),
        "teacher": jnp.einsum("bgd,bgd->bg", features["teacher"], rows["student"]),
    }


def _normalisers(config, scores, counted, previous, num_train):
    """{side: ln Z, float32 [groups]}: fixed by the first batch (released), or a moving average."""
    momentum = 1.0 if config.normaliser == "first_batch" else config.normaliser_decay
    estimate = jax.vmap(lambda x: nce.log_normaliser_estimate(x, num_train, counted), in_axes=1)
    return {s: nce.next_log_normaliser(previous[s], estimate(scores[s]), momentum) for s in SIDES}


def _store(config, features, new_state, frozen, batch) -> None:
    """Writes the batch's features, as constants, into the bank and the queue of `new_state`."""
    features, ids = jax.lax.stop_gradient(features), batch["example_ids"]
    if "bank" in new_state:
        update = jax.vmap(memory_bank.update, in_axes=(0, None, 1, None))
        momentum = config.negatives.momentum
        new_state["bank"] = {s: update(new_state["bank"][s], ids, features[s], momentum) for s in SIDES}
        new_state["bank_visited"] = new_state["bank_visited"].at[ids].set(True, mode="drop")
    if "queue" in new_state:
        rows = jnp.stack([features[s] for s in SIDES], axis=1).reshape(ids.shape[0], -1)
        classes = frozen["classes"][ids]
        new_state["queue"] = memory_bank.push(
            new_state["queue"], rows, classes, batch["text_ids"], batch["example_mask"]
        )


def _metrics(losses, live, student_cosines, mask, features, batch):
    """Loss, effective negatives, how often the own teacher view ranks first, alignment, uniformity."""
    real = batch["example_mask"]
    first = jax.vmap(contrastive.ranks_first, in_axes=(1, 1, None), out_axes=1)(live, student_cosines, mask)
    uniformity = jax.vmap(contrastive.uniformity, in_axes=(1, None))(features["student"], real).mean()
    align = jax.vmap(contrastive.alignment, in_axes=1, out_axes=1)(features["student"], features["teacher"])
    return jax.lax.stop_gradient(
        {
            "contrastive_loss": masked_sum(losses, real),
            "num_negatives": masked_sum(mask.sum(1), real),
            "retrieval_rate": masked_sum(first.mean(1), real * mask.any(1)),
            "alignment": masked_sum(align.mean(1), real),
            "uniformity": (uniformity, jnp.ones(())),
        }
    )
