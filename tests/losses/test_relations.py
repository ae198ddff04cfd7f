"""MiniLMv2's relations by loops, and in limit cases."""

import jax
import numpy as np

from codir_jax.losses.relations import relation_distance

RNG = np.random.default_rng(0)
MASK = np.array([[1, 1, 1, 0], [1, 1, 1, 1], [0, 0, 0, 0]])


def _softmax(x):
    return np.exp(x - x.max()) / np.exp(x - x.max()).sum()


def test_relations_of_two_widths_by_loops_over_heads_and_tokens():
    student, teacher = RNG.normal(size=(3, 4, 6)), RNG.normal(size=(3, 4, 10))
    expected = []
    for text in range(2):
        tokens, total = np.flatnonzero(MASK[text]), 0.0
        for head in range(2):
            s, t = student[text, tokens, 3 * head : 3 * head + 3], teacher[text, tokens, 5 * head : 5 * head + 5]
            for i in range(len(tokens)):
                p, q = _softmax(t @ t[i] / np.sqrt(5)), _softmax(s @ s[i] / np.sqrt(3))
                total += np.sum(p * np.log(p / q))
        expected.append(total / (2 * len(tokens)))
    found = relation_distance(student, teacher, MASK, 2)
    np.testing.assert_allclose(found, [*expected, 0.0], rtol=1e-5, atol=1e-7)


def test_equal_relations_are_no_distance_though_the_vectors_are_turned():
    student = RNG.normal(size=(3, 4, 6)).astype(np.float32)
    turn = np.linalg.qr(RNG.normal(size=(6, 6)))[0].astype(np.float32)
    assert np.abs(relation_distance(student, student @ turn, MASK, 1)).max() < 1e-5
    gradients = jax.grad(lambda s, t: relation_distance(s, t, MASK, 2).sum(), argnums=(0, 1))(student, student + 1)
    assert np.isfinite(gradients[0]).all() and not np.any(gradients[1])
    assert not np.any(gradients[0][2]) and not np.any(gradients[0][0, 3])  # padding
