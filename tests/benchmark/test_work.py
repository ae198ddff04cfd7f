"""Counting of tokens and operations, against sums by hand."""

import dataclasses

import numpy as np
import pytest

from codir_jax.benchmark.work import Work, forward_flops, training_flops
from codir_jax.evaluation import cost
from codir_jax.models import sizes

MODEL = dataclasses.replace(sizes.named("tiny"), hidden_size=4, num_heads=2, intermediate_size=8, num_layers=3)


def _batch():
    mask = np.array([[1, 1, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0]])
    return {"attention_mask": mask, "example_mask": np.array([1.0, 1.0, 0.0]), "input_ids": np.zeros((3, 4), np.int32)}


def test_padding_rows_are_no_sentences_but_are_computed():
    work = Work()
    passed = list(work.counted([_batch(), _batch()]))
    assert len(passed) == 2
    assert (work.sentences, work.real_tokens, work.padded_tokens, work.shapes) == (4, 12, 24, {(3, 4)})


def test_operations_with_and_without_padding():
    work = Work()
    work.add(_batch())
    two, four = (cost.model_flops(MODEL, n, cost.Outputs(2)) for n in (2, 4))
    outputs = cost.Outputs(2)
    assert forward_flops(MODEL, outputs, work) == {
        "padded": pytest.approx(3 * four),
        "real": pytest.approx(two + four),
    }
    flops = training_flops(MODEL, None, outputs, work)
    assert flops["student"]["padded"] == pytest.approx(9 * four)
    assert flops["teacher"]["real"] == 0
