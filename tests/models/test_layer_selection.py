"""Which layers a student starts from and is matched with."""

import dataclasses

import jax
import numpy as np
import pytest

from codir_jax.models import bert
from codir_jax.models.heads import abstract_params, build_model
from codir_jax.models.layer_selection import init_from_teacher, match_layers, select_layers
from codir_jax.sharding.rules import unbox

TEACHER = dataclasses.replace(
    bert.BASE, vocab_size=20, hidden_size=8, num_layers=4, num_heads=2, intermediate_size=12, max_positions=8
)


def fresh(config, seed, num_labels=2, head="classification"):
    """Random weights by numpy: compiling an initialiser per configuration would take most of this file's time."""
    rng = np.random.default_rng(seed)
    shapes = unbox(abstract_params(build_model(config, head, num_labels)))
    return jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), shapes)


@pytest.mark.parametrize(
    ("rule", "teacher", "student", "layers"),
    [
        ("uniform", 12, 6, (2, 4, 6, 8, 10, 12)),
        ("uniform", 6, 3, (2, 4, 6)),
        ("uniform", 12, 5, (2, 4, 7, 9, 12)),
        ("uniform", 6, 6, (1, 2, 3, 4, 5, 6)),
        ("uniform", 12, 1, (12,)),
        ("first", 12, 3, (1, 2, 3)),
        ("last", 12, 3, (10, 11, 12)),
        ("1, 3,12", 12, 3, (1, 3, 12)),
        ("2,2,4,4", 4, 4, (2, 2, 4, 4)),
    ],
)
def test_rules_name_the_teacher_layers(rule, teacher, student, layers):
    assert select_layers(rule, teacher, student) == layers


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("middle", "unknown rule 'middle'.*uniform, first, last"),
        ("1,2", "names 2 teacher layers; the student has 3"),
        ("1,2,7", "teacher layer 7 .* layers 1 to 6"),
        ("0,2,4", "teacher layer 0 .* layers 1 to 6"),
    ],
)
def test_a_rule_that_cannot_be_is_refused(rule, message):
    with pytest.raises(ValueError, match=message):
        select_layers(rule, 6, 3)


def test_a_student_deeper_than_its_teacher_needs_a_list():
    with pytest.raises(ValueError, match="8 layers cannot start from a teacher of 6"):
        select_layers("uniform", 6, 8)


@pytest.mark.parametrize(
    ("spec", "teacher", "student", "pairs"),
    [
        ("uniform", 6, 3, ((1, 2), (2, 4), (3, 6))),
        # CoDIR's released code: student 1..6, teacher 1, 3, 5, 7, 9, 11.
        ("skip_last", 12, 6, ((1, 1), (2, 3), (3, 5), (4, 7), (5, 9), (6, 11))),
        ("last", 12, 6, ((6, 12),)),
        ("1:2, 3:6", 6, 3, ((1, 2), (3, 6))),
        ("0:0,3:6", 6, 3, ((0, 0), (3, 6))),
    ],
)
def test_matches_pair_student_with_teacher_layers(spec, teacher, student, pairs):
    assert match_layers(spec, teacher, student) == pairs


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("all", "cannot read 'all'.*uniform, skip_last, last"),
        ("1-2", "cannot read '1-2'"),
        ("4:6", "student layer 4 .* layers 0 to 3"),
        ("3:7", "teacher layer 7 .* layers 0 to 6"),
        ("1:2,1:2", "1:2 is twice"),
    ],
)
def test_matches_that_cannot_be_are_refused(spec, message):
    with pytest.raises(ValueError, match=message):
        match_layers(spec, 6, 3)


def test_the_student_starts_from_the_chosen_layers_embeddings_and_head():
    teacher = fresh(TEACHER, 0)
    student = init_from_teacher(teacher, fresh(dataclasses.replace(TEACHER, num_layers=2), 1), (2, 4))
    np.testing.assert_array_equal(
        student["encoder"]["layer_0"]["mlp_in"]["kernel"], teacher["encoder"]["layer_1"]["mlp_in"]["kernel"]
    )
    np.testing.assert_array_equal(
        student["encoder"]["layer_1"]["attention"]["query"]["kernel"],
        teacher["encoder"]["layer_3"]["attention"]["query"]["kernel"],
    )
    np.testing.assert_array_equal(
        student["encoder"]["embeddings"]["word"]["embedding"], teacher["encoder"]["embeddings"]["word"]["embedding"]
    )
    np.testing.assert_array_equal(student["classifier"]["kernel"], teacher["classifier"]["kernel"])
    assert set(student["encoder"]) == {"embeddings", "layer_0", "layer_1"}


def test_a_masked_lm_student_starts_from_the_embeddings_and_the_whole_head_too():
    teacher = fresh(TEACHER, 0, head="masked_lm")
    own = fresh(dataclasses.replace(TEACHER, num_layers=2), 1, head="masked_lm")
    student = init_from_teacher(teacher, own, (2, 4))
    for name, source in {"embeddings": "embeddings", "layer_0": "layer_1", "layer_1": "layer_3"}.items():
        jax.tree.map(np.testing.assert_array_equal, student["encoder"][name], teacher["encoder"][source])
    for name in ("transform", "transform_norm", "decoder_bias"):
        jax.tree.map(np.testing.assert_array_equal, student[name], teacher[name])
    assert jax.tree.structure(student) == jax.tree.structure(own)


def test_a_student_of_all_layers_computes_what_its_teacher_does():
    teacher = fresh(TEACHER, 0)
    student = init_from_teacher(teacher, fresh(TEACHER, 1), select_layers("uniform", 4, 4))
    ids = np.arange(6, dtype=np.int32)[None] + 3
    model = build_model(TEACHER, "classification", 2)
    forward = jax.jit(model.apply)
    a, b = (forward({"params": p}, ids, np.ones_like(ids), np.zeros_like(ids)) for p in (teacher, student))
    np.testing.assert_array_equal(a.logits, b.logits)


def test_a_head_for_other_labels_stays_the_students_own():
    own = fresh(dataclasses.replace(TEACHER, num_layers=2), 1, num_labels=5)
    student = init_from_teacher(fresh(TEACHER, 0), own, (1, 2))
    np.testing.assert_array_equal(student["classifier"]["kernel"], own["classifier"]["kernel"])


def test_a_narrower_student_cannot_inherit():
    narrow = dataclasses.replace(TEACHER, hidden_size=4, num_layers=2)
    with pytest.raises(ValueError, match=r"has shape .* starts from random weights"):
        init_from_teacher(fresh(TEACHER, 0), fresh(narrow, 1), (1, 2))
    with pytest.raises(ValueError, match=r"1 teacher layers \(1,\) for a student of 2"):
        init_from_teacher(fresh(TEACHER, 0), fresh(dataclasses.replace(TEACHER, num_layers=2), 1), (1,))
