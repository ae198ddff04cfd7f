"""Negatives from the batch itself: all pairwise scores, and which of them count.

Under one jit with the batch sharded over the mesh, [B, D] is the whole global batch, so the [B, B] scores
span all devices, and loss and gradient are those of one device. Never call these per device (shard_map,
pmap): the loss would silently be a different and easier one.
"""

import jax
import jax.numpy as jnp


def score_matrix(anchor: jax.Array, keys: jax.Array) -> jax.Array:
    """Inner product of every anchor with every key; cosine for unit rows. Own pairs lie on the diagonal.

    Args:
        anchor: float [B, D].
        keys: float [Q, D]; Q = B for the other view of the same batch, or the rows of a queue.

    Returns:
        float32 [B, Q], in full float32: accelerators' default (TF32, bfloat16) errs by 1e-3, times 1/tau.
    """
    anchor, keys = jnp.asarray(anchor, jnp.float32), jnp.asarray(keys, jnp.float32)
    # Both contracted where they lie: `keys.T` would be written out, and costs as much as the product.
    return jax.lax.dot_general(anchor, keys, (((1,), (1,)), ((), ())), precision=jax.lax.Precision.HIGHEST)


def usable_negatives(
    anchor_labels: jax.Array,
    anchor_text_ids: jax.Array,
    key_labels: jax.Array,
    key_text_ids: jax.Array,
    is_valid: jax.Array,
    *,
    mask_same_label: bool,
    mask_same_text: bool,
    label_sets: jax.Array | None = None,
) -> jax.Array:
    """True where a key is not a false negative of the anchor. For batch, queue and sampled bank rows alike.

    Args:
        anchor_labels: int32 [B]; -1 = unlabelled.
        anchor_text_ids: int32 [B].
        key_labels: int32 [Q] (the same keys for all anchors) or [B, K] (their own); -1 = unlabelled.
        key_text_ids: int32 [Q] or [B, K].
        is_valid: bool [Q] or [B, K], False for keys that are padding or not filled yet.
        mask_same_label: drop keys of the anchor's class; only if both labels are known.
        mask_same_text: drop keys with the anchor's text (duplicates, and the example itself).
        label_sets: int32 [S, W] of `sampling.label_sets`, where a label is the number of a set of classes: then two
            with a class in common are as one label.

    Returns:
        bool [B, Q] or [B, K].
    """
    shape = jnp.broadcast_shapes((*jnp.shape(anchor_labels), 1), jnp.shape(key_labels))
    usable = jnp.broadcast_to(is_valid, shape)
    if mask_same_text:
        usable &= anchor_text_ids[:, None] != key_text_ids
    if mask_same_label:
        is_same = anchor_labels[:, None] == key_labels
        if label_sets is not None:
            is_same = _have_common(label_sets, anchor_labels, key_labels)
        usable &= ~is_same | (anchor_labels[:, None] < 0)
    return usable


def false_negative_mask(
    labels: jax.Array,
    text_ids: jax.Array,
    example_mask: jax.Array,
    label_mask: jax.Array,
    *,
    mask_same_label: bool,
    mask_same_text: bool,
    label_sets: jax.Array | None = None,
) -> jax.Array:
    """True at [i, j] where batch row j may serve as a negative of row i.

    Never the diagonal; never a padded row, as anchor or as key.

    Args:
        labels: int32 [B]; read only where label_mask is 1. Regression: pass bins, or mask_same_label=False.
        text_ids: int32 [B], equal for equal texts.
        example_mask: float32 or bool [B], nonzero where the row is real.
        label_mask: float32 or bool [B], nonzero where the row is labelled.
        mask_same_label: drop rows of the same class; only if both are labelled.
        mask_same_text: drop rows with the same text.
        label_sets: as of `usable_negatives`.

    Returns:
        bool [B, B].
    """
    is_real = jnp.asarray(example_mask, bool)
    known_labels = jnp.where(jnp.asarray(label_mask, bool), labels, -1)
    usable = usable_negatives(
        known_labels,
        text_ids,
        known_labels,
        text_ids,
        is_real,
        mask_same_label=mask_same_label,
        mask_same_text=mask_same_text,
        label_sets=label_sets,
    )
    return usable & is_real[:, None] & ~jnp.eye(usable.shape[0], dtype=bool)


def _have_common(label_sets: jax.Array, anchor_labels: jax.Array, key_labels: jax.Array) -> jax.Array:
    """Whether two sets have a class in common: bool [B, Q] or [B, K]; an unknown one (-1) has none with any."""

    def words(labels):
        return jnp.where(labels[..., None] < 0, 0, label_sets[jnp.maximum(labels, 0)])

    return jnp.any(words(anchor_labels)[:, None] & words(key_labels) != 0, axis=-1)
