"""Losses of a student against a teacher's outputs: soft targets, regression, hidden states, vectors.

Every function returns one value per example (or token) in float32, whatever the input dtype; the caller takes the
mask-weighted mean. Teacher values are targets: no gradient flows into them.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp


def soft_target_loss(student_logits: jax.Array, teacher_logits: jax.Array, temperature: float) -> jax.Array:
    """Divergence from the teacher's softened classes, T^2 KL(teacher || student).

        T^2 * sum_c p_T(c) (log p_T(c) - log p_S(c)),   p = softmax(z / T)

    T^2 keeps the gradient's size independent of T (Hinton et al., 2015, section 2).

    Args:
        student_logits: float [..., C].
        teacher_logits: float [..., C].
        temperature: T > 0.

    Returns:
        float32 [...], >= 0 up to rounding.

    Raises:
        ValueError: the two shapes differ.
    """
    _check_same_shape("student_logits", student_logits, "teacher_logits", teacher_logits, _CLASSES_HINT)
    student = jax.nn.log_softmax(_float32(student_logits) / temperature)
    teacher = jax.lax.stop_gradient(jax.nn.log_softmax(_float32(teacher_logits) / temperature))
    return jnp.square(temperature) * jnp.sum(jnp.exp(teacher) * (teacher - student), axis=-1)


def binary_soft_target_loss(student_logits: jax.Array, teacher_logits: jax.Array, temperature: float) -> jax.Array:
    """Divergence from the teacher's softened answer for each class by itself, mean over the classes, times T^2.

        T^2/C sum_c [p_T ln (p_T / p_S) + (1 - p_T) ln ((1 - p_T) / (1 - p_S))],   p = sigmoid(z_c / T)

    For texts with any number of classes; of one class it is `soft_target_loss` of the logits (z, 0).

    Args:
        student_logits: float [..., C].
        teacher_logits: float [..., C].
        temperature: T > 0.

    Returns:
        float32 [...], >= 0 up to rounding.

    Raises:
        ValueError: the two shapes differ.
    """
    _check_same_shape("student_logits", student_logits, "teacher_logits", teacher_logits, _CLASSES_HINT)
    student = _float32(student_logits) / temperature
    teacher = jax.lax.stop_gradient(_float32(teacher_logits) / temperature)

    def part(sign):
        ours, theirs = jax.nn.log_sigmoid(sign * student), jax.nn.log_sigmoid(sign * teacher)
        return jnp.exp(theirs) * (theirs - ours)

    return jnp.square(temperature) * jnp.mean(part(1.0) + part(-1.0), axis=-1)


def regression_loss(predictions: jax.Array, targets: jax.Array) -> jax.Array:
    """Squared error of squeezed predictions against labels or a teacher's predictions.

    The released code broadcast [B] against [B, 1] here and summed a [B, B] table; unequal shapes are refused.

    Args:
        predictions: float [B].
        targets: float [B].

    Returns:
        float32 [B].

    Raises:
        ValueError: the two shapes differ.
    """
    _check_same_shape("predictions", predictions, "targets", targets, "squeeze the class axis of size 1")
    return jnp.square(_float32(predictions) - jax.lax.stop_gradient(_float32(targets)))


def normalized_l2(student: jax.Array, teacher: jax.Array) -> jax.Array:
    """Squared distance between unit-length hidden states, mean over matched layers (PKD).

        1/M sum_m || s_m / ||s_m|| - t_m / ||t_m|| ||^2

    Reference: Sun et al., Patient Knowledge Distillation, 2019, equation 7 (there a sum over layers; the mean
    keeps the weight independent of how many layers are matched).

    Args:
        student: float [..., M, H], hidden states of the M matched layers, of texts or of tokens.
        teacher: float [..., M, H].

    Returns:
        float32 [...], in [0, 4]. A zero vector stays zero and gets no gradient.

    Raises:
        ValueError: the two shapes differ.
    """
    _check_same_shape("student", student, "teacher", teacher, _WIDTH_HINT)
    difference = _unit(_float32(student)) - jax.lax.stop_gradient(_unit(_float32(teacher)))
    return jnp.mean(jnp.sum(jnp.square(difference), axis=-1), axis=-1)


def cosine_distance(student: jax.Array, teacher: jax.Array) -> jax.Array:
    """1 - cosine of hidden states, mean over matched layers.

    Args:
        student: float [..., M, H], hidden states of the M matched layers, of texts or of tokens.
        teacher: float [..., M, H].

    Returns:
        float32 [...], in [0, 2]. A zero vector counts as orthogonal (1) and gets no gradient.

    Raises:
        ValueError: the two shapes differ.
    """
    _check_same_shape("student", student, "teacher", teacher, _WIDTH_HINT)
    cosine = jnp.sum(_unit(_float32(student)) * jax.lax.stop_gradient(_unit(_float32(teacher))), axis=-1)
    return jnp.mean(1.0 - cosine, axis=-1)


def relative_l2(student: jax.Array, teacher: jax.Array) -> jax.Array:
    """Squared distance of a text's vector from the teacher's, as a share of the teacher's squared norm.

        ||s - t||^2 / ||t||^2

    The mean squared error of sentence-transformers' distillation, in a unit that no encoder's scale changes.

    Args:
        student: float [..., H].
        teacher: float [..., H].

    Returns:
        float32 [...], >= 0; of a teacher's zero vector 0.

    Raises:
        ValueError: the two shapes differ.
    """
    _check_same_shape("student", student, "teacher", teacher, _WIDTH_HINT)
    teacher = jax.lax.stop_gradient(_float32(teacher))
    norm = jnp.sum(jnp.square(teacher), axis=-1)
    distance = jnp.sum(jnp.square(_float32(student) - teacher), axis=-1)
    return jnp.where(norm > 0, distance / jnp.where(norm > 0, norm, 1.0), 0.0)


def similarity_loss(
    sources: Sequence[tuple[jax.Array, jax.Array, jax.Array]], temperature: float, teacher_temperature: float = 0.0
) -> tuple[jax.Array, jax.Array]:
    """How far the student is from the teacher's view of which texts are near: KL(teacher || student) over keys.

        sum_k p_T(k) (log p_T(k) - log p_S(k)),   p(k) = softmax over all usable keys of cosine_k / tau

    Reference: SEED, Fang et al., ICLR 2021, equation 3; there one queue, here any number of sources of keys.

    Args:
        sources: (student's cosines float [..., K], teacher's float [..., K], usable bool [..., K]) of each.
        temperature: tau > 0 of the student. teacher_temperature: of the teacher; 0: the same.

    Returns:
        (float32 [...], 0 without a usable key; bool [...], whether the largest cosine is at one key for both).
    """
    temperatures = temperature, teacher_temperature or temperature
    student, teacher = ([_usable(pair[i], pair[2], temperatures[i]) for pair in sources] for i in (0, 1))
    teacher = jax.lax.stop_gradient(teacher)
    total_student, total_teacher = _log_total(student), _log_total(teacher)
    loss, agrees = 0.0, False
    (top_student, top_teacher) = (functools.reduce(jnp.maximum, map(_largest, side)) for side in (student, teacher))
    for ours, theirs, (_, _, usable) in zip(student, teacher, sources, strict=True):
        log_teacher = jnp.where(usable, theirs - total_teacher[..., None], 0.0)
        log_student = jnp.where(usable, ours - total_student[..., None], 0.0)
        loss += jnp.sum(jnp.where(usable, jnp.exp(log_teacher) * (log_teacher - log_student), 0.0), axis=-1)
        both = (ours == top_student[..., None]) & (theirs == top_teacher[..., None])
        agrees |= jnp.any(usable & both, axis=-1)
    return loss, agrees


def _usable(cosines: jax.Array, usable: jax.Array, temperature: float) -> jax.Array:
    return jnp.where(usable, _float32(cosines) / temperature, -jnp.inf)


def _largest(logits: jax.Array) -> jax.Array:
    return jnp.max(jax.lax.stop_gradient(logits), axis=-1, initial=-jnp.inf)


def _log_total(sources: Sequence[jax.Array]) -> jax.Array:
    """Log of the sum of exp over all sources, float32 [...]; 0 where there is nothing."""
    top = functools.reduce(jnp.maximum, map(_largest, sources))
    top = jnp.where(jnp.isfinite(top), top, 0.0)
    total = sum(jnp.sum(jnp.exp(logits - top[..., None]), axis=-1) for logits in sources)
    return top + jnp.log(jnp.where(total > 0, total, 1.0))


_CLASSES_HINT = "teacher and student must have the same classes"
_WIDTH_HINT = "a narrower student needs the projected features of the contrastive term instead"


def _float32(x: jax.Array) -> jax.Array:
    return jnp.asarray(x, jnp.float32)


def _unit(x: jax.Array) -> jax.Array:
    """Rows of unit length, float32 [..., H]; the inner `where` makes a zero row's gradient zero, not NaN."""
    square = jnp.sum(jnp.square(x), axis=-1, keepdims=True)
    is_zero = square == 0.0
    return jnp.where(is_zero, 0.0, x / jnp.sqrt(jnp.where(is_zero, 1.0, square)))


def _check_same_shape(name_a: str, a: jax.Array, name_b: str, b: jax.Array, hint: str) -> None:
    if jnp.shape(a) != jnp.shape(b):
        raise ValueError(f"{name_a} has shape {jnp.shape(a)} but {name_b} has shape {jnp.shape(b)}: {hint}")
