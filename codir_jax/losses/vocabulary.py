"""Losses over the whole vocabulary at masked positions, a part of the vocabulary at a time.

The logits of 20,000 positions over 50,000 words are 4 GB, of student and teacher 8, kept for the backward pass. Here
they live a chunk of columns at a time: the forward pass keeps running maxima and sums (online log-sum-exp, Milakov &
Gimelshein, arXiv 1805.02867), the backward pass makes each chunk of logits once more. That is a custom gradient rather
than a checkpointed scan: the derivative of the finished sums is shorter than that of every running one, and the table's
gradient is written in place, chunk by chunk.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from codir_jax.linalg.logits import scores, states_gradient, table_gradient


class Decoder(NamedTuple):
    """Logits of one model, not yet computed: states table^T + bias.

    Attributes:
      states: float [..., H]; their dtype is that of the products.
      table: float32 [V, H], the (tied) word embedding. bias: float32 [V].
    """

    states: jax.Array
    table: jax.Array
    bias: jax.Array


class VocabularyTerms(NamedTuple):
    """What each position gives, float32 [...]; the last two are None without a teacher.

    Attributes:
      cross_entropy: of the label, nats.
      is_correct: 1 where the label is the student's first choice (of equal ones the smallest id).
      soft_target: T^2 KL(teacher || student), as `distillation.soft_target_loss`.
      agrees: 1 where student and teacher have the same first choice.
    """

    cross_entropy: jax.Array
    is_correct: jax.Array
    soft_target: jax.Array | None
    agrees: jax.Array | None


def vocabulary_terms(
    student: Decoder,
    labels: jax.Array,
    teacher: Decoder | None = None,
    *,
    temperature: float = 1.0,
    chunk_size: int = 0,
) -> VocabularyTerms:
    """Cross entropy and soft targets over the vocabulary, with exact gradients to all of `student`, none to `teacher`.

    Args:
      student: rows split over a mesh stay where they are, and so does a split vocabulary.
      labels: int32 [...].
      teacher: of the same vocabulary; its width may differ.
      temperature: T > 0 of the soft targets; the cross entropy has none.
      chunk_size: columns of the vocabulary at a time, at most; 0: all of them.

    Raises:
      ValueError: two vocabularies, or a table of another width than its states.
    """
    sides = {"student": student, **({} if teacher is None else {"teacher": teacher})}
    for name, side in sides.items():
        expected = (student.bias.shape[0], side.states.shape[-1])
        if side.table.shape != expected or side.bias.shape != expected[:1]:
            raise ValueError(
                f"{name}: expected a table of (vocabulary of the student, width of the states) = {expected}, got "
                f"{side.table.shape} and a bias of {side.bias.shape}; teacher and student must share one vocabulary"
            )
    return _terms(student, labels, teacher, float(temperature), num_chunks(student.bias.shape[0], chunk_size))


def num_chunks(vocab_size: int, chunk_size: int) -> int:
    """Parts of the vocabulary of at most `chunk_size` columns; rather a few more that divide it, as else it is padded.

    30522 in chunks of 10240 makes 3, 50265 makes 5.
    """
    if not 0 < chunk_size < vocab_size:
        return 1
    least = -(-vocab_size // chunk_size)
    return next((num for num in range(least, 2 * least) if vocab_size % num == 0), least)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def _terms(student, labels, teacher, temperature, num):
    return _forward(student, labels, teacher, temperature, num)[0]


def _forward(student, labels, teacher, temperature, num):
    """(terms, what the backward pass needs)."""
    own, theirs = _chunks(student, num), _chunks(teacher, num)
    zero = jnp.zeros(labels.shape, jnp.float32)
    start = {"top": zero - jnp.inf, "first": jnp.zeros(labels.shape, jnp.int32), "sum": zero, "soft_sum": zero}
    carry = {"student": {**start, "label": zero}}
    if teacher is not None:
        carry["teacher"] = {**start, "gap": zero}

    def add(index, carry):
        columns = _columns(own, index, num)
        logits = own.logits(index)
        found, is_label = _advance(carry["student"], logits, columns, temperature), columns == labels[..., None]
        found["label"] = carry["student"]["label"] + jnp.sum(jnp.where(is_label, logits, 0.0), -1)
        if teacher is None:
            return {"student": found}
        targets, old = theirs.logits(index), carry["teacher"]
        towards = _advance(old, targets, columns, temperature)
        shares = jnp.exp((targets - towards["top"][..., None]) / temperature)
        kept = old["gap"] * jnp.exp((old["top"] - towards["top"]) / temperature)
        towards["gap"] = kept + jnp.sum(shares * (targets - logits), -1)
        return {"student": found, "teacher": towards}

    carry = jax.lax.fori_loop(0, num, add, carry)
    found = carry["student"]
    log_sum = found["top"] + jnp.log(found["sum"])
    soft_sums = {name: side["top"] / temperature + jnp.log(side["soft_sum"]) for name, side in carry.items()}
    soft_target = agrees = None
    if teacher is not None:
        towards = carry["teacher"]
        # sum_v p_T(v) (z_T(v) - z_S(v)) / T - log-sum-exp(z_T / T) + log-sum-exp(z_S / T)
        gap = towards["gap"] / towards["soft_sum"] / temperature
        soft_target = temperature**2 * (gap - soft_sums["teacher"] + soft_sums["student"])
        agrees = (found["first"] == towards["first"]).astype(jnp.float32)
    is_correct = (found["first"] == labels).astype(jnp.float32)
    terms = VocabularyTerms(log_sum - found["label"], is_correct, soft_target, agrees)
    return terms, (student, labels, teacher, log_sum, soft_sums)


def _backward(temperature, num, kept, cotangents):
    student, labels, teacher, log_sum, soft_sums = kept
    own, theirs = _chunks(student, num), _chunks(teacher, num)
    of_label, of_soft = cotangents.cross_entropy[..., None], cotangents.soft_target
    axes = tuple(range(labels.ndim))

    def add(index, carry):
        states, table, bias = carry
        logits = own.logits(index)
        is_label = _columns(own, index, num) == labels[..., None]
        gradient = of_label * (jnp.exp(logits - log_sum[..., None]) - is_label)
        if teacher is not None:
            student_shares = jnp.exp(logits / temperature - soft_sums["student"][..., None])
            teacher_shares = jnp.exp(theirs.logits(index) / temperature - soft_sums["teacher"][..., None])
            gradient += temperature * of_soft[..., None] * (student_shares - teacher_shares)
        # Rounded as the gradient of logits in the dtype of the computation would be, and that of the states is rounded
        # in the end: a product that gives their dtype takes half the time on a CPU. The table's is summed in float32.
        dtype = student.states.dtype
        rounded = gradient.astype(dtype)
        states += states_gradient(rounded, own.rows(index))
        table = _write(table, table_gradient(rounded, student.states), index)
        return states, table, _write(bias, jnp.sum(gradient, axes), index)

    start = (jnp.zeros(student.states.shape, jnp.float32), jnp.zeros_like(own.table), jnp.zeros_like(own.bias))
    states, table, bias = jax.lax.fori_loop(0, num, add, start)
    vocab_size = student.bias.shape[0]
    whole = Decoder(
        states.astype(student.states.dtype),
        table.reshape(-1, table.shape[-1])[:vocab_size],
        bias.reshape(-1)[:vocab_size],
    )
    return whole, None, None  # the labels are integers, the teacher a constant


_terms.defvjp(_forward, _backward)


class _Chunks(NamedTuple):
    """A decoder in parts: chunk c has the words c, c + num, c + 2 num, ...: whatever devices share the vocabulary, each
    has an equal part of every chunk without moving any.

    Attributes:
      states: float [..., H]. table: float32 [C, num, H]. bias: float32 [C, num].
    """

    states: jax.Array
    table: jax.Array
    bias: jax.Array

    def rows(self, index):
        """[C, H] of the table, in the dtype of the states."""
        return jax.lax.dynamic_index_in_dim(self.table, index, 1, keepdims=False).astype(self.states.dtype)

    def logits(self, index):
        """Float32 [..., C]."""
        return scores(self.states, self.rows(index)) + jax.lax.dynamic_index_in_dim(self.bias, index, 1, keepdims=False)


def _chunks(decoder, num):
    if decoder is None:
        return None
    states, table, bias = decoder
    missing = -bias.shape[0] % num
    if missing:  # words that no model would choose; finite, so that their differences are not NaN
        table = jnp.pad(table, ((0, missing), (0, 0)))
        bias = jnp.pad(bias, (0, missing), constant_values=-1e30)
    return _Chunks(states, table.reshape(-1, num, table.shape[-1]), bias.reshape(-1, num))


def _columns(chunks, index, num):
    """int32 [C]: ids of the words of a chunk."""
    return index + num * jnp.arange(chunks.bias.shape[0], dtype=jnp.int32)


def _advance(side, logits, columns, temperature):
    """Running maximum, first choice and sums of exponentials after one more chunk."""
    highest = logits.max(-1)
    first = jnp.min(jnp.where(logits == highest[..., None], columns, jnp.iinfo(jnp.int32).max), -1)
    is_ahead = (highest > side["top"]) | ((highest == side["top"]) & (first < side["first"]))
    top = jnp.maximum(highest, side["top"])
    above, fell = logits - top[..., None], side["top"] - top
    return {
        "top": top,
        "first": jnp.where(is_ahead, first, side["first"]),
        "sum": side["sum"] * jnp.exp(fell) + jnp.exp(above).sum(-1),
        "soft_sum": side["soft_sum"] * jnp.exp(fell / temperature) + jnp.exp(above / temperature).sum(-1),
    }


def _write(whole, part, index):
    return jax.lax.dynamic_update_index_in_dim(whole, part.astype(whole.dtype), index, 1)
