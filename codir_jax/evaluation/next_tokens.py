"""What tokens cost a language model whose logits are made elsewhere, by the runtime of a format: on the host, a bounded
number of logits at a time."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

# That exist at a time, 128 MB of float32.
MAX_LOGITS = 1 << 25

# (input_ids int32 [rows, n], state, None where texts begin) -> (logits float32 [rows, n, vocab], state after them)
Step = Callable[[np.ndarray, Any], tuple[np.ndarray, Any]]


def nats(step: Step, input_ids: np.ndarray, next_ids: np.ndarray, vocab_size: int, state: Any = None):
    """(-ln P of every next token, float64 [rows, n]; the state after the last one).

    Args:
      input_ids, next_ids: int32 [rows, n]. state: before the first one.
    """
    found = np.zeros(input_ids.shape)
    for part, logits, after in each_part(step, input_ids, vocab_size, state):
        found[:, part] = -np.take_along_axis(log_shares(logits), next_ids[:, part, None], 2)[..., 0]
        state = after
    return found, state


def each_part(
    step: Step, input_ids: np.ndarray, vocab_size: int, state: Any = None
) -> Iterator[tuple[slice, np.ndarray, Any]]:
    """Yields (tokens, their logits float32 [rows, k, vocab], the state after them), at most `MAX_LOGITS` at a time."""
    size = max(MAX_LOGITS // (len(input_ids) * vocab_size), 1)
    for start in range(0, input_ids.shape[1], size):
        part = slice(start, start + size)
        logits, state = step(input_ids[:, part], state)
        yield part, logits, state


def log_shares(logits: np.ndarray) -> np.ndarray:
    """Log probabilities, of logits [..., vocab]."""
    logits = logits - logits.max(-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))
