"""The supervised loss of the task, per example."""

import jax
import jax.numpy as jnp
import optax


def task_loss(logits: jax.Array, labels: jax.Array, is_regression: bool) -> jax.Array:
    """Cross entropy, or the squared error of a regression, per example.

    Args:
      logits: float32 [batch, classes]; [batch, 1] for a regression.
      labels: int32 [batch], or float32 [batch] for a regression.
      is_regression: which of the two.

    Returns:
      float32 [batch]. Logits are squeezed before the difference is taken, so that [batch] never meets [batch, 1].
    """
    if is_regression:
        return (logits[:, 0] - labels) ** 2
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels)


def several_labels_loss(logits: jax.Array, labels: jax.Array, positive_weights: jax.Array | float = 1.0) -> jax.Array:
    """Binary cross entropy of each class, mean over the classes, per example: torch's BCEWithLogitsLoss.

        -1/C sum_c (w_c y_c ln p_c + (1 - y_c) ln (1 - p_c)),   p = sigmoid(z)

    Args:
      logits: float32 [batch, classes].
      labels: float32 [batch, classes], 1 where a text has the class, else 0.
      positive_weights: w, float32 [classes], torch's pos_weight.

    Returns:
      float32 [batch].
    """
    log_p, log_not_p = jax.nn.log_sigmoid(logits), jax.nn.log_sigmoid(-logits)
    return -jnp.mean(positive_weights * labels * log_p + (1 - labels) * log_not_p, axis=-1)
