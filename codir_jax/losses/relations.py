"""How far the tokens of a text relate to each other as they do in the teacher: MiniLMv2's self-attention relations."""

import jax
import jax.numpy as jnp


def relation_distance(student: jax.Array, teacher: jax.Array, attention_mask: jax.Array, num_heads: int) -> jax.Array:
    """Divergence of the relations of one kind of vectors (queries, keys or values), mean over heads and real tokens.

        1/(A n) sum_a sum_i KL( softmax_j(t_ai t_aj / sqrt(d_T)) || softmax_j(s_ai s_aj / sqrt(d_S)) )

    over the real tokens j. The vectors of all attention heads are joined and cut anew into A relation heads, of d
    features each, so that the two sides may differ in width and in attention heads. Reference: Wang et al., "MiniLMv2",
    Findings of ACL 2021, equations 4 to 6.

    Args:
        student: float [B, L, H]. teacher: float [B, L, H']; no gradient flows into it.
        attention_mask: int [B, L], 1 on real tokens.
        num_heads: A, divides H and H'.

    Returns:
        float32 [B], >= 0; 0 for a text without tokens.
    """
    is_real = attention_mask > 0
    ours = _log_relations(student, is_real, num_heads)
    theirs = jax.lax.stop_gradient(_log_relations(teacher, is_real, num_heads))
    both = is_real[:, None, :, None] & is_real[:, None, None, :]
    divergence = jnp.where(both, jnp.exp(theirs) * (theirs - ours), 0.0).sum((-1, -2)).mean(-1)
    return divergence / jnp.maximum(is_real.sum(-1), 1)


def _log_relations(x: jax.Array, is_real: jax.Array, num_heads: int) -> jax.Array:
    """Float32 [B, A, L, L], log of the relations; finite where masked."""
    batch, length, width = x.shape
    heads = x.astype(jnp.float32).reshape(batch, length, num_heads, width // num_heads)
    scores = jnp.einsum("blad,bmad->balm", heads, heads) / jnp.sqrt(width / num_heads)
    return jax.nn.log_softmax(jnp.where(is_real[:, None, None, :], scores, -1e9))
