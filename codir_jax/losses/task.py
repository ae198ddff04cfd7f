"""The supervised loss of the task, per example."""

import jax
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
